// Command package builds what is deployed: for every folder under functions
// with a main.go and every target a zip, .build/<function>-<os>-<arch>.zip, of
//
//	bootstrap      the binary, executable
//	sbom.cdx.json  the modules linked in, as a CycloneDX 1.5 bill of materials
//	VERSION        version, commit and Go release
//
// Function Compute's custom runtimes start /code/bootstrap (FC "Custom runtime:
// Principles", Apr 2026), AWS Lambda's provided.al2023 requires the name (AWS
// "Deploy Go Lambda functions with .zip file archives"), and under FC's go1 the
// handler names the file: bootstrap.
//
// The same commit and tags built by the same Go release give the same bytes,
// whatever the folder, the caches and the environment. The go command itself
// stamps version and commit into the binary, where the function, "go version
// -m" and vulnerability scanners find them; without a git repository both are
// unknown, and changes that are not committed end the version in "+dirty".
package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Exit statuses.
const (
	exitDone   = 0
	exitFailed = 1 // something could not be built, or is too large
	exitUsage  = 2 // the command line is wrong
)

// defaultLimit is the budget of a zip, 10 MB (design, section 9).
const defaultLimit = 10_000_000

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, ".", os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run executes one command line in the module at root and returns its exit
// status.
func run(ctx context.Context, root string, args, environ []string, stdout, stderr io.Writer) int {
	targets, err := parseTargets(args)
	if err != nil {
		fmt.Fprintf(stderr, "package: %v\nusage: scripts/build.sh [linux/amd64] [linux/arm64]\n", err)
		return exitUsage
	}
	b := builder{root: root, environ: environ, limit: defaultLimit, out: stdout}
	if err := b.packageAll(ctx, targets); err != nil {
		fmt.Fprintf(stderr, "package: %v\n", err)
		return exitFailed
	}
	return exitDone
}

// target is a platform that functions run on.
type target struct{ os, arch string }

// parseTargets reads "os/arch" arguments; none means every target.
func parseTargets(args []string) ([]target, error) {
	all := []target{{"linux", "amd64"}, {"linux", "arm64"}}
	if len(args) == 0 {
		return all, nil
	}
	var chosen []target
	for _, arg := range args {
		system, arch, _ := strings.Cut(arg, "/")
		t := target{system, arch}
		if !slices.Contains(all, t) {
			return nil, fmt.Errorf("target %q: the platforms run linux/amd64 and linux/arm64", arg)
		}
		chosen = append(chosen, t)
	}
	return chosen, nil
}

// builder packages the functions of the module at root.
type builder struct {
	root    string
	environ []string  // of the go command; what changes a build is overridden
	limit   int       // bytes of a zip
	out     io.Writer // one line for each zip
}

// packageAll replaces the zips in .build.
func (b builder) packageAll(ctx context.Context, targets []target) error {
	mains, err := fs.Glob(os.DirFS(b.root), "functions/*/main.go")
	if err != nil {
		return err
	}
	if len(mains) == 0 {
		return errors.New("there is no functions/*/main.go: run scripts/build.sh of a clone")
	}
	if err := b.clean(); err != nil {
		return err
	}
	for _, main := range mains {
		for _, t := range targets {
			function := filepath.Base(filepath.Dir(main))
			if err := b.packageOne(ctx, function, t); err != nil {
				return fmt.Errorf("%s for %s/%s: %w", function, t.os, t.arch, err)
			}
		}
	}
	return nil
}

// clean removes the zips in .build: what lies there afterwards is of this build.
func (b builder) clean() error {
	dir := filepath.Join(b.root, ".build")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, err := fs.Glob(os.DirFS(dir), "*.zip")
	for _, name := range old {
		err = errors.Join(err, os.Remove(filepath.Join(dir, name)))
	}
	return err
}

// packageOne writes the zip of a function, unless it is too large.
func (b builder) packageOne(ctx context.Context, function string, t target) error {
	binary, err := b.compile(ctx, function, t)
	if err != nil {
		return err
	}
	info, err := buildinfo.Read(bytes.NewReader(binary))
	if err != nil {
		return err
	}
	bill, err := billOfMaterials(info)
	if err != nil {
		return err
	}
	zipped, err := archive([]file{
		{"VERSION", 0o644, versionFile(info)},
		{"bootstrap", 0o755, binary},
		{"sbom.cdx.json", 0o644, bill},
	})
	if err != nil {
		return err
	}
	if len(zipped) > b.limit {
		return fmt.Errorf("the zip has %d bytes, %d are allowed: see with 'go list -deps ./functions/%s' what came in, or raise the limit", len(zipped), b.limit, function)
	}
	name := fmt.Sprintf(".build/%s-%s-%s.zip", function, t.os, t.arch)
	if err := os.WriteFile(filepath.Join(b.root, name), zipped, 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(b.out, "%s  %s  %d bytes  sha256 %x\n", name, info.Main.Version, len(zipped), sha256.Sum256(zipped))
	return err
}

// compile returns the binary of a function.
func (b builder) compile(ctx context.Context, function string, t target) ([]byte, error) {
	dir, err := os.MkdirTemp("", "ons-repush-package-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "bootstrap")
	// lambda.norpc leaves out net/rpc, a third of the binary.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=true", "-tags", "lambda.norpc", "-ldflags", "-s -w",
		"-o", binary, "./functions/"+function)
	cmd.Dir = b.root
	// What the environment or "go env -w" says must not change the bytes. An
	// empty value does not win over "go env -w", but no value of GOEXPERIMENT
	// means the default.
	cmd.Env = append(slices.Clone(b.environ), "GOOS="+t.os, "GOARCH="+t.arch, "CGO_ENABLED=0",
		"GOFLAGS=-mod=readonly", "GOWORK=off", "GOAMD64=v1", "GOARM64=v8.0", "GOFIPS140=off", "GOEXPERIMENT=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.ReadFile(binary)
}

// versionFile is VERSION: "version", "commit" and "go", each with its value.
func versionFile(info *debug.BuildInfo) []byte {
	commit := "unknown"
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			commit = s.Value
		}
	}
	return fmt.Appendf(nil, "version %s\ncommit %s\ngo %s\n", info.Main.Version, commit, info.GoVersion)
}

// file is one entry of a zip.
type file struct {
	name    string
	mode    fs.FileMode
	content []byte
}

// archive returns a zip of the files, in their order. The bytes depend on
// nothing else: every time is 1980-01-01, the first that a zip can tell.
func archive(files []file) ([]byte, error) {
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(out, flate.BestCompression)
	})
	for _, f := range files {
		header := &zip.FileHeader{Name: f.name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
		header.SetMode(f.mode)
		entry, err := w.CreateHeader(header)
		if err != nil {
			return nil, err
		}
		if _, err := entry.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}
