package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestContents: what is in a zip, executable or not, at what time.
func TestContents(t *testing.T) {
	t.Parallel()
	c := theClone(t)
	for _, name := range packages {
		zipped := read(t, c.dir, name)
		r, err := zip.NewReader(bytes.NewReader(zipped), int64(len(zipped)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range r.File {
			got = append(got, fmt.Sprint(f.Name, " ", f.Mode(), " ", f.Modified.UTC().Format("2006-01-02T15:04:05")))
		}
		const at = "1980-01-01T00:00:00"
		want := []string{"VERSION -rw-r--r-- " + at, "bootstrap -rwxr-xr-x " + at, "sbom.cdx.json -rw-r--r-- " + at}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		version := string(read(t, unpack(t, zipped), "VERSION"))
		if !strings.HasPrefix(version, "version "+tag+"\ncommit "+c.commit+"\ngo go1.") {
			t.Errorf("%s: VERSION = %q", name, version)
		}
		line := fmt.Sprintf("%s  %s  %d bytes  sha256 %x\n", name, tag, len(zipped), sha256.Sum256(zipped))
		if !strings.Contains(c.printed, line) {
			t.Errorf("printed %q, want %q", c.printed, line)
		}
	}
}

// TestSameBytes: a second clone elsewhere, under an environment that says
// otherwise in every respect, gives the same zip.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	c := theClone(t)
	second := filepath.Join(t.TempDir(), "a longer way", "second")
	if _, err := git("clone", "-q", c.dir, second); err != nil {
		t.Fatal(err)
	}
	environ := append(os.Environ(), "GOFLAGS=-buildvcs=false -gcflags=-l", "GOAMD64=v3", "GOOS=windows", "GOARCH=arm64", "CGO_ENABLED=1",
		"GOWORK=/nowhere/go.work", "GOEXPERIMENT=nogreenteagc", "GOFIPS140=latest")
	var stderr bytes.Buffer
	if status := run(t.Context(), second, []string{"linux/amd64"}, environ, io.Discard, &stderr); status != exitDone {
		t.Fatalf("run = %d: %s", status, &stderr)
	}
	for _, name := range packages {
		if strings.HasSuffix(name, "-arm64.zip") {
			if _, err := os.Stat(filepath.Join(second, name)); err == nil {
				t.Errorf("%s was not asked for", name)
			}
		} else if !bytes.Equal(read(t, c.dir, name), read(t, second, name)) {
			t.Errorf("the two %s differ", name)
		}
	}
}

func zips(t *testing.T, root string) []string {
	t.Helper()
	names, err := fs.Glob(os.DirFS(root), ".build/*")
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestEveryFunction: each folder with a main.go is packaged, zips of earlier
// builds go, and an empty build cache changes nothing.
func TestEveryFunction(t *testing.T) {
	t.Parallel()
	dir := module(t, "one", "two")
	if err := os.MkdirAll(filepath.Join(dir, ".build"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{"gone-linux-amd64.zip", "notes"} {
		if err := os.WriteFile(filepath.Join(dir, ".build", old), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{".build/notes", ".build/one-linux-amd64.zip", ".build/two-linux-amd64.zip"}
	var before []byte
	for _, environ := range [][]string{os.Environ(), append(os.Environ(), "GOCACHE="+t.TempDir())} {
		var stderr bytes.Buffer
		if status := run(t.Context(), dir, []string{"linux/amd64"}, environ, io.Discard, &stderr); status != exitDone {
			t.Fatalf("run = %d: %s", status, &stderr)
		}
		if diff := cmp.Diff(want, zips(t, dir)); diff != "" {
			t.Fatal(diff)
		}
		one := read(t, dir, want[1])
		if before != nil && !bytes.Equal(before, one) {
			t.Error("an empty build cache gives another zip")
		}
		before = one
	}
	if v := string(read(t, unpack(t, before), "VERSION")); !strings.HasPrefix(v, "version (devel)\ncommit unknown\n") {
		t.Errorf("VERSION without a repository = %q", v)
	}
}

// TestLimit: a zip of the limit passes, one byte more fails and leaves none.
func TestLimit(t *testing.T) {
	t.Parallel()
	dir := module(t, "one")
	var stdout bytes.Buffer
	if status := run(t.Context(), dir, []string{"linux/amd64"}, os.Environ(), &stdout, &stdout); status != exitDone {
		t.Fatalf("run = %d: %s", status, &stdout)
	}
	size := len(read(t, dir, ".build/one-linux-amd64.zip"))
	for limit, want := range map[int]int{size: 1, size - 1: 0} {
		b := builder{root: dir, environ: os.Environ(), limit: limit, out: io.Discard}
		err := b.packageAll(t.Context(), []target{{"linux", "amd64"}})
		if len(zips(t, dir)) != want || (err == nil) != (want == 1) {
			t.Errorf("limit %d of %d bytes: %v, %v", limit, size, zips(t, dir), err)
		}
		if text := fmt.Sprintf("one for linux/amd64: the zip has %d bytes, %d are allowed", size, limit); err != nil && !strings.Contains(err.Error(), text) {
			t.Errorf("error %q, want %q", err, text)
		}
	}
}

func TestWhatCannotBeDone(t *testing.T) {
	t.Parallel()
	broken := module(t, "one")
	if err := os.WriteFile(filepath.Join(broken, "functions/one/main.go"), []byte("package main\n\nfunc main() { sesame() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		dir    string
		args   []string
		status int
		want   string
	}{
		"unknown target":   {broken, []string{"windows/amd64"}, exitUsage, `target "windows/amd64": the platforms run linux/amd64 and linux/arm64`},
		"half a target":    {broken, []string{"amd64"}, exitUsage, "usage: scripts/build.sh"},
		"unknown flag":     {broken, []string{"-sesame"}, exitUsage, "usage: scripts/build.sh"},
		"no function":      {module(t), nil, exitFailed, "no functions/*/main.go"},
		"no folder":        {filepath.Join(broken, "none"), nil, exitFailed, "no functions/*/main.go"},
		"does not compile": {broken, []string{"linux/amd64"}, exitFailed, "undefined: sesame"},
		"no build folder":  {notAFolder(t), []string{"linux/amd64"}, exitFailed, ".build"},
	} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), test.dir, test.args, os.Environ(), &stdout, &stderr)
		if status != test.status || !strings.Contains(stderr.String(), test.want) || stdout.Len() > 0 {
			t.Errorf("%s: run = %d, %q, want %d, %q", name, status, &stderr, test.status, test.want)
		}
	}
}

// notAFolder is a module where .build is a file.
func notAFolder(t *testing.T) string {
	t.Helper()
	dir := module(t, "one")
	if err := os.WriteFile(filepath.Join(dir, ".build"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestScript: the script finds the module from anywhere, under any GOOS.
func TestScript(t *testing.T) {
	t.Parallel()
	script, err := filepath.Abs("../build.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(script, "windows/amd64") // builds nothing, removes nothing
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=arm64")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the platforms run linux/amd64 and linux/arm64") {
		t.Errorf("build.sh = %v, %s", err, out)
	}
	if lines := bytes.Count(read(t, script), []byte("\n")); lines > 30 {
		t.Errorf("build.sh has %d lines, a script has at most 30", lines)
	}
}
