package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// crowd is a stand-in with n messages that GID_x did not get, and an operator who
// has its keys.
func crowd(t *testing.T, n int, quota onsd.Quota, client onsd.Client) (api *standIn, ids []string) {
	t.Helper()
	built(t) // while HOME still has the build cache
	for i := range n {
		ids = append(ids, fmt.Sprintf("C0%030X", i))
	}
	client.ClientID = "192.0.2.7@1#1"
	data := &onsd.Data{
		Region: "cn-hangzhou", Credentials: []onsd.Credential{{AccessKeyID: "crowd-ak", AccessKeySecret: "crowd-sk"}},
		Quotas: map[string]onsd.Quota{"OnsMessagePush": quota, "*": {Kind: "none"}},
		Instances: []onsd.Instance{{
			InstanceID: "MQ_INST_1_x", Topics: []string{"orders"},
			Messages: []onsd.Message{{Topic: "orders", MsgIDs: ids, StoredAt: onsd.Moment{Age: time.Hour}}},
			Groups:   []onsd.Group{{GroupID: "GID_x", Clients: []onsd.Client{client}}},
		}},
	}
	server, err := onsd.New(data, onsd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	endpoint, err := server.Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = endpoint.Close() })
	withKeys(t, "crowd-ak", "crowd-sk", "", "REPUSH_REGION=cn-hangzhou")
	return &standIn{Server: server, Endpoint: endpoint, data: data}, ids
}

// deployed runs the function as it is deployed somewhere, and returns its address.
func deployed(t *testing.T, api *standIn, settings ...string) string {
	t.Helper()
	f, err := startHTTP(t.Context(), built(t), append(append([]string{"PATH=" + os.Getenv("PATH")}, api.env()...), settings...), &buffer{}, &buffer{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.stop)
	return f.URL
}

// csvOf is a file of messages.
func csvOf(t *testing.T, ids []string) string {
	t.Helper()
	return fileOf(t, "messages.csv", "msgId\n"+strings.Join(ids, "\n")+"\n")
}

func fileOf(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// injecting are the arguments for a file of the crowd.
func injecting(file string, more ...string) []string {
	return append([]string{"inject", file, "--instance", "MQ_INST_1_x", "--topic", "orders", "--group", "GID_x", "--reason", "ticket 4711"}, more...)
}

// stateOf finds the state file that a command named.
func stateOf(t *testing.T, said string) string {
	t.Helper()
	found := regexp.MustCompile(`repush (?:resume|report) '(\S+)'`).FindStringSubmatch(said)
	if found == nil {
		t.Fatalf("no state file is named in\n%s", said)
	}
	return found[1]
}

// onlyRun is the state file of the one run that this test's home knows.
func onlyRun(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(defaultLedger("runs"), "*.jsonl"))
	if len(found) != 1 {
		t.Fatalf("state files: %v", found)
	}
	return found[0]
}

// once fails when a message was not pushed exactly once, or asked for more than once.
func once(t *testing.T, api *standIn, ids []string, state string) {
	t.Helper()
	d := api.Deliveries()
	for _, id := range ids {
		if d.ByMessage[id] != 1 {
			t.Errorf("%s was delivered %d times", id, d.ByMessage[id])
		}
	}
	raw, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), "{\"begun\":"); n != len(ids) || d.Total != len(ids) {
		t.Errorf("%d asked for, %d delivered, want %d", n, d.Total, len(ids))
	}
}

// interruptAt runs a command until so many were delivered.
func interruptAt(t *testing.T, api *standIn, delivered int, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	go func() {
		for ctx.Err() == nil && api.Calls("OnsMessagePush").Accepted < delivered {
			pause(ctx, time.Millisecond)
		}
		interrupt()
	}()
	return repush(ctx, "", args...)
}

