package fcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrExited reports that the process had ended before an invocation could begin.
var ErrExited = errors.New("the function's process has ended: use Restart")

// Function is one instance: a process and the platform's side of its contract.
// It is safe for concurrent use. Whoever starts it ends it, by Stop or Kill.
type Function struct {
	opts      Options
	platform  platform
	cmd       *exec.Cmd
	stderr    tail
	alive     context.Context // done when the process is gone
	ended     error           // what exec.Cmd.Wait said, once alive is done
	coldStart time.Duration
	slots     chan struct{}
	creds     atomic.Pointer[Credentials]

	mu         sync.Mutex
	violations []string
}

// platform is what differs between runtimes.
type platform interface {
	// variable is how the function finds the platform.
	variable() (name, value string)
	// ready returns when the function takes work, or with an error after ctx.
	ready(ctx context.Context) (time.Time, error)
	// deliver returns the function's answer or the cause of ctx's end.
	deliver(ctx context.Context, inv *invocation) (Response, error)
	close()
}

// Start runs the binary and returns when it takes work: it polls the runtime
// API or listens, and its initializer is done. ctx bounds the start only. The
// error quotes the end of the function's standard error.
func Start(ctx context.Context, opts Options) (*Function, error) {
	f, err := start(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("fcd: start %s: %w", opts.Binary, err)
	}
	return f, nil
}

func start(ctx context.Context, opts Options) (*Function, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	f := &Function{opts: opts, slots: make(chan struct{}, opts.InstanceConcurrency)}
	f.creds.Store(&opts.Credentials)
	if opts.Runtime == FCCustom {
		f.platform, err = newCustomServer(opts.InstanceConcurrency, f.violate)
	} else {
		f.platform, err = newRuntimeAPI(opts.Runtime, f.violate)
	}
	if err != nil {
		return nil, err
	}
	started := time.Now()
	if err := f.run(); err != nil {
		f.platform.close()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, opts.StartTimeout)
	defer cancel()
	letLive := context.AfterFunc(ctx, f.Kill)
	err = f.awaitReady(started)
	if letLive() && err == nil {
		return f, nil
	}
	f.Kill()
	return nil, fmt.Errorf("%w; the process: %s; its standard error: %q", cmp.Or(err, ctx.Err()), f.cmd.ProcessState, f.stderr)
}

func (f *Function) run() error {
	name, value := f.platform.variable()
	f.cmd = exec.Command(f.opts.Binary, f.opts.Args...)
	f.cmd.Dir = filepath.Dir(f.opts.Binary)
	f.cmd.Env = append(f.opts.environment(), name+"="+value)
	f.cmd.Stdout, f.cmd.Stderr = f.opts.Stdout, &f.stderr
	if f.opts.Stderr != nil {
		f.cmd.Stderr = io.MultiWriter(&f.stderr, f.opts.Stderr)
	}
	f.cmd.SysProcAttr = endWithParent()
	f.cmd.WaitDelay = time.Second // for a grandchild that keeps the pipes open
	if err := f.cmd.Start(); err != nil {
		return err
	}
	alive, exited := context.WithCancelCause(context.Background())
	f.alive = alive
	go func() {
		f.ended = f.cmd.Wait()
		exited(errExited)
		f.platform.close()
	}()
	return nil
}

func (f *Function) awaitReady(started time.Time) error {
	at, err := f.platform.ready(f.alive)
	f.coldStart = at.Sub(started)
	if err == nil && f.opts.Initializer {
		err = f.hook(initialize, f.opts.StartTimeout)
	}
	return err
}

func (f *Function) hook(phase phase, timeout time.Duration) error {
	if res := f.perform(f.opts.newInvocation(phase, *f.creds.Load(), timeout, nil)); res.FunctionError != "" {
		return fmt.Errorf("the hook %s failed with %s", customCalls[phase].path, res.FunctionError)
	}
	return nil
}

// Restart kills the process if it runs and starts another instance, with the
// present credentials and without violations.
func (f *Function) Restart(ctx context.Context) (*Function, error) {
	f.Kill()
	opts := f.opts
	opts.Credentials = *f.creds.Load()
	return Start(ctx, opts)
}

