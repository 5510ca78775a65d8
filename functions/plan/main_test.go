package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/wiring"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// builder builds a function, once for each set of tags.
func builder(name, tags, folder string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		path := filepath.Join(binaries, name)
		out, err := exec.Command("go", "build", "-tags", tags, "-o", path, folder).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
		return path, nil
	})
}

var (
	binaries     string
	binary       = builder("plan", "lambda.norpc", ".")
	crashBinary  = builder("plan-crash", "lambda.norpc,crash", ".")
	repushBinary = builder("repush", "lambda.norpc", "../repush")
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "4") // they wait more than they work; -parallel wins
	var err error
	if binaries, err = os.MkdirTemp("", "plan-test-"); err != nil {
		panic(err)
	}
	status := m.Run()
	_ = os.RemoveAll(binaries)
	os.Exit(status)
}

const (
	instance = "MQ_INST_1_test"
	secret   = "sesame-secret"
	keyID    = "sesame-key"
	body     = "sesame-body"
	webhook  = "sesame-webhook-token"
)

func msgID(i int) string { return fmt.Sprintf("%032X", i) }

// world has dead letters of messages that are a day old; their number is count.
func world(tb testing.TB, count int, change ...func(*onsd.Data)) (*onsd.Server, *onsd.Endpoint) {
	tb.Helper()
	ids := make([]string, count)
	for i := range ids {
		ids[i] = msgID(i)
	}
	d := &onsd.Data{
		Region:      "cn-hangzhou",
		Credentials: []onsd.Credential{{AccessKeyID: keyID, AccessKeySecret: secret}},
		Quotas:      map[string]onsd.Quota{"*": {Kind: "none"}},
		Instances: []onsd.Instance{{
			InstanceID: instance, Topics: []string{"orders"},
			Messages: []onsd.Message{{Topic: "orders", MsgIDs: ids, StoredAt: onsd.Moment{Age: 24 * time.Hour}, Body: body}},
			Groups: []onsd.Group{{
				GroupID: "GID_x", Clients: []onsd.Client{{ClientID: "10.0.0.1@1#a"}},
				DeadLetters: []onsd.DeadLetter{{Topic: "orders", MsgIDs: ids, StoredAt: onsd.Moment{Age: 19 * time.Hour}}},
			}},
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

// inbox is a sink that takes events over HTTP.
type inbox struct {
	*httptest.Server
	mu     sync.Mutex
	events []events.Event
	// status, if set, refuses.
	status int
}

func newInbox(tb testing.TB) *inbox {
	in := new(inbox)
	in.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		in.mu.Lock()
		defer in.mu.Unlock()
		if in.status != 0 {
			w.WriteHeader(in.status)
			return
		}
		e, bad := events.Decode(raw)
		if err != nil || bad != nil {
			tb.Errorf("not an event: %v %v", err, bad)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		in.events = append(in.events, e)
	}))
	tb.Cleanup(in.Close)
	return in
}

// requests are those that came, one of each id, and how many came in all.
func (in *inbox) requests(tb testing.TB) (all []events.Requested, total int) {
	tb.Helper()
	in.mu.Lock()
	defer in.mu.Unlock()
	seen := make(map[string]bool)
	for _, e := range in.events {
		r, err := events.DecodeRequested(e.Data)
		if err != nil {
			tb.Fatalf("a request breaks the contract: %v", err)
		}
		if !seen[e.ID] {
			seen[e.ID] = true
			all = append(all, r)
		}
	}
	return all, len(in.events)
}

// settings are those of plan; repush takes no notice of plan's own.
func settings(endpoint *onsd.Endpoint, requests *inbox, more ...string) []string {
	return append([]string{
		"REPUSH_REGION=cn-hangzhou", "REPUSH_ONS_ENDPOINT=" + endpoint.URL, "REPUSH_ALLOW=*/*/*", "REPUSH_LOG_LEVEL=debug", "REPUSH_REQUESTS=" + requests.URL,
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

// manifests stops the process, for what it printed is whole only then, and puts
// those that are among the lines together.
func (p process) manifests(tb testing.TB) (all []events.Planned) {
	tb.Helper()
	_ = p.Stop(context.Background()) // a killed one has stopped
	parts := make(map[string][]events.Planned)
	for line := range strings.Lines(p.out.String()) {
		e, err := events.Decode([]byte(line))
		if err != nil || e.Type != events.TypePlanCompleted {
			continue
		}
		p, err := events.DecodePlanned(e.Data)
		if err != nil {
			tb.Fatalf("a plan breaks the contract: %v", err)
		}
		if len(e.Data) > events.MaxPartBytes {
			tb.Fatalf("a part of %d bytes", len(e.Data))
		}
		parts[p.IncidentID+p.OperationID] = append(parts[p.IncidentID+p.OperationID], p)
	}
	for _, of := range parts {
		p, err := events.Manifest(of...)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// process is the function under a runtime.
type process struct {
	*fcd.Function
	out, log *output
}

func start(tb testing.TB, build func() (string, error), runtime fcd.Runtime, timeout time.Duration, env []string, change ...func(*fcd.Options)) process {
	tb.Helper()
	path, err := build()
	if err != nil {
		tb.Fatal(err)
	}
	p := process{out: new(output), log: new(output)}
	o := fcd.Options{Binary: path, Runtime: runtime, Env: env, Timeout: timeout, Stdout: p.out, Stderr: p.log}
	for _, c := range change {
		c(&o)
	}
	p.Function, err = fcd.Start(tb.Context(), o)
	if err != nil {
		tb.Fatalf("%v\n%s", err, p.log)
	}
	tb.Cleanup(func() {
		_ = p.Stop(context.Background())
		if printed := p.out.String() + p.log.String(); strings.Contains(printed, "sesame") {
			tb.Errorf("a secret, or a message's body, was printed:\n%s", printed)
		}
	})
	return p
}

// call invokes it and reads its answer.
func (p process) call(tb testing.TB, payload []byte) planning.Report {
	tb.Helper()
	response, err := p.Invoke(tb.Context(), payload)
	if err != nil || response.FunctionError != "" {
		tb.Fatalf("%v %s %s\n%s", err, response.FunctionError, response.Payload, p.log)
	}
	var r planning.Report
	if err := json.Unmarshal(response.Payload, &r); err != nil {
		tb.Fatalf("%v: %s", err, response.Payload)
	}
	return r
}

// alert is what CloudMonitor writes into a queue, as EventBridge delivers it.
func alert(tb testing.TB, metric, state string) []byte { return alertOf(tb, instance, metric, state) }

func alertOf(tb testing.TB, instance, metric, state string) []byte {
	tb.Helper()
	raw, err := os.ReadFile("../../events/samples/alerts/cloudmonitor-mns-queue.json")
	if err != nil {
		tb.Fatal(err)
	}
	text := strings.NewReplacer("MQ_INST_111122223333_EXAMPLEx", instance, "GID_orders", "GID_x").Replace(string(raw))
	text = strings.ReplaceAll(text, "ConsumerLagPerGidTopic", metric)
	if state != "" {
		text = strings.ReplaceAll(text, `curLevel\": \"WARN`, `curLevel\": \"`+state)
	}
	if !strings.Contains(text, metric) || !strings.Contains(text, instance) || !strings.Contains(text, state) {
		tb.Fatalf("the sample has not what is needed: %s", text)
	}
	return []byte(text)
}

func planEvent(tb testing.TB, id string, p events.Plan) []byte {
	tb.Helper()
	p.InstanceID, p.GroupID, p.Reason = instance, "GID_x", "ticket 4711"
	data, _ := json.Marshal(p)
	raw, err := json.Marshal(events.Event{ID: id, Source: "test", Type: events.TypePlanRequested, Data: data})
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func sweepEvent() []byte {
	return []byte(`{"specversion":"1.0","id":"every-minute","source":"repush/timer","type":"repush:Sweep:Requested"}`)
}

// TestFromAlertToRequests under every runtime: the dead letters are found from
// the alert alone; a repeat adds nothing, and OK nothing either.
func TestFromAlertToRequests(t *testing.T) {
	t.Parallel()
	for _, runtime := range []fcd.Runtime{fcd.FCCustom, fcd.FCGo1, fcd.Lambda} {
		t.Run(string(runtime), func(t *testing.T) {
			t.Parallel()
			_, api := world(t, 120)
			in := newInbox(t)
			p := start(t, binary, runtime, 20*time.Second, settings(api, in))
			if r := p.call(t, alert(t, "SendDLQMessageCountPerGid", "OK")); r.Requests != 0 || r.Message == "" {
				t.Errorf("OK: %+v", r)
			}
			r := p.call(t, alert(t, "SendDLQMessageCountPerGid", ""))
			if r.Requests != 120 || r.Manifest == nil || r.Manifest.Count != 120 || r.OperationID == "" || r.Manifest.Incomplete != "" {
				t.Fatalf("report %+v\n%s", r, p.log)
			}
			if again := p.call(t, alert(t, "SendDLQMessageCountPerGid", "")); again.Requests != 0 || again.OperationID != r.OperationID {
				t.Errorf("a repeat: %+v", again)
			}
			requests, total := in.requests(t)
			plans := p.manifests(t)
			if len(requests) != 120 || total != 120 || len(plans) != 1 || plans[0].SHA256 != r.Manifest.SHA256 || len(plans[0].Entries) != 120 {
				t.Errorf("%d requests of %d events, %d plans", len(requests), total, len(plans))
			}
			if q := requests[0]; q.OperationID != r.OperationID || q.Topic != "orders" || time.Since(q.StoredAt) < 23*time.Hour || q.Priority != events.PriorityAlert {
				t.Errorf("request %+v", q)
			}
		})
	}
}

// TestEveryFormOfAlert reaches the plan: each sample, as its platform delivers it,
// belongs to an incident.
func TestEveryFormOfAlert(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../events/samples/alerts/*")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d samples, %v", len(files), err)
	}
	_, api := world(t, 1, func(d *onsd.Data) {
		d.Instances[0].InstanceID, d.Instances[0].Groups[0].GroupID = "MQ_INST_111122223333_EXAMPLEx", "GID_orders"
	})
	in := newInbox(t)
	p := start(t, binary, fcd.FCCustom, 20*time.Second, settings(api, in, "REPUSH_WEBHOOK_TOKEN="+webhook))
	incidents := regexp.MustCompile(`\\?"incidentId\\?":\\?"[0-9a-f]{32}`)
	several := map[string]int{"alertmanager-watchdog.json": 0, "alertmanager.json": 2}
	total := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		response, err := p.Invoke(t.Context(), bytes.ReplaceAll(raw, []byte("al3rt"), []byte(webhook)))
		if err != nil || response.FunctionError != "" {
			t.Fatalf("%s: %v %s %s", file, err, response.FunctionError, response.Payload)
		}
		want, is := several[filepath.Base(file)]
		if !is {
			want = 1
		}
		total += want
		if got := len(incidents.FindAll(response.Payload, -1)); got != want && string(response.Payload) != `{"batchItemFailures":[]}` {
			t.Errorf("%s: %d incidents, want %d: %s", file, got, want, response.Payload)
		}
	}
	if requests, _ := in.requests(t); len(requests) == 0 {
		t.Error("no requests")
	}
	_ = p.Stop(context.Background())
	if got := len(incidents.FindAllString(p.log.String(), -1)); got != total {
		t.Errorf("%d lines of the log name an incident, want %d", got, total)
	}
}

// TestWebhook: over plain HTTP the webhook's token admits alerts and nothing else.
func TestWebhook(t *testing.T) {
	t.Parallel()
	_, api := world(t, 3)
	in := newInbox(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	var log output
	url := serveHTTP(t, path, &log, settings(api, in, "REPUSH_WEBHOOK_TOKEN="+webhook, "REPUSH_HTTP_TOKEN=another-token-of-ours")...)
	form := "alertName=dead&alertState=ALERT&curValue=5&dimensions=%7BuserId%3D1%2C+instanceId%3D" + instance + "%2C+groupId%3DGID_x%7D&expression=x&metricName=SendDLQMessageCountPerGid&namespace=acs_rocketmq&timestamp=1700000000000&userId=1"
	post := func(query, header, contentType, text string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/"+query, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", contentType)
		if header != "" {
			req.Header.Set("X-Repush-Token", header)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		answer, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(answer)
	}
	const forms = "application/x-www-form-urlencoded"
	for name, test := range map[string]struct {
		query, header, contentType, text string
		status                           int
		says                             string
	}{
		"no token":             {"", "", forms, form, http.StatusUnauthorized, ""},
		"a wrong token":        {"?token=guessed-guessed-guessed", "", forms, form, http.StatusUnauthorized, ""},
		"a plan by the token":  {"?token=" + webhook, "", "application/json", string(planEvent(t, "p", events.Plan{Source: events.DeadLetters})), http.StatusUnauthorized, "Unauthorized"},
		"a sweep by the token": {"?token=" + webhook, "", "application/json", string(sweepEvent()), http.StatusUnauthorized, "Unauthorized"},
	} {
		status, answer := post(test.query, test.header, test.contentType, test.text)
		if status != test.status || !strings.Contains(answer, test.says) {
			t.Errorf("%s: %d %s", name, status, answer)
		}
	}
	if requests, _ := in.requests(t); len(requests) != 0 {
		t.Fatalf("%d requests without the token", len(requests))
	}
	if status, answer := post("?token="+webhook, "", forms, form); status != http.StatusOK || !strings.Contains(answer, `"requests":3`) {
		t.Errorf("an alert with the token: %d %s", status, answer)
	}
	if status, answer := post("", webhook, forms, form); status != http.StatusOK || !strings.Contains(answer, `"requests":0`) {
		t.Errorf("a repeat with the header: %d %s", status, answer)
	}
	if strings.Contains(log.String(), webhook) {
		t.Error("the token is in the log")
	}
}

// serveHTTP runs the function as a plain HTTP server until the test ends.
func serveHTTP(t *testing.T, path string, log io.Writer, env ...string) (url string) {
	t.Helper()
	l, err := httpPort()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.WaitDelay = append(env, "PORT="+l), log, log, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url = "http://127.0.0.1:" + l
	for range 500 {
		if resp, err := http.Get(url + "/healthz"); err == nil {
			_ = resp.Body.Close()
			return url
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Fatalf("it does not answer\n%s", log)
	return ""
}

// httpPort is a free one.
func httpPort() (string, error) {
	s := httptest.NewServer(nil)
	defer s.Close()
	_, port, found := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	if !found {
		return "", errors.New("no port")
	}
	return port, nil
}

// TestLogLevels: what somebody should look at is a warning.
func TestLogLevels(t *testing.T) {
	t.Parallel()
	why := errors.New("why")
	for level, lines := range map[string][]planning.Line{
		"info":    {{}, {Parked: true, Err: why}},
		"warning": {{Outcome: events.Failed}, {Deferred: true}, {Err: why}},
	} {
		for _, line := range lines {
			var out bytes.Buffer
			logPlan(wiring.NewLogger(&out, "info"), line)
			if !strings.Contains(out.String(), `"level":"`+level+`"`) || strings.Contains(out.String(), "why") != (line.Err != nil) {
				t.Errorf("%+v: %s", line, out.String())
			}
		}
	}
}

// TestBadPlans are answered with field and rule, by the return value and an event.
func TestBadPlans(t *testing.T) {
	t.Parallel()
	_, api := world(t, 3)
	in := newInbox(t)
	p := start(t, binary, fcd.FCCustom, 20*time.Second, settings(api, in))
	for name, test := range map[string]struct{ payload, says string }{
		"ids without topic": {string(planEvent(t, "a", events.Plan{Source: events.ByIDs, IDs: []string{msgID(1)}})), "topic"},
		"unknown field":     {strings.Replace(string(planEvent(t, "b", events.Plan{Source: events.DeadLetters})), `"source":"dead`, `"dryrun":true,"source":"dead`, 1), "dryrun"},
		"a request":         {`{"specversion":"1.0","id":"x","source":"test","type":"repush:Message:Requested","data":{}}`, "functions/repush"},
		"our own result":    {`{"specversion":"1.0","id":"x","source":"ons-repush/plan","type":"repush:Plan:Completed","data":{}}`, "came back"},
		"not JSON":          {"sixty dead letters", ""},
	} {
		if r := p.call(t, []byte(test.payload)); r.Requests != 0 || r.Code == "" || !strings.Contains(r.Message, test.says) {
			t.Errorf("%s: %+v", name, r)
		}
	}
	plans := p.manifests(t)
	if !slices.ContainsFunc(plans, func(p events.Planned) bool { return strings.Contains(p.Message, "topic") && p.Count == 0 }) {
		t.Errorf("no event says what was wrong: %+v", plans)
	}
}

// TestPagesThatMove through the real API's pages: the manifest is right, or says
// that it is not complete.
// Whoever starts plan with two wrong targets learns of both, and by which setting.
func TestWrongTargetsAreNamedByTheirSetting(t *testing.T) {
	t.Parallel()
	environ := []string{"REPUSH_REGION=cn-hangzhou", "REPUSH_ALLOW=i/gg/*", "REPUSH_RESULTS=eventbridge://bus", "REPUSH_REQUESTS=mns://queue"}
	var log bytes.Buffer
	p := wiring.Process{Function: config.Plan, Environ: environ, Getenv: func(string) string { return "" }, Stdout: io.Discard}
	status := wiring.Run(t.Context(), p, &log, build)
	for _, want := range []string{"REPUSH_RESULTS: sink 1: eventbridge: account", "REPUSH_REQUESTS: sink 1: mns: account"} {
		if status != wiring.ExitSettings || !strings.Contains(log.String(), `"problem":"`+want) {
			t.Errorf("exit %d without %q:\n%s", status, want, log.String())
		}
	}
}

func TestPagesThatMove(t *testing.T) {
	t.Parallel()
	const op, count = "OnsDLQMessagePageQueryByGroupId", 300
	throttled := onsd.FaultError{Status: 400, Code: "Throttling.User", Message: "later"}
	for name, test := range map[string]struct {
		faults     []onsd.Fault
		tasks      onsd.TaskLife
		incomplete bool
	}{
		"nothing happens":        {},
		"a dead letter comes":    {faults: []onsd.Fault{{API: op, Nth: 3, Shift: 1}}},
		"the oldest goes":        {faults: []onsd.Fault{{API: op, Nth: 3, Shift: -1}}},
		"a page is repeated":     {faults: []onsd.Fault{{API: op, Nth: 4, Shift: 50}}},
		"a page vanishes":        {faults: []onsd.Fault{{API: op, Nth: 3, Do: "error", Error: onsd.FaultError{Status: 400, Code: "BIZ_NO_MESSAGE", Message: "none"}}}},
		"throttled":              {faults: []onsd.Fault{{API: op, Nth: 2, Count: 2, Do: "error", Error: throttled}}},
		"a task ends too early":  {tasks: onsd.TaskLife{Pages: 3}, incomplete: true},
		"cut in the middle":      {faults: []onsd.Fault{{API: op, Nth: 5, Do: "cut"}}},
		"it changes every time":  {faults: []onsd.Fault{{API: op, Nth: 1, Count: -1, Shift: 1}}, incomplete: true},
		"an answer is truncated": {faults: []onsd.Fault{{API: op, Nth: 5, Do: "truncated"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, api := world(t, count, func(d *onsd.Data) {
				d.Faults, d.Tasks = test.faults, test.tasks
				d.Instances[0].Groups[0].DeadLetters[0].Every = time.Second
			})
			p := start(t, binary, fcd.FCCustom, 20*time.Second, settings(api, newInbox(t)))
			r := p.call(t, alert(t, "SendDLQMessageCountPerGid", ""))
			if r.Manifest == nil || (r.Manifest.Incomplete != "") != test.incomplete {
				t.Fatalf("%+v %+v", r, r.Manifest)
			}
			missing := count - r.Manifest.Count
			if gone := strings.Contains(name, "goes"); !test.incomplete && missing != 0 && !(gone && missing == 1) {
				t.Errorf("%d of %d", r.Manifest.Count, count)
			}
		})
	}
}