// TestFiveThousand lines with 40 bad ones: nothing is sent, and all 40 are named. The
// file set right runs, is interrupted twice and resumed, and each message is asked
// for, and delivered, once.
func TestFiveThousand(t *testing.T) {
	api, ids := crowd(t, 5000, onsd.Quota{Kind: "none"}, onsd.Client{})
	url := deployed(t, api, "REPUSH_QPS=2000")
	rows := make([]string, len(ids))
	for i, id := range ids {
		rows[i] = id + ",\n"
	}
	var bad []string
	for i := 60; len(bad) < 40; i += 123 {
		rows[i] = []string{"zz,\n", ids[i] + ",yesterday\n", ids[i] + ",,\n", rows[i-1]}[len(bad)%4]
		bad = append(bad, fmt.Sprintf("line %d: ", i+2))
	}
	wrong := fileOf(t, "messages.csv", "msgId,storedAt\n"+strings.Join(rows, ""))
	status, stdout, stderr := repush(t.Context(), "", injecting(wrong, "--to", url, "--go", "--yes", "--qps", "2000")...)
	var named []string
	for _, found := range regexp.MustCompile(`messages\.csv (line \d+: )(\S.*)`).FindAllStringSubmatch(stderr, -1) {
		named = append(named, found[1])
	}
	if status != exitFailed || stdout != "" || !strings.Contains(stderr, "nothing was sent: 40 of 5000 are wrong") || api.Calls("OnsMessagePush").Accepted != 0 {
		t.Errorf("status %d\n%s\n%.2000s", status, stdout, stderr)
	}
	if diff := cmp.Diff(bad, named); diff != "" {
		t.Errorf("named (-want +got):\n%s", diff)
	}
	right := csvOf(t, ids)
	if status, stdout, _ := repush(t.Context(), "", injecting(right, "--to", url)...); status != exitDone || !strings.Contains(stdout, "5000 messages, about 8m20s at the quota") || !strings.Contains(stdout, "dry: nothing was sent") {
		t.Errorf("dry: status %d\n%s", status, stdout)
	}
	status, stdout, stderr = interruptAt(t, api, 1200, injecting(right, "--to", url, "--go", "--yes", "--qps", "2000")...)
	state := stateOf(t, stdout)
	if status != exitPartial || !strings.Contains(stderr, "repush: interrupted") || strings.Contains(stdout, "in doubt") {
		t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
	}
	if status, stdout, stderr = repush(t.Context(), "", injecting(right, "--to", url, "--go", "--yes")...); status != exitFailed || !strings.Contains(stderr, "repush resume '"+state) {
		t.Fatalf("the same file once more: status %d\n%s\n%s", status, stdout, stderr)
	}
	if status, stdout, stderr = interruptAt(t, api, 3100, "resume", state); status != exitPartial || strings.Contains(stdout, "in doubt") {
		t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
	}
	id := regexp.MustCompile(`inject-[0-9]+-[0-9]+-[a-z0-9]+`).FindString(stdout)
	if status, stdout, stderr = repush(t.Context(), "", "resume", id, "--json"); status != exitDone || !strings.Contains(stderr, "5000 pushed") {
		t.Fatalf("status %d\n%.500s\n%s", status, stdout, stderr)
	}
	once(t, api, ids, state)
	if n := strings.Count(stdout, "\n"); n < 1000 || n > 5000-3100 {
		t.Errorf("%d outcomes were printed", n)
	}
	for line := range strings.Lines(stdout) {
		if e, err := events.Decode([]byte(line)); err != nil || decodeCompleted(e).Outcome != events.Pushed {
			t.Fatalf("%v in %s", err, line)
		}
	}
	if status, stdout, stderr := repush(t.Context(), "", "resume", state); status != exitDone || !strings.Contains(stderr, "nothing is left") || !strings.Contains(stdout, "5000 pushed") {
		t.Errorf("once more: status %d\n%s\n%s", status, stdout, stderr)
	}
}

