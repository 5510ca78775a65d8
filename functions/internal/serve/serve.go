package serve

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Invocation is what a platform says about one call.
type Invocation struct {
	// ID is the platform's request id, or one made here; never empty.
	ID string
	// Credentials of this invocation; zero when none came.
	Credentials Credentials
	// Platform is set for the platform's own call, which is trusted. Otherwise
	// it was a plain HTTP request by an outsider that passed the token check.
	Platform bool
	// AlertOnly: it was one with the webhook token, which vouches for alerts and
	// for nothing else.
	AlertOnly bool
}

// Answer is what the function returns.
type Answer struct {
	// Body is the return value, JSON. Empty means null.
	Body []byte
	// GiveBack: not everything was decided; the platform shall deliver the
	// event again.
	GiveBack bool
	// Reason is one line for the platform's error message when given back. It
	// reaches logs: no secrets, no bodies.
	Reason string
	// RetryAfter tells an outsider when to come back: whole seconds, rounded
	// up, at least one.
	RetryAfter time.Duration
	// NotAnEvent: the bytes were no event at all. Outsiders get status 400; to
	// a platform it is a success, because a redelivery would say the same.
	NotAnEvent bool
	// Unauthorized: this outsider may not send that; status 401.
	Unauthorized bool
}

// Handler does the work of one call. The context ends a little before the
// platform's deadline, so that the answer still gets out, or when a shutdown
// runs out of grace; not when an HTTP client goes away, because a push in flight
// has to be recorded whoever still listens. The body is the handler's to keep.
// A panic is answered as a failure, and the process goes on. It must be safe for
// concurrent use.
type Handler func(ctx context.Context, in Invocation, body []byte) Answer

// Config is what the runtimes need to know. The functions and Stdout are
// required and must be safe for concurrent use.
type Config struct {
	// Getenv reads the environment that picks the runtime. The SDKs of go1 and
	// Lambda read the process's own in any case.
	Getenv func(string) string
	// Token is what outsiders have to bring. Empty: under Function Compute no
	// outsider gets in; elsewhere the server listens on loopback only and
	// serves local programs, but not web pages, without one.
	Token Token
	// WebhookToken admits outsiders with alerts, in the query (token) or the
	// header X-Repush-Token, and lets forms in, which is what some monitors send.
	// Empty: neither.
	WebhookToken Token
	// Log takes what an operator should read: information when err is nil,
	// else a problem. There are no secrets and no bodies in it.
	Log func(message string, err error, fields map[string]any)
	// Stdout takes the lines by which Function Compute groups the log of a
	// custom runtime, one Write each.
	Stdout io.Writer
	// DefaultTimeout is the time of a call that says none; 0 means 60 s.
	DefaultTimeout time.Duration
	// Grace is how long running calls may go on after the end of Run's
	// context; 0 means 20 s: room for a push (15 s) within Kubernetes' 30 s.
	Grace time.Duration
	// Tick is handed to the handler every minute, as the platform's own call,
	// where there is no platform with a timer: a plain HTTP server. Empty: never.
	Tick []byte
}

const (
	tickEvery = time.Minute
	// answerMargin is kept of every deadline to get the answer out; of short
	// ones a tenth.
	answerMargin = 200 * time.Millisecond
	// recordTime is how long calls that a shutdown cut may still record what
	// became of them.
	recordTime = 2 * time.Second
)

// Run serves calls by the runtime that the environment names, until ctx ends.
// Then it stops accepting, waits for the running calls up to Config.Grace, ends
// their contexts, and returns nil when all of them returned. An error says why
// nothing could be served, or that calls had to be left running.
//
// It may be called once in a process: the SDKs keep global state. By themselves
// they end the process when their runtime API is gone (Lambda) or poll it for
// ever (go1).
func Run(ctx context.Context, c Config, h Handler) error {
	s := newServer(ctx, c, h)
	switch {
	case c.Getenv("FC_RUNTIME_API") != "":
		return s.runGo1()
	case c.Getenv("AWS_LAMBDA_RUNTIME_API") != "":
		return s.runLambda()
	default:
		return s.runHTTP()
	}
}