// Invoke hands payload to the function as soon as a place is free and returns
// its answer. A function that fails, dies or takes too long (and is killed, FC
// "How do I stop an instance") is a Response with FunctionError set. The error
// is ErrExited or that of ctx, which bounds the caller's wait only: a function
// at work is not told. edit changes the headers that the function receives, for
// instance to forge them.
func (f *Function) Invoke(ctx context.Context, payload []byte, edit ...func(http.Header)) (Response, error) {
	select {
	case f.slots <- struct{}{}:
	case <-f.alive.Done():
	case <-ctx.Done():
		return Response{}, fmt.Errorf("fcd: invoke: no place was free: %w", ctx.Err())
	}
	if f.alive.Err() != nil { // for good, so nobody waits for the place
		return Response{}, fmt.Errorf("fcd: invoke: %w", ErrExited)
	}
	inv := f.opts.newInvocation(handle, *f.creds.Load(), f.opts.Timeout, payload)
	for _, change := range edit {
		change(inv.header)
	}
	done := make(chan Response, 1)
	go func() {
		done <- f.perform(inv)
		<-f.slots
	}()
	select {
	case res := <-done:
		return res, nil
	case <-ctx.Done():
		return Response{}, fmt.Errorf("fcd: invoke %s: %w", inv.id, ctx.Err())
	}
}

func (f *Function) perform(inv *invocation) Response {
	start := time.Now()
	ctx, cancel := context.WithDeadlineCause(f.alive, inv.deadline, errTimedOut)
	defer cancel()
	res, err := f.platform.deliver(ctx, inv)
	switch {
	case errors.Is(err, errTimedOut):
		f.Kill()
		res = failure(ErrorTimeout, "function timed out after "+inv.timeout.String())
	case err != nil:
		res = failure(ErrorExit, err.Error())
	}
	res.RequestID, res.Duration = inv.id, time.Since(start)
	return res
}

// Stop ends the function as the platform does, without waiting for running
// invocations: PreStop if configured, SIGTERM, and SIGKILL when Grace or ctx is
// over. The error says that PreStop failed or SIGKILL was needed; the process
// is gone either way. (AWS sends SIGTERM only to a function with an extension.)
func (f *Function) Stop(ctx context.Context) error {
	if f.alive.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.opts.Grace)
	defer cancel()
	defer context.AfterFunc(ctx, f.Kill)()
	_ = f.Thaw() // fails where nothing can be frozen
	var err error
	if f.opts.PreStop {
		err = f.hook(preStop, f.opts.Grace)
	}
	_ = f.cmd.Process.Signal(syscall.SIGTERM) // fails when it is gone already
	<-f.alive.Done()
	if ctx.Err() != nil {
		err = errors.Join(err, errors.New("it did not end after SIGTERM and was killed"))
	}
	if err != nil {
		return fmt.Errorf("fcd: stop: %w", err)
	}
	return nil
}

// Kill ends the process by SIGKILL and returns when it is gone.
func (f *Function) Kill() {
	_ = f.cmd.Process.Kill() // fails when it is gone already
	<-f.alive.Done()
}

// Freeze halts the process, as platforms do between invocations, and returns
// when it stands still. Time-outs run on. Linux only.
func (f *Function) Freeze() error { return freeze(f.cmd.Process) }

// Thaw lets a frozen process go on.
func (f *Function) Thaw() error { return thaw(f.cmd.Process) }

// Exited is closed when the process is gone.
func (f *Function) Exited() <-chan struct{} { return f.alive.Done() }

// Wait returns when the process is gone: nil for status 0, else [*exec.ExitError].
func (f *Function) Wait() error {
	<-f.alive.Done()
	return f.ended
}

// PID is the process id.
func (f *Function) PID() int { return f.cmd.Process.Pid }

// ColdStart is the time from just before process start to the first poll or
// (to a quarter of a millisecond) the open port.
func (f *Function) ColdStart() time.Duration { return f.coldStart }

// URL is where a custom runtime listens, for requests that are not the
// platform's; empty for the other runtimes.
func (f *Function) URL() string {
	if f.opts.Runtime != FCCustom {
		return ""
	}
	_, port := f.platform.variable()
	return "http://127.0.0.1:" + port
}

// SetCredentials changes the credentials of invocations that begin from now on.
// The environment of the process keeps the old ones.
func (f *Function) SetCredentials(c Credentials) { f.creds.Store(&c) }

// Violations lists what the function did against its contract, oldest first,
// without payloads.
func (f *Function) Violations() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.violations)
}

func (f *Function) violate(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.violations = append(f.violations, fmt.Sprintf(format, args...))
}

// tail keeps the last 4 KB written to it.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b...)
	*t = (*t)[max(0, len(*t)-4096):]
	return len(b), nil
}
