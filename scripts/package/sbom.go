package main

import (
	"encoding/json"
	"net/url"
	"path"
	"runtime/debug"
	"strings"
)

// component is one of a CycloneDX document.
type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version"`
	PURL       string     `json:"purl"`
	Properties []property `json:"properties,omitempty"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// billOfMaterials lists what is linked into a binary: the standard library and
// the modules of info in their order, which is that of their paths. The commit
// is among the properties of the main component, as the go command names it:
// vcs.revision. It is a CycloneDX 1.5 document (https://cyclonedx.org/docs/1.5/json/)
// with neither serial number nor time, which are optional and would differ from
// build to build.
func billOfMaterials(info *debug.BuildInfo) ([]byte, error) {
	main := newComponent("application", info.Main.Path, info.Main.Version)
	main.Name = path.Base(info.Path)
	main.PURL += "#" + strings.TrimPrefix(info.Path, info.Main.Path+"/")
	main.Ref = main.PURL
	for _, s := range info.Settings {
		main.Properties = append(main.Properties, property{s.Key, s.Value})
	}
	// Scanners know the standard library as the module stdlib, without the
	// experiments that a Go version may end in.
	release, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), "-")
	linked := []component{newComponent("library", "stdlib", "v"+release)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		linked = append(linked, newComponent("library", m.Path, m.Version))
	}
	return json.MarshalIndent(map[string]any{
		"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
		"metadata": map[string]component{"component": main}, "components": linked,
	}, "", "  ")
}

// newComponent names a module by its package URL: lower case, the version
// percent-encoded (purl specification, type golang).
func newComponent(kind, module, version string) component {
	purl := "pkg:golang/" + strings.ToLower(module) + "@" + url.QueryEscape(version)
	return component{Type: kind, Ref: purl, Name: module, Version: version, PURL: purl}
}
