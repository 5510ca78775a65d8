package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events/sink"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
)

// Functions, by the folder of their source.
const (
	repushFunction = "repush"
	planFunction   = "plan"
)

// buildFunction compiles functions/name into dir and returns the path of the
// binary. It needs the source: the folder of the module or one below it.
func buildFunction(ctx context.Context, dir, name string) (string, error) {
	binary := filepath.Join(dir, name)
	// lambda.norpc leaves out net/rpc, a third of the binary.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "lambda.norpc", "-o", binary, "github.com/ons-repush/ons-repush/functions/"+name)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build functions/%s (run this inside a clone of ons-repush, or name a built one with --bin; to demo that of plan with --plan-bin): %w\n%s", name, err, out)
	}
	return binary, nil
}

// functionFlags are those of a command that runs the function and ends.
type functionFlags struct {
	bin        string
	json, logs bool
}

func (o *functionFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.bin, "bin", "", "a built function instead of the source")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	f.BoolVar(&o.logs, "logs", false, "show the function's log")
}

func (o functionFlags) log(shown io.Writer) io.Writer {
	if o.logs {
		return shown
	}
	return io.Discard
}

// settingsProblem finds one in a log that fcd quotes.
var settingsProblem = regexp.MustCompile(`REPUSH_\w+: (?:[^\\]|\\\\\\")*`)

// startError leaves of the log what is wrong with the settings.
func startError(err error) error {
	if problems := settingsProblem.FindAllString(err.Error(), -1); problems != nil {
		return errors.New("the function did not start: " + strings.Join(problems, "; "))
	}
	return err
}

// notes writes lines for people.
func notes(to io.Writer) func(format string, args ...any) {
	return func(format string, args ...any) { fmt.Fprintf(to, format+"\n", args...) }
}

// prepared is a function to run, and a folder of this run alone.
type prepared struct{ binary, dir string }

// prepare takes bin, or builds functions/name.
func prepare(ctx context.Context, name, bin string, say func(format string, args ...any)) (p prepared, err error) {
	if p.dir, err = os.MkdirTemp("", "repush-"); err != nil || bin != "" {
		p.binary = bin
		return p, err
	}
	say("building functions/%s (the first time takes a minute) …", name)
	defer time.AfterFunc(10*time.Second, func() { say("still building …") }).Stop()
	if p.binary, err = buildFunction(ctx, p.dir, name); err != nil {
		p.remove()
	}
	return p, err
}

func (p prepared) remove() { _ = os.RemoveAll(p.dir) }

// state is the setting for a ledger that lasts as long as the run.
func (p prepared) state() string { return "REPUSH_STATE=file:" + filepath.Join(p.dir, "ledger") }

// pause reports whether d has passed before ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// httpFunction is the function binary as a plain HTTP server on loopback. stop
// ends it: first politely, so that pushes in flight are recorded.
type httpFunction struct {
	URL  string
	stop func()
	done chan error
}

// startHTTP starts the binary and waits until it answers.
func startHTTP(ctx context.Context, binary string, env []string, stdout, stderr io.Writer) (*httpFunction, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	_ = l.Close() // the function takes the port over
	lifetime, end := context.WithCancel(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(lifetime, binary)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = append(env, "PORT="+address), stdout, stderr, 25*time.Second
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		end()
		return nil, fmt.Errorf("start the function: %w", err)
	}
	f := &httpFunction{URL: "http://" + address, done: make(chan error, 1)}
	f.stop = func() { end(); f.done <- <-f.done }
	go func() { f.done <- cmd.Wait() }()
	for pause(ctx, 20*time.Millisecond) {
		if len(f.done) > 0 {
			end()
			return nil, fmt.Errorf("the function ended at its start (--logs shows why): %v", <-f.done)
		}
		if resp, err := http.Get(f.URL + "/healthz"); err == nil {
			_ = resp.Body.Close()
			return f, nil
		}
	}
	f.stop()
	return nil, ctx.Err()
}

func (f *httpFunction) post(ctx context.Context, payload []byte) (fcd.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.URL+"/", bytes.NewReader(payload))
	if err != nil {
		return fcd.Response{}, err
	}
	req.Header.Set("Content-Type", "application/json") // the function looks at the bytes
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fcd.Response{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	r := fcd.Response{Payload: body, Status: resp.StatusCode}
	if resp.StatusCode != http.StatusOK {
		r.FunctionError = resp.Status
	}
	return r, err
}

// operatorEnv is what a function on this machine inherits: settings,
// credentials, proxies and certificates, nothing else.
func operatorEnv(environ []string) []string {
	var env []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case strings.HasPrefix(name, "REPUSH_"), strings.HasPrefix(name, "ALIBABA_CLOUD_"),
			strings.EqualFold(name, "HTTPS_PROXY"), strings.EqualFold(name, "NO_PROXY"),
			name == "SSL_CERT_FILE", name == "SSL_CERT_DIR", name == "PATH", name == "HOME", name == "TMPDIR":
			env = append(env, entry)
		}
	}
	return env
}