// server is what the runtimes share.
type server struct {
	Config
	handler Handler
	underFC bool // the environment is Function Compute's
	// run is the context of Run: no call begins after it.
	run context.Context
	// running is held for reading by every call until its answer is out.
	running sync.RWMutex
	// base is the parent of every call's context; cancel ends them all.
	base   context.Context
	cancel context.CancelFunc
}

func newServer(ctx context.Context, c Config, h Handler) *server {
	c.DefaultTimeout = cmp.Or(c.DefaultTimeout, time.Minute)
	c.Grace = cmp.Or(c.Grace, 20*time.Second)
	s := &server{Config: c, handler: h, run: ctx}
	s.underFC = c.Getenv("FC_CUSTOM_LISTEN_PORT") != "" || c.Getenv("FC_FUNCTION_NAME") != ""
	s.base, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return s
}

// failure is the answer to a call that has no return value. Function Compute
// and Lambda share its form (source: both SDKs, InvokeResponse_Error).
type failure struct {
	Status  int    `json:"-"` // for outsiders
	Message string `json:"errorMessage"`
	Type    string `json:"errorType"`
}

// call runs the handler once, until the deadline or that of the runtime's
// context, whichever is sooner: one is on our clock, the other on the
// platform's. The failure is set when it gave the event back or panicked.
func (s *server) call(incoming context.Context, in Invocation, deadline time.Time, body []byte) (answer Answer, failed *failure) {
	if s.run.Err() != nil || !s.running.TryRLock() { // it fails while [server.wait] waits
		return Answer{GiveBack: true}, &failure{http.StatusServiceUnavailable, "the process is stopping", "GivenBack"}
	}
	// The runtime ends its context after the handler's return.
	defer func() { context.AfterFunc(incoming, s.running.RUnlock) }()
	in.ID = cmp.Or(in.ID, rand.Text())
	if said, ok := incoming.Deadline(); ok && said.Before(deadline) {
		deadline = said
	}
	margin := min(answerMargin, max(0, time.Until(deadline)/10))
	ctx, cancel := context.WithDeadline(s.base, deadline.Add(-margin))
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			answer, failed = Answer{}, s.panicked(in.ID, v)
		}
	}()
	answer = s.handler(ctx, in, body)
	if answer.GiveBack {
		return answer, &failure{http.StatusServiceUnavailable, answer.Reason, "GivenBack"}
	}
	if len(answer.Body) == 0 {
		answer.Body = []byte("null")
	}
	return answer, nil
}

// panicked logs a panic. Its value is kept out unless the Go runtime made it:
// any other may quote the body.
func (s *server) panicked(id string, v any) *failure {
	err := fmt.Errorf("panic of type %T", v)
	if made, ok := v.(runtime.Error); ok {
		err = made
	}
	s.Log("the handler panicked; its call is answered as failed", err,
		map[string]any{"invocationId": id, "stack": string(debug.Stack())})
	return &failure{http.StatusInternalServerError, "internal error; see the log of invocation " + id, "Panic"}
}

// wait returns once no call runs, or ctx's error. Calls that come meanwhile are
// given back.
func (s *server) wait(ctx context.Context) error {
	idle := make(chan struct{})
	go func() {
		s.running.Lock()
		defer s.running.Unlock()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end lets running calls finish; wait blocks until they did or its context
// ends.
func (s *server) end(wait func(context.Context) error) error {
	grace, cancelGrace := context.WithTimeout(s.base, s.Grace)
	defer cancelGrace()
	if wait(grace) == nil {
		return nil
	}
	last, cancelLast := context.WithTimeout(context.WithoutCancel(s.base), recordTime)
	defer cancelLast()
	s.cancel()
	if wait(last) != nil {
		return fmt.Errorf("serve: stop: calls still run after %v; what they did may be unrecorded", s.Grace+recordTime)
	}
	s.Log("stopped in the middle of calls", errors.New("they took longer than the grace"), map[string]any{"grace": s.Grace.String()})
	return nil
}
