package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// steered is a running function with a ledger in a file, and what is typed at it.
func steered(t *testing.T) (api *standIn, url string, do func(args ...string) (status int, stdout, stderr string)) {
	t.Helper()
	api = withAPI(t)
	t.Setenv("REPUSH_HTTP_TOKEN", "sesame-sesame-sesame")
	env := append([]string{"PATH=" + os.Getenv("PATH"), "REPUSH_HTTP_TOKEN=sesame-sesame-sesame", "REPUSH_STATE=file:" + filepath.Join(t.TempDir(), "ledger")}, api.env()...)
	f, err := startHTTP(t.Context(), built(t), env, &buffer{}, &buffer{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.stop)
	return api, f.URL, func(args ...string) (int, string, string) {
		return repush(t.Context(), "", append(args, "--to", f.URL)...)
	}
}

// TestSteering: each command does to the running function what its help says, and
// status tells how it stands.
func TestSteering(t *testing.T) {
	api, _, do := steered(t)
	event := filepath.Join(t.TempDir(), "event.json")
	data := `{"instanceId":"MQ_INST_1380156306793859_BbXbx0Y4","topic":"orders","groupId":"GID_billing","msgId":"` + stuckMessage + `","reason":"r","operationId":"op-7"}`
	if err := os.WriteFile(event, []byte(`{"specversion":"1.0","id":"one","source":"test","type":"repush:Message:Requested","data":`+data+`}`), 0o600); err != nil {
		t.Fatal(err)
	}
	message := []string{"--instance", "MQ_INST_1380156306793859_BbXbx0Y4", "--topic", "orders", "--group", "GID_billing", "--msg", stuckMessage}
	for i, step := range []struct {
		args   []string
		says   string
		pushed int
	}{
		{[]string{"status"}, "open      none", 0},
		{[]string{"pause", "op-7", "--reason", "ticket 4711"}, "pause operation/op-7; asked by", 0},
		{[]string{"inject", event, "--reason", "r", "--go", "--anew", "--wait", "1s"}, "1 wait in the function's ledger", 0},
		{[]string{"status", "op-7"}, "open      1 waiting", 0},
		{[]string{"status", "op-7"}, "orders    Paused", 0},
		{append([]string{"status"}, message...), "request   one  generation 1  waiting (Paused", 0},
		{[]string{"continue", "op-7"}, "continue operation/op-7", 0},
		{[]string{"stop"}, "stop everything", 0},
		{[]string{"inject", event, "--reason", "r", "--go", "--anew", "--wait", "1s"}, "1 wait in the function's ledger", 0},
		{[]string{"status"}, "orders    Stopped", 0},
		{[]string{"status"}, "quota     one call in 10", 0}, // … ms
		{[]string{"start"}, "start everything", 0},
		{[]string{"inject", event, "--reason", "r", "--go", "--anew", "--wait", "1s"}, "1 pushed", 1},
		{[]string{"status", "op-7"}, "outcomes  1 pushed", 1},
		{append([]string{"status"}, message...), "pushes    1", 1},
		{[]string{"cancel", "op-8"}, "cancel operation/op-8", 1},
		{[]string{"continue", "op-8"}, "", 1},
	} {
		status, stdout, stderr := do(step.args...)
		want := exitDone
		if step.args[0] == "continue" && step.args[1] == "op-8" {
			want = exitFailed
		} else if strings.Contains(step.says, "wait in") {
			want = exitPartial // until it is decided
		}
		if status != want || !strings.Contains(stdout, step.says) || strings.Contains(stdout+stderr, "sesame") {
			t.Errorf("step %d, %v: status %d, want %q\n%s\n%s", i, step.args[:1], status, step.says, stdout, stderr)
		}
		if n := api.Deliveries().Total; n != step.pushed {
			t.Fatalf("step %d, %v: %d deliveries, want %d", i, step.args, n, step.pushed)
		}
	}
	if _, _, stderr := do("cancel", "op-99"); !strings.Contains(stderr, "no request of op-99 is known") {
		t.Errorf("an operation nobody has heard of: %s", stderr)
	}
	if _, _, stderr := do("pause", "op-7"); strings.Contains(stderr, "is known") {
		t.Errorf("one that is known: %s", stderr)
	}
	if status, stdout, _ := do("status", "op-7", "--json"); status != exitDone || !json.Valid([]byte(stdout)) || !strings.Contains(stdout, `"progress"`) {
		t.Errorf("--json: status %d\n%s", status, stdout)
	}
}

// TestSteeringWrong: what cannot be right is said by the flag.
func TestSteeringWrong(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	for line, says := range map[string]string{
		"pause --to http://127.0.0.1:1/":                    "OPERATION: is required, or a message",
		"cancel a/b --to http://127.0.0.1:1/":               "OPERATION: must be",
		"stop op --to http://127.0.0.1:1/":                  "at most 0 arg",
		"pause op --instance i --to http://127.0.0.1:1/":    "must not stand beside operationId",
		"status --msg 00 --to http://127.0.0.1:1/":          "--instance: is required",
		"stop --to mns://queues/x":                          "must be asked directly",
		"status --to eventbridge://bus":                     "must be asked directly",
		"start":                                             "--to: is required: fc://FUNCTION",
		"continue op --timeout 1s --to http://127.0.0.1:1/": "no connection",
		"status --reason x --to http://127.0.0.1:1/":        "unknown flag",
	} {
		status, stdout, stderr := repush(t.Context(), "", strings.Fields(line)...)
		if status == exitDone || !strings.Contains(stderr, says) {
			t.Errorf("%s: status %d, want %q\n%s\n%s", line, status, says, stdout, stderr)
		}
	}
}
