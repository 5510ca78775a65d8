package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
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

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
)

// function and planBinary build a function once for all tests.
var (
	function   = sync.OnceValues(func() (string, error) { return buildOnce(repushFunction) })
	planBinary = sync.OnceValues(func() (string, error) { return buildOnce(planFunction) })
)

func buildOnce(name string) (string, error) {
	dir, err := os.MkdirTemp("", "repush-test-")
	if err != nil {
		return "", err
	}
	return buildFunction(context.Background(), dir, name)
}

// asCommand makes this test binary the command itself, for tests that kill it.
const asCommand = "ONS_REPUSH_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		_ = os.Unsetenv(asCommand)
		main()
	}
	status := m.Run()
	for _, binary := range []func() (string, error){function, planBinary} {
		if path, err := binary(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(status)
}

// selfCommand is a command line as a process of its own, with an operator's
// environment.
func selfCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(operatorEnv(os.Environ()), asCommand+"=1", "XDG_STATE_HOME="+os.Getenv("XDG_STATE_HOME"))
	return cmd
}

// buffer is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// repush runs one command line.
func repush(ctx context.Context, stdin string, args ...string) (status int, stdout, stderr string) {
	var out, errs buffer
	status = execute(ctx, newRoot(), args, strings.NewReader(stdin), &out, &errs)
	return status, out.String(), errs.String()
}

func built(t *testing.T) string {
	t.Helper()
	path, err := function()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func builtPlan(t *testing.T) string {
	t.Helper()
	path, err := planBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDemo: from the alert alone, every one of the 25 ends as the scenario says, the two that no plan may
// ask for by hand; the stand-in counts one delivery each, and the repeated alert adds
// nothing.
func TestDemo(t *testing.T) {
	t.Parallel()
	status, stdout, stderr := repush(t.Context(), "", "demo", "--json", "--bin", built(t), "--plan-bin", builtPlan(t))
	if status != exitDone {
		t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
	}
	var report demoReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	outcomes, deliveries := map[events.Outcome]int{}, 0
	for _, row := range report.Rows {
		outcomes[row.Outcome] += row.Requests
		deliveries += row.Deliveries
	}
	if report.Requests != 25 || outcomes[events.Pushed] != 22 || outcomes[events.Unknown] != 1 || outcomes[events.Expired] != 1 || outcomes[events.Failed] != 1 {
		t.Errorf("outcomes = %v of %d requests", outcomes, report.Requests)
	}
	if deliveries != 23 || len(report.Twice) != 0 || len(report.Results) != 25 {
		t.Errorf("%d deliveries, %d results, twice: %v", deliveries, len(report.Results), report.Twice)
	}
	p := report.Plan
	if p.Requests != 23 || p.Manifest.Count != 23 || p.Manifest.Incomplete != "" || p.Manifest.DryRun || p.Repeat != "Joined" || p.RepeatAdded != 0 {
		t.Errorf("plan: %+v", p)
	}
	if out := p.Manifest.LeftOut; len(out) != 1 || out[0].Reason != "origin expired: resend only" || len(out[0].MsgIDs) != 1 {
		t.Errorf("left out: %+v", out)
	}
	for _, e := range report.Results {
		var c events.Completed
		if err := json.Unmarshal(e.Data, &c); err != nil || c.Request.Source != events.SourcePlan && c.Request.Source != "repush/demo" {
			t.Errorf("%v in %s", err, e.Data)
		}
	}
}

func TestDemoForPeople(t *testing.T) {
	t.Parallel()
	status, stdout, stderr := repush(t.Context(), "", "demo", "--bin", built(t), "--plan-bin", builtPlan(t))
	if status != exitDone {
		t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
	}
	for _, want := range []string{"nothing leaves it", "reached a consumer", `"type": "repush:Message:Completed"`, "what to try next", "23 accepted",
		"alert     SendDLQMessageCountPerGid of GID_billing", "GID_billing: 23 to push, by topic 23 orders", "left out 1: origin expired: resend only", "about 3s at the quota",
		"API calls 2 OnsDLQMessagePageQueryByGroupId", "23 by the plan, 2 by hand", "once more, right after the first: Joined, 0 requests"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in:\n%s", want, stdout)
		}
	}
}

// TestDemoCrash: killed half-way, each of the 25 has one result, as scripted or,
// if it was under way, unknown; the stand-in counts no message twice. 45 s are
// allowed.
func TestDemoCrash(t *testing.T) {
	t.Parallel()
	began := time.Now()
	status, stdout, stderr := repush(t.Context(), "", "demo", "--crash", "--json", "--bin", built(t), "--plan-bin", builtPlan(t))
	var report demoReport
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("status %d, %v in %s\n%s", status, err, stdout, stderr)
	}
	if status != exitDone || !report.AsExpected || !strings.Contains(stderr, "SIGKILL") || report.InFlight == 0 || time.Since(began) > 45*time.Second {
		t.Errorf("status %d, as expected %v, twice %v, %d under way, %s\n%s", status, report.AsExpected, report.Twice, report.InFlight, time.Since(began), stderr)
	}
	requests := make(map[string]bool)
	for _, e := range report.Results {
		var c events.Completed
		if err := json.Unmarshal(e.Data, &c); err != nil || !c.Durable || requests[c.Request.ID] {
			t.Errorf("%v, or a second result, or not durable: %+v", err, c)
		}
		requests[c.Request.ID] = true
	}
	deliveries := 0
	for _, row := range report.Rows {
		deliveries += row.Deliveries
	}
	if len(requests) != 25 || deliveries > 23 || len(report.Twice) != 0 {
		t.Errorf("%d results, %d deliveries, twice: %v", len(requests), deliveries, report.Twice)
	}
}

