package main

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/events/sink"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// Messages of the sample data set.
const (
	stuckMessage   = "C000021112CD18B4AAC26E1A0B570001"
	cutMessage     = "C000021112CD18B4AAC26E1A0BA4000C"
	unknownMessage = "C000021112CD18B4AAC26E1A0BFF9999"
)

// askFor is the flags of a request to the sample data set.
func askFor(msg string, more ...string) []string {
	return append([]string{"--instance", "MQ_INST_1380156306793859_BbXbx0Y4", "--topic", "orders", "--group", "GID_billing",
		"--msg", msg, "--reason", "consumer was down"}, more...)
}

// withAPI starts the stand-in and the environment of an operator who has its
// keys.
func withAPI(t *testing.T, more ...string) *standIn {
	t.Helper()
	built(t) // while HOME still has the build cache
	builtPlan(t)
	api, err := startStandIn("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Close() })
	key := api.data.Credentials[0]
	withKeys(t, key.AccessKeyID, key.AccessKeySecret, "", append([]string{"REPUSH_REGION=" + api.data.Region}, more...)...)
	return api
}

func TestPush(t *testing.T) {
	for name, test := range map[string]struct {
		args       []string
		env        []string
		status     int
		outcome    events.Outcome // "" when nothing is decided
		deliveries int
		says       string
	}{
		"pushed":            {args: askFor(stuckMessage), outcome: events.Pushed, deliveries: 1, says: "may push MQ_INST_1380156306793859_BbXbx0Y4/GID_billing/orders and nothing else"},
		"failed":            {args: askFor(unknownMessage), status: exitPartial, outcome: events.Failed},
		"unknown":           {args: askFor(cutMessage), status: exitPartial, outcome: events.Unknown, deliveries: 1},
		"dry run":           {args: askFor(stuckMessage, "--dry-run"), outcome: events.Simulated},
		"again":             {args: askFor(stuckMessage, "--again"), outcome: events.Pushed, deliveries: 1, says: "asking for generation 2\n"},
		"again, the third":  {args: askFor(stuckMessage, "--again=3"), outcome: events.Pushed, deliveries: 1, says: "asking for generation 3\n"},
		"too old":           {args: askFor(stuckMessage, "--stored-at", "2020-01-02T15:04:05+08:00"), status: exitPartial, outcome: events.Expired},
		"client not online": {args: askFor(stuckMessage, "--client", "192.0.2.99@1"), status: exitPartial},
		"not allowed":       {args: askFor(stuckMessage), env: []string{"REPUSH_ALLOW=a/b/c"}, status: exitPartial, outcome: events.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			api := withAPI(t, test.env...)
			args := append([]string{"push", "--json", "--timeout", "10s", "--ons", api.URL, "--bin", built(t)}, test.args...)
			status, stdout, stderr := repush(t.Context(), "", args...)
			var got invocation
			if err := json.Unmarshal([]byte(stdout), &got); err != nil {
				t.Fatalf("status %d: %v in %s\n%s", status, err, stdout, stderr)
			}
			var c events.Completed
			if len(got.Results) > 0 {
				if err := json.Unmarshal(got.Results[0].Data, &c); err != nil {
					t.Fatal(err)
				}
				if c.Request.Source != "repush/push/"+operator() || !strings.HasPrefix(c.Request.ID, "push-") || c.Request.Data.RequestedBy != operator() {
					t.Errorf("request: %+v", c.Request)
				}
			}
			if test.outcome != "" && c.Outcome != test.outcome || status != test.status || api.Deliveries().Total != test.deliveries || !strings.Contains(stderr, test.says) {
				t.Errorf("status %d, outcome %q, %d deliveries\n%s\n%s", status, c.Outcome, api.Deliveries().Total, stdout, stderr)
			}
			noSecrets(t, stdout, stderr)
			if strings.Contains(stdout+stderr, api.data.Credentials[0].AccessKeySecret) {
				t.Errorf("the secret is shown:\n%s\n%s", stdout, stderr)
			}
		})
	}
}

