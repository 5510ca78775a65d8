package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/infra/local/fcd"
)

// TestZipRuns: each zip of this machine's architecture, unpacked as a platform
// does, starts under every runtime, answers one event and stops when asked.
func TestZipRuns(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		if os.Getenv("TEST_REQUIRE") == "all" {
			t.Fatal("the zips run on Linux only")
		}
		t.Skip("the zips run on Linux only: use a Linux machine or container")
	}
	c := theClone(t)
	// Neither group is allowed, so that nothing leaves this machine.
	for function, test := range map[string]struct{ event, answer, written string }{
		"repush": {`{"specversion": "1.0", "id": "1", "source": "test", "type": "repush:Message:Requested", "data": {"instanceId": "MQ_INST_1_test",
			"topic": "orders", "groupId": "GID_x", "msgId": "C000021112CD18B4AAC26E1A0B570001", "reason": "not in the allow-list"}}`, `"outcome":"rejected"`, `"outcome":"rejected"`},
		"plan": {`{"specversion": "1.0", "id": "1", "source": "test", "type": "repush:Plan:Requested", "data": {"instanceId": "MQ_INST_1_test",
			"groupId": "GID_y", "source": "dead-letter", "reason": "not in the allow-list"}}`, `"requests":0`, ""},
	} {
		dir := unpack(t, read(t, c.dir, ".build/"+function+"-linux-"+runtime.GOARCH+".zip"))
		for _, r := range []fcd.Runtime{fcd.FCCustom, fcd.FCGo1, fcd.Lambda} {
			t.Run(function+" under "+string(r), func(t *testing.T) {
				t.Parallel()
				var stdout, stderr bytes.Buffer // read once the process is gone
				f, err := fcd.Start(t.Context(), fcd.Options{
					Binary: filepath.Join(dir, "bootstrap"), Runtime: r, Stdout: &stdout, Stderr: &stderr,
					Env: []string{"REPUSH_REGION=cn-hangzhou", "REPUSH_ALLOW=MQ_INST_1_test/GID_x/another-topic", "REPUSH_REQUESTS=stdout"},
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(f.Kill)
				answer, err := f.Invoke(t.Context(), []byte(test.event))
				if err != nil || answer.FunctionError != "" || !strings.Contains(string(answer.Payload), test.answer) {
					t.Errorf("Invoke = %q, %s, %v", answer.FunctionError, answer.Payload, err)
				}
				if err := f.Stop(t.Context()); err != nil {
					t.Error(err)
				}
				if v := f.Violations(); len(v) > 0 {
					t.Errorf("the function broke the platform's contract: %v", v)
				}
				if !strings.Contains(stdout.String(), test.written) {
					t.Errorf("there is no %s on stdout: %s", test.written, &stdout)
				}
				checkStart(t, stderr.String(), c.commit)
			})
		}
	}
}

// checkStart: the first line of the log says what was built.
func checkStart(t *testing.T, log, commit string) {
	t.Helper()
	var start struct{ Version, Commit string }
	first, _, _ := strings.Cut(log, "\n")
	if err := json.Unmarshal([]byte(first), &start); err != nil || start.Version != tag || start.Commit != commit {
		t.Errorf("the line of the start = %s, want version %s and commit %s", first, tag, commit)
	}
}