// TestDemoReport: what is not as promised is seen as such.
func TestDemoReport(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		label    string // none: stuck
		outcome  events.Outcome
		by       string
		inFlight bool
		results  int
		twice    bool
		repeat   int // requests of the repeated alert
		want     bool
	}{
		"pushed":                         {outcome: events.Pushed, by: byPlan, results: 1, want: true},
		"not by the plan":                {outcome: events.Pushed, by: byHand, results: 1},
		"the repeated alert asked again": {outcome: events.Pushed, by: byPlan, results: 1, repeat: 1},
		"unknown":                        {outcome: events.Unknown, by: byPlan, results: 1},
		"unknown after the kill":         {outcome: events.Unknown, by: byPlan, inFlight: true, results: 1, want: true},
		"a failure cut by the kill":      {label: "unknown topic", outcome: events.Unknown, by: byHand, inFlight: true, results: 1, want: true},
		"no call to be cut":              {label: "expired", outcome: events.Unknown, by: byHand + " (origin expired: resend only)", inFlight: true, results: 1},
		"failed after the kill":          {outcome: events.Failed, by: byPlan, inFlight: true, results: 1},
		"no result":                      {by: byPlan, results: 0},
		"two results":                    {outcome: events.Pushed, by: byPlan, results: 2},
		"delivered twice":                {outcome: events.Pushed, by: byPlan, results: 1, twice: true},
		"twice although it crashed":      {outcome: events.Unknown, by: byPlan, inFlight: true, results: 1, twice: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, err := startStandIn("127.0.0.1:0", "")
			if err != nil {
				t.Fatal(err)
			}
			defer api.Close()
			asks, err := scenario(api.data, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			asks[0].by, asks[0].label = test.by, cmp.Or(test.label, "stuck")
			d := &demo{api: api, asks: asks[:1], plan: demoPlan{RepeatAdded: test.repeat}, results: new(results), inFlight: map[string]bool{}}
			if test.inFlight {
				d.inFlight[asks[0].data.MsgID] = true
			}
			for i := range test.results {
				data, _ := json.Marshal(map[string]any{"outcome": test.outcome, "request": map[string]any{"id": asks[0].event.ID, "data": asks[0].data}})
				line, err := json.Marshal(events.Event{ID: fmt.Sprint(i), Source: "s", Type: events.TypeMessageCompleted, Data: data})
				if err != nil {
					t.Fatal(err)
				}
				_, _ = d.results.Write(append(line, '\n'))
			}
			deliveries := map[string]int{asks[0].data.MsgID: 1}
			if test.twice {
				deliveries[asks[0].data.MsgID] = 2
			}
			if got := d.report(deliveries); got.AsExpected != test.want {
				t.Errorf("as expected: %v, want %v: %+v", got.AsExpected, test.want, got)
			}
		})
	}
}