// TestCancelARun of 300: within a second of pushes nothing is pushed any more, each
// message has one outcome, and status counts as the results do.
func TestCancelARun(t *testing.T) {
	api, ids := crowd(t, 300, onsd.Quota{Kind: "sliding", Limit: 20, Window: time.Second}, onsd.Client{})
	t.Setenv("REPUSH_HTTP_TOKEN", "sesame-sesame-sesame")
	url := deployed(t, api, "REPUSH_QPS=20", "REPUSH_HTTP_TOKEN=sesame-sesame-sesame", "REPUSH_STATE=file:"+filepath.Join(t.TempDir(), "ledger"))
	type ended struct {
		status         int
		stdout, stderr string
	}
	done := make(chan ended, 1)
	go func() {
		status, stdout, stderr := repush(t.Context(), "", injecting(csvOf(t, ids), "--to", url, "--go", "--yes", "--qps", "20", "--json")...)
		done <- ended{status, stdout, stderr}
	}()
	for api.Calls("OnsMessagePush").Accepted < 60 {
		if !pause(t.Context(), 5*time.Millisecond) {
			t.Fatal("nothing is pushed")
		}
	}
	state := onlyRun(t)
	raw, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	id := regexp.MustCompile(`"id":"(inject-[^"]+)"`).FindStringSubmatch(string(raw))[1]
	status, stdout, stderr := repush(t.Context(), "", "cancel", id, "--to", url, "--reason", "wrong group")
	cancelled := time.Now()
	if status != exitDone {
		t.Fatalf("cancel: status %d\n%s\n%s", status, stdout, stderr)
	}
	run := <-done
	outcomes := make(map[string]int)
	for line := range strings.Lines(run.stdout) {
		e, err := events.Decode([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		outcomes[string(decodeCompleted(e).Outcome)]++
	}
	if run.status != exitPartial || outcomes["pushed"]+outcomes["cancelled"] != 300 || outcomes["pushed"] < 60 || outcomes["pushed"] > 100 {
		t.Errorf("status %d, %v\n%s", run.status, outcomes, run.stderr)
	}
	calls := api.Calls("OnsMessagePush").List
	if late := calls[len(calls)-1].At.Sub(cancelled); late > time.Second {
		t.Errorf("the last push was %s after the cancellation", late)
	}
	d := api.Deliveries()
	if d.Total != outcomes["pushed"] || len(d.ByMessage) != d.Total {
		t.Errorf("%d deliveries of %d messages, %d pushed", d.Total, len(d.ByMessage), outcomes["pushed"])
	}
	_, stdout, _ = repush(t.Context(), "", "status", id, "--to", url, "--json")
	var said standing
	if err := json.Unmarshal([]byte(stdout), &said); err != nil || said.Progress == nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	if diff := cmp.Diff(outcomes, said.Progress.Outcomes); diff != "" {
		t.Errorf("status says otherwise than the results (-results +status):\n%s", diff)
	}
}

// TestLocalRun: on this machine, killed half-way and resumed; what was under way at the
// kill is finished by the function and told by the ledger, and all is delivered once.
func TestLocalRun(t *testing.T) {
	api, ids := crowd(t, 60, onsd.Quota{Kind: "sliding", Limit: 20, Window: time.Second}, onsd.Client{Latency: onsd.Latency{Delay: 300 * time.Millisecond}})
	t.Setenv("REPUSH_QPS", "20")
	t.Setenv("REPUSH_PUSH_TIMEOUT", "2s") // leases end soon
	local := injecting(csvOf(t, ids), "--to", "local", "--ons", api.URL, "--bin", built(t), "--go", "--yes")
	killAfter(t, api, 20, local...)
	status, stdout, stderr := repush(t.Context(), "", local...)
	if status != exitFailed || !strings.Contains(stderr, "is not finished") {
		t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
	}
	state := stateOf(t, stderr)
	page := filepath.Join(t.TempDir(), "report.html")
	status, stdout, stderr = repush(t.Context(), "", "resume", state, "--report", page, "--json")
	outcomes := make(map[string]events.Outcome)
	raw, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if e, err := events.Decode([]byte(line)); err == nil && e.Type == events.TypeMessageCompleted {
			c := decodeCompleted(e)
			outcomes[c.Request.Data.MsgID] = c.Outcome
		}
	}
	d := api.Deliveries()
	for _, id := range ids { // the function finishes what it has under way
		if n, o := d.ByMessage[id], outcomes[id]; n != 1 || o != events.Pushed {
			t.Errorf("%s: %d deliveries, %q", id, n, o)
		}
	}
	if status != exitDone || strings.Contains(stderr, "in doubt") {
		t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
	}
	if html, err := os.ReadFile(page); err != nil || !strings.Contains(string(html), "ticket 4711") {
		t.Errorf("the report: %v", err)
	}
	for line := range strings.Lines(stdout) {
		e, err := events.Decode([]byte(line))
		if err != nil || e.Source != events.SourceRepush && !strings.Contains(line, "Redelivered") {
			t.Errorf("%v: the function's own event is not the one printed: %s", err, line)
		}
	}
	noSecrets(t, stdout, stderr)
	if strings.Contains(stdout+stderr, "crowd-sk") {
		t.Error("the secret is shown")
	}
}

// killAfter runs a command as a process of its own and kills it once so many were
// delivered.
func killAfter(t *testing.T, api *standIn, delivered int, args ...string) {
	t.Helper()
	cmd := selfCommand(args...)
	var said buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); api.Calls("OnsMessagePush").Accepted < delivered; {
		if !pause(t.Context(), 5*time.Millisecond) || time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			t.Fatalf("not so many were delivered\n%s", said.String())
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}

// TestStateFileIsNotSecret: nothing in it lets anybody in, and what stood behind the
// ? of an address has to be given again.
func TestStateFileIsNotSecret(t *testing.T) {
	withKeys(t, testKey, testSecret, testToken, "REPUSH_HTTP_TOKEN=sesame-sesame-sesame")
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	file := csvOf(t, []string{"C0000000000000000000000000000001"})
	_, stdout, stderr := repush(t.Context(), "", injecting(file, "--to", server.URL+"/?code=sesame", "--go")...)
	noSecrets(t, stdout, stderr)
	state := stateOf(t, stdout+stderr)
	raw, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	noSecrets(t, string(raw))
	info, err := os.Stat(state)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v: mode %s", err, info.Mode())
	}
	for name, test := range map[string]struct {
		args  []string
		says  string
		calls int32
	}{
		"without the address":  {nil, "--to: is required", 0},
		"with another address": {[]string{"--to", "https://elsewhere.example/?code=sesame"}, "another target", 0},
		"with the address":     {[]string{"--to", server.URL + "/?code=sesame"}, "no answer", 1},
	} {
		before := calls.Load()
		status, stdout, stderr := repush(t.Context(), "", append([]string{"resume", state}, test.args...)...)
		if status == exitDone || !strings.Contains(stderr, test.says) || calls.Load()-before != test.calls {
			t.Errorf("%s: status %d, %d calls\n%s\n%s", name, status, calls.Load()-before, stdout, stderr)
		}
		noSecrets(t, stdout, stderr)
	}
}

