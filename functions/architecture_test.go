// Package functions_test holds the rules of the house: which package may know
// which, and that settings, infrastructure and README tell the same story.
package functions_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/config"
)

const module = "github.com/ons-repush/ons-repush/"

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

// list runs go list over patterns, relative to the module.
func list(t *testing.T, patterns ...string) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-deps", "-json=ImportPath,Standard,Imports,Deps"}, patterns...)...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := make(map[string]listed)
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p listed
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
	return packages
}

// TestImports holds the arrows of the design: main → adapters → domain →
// events, the domain free of anything but the standard library, and adapters
// that do not know one another.
func TestImports(t *testing.T) {
	t.Parallel()
	own := func(names ...string) []string {
		for i, n := range names {
			names[i] = module + n
		}
		return names
	}
	const internal, command = "functions/internal/", "scripts/repush/internal/"
	domain := own("events", internal+"pushing", internal+"planning")
	for name, rule := range map[string]struct {
		ours []string
		// foreign lists the prefixes of other people's modules that may be
		// linked in; nil means none.
		foreign []string
	}{
		"events":             {},
		"events/sink":        {ours: own("events")},
		internal + "pushing": {ours: own("events")},
		// Its messages are those that pushing pushes: errors, pacing, history.
		internal + "planning": {ours: own("events", internal+"pushing")},
		internal + "config":   {ours: domain},
		internal + "ledger":   {ours: domain, foreign: []string{"go.etcd.io/bbolt"}},
		internal + "quota":    {ours: domain},
		internal + "trigger":  {ours: domain},
		internal + "redis":    {ours: domain, foreign: []string{"github.com/redis/go-redis/v9", "github.com/cespare/xxhash/v2", "go.uber.org/atomic", "github.com/dgryski/go-rendezvous", "github.com/klauspost/cpuid"}},
		internal + "ons":      {ours: domain, foreign: []string{"github.com/aliyun/alibaba-cloud-sdk-go", "github.com/json-iterator/", "github.com/modern-go/", "github.com/jmespath/", "github.com/opentracing/", "gopkg.in/ini.v1"}},
		internal + "serve":    {ours: own("events"), foreign: []string{"github.com/aliyun/fc-runtime-go-sdk", "github.com/aws/aws-lambda-go"}},
		command + "batch":     {ours: own("events")},
		command + "run":       {ours: own("events")},
		command + "report":    {ours: own("events")},
		command + "progress":  {ours: own("events"), foreign: []string{"golang.org/x/term"}},
		"infra/local/onsd":    {foreign: []string{"go.yaml.in/yaml/v3"}},
		"infra/local/fcd":     {},
	} {
		packages := list(t, "./"+name)
		root, ok := packages[module+name]
		if !ok || len(packages) < 2 {
			t.Errorf("%s: go list found nothing", name)
			continue
		}
		for _, dep := range root.Deps {
			switch {
			case packages[dep].Standard || slices.Contains(rule.ours, dep):
			case strings.HasPrefix(dep, "vendor/"), strings.HasPrefix(dep, "golang.org/x/") && rule.foreign != nil:
			case slices.ContainsFunc(rule.foreign, func(f string) bool { return strings.HasPrefix(dep, f) }):
			default:
				t.Errorf("%s must not depend on %s", name, dep)
			}
		}
	}
}

// TestFunctionsLinkNoStandIn keeps what only the command line or tests need out
// of the deployed binaries.
func TestFunctionsLinkNoStandIn(t *testing.T) {
	t.Parallel()
	for _, function := range []string{"./functions/repush", "./functions/plan"} {
		linksNoStandIn(t, function)
	}
}

func linksNoStandIn(t *testing.T, function string) {
	t.Helper()
	packages := list(t, function)
	if len(packages) < 100 {
		t.Fatalf("go list found %d packages", len(packages))
	}
	for _, banned := range []string{module + "infra", module + "scripts", "testing", "github.com/spf13/", "go.yaml.in/", "github.com/cloudevents/", "github.com/google/go-cmp", "github.com/santhosh-tekuri/", "pgregory.net/"} {
		for path := range packages {
			if path == banned || strings.HasPrefix(path, strings.TrimSuffix(banned, "/")+"/") {
				t.Errorf("%s links %s", function, path)
			}
		}
	}
}

// TestTopLevel: the four folders, three files, and dot-files.
func TestTopLevel(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir("..")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	want := []string{"README.md", "events", "functions", "go.mod", "go.sum", "infra", "scripts"}
	if !slices.Equal(names, want) {
		t.Errorf("top level = %v, want %v", names, want)
	}
}

// TestReadmeSettings: the README's table is the table of settings.
func TestReadmeSettings(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	table := "| name | default | unit | meaning |\n|---|---|---|---|\n"
	for _, s := range config.Settings() {
		value := "*(unset)*"
		switch {
		case s.Required && s.Only != "":
			value = "*(" + s.Only + " only, required)*"
		case s.Required:
			value = "*(required)*"
		case s.Default != "":
			value = "`" + s.Default + "`"
		}
		table += "| `" + s.Name + "` | " + value + " | " + s.Unit + " | " + s.Doc + " |\n"
	}
	if !strings.Contains(string(readme), table) {
		t.Errorf("README.md must contain this table:\n%s", table)
	}
}

// TestSize holds the size budget of the design: lines of Go that are no tests.
// What is over the budget is named with its size, which may only shrink.
func TestSize(t *testing.T) {
	t.Parallel()
	over := map[string]int{"events": 2133, "functions": 12249, "scripts": 9286}
	for folder, budget := range map[string]int{"events": 1500, "functions": 6500, "scripts": 2500, "infra": 2800} {
		limit := max(budget, over[folder])
		lines := 0
		err := filepath.WalkDir("../"+folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			isTest := strings.HasSuffix(path, "_test.go") || strings.Contains(path, "testdata") || strings.HasSuffix(filepath.Dir(path), "test")
			if d.IsDir() || !strings.HasSuffix(path, ".go") || isTest {
				return nil
			}
			source, err := os.ReadFile(path)
			lines += strings.Count(string(source), "\n")
			return err
		})
		if err != nil || lines == 0 || lines > limit {
			t.Errorf("%s: %d lines, budget %d (%v)", folder, lines, limit, err)
		}
		t.Logf("%s: %d of %d lines", folder, lines, budget)
	}
}
