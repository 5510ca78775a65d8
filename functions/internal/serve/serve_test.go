package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// each runs a table that maps a sentence to a case.
func each[C any](t *testing.T, cases map[string]C, test func(*testing.T, C)) {
	t.Helper()
	if len(cases) == 0 {
		t.Fatal("no cases")
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, c) })
	}
}

// buffer is a bytes.Buffer that may be written to concurrently.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// logTo writes what Config.Log gets as text.
func logTo(w io.Writer) func(string, error, map[string]any) {
	return func(message string, err error, fields map[string]any) { fmt.Fprintln(w, message, err, fields) }
}

// underFC is the environment of Function Compute's custom runtime.
var underFC = map[string]string{"FC_FUNCTION_NAME": "repush"}

func env(vars map[string]string) func(string) string {
	return func(name string) string { return vars[name] }
}

const testToken = Token("t0ken-of-the-test")

// testConfig discards what it is told.
func testConfig(vars map[string]string, token Token) Config {
	return Config{Getenv: env(vars), Token: token, Stdout: io.Discard, Log: logTo(io.Discard)}
}

// seen is what a handler was called with.
type seen struct {
	In   Invocation
	Body string
	Left time.Duration
}

// recorder is a handler that notes its calls and answers always the same.
type recorder struct {
	mu     sync.Mutex
	calls  []seen
	answer Answer
}

func (r *recorder) handle(ctx context.Context, in Invocation, body []byte) Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	deadline, _ := ctx.Deadline()
	r.calls = append(r.calls, seen{in, string(body), time.Until(deadline)})
	return r.answer
}

// do sends one request through the handler of the HTTP runtime.
func do(ctx context.Context, c Config, h Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	newServer(ctx, c, h).httpServer().Handler.ServeHTTP(w, r)
	return w
}

// request has headers as "name: value" lines.
func request(method, target, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Add(name, value)
	}
	return r
}

func TestDeadlineLeavesTimeForTheAnswer(t *testing.T) {
	t.Parallel()
	invoke := func(headers ...string) *http.Request {
		return request("POST", "/invoke", "{}", append(headers, "x-fc-control-path: /invoke")...)
	}
	event := func(headers ...string) *http.Request {
		return request("POST", "/", "{}", append(headers, "Content-Type: application/json", "Authorization: Bearer "+string(testToken))...)
	}
	each(t, map[string]struct {
		env     map[string]string
		request *http.Request
		want    time.Duration
	}{
		"the platform's timeout less the margin":         {underFC, invoke("x-fc-function-timeout: 300"), 300*time.Second - answerMargin},
		"a tenth of a short timeout":                     {underFC, invoke("x-fc-function-timeout: 1"), 900 * time.Millisecond},
		"the longest timeout there is":                   {underFC, invoke("x-fc-function-timeout: 86400"), 86400*time.Second - answerMargin},
		"no timeout: the default":                        {underFC, invoke(), 60*time.Second - answerMargin},
		"a timeout of 0 is none":                         {underFC, invoke("x-fc-function-timeout: 0"), 60*time.Second - answerMargin},
		"a negative timeout is none":                     {underFC, invoke("x-fc-function-timeout: -5"), 60*time.Second - answerMargin},
		"a timeout no function can have is none":         {underFC, invoke("x-fc-function-timeout: 86401"), 60*time.Second - answerMargin},
		"an overflowing timeout is none":                 {underFC, invoke("x-fc-function-timeout: 9223372036854775807"), 60*time.Second - answerMargin},
		"a timeout that is no number is none":            {underFC, invoke("x-fc-function-timeout: 10s"), 60*time.Second - answerMargin},
		"an outsider has the default":                    {nil, event(), 60*time.Second - answerMargin},
		"the function's time bounds a triggered request": {underFC, event("x-fc-function-timeout: 20"), 20*time.Second - answerMargin},
		"and does not lengthen it":                       {underFC, event("x-fc-function-timeout: 300"), 60*time.Second - answerMargin},
		"elsewhere that header means nothing":            {nil, event("x-fc-function-timeout: 20"), 60*time.Second - answerMargin},
	}, func(t *testing.T, c struct {
		env     map[string]string
		request *http.Request
		want    time.Duration
	}) {
		synctest.Test(t, func(t *testing.T) {
			var handler recorder
			if w := do(t.Context(), testConfig(c.env, testToken), handler.handle, c.request); w.Code != http.StatusOK || len(handler.calls) != 1 {
				t.Fatalf("status %d, %d calls: %s", w.Code, len(handler.calls), w.Body)
			}
			if got := handler.calls[0].Left; got != c.want {
				t.Errorf("the handler has %v, want %v", got, c.want)
			}
		})
	})
}