func TestInvoke(t *testing.T) {
	t.Parallel()
	sample, err := os.ReadFile("../../functions/internal/trigger/testdata/rocketmq-stream.json")
	if err != nil {
		t.Fatal(err)
	}
	event := strings.NewReplacer("MQ_INST_111122223333_EXAMPLEx", "MQ_INST_1380156306793859_BbXbx0Y4", "GID_orders", "GID_billing",
		"C0000207109218B4AAC24C2F8E4D0001", "C000021112CD18B4AAC26E1A0B570001", `\"storedAt\"`, `\"notAfter\"`, "2026-01-02T", "2099-01-02T").Replace(string(sample))
	for _, runtime := range []string{"fc", "fc-custom", "lambda", "http"} {
		t.Run(runtime, func(t *testing.T) {
			t.Parallel()
			status, stdout, stderr := repush(t.Context(), event, "invoke", "-", "--json", "--runtime", runtime, "--bin", built(t))
			var got invocation
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatalf("status %d: %v in %s\n%s", status, err, stdout, stderr)
			}
			if status != exitDone || got.Deliveries == nil || *got.Deliveries != 1 || len(got.Results) != 1 || !strings.Contains(string(got.Answer), `"pushed"`) {
				t.Errorf("status %d: %s\n%s", status, stdout, stderr)
			}
		})
	}
}

// TestInvokeWithALedger: with --state the next invocation knows the last, and the
// control events report on it.
func TestInvokeWithALedger(t *testing.T) {
	t.Parallel()
	offline := strings.NewReplacer("4711", "4712", stuckMessage, "C000021112CD18B4AAC26E1A0B5E0002", `"reason"`, `"clientId":"192.0.2.99@1","reason"`).Replace(sampleEvent)
	control := func(name string) string {
		raw, err := os.ReadFile("../../events/samples/valid/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	state := filepath.Join(t.TempDir(), "ledger")
	for _, step := range []struct {
		event      string
		args       []string
		status     int
		deliveries int
		says       string
	}{
		{sampleEvent, nil, exitDone, 1, `"outcome": "pushed"`},
		{sampleEvent, []string{"--state", "memory"}, exitDone, 1, `"outcome": "pushed"`},
		{sampleEvent, []string{"--state", state}, exitDone, 1, `"durable": true`},
		{sampleEvent, []string{"--state", state, "--runtime", "lambda"}, exitDone, 0, `"outcome": "duplicate"`},
		{offline, []string{"--state", state}, exitPartial, 0, `"deferred": 1`},
		{control("repush-operation-requested.status.json"), []string{"--state", state}, exitDone, 0, `"waiting": 1`},
		{control("repush-sweep-requested.minimal.json"), []string{"--state", state, "--runtime", "http"}, exitDone, 0, `"open": 1`},
		{control("repush-sweep-requested.minimal.json"), nil, exitDone, 0, `"open": 0`},
		{sampleEvent, []string{"--state", t.TempDir() + "/none/ledger"}, exitFailed, 0, "the function did not start: REPUSH_STATE: open the ledger file: no such file or directory"},
		{sampleEvent, []string{"--state", "redis://127.0.0.1"}, exitUsage, 0, "--state: must be a file"},
	} {
		status, stdout, stderr := repush(t.Context(), step.event, append([]string{"invoke", "-", "--json", "--bin", built(t)}, step.args...)...)
		var got invocation
		_ = json.Unmarshal([]byte(stdout), &got)
		deliveries := 0
		if got.Deliveries != nil {
			deliveries = *got.Deliveries
		}
		if status != step.status || deliveries != step.deliveries || !strings.Contains(stdout+stderr, step.says) {
			t.Errorf("%v: status %d, want %d and %q\n%s\n%s", step.args, status, step.status, step.says, stdout, stderr)
		}
	}
}

func TestInvokeTellsPartialFromFailed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stdin  string
		args   []string
		status int
	}{
		"rejected":          {"{}", []string{"invoke", "-"}, exitPartial},
		"no such file":      {"", []string{"invoke", "/nonexistent"}, exitFailed},
		"custom and real":   {"{}", []string{"invoke", "-", "--runtime", "fc-custom", "--ons", "https://ons.example"}, exitFailed},
		"no such runtime":   {"{}", []string{"invoke", "-", "--runtime", "knative"}, exitFailed},
		"no data file":      {"{}", []string{"invoke", "-", "--data", "/nonexistent"}, exitFailed},
		"settings missing":  {"{}", []string{"invoke", "-", "--ons", "http://127.0.0.1:1"}, exitFailed},
		"no file":           {"", []string{"invoke"}, exitUsage},
		"an unknown flag":   {"", []string{"demo", "--fast"}, exitUsage},
		"no such command":   {"", []string{"shove"}, exitUsage},
		"help":              {"", []string{"--help"}, exitDone},
		"a public listener": {"", []string{"onsd", "--listen", "0.0.0.0:0"}, exitFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := test.args
			if args[0] == "invoke" {
				args = append(args, "--bin", built(t))
			}
			status, stdout, stderr := repush(t.Context(), test.stdin, args...)
			if status != test.status || status != exitDone && stdout+stderr == "" {
				t.Errorf("status %d, want %d\n%s\n%s", status, test.status, stdout, stderr)
			}
		})
	}
}