// TestPushEventIDs: every command is a request of its own, which ends with it.
func TestPushEventIDs(t *testing.T) {
	api := withAPI(t)
	seen := make(map[string]bool)
	for range 2 {
		began := time.Now()
		c, _ := pushOnce(t, api, exitPartial, askFor(unknownMessage, "--timeout", "20s"))
		id, ends := c.Request.ID, c.Request.Data.NotAfter
		if seen[id] || !strings.HasPrefix(id, "push-") || ends.Before(began.Add(20*time.Second)) || ends.After(time.Now().Add(20*time.Second)) {
			t.Errorf("id %s, notAfter %s", id, ends)
		}
		seen[id] = true
	}
}

// pushOnce runs push and returns its last result.
func pushOnce(t *testing.T, api *standIn, want int, args []string) (last events.Completed, all []events.Event) {
	t.Helper()
	status, stdout, stderr := repush(t.Context(), "", append([]string{"push", "--json", "--ons", api.URL, "--bin", built(t)}, args...)...)
	var got invocation
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != want {
		t.Fatalf("status %d, want %d, %v\n%s\n%s", status, want, err, stdout, stderr)
	}
	if n := len(got.Results); n > 0 {
		if err := json.Unmarshal(got.Results[n-1].Data, &last); err != nil {
			t.Fatal(err)
		}
	}
	return last, got.Results
}

// TestPushKeepsTheSinks: results go where the settings say, and to this command.
func TestPushKeepsTheSinks(t *testing.T) {
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- string(body)
	}))
	defer server.Close()
	api := withAPI(t, "REPUSH_RESULTS="+server.URL)
	status, stdout, stderr := repush(t.Context(), "", append([]string{"push", "--ons", api.URL, "--bin", built(t)}, askFor(stuckMessage)...)...)
	if status != exitDone || !strings.HasPrefix(stdout, "pushed\n") || !strings.Contains(<-got, `"outcome":"pushed"`) {
		t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
	}
}

func TestPushForPeople(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		says []string
	}{
		"pushed":  {askFor(stuckMessage), []string{"pushed\n", "API request", "client", "request      push-"}},
		"failed":  {askFor(unknownMessage), []string{"failed\n", "BIZ_NO_MESSAGE", "next "}},
		"offline": {askFor(stuckMessage, "--client", "192.0.2.99@1"), []string{"not decided, nothing was pushed by this command\n", "message      BIZ_CONSUMER_NOT_ONLINE", "the same command asks again", "BIZ_CONSUMER_NOT_ONLINE"}},
	} {
		t.Run(name, func(t *testing.T) {
			api := withAPI(t)
			_, stdout, stderr := repush(t.Context(), "", append([]string{"push", "--ons", api.URL, "--bin", built(t)}, test.args...)...)
			for _, want := range test.says {
				if !strings.Contains(stdout, want) {
					t.Errorf("%q is missing in:\n%s\n%s", want, stdout, stderr)
				}
			}
		})
	}
}

// TestPushWithAProfile: the keys of the CLI's profile reach the function, those
// of the environment before them.
func TestPushWithAProfile(t *testing.T) {
	api := withAPI(t)
	key := api.data.Credentials[0]
	for name, test := range map[string]struct {
		profile, env string
		status       int
	}{
		"the profile's":         {profile: key.AccessKeySecret, status: exitDone},
		"the environment first": {profile: "wrong", env: key.AccessKeySecret, status: exitDone},
		"both wrong":            {profile: key.AccessKeySecret, env: "wrong", status: exitPartial},
	} {
		t.Run(name, func(t *testing.T) {
			id := ""
			if test.env != "" {
				id = key.AccessKeyID
			}
			withKeys(t, id, test.env, "", "REPUSH_REGION="+api.data.Region)
			dir := filepath.Join(os.Getenv("HOME"), ".aliyun")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			config := `{"current":"p","profiles":[{"name":"p","mode":"AK","access_key_id":"` + key.AccessKeyID + `","access_key_secret":"` + test.profile + `"}]}`
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			status, stdout, stderr := repush(t.Context(), "", append([]string{"push", "--timeout", "8s", "--ons", api.URL, "--bin", built(t)}, askFor(stuckMessage)...)...)
			if status != test.status {
				t.Errorf("status %d, want %d\n%s\n%s", status, test.status, stdout, stderr)
			}
		})
	}
}

