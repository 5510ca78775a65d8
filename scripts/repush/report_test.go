package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// resultLine is a result of the message n.
func resultLine(t *testing.T, msgID string, o events.Outcome) string {
	t.Helper()
	data := events.Requested{InstanceID: "MQ_INST_1380156306793859_BbXbx0Y4", Topic: "orders", GroupID: "GID_billing", MsgID: msgID, Reason: "why"}
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	e, err := events.NewCompleted(events.Completed{Request: events.RequestRef{ID: msgID, Source: "ops", Data: &data}, Outcome: o, Durable: true, Attempts: 1, ReceivedAt: at, DecidedAt: at, CallMs: 40})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw) + "\n"
}

func TestReport(t *testing.T) {
	t.Parallel()
	ids := []string{strings.Repeat("A", 32), strings.Repeat("B", 32), strings.Repeat("C", 32)}
	in := "a log line\n" + resultLine(t, ids[0], events.Pushed) + resultLine(t, ids[1], events.Failed) + resultLine(t, ids[2], events.Unknown)
	broken := in + `{"type":"repush:Message:Completed"}` + "\n"
	for name, test := range map[string]struct {
		stdin   string
		args    []string // $ stands for a directory
		status  int
		says    string
		written map[string]string // files, and what is in them
	}{
		"in short":                  {in, []string{"-"}, exitDone, "asked     3\n", nil},
		"two inputs":                {in, []string{"-", "$/results.jsonl"}, exitDone, "asked     4\n", nil},
		"Markdown":                  {in, []string{"-", "--md", "--title", "a|b"}, exitDone, `## a\|b`, nil},
		"counts":                    {in, []string{"-", "--json", "--qps", "5"}, exitDone, `"qps": 5`, nil},
		"a page":                    {in, []string{"-", "-o", "$/report.html"}, exitDone, "report.html is written", map[string]string{"report.html": "<!DOCTYPE html>"}},
		"page, counts and the rest": {in, []string{"-", "-o", "$/r.html", "--json", "--leftovers", "$/l.csv", "--unknowns", "$/u.csv"}, exitDone, `"asked": 3`, map[string]string{"r.html": ids[0], "l.csv": ids[1] + ",,,,,1,\n", "u.csv": ids[2] + ",,,,,2,\n"}},
		"some are none":             {broken, []string{"-"}, exitPartial, "standard input: line 5: looks like", nil},
		"some are none, to a page":  {broken, []string{"-", "-o", "$/report.html"}, exitPartial, "1 look like results and are none, such as standard input: line 5", map[string]string{"report.html": "standard input: line 5"}},
		"another file":              {"msgId,topic\n1,2\n", []string{"-"}, exitPartial, "no result was found in 2 lines", nil},
		"another file, for a page":  {"msgId,topic\n", []string{"-", "-o", "$/report.html"}, exitPartial, "no result was found in 1 lines", map[string]string{"report.html": "<!DOCTYPE html>"}},
		"one result in a log":       {"a\nb\n" + resultLine(t, ids[0], events.Pushed), []string{"-"}, exitDone, "passed    2", nil},
		"an empty file":             {"", []string{"-"}, exitDone, "asked     0", nil},
		"the quota of a run":        {`{"run":{"reason":"ticket","qps":50}}` + "\n" + in, []string{"-", "--json"}, exitDone, `"qps": 50`, nil},
		"another quota":             {`{"run":{"reason":"ticket","qps":50}}` + "\n" + in, []string{"-", "--json", "--qps", "7"}, exitDone, `"qps": 7`, nil},
		"quota of zero":             {in, []string{"-", "--qps", "0"}, exitUsage, "--qps: must be", nil},
		"help":                      {"", []string{"--help"}, exitDone, "Exit status: 0 done, 1 a file cannot", nil},
		"no input":                  {"", []string{}, exitUsage, "name at least one file", nil},
		"no such input":             {"", []string{"$/none"}, exitFailed, "no such state file, and no run of this id", nil},
		"no such place":             {in, []string{"-", "-o", "$/none/report.html"}, exitUsage, "report.html: must be a file, in a folder that is there", nil},
		"below a file":              {in, []string{"-", "-o", "$/results.jsonl/report.html"}, exitUsage, "report.html: must be a file, in a folder that is there", nil},
		"onto a folder":             {in, []string{"-", "--leftovers", "$"}, exitUsage, "must be a file, in a folder", nil},
		"onto what is no name":      {in, []string{"-", "-o", "-"}, exitUsage, "-: must be a file, in a folder", nil},
		"onto its input":            {"", []string{"$/results.jsonl", "-o", "$/./results.jsonl"}, exitUsage, "is read, or written, as something else", nil},
		"onto a link to its input":  {"", []string{"$/results.jsonl", "--leftovers", "$/link"}, exitUsage, "is read, or written, as something else", nil},
		"two into one":              {in, []string{"-", "--leftovers", "$/x", "--unknowns", "$/x"}, exitUsage, "is read, or written, as something else", nil},
		"no quota":                  {in, []string{"-", "--qps", "NaN"}, exitUsage, "--qps: must be", nil},
		"Markdown and JSON":         {in, []string{"-", "--md", "--json"}, exitUsage, "--md and --json: only one", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			before := resultLine(t, strings.Repeat("D", 32), events.Pushed)
			if err := os.WriteFile(filepath.Join(dir, "results.jsonl"), []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("results.jsonl", filepath.Join(dir, "link")); err != nil {
				t.Fatal(err)
			}
			args := []string{"report"}
			for _, arg := range test.args {
				args = append(args, strings.ReplaceAll(arg, "$", dir))
			}
			status, stdout, stderr := repush(t.Context(), test.stdin, args...)
			if status != test.status || !strings.Contains(stdout+stderr, test.says) {
				t.Errorf("status %d, want %d and %q\n%s\n%s", status, test.status, test.says, stdout, stderr)
			}
			for file, want := range test.written {
				if raw, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(raw), want) {
					t.Errorf("%s: %v, no %q in %.300s", file, err, want, raw)
				}
			}
			if raw, err := os.ReadFile(filepath.Join(dir, "results.jsonl")); err != nil || string(raw) != before {
				t.Errorf("the input was changed: %v", err)
			}
			if files, err := os.ReadDir(dir); err != nil || len(files) != 2+len(test.written) {
				t.Errorf("left behind: %v, %v", files, err)
			}
		})
	}
}