// TestManifestIsInjected: what plan wrote is asked for under its operation.
func TestManifestIsInjected(t *testing.T) {
	api := withAPI(t)
	file := filepath.Join(t.TempDir(), "manifest.json")
	if status, stdout, stderr := repush(t.Context(), "", planFor(t, api, "-o", file)...); status != exitDone {
		t.Fatalf("plan: status %d\n%s\n%s", status, stdout, stderr)
	}
	p := manifestFile(t, file)
	status, stdout, stderr := repush(t.Context(), "", "inject", file, "--reason", "ticket 4711", "--to", "local", "--ons", api.URL, "--bin", built(t), "--go", "--yes", "--json")
	got := make(map[events.Outcome]int)
	for line := range strings.Lines(stdout) {
		e, err := events.Decode([]byte(line))
		c := decodeCompleted(e)
		if err != nil || c.Request.Data == nil || c.Request.Data.OperationID != p.OperationID || c.Request.Data.Reason != "ticket 4711" {
			t.Fatalf("%v in %s", err, line)
		}
		got[c.Outcome]++
	}
	if !strings.Contains(stderr, "operation "+p.OperationID+"\n") {
		t.Errorf("which operation to steer is not said:\n%s", stderr)
	}
	if want := map[events.Outcome]int{events.Pushed: p.Count - 1, events.Unknown: 1}; status != exitPartial || !maps.Equal(got, want) {
		t.Errorf("status %d, %v, want %v\n%s", status, got, want, stderr)
	}
	changed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	byHand := fileOf(t, "changed.json", strings.Replace(string(changed), p.Entries[0].MsgID, p.Entries[0].MsgID[:31]+"F", 1))
	if status, _, stderr := repush(t.Context(), "", "inject", byHand, "--reason", "r", "--to", "local", "--go", "--yes"); status != exitFailed || !strings.Contains(stderr, "not those that were planned") {
		t.Errorf("changed by hand: status %d\n%s", status, stderr)
	}
}

