package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/progress"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/report"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/run"
)

// watch shows a run while it goes on. Outcomes and progress are written by a goroutine of
// its own: who reads them may be slow, and the run is not. Safe for concurrent use.
type watch struct {
	display  *progress.Display // also of what else is said meanwhile
	journal  *run.Journal
	outcomes *json.Encoder // nil: they are not printed
	began    time.Time
	stop     func(error)   // the run
	wake     chan struct{} // full when something is to be written
	ended    chan struct{} // closed when all is written
	closing  func()
	broken   error // why outcomes are not written any more; show's alone

	mu       sync.Mutex
	toWrite  []events.Event
	rate     progress.Rate
	inFlight int
	why      string // of the last answer that decided nothing
	lastNews time.Time
	stopping bool
}

func newWatch(cmd *cobra.Command, j *run.Journal, asJSON bool, stop func(error)) *watch {
	w := &watch{
		journal: j, stop: stop, began: time.Now(), lastNews: time.Now(), wake: make(chan struct{}, 1), ended: make(chan struct{}),
		display: progress.New(cmd.ErrOrStderr(), progress.Detect(cmd.ErrOrStderr(), os.Getenv)),
	}
	w.rate.Add(0, w.began)
	if asJSON {
		w.outcomes = json.NewEncoder(cmd.OutOrStdout())
		w.outcomes.SetEscapeHTML(false)
	}
	j.News = w.news
	end := make(chan struct{})
	w.closing = sync.OnceFunc(func() { close(end) })
	go w.show(end, cmd.Context().Done())
	return w
}

// show writes until end, and what is left then.
func (w *watch) show(end, interrupted <-chan struct{}) {
	defer close(w.ended)
	defer w.display.Close()
	for going := true; going; {
		select {
		case <-end:
			going = false
		case <-interrupted:
			interrupted = nil
			w.mu.Lock()
			w.stopping = true
			w.mu.Unlock()
		case <-w.wake:
		case <-time.After(250 * time.Millisecond):
		}
		w.write()
		w.draw()
	}
}

// close ends it when everything is written, or, after leave, a second later.
func (w *watch) close(leave context.Context) {
	w.closing()
	select {
	case <-w.ended:
	case <-leave.Done():
		select {
		case <-w.ended:
		case <-time.After(time.Second):
		}
	}
}

func (w *watch) say(format string, args ...any) { w.display.Say(format, args...) }

// seen is told of every answer.
func (w *watch) seen(inFlight int, answers []run.Answer) {
	w.mu.Lock()
	w.inFlight = inFlight
	for _, a := range answers {
		if a.Status == run.Decided || a.Status == run.HandedOver {
			w.lastNews = time.Now()
		} else {
			w.why = a.Why
		}
	}
	w.mu.Unlock()
	w.changed()
}

func (w *watch) changed() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// note says what holds the run up, once nothing has been decided for a while.
func (w *watch) note(now time.Time) string {
	switch {
	case w.stopping:
		return "stopping; Ctrl-C again leaves at once"
	case now.Sub(w.lastNews) > 2*time.Second:
		return w.why
	}
	return ""
}

// finish writes a result event down that came another way than by an answer.
func (w *watch) finish(e events.Event) {
	if _, err := w.journal.Finish(e); err != nil && e.Type == events.TypeMessageCompleted {
		w.say("a result is not in the state file: %v", err)
	}
}

// news is told of every outcome, once.
func (w *watch) news(e events.Event) {
	w.mu.Lock()
	w.toWrite = append(w.toWrite, e)
	w.mu.Unlock()
	w.changed()
}

// write prints the outcomes that have come since.
func (w *watch) write() {
	w.mu.Lock()
	all := w.toWrite
	w.toWrite = nil
	w.mu.Unlock()
	for _, e := range all {
		if w.outcomes != nil && w.broken == nil {
			if err := w.outcomes.Encode(e); err != nil {
				w.broken = fmt.Errorf("the outcomes cannot be printed: %w", err)
				w.stop(w.broken)
			}
		}
		c := decodeCompleted(e)
		if c.Outcome.Closes() && c.Code != redelivered {
			w.mu.Lock()
			w.rate.Add(1, time.Now())
			w.mu.Unlock()
		}
		how := string(c.Outcome)
		if c.MaybeDuplicate {
			how += ", maybe twice"
		}
		if c.Request.Data != nil && c.Outcome != events.Cancelled && (c.MaybeDuplicate || !endedWell(settled(c.Outcome, c.Message))) {
			w.say("%s  %s  %s", how, c.Request.Data.MsgID, printable(strings.Trim(c.Code+": "+c.Message, ": ")))
		}
	}
}

