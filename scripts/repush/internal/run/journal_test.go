package run

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
)

// TestCutAnywhere: a state file that a kill has cut is resumed from its last whole
// line, or, when its requests are not all there, refused.
func TestCutAnywhere(t *testing.T) {
	t.Parallel()
	j := journal(t, 3)
	all := j.Requests()
	for i, s := range []state{begun, begun, open, parked} {
		if err := j.set(i%3, s); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Finish(resultOf(t, all[1], events.Failed, events.SourceRepush)); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(j.Path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(bytes.TrimSuffix(whole, []byte("\n")), []byte("\n"))
	if len(lines) != 8 || bytes.Contains(whole, []byte("givenBack")) {
		t.Fatalf("%d lines:\n%s", len(lines), whole)
	}
	requests := len(bytes.Join(lines[:4], nil))
	opened := 0
	for cut := 0; cut <= len(whole); cut++ {
		if cut%7 > 1 && !bytes.HasSuffix(whole[:cut], []byte("\n")) { // most of them say the same
			continue
		}
		path := filepath.Join(t.TempDir(), "cut")
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := Open(path)
		if (err == nil) != (cut >= requests) {
			t.Fatalf("cut at %d of %d: %v", cut, len(whole), err)
		}
		if err != nil {
			continue
		}
		opened++
		if err := j.set(2, begun); err != nil { // what comes next is a line of its own
			t.Fatal(err)
		}
		reopen(t, j)
		if after, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(after, whole[:bytes.LastIndexByte(whole[:cut], '\n')+1]) {
			t.Fatalf("cut at %d: what was whole is gone: %v\n%s", cut, err, after)
		}
	}
	if opened < 100 {
		t.Errorf("%d were opened", opened)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	j := journal(t, 2)
	if _, err := Open(j.Path); !errors.Is(err, ErrLocked) {
		t.Errorf("while it is open: %v", err)
	}
	if _, err := Create(j.Path, Header{ID: "other"}, requests(t, 1)); err == nil {
		t.Error("a state file was written over")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(j.Path)
	if err != nil {
		t.Fatal(err)
	}
	twice := requests(t, 3)
	twice[1].ID, twice[2].ID = twice[0].ID, twice[0].ID
	path := filepath.Join(t.TempDir(), "twice")
	if _, err := Create(path, Header{ID: "x"}, twice); err == nil || strings.Count(err.Error(), "there twice") != 1 {
		t.Errorf("requests of one id, which is said once: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("and the file was left behind")
	}
	for name, test := range map[string]struct{ text, says string }{
		"nothing":                {"", "is not the state file of a run"},
		"something else":         {"hello\n", "line 1: is not JSON"},
		"other JSON":             {`{"level":"info"}` + "\n", "line 1: is nothing that a run writes"},
		"an unknown id":          {string(whole) + `{"begun":"r9"}` + "\n", "line 4: is nothing that a run writes"},
		"an empty id":            {string(whole) + `{"begun":""}` + "\n", "line 4: is nothing that a run writes"},
		"a line too long":        {string(whole) + strings.Repeat("x", 2<<20) + "\n", "line 4: "},
		"another event":          {string(whole) + `{"specversion":"1.0","id":"1","source":"s","type":"repush:Sweep:Requested"}` + "\n", "line 4: is no result event"},
		"one too few":            {strings.Replace(string(whole), `"count":2`, `"count":3`, 1), "2 of 3 requests"},
		"a broken request":       {strings.Replace(string(whole), `"topic":"orders"`, `"topic":""`, 1), "line 2: topic"},
		"two headers":            {string(whole) + `{"run":{"id":"run-2"}}` + "\n", "line 4: is nothing that a run writes"},
		"the requests once more": {string(whole) + strings.SplitAfter(string(whole), "\n")[1], "line 4: id: \"r0\" is there twice"},
	} {
		path := filepath.Join(t.TempDir(), "state")
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != test.text {
			t.Errorf("%s: what was refused was changed: %v", name, err)
		}
	}
}

// FuzzState: whatever is in a state file, it is refused or understood, and what was
// understood is understood again.
func FuzzState(f *testing.F) {
	j := journal(f, 2)
	_ = j.set(0, begun)
	if _, err := j.Finish(resultOf(f, j.Requests()[1], events.Pushed, Source+"inject")); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(j.Path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-10])
	f.Add([]byte(`{"run":{"id":"x"}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		j, again := new(Journal), new(Journal)
		whole, err := j.read(bytes.NewReader(text))
		if err != nil {
			return
		}
		c := j.Counts()
		if n := c.Open + c.InDoubt + c.Parked + c.HandedOver + c.Decided; n != j.Header.Count || len(j.InDoubt()) != c.InDoubt {
			t.Fatalf("%+v of %d", c, j.Header.Count)
		}
		if n, err := again.read(bytes.NewReader(text[:whole])); err != nil || n != whole {
			t.Fatalf("%d of %d: %v", n, whole, err)
		}
		if diff := cmp.Diff(c, again.Counts()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestDiskFull: what could not be written stops the run, and what was written before is
// resumed.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	j := journal(t, 30)
	whole, err := os.ReadFile(j.Path)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(j.Path) // a file that cannot be written to
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	kept := j.file
	j.file = reader
	asked := 0
	r := Runner{Journal: j, Batch: 1, QPS: 10, Most: 150, Send: func(context.Context, []events.Event) []Answer {
		asked++
		return []Answer{{Status: GivenBack}}
	}}
	if err := r.Run(t.Context(), t.Context()); err == nil || !strings.Contains(err.Error(), "the state file cannot be written") || asked != 0 {
		t.Errorf("%v, %d asked for", err, asked)
	}
	j.file = kept
	if err := j.set(3, begun); err == nil {
		t.Error("written behind half a line")
	}
	if after, err := os.ReadFile(j.Path); err != nil || !bytes.Equal(after, whole) {
		t.Errorf("%v, the file has changed", err)
	}
}
