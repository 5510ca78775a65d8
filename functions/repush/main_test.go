package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/serve"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// binary builds the function once for all tests, as it is deployed.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "repush-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "repush")
	out, err := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "8") // they wait more than they work; -parallel wins
	status := m.Run()
	if path, err := binary(); err == nil { // built by now, or not needed
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

func functionBinary(tb testing.TB) string {
	tb.Helper()
	path, err := binary()
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

const (
	instance = "MQ_INST_1_test"
	secret   = "sesame-secret"
	keyID    = "sesame-key"
)

// world is a small data set: one group with two clients, count messages.
func world(tb testing.TB, count int, change ...func(*onsd.Data)) (*onsd.Server, *onsd.Endpoint) {
	tb.Helper()
	d := &onsd.Data{
		Region:      "cn-hangzhou",
		Credentials: []onsd.Credential{{AccessKeyID: keyID, AccessKeySecret: secret}},
		Quotas:      map[string]onsd.Quota{"*": {Kind: "none"}},
		Instances: []onsd.Instance{{
			InstanceID: instance, Topics: []string{"orders"},
			Messages: []onsd.Message{{Topic: "orders", MsgIDs: ids(count), StoredAt: onsd.Moment{Age: time.Hour}, Body: "sesame-body"}},
			Groups:   []onsd.Group{{GroupID: "GID_x", Clients: []onsd.Client{{ClientID: "10.0.0.1@1#a"}, {ClientID: "10.0.0.2@2#b"}}}},
		}},
	}
	for _, c := range change {
		c(d)
	}
	server, err := onsd.New(d, onsd.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	endpoint, err := server.Listen("127.0.0.1:0", false)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = endpoint.Close() })
	return server, endpoint
}

func ids(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = msgID(i)
	}
	return list
}

func msgID(i int) string { return fmt.Sprintf("%032X", i) }

// request is one structured event for message number i.
func request(id string, i int, change ...func(*events.Requested)) []byte {
	data := events.Requested{InstanceID: instance, Topic: "orders", GroupID: "GID_x", MsgID: msgID(i), Reason: "a test"}
	for _, c := range change {
		c(&data)
	}
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	event, err := json.Marshal(events.Event{ID: id, Source: "test", Type: events.TypeMessageRequested, Data: raw})
	if err != nil {
		panic(err)
	}
	return event
}

func settings(endpoint *onsd.Endpoint, more ...string) []string {
	return append([]string{
		"REPUSH_REGION=cn-hangzhou", "REPUSH_ONS_ENDPOINT=" + endpoint.URL, "REPUSH_ALLOW=*/*/*", "REPUSH_LOG_LEVEL=debug",
		"ALIBABA_CLOUD_ACCESS_KEY_ID=" + keyID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET=" + secret,
	}, more...)
}

// output collects what a process prints. Safe for concurrent use.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Reset()
}

