package serve

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/ons-repush/ons-repush/events"
)

const bearer = "Authorization: Bearer " + string(testToken)

func TestWhoIsThePlatform(t *testing.T) {
	t.Parallel()
	keys := []string{"x-fc-access-key-id: id", "x-fc-access-key-secret: secret", "x-fc-security-token: sts", "x-fc-request-id: req-1"}
	with := func(headers ...string) []string { return append(headers, keys...) }
	platform := &Invocation{ID: "req-1", Credentials: Credentials{"id", "secret", "sts"}, Platform: true}
	type call struct {
		env     map[string]string
		request *http.Request
		status  int
		want    *Invocation // nil: the handler is not called
	}
	each(t, map[string]call{
		"POST /invoke with its control path":      {underFC, request("POST", "/invoke", "x", with("x-fc-control-path: /invoke")...), 200, platform},
		"known by the listen port":                {map[string]string{"FC_CUSTOM_LISTEN_PORT": "9000"}, request("POST", "/invoke", "x", with("x-fc-control-path: /invoke")...), 200, platform},
		"POST /initialize calls no handler":       {underFC, request("POST", "/initialize", "", with("x-fc-control-path: /initialize")...), 200, nil},
		"GET /pre-stop calls no handler":          {underFC, request("GET", "/pre-stop", "", with("x-fc-control-path: /pre-stop")...), 200, nil},
		"outside Function Compute nobody is":      {nil, request("POST", "/invoke", "x", with("x-fc-control-path: /invoke")...), 401, nil},
		"no control path":                         {underFC, request("POST", "/invoke", "x", with()...), 401, nil},
		"an HTTP trigger's":                       {underFC, request("POST", "/invoke", "x", with("x-fc-control-path: /http-invoke")...), 401, nil},
		"an HTTP trigger's with a forged one":     {underFC, request("POST", "/invoke", "x", with("x-fc-control-path: /http-invoke", "x-fc-control-path: /invoke")...), 401, nil},
		"the forged one first":                    {underFC, request("POST", "/invoke", "x", with("x-fc-control-path: /invoke", "x-fc-control-path: /http-invoke")...), 401, nil},
		"the same twice":                          {underFC, request("POST", "/invoke", "x", with("x-fc-control-path: /invoke", "X-Fc-Control-Path: /invoke")...), 401, nil},
		"two in one line":                         {underFC, request("POST", "/invoke", "x", with("x-fc-control-path: /invoke, /invoke")...), 401, nil},
		"another path":                            {underFC, request("POST", "/", "x", with("x-fc-control-path: /invoke")...), 401, nil},
		"a path that only cleaned is the same":    {underFC, request("POST", "//invoke", "x", with("x-fc-control-path: /invoke")...), 401, nil},
		"a control path that is no path of ours":  {underFC, request("POST", "/", "x", with("x-fc-control-path: /")...), 401, nil},
		"another method":                          {underFC, request("GET", "/invoke", "", with("x-fc-control-path: /invoke")...), 401, nil},
		"pre-stop is a GET":                       {underFC, request("POST", "/pre-stop", "", with("x-fc-control-path: /pre-stop")...), 401, nil},
		"an outsider with the token on /invoke":   {underFC, request("POST", "/invoke", "x", with("x-fc-control-path: /http-invoke", bearer)...), 404, nil},
		"an HTTP trigger's with the token":        {underFC, request("POST", "/", "{}", with("x-fc-control-path: /http-invoke", bearer, "Content-Type: application/json")...), 200, &Invocation{}},
		"an outsider's credentials count nothing": {nil, request("POST", "/", "{}", with(bearer, "Content-Type: application/json")...), 200, &Invocation{}},
	}, func(t *testing.T, c call) {
		var handler recorder
		w := do(t.Context(), testConfig(c.env, testToken), handler.handle, c.request)
		if w.Code != c.status {
			t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
		}
		if c.want == nil {
			if len(handler.calls) != 0 {
				t.Errorf("the handler was called with %+v", handler.calls[0])
			}
			return
		}
		if len(handler.calls) != 1 {
			t.Fatalf("%d calls, want 1", len(handler.calls))
		}
		got := handler.calls[0].In
		if !c.want.Platform {
			if got.ID == "" || got.ID == "req-1" {
				t.Errorf("the outsider's call has the id %q, want one of our own", got.ID)
			}
			got.ID = ""
		}
		if got != *c.want {
			t.Errorf("platform %v, credentials %+v, id %q", got.Platform, struct{ Credentials }{got.Credentials}, got.ID)
		}
	})
}