// TestPushRefuses what cannot be right before anything starts.
func TestPushRefuses(t *testing.T) {
	built(t) // while HOME still has the build cache
	withKeys(t, testKey, testSecret, "", "REPUSH_REGION=cn-hangzhou")
	for name, test := range map[string]struct {
		args   []string
		env    string
		status int
		says   string
	}{
		"nothing":                  {args: []string{}, status: exitUsage, says: "--instance: is required; --topic: is required; --group: is required; --msg: is required; --reason: is required"},
		"a bad id":                 {args: askFor("zz"), status: exitUsage, says: "--msg: must be 32"},
		"the first time again":     {args: askFor(stuckMessage, "--again=1"), status: exitUsage, says: "--again: must be a whole number from 2 to 1000"},
		"too often":                {args: askFor(stuckMessage, "--again=1001"), status: exitUsage, says: "--again"},
		"a number apart":           {args: askFor(stuckMessage, "--again", "3"), status: exitUsage, says: "--again=N"},
		"no time":                  {args: askFor(stuckMessage, "--stored-at", "yesterday"), status: exitUsage, says: "--stored-at"},
		"plain http":               {args: askFor(stuckMessage, "--ons", "http://ons.example"), status: exitUsage, says: "--ons: must be https"},
		"a secret in the endpoint": {args: askFor(stuckMessage, "--ons", "https://user:sesame@ons.example"), status: exitUsage, says: "--ons"},
		"no region":                {args: askFor(stuckMessage), env: "REPUSH_REGION=", status: exitUsage, says: "--region"},
		"no credentials":           {args: askFor(stuckMessage), env: "ALIBABA_CLOUD_ACCESS_KEY_ID=", status: exitFailed, says: "credentials"},
		"a ledger elsewhere":       {args: askFor(stuckMessage, "--state", "rediss://me:sesame@redis.example"), status: exitUsage, says: "--state: must be a file"},
		"no home":                  {args: askFor(stuckMessage), env: "HOME=", status: exitUsage, says: "HOME: is not set"},
		"a home like no other":     {args: askFor(stuckMessage), env: "HOME=/dev/null", status: exitFailed, says: "nothing was sent: mkdir /dev/null: not a directory; XDG_STATE_HOME names another"},
		"a folder as the ledger":   {args: askFor(stuckMessage, "--state", "/"), status: exitFailed, says: "did not start: REPUSH_STATE: open the ledger file"},
		"a folder that is missing": {args: askFor(stuckMessage), env: "REPUSH_STATE=file:/nonexistent/ledger", status: exitFailed, says: "no such file"},
		"a misspelt setting":       {args: askFor(stuckMessage), env: "REPUSH_ALOW=a/b/c", status: exitFailed, says: "REPUSH_ALOW: is not a setting"},
	} {
		t.Run(name, func(t *testing.T) {
			if name, value, set := strings.Cut(test.env, "="); set {
				t.Setenv(name, value)
			}
			status, stdout, stderr := repush(t.Context(), "", append([]string{"push", "--bin", built(t)}, test.args...)...)
			if status != test.status || !strings.Contains(stderr, test.says) || stdout != "" {
				t.Errorf("status %d, want %d and %q\n%s\n%s", status, test.status, test.says, stdout, stderr)
			}
			noSecrets(t, stdout, stderr)
		})
	}
}

// TestPushEnvironment: what this command decides wins over what it inherits; a
// token that belongs to other keys does not stay.
func TestPushEnvironment(t *testing.T) {
	withKeys(t, "", "", "stale", "REPUSH_REGION=cn-beijing", "REPUSH_QPS=5", "REPUSH_STATE=memory", "UNRELATED=sesame", "REPUSH_RESULTS=https://results.example")
	got := make(map[string]string)
	o := localFlags{region: "cn-hangzhou", ons: "https://ons.example", state: "file:/ledger"}
	for _, entry := range o.environment(sink.Credentials{AccessKeyID: "id", AccessKeySecret: "secret"}) {
		name, value, _ := strings.Cut(entry, "=")
		got[name] = value // the last one wins, as in os/exec
	}
	for name, want := range map[string]string{
		"REPUSH_REGION": "cn-hangzhou", "REPUSH_QPS": "5", "UNRELATED": "", "REPUSH_STATE": "file:/ledger", "REPUSH_ONS_ENDPOINT": "https://ons.example",
		"REPUSH_RESULTS": "stdout,https://results.example", "ALIBABA_CLOUD_ACCESS_KEY_ID": "id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret", "ALIBABA_CLOUD_SECURITY_TOKEN": "",
	} {
		if got[name] != want {
			t.Errorf("%s = %q, want %q", name, got[name], want)
		}
	}
}