// results are the result events among the lines.
func (o *output) results(tb testing.TB) []events.Completed {
	tb.Helper()
	var all []events.Completed
	for line := range strings.Lines(o.String()) {
		e, err := events.Decode([]byte(line))
		if err != nil {
			continue
		}
		var c events.Completed
		if err := json.Unmarshal(e.Data, &c); err != nil {
			tb.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// process is the function binary somewhere, by its way in.
type process struct {
	invoke func(payload []byte) (body []byte, failed string)
	stop   func() error
	stdout output
	stderr output
	fcd    *fcd.Function
}

// start runs the binary under a runtime of fcd, or as a plain HTTP server.
func start(tb testing.TB, runtime string, env []string) *process {
	tb.Helper()
	p := &process{}
	if runtime == "http" {
		p.startHTTP(tb, env)
		return p
	}
	concurrency := 1
	if fcd.Runtime(runtime) == fcd.FCCustom {
		concurrency = 200
	}
	f, err := fcd.Start(tb.Context(), fcd.Options{
		Binary: functionBinary(tb), Runtime: fcd.Runtime(runtime), Env: env, InstanceConcurrency: concurrency, Timeout: 20 * time.Second,
		Stdout: &p.stdout, Stderr: &p.stderr,
	})
	if err != nil {
		tb.Fatal(err)
	}
	p.fcd = f
	p.stop = sync.OnceValue(func() error { return f.Stop(context.Background()) })
	tb.Cleanup(func() {
		_ = p.stop()
		if v := f.Violations(); len(v) > 0 {
			tb.Errorf("%s: the function broke the platform's contract: %v", runtime, v)
		}
	})
	p.invoke = func(payload []byte) ([]byte, string) {
		r, err := f.Invoke(context.Background(), payload)
		if err != nil {
			return nil, err.Error()
		}
		return r.Payload, r.FunctionError
	}
	return p
}

func (p *process) startHTTP(tb testing.TB, env []string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	cmd := exec.Command(functionBinary(tb))
	cmd.Env, cmd.Stdout, cmd.Stderr = append(env, "PORT="+port), &p.stdout, &p.stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	p.stop = sync.OnceValue(func() error {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case err := <-ended:
			return err
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			return errors.New("the function did not stop")
		}
	})
	tb.Cleanup(func() { _ = p.stop() })
	for deadline := time.Now().Add(20 * time.Second); ; {
		if resp, err := http.Get(url + "/healthz"); err == nil {
			_ = resp.Body.Close()
			break
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the function does not listen: %s", p.stderr.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.invoke = func(payload []byte) ([]byte, string) {
		resp, err := http.Post(url+"/", "application/cloudevents+json", bytes.NewReader(payload))
		if err != nil {
			return nil, err.Error()
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		_, _ = body.ReadFrom(resp.Body)
		if resp.StatusCode != http.StatusOK {
			return body.Bytes(), resp.Status
		}
		return body.Bytes(), ""
	}
}

var runtimes = []string{string(fcd.FCCustom), string(fcd.FCGo1), string(fcd.Lambda), "http"}

// TestSameEventUnderEveryRuntime: the same bytes give the same push, the same
// result event and the same return value.
func TestSameEventUnderEveryRuntime(t *testing.T) {
	t.Parallel()
	event := request("same", 1, func(r *events.Requested) { r.OperationID, r.Priority = "op", events.PriorityBulk })
	want := events.Completed{Outcome: events.Pushed, ClientID: "10.0.0.1@1#a", Attempts: 1, Pushes: 1}
	for _, runtime := range runtimes {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			api, endpoint := world(t, 2)
			p := start(t, runtime, settings(endpoint))
			body, failed := p.invoke(event)
			if failed != "" {
				t.Fatalf("failed: %s %s\n%s", failed, body, p.stderr.String())
			}
			wantBody := fmt.Sprintf(`{"results":[{"eventId":"same","msgId":%q,"outcome":"pushed"}],"deferred":0}`, msgID(1))
			if string(body) != wantBody {
				t.Errorf("return value = %s, want %s", body, wantBody)
			}
			if n := api.Deliveries().ByMessage[msgID(1)]; n != 1 {
				t.Errorf("the message reached a consumer %d times", n)
			}
			again, failed := p.invoke(event)
			if failed != "" || !strings.Contains(string(again), `"duplicate"`) || api.Deliveries().Total != 1 {
				t.Errorf("the redelivery = %s %s with %d deliveries", again, failed, api.Deliveries().Total)
			}
			if err := p.stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
			got := p.stdout.results(t)
			if len(got) != 1 {
				t.Fatalf("%d result events: %s", len(got), p.stdout.String())
			}
			ignore := cmpopts.IgnoreFields(events.Completed{}, "Request", "RequestID", "InvocationID", "ReceivedAt", "DecidedAt", "WaitMs", "CallMs")
			if diff := cmp.Diff(want, got[0], ignore); diff != "" {
				t.Errorf("result event (-want +got):\n%s", diff)
			}
			if got[0].RequestID == "" || got[0].InvocationID == "" || got[0].Request.ID != "same" || got[0].Request.Data.OperationID != "op" {
				t.Errorf("result event = %+v", got[0])
			}
		})
	}
}

// TestEveryEnvelope sends the samples of the trigger package through the whole
// function: each pushes the same message once.
func TestEveryEnvelope(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../internal/trigger/testdata/*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d samples: %v", len(files), err)
	}
	const token = "t0ken-of-the-tests"
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			t.Parallel()
			sample, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			api, endpoint := world(t, 1, func(d *onsd.Data) {
				i := &d.Instances[0]
				i.InstanceID, i.Groups[0].GroupID = "MQ_INST_111122223333_EXAMPLEx", "GID_orders"
				i.Messages[0].MsgIDs = []string{"C0000207109218B4AAC24C2F8E4D0001"}
			})
			f, out := inProcess(t, endpoint, "REPUSH_MAX_AGE=720h", "REPUSH_HTTP_TOKEN="+token)
			answer := f.Handle(t.Context(), platformCall, bytes.ReplaceAll(sample, []byte("t0ken"), []byte(token)))
			if answer.GiveBack {
				t.Fatalf("given back: %s", answer.Reason)
			}
			results := out.results(t)
			if len(results) == 0 || api.Deliveries().Total != 1 && !slices.ContainsFunc(results, func(c events.Completed) bool { return c.Outcome == events.Expired }) {
				t.Errorf("%d deliveries, results %+v\nanswer %s", api.Deliveries().Total, results, answer.Body)
			}
		})
	}
}

func TestWrongSettingsStopTheStartAndAreAllListed(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(functionBinary(t))
	cmd.Env = []string{"REPUSH_QPS=sesame", "REPUSH_TYPO=sesame"}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 {
		t.Fatalf("start = %v, want exit status 2", err)
	}
	for _, want := range []string{"REPUSH_REGION", "REPUSH_ALLOW", "REPUSH_QPS", "REPUSH_TYPO"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%s is not named in:\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "sesame") {
		t.Errorf("a value is shown:\n%s", out)
	}
}

// TestStopRecordsWhatIsInFlight: SIGTERM while listeners work ends cleanly, with
// the results of the pushes under way.
func TestStopRecordsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	for _, runtime := range runtimes {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			answer := stopInFlight(t, runtime)
			// The SDK of go1 has 200 ms for its last answer, in which a busy machine may do
			// something else.
			for range 3 {
				if strings.Contains(answer, "fcd.Exit") {
					answer = stopInFlight(t, runtime)
				}
			}
			if !strings.Contains(answer, `"pushed"`) {
				t.Errorf("the call in flight was answered with %s", answer)
			}
		})
	}
}

// stopInFlight stops a function while a listener works, and returns the answer of that
// call.
func stopInFlight(t *testing.T, runtime string) string {
	t.Helper()
	api, endpoint := world(t, 1, func(d *onsd.Data) { slow(d, time.Second) })
	p := start(t, runtime, settings(endpoint))
	answered := make(chan string, 1)
	go func() {
		body, failed := p.invoke(request("slow", 0))
		answered <- string(body) + failed
	}()
	for api.Deliveries().Total == 0 {
		select {
		case a := <-answered:
			t.Fatalf("answered before the listener got it: %s\n%s", a, p.stderr.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := p.stop(); err != nil {
		t.Errorf("stop: %v\n%s", err, p.stderr.String())
	}
	if got := p.stdout.results(t); len(got) != 1 || got[0].Outcome != events.Pushed {
		t.Errorf("results after the stop = %+v", got)
	}
	return <-answered
}

// TestNoSecretLeaves plays every fault at debug level and looks through all
// output and answers.
func TestNoSecretLeaves(t *testing.T) {
	t.Parallel()
	errorOf := func(status int, code, format string) onsd.Fault {
		return onsd.Fault{Do: "error", Error: onsd.FaultError{Status: status, Code: code, Message: "m", Format: format}}
	}
	faults := []onsd.Fault{
		errorOf(400, "Throttling.User", ""), errorOf(403, "Forbidden.RAM", ""), errorOf(500, "InternalError", ""), errorOf(503, "ServiceUnavailable", ""),
		errorOf(400, "InvalidTimeStamp.Expired", ""), errorOf(400, "SignatureNonceUsed", ""), errorOf(404, "InvalidAccessKeyId.NotFound", ""),
		errorOf(400, "InvalidSecurityToken.Expired", ""), errorOf(400, "ONS_SYSTEM_ERROR", ""), errorOf(400, "BIZ_NO_MESSAGE", ""),
		errorOf(502, "", "html"), errorOf(500, "", "xml"), errorOf(200, "", "empty"), errorOf(400, "", "numericCode"), errorOf(200, "ONS_INVOKE_ERROR", ""),
		{Do: "cut"}, {Do: "cut", When: "after"}, {Do: "truncated"}, {Do: "contentType"}, {Do: "huge"}, {Do: "redirect", Location: "http://127.0.0.1:1/sesame-redirect"},
	}
	outcomes := map[events.Outcome]int{}
	api, endpoint := world(t, len(faults)+2, func(d *onsd.Data) {
		d.Credentials[0].SecurityToken = "sesame-token"
		for i, f := range faults {
			f.API, f.MsgID, f.Count = "OnsMessagePush", msgID(i), 1
			d.Faults = append(d.Faults, f)
		}
	})
	p := start(t, string(fcd.FCCustom), settings(endpoint, "ALIBABA_CLOUD_SECURITY_TOKEN=sesame-token", "REPUSH_HTTP_TOKEN=sesame-http-token"))
	var answers output
	var wg sync.WaitGroup
	for i := range len(faults) + 1 {
		wg.Go(func() {
			body, failed := p.invoke(request(fmt.Sprint(i), i))
			fmt.Fprintln(&answers, string(body), failed)
		})
	}
	wg.Wait()
	// Wrong secret: the gateway echoes the string to sign.
	p.fcd.SetCredentials(fcd.Credentials{AccessKeyID: keyID, AccessKeySecret: "sesame-wrong", SecurityToken: "sesame-token"})
	body, failed := p.invoke(request("wrong secret", len(faults)+1))
	fmt.Fprintln(&answers, string(body), failed)
	if failed == "" {
		t.Errorf("a push with the wrong secret was answered with %s", body)
	}
	if err := p.stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	for _, c := range p.stdout.results(t) {
		outcomes[c.Outcome]++
	}
	if outcomes[events.Pushed] == 0 || outcomes[events.Unknown] < 8 || outcomes[events.Failed] < 2 {
		t.Errorf("outcomes = %v: the faults were not played", outcomes)
	}
	if api.Calls("OnsMessagePush").Refused+api.Calls("OnsMessagePush").Accepted < len(faults) {
		t.Errorf("only %+v calls were made", api.Calls("OnsMessagePush"))
	}
	for name, text := range map[string]string{"stdout": p.stdout.String(), "stderr": p.stderr.String(), "answers": answers.String()} {
		if text == "" {
			t.Errorf("%s is empty", name)
		}
		for _, word := range []string{"sesame", "Signature=", "SignatureNonce=", "AccessKeyId="} {
			if at := strings.Index(text, word); at >= 0 {
				t.Errorf("%s shows %q: …%s…", name, word, text[max(0, at-120):min(len(text), at+120)])
			}
		}
	}
}

// TestOutsidersGetNowhere: under Function Compute nobody but the platform gets
// in without the token, whatever headers he brings.
func TestOutsidersGetNowhere(t *testing.T) {
	t.Parallel()
	api, endpoint := world(t, 3)
	p := start(t, string(fcd.FCCustom), settings(endpoint, "REPUSH_HTTP_TOKEN=0123456789abcdef"))
	url := p.fcd.URL()
	for name, test := range map[string]struct {
		path   string
		header http.Header
		status int
	}{
		"no token":                        {"/", nil, 401},
		"wrong token":                     {"/", http.Header{"Authorization": {"Bearer 0123456789abcdeX"}}, 401},
		"the platform's header elsewhere": {"/", http.Header{"X-Fc-Control-Path": {"/invoke"}}, 401},
		"the platform's header, twice":    {"/invoke", http.Header{"X-Fc-Control-Path": {"/invoke", "/invoke"}}, 401},
		"an HTTP trigger":                 {"/invoke", http.Header{"X-Fc-Control-Path": {"/http-invoke"}}, 401},
		"credentials in headers": {"/", http.Header{
			"X-Fc-Access-Key-Id": {keyID}, "X-Fc-Access-Key-Secret": {secret}, "Authorization": {"Bearer 0123456789abcdef"}}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequest(http.MethodPost, url+test.path, bytes.NewReader(request(name, 0)))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = test.header.Clone()
			if req.Header == nil {
				req.Header = http.Header{}
			}
			req.Header.Set("Content-Type", "application/cloudevents+json")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != test.status {
				t.Errorf("status %d, want %d", resp.StatusCode, test.status)
			}
		})
	}
	if n := api.Deliveries().Total; n != 1 {
		t.Errorf("%d messages were pushed, want the one with the token", n)
	}
}

// TestPermissionGivenLater: refused for a missing permission, asked again under
// a new event once it is given: pushed.
func TestPermissionGivenLater(t *testing.T) {
	t.Parallel()
	api, endpoint := world(t, 1)
	api.SetDenied(keyID, "OnsMessagePush")
	f, out := inProcess(t, endpoint)
	for i, want := range []events.Outcome{events.Failed, events.Pushed, events.Duplicate} {
		f.Handle(t.Context(), platformCall, request(fmt.Sprint(i), 0))
		results := out.results(t)
		if got := results[len(results)-1]; got.Outcome != want || want == events.Failed && !strings.Contains(got.Hint, "mq:SUB") {
			t.Errorf("request %d = %+v, want %s", i, got, want)
		}
		api.SetDenied(keyID)
	}
}

// TestMalformedInput: no call, a clear answer, and the process lives.
func TestMalformedInput(t *testing.T) {
	t.Parallel()
	api, endpoint := world(t, 1)
	f, out := inProcess(t, endpoint)
	good := string(request("a", 0))
	bad := map[string][]byte{
		"empty":          {},
		"NUL":            {0},
		"cut":            []byte(good[:len(good)/2]),
		"a number":       []byte("42"),
		"deep":           []byte(strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100)),
		"huge":           []byte(`{"a":"` + strings.Repeat("x", events.MaxEventBytes) + `"}`),
		"wrong type":     []byte(strings.Replace(good, `"GID_x"`, `7`, 1)),
		"ampersand":      []byte(strings.Replace(good, `"GID_x"`, `"GID_x&Topic=other"`, 1)),
		"line feed":      []byte(strings.Replace(good, `"GID_x"`, `"GID_x\r\nHost: other"`, 1)),
		"not ASCII":      []byte(strings.Replace(good, `"GID_x"`, `"GID_ä"`, 1)),
		"unknown field":  []byte(strings.Replace(good, `"reason"`, `"dryrun":true,"reason"`, 1)),
		"another type":   []byte(strings.Replace(good, "repush:Message:Requested", "repush:Message:Requestet", 1)),
		"too many":       []byte("[" + strings.Repeat(good+",", events.MaxBatch) + good + "]"),
		"our own result": []byte(strings.Replace(good, "repush:Message:Requested", "repush:Message:Completed", 1)),
	}
	for name, body := range bad {
		answer := f.Handle(t.Context(), platformCall, body)
		var value struct {
			Results []struct{ Outcome, Message string }
		}
		if err := json.Unmarshal(answer.Body, &value); err != nil || answer.GiveBack {
			t.Fatalf("%s: answer %s, give back %v", name, answer.Body, answer.GiveBack)
		}
		if len(value.Results) != 1 || value.Results[0].Outcome != "rejected" || value.Results[0].Message == "" {
			t.Errorf("%s: %s", name, answer.Body)
		}
	}
	if calls := api.Calls("OnsMessagePush"); calls.Accepted+calls.Refused != 0 {
		t.Errorf("calls were made: %+v", calls)
	}
	if got := len(out.results(t)); got != len(bad)-1 {
		t.Errorf("%d result events, want one for each but our own result", got)
	}
	f.Handle(t.Context(), platformCall, []byte(good))
	if api.Deliveries().Total != 1 {
		t.Error("the good event after them was not pushed")
	}
}

// TestOutsidersLearnWhatIsWrong: bytes that are no event are answered with 400
// and the reason.
func TestOutsidersLearnWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, endpoint := world(t, 1)
	f, out := inProcess(t, endpoint)
	for _, body := range []string{"", "{", "[1]", "<xml/>", `{"a":1}`} {
		answer := f.Handle(t.Context(), serve.Invocation{ID: "outsider"}, []byte(body))
		if !answer.NotAnEvent || !strings.Contains(string(answer.Body), `"errorMessage":"`) || len(out.results(t)) != 0 {
			t.Errorf("%q: %+v %s", body, answer, answer.Body)
		}
	}
}

// TestResultsToTheCloudAreSignedByTheInvocation: with a role, the credentials of
// each invocation sign its results too.
func TestResultsToTheCloudAreSignedByTheInvocation(t *testing.T) {
	t.Parallel()
	_, endpoint := world(t, 2)
	type call struct {
		authorization, token, body string
	}
	calls := make(chan call, 2)
	bus := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		calls <- call{r.Header.Get("Authorization"), r.Header.Get("x-acs-security-token"), body.String()}
		fmt.Fprint(w, `{"RequestId":"r","FailedEntryCount":0}`)
	}))
	defer bus.Close()
	f, _ := inProcess(t, endpoint, "REPUSH_RESULTS=eventbridge://"+bus.Listener.Addr().String()+"/results")
	for i, key := range []string{"first", "second"} {
		in := serve.Invocation{ID: key, Platform: true, Credentials: serve.Credentials{AccessKeyID: key, AccessKeySecret: "s", SecurityToken: "token of " + key}}
		f.Handle(t.Context(), in, request(key, i, func(r *events.Requested) { r.NotAfter = time.Unix(1, 0) }))
		var got call
		select {
		case got = <-calls:
		default:
			t.Fatal("no result was sent")
		}
		if !strings.HasPrefix(got.authorization, "acs:"+key+":") || got.token != "token of "+key || !strings.Contains(got.body, `"aliyuneventbusname":"results"`) {
			t.Errorf("call of %s = %+v", key, got)
		}
	}
}

// TestStartUpLine: one line says what is in force, with secrets as set or unset.
func TestStartUpLine(t *testing.T) {
	t.Parallel()
	_, endpoint := world(t, 1)
	p := start(t, string(fcd.FCCustom), settings(endpoint, "REPUSH_HTTP_TOKEN=0123456789abcdef"))
	_ = p.stop()
	var line struct {
		Settings map[string]string
		Msg      string
	}
	first, _, _ := strings.Cut(p.stderr.String(), "\n")
	if err := json.Unmarshal([]byte(first), &line); err != nil {
		t.Fatalf("first line %q: %v", first, err)
	}
	if line.Msg != "repush started" || line.Settings["REPUSH_HTTP_TOKEN"] != "set" || line.Settings["REPUSH_QPS"] != "10" || line.Settings["REPUSH_ONS_ENDPOINT"] != "set" {
		t.Errorf("start-up line = %s", first)
	}
}
