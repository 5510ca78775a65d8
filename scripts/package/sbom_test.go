package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bill is the document as its readers see it.
type bill struct {
	Format      string `json:"bomFormat"`
	SpecVersion string `json:"specVersion"`
	Version     int    `json:"version"`
	Metadata    struct {
		Component component `json:"component"`
	} `json:"metadata"`
	Components []component `json:"components"`
}

// TestBillOfABinary: the bill lists what "go version -m" lists, and the
// standard library.
func TestBillOfABinary(t *testing.T) {
	t.Parallel()
	c := theClone(t)
	for _, name := range packages {
		function, platform, _ := strings.Cut(strings.TrimSuffix(filepath.Base(name), ".zip"), "-")
		dir := unpack(t, read(t, c.dir, name))
		out, err := exec.Command("go", "version", "-m", filepath.Join(dir, "bootstrap")).Output()
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		settings := map[string]string{}
		for line := range strings.Lines(string(out)) {
			fields := strings.Fields(line)
			switch fields[0] {
			case "dep":
				want = append(want, fields[1]+" "+fields[2])
			case "build":
				name, value, _ := strings.Cut(fields[1], "=")
				settings[name] = value
			case "=>":
				t.Fatal("this test does not know replaced modules")
			}
		}
		if len(want) < 5 {
			t.Fatalf("go version -m lists %d modules: %s", len(want), out)
		}
		var doc bill
		if err := json.Unmarshal(read(t, dir, "sbom.cdx.json"), &doc); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range doc.Components {
			got = append(got, c.Name+" "+c.Version)
		}
		if !strings.HasPrefix(got[0], "stdlib v1.") {
			t.Errorf("%s: the first component is %s, want the standard library", name, got[0])
		}
		if diff := cmp.Diff(want, got[1:]); diff != "" {
			t.Errorf("%s (-go version -m +sbom):\n%s", name, diff)
		}
		main, properties := doc.Metadata.Component, map[string]string{}
		for _, p := range main.Properties {
			properties[p.Name] = p.Value
		}
		purl := "pkg:golang/github.com/ons-repush/ons-repush@" + tag + "#functions/" + function
		if main.Name != function || main.Version != tag || main.PURL != purl || properties["vcs.revision"] != c.commit || "linux-"+properties["GOARCH"] != platform {
			t.Errorf("%s: the main component is %+v", name, main)
		}
		if diff := cmp.Diff(settings, properties); diff != "" {
			t.Errorf("%s (-go version -m +sbom):\n%s", name, diff)
		}
	}
}

// TestBill: what a binary of ours does not have today.
func TestBill(t *testing.T) {
	t.Parallel()
	raw, err := billOfMaterials(&debug.BuildInfo{
		GoVersion: "go1.26.8-X:nodwarf5", Path: "example.org/m/functions/one", Main: debug.Module{Path: "example.org/m", Version: "(devel)"},
		Deps: []*debug.Module{
			{Path: "github.com/BurntSushi/toml", Version: "v2.0.0+incompatible"},
			{Path: "example.org/a", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/b", Version: "v1.0.1"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var doc bill
	if err := json.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	got := []string{doc.Format, doc.SpecVersion, strconv.Itoa(doc.Version)}
	for _, c := range slices.Concat([]component{doc.Metadata.Component}, doc.Components) {
		got = append(got, strings.Join([]string{c.Type, c.Name, c.Version, c.PURL}, " "))
		if c.Ref != c.PURL {
			t.Errorf("bom-ref = %s of %s", c.Ref, c.PURL)
		}
	}
	want := []string{
		"CycloneDX", "1.5", "1",
		"application one (devel) pkg:golang/example.org/m@%28devel%29#functions/one",
		"library stdlib v1.26.8 pkg:golang/stdlib@v1.26.8",
		"library github.com/BurntSushi/toml v2.0.0+incompatible pkg:golang/github.com/burntsushi/toml@v2.0.0%2Bincompatible",
		"library example.org/b v1.0.1 pkg:golang/example.org/b@v1.0.1",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