// TestPushWithoutAResult: a function that ends without a result is no success
// and no "nothing was pushed".
func TestPushWithoutAResult(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]string{"GivenBack": "nothing was pushed by this command\n", fcd.ErrorTimeout: "may have been pushed\n", fcd.ErrorExit: "may have been", "": "may have been"} {
		var out buffer
		printPushed(&out, "push-1", fcd.Response{FunctionError: kind, Payload: []byte(`{"errorMessage":"why"}`)}, nil)
		if !strings.Contains(out.String(), want) || !strings.Contains(out.String(), "message      why\n") {
			t.Errorf("%q: %s", kind, out.String())
		}
	}
}

// TestPushInterrupted: Ctrl-C before anything came back says so.
func TestPushInterrupted(t *testing.T) {
	api := withAPI(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	status, stdout, stderr := repush(ctx, "", append([]string{"push", "--ons", api.URL, "--bin", built(t)}, askFor(stuckMessage)...)...)
	if status != exitFailed || !strings.Contains(stderr, "interrupted") {
		t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
	}
}

// TestPushTwice: the ledger lasts from command to command, wherever it is.
func TestPushTwice(t *testing.T) {
	dir := t.TempDir()
	for name, test := range map[string]struct {
		args []string
		env  string
		file string // of the ledger, below dir; "" for none
		want int    // deliveries
	}{
		"by default":            {want: 1, file: "home/.local/state/ons-repush/ledger"},
		"XDG":                   {env: "XDG_STATE_HOME=" + dir + "/xdg", want: 1, file: "xdg/ons-repush/ledger"},
		"a relative XDG":        {env: "XDG_STATE_HOME=xdg", want: 1, file: "home/.local/state/ons-repush/ledger"},
		"the flag":              {args: []string{"--state", dir + "/flag"}, want: 1, file: "flag"},
		"the environment":       {env: "REPUSH_STATE=file:" + dir + "/environment", want: 1, file: "environment"},
		"the flag wins":         {args: []string{"--state", "memory"}, env: "REPUSH_STATE=file:" + dir + "/unused", want: 2},
		"memory by the setting": {env: "REPUSH_STATE=memory", want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			api := withAPI(t, "HOME="+dir+"/home", cmp.Or(test.env, "DEBUG="))
			t.Cleanup(func() { _ = os.RemoveAll(dir + "/home") })
			first, _ := pushOnce(t, api, exitDone, append(askFor(stuckMessage), test.args...))
			second, _ := pushOnce(t, api, exitDone, append(askFor(stuckMessage), test.args...))
			want := events.Pushed
			if test.want == 1 {
				want = events.Duplicate
			}
			if first.Outcome != events.Pushed || second.Outcome != want || api.Deliveries().Total != test.want {
				t.Errorf("%s, then %s; %d deliveries", first.Outcome, second.Outcome, api.Deliveries().Total)
			}
			if test.file == "" {
				return
			}
			info, err := os.Stat(filepath.Join(dir, test.file))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the ledger: %v, %v", info, err)
			}
			if info, err := os.Stat(filepath.Dir(filepath.Join(dir, test.file))); strings.Contains(test.file, "ons-repush") && (err != nil || info.Mode().Perm() != 0o700) {
				t.Errorf("its folder: %v, %v", info, err)
			}
		})
	}
	if _, err := os.Stat(dir + "/unused"); err == nil {
		t.Error("the environment's ledger was made although the flag names another")
	}
}