func TestDeadlineIsTheSoonerOfBothClocks(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct{ platform, ours, want time.Duration }{
		"the platform's is sooner":    {10 * time.Second, 20 * time.Second, 10*time.Second - answerMargin},
		"ours is sooner":              {20 * time.Second, 10 * time.Second, 10*time.Second - answerMargin},
		"the platform's is past":      {-time.Second, 10 * time.Second, -time.Second},
		"hardly anything is left":     {10 * time.Millisecond, time.Hour, 9 * time.Millisecond},
		"the margin has an upper end": {time.Hour, time.Hour, time.Hour - answerMargin},
	}, func(t *testing.T, c struct{ platform, ours, want time.Duration }) {
		synctest.Test(t, func(t *testing.T) {
			incoming, cancel := context.WithTimeout(t.Context(), c.platform)
			defer cancel()
			var handler recorder
			s := newServer(t.Context(), testConfig(nil, ""), handler.handle)
			s.call(incoming, Invocation{}, time.Now().Add(c.ours), nil)
			if got := handler.calls[0].Left; got != c.want {
				t.Errorf("the handler has %v, want %v", got, c.want)
			}
		})
	})
}

func TestContextOutlivesTheClient(t *testing.T) {
	t.Parallel()
	client, leave := context.WithCancel(t.Context())
	handler := func(ctx context.Context, _ Invocation, _ []byte) Answer {
		leave()
		if err := ctx.Err(); err != nil {
			t.Errorf("the client went away and so did the call: %v", err)
		}
		return Answer{}
	}
	r := request("POST", "/invoke", "{}", "x-fc-control-path: /invoke").WithContext(client)
	if w := do(t.Context(), testConfig(underFC, ""), handler, r); w.Code != http.StatusOK {
		t.Errorf("status %d, want 200", w.Code)
	}
}

func TestPanicIsLoggedWithoutTheBody(t *testing.T) {
	t.Parallel()
	const secret = "the-body-of-a-message"
	each(t, map[string]struct {
		panics func()
		logged string
	}{
		"a text":                   {func() { panic("cannot read " + secret) }, "panic of type string"},
		"an error":                 {func() { panic(errors.New(secret)) }, "panic of type *errors.errorString"},
		"conversion":               {func() { _ = any(secret).(int) }, "interface conversion: interface {} is string, not int"},
		"index":                    {func() { _ = make([]int, 1)[len(secret)] }, "index out of range [21] with length 1"},
		"a panic of nil is no nil": {func() { panic(nil) }, "panic called with nil argument"},
	}, func(t *testing.T, c struct {
		panics func()
		logged string
	}) {
		var log buffer
		config := testConfig(underFC, "")
		config.Log = logTo(&log)
		handler := func(context.Context, Invocation, []byte) Answer { c.panics(); return Answer{} }
		w := do(t.Context(), config, handler, request("POST", "/invoke", secret, "x-fc-control-path: /invoke", "x-fc-request-id: id-7"))
		if text := log.String(); !strings.Contains(text, c.logged) || !strings.Contains(text, "invocationId:id-7") ||
			!strings.Contains(text, "serve_test.go") {
			t.Errorf("logged %q, want %q, the invocation and the stack", text, c.logged)
		}
		if both := log.String() + w.Body.String(); strings.Contains(both, secret) {
			t.Errorf("the body shows in %q", both)
		}
		if w.Code != http.StatusNotFound || w.Header().Get("x-fc-status") != "404" {
			t.Errorf("status %d, x-fc-status %q, want 404", w.Code, w.Header().Get("x-fc-status"))
		}
	})
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	in := Invocation{ID: "id", Credentials: Credentials{"LTAI-secret", "secret-key", "secret-token"}}
	config := Config{Token: "secret-bearer"}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
		text := fmt.Sprintf(verb+verb+verb+verb, in, in.Credentials, config.Token, &in.Credentials)
		if strings.Contains(text, "secret") || strings.Contains(text, fmt.Sprintf("%x", "secret")) {
			t.Errorf("%s prints %s", verb, text)
		}
	}
	text, err := json.Marshal(map[string]any{"in": in, "token": config.Token, "none": Token("")})
	if want := `{"in":{"ID":"id","Credentials":"set","Platform":false,"AlertOnly":false},"none":"unset","token":"set"}`; string(text) != want || err != nil {
		t.Errorf("marshalled %s, %v, want %s", text, err, want)
	}
}