func TestCredentialsAreThoseOfTheInvocation(t *testing.T) {
	t.Parallel()
	var handler recorder
	h := newServer(t.Context(), testConfig(underFC, ""), handler.handle).httpServer().Handler
	keys := []string{"first", "second", ""}
	for _, key := range keys {
		r := request("POST", "/invoke", "x", "x-fc-control-path: /invoke")
		if key != "" {
			r.Header.Set("x-fc-access-key-id", key)
		}
		h.ServeHTTP(new(discard), r)
	}
	var got []string
	for _, call := range handler.calls {
		got = append(got, call.In.Credentials.AccessKeyID)
		if call.In.ID == "" {
			t.Error("a call has no id")
		}
	}
	if diff := cmp.Diff(keys, got); diff != "" {
		t.Errorf("key ids (-want +got):\n%s", diff)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	type answers struct {
		answer   Answer
		outsider string // status, Retry-After, body
		platform string // status, x-fc-status, body
	}
	each(t, map[string]answers{
		"results": {Answer{Body: []byte(`{"results":[]}`)}, `200  {"results":[]}`, `200 200 {"results":[]}`},
		"nothing": {Answer{}, `200  null`, `200 200 null`},
		"no event at all": {Answer{Body: []byte(`{"results":[1]}`), NotAnEvent: true},
			`400  {"results":[1]}`, `200 200 {"results":[1]}`},
		"given back with results": {Answer{Body: []byte(`{"deferred":1}`), GiveBack: true, Reason: "1 of 2 not decided: no slot", RetryAfter: 1500 * time.Millisecond},
			`503 2 {"deferred":1}`, `404 404 {"errorMessage":"1 of 2 not decided: no slot","errorType":"GivenBack"}`},
		"given back with nothing": {Answer{GiveBack: true, Reason: "stopped"},
			`503 1 {"errorMessage":"stopped","errorType":"GivenBack"}`, `404 404 {"errorMessage":"stopped","errorType":"GivenBack"}`},
		"given back for whole seconds": {Answer{Body: []byte(`{}`), GiveBack: true, RetryAfter: 30 * time.Second},
			`503 30 {}`, `404 404 {"errorMessage":"","errorType":"GivenBack"}`},
		"given back for no time": {Answer{Body: []byte(`{}`), GiveBack: true, RetryAfter: -time.Second},
			`503 1 {}`, `404 404 {"errorMessage":"","errorType":"GivenBack"}`},
	}, func(t *testing.T, c answers) {
		handler := recorder{answer: c.answer}
		w := do(t.Context(), testConfig(nil, testToken), handler.handle, request("POST", "/", "{}", bearer, "Content-Type: application/json"))
		if got := fmt.Sprint(w.Code, " ", w.Header().Get("Retry-After"), " ", w.Body); got != c.outsider {
			t.Errorf("an outsider gets %s, want %s", got, c.outsider)
		}
		if got := w.Header().Get("x-fc-status") + w.Header().Get("x-fc-request-id"); got != "" {
			t.Errorf("an outsider gets the platform's headers: %s", got)
		}
		w = do(t.Context(), testConfig(underFC, ""), handler.handle, request("POST", "/invoke", "{}", "x-fc-control-path: /invoke", "x-fc-request-id: req-2"))
		if got := fmt.Sprint(w.Code, " ", w.Header().Get("x-fc-status"), " ", w.Body); got != c.platform {
			t.Errorf("the platform gets %s, want %s", got, c.platform)
		}
		if got := w.Header().Get("x-fc-request-id"); got != "req-2" {
			t.Errorf("x-fc-request-id %q, want it echoed", got)
		}
	})
}

func TestAnswerToAPanic(t *testing.T) {
	t.Parallel()
	panics := true
	h := newServer(t.Context(), testConfig(nil, testToken), func(context.Context, Invocation, []byte) Answer {
		if panics {
			panic("no")
		}
		return Answer{}
	}).httpServer().Handler
	for _, want := range []int{http.StatusInternalServerError, http.StatusOK} {
		var w discard
		h.ServeHTTP(&w, request("POST", "/", "{}", bearer, "Content-Type: application/json"))
		if w.status != want {
			t.Errorf("status %d, want %d", w.status, want)
		}
		panics = false
	}
}

func TestWhoGetsInAndWhere(t *testing.T) {
	t.Parallel()
	type access struct {
		env     map[string]string
		token   Token
		request *http.Request
		status  int
		header  string // "name: value" that the answer must have
	}
	event := func(host string, headers ...string) *http.Request {
		r := request("POST", "/", "{}", append(headers, "Content-Type: application/json")...)
		r.Host = host
		return r
	}
	each(t, map[string]access{
		"with the token":                        {nil, testToken, event("example.com", bearer), 200, ""},
		"with another token":                    {nil, testToken, event("example.com", "Authorization: Bearer x"), 401, "WWW-Authenticate: Bearer"},
		"without the token":                     {nil, testToken, event("127.0.0.1"), 401, "WWW-Authenticate: Bearer"},
		"with the token twice":                  {nil, testToken, event("example.com", bearer, bearer), 401, "WWW-Authenticate: Bearer"},
		"with the token in the query":           {nil, testToken, request("POST", "/?access_token="+string(testToken), "{}"), 401, "WWW-Authenticate: Bearer"},
		"under FC without a configured one":     {underFC, "", event("example.com", "Authorization: Bearer "), 401, "WWW-Authenticate: Bearer"},
		"under FC even from loopback":           {underFC, "", event("127.0.0.1"), 401, "WWW-Authenticate: Bearer"},
		"a local program needs none":            {nil, "", event("127.0.0.1:9000"), 200, ""},
		"a local program that says localhost":   {nil, "", event("localhost:9000"), 200, ""},
		"a local program on IPv6":               {nil, "", event("[::1]:9000"), 200, ""},
		"a local program on IPv6 without port":  {nil, "", event("[::1]"), 200, ""},
		"a web page":                            {nil, "", event("127.0.0.1:9000", "Origin: https://example.com"), 403, ""},
		"a sandboxed web page":                  {nil, "", event("127.0.0.1:9000", "Origin: null"), 403, ""},
		"a web page with a name bound to us":    {nil, "", event("evil.example:9000"), 403, ""},
		"a host that only looks like us":        {nil, "", event("127.0.0.1.evil.example:9000"), 403, ""},
		"no host":                               {nil, "", event(""), 403, ""},
		"with a token a web page's proxy may":   {nil, testToken, event("example.com", bearer, "Origin: https://example.com"), 200, ""},
		"healthz without a token":               {underFC, "", request("GET", "/healthz", ""), 200, "Content-Type: application/json"},
		"healthz by HEAD":                       {nil, testToken, request("HEAD", "/healthz", ""), 200, ""},
		"healthz by POST":                       {nil, testToken, request("POST", "/healthz", ""), 405, "Allow: GET, HEAD"},
		"another path, without the token":       {nil, testToken, request("POST", "/x", ""), 401, "WWW-Authenticate: Bearer"},
		"another path":                          {nil, testToken, request("POST", "/x", "", bearer), 404, ""},
		"another method":                        {nil, testToken, request("GET", "/", "", bearer), 405, "Allow: POST"},
		"another method, without the token":     {nil, testToken, request("DELETE", "/", ""), 401, "WWW-Authenticate: Bearer"},
		"forged headers of Function Compute":    {underFC, testToken, event("x", "x-fc-access-key-id: a", "x-fc-control-path: /"), 401, "WWW-Authenticate: Bearer"},
		"healthz below another path is not one": {nil, testToken, request("GET", "/x/../healthz", ""), 401, ""},
	}, func(t *testing.T, c access) {
		var handler recorder
		w := do(t.Context(), testConfig(c.env, c.token), handler.handle, c.request)
		if w.Code != c.status {
			t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
		}
		if name, value, _ := strings.Cut(c.header, ": "); c.header != "" && w.Header().Get(name) != value {
			t.Errorf("%s: %q, want %q", name, w.Header().Get(name), value)
		}
		if ok := w.Code == 200 && c.request.Method == "POST"; ok != (len(handler.calls) == 1) {
			t.Errorf("status %d, and the handler was called %d times", w.Code, len(handler.calls))
		}
	})
}

func TestLimitsOfTheBody(t *testing.T) {
	t.Parallel()
	type limits struct {
		env     map[string]string
		largest int
		headers []string
	}
	each(t, map[string]limits{
		"a structured event": {nil, events.MaxEventBytes, []string{bearer, "Content-Type: application/cloudevents+json"}},
		"a batch":            {nil, outsiderBody, []string{bearer, "Content-Type: application/cloudevents-batch+json"}},
		"bare JSON":          {nil, outsiderBody, []string{bearer, "Content-Type: application/json"}},
		"a binary event":     {nil, events.MaxEventBytes, []string{bearer, "Content-Type: application/json", "ce-id: 1"}},
		"the platform's":     {underFC, platformBody, []string{"x-fc-control-path: /invoke"}},
	}, func(t *testing.T, c limits) {
		target, tooLarge := "/", http.StatusRequestEntityTooLarge
		if c.env != nil {
			target, tooLarge = "/invoke", http.StatusNotFound
		}
		for size, want := range map[int]int{c.largest: http.StatusOK, c.largest + 1: tooLarge} {
			var handler recorder
			body := `"` + strings.Repeat("<", size-2) + `"`
			if w := do(t.Context(), testConfig(c.env, testToken), handler.handle, request("POST", target, body, c.headers...)); w.Code != want {
				t.Errorf("%d bytes: status %d, want %d", size, w.Code, want)
			}
			if len(handler.calls) == 1 && len(handler.calls[0].Body) > size+100 {
				t.Errorf("%d bytes grew to %d", size, len(handler.calls[0].Body))
			}
		}
	})
}

func TestPreStopWaitsNoLongerThanTheGrace(t *testing.T) {
	t.Parallel()
	config := testConfig(underFC, "")
	config.Grace = time.Millisecond
	s := newServer(t.Context(), config, new(recorder).handle)
	// The context of a runtime that never ends: a call whose answer is not out.
	s.call(context.Background(), Invocation{}, time.Now().Add(time.Minute), nil)
	var w discard
	s.httpServer().Handler.ServeHTTP(&w, request("GET", "/pre-stop", "", "x-fc-control-path: /pre-stop"))
	if w.status != http.StatusOK {
		t.Errorf("status %d, want 200", w.status)
	}
}

func TestLinesThatGroupTheLog(t *testing.T) {
	t.Parallel()
	type lines struct {
		request *http.Request
		answer  Answer
		want    string
	}
	platform := func(method, path string) *http.Request {
		return request(method, path, "x", "x-fc-control-path: "+path, "x-fc-request-id: r1")
	}
	each(t, map[string]lines{
		"a call":        {platform("POST", "/invoke"), Answer{}, "FC Invoke Start RequestId: r1\nFC Invoke End RequestId: r1\n"},
		"a failed call": {platform("POST", "/invoke"), Answer{GiveBack: true}, "FC Invoke Start RequestId: r1\nFC Invoke End RequestId: r1, Error: Unhandled function error\n"},
		"initialize":    {platform("POST", "/initialize"), Answer{}, "FC Initialize Start RequestId: r1\nFC Initialize End RequestId: r1\n"},
		"pre-stop":      {platform("GET", "/pre-stop"), Answer{}, "FC PreStop Start RequestId: r1\nFC PreStop End RequestId: r1\n"},
		"an outsider":   {request("POST", "/", "{}", bearer, "x-fc-request-id: r1", "Content-Type: application/json"), Answer{}, ""},
	}, func(t *testing.T, c lines) {
		var out buffer
		config := testConfig(underFC, testToken)
		config.Stdout = &out
		handler := recorder{answer: c.answer}
		do(t.Context(), config, handler.handle, c.request)
		if diff := cmp.Diff(c.want, out.String()); diff != "" {
			t.Errorf("stdout (-want +got):\n%s", diff)
		}
	})
}

// run starts the HTTP runtime on a port of its own and returns its URL, what
// stops it, and what it returned.
func run(t *testing.T, c Config, h Handler) (url string, stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	address, result := make(chan string, 1), make(chan error, 1)
	log := c.Log
	c.Log = func(message string, err error, fields map[string]any) {
		if a, ok := fields["address"].(string); ok {
			address <- a
		}
		log(message, err, fields)
	}
	go func() { result <- Run(ctx, c, h) }()
	select {
	case a := <-address:
		return "http://" + a, stop, result
	case err := <-result:
		t.Fatalf("Run = %v", err)
		panic("unreachable")
	}
}

func TestShutdownLetsRunningCallsFinish(t *testing.T) {
	t.Parallel()
	begun, finish := make(chan struct{}), make(chan struct{})
	url, stop, ended := run(t, testConfig(map[string]string{"PORT": "0"}, ""), func(ctx context.Context, _ Invocation, _ []byte) Answer {
		close(begun)
		<-finish
		return Answer{Body: fmt.Appendf(nil, "%q", fmt.Sprint(ctx.Err()))}
	})
	answers := make(chan string, 1)
	go func() {
		answer, err := http.Post(url, "application/json", strings.NewReader("{}"))
		if err != nil {
			answers <- err.Error()
			return
		}
		defer answer.Body.Close()
		body, _ := io.ReadAll(answer.Body)
		answers <- string(body)
	}()
	<-begun
	stop()
	for { // until nothing listens any more
		connection, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			break
		}
		connection.Close()
	}
	select {
	case err := <-ended:
		t.Fatalf("Run returned %v with a call running", err)
	default:
	}
	close(finish)
	if answer := <-answers; answer != `"<nil>"` {
		t.Errorf("answer %s, want the call's context alive", answer)
	}
	if err := <-ended; err != nil {
		t.Errorf("Run = %v", err)
	}
}