// TestUp: the printed curl command pushes a message, and the stand-in's own
// count shows it.
func TestUp(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs buffer
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, newRoot(), []string{"up", "--bin", built(t)}, strings.NewReader(""), &out, &errs)
	}()
	line := func(prefix string) string {
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			for l := range strings.Lines(errs.String()) {
				if rest, ok := strings.CutPrefix(l, prefix); ok && strings.HasSuffix(l, "\n") {
					return strings.TrimSpace(rest)
				}
			}
		}
		t.Fatalf("no line %q in:\n%s", prefix, errs.String())
		return ""
	}
	push, count := line("push a message"), line("what reached consumers")
	post := func(command, old, new string) string {
		t.Helper()
		url, rest, _ := strings.Cut(strings.TrimPrefix(command, "curl "), " ")
		_, data, _ := strings.Cut(rest, "-d '")
		data = strings.Replace(strings.TrimSuffix(data, "'"), old, new, 1)
		resp, err := http.Post(url, "application/json", strings.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", resp.Status, answer)
		}
		return string(answer)
	}
	if answer := post(push, "", ""); !strings.Contains(answer, `"pushed"`) {
		t.Errorf("answer: %s", answer)
	}
	if answer := post(push, `"reason"`, `"clientId":"192.0.2.99@1","generation":2,"reason"`); !strings.Contains(answer, `"deferred":1`) {
		t.Errorf("nobody to push to: %s", answer)
	}
	if answer := post(line("finish what waits"), "", ""); !strings.Contains(answer, `"left":{"due":0,"open":1}`) {
		t.Errorf("sweep: %s", answer)
	}
	resp, err := http.Get(strings.TrimPrefix(count, "curl "))
	if err != nil {
		t.Fatal(err)
	}
	counted, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if !strings.Contains(string(counted), `"total":1`) {
		t.Errorf("counted: %s", counted)
	}
	cancel()
	if status := <-ended; status != exitDone || !strings.Contains(out.String(), `"outcome":"pushed"`) {
		t.Errorf("status %d, output %s\n%s", status, out.String(), errs.String())
	}
}

// TestBuildsOnlyFromTheSource: outside the clone it says how to go on.
func TestBuildsOnlyFromTheSource(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := buildFunction(t.Context(), t.TempDir(), planFunction); err == nil || !strings.Contains(err.Error(), "functions/plan (run this inside a clone of ons-repush, or name a built one with --bin; to demo that of plan with --plan-bin)") {
		t.Errorf("outside the clone: %v", err)
	}
}

// TestOnsdSaysWhereItIs: the one line of JSON is there before anybody asks.
func TestOnsdSaysWhereItIs(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	var out buffer
	ended := make(chan int, 1)
	go func() {
		ended <- execute(ctx, newRoot(), []string{"onsd", "--listen", "127.0.0.1:0", "--json"}, strings.NewReader(""), &out, io.Discard)
	}()
	for deadline := time.Now().Add(10 * time.Second); !strings.HasSuffix(out.String(), "\n"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no line")
		}
	}
	var where struct{ Ons string }
	if err := json.Unmarshal([]byte(out.String()), &where); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(where.Ons + "/_onsd/deliveries")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	cancel()
	if status := <-ended; status != exitDone || resp.StatusCode != http.StatusOK {
		t.Errorf("status %d, answer %s", status, resp.Status)
	}
}

