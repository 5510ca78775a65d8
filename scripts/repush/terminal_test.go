package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/progress"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/progress/progresstest"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/run"
)

// atTerminal runs a command line as a process at a terminal of so many columns.
func atTerminal(t *testing.T, columns int, env []string, args ...string) *progresstest.Session {
	t.Helper()
	cmd := selfCommand(args...)
	cmd.Env = append(append(cmd.Env, "TERM=xterm-256color", "LANG=C.UTF-8"), env...)
	return progresstest.Start(t, cmd, columns, 30)
}

// endsWith waits for the end, and for its exit status.
func endsWith(t *testing.T, s *progresstest.Session, status int) (screen string) {
	t.Helper()
	var exit *exec.ExitError
	got := 0
	if err := s.Wait(); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	screen = strings.Join(s.Screen().All(), "\n")
	if got != status {
		t.Errorf("status %d, want %d\n%s", got, status, screen)
	}
	return screen
}

// unwrapped is a screen's text with the lines that a narrow terminal broke put
// together.
func unwrapped(s *progresstest.Session, columns int) string {
	var text strings.Builder
	for _, line := range s.Screen().All() {
		text.WriteString(line)
		if len([]rune(line)) < columns {
			text.WriteString("\n")
		}
	}
	return text.String()
}

// TestTerminal: a person is asked, sees how it goes on, presses Ctrl-C, and goes on
// later on a narrow terminal without colours; nothing is pushed twice.
func TestTerminal(t *testing.T) {
	api, ids := crowd(t, 60, onsd.Quota{Kind: "sliding", Limit: 20, Window: time.Second}, onsd.Client{})
	url := deployed(t, api, "REPUSH_QPS=20", "REPUSH_STATE=file:"+filepath.Join(t.TempDir(), "ledger"))
	file := csvOf(t, ids)
	args := injecting(file, "--to", url, "--go", "--qps", "20")

	for _, no := range []string{"n\n", "\x04"} { // Ctrl-D, after which the line has no end
		s := atTerminal(t, 100, nil, args...)
		s.UntilText("push 60 messages through " + url + "? [y/N]")
		s.Send(no)
		if screen := endsWith(t, s, exitFailed); !strings.Contains(screen, "\nrepush: nothing was sent") || api.Deliveries().Total != 0 {
			t.Fatalf("%d deliveries\n%s", api.Deliveries().Total, screen)
		}
	}

	s := atTerminal(t, 100, nil, args...)
	s.UntilText("[y/N]")
	s.Send("y\n")
	s.Until("progress", func(lines []string) bool {
		return regexp.MustCompile(`\d+%.*[1-9]\d*/60.*pushed \d+.*/s.*of quota`).MatchString(strings.Join(lines, "\n"))
	})
	if len(s.Screen().Escapes()) == 0 {
		t.Error("no colour and no erasing on a terminal")
	}
	s.Send("\x03")
	s.UntilText("stopping")
	screen := endsWith(t, s, exitPartial)
	state := stateOf(t, unwrapped(s, 100))
	if !strings.Contains(screen, "interrupted") || !strings.Contains(screen, "nobody has them") || strings.Contains(screen, "in doubt") {
		t.Errorf("after Ctrl-C:\n%s", screen)
	}

	s = atTerminal(t, 40, []string{"NO_COLOR=1"}, "resume", state)
	s.Until("progress", func(lines []string) bool {
		return regexp.MustCompile(`\d+%.*\d+/60`).MatchString(strings.Join(lines, "\n"))
	})
	screen = endsWith(t, s, exitDone)
	if !strings.Contains(screen, "60 pushed") {
		t.Errorf("resumed:\n%s", screen)
	}
	for _, escape := range s.Screen().Escapes() {
		if strings.HasSuffix(strings.Trim(escape, `"`), "m") {
			t.Errorf("a colour in spite of NO_COLOR: %s", escape)
		}
	}
	if n := strings.Count(screen, "%  "); n > 2 { // one line that is redrawn, not one after the other
		t.Errorf("%d lines of progress on a narrow screen:\n%s", n, screen)
	}
	once(t, api, ids, state)
}

// TestNotesFit: what to press is not cut where a terminal is as wide as most are.
func TestNotesFit(t *testing.T) {
	t.Parallel()
	w := &watch{stopping: true}
	if note := w.note(time.Now()); len(note) > 39 || !strings.Contains(note, "Ctrl-C") {
		t.Errorf("%q has %d characters; half a line of 80 has 39", note, len(note))
	}
}

// TestLastLine: what is decided is not under way, although its answer is.
func TestLastLine(t *testing.T) {
	t.Parallel()
	e := pushEvent(events.Requested{InstanceID: "MQ_INST_1_x", Topic: "orders", GroupID: "GID_x", MsgID: stuckMessage, Reason: "r"})
	j, err := run.Create(filepath.Join(t.TempDir(), "state"), run.Header{ID: "run-1"}, []events.Event{e})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	result, err := events.NewCompleted(events.Completed{Request: events.RequestRef{ID: e.ID, Source: e.Source}, Outcome: events.Pushed, ReceivedAt: e.Time, DecidedAt: e.Time})
	if err == nil {
		_, err = j.Finish(result)
	}
	if err != nil {
		t.Fatal(err)
	}
	var said buffer
	w := &watch{journal: j, display: progress.New(&said, progress.Options{}), inFlight: 1}
	w.draw()
	if !strings.Contains(said.String(), "100%") || strings.Contains(said.String(), "in flight") {
		t.Error(said.String())
	}
}