// TestPushRelativeLedger: a path means what it means where the command is typed.
func TestPushRelativeLedger(t *testing.T) {
	api := withAPI(t, "REPUSH_STATE=file:ledger")
	bin := built(t)
	t.Chdir(t.TempDir())
	for _, want := range []events.Outcome{events.Pushed, events.Duplicate} {
		if c, _ := pushOnce(t, api, exitDone, append(askFor(stuckMessage), "--bin", bin)); c.Outcome != want {
			t.Errorf("outcome %s, want %s", c.Outcome, want)
		}
	}
	if _, err := os.Stat("ledger"); err != nil {
		t.Error(err)
	}
}

// TestPushAgain: each --again is one more push and no other is, whatever was
// asked for in between and did not reach a consumer.
func TestPushAgain(t *testing.T) {
	api := withAPI(t, "REPUSH_MAX_PUSHES=5")
	for i, step := range []struct {
		more       []string
		status     int
		outcome    events.Outcome
		generation int
		deliveries int
	}{
		{nil, exitDone, events.Pushed, 0, 1},
		{[]string{"--again"}, exitDone, events.Pushed, 2, 2},
		{nil, exitDone, events.Duplicate, 0, 2},
		{[]string{"--again", "--client", "192.0.2.99@1"}, exitPartial, "", 0, 2}, // parked
		{[]string{"--again"}, exitDone, events.Pushed, 3, 3},
		{[]string{"--again=3"}, exitDone, events.Duplicate, 3, 3},
		{[]string{"--again=7"}, exitDone, events.Pushed, 7, 4},
		{[]string{"--again"}, exitDone, events.Pushed, 8, 5},
		{[]string{"--again"}, exitPartial, events.Abandoned, 9, 5}, // REPUSH_MAX_PUSHES
	} {
		c, _ := pushOnce(t, api, step.status, askFor(stuckMessage, step.more...))
		generation := 0
		if c.Request.Data != nil {
			generation = c.Request.Data.Generation
		}
		if c.Outcome != step.outcome || generation != step.generation || api.Deliveries().Total != step.deliveries {
			t.Errorf("step %d: %q, generation %d, %d deliveries", i, c.Outcome, generation, api.Deliveries().Total)
		}
	}
}

// TestPushAfterFailed: once the cause is gone, the same command pushes.
func TestPushAfterFailed(t *testing.T) {
	api := withAPI(t)
	key := api.data.Credentials[0].AccessKeyID
	api.SetDenied(key, "OnsMessagePush")
	failed, _ := pushOnce(t, api, exitPartial, askFor(stuckMessage))
	api.SetDenied(key)
	pushed, _ := pushOnce(t, api, exitDone, askFor(stuckMessage))
	if failed.Outcome != events.Failed || pushed.Outcome != events.Pushed || api.Deliveries().Total != 1 {
		t.Errorf("%s, then %s; %d deliveries", failed.Outcome, pushed.Outcome, api.Deliveries().Total)
	}
}

// TestPushAfterUnknown: the same command pushes no more, and does not end well.
func TestPushAfterUnknown(t *testing.T) {
	api := withAPI(t)
	unknown, _ := pushOnce(t, api, exitPartial, askFor(cutMessage))
	duplicate, _ := pushOnce(t, api, exitPartial, askFor(cutMessage))
	if unknown.Outcome != events.Unknown || duplicate.Outcome != events.Duplicate || api.Deliveries().Total != 1 {
		t.Errorf("%s, then %s; %d deliveries", unknown.Outcome, duplicate.Outcome, api.Deliveries().Total)
	}
}