// TestAsksFirst above 20 messages, where somebody can be asked.
func TestAsksFirst(t *testing.T) {
	api, ids := crowd(t, 21, onsd.Quota{Kind: "none"}, onsd.Client{})
	url := deployed(t, api, "REPUSH_QPS=1000")
	if status, _, stderr := repush(t.Context(), "y\n", injecting(csvOf(t, ids), "--to", url, "--go")...); status != exitUsage || !strings.Contains(stderr, "add --yes") {
		t.Errorf("21: status %d\n%s", status, stderr)
	}
	if n := api.Calls("OnsMessagePush").Accepted; n != 0 {
		t.Errorf("%d pushes", n)
	}
	if left, _ := filepath.Glob(filepath.Join(defaultLedger("runs"), "*")); len(left) > 0 {
		t.Errorf("a run that nobody agreed to left %v", left)
	}
	if status, _, stderr := repush(t.Context(), "", injecting(csvOf(t, ids[:20]), "--to", url, "--go")...); status != exitDone {
		t.Errorf("20: status %d\n%s", status, stderr)
	}
	if status, _, stderr := repush(t.Context(), "", injecting(csvOf(t, ids), "--to", url, "--yes")...); status != exitDone || api.Calls("OnsMessagePush").Accepted != 20 {
		t.Errorf("--yes alone: status %d, %d pushes\n%s", status, api.Calls("OnsMessagePush").Accepted, stderr)
	}
}

// TestResumeRefuses what is no state file.
func TestResumeRefuses(t *testing.T) {
	withKeys(t, "", "", "")
	known := filepath.Join(defaultLedger("runs"), "inject-20261122-031500-k3v9q2xd-0123456789ab.jsonl")
	if err := errors.Join(os.MkdirAll(filepath.Dir(known), 0o700), os.WriteFile(known, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ arg, says string }{
		"no file":     {"nowhere", "no such state file"},
		"a pattern":   {"inject-*", "no such state file"},
		"no name":     {"", "no such state file"},
		"half an id":  {"inject-20261122", "no such state file"},
		"not a state": {fileOf(t, "x", "hello\n"), "line 1: is not JSON"},
	} {
		if status, _, stderr := repush(t.Context(), "", "resume", test.arg); status != exitFailed || !strings.Contains(stderr, test.says) {
			t.Errorf("%s: status %d\n%s", name, status, stderr)
		}
	}
}

// TestStateFolderOfAnyName: its name is no pattern, and a run in it is found again.
func TestStateFolderOfAnyName(t *testing.T) {
	withKeys(t, "", "", "", "XDG_STATE_HOME="+filepath.Join(t.TempDir(), "st[1]* it's"))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }))
	defer server.Close()
	args := injecting(csvOf(t, []string{"C0000000000000000000000000000001"}), "--to", server.URL, "--go")
	for _, says := range []string{"the target refuses", "is not finished"} {
		status, stdout, stderr := repush(t.Context(), "", args...)
		if status != exitFailed || !strings.Contains(stderr, says) || !regexp.MustCompile(`repush resume '/.+/st\[1]\* it'\\''s/.+\.jsonl'\n`).MatchString(stdout+stderr) {
			t.Errorf("status %d, want %q\n%s\n%s", status, says, stdout, stderr)
		}
	}
	if _, stdout, _ := repush(t.Context(), "", "__complete", "resume", "inject-"); !strings.HasPrefix(stdout, "inject-") {
		t.Errorf("for a shell: %s", stdout)
	} else if status, stdout, stderr := repush(t.Context(), "", "report", strings.Fields(stdout)[0]); status != exitDone {
		t.Errorf("by its id: status %d\n%s\n%s", status, stdout, stderr)
	}
}

