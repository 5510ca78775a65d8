package main

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var tempDir string

func TestMain(m *testing.M) {
	var err error
	if tempDir, err = os.MkdirTemp("", "package-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(tempDir)
	os.Exit(status)
}

// need skips the test where a program is missing, or fails it in .ci/run.
func need(t *testing.T, program, from string) {
	t.Helper()
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	if os.Getenv("TEST_REQUIRE") == "all" {
		t.Fatalf("%s is missing: %s", program, from)
	}
	t.Skipf("%s is missing: %s", program, from)
}

func git(args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + tempDir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.org", "GIT_AUTHOR_DATE=2026-01-02T03:04:05Z",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.org", "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("git %v: %w: %s", args, err, out)
	}
	return strings.TrimSpace(string(out)), err
}

const tag = "v1.2.3"

// packages are those of both functions.
var packages = []string{".build/plan-linux-amd64.zip", ".build/plan-linux-arm64.zip", ".build/repush-linux-amd64.zip", ".build/repush-linux-arm64.zip"}

// clone is a committed, tagged copy of what the functions are made of, packaged
// for every target.
type clone struct{ dir, commit, printed string }

var packaged = sync.OnceValues(func() (clone, error) {
	c := clone{dir: filepath.Join(tempDir, "first")}
	for _, folder := range []string{"events", "functions"} {
		if err := os.CopyFS(filepath.Join(c.dir, folder), os.DirFS("../../"+folder)); err != nil {
			return c, err
		}
	}
	for _, name := range []string{"go.mod", "go.sum", ".gitignore"} {
		content, err := os.ReadFile("../../" + name)
		if err == nil {
			err = os.WriteFile(filepath.Join(c.dir, name), content, 0o600)
		}
		if err != nil {
			return c, err
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."}, {"commit", "-qm", "a test"}, {"tag", tag}, {"rev-parse", "HEAD"}} {
		var err error
		if c.commit, err = git(append([]string{"-C", c.dir}, args...)...); err != nil {
			return c, err
		}
	}
	var stdout, stderr bytes.Buffer
	if status := run(context.Background(), c.dir, nil, os.Environ(), &stdout, &stderr); status != exitDone {
		return c, fmt.Errorf("run = %d: %s", status, stderr.String())
	}
	c.printed = stdout.String()
	return c, nil
})

func theClone(t *testing.T) clone {
	t.Helper()
	need(t, "git", "apt-get install git")
	c, err := packaged()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func read(t *testing.T, elem ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// unpack writes the zip's files, with their modes, and returns the folder.
func unpack(t *testing.T, zipped []byte) string {
	t.Helper()
	dir := t.TempDir()
	r, err := zip.NewReader(bytes.NewReader(zipped), int64(len(zipped)))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name), content, f.Mode()); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// module writes a module with the given functions, in no repository.
func module(t *testing.T, functions ...string) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"go.mod": "module example.org/m\n\ngo 1.26\n", "functions/internal/doc.go": "package internal\n"}
	for _, name := range functions {
		files["functions/"+name+"/main.go"] = "package main\n\nfunc main() { println(" + fmt.Sprintf("%q", name) + ") }\n"
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