func TestShutdownCutsCallsThatOutlastTheGrace(t *testing.T) {
	t.Parallel()
	var log buffer
	config := testConfig(map[string]string{"PORT": "0"}, testToken)
	config.Grace, config.Log = time.Millisecond, logTo(&log)
	begun := make(chan struct{})
	url, stop, ended := run(t, config, func(ctx context.Context, _ Invocation, _ []byte) Answer {
		close(begun)
		<-ctx.Done()
		return Answer{}
	})
	r, _ := http.NewRequest("POST", strings.Replace(url, "[::]", "127.0.0.1", 1), strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+string(testToken))
	answered := make(chan error, 1)
	go func() {
		answer, err := http.DefaultClient.Do(r)
		if err == nil {
			answer.Body.Close()
		}
		answered <- err
	}()
	<-begun
	stop()
	if err := <-ended; err != nil || !strings.Contains(log.String(), "stopped in the middle of calls") {
		t.Errorf("Run = %v, logged %s", err, log.String())
	}
	if err := <-answered; err != nil {
		t.Errorf("the cut call was not answered: %v", err)
	}
	if strings.Contains(log.String(), string(testToken)) {
		t.Errorf("the log shows the token: %s", log.String())
	}
}

func TestWhereItListens(t *testing.T) {
	t.Parallel()
	type listens struct {
		env   map[string]string
		token Token
		local bool
	}
	each(t, map[string]listens{
		"without a token on loopback only":        {map[string]string{"PORT": "0"}, "", true},
		"with a token where PORT says":            {map[string]string{"PORT": "127.0.0.1:0"}, testToken, true},
		"without one not where PORT says":         {map[string]string{"PORT": "0.0.0.0:0"}, "", true},
		"with a token everywhere":                 {map[string]string{"PORT": "0"}, testToken, false},
		"under Function Compute everywhere":       {map[string]string{"FC_CUSTOM_LISTEN_PORT": "0"}, "", false},
		"the listen port goes before PORT":        {map[string]string{"FC_CUSTOM_LISTEN_PORT": "0", "PORT": "x"}, "", false},
		"under Function Compute's name with PORT": {map[string]string{"FC_FUNCTION_NAME": "f", "PORT": "0"}, "", false},
	}, func(t *testing.T, c listens) {
		url, stop, ended := run(t, testConfig(c.env, c.token), new(recorder).handle)
		if local := strings.HasPrefix(url, "http://127.0.0.1:"); local != c.local {
			t.Errorf("listens on %s", url)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
}

func TestPortThatCannotBeListenedOn(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() }) // after the cases, which run in parallel
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	each(t, map[string]string{"taken": port, "no number": "http-x", "too large": "65536", "negative": "-1"}, func(t *testing.T, port string) {
		err := Run(t.Context(), testConfig(map[string]string{"PORT": port}, ""), new(recorder).handle)
		if err == nil || !strings.HasPrefix(err.Error(), "serve: listen tcp") || !strings.Contains(err.Error(), "PORT") {
			t.Errorf("Run = %v, want one that names PORT", err)
		}
	})
}

func TestServerIsHardened(t *testing.T) {
	t.Parallel()
	for _, vars := range []map[string]string{nil, underFC} {
		s := newServer(t.Context(), testConfig(vars, ""), nil).httpServer()
		if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
			t.Errorf("a limit is missing: %+v", s)
		}
		if kept := s.IdleTimeout >= time.Hour; kept != (vars != nil) {
			t.Errorf("idle connections are closed after %v with %v", s.IdleTimeout, vars)
		}
	}
}

