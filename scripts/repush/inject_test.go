package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ons-repush/ons-repush/events"
)

// TestWrongFileSendsNothing: one bad line, and no event leaves.
func TestWrongFileSendsNothing(t *testing.T) {
	withKeys(t, "", "", "")
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer server.Close()
	status, stdout, stderr := repush(t.Context(), sampleEvent+"\n{}", "inject", "-", "--to", server.URL, "--reason", "r", "--go")
	if status != exitFailed || calls.Load() != 0 || !strings.Contains(stderr, "line 2") {
		t.Errorf("status %d, %d calls\n%s\n%s", status, calls.Load(), stdout, stderr)
	}
}

// TestInjectReads more than one invocation may bring, and says what to do with too much.
func TestInjectReads(t *testing.T) {
	withKeys(t, "", "", "")
	for name, test := range map[string]struct {
		MiB    int
		status int
		says   string
	}{
		"more than an invocation": {33, exitDone, "dry: nothing was sent"},
		"too much":                {65, exitFailed, "larger than 64 MiB: give less at a time"},
	} {
		status, stdout, stderr := repush(t.Context(), strings.Repeat(" ", test.MiB<<20)+sampleEvent, "inject", "-", "--reason", "r")
		if status != test.status || !strings.Contains(stdout+stderr, test.says) {
			t.Errorf("%s: status %d, want %d and %q\n%s\n%s", name, status, test.status, test.says, stdout, stderr)
		}
	}
}

// TestInjectByFlags sends what push would have pushed.
func TestInjectByFlags(t *testing.T) {
	withKeys(t, "", "", "")
	got := make(chan events.Event, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e events.Event
		_ = json.NewDecoder(r.Body).Decode(&e)
		got <- e
	}))
	defer server.Close()
	status, stdout, stderr := repush(t.Context(), "", append([]string{"inject", "--json", "--to", server.URL}, askFor(stuckMessage, "--again")...)...)
	if status != exitDone {
		t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
	}
	asked := events.Requested{
		InstanceID: "MQ_INST_1380156306793859_BbXbx0Y4", Topic: "orders", GroupID: "GID_billing", MsgID: stuckMessage,
		Reason: "consumer was down", Generation: 2, Priority: events.PriorityHuman,
	}
	asked.RequestedBy = operator()
	want := pushEvent(asked)
	if e := <-got; e.Source != want.Source || !strings.HasPrefix(e.ID, "push-") || string(e.Data) != string(want.Data) {
		t.Errorf("sent %s %s, want %s %s", e.Source, e.Data, want.Source, want.Data)
	}
	var printed struct{ Deliveries []delivery }
	if err := json.Unmarshal([]byte(stdout), &printed); err != nil || len(printed.Deliveries) != 1 || printed.Deliveries[0].Status != handedOver {
		t.Errorf("%v in %s", err, stdout)
	}
}

// TestSameCommandTwice: of one message by its flags. What was pushed is a duplicate, what
// may have been too, which is not well, and what was rejected or failed is tried anew.
func TestSameCommandTwice(t *testing.T) {
	for name, test := range map[string]struct {
		message    string
		first      []string // settings of the function that the first command meets
		says       [2]string
		status     [2]int
		deliveries int
	}{
		"pushed":   {stuckMessage, nil, [2]string{"pushed", "duplicate"}, [2]int{exitDone, exitDone}, 1},
		"rejected": {stuckMessage, []string{"REPUSH_ALLOW=a/b/c"}, [2]string{"rejected", "pushed"}, [2]int{exitPartial, exitDone}, 1},
		"failed":   {unknownMessage, nil, [2]string{"failed", "failed"}, [2]int{exitPartial, exitPartial}, 0},
		"unknown":  {cutMessage, nil, [2]string{"unknown", "duplicate"}, [2]int{exitPartial, exitPartial}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			api := withAPI(t)
			env := append(api.env(), "PATH="+os.Getenv("PATH"), "REPUSH_STATE=file:"+filepath.Join(t.TempDir(), "ledger"))
			for i, settings := range [2][]string{test.first, nil} {
				f, err := startHTTP(t.Context(), built(t), append(slices.Clone(env), settings...), &buffer{}, &buffer{})
				if err != nil {
					t.Fatal(err)
				}
				status, stdout, stderr := repush(t.Context(), "", append([]string{"inject", "--to", f.URL}, askFor(test.message)...)...)
				f.stop()
				if status != test.status[i] || !strings.Contains(stdout, "  "+test.says[i]+"  ") || strings.Contains(stdout, "Redelivered") {
					t.Errorf("%d: status %d, want %d and %s\n%s\n%s", i+1, status, test.status[i], test.says[i], stdout, stderr)
				}
			}
			if n := api.Deliveries().Total; n != test.deliveries {
				t.Errorf("%d deliveries, want %d", n, test.deliveries)
			}
		})
	}
}

