package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Answer is what became of one request on its way.
type Answer struct {
	Status Status
	// Result is the result event, as far as the answer tells it; for [Decided]
	// alone.
	Result events.Event
	// Pushed: the request took a slot of the quota.
	Pushed bool
	// Why is for people: what holds it up, or what went wrong.
	Why string
}

// Status is how far a request came.
type Status int

// Statuses.
const (
	// Unanswered: nobody knows whether it arrived. It is not asked for again by the
	// same run, for a function without a ledger that lasts might push twice.
	Unanswered Status = iota
	Decided
	// Parked: it waits in the function's ledger; asked again, that tells how it stands.
	Parked
	// HandedOver to a queue, for good.
	HandedOver
	// GivenBack: the function ran and did not decide, and has nothing to remember it by.
	GivenBack
	// Refused by the target: this call told nobody of it.
	Refused
)

// Runner works a journal off.
type Runner struct {
	Journal *Journal
	// Send asks for the pushes of a batch and returns an answer for each; safe for
	// concurrent use.
	Send func(ctx context.Context, batch []events.Event) []Answer
	// Batch is how many events one Send takes: 1 where each answer tells the outcome.
	Batch int
	// QPS is the quota; Most bounds the requests under way.
	QPS  float64
	Most int
	// Patience is how long to wait for what the function parked or gave back, once
	// everything was asked for; 0 is not at all.
	Patience time.Duration
	// Seen is called for each change, from one goroutine: answers are those that led
	// to it, none what was asked for.
	Seen func(inFlight int, answers []Answer)
}

// Errors of a run that ended before everything was decided.
var (
	// ErrInterrupted: the operator stopped it; ErrLeft: at once, without waiting for
	// what was under way.
	ErrInterrupted = errors.New("interrupted")
	ErrLeft        = errors.New("left at once")
	// ErrImpatient: all was asked for, and the function still works on some; the text of
	// the error ends with its last answer about one.
	ErrImpatient = errors.New("not decided yet")
)

// A target that refuses, or does not answer, is tried with one request at a time, after
// a pause that doubles; after a minute without any success, counted from the first
// failure, the run stops. One that never took anything is tried three times, and not at
// all where it did not answer.
const (
	outageAllowed = time.Minute
	firstTries    = 3
	shortestPause = 500 * time.Millisecond
	longestPause  = 10 * time.Second
)

// work is a run under way. One goroutine has it.
type work struct {
	Runner
	window  window
	queue   []int // to ask for, in order: what was not asked for in this run, then what was refused
	fresh   int   // how many of queue were not asked for
	later   []due // to ask again, sorted; what comes new belongs to its end, mostly
	flying  int
	answers chan batchAnswer
	// failures counts tries in a row that failed: of those under way at the same time,
	// one. Until held nothing is tried.
	failures   int
	failed     error // the last one
	unanswered error // the last of those without an answer
	lastFailed time.Time
	held       time.Time
	worked     bool      // the target took one
	down       time.Time // since when it takes none: the last that it took, or the first failure after that
	lastNews   time.Time // when something was asked for the first time, or decided
	decided    int
	why        string // of the last answer that decided nothing
	tries      map[int]int
}

type due struct {
	at   int
	when time.Time
}

type batchAnswer struct {
	batch   []int
	answers []Answer
	began   time.Time
}

// Run asks for everything that is not decided. When ctx ends, nothing is asked for
// any more and what is under way is waited for ([ErrInterrupted]); when leave ends,
// that is not waited for either ([ErrLeft]). Other errors say why the target, or the
// state file, stopped the run.
func (r Runner) Run(ctx, leave context.Context) error {
	w := &work{
		Runner: r, window: window{qps: r.QPS, most: r.Most}, answers: make(chan batchAnswer),
		queue: r.Journal.unfinished(), tries: make(map[int]int),
	}
	w.fresh = len(w.queue)
	for {
		if err := w.start(ctx, leave); err != nil {
			return w.land(leave, err)
		}
		c := r.Journal.Counts()
		if c.Decided != w.decided { // by answers, or by events
			w.decided, w.lastNews = c.Decided, time.Now()
		}
		if w.flying == 0 && len(w.queue) == 0 && c.Open+c.Parked == 0 && (c.InDoubt == 0 || len(w.later) == 0) {
			return w.land(leave, w.unanswered)
		}
		if w.fresh == 0 && len(w.later) > 0 && time.Since(w.lastNews) > r.Patience {
			return w.land(leave, fmt.Errorf("%w; the last answer: %s", ErrImpatient, w.why))
		}
		select {
		case got := <-w.answers:
			if err := w.take(got); err != nil {
				return w.land(leave, err)
			}
		case <-w.next():
		case <-ctx.Done():
			return w.land(leave, ErrInterrupted)
		}
	}
}

// next is when something is to be asked again, or events may have told news.
func (w *work) next() <-chan time.Time {
	if w.room() < 1 || len(w.later)+len(w.queue) == 0 { // an answer comes first
		return nil
	}
	when := w.held
	if len(w.queue) == 0 && w.later[0].when.After(when) {
		when = w.later[0].when
	}
	return time.After(min(time.Until(when), time.Second))
}