func (w *watch) draw() {
	counts := w.journal.Counts()
	w.mu.Lock()
	now := time.Now()
	s := progress.Snapshot{
		Total: w.journal.Header.Count, Done: counts.Decided + counts.HandedOver, InFlight: min(w.inFlight, counts.Left()), Waiting: counts.Parked,
		Outcomes: counts.Outcomes, HandedOver: counts.HandedOver, PerSecond: w.rate.PerSecond(now), Quota: w.journal.Header.QPS,
		Elapsed: now.Sub(w.began), ETA: w.rate.ETA(counts.Left(), w.journal.Header.QPS, now), Note: w.note(now),
	}
	w.mu.Unlock()
	w.display.Update(s)
}

// conclude says what came of a run, and how to go on.
func (o runOptions) conclude(cmd *cobra.Command, j *run.Journal, failed error) error {
	c, out := j.Counts(), cmd.OutOrStdout()
	if o.json {
		out = cmd.ErrOrStderr() // the outcomes have stdout for themselves
	}
	fmt.Fprintf(out, "run %s: %s\n", j.Header.ID, messages(j.Header.Count))
	for _, outcome := range slices.Sorted(maps.Keys(c.Outcomes)) {
		fmt.Fprintf(out, "%7d %s\n", c.Outcomes[outcome], outcome)
	}
	parkedWhere := "wait in the function's ledger: it goes on with them by itself"
	if o.to == toLocal {
		parkedWhere = "wait in the ledger: 'repush resume', or the next local run, goes on with them"
	}
	for _, part := range []struct {
		n    int
		says string
	}{
		{c.MaybeTwice, "of these may have reached a consumer more than once"},
		{c.Unsure, "of these are duplicates of what may have been pushed (unknown)"},
		{c.HandedOver, "handed over to the queue: their result events tell the outcomes"},
		{c.Parked, parkedWhere},
		{c.InDoubt, "in doubt: they may have been pushed"},
		{c.Open, "not asked for, or given back: nobody has them"},
	} {
		if part.n > 0 {
			fmt.Fprintf(out, "%7d %s\n", part.n, part.says)
		}
	}
	doubtful := j.InDoubt()
	for i, e := range doubtful {
		asked, _ := events.DecodeRequested(e.Data) // it was read before
		if fmt.Fprintf(out, "        in doubt  %s  of %s\n", asked.MsgID, asked.Topic); i == 19 && len(doubtful) > 20 {
			fmt.Fprintf(out, "        and %d more: the report names them\n", len(doubtful)-20)
			break
		}
	}
	if c.Left() > 0 {
		fmt.Fprintf(out, "go on with\n  repush resume %s\n", quoted(j.Path))
	} else {
		fmt.Fprintf(out, "more of it\n  repush report %s\n", quoted(j.Path))
	}
	verdict := verdictOf(cmd, c, failed)
	if err := o.writeReport(j); err != nil { // which does not undo what was done
		fmt.Fprintf(cmd.ErrOrStderr(), "repush: the report: %v\n", err)
		verdict = cmp.Or(verdict, errPartial)
	}
	return verdict
}

// verdictOf is the exit status in words.
func verdictOf(cmd *cobra.Command, c run.Counts, failed error) error {
	switch {
	case failed != nil && c.Decided+c.Parked+c.HandedOver+c.InDoubt == 0:
		return fmt.Errorf("nothing was handed over: %w", failed)
	case failed != nil:
		fmt.Fprintf(cmd.ErrOrStderr(), "repush: %v\n", failed)
		return errPartial
	case c.Left() > 0, c.Unsure > 0:
		return errPartial
	}
	for outcome := range c.Outcomes {
		if !endedWell(outcome) {
			return errPartial
		}
	}
	return nil
}

// writeReport writes the page that --report asks for.
func (o runOptions) writeReport(j *run.Journal) error {
	if o.report == "" {
		return nil
	}
	var all report.Results
	if err := readResults(&all, j.Path, nil); err != nil {
		return err
	}
	return writeWhole(o.report, os.Rename, report.New(&all, report.Options{Title: j.Header.Reason, QPS: j.Header.QPS, Now: time.Now()}).WriteHTML)
}