// stateSetting is REPUSH_STATE by the flag --state, the environment or default; a
// path absolute, for the function runs elsewhere. Only the default's folder is
// made: where another is missing, so is a ledger that should be there.
func stateSetting(flag, byDefault string) (string, error) {
	named := cmp.Or(flag, os.Getenv("REPUSH_STATE"))
	path := strings.TrimPrefix(cmp.Or(named, byDefault), "file:")
	isURL := strings.Contains(path, "://")
	switch {
	case path == "memory", isURL && flag == "":
		return path, nil
	case named == "":
		_, err := stateFolder("")
		return "file:" + path, err
	case path == "", isURL:
		return "", usage(errors.New("--state: must be a file, or memory; Redis is for REPUSH_STATE alone"))
	}
	path, err := filepath.Abs(path)
	return "file:" + path, err
}

// stateFolder is the operator's own of this name, which it makes where it is missing.
func stateFolder(name string) (dir string, err error) {
	if dir = defaultLedger(name); dir == "" {
		return "", usage(errors.New("HOME: is not set, and what is kept of runs and ledgers is below it, or below XDG_STATE_HOME"))
	}
	if err = os.MkdirAll(dir, 0o700); err != nil {
		err = fmt.Errorf("nothing was sent: %w; XDG_STATE_HOME names another folder for what is kept", err)
	}
	return dir, err
}

// defaultLedger is the operator's own of this name (source: XDG Base Directory
// Specification); empty without a home folder.
func defaultLedger(name string) string {
	for _, dir := range []string{os.Getenv("XDG_STATE_HOME"), filepath.Join(os.Getenv("HOME"), ".local", "state")} {
		if filepath.IsAbs(dir) {
			return filepath.Join(dir, "ons-repush", name)
		}
	}
	return ""
}

// localFlags are those of a command that runs a function on this machine against
// the real API.
type localFlags struct {
	functionFlags
	region, ons, state string
	timeout            time.Duration
	dry                bool // nothing will be started: no credentials are looked for
}

// Files of ledgers. A file serves one process at a time, so each command has its
// own.
const (
	pushLedger = "ledger"
	planLedger = "plan-ledger"
)

func (o *localFlags) add(cmd *cobra.Command, ledger string) {
	f := cmd.Flags()
	f.StringVar(&o.region, "region", "", "region of the instance; empty means REPUSH_REGION")
	f.StringVar(&o.ons, "ons", "", "another ONS OpenAPI endpoint: https, or http to loopback")
	f.StringVar(&o.state, "state", "", fmt.Sprintf("file of the ledger, or memory for none that lasts; by default REPUSH_STATE,\nelse $XDG_STATE_HOME/ons-repush/%s or ~/.local/state/ons-repush/%[1]s", ledger))
	f.DurationVar(&o.timeout, "timeout", time.Minute, "the function's time-out")
	o.functionFlags.add(cmd)
}

// complete fills in what the flags leave to the environment, and returns the
// operator's credentials.
func (o *localFlags) complete(ctx context.Context, ledger string) (keys sink.Credentials, err error) {
	o.region = cmp.Or(o.region, os.Getenv("REPUSH_REGION"))
	if o.region == "" {
		return keys, usage(errors.New("--region: is required, or REPUSH_REGION in the environment"))
	}
	if o.timeout <= 0 {
		return keys, usage(errors.New("--timeout: must be above 0"))
	}
	if _, _, err := endpoint(cmp.Or(o.ons, "https://default")); err != nil {
		return keys, usage(fmt.Errorf("--ons: %w", err))
	}
	o.ons = cmp.Or(o.ons, os.Getenv("REPUSH_ONS_ENDPOINT"))
	if !o.dry {
		keys, _, err = operatorCredentials(ctx)
	}
	if err == nil {
		o.state, err = stateSetting(o.state, defaultLedger(ledger))
	}
	return keys, err
}

// start builds and runs a function, which may work on allow if the environment
// does not say on what. end ends it.
func (o localFlags) start(cmd *cobra.Command, name, allow string, stdout io.Writer, env ...string) (f *fcd.Function, end func(), err error) {
	say := notes(cmd.ErrOrStderr())
	if os.Getenv("REPUSH_ALLOW") == "" {
		say("REPUSH_ALLOW is not set: this run may %s %s and nothing else", strings.TrimPrefix(name, "re"), allow)
		env = append(env, "REPUSH_ALLOW="+allow)
	}
	built, err := prepare(cmd.Context(), name, o.bin, say)
	if err != nil {
		return nil, nil, err
	}
	f, err = fcd.Start(cmd.Context(), fcd.Options{
		Binary: built.binary, Runtime: fcd.FCGo1, Env: env, Timeout: o.timeout, Stdout: stdout, Stderr: o.log(cmd.ErrOrStderr()),
	})
	if err != nil {
		built.remove()
		return nil, nil, startError(err)
	}
	return f, func() { f.Kill(); built.remove() }, nil
}

// environment is what the function runs with: the operator's settings and the
// credentials, which reach it by no other way. Results go to this command too.
func (o localFlags) environment(keys sink.Credentials) []string {
	results := os.Getenv("REPUSH_RESULTS")
	if !strings.Contains(","+results+",", ",stdout,") {
		results = strings.TrimSuffix("stdout,"+results, ",")
	}
	return append(operatorEnv(os.Environ()), "REPUSH_RESULTS="+results, "REPUSH_STATE="+o.state, "REPUSH_REGION="+o.region, "REPUSH_ONS_ENDPOINT="+o.ons,
		"ALIBABA_CLOUD_ACCESS_KEY_ID="+keys.AccessKeyID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET="+keys.AccessKeySecret,
		"ALIBABA_CLOUD_SECURITY_TOKEN="+keys.SecurityToken)
}