// start asks for as many as there is room for: what is due again first.
func (w *work) start(ctx, leave context.Context) error {
	for ctx.Err() == nil && leave.Err() == nil && !time.Now().Before(w.held) {
		batch := w.pick(min(w.Batch, w.room()))
		if len(batch) == 0 {
			return nil
		}
		requests := make([]events.Event, len(batch))
		for i, at := range batch {
			requests[i] = w.Journal.requests[at]
			if err := w.Journal.set(at, begun); err != nil {
				return err
			}
		}
		w.flying += len(batch)
		if w.Seen != nil {
			w.Seen(w.flying, nil)
		}
		go func() {
			began := time.Now()
			answers := w.Send(leave, requests)
			select {
			case w.answers <- batchAnswer{batch, answers, began}:
			case <-leave.Done():
			}
		}()
	}
	return nil
}

// room is how many more may be under way.
func (w *work) room() int {
	switch {
	case w.failures > 0: // one shows whether the target is back
		return 1 - min(1, w.flying)
	case w.Batch > 1:
		return 4*w.Batch - w.flying
	default:
		return w.window.size() - w.flying
	}
}

// pick takes what is due to be asked again, and then what was not asked for yet.
func (w *work) pick(n int) (batch []int) {
	now := time.Now()
	for len(batch) < n && len(w.later) > 0 && !now.Before(w.later[0].when) {
		at := w.later[0].at
		w.later = w.later[1:]
		if !w.Journal.isDecided(at) { // by its event
			batch = append(batch, at)
		}
	}
	more := min(max(n-len(batch), 0), len(w.queue))
	if more > 0 && w.fresh > 0 {
		w.lastNews, w.fresh = now, max(w.fresh-more, 0)
	}
	batch, w.queue = append(batch, w.queue[:more]...), w.queue[more:]
	return batch
}

// take works the answers of a batch in. The error ends the run.
func (w *work) take(got batchAnswer) error {
	w.flying -= len(got.batch)
	failed := error(nil)
	for i, at := range got.batch {
		a := got.answers[i]
		var err error
		switch a.Status {
		case Decided:
			_, err = w.Journal.Finish(a.Result)
			if a.Pushed {
				w.window.pushed(got.began, time.Now())
			}
		case Parked:
			w.why = a.Why
			err = w.Journal.set(at, parked)
			w.again(at, time.Second)
		case HandedOver:
			err = w.Journal.set(at, handedOver)
		case GivenBack:
			w.why = a.Why
			err = w.Journal.giveBack(at)
			w.again(at, 500*time.Millisecond)
		case Refused: // the others first: it may be about this one alone
			err = w.Journal.giveBack(at)
			w.queue = append(w.queue, at)
			failed = fmt.Errorf("the target refuses: %s", a.Why)
		default:
			failed = fmt.Errorf("no answer: %s", a.Why)
			w.unanswered = failed
		}
		if err != nil {
			return err
		}
	}
	if w.Seen != nil {
		w.Seen(w.flying, got.answers)
	}
	now := time.Now()
	w.failed = cmp.Or(failed, w.failed)
	if failed == nil {
		w.worked, w.down = true, now
	}
	switch { // what began before the last failure tells nothing of after it
	case got.began.Before(w.lastFailed):
	case failed == nil:
		w.failures, w.held = 0, time.Time{}
	default:
		if w.failures == 0 {
			w.down = now
		}
		w.held = now.Add(min(shortestPause<<min(w.failures, 10), longestPause))
		w.failures++
		w.lastFailed = now
	}
	return w.givenUp(now)
}

// givenUp is why the target is not tried any more.
func (w *work) givenUp(now time.Time) error {
	switch {
	case w.failures == 0:
	case !w.worked && w.flying == 0 && (w.unanswered != nil || w.failures >= firstTries), w.worked && now.Sub(w.down) > outageAllowed:
		return w.failed
	}
	return nil
}

// again asks once more after a pause that doubles up to 15 s, or after as long as the
// quota needs for those who wait for the same.
func (w *work) again(at int, pause time.Duration) {
	pause = min(pause<<min(w.tries[at], 5), 15*time.Second)
	if w.QPS > 0 {
		pause = max(pause, time.Duration(float64(len(w.later))/w.QPS*float64(time.Second)))
	}
	w.tries[at]++
	d := due{at, time.Now().Add(pause)}
	place, _ := slices.BinarySearchFunc(w.later, d, func(a, b due) int { return a.when.Compare(b.when) })
	w.later = slices.Insert(w.later, place, d)
}

// land waits for what is under way, and returns why.
func (w *work) land(leave context.Context, why error) error {
	for w.flying > 0 {
		select {
		case got := <-w.answers:
			if err := w.take(got); err != nil {
				why = cmp.Or(why, err)
			}
		case <-leave.Done():
			return errors.Join(why, ErrLeft)
		}
	}
	if w.Journal.Counts().Left() == 0 { // what was under way was the last
		return nil
	}
	return why
}