// TestNoStateFolder: where a run cannot be written down nothing is sent, and the setting
// that helps is named.
func TestNoStateFolder(t *testing.T) {
	for home, says := range map[string]string{
		"":          "HOME: is not set, and what is kept of runs and ledgers is below it, or below XDG_STATE_HOME",
		"/dev/null": "nothing was sent: mkdir /dev/null: not a directory; XDG_STATE_HOME names another",
	} {
		withKeys(t, "", "", "", "HOME="+home)
		args := injecting(csvOf(t, []string{"C0000000000000000000000000000001"}), "--to", "http://127.0.0.1:1", "--go")
		if status, stdout, stderr := repush(t.Context(), "", args...); status == exitDone || !strings.Contains(stderr, says) || stdout != "" {
			t.Errorf("%q: status %d, want %q\n%s\n%s", home, status, says, stdout, stderr)
		}
	}
}

// TestReportDestroysNothing: where it cannot go is said before anything is sent, and
// what fails afterwards does not say that nothing was.
func TestReportDestroysNothing(t *testing.T) {
	withKeys(t, "", "", "")
	var calls atomic.Int32
	late := filepath.Join(t.TempDir(), "late")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_ = os.Mkdir(late, 0o700)
	}))
	defer server.Close()
	file := csvOf(t, []string{"C0000000000000000000000000000001"})
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for report, says := range map[string]string{file: "is read, or written, as something else", "/nonexistent/report.html": "must be a file, in a folder that is there"} {
		if status, _, stderr := repush(t.Context(), "", injecting(file, "--to", server.URL, "--go", "--report", report)...); status != exitUsage || !strings.Contains(stderr, says) || calls.Load() != 0 {
			t.Errorf("%s: status %d, %d calls\n%s", report, status, calls.Load(), stderr)
		}
	}
	status, stdout, stderr := repush(t.Context(), "", injecting(file, "--to", server.URL, "--go", "--report", late)...)
	if status != exitPartial || !strings.Contains(stderr, "repush: the report: ") || calls.Load() != 1 {
		t.Errorf("status %d, %d calls\n%s\n%s", status, calls.Load(), stdout, stderr)
	}
	state := stateOf(t, stdout)
	kept, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if status, _, stderr := repush(t.Context(), "", "resume", state, "--report", state); status != exitUsage || !strings.Contains(stderr, "as something else") {
		t.Errorf("onto the state file: status %d\n%s", status, stderr)
	}
	if status, _, stderr := repush(t.Context(), "", injecting(csvOf(t, []string{"C0000000000000000000000000000002"}), "--to", server.URL, "--go", "--report", state)...); status != exitUsage || !strings.Contains(stderr, "is the state file of a run") {
		t.Errorf("onto that of another run: status %d\n%s", status, stderr)
	}
	for path, want := range map[string][]byte{file: before, state: kept} {
		if got, err := os.ReadFile(path); err != nil || string(got) != string(want) {
			t.Errorf("%s was changed: %v", path, err)
		}
	}
}