// TestPushParked: what was left undecided is not pushed by itself, not even by a
// sweep once a consumer is back; the same command asks again.
func TestPushParked(t *testing.T) {
	state := filepath.Join(t.TempDir(), "ledger")
	api := withAPI(t, "REPUSH_STATE=file:"+state, "REPUSH_ALLOW=*/*/*")
	group := api.data.Instances[0].Groups[0]
	online := func(is bool) {
		for _, c := range group.Clients {
			api.SetOnline(api.data.Instances[0].InstanceID, group.GroupID, c.ClientID, is)
		}
	}
	online(false)
	status, stdout, stderr := repush(t.Context(), "", append([]string{"push", "--timeout", "4s", "--ons", api.URL, "--bin", built(t)}, askFor(stuckMessage)...)...)
	if status != exitPartial || !strings.HasPrefix(stdout, "not decided, nothing was pushed by this command\n") || !strings.Contains(stdout, "the same command asks again") {
		t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
	}
	online(true)
	sweep := `{"specversion":"1.0","id":"s","source":"test","type":"repush:Sweep:Requested"}`
	var answer string
	for deadline := time.Now().Add(time.Minute); !strings.Contains(answer, `"expired": 1`); {
		if time.Now().After(deadline) {
			t.Fatalf("the request did not end: %s", answer)
		}
		_, answer, _ = repush(t.Context(), sweep, "invoke", "-", "--ons", api.URL, "--bin", built(t))
	}
	if n := api.Deliveries().Total; n != 0 {
		t.Fatalf("%d deliveries by themselves", n)
	}
	if c, _ := pushOnce(t, api, exitDone, askFor(stuckMessage)); c.Outcome != events.Pushed || api.Deliveries().Total != 1 {
		t.Errorf("asked again: %s, %d deliveries", c.Outcome, api.Deliveries().Total)
	}
}

// slowAnswer makes the first push be delivered at once and answered late.
func slowAnswer(t *testing.T, api *standIn, delay time.Duration) {
	t.Helper()
	if err := api.AddFault(onsd.Fault{API: "OnsMessagePush", When: "after", Delay: delay}); err != nil {
		t.Fatal(err)
	}
}

// delivered waits until a message has reached a consumer.
func delivered(t *testing.T, api *standIn) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); api.Deliveries().Total == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was delivered")
		}
	}
}

// TestPushWhileAnother: the second command cannot use the ledger, says so and
// pushes nothing.
func TestPushWhileAnother(t *testing.T) {
	api := withAPI(t)
	slowAnswer(t, api, 8*time.Second)
	args := append([]string{"push", "--ons", api.URL, "--bin", built(t)}, askFor(stuckMessage)...)
	first := make(chan string, 1)
	go func() {
		_, stdout, stderr := repush(t.Context(), "", args...)
		first <- stdout + stderr
	}()
	delivered(t, api)
	status, stdout, stderr := repush(t.Context(), "", args...)
	if status != exitFailed || stdout != "" || !strings.Contains(stderr, "repush: the function did not start: REPUSH_STATE: the ledger file is in use by another process: ") {
		t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
	}
	if said := <-first; !strings.HasPrefix(said, "pushed\n") || api.Deliveries().Total != 1 {
		t.Errorf("%d deliveries, the first said:\n%s", api.Deliveries().Total, said)
	}
}

// TestPushKilled: the command and its function die (SIGKILL) while a push is under
// way. The same command, with or without --again, settles that one as unknown
// and delivers nothing; the next --again does.
func TestPushKilled(t *testing.T) {
	for name, more := range map[string][]string{"the same command": nil, "again": {"--again"}} {
		t.Run(name, func(t *testing.T) {
			api := withAPI(t, "REPUSH_PUSH_TIMEOUT=5s")
			slowAnswer(t, api, 4*time.Second)
			args := append([]string{"push", "--ons", api.URL, "--bin", built(t)}, askFor(stuckMessage, more...)...)
			cmd := selfCommand(args...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			delivered(t, api)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			var stdout, stderr string
			status, tries := 0, 0
			for stdout = "not decided"; strings.HasPrefix(stdout, "not decided"); tries++ {
				if tries > 100 {
					t.Fatalf("never decided:\n%s\n%s", stdout, stderr)
				}
				status, stdout, stderr = repush(t.Context(), "", args...)
			}
			for _, want := range []string{"unknown\n", "Interrupted", "duplicate\n", "ended as unknown"} {
				if !strings.Contains(stdout, want) {
					t.Errorf("%q is missing in:\n%s\n%s", want, stdout, stderr)
				}
			}
			if status != exitPartial || tries < 2 || api.Deliveries().Total != 1 {
				t.Errorf("status %d after %d tries, %d deliveries", status, tries, api.Deliveries().Total)
			}
			if c, _ := pushOnce(t, api, exitDone, askFor(stuckMessage, "--again")); c.Outcome != events.Pushed || !c.MaybeDuplicate || api.Deliveries().Total != 2 {
				t.Errorf("on purpose: %+v, %d deliveries", c, api.Deliveries().Total)
			}
		})
	}
}