// TestSecondCtrlC leaves at once, while pushes are under way, and names what is in
// doubt; the function's ledger settles that when the run is resumed.
func TestSecondCtrlC(t *testing.T) {
	api, ids := crowd(t, 30, onsd.Quota{Kind: "none"}, onsd.Client{Latency: onsd.Latency{Delay: 3 * time.Second}})
	t.Setenv("REPUSH_PUSH_TIMEOUT", "4s") // leases end soon
	for name, to := range map[string][]string{
		"elsewhere": {"--to", deployed(t, api, "REPUSH_QPS=20", "REPUSH_PUSH_TIMEOUT=4s", "REPUSH_STATE=file:"+filepath.Join(t.TempDir(), "ledger"))},
		"local":     {"--to", "local", "--ons", api.URL, "--bin", built(t), "--state", filepath.Join(t.TempDir(), "ledger")},
	} {
		t.Run(name, func(t *testing.T) {
			mine := ids[:15]
			if name == "local" {
				mine = ids[15:]
			}
			before := api.Deliveries().Total
			s := atTerminal(t, 120, nil, injecting(csvOf(t, mine), append(to, "--go", "--yes", "--qps", "20")...)...)
			for deadline := time.Now().Add(30 * time.Second); api.Deliveries().Total == before; {
				if !pause(t.Context(), 10*time.Millisecond) || time.Now().After(deadline) {
					t.Fatal("nothing is delivered")
				}
			}
			s.Send("\x03")
			s.UntilText("stopping")
			began := time.Now()
			s.Send("\x03")
			screen := endsWith(t, s, exitPartial)
			if took := time.Since(began); took > 2500*time.Millisecond || !strings.Contains(screen, "left at once") || !strings.Contains(screen, "in doubt: they may have been pushed") || !strings.Contains(screen, "in doubt  "+mine[0]) {
				t.Errorf("after %s:\n%s", took, screen)
			}
			state := stateOf(t, unwrapped(s, 120))
			status, stdout, stderr := repush(t.Context(), "", "resume", state)
			d := api.Deliveries()
			for _, id := range mine {
				if d.ByMessage[id] > 1 {
					t.Errorf("%s was delivered %d times", id, d.ByMessage[id])
				}
			}
			if d.Total != before+15 || strings.Contains(stdout, "in doubt") || status != exitDone && status != exitPartial {
				t.Errorf("status %d, %d deliveries\n%s\n%s", status, d.Total-before, stdout, stderr)
			}
		})
	}
}

// TestCtrlCLocal: the function on this machine is no part of the terminal's job, so
// that Ctrl-C waits for what it has under way.
func TestCtrlCLocal(t *testing.T) {
	api, ids := crowd(t, 30, onsd.Quota{Kind: "sliding", Limit: 10, Window: time.Second}, onsd.Client{Latency: onsd.Latency{Delay: time.Second}})
	s := atTerminal(t, 100, nil, injecting(csvOf(t, ids), "--to", "local", "--ons", api.URL, "--bin", built(t), "--go", "--yes")...)
	s.Until("progress", func(lines []string) bool { return strings.Contains(strings.Join(lines, "\n"), "pushed ") })
	s.Send("\x03")
	screen := endsWith(t, s, exitPartial)
	if strings.Contains(screen, "in doubt") || strings.Contains(screen, "unknown") || !strings.Contains(screen, "interrupted") {
		t.Errorf("after Ctrl-C:\n%s", screen)
	}
	state := stateOf(t, unwrapped(s, 100))
	if status, stdout, stderr := repush(t.Context(), "", "resume", state); status != exitDone || !strings.Contains(stdout, "30 pushed") {
		t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
	}
	once(t, api, ids, state)
	if _, err := os.Stat(state); err != nil {
		t.Error(err)
	}
}

// TestClosedPipe: who reads the outcomes goes away; the run stops as by Ctrl-C, and can
// be resumed.
func TestClosedPipe(t *testing.T) {
	api, ids := crowd(t, 60, onsd.Quota{Kind: "sliding", Limit: 20, Window: time.Second}, onsd.Client{})
	url := deployed(t, api, "REPUSH_QPS=20", "REPUSH_STATE=file:"+filepath.Join(t.TempDir(), "ledger"))
	cmd := selfCommand(injecting(csvOf(t, ids), "--to", url, "--go", "--yes", "--qps", "20", "--json")...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 100))
	_ = out.Close()
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != exitPartial || !strings.Contains(said.String(), "the outcomes cannot be printed") || strings.Contains(said.String(), "in doubt") {
		t.Fatalf("%s\n%s", cmd.ProcessState, said.String())
	}
	state := stateOf(t, said.String())
	if status, stdout, stderr := repush(t.Context(), "", "resume", state); status != exitDone {
		t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
	}
	once(t, api, ids, state)
}