// TestLocalRunsShareALedger: what one run left parked is allowed for in the next, whose
// sweeps take it up; another ledger's runs are not.
func TestLocalRunsShareALedger(t *testing.T) {
	api, ids := crowd(t, 2, onsd.Quota{Kind: "none"}, onsd.Client{})
	api.SetOnline("MQ_INST_1_x", "GID_x", "192.0.2.7@1#1", false)
	local := func(id, topic, ledger string, more ...string) (stdout, stderr string) {
		args := []string{"inject", csvOf(t, []string{id}), "--instance", "MQ_INST_1_x", "--topic", topic, "--group", "GID_x", "--reason", "r",
			"--to", "local", "--ons", api.URL, "--bin", built(t), "--state", ledger, "--go", "--wait", "1s"}
		_, stdout, stderr = repush(t.Context(), "", append(args, more...)...)
		return stdout, stderr
	}
	ledger := filepath.Join(t.TempDir(), "ledger")
	stdout, stderr := local(ids[0], "orders", ledger)
	if !strings.Contains(stdout, "1 wait in the ledger: 'repush resume'") || !strings.Contains(stderr, "the last answer: NoClientOnline") {
		t.Fatalf("%s\n%s", stdout, stderr)
	}
	if _, stderr = local(ids[1], "payments", ledger); !strings.Contains(stderr, "this run may push MQ_INST_1_x/GID_x/orders,MQ_INST_1_x/GID_x/payments and nothing else") {
		t.Errorf("the same ledger: %s", stderr)
	}
	if _, stderr = local(ids[1], "payments", ledger+"2", "--anew"); !strings.Contains(stderr, "this run may push MQ_INST_1_x/GID_x/payments and nothing else") {
		t.Errorf("another ledger: %s", stderr)
	}
	t.Setenv("REPUSH_STATE", "redis://:sesame@127.0.0.1:1/")
	args := injecting(csvOf(t, ids), "--to", "local", "--ons", api.URL, "--bin", built(t), "--go", "--wait", "1s")
	_, stdout, stderr = repush(t.Context(), "", args...)
	noSecrets(t, stdout, stderr)
	left, _ := filepath.Glob(filepath.Join(defaultLedger("runs"), "*"))
	for _, path := range left {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		noSecrets(t, string(raw))
	}
	if len(left) < 3 {
		t.Errorf("state files: %v", left)
	}
}

// TestMaybeTwiceIsSaid: what was pushed once more after a cut answer is named while the
// run goes on, counted at its end, and in its state file.
func TestMaybeTwiceIsSaid(t *testing.T) {
	api, ids := crowd(t, 3, onsd.Quota{Kind: "none"}, onsd.Client{})
	if err := api.AddFault(onsd.Fault{API: "OnsMessagePush", MsgID: ids[1], When: "after", Do: "cut"}); err != nil {
		t.Fatal(err)
	}
	url := deployed(t, api, "REPUSH_ON_UNKNOWN=push")
	status, stdout, stderr := repush(t.Context(), "", injecting(csvOf(t, ids), "--to", url, "--go")...)
	if d := api.Deliveries(); status != exitDone || d.ByMessage[ids[1]] != 2 || d.Total != 4 {
		t.Fatalf("status %d, %d deliveries\n%s\n%s", status, d.Total, stdout, stderr)
	}
	if !strings.Contains(stdout, "1 of these may have reached a consumer more than once") || !strings.Contains(stderr, "pushed, maybe twice  "+ids[1]) {
		t.Errorf("%s\n%s", stdout, stderr)
	}
	raw, err := os.ReadFile(stateOf(t, stdout))
	if err != nil || strings.Count(string(raw), `"maybeDuplicate":true`) != 1 {
		t.Errorf("%v: the state file says otherwise", err)
	}
}