// TestExamplesNameFilesThatExist: what the help shows can be typed.
func TestExamplesNameFilesThatExist(t *testing.T) {
	t.Parallel()
	found := 0
	for _, cmd := range newRoot().Commands() {
		for word := range strings.FieldsSeq(cmd.Example) {
			if strings.HasPrefix(word, "events/") || strings.HasPrefix(word, "infra/") {
				found++
				if _, err := os.Stat("../../" + word); err != nil {
					t.Errorf("%s: %v", cmd.Name(), err)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no example names a file")
	}
}

// TestExamplesRun: the examples of every command that ends by itself do what the help
// says, typed as they stand, but for the endpoint, the functions, and where files are.
func TestExamplesRun(t *testing.T) {
	api := withAPI(t, "REPUSH_HTTP_TOKEN=sesame-sesame-sesame")
	url := deployed(t, api, "REPUSH_HTTP_TOKEN=sesame-sesame-sesame", "REPUSH_STATE=file:"+filepath.Join(t.TempDir(), "ledger"))
	anywhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer anywhere.Close()
	home := os.Getenv("HOME")
	for name, text := range map[string]string{
		"event.json":    sampleEvent,
		"stuck.csv":     "instanceId,topic,groupId,msgId\nMQ_INST_1380156306793859_BbXbx0Y4,orders,GID_billing," + stuckMessage + "\n",
		"results.jsonl": result(t, events.Failed) + "\n",
	} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	instead := map[string]string{"fc://repush": url, "fc://repush-plan": anywhere.URL, "https://ons.cn-hangzhou.aliyuncs.com": api.URL}
	more := map[string][]string{
		"plan": {"--bin", builtPlan(t), "--ons", api.URL}, "push": {"--bin", built(t), "--ons", api.URL}, "invoke": {"--bin", built(t)},
		"why": {"--ons", api.URL}, "doctor": {"--ons", api.URL},
	}
	isPartial := map[string]bool{"invoke": true, "doctor": true} // somebody else's message; what this machine lacks
	found := make(map[string]int)
	var states []string
	for _, name := range []string{"plan", "push", "invoke", "inject", "resume", "report", "why", "doctor", "stop", "start", "pause", "continue", "cancel", "status"} {
		cmd, _, err := newRoot().Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range examples(cmd) {
			args := words(line)
			for i, arg := range args {
				switch path := filepath.Join(home, arg); {
				case instead[arg] != "":
					args[i] = instead[arg]
				case strings.HasPrefix(arg, "events/"):
					args[i] = "../../" + arg
				case (name == "resume" || name == "report") && (strings.HasPrefix(arg, "inject-") || arg == "./run.jsonl"):
					args[i] = states[0]
				case arg == "ledger" || regexp.MustCompile(`^[a-z]+\.(json|jsonl|csv|html)$`).MatchString(arg):
					args[i] = path
				}
			}
			args = append(args, more[name]...)
			if name == "inject" && slices.Contains(args, "local") {
				args = append(args, "--ons", api.URL, "--bin", built(t))
			}
			if name == "inject" && strings.Contains(line, "--logs") { // of Function Compute alone
				args = slices.DeleteFunc(args, func(arg string) bool { return arg == "--logs" })
			}
			found[name]++
			t.Setenv("REPUSH_ALLOW", map[bool]string{true: "*/*/*"}[slices.Contains(args, api.URL) && name == "invoke"])
			status, stdout, stderr := repush(t.Context(), "", args...)
			if status != exitDone && (status != exitPartial || !isPartial[name] && !strings.Contains(stdout+stderr, " unknown")) {
				t.Errorf("%s: status %d\n%s\n%s", line, status, stdout, stderr)
			}
			if name == "inject" && strings.Contains(line, "--go") {
				states = append(states, stateOf(t, stdout))
			}
			noSecrets(t, stdout, stderr)
		}
	}
	for _, cmd := range newRoot().Commands() {
		if n := found[cmd.Name()]; n == 0 && !slices.Contains([]string{"demo", "onsd", "up"}, cmd.Name()) { // tests of their own run these
			t.Errorf("%s has no example", cmd.Name())
		}
	}
	if len(states) < 2 {
		t.Error("no example of inject has run")
	}
}

// examples are the command lines of a command's help, without what stands before
// repush.
func examples(cmd *cobra.Command) (lines []string) {
	for example := range strings.SplitSeq(strings.ReplaceAll(cmd.Example, "\\\n", ""), "\n") {
		if _, line, typed := strings.Cut(" "+strings.TrimSpace(example), " repush "); typed {
			lines = append(lines, line)
		}
	}
	return lines
}

// words takes a line apart as a shell does with double quotes.
func words(line string) (args []string) {
	for i, quoted := range strings.Split(line, `"`) {
		if i%2 == 1 {
			args = append(args, quoted)
		} else {
			args = append(args, strings.Fields(quoted)...)
		}
	}
	return args
}

// result is a line of results.
func result(t *testing.T, outcome events.Outcome) string {
	t.Helper()
	now := time.Now().UTC()
	e, err := events.NewCompleted(events.Completed{
		Request: events.RequestRef{ID: "1", Source: "test"}, Outcome: outcome, ReceivedAt: now, DecidedAt: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(line)
}

// TestHelpShowsNoSetting: what may hold a password is no default of a flag.
func TestHelpShowsNoSetting(t *testing.T) {
	for _, name := range []string{"REPUSH_ONS_ENDPOINT", "REPUSH_STATE", "REPUSH_REQUESTS", "REPUSH_HTTP_TOKEN"} {
		t.Setenv(name, "https://u:sesame@x.example")
	}
	for _, cmd := range newRoot().Commands() {
		if _, stdout, stderr := repush(t.Context(), "", cmd.Name(), "--help"); strings.Contains(stdout+stderr, "sesame") || stdout == "" {
			t.Errorf("%s --help: %s%s", cmd.Name(), stdout, stderr)
		}
	}
}

// TestCompletion: a shell is told what can be known.
func TestCompletion(t *testing.T) {
	withKeys(t, "", "", "")
	if err := os.MkdirAll(defaultLedger("runs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(defaultLedger("runs"), "inject-20261122-031500-k3v9q2xd-0123456789ab.jsonl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"inject --to ":         "eventbridge://",
		"status --to ":         "fc2://",
		"plan --source ":       "unconsumed",
		"invoke --runtime ":    "lambda",
		"resume ":              "inject-20261122-031500-k3v9q2xd\n",
		"":                     "doctor",
		"inject stuck.csv --r": "--reason",
	} {
		args := append([]string{"__complete"}, strings.Fields(line)...)
		if strings.HasSuffix(line, " ") || line == "" {
			args = append(args, "")
		}
		if _, stdout, stderr := repush(t.Context(), "", args...); !strings.Contains(stdout, want) {
			t.Errorf("%q: %s\n%s", line, stdout, stderr)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if status, stdout, stderr := repush(t.Context(), "", "completion", shell); status != exitDone || !strings.Contains(stdout, "repush") {
			t.Errorf("%s: status %d\n%s", shell, status, stderr)
		}
	}
}

// TestInstalled: what go install makes works far from the source, and says so where it
// needs that.
func TestInstalled(t *testing.T) {
	api := withAPI(t)
	binary := filepath.Join(t.TempDir(), "repush")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "HOME="+goHome)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, test := range map[string]struct {
		args   []string
		path   string // PATH
		status int
		says   string
	}{
		"help":                      {[]string{"--help"}, "", exitDone, "Available Commands"},
		"a version":                 {[]string{"--version"}, "", exitDone, "repush version"},
		"no source":                 {append([]string{"push", "--ons", api.URL}, askFor(stuckMessage)...), os.Getenv("PATH"), exitFailed, "--bin"},
		"no Go either":              {append([]string{"push", "--ons", api.URL}, askFor(stuckMessage)...), "/nowhere", exitFailed, "--bin"},
		"the function by --bin":     {append([]string{"push", "--ons", api.URL, "--bin", built(t)}, askFor(stuckMessage)...), "/nowhere", exitDone, "pushed"},
		"the demo by --bin":         {[]string{"demo", "--bin", built(t), "--plan-bin", builtPlan(t)}, "/nowhere", exitDone, "22"},
		"the demo without a source": {[]string{"demo"}, os.Getenv("PATH"), exitFailed, "--bin"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), binary, test.args...)
			cmd.Dir, cmd.Env = t.TempDir(), append(operatorEnv(os.Environ()), "PATH="+test.path, "GOFLAGS=-mod=mod")
			out, err := cmd.CombinedOutput()
			if status := cmd.ProcessState.ExitCode(); status != test.status || !strings.Contains(string(out), test.says) {
				t.Errorf("status %d, %v\n%s", status, err, out)
			}
		})
	}
}

// goHome is where Go keeps its caches, before a test takes HOME away.
var goHome = os.Getenv("HOME")