func TestTokenAllows(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct {
		token  Token
		header string
		want   bool
	}{
		"the token":                  {"abc", "Bearer abc", true},
		"the scheme in another case": {"abc", "bearer abc", true},
		"more than one space":        {"abc", "Bearer   abc ", true},
		"another token":              {"abc", "Bearer abd", false},
		"a part of it":               {"abc", "Bearer ab", false},
		"more than it":               {"abc", "Bearer abcd", false},
		"another case":               {"abc", "Bearer ABC", false},
		"another scheme":             {"abc", "Basic abc", false},
		"no scheme":                  {"abc", "abc", false},
		"nothing":                    {"abc", "", false},
		"only the scheme":            {"abc", "Bearer", false},
		"unset, and nothing given":   {"", "", false},
		"unset, and an empty one":    {"", "Bearer ", false},
		"unset, and one given":       {"", "Bearer abc", false},
	}, func(t *testing.T, c struct {
		token  Token
		header string
		want   bool
	}) {
		if got := c.token.Allows(c.header); got != c.want {
			t.Errorf("Allows(%q) = %v, want %v", c.header, got, c.want)
		}
	})
}

func ExampleToken_Allows() {
	token := Token("s3cret")
	fmt.Println(token.Allows("Bearer s3cret"), token.Allows("Bearer other"), Token("").Allows("Bearer "))
	fmt.Println(token)
	// Output:
	// true false false
	// set
}

func TestEndGivesGraceThenCutsThenGivesUp(t *testing.T) {
	t.Parallel()
	each(t, map[string]struct {
		takes  time.Duration // a call's time to end by itself
		obeys  bool          // it ends when its context does
		after  time.Duration
		failed bool
		cut    bool
	}{
		"nothing runs":               {0, false, 0, false, false},
		"a call within the grace":    {19 * time.Second, false, 19 * time.Second, false, false},
		"a call that obeys":          {time.Hour, true, 20 * time.Second, false, true},
		"a call that records a bit":  {21 * time.Second, false, 21 * time.Second, false, true},
		"a call that does not obey":  {time.Hour, false, 22 * time.Second, true, true},
		"a call just over the limit": {23 * time.Second, false, 22 * time.Second, true, true},
	}, func(t *testing.T, c struct {
		takes  time.Duration
		obeys  bool
		after  time.Duration
		failed bool
		cut    bool
	}) {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t.Context(), testConfig(nil, ""), nil)
			begun := time.Now()
			err := s.end(func(ctx context.Context) error {
				var obeyed <-chan struct{}
				if c.obeys {
					obeyed = s.base.Done()
				}
				select {
				case <-time.After(c.takes - time.Since(begun)):
					return nil
				case <-obeyed:
					return nil
				case <-ctx.Done():
					// The cut wakes an obedient call and the grace at once.
					return ctx.Err()
				}
			})
			if took := time.Since(begun); took != c.after || (err != nil) != c.failed || (s.base.Err() != nil) != c.cut {
				t.Errorf("end took %v with %v, calls cut: %v; want %v, failed %v, cut %v", took, err, s.base.Err(), c.after, c.failed, c.cut)
			}
		})
	})
}

func TestWaitReturnsWhenTheLastAnswerIsOut(t *testing.T) {
	t.Parallel()
	s := newServer(t.Context(), testConfig(nil, ""), func(context.Context, Invocation, []byte) Answer { return Answer{} })
	answering, answered := context.WithCancel(t.Context())
	s.call(answering, Invocation{}, time.Now().Add(time.Minute), nil)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.wait(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("wait = %v before the answer was out", err)
	}
	givenBack := func() bool { // by a call whose answer is out at once
		answer, _ := s.call(ended, Invocation{}, time.Now().Add(time.Minute), nil)
		return answer.GiveBack
	}
	until(t, "calls are given back while somebody waits", givenBack)
	answered()
	if err := s.wait(t.Context()); err != nil {
		t.Errorf("wait = %v after the answer was out", err)
	}
	until(t, "calls are served after a pre-stop", func() bool { return !givenBack() })
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); !holds(); runtime.Gosched() {
		if time.Since(begun) > 20*time.Second {
			t.Fatalf("never: %s", what)
		}
	}
}

func TestCallAfterTheEndIsGivenBack(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	var handler recorder
	s := newServer(ctx, testConfig(nil, ""), handler.handle)
	stop()
	answer, failed := s.call(t.Context(), Invocation{}, time.Now().Add(time.Minute), nil)
	want := &failure{http.StatusServiceUnavailable, "the process is stopping", "GivenBack"}
	if diff := cmp.Diff(want, failed); diff != "" || !answer.GiveBack || len(handler.calls) != 0 {
		t.Errorf("answer %+v, %d calls, failure (-want +got):\n%s", answer, len(handler.calls), diff)
	}
}