// TestDuplicateOfUnknown: what may have been pushed for somebody else is no success, and
// the report names it, though the answer alone told of it.
func TestDuplicateOfUnknown(t *testing.T) {
	api, ids := crowd(t, 2, onsd.Quota{Kind: "none"}, onsd.Client{})
	if err := api.AddFault(onsd.Fault{API: "OnsMessagePush", MsgID: ids[1], When: "after", Do: "cut"}); err != nil {
		t.Fatal(err)
	}
	url := deployed(t, api)
	var firstAsked string
	for _, says := range []string{"1 unknown\n", "1 of these are duplicates of what may have been pushed"} {
		unknowns := filepath.Join(t.TempDir(), "unknowns.csv")
		status, stdout, stderr := repush(t.Context(), "", injecting(csvOf(t, ids), "--to", url, "--go")...)
		if status != exitPartial || !strings.Contains(stdout, says) || strings.Count(stderr, ids[1]) != 1 || api.Deliveries().Total != 2 {
			t.Errorf("status %d, %d deliveries\n%s\n%s", status, api.Deliveries().Total, stdout, stderr)
		}
		state := stateOf(t, stdout)
		if status, _, stderr := repush(t.Context(), "", "report", state, "--unknowns", unknowns); status != exitDone {
			t.Fatalf("status %d\n%s", status, stderr)
		}
		raw, err := os.ReadFile(state)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(raw) {
			var e events.Event
			if json.Unmarshal(line, &e) != nil || e.Type != events.TypeMessageCompleted {
				continue
			}
			switch c := decodeCompleted(e); {
			case c.Request.Data.MsgID != ids[1]:
			case c.First == nil:
				firstAsked = c.Request.ID
			case c.First.EventID != firstAsked || c.First.DecidedAt.IsZero():
				t.Errorf("first = %+v, want event %q", c.First, firstAsked)
			}
		}
		if raw, err := os.ReadFile(unknowns); err != nil || !strings.Contains(string(raw), ids[1]) {
			t.Errorf("%v: %s", err, raw)
		}
	}
}

// TestResumeKeepsTheLedger, from wherever it is typed.
func TestResumeKeepsTheLedger(t *testing.T) {
	api, ids := crowd(t, 1, onsd.Quota{Kind: "none"}, onsd.Client{})
	api.SetOnline("MQ_INST_1_x", "GID_x", "192.0.2.7@1#1", false)
	file, here, there := csvOf(t, ids), t.TempDir(), t.TempDir()
	t.Chdir(here)
	_, stdout, stderr := repush(t.Context(), "", injecting(file, "--to", "local", "--ons", api.URL, "--bin", built(t), "--state", "ledger", "--go", "--wait", "1s")...)
	state := stateOf(t, stdout+stderr)
	api.SetOnline("MQ_INST_1_x", "GID_x", "192.0.2.7@1#1", true)
	t.Chdir(there)
	if status, stdout, stderr := repush(t.Context(), "", "resume", state); status != exitDone || api.Deliveries().Total != 1 {
		t.Errorf("status %d, %d deliveries\n%s\n%s", status, api.Deliveries().Total, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(there, "ledger")); err == nil {
		t.Error("another ledger was made")
	}
	t.Chdir(here)
	_, stdout, stderr = repush(t.Context(), "", injecting(csvOf(t, []string{"C0FFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"}), "--to", "local", "--ons", "http://127.0.0.1:1", "--bin", built(t), "--go", "--wait", "1s")...)
	state = stateOf(t, stdout+stderr)
	t.Setenv("REPUSH_STATE", filepath.Join(there, "other"))
	if status, _, stderr := repush(t.Context(), "", "resume", state); status != exitUsage || !strings.Contains(stderr, "another ledger") {
		t.Errorf("with another REPUSH_STATE: status %d\n%s", status, stderr)
	}
}