// discard is a ResponseWriter that keeps the status only.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header {
	if d.header == nil {
		d.header = http.Header{}
	}
	return d.header
}
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkHTTP(b *testing.B) {
	const body = `{"specversion":"1.0","id":"1","source":"s","type":"t","data":{"msgId":"x"}}`
	requests := map[string][]string{
		"platform":   {"/invoke", "x-fc-control-path: /invoke", "x-fc-request-id: r", "x-fc-function-timeout: 60", "x-fc-access-key-id: a"},
		"structured": {"/", bearer, "Content-Type: application/cloudevents+json"},
		"binary": {"/", bearer, "Content-Type: application/json", "ce-specversion: 1.0", "ce-id: 1", "ce-source: s", "ce-type: t",
			"ce-subject: a%20b", "ce-time: 2026-01-01T00:00:00Z"},
	}
	for name, line := range requests {
		b.Run(name, func(b *testing.B) {
			h := newServer(b.Context(), testConfig(underFC, testToken), func(context.Context, Invocation, []byte) Answer { return Answer{} }).httpServer().Handler
			r := request("POST", line[0], "", line[1:]...)
			b.ReportAllocs()
			for b.Loop() {
				r.Body = io.NopCloser(strings.NewReader(body))
				var w discard
				if h.ServeHTTP(&w, r); w.status != http.StatusOK {
					b.Fatalf("status %d", w.status)
				}
			}
		})
	}
}