// TestWriteWhole: what a link points to is replaced, and the link stays; what is no
// regular file is written into.
func TestWriteWhole(t *testing.T) {
	t.Parallel()
	write := func(w io.Writer) error { _, err := io.WriteString(w, "page"); return err }
	page, link := fileOf(t, "page.html", "old"), filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.Symlink(page, link), writeWhole(link, os.Rename, write)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(link)
	if raw, readErr := os.ReadFile(page); readErr != nil || string(raw) != "page" || err != nil || info.Mode().IsRegular() {
		t.Errorf("%v, %v: the link is %s, and what it points to is %q", readErr, err, info.Mode(), raw)
	}
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("there is no /proc: use Linux")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = writeWhole(fmt.Sprintf("/proc/self/fd/%d", w.Fd()), os.Rename, write)
	_ = w.Close()
	if raw, readErr := io.ReadAll(r); err != nil || readErr != nil || string(raw) != "page" {
		t.Errorf("a pipe: %v, %v, %q", err, readErr, raw)
	}
}

// TestReportOfARun: a run can be named by its id, and is never written over.
func TestReportOfARun(t *testing.T) {
	withKeys(t, "", "", "")
	dir := defaultLedger("runs")
	state := filepath.Join(dir, "inject-20261122-031500-k3v9q2xd-0123456789ab.jsonl")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	before := `{"run":{"id":"inject-20261122-031500-k3v9q2xd","reason":"ticket 4711","qps":20}}` + "\n" + resultLine(t, strings.Repeat("A", 32), events.Pushed)
	if err := os.WriteFile(state, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	const id = "inject-20261122-031500-k3v9q2xd"
	if status, stdout, stderr := repush(t.Context(), "", "report", id); status != exitDone || !strings.Contains(stdout, "ticket 4711\nasked     1\n") {
		t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
	}
	if status, _, stderr := repush(t.Context(), "", "report", id, "-o", state); status != exitUsage || !strings.Contains(stderr, "is read, or written") {
		t.Errorf("status %d, %s", status, stderr)
	}
	if raw, err := os.ReadFile(state); err != nil || string(raw) != before {
		t.Errorf("the state was changed: %v", err)
	}
}