// TestInjectEndToEnd: a request through the real function's HTTP address reaches
// a consumer once.
func TestInjectEndToEnd(t *testing.T) {
	api := withAPI(t)
	f, err := startHTTP(t.Context(), built(t), append([]string{"PATH=" + os.Getenv("PATH")}, api.env()...), &buffer{}, &buffer{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.stop()
	file := filepath.Join(t.TempDir(), "events.jsonl")
	lines := sampleEvent + "\n" + strings.NewReplacer("4711", "4712", stuckMessage, unknownMessage).Replace(sampleEvent)
	if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		status int
		says   [2]string
	}{{exitPartial, [2]string{"1 pushed", "1 failed"}}, {exitPartial, [2]string{"1 pushed", "decided before: failed"}}} {
		status, stdout, stderr := repush(t.Context(), "", "inject", file, "--to", f.URL, "--reason", "r", "--go")
		if status != want.status || !strings.Contains(stdout, want.says[0]) || !strings.Contains(stdout+stderr, want.says[1]) || api.Deliveries().Total != 1 {
			t.Errorf("status %d, %d deliveries\n%s\n%s", status, api.Deliveries().Total, stdout, stderr)
		}
	}
}

// TestDryRunLooksAtTheTarget as far as that takes no credentials.
func TestDryRunLooksAtTheTarget(t *testing.T) {
	withKeys(t, "", "", "")
	for args, want := range map[string]struct {
		status int
		says   string
	}{
		"":                                      {exitDone, "dry: nothing was sent"},
		"--to fcc://repush":                     {exitUsage, "--to: must be"},
		"--to fc://repush --region cn-hangzhou": {exitUsage, "--account"},
		"--to fc://repush --region cn-hangzhou --account 1": {exitDone, "dry: nothing was sent"},
		"--to local":                               {exitUsage, "--region"},
		"--to local --region cn-hangzhou":          {exitDone, "dry: nothing was sent"},
		"--to mns://repush --endpoint localhost:1": {exitDone, "dry: nothing was sent"},
	} {
		status, stdout, stderr := repush(t.Context(), sampleEvent, append([]string{"inject", "-", "--reason", "r"}, strings.Fields(args)...)...)
		if status != want.status || !strings.Contains(stdout+stderr, want.says) {
			t.Errorf("%q: status %d, want %d and %q\n%s\n%s", args, status, want.status, want.says, stdout, stderr)
		}
	}
}

// TestInjectRefuses what cannot be right before anything is sent.
func TestInjectRefuses(t *testing.T) {
	withKeys(t, testKey, testSecret, testToken)
	for name, test := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"no target":                  {[]string{"-"}, exitUsage, "--to"},
		"no such kind":               {[]string{"-", "--to", "kafka://topic"}, exitUsage, "--to: must be"},
		"stdout":                     {[]string{"-", "--to", "stdout"}, exitUsage, "--to: must be"},
		"plain http":                 {[]string{"-", "--to", "http://repush.example"}, exitUsage, "loopback"},
		"a user in the address":      {[]string{"-", "--to", "https://me:sesame@repush.example"}, exitUsage, "--to"},
		"an address twice":           {[]string{"-", "--to", "https://repush.example", "--endpoint", "repush.example"}, exitUsage, "--endpoint"},
		"no account":                 {[]string{"-", "--to", "fc://repush", "--region", "cn-hangzhou"}, exitUsage, "--account"},
		"no region":                  {[]string{"-", "--to", "fc2://ons/repush", "--account", "1"}, exitUsage, "--region"},
		"a region that is a host":    {[]string{"-", "--to", "fc://repush", "--account", "1", "--region", "evil.example/"}, exitUsage, "--region"},
		"a service in 3.0":           {[]string{"-", "--to", "fc://ons/repush", "--endpoint", "localhost:1"}, exitUsage, "fc2://SERVICE"},
		"no service in 2.0":          {[]string{"-", "--to", "fc2://repush", "--endpoint", "localhost:1"}, exitUsage, "fc2://SERVICE"},
		"another query":              {[]string{"-", "--to", "fc://repush?version=1", "--endpoint", "localhost:1"}, exitUsage, "qualifier"},
		"plain http to a function":   {[]string{"-", "--to", "fc://repush", "--endpoint", "http://fc.example"}, exitUsage, "--endpoint: must be https"},
		"no bus":                     {[]string{"-", "--to", "eventbridge://", "--endpoint", "localhost:1"}, exitUsage, "BUS"},
		"asynchronous over HTTP":     {[]string{"-", "--to", "https://repush.example", "--async"}, exitUsage, "--async"},
		"no message":                 {[]string{"--to", "https://repush.example"}, exitUsage, "--instance: is required"},
		"both":                       {[]string{"-", "--to", "https://repush.example", "--msg", "x"}, exitUsage, "a FILE has columns"},
		"no such file":               {[]string{"/nonexistent", "--to", "https://repush.example"}, exitFailed, "/nonexistent"},
		"a number apart from again":  {[]string{"--again", "3", "--to", "https://repush.example"}, exitUsage, "--again=N"},
		"standard input twice":       {[]string{"-", "-", "--to", "https://repush.example"}, exitUsage, "read once"},
		"no reason":                  {[]string{"-", "--to", "https://repush.example", "--reason", ""}, exitUsage, "--reason: is required"},
		"a quota of nothing":         {[]string{"-", "--to", "https://repush.example", "--qps", "0"}, exitUsage, "--qps: must be"},
		"no time":                    {[]string{"-", "--to", "https://repush.example", "--timeout", "0"}, exitUsage, "--timeout: must be"},
		"no time, local":             {[]string{"-", "--to", "local", "--region", "r", "--timeout", "-1s"}, exitUsage, "--timeout: must be"},
		"local, and elsewhere":       {[]string{"-", "--to", "local", "--endpoint", "localhost:1"}, exitUsage, "--endpoint"},
		"a ledger elsewhere":         {[]string{"-", "--to", "https://repush.example", "--state", "ledger"}, exitUsage, "--to local"},
		"a report of one message":    {append(askFor(stuckMessage), "--to", "https://repush.example", "--report", "r.html"), exitUsage, "--report"},
		"one message, local":         {append(askFor(stuckMessage), "--to", "local"), exitUsage, "repush push"},
		"a secret flag is not there": {[]string{"-", "--access-key-secret", "x"}, exitUsage, "unknown flag"},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := repush(t.Context(), sampleEvent, append([]string{"inject", "--go", "--reason", "r"}, test.args...)...)
			if status != test.status || !strings.Contains(stderr, test.says) || stdout != "" {
				t.Errorf("status %d, want %d and %q\n%s\n%s", status, test.status, test.says, stdout, stderr)
			}
			noSecrets(t, stdout, stderr)
		})
	}
}
