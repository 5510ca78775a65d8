package pushing

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// watch pauses an operation of which, after its first fifty outcomes, most have
// failed: what fails fifty times is likely to fail nine thousand times. It judges
// an operation once; a person who lets it continue has looked at it. The ledger is
// asked for the counts, so that the outcomes of all instances count, and only when
// one fails. Safe for concurrent use.
type watch struct {
	mu sync.Mutex
	// asked is when the ledger was asked last, settled: it need not be again.
	asked   map[string]time.Time
	settled map[string]bool
}

const (
	// watchFirst is how many outcomes there must be.
	watchFirst = 50
	// watchMark is how long it is remembered that an operation was paused.
	watchMark = 7 * 24 * time.Hour
	// watchEvery is how often at most the ledger is asked about an operation.
	watchEvery = time.Second
	// watchMost bounds the operations that are remembered; then it begins anew,
	// which costs the ledger a question each.
	watchMost = 1000
)

// fails reports whether an outcome speaks against going on.
func fails(o events.Outcome) bool {
	return o == events.Failed || o == events.Unknown || o == events.Rejected || o == events.Abandoned
}

// due reports whether to ask the ledger about an operation of which a request
// has just ended so.
func (w *watch) due(operationID string, o events.Outcome, now time.Time) bool {
	if operationID == "" || !fails(o) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asked) >= watchMost || w.asked == nil {
		w.asked, w.settled = make(map[string]time.Time), make(map[string]bool)
	}
	if last, known := w.asked[operationID]; w.settled[operationID] || known && now.Sub(last) < watchEvery {
		return false
	}
	w.asked[operationID] = now
	return true
}

// ended is told of every decision. That the ledger cannot be asked, or told, means
// that the next failure asks.
func (w *watch) ended(ctx context.Context, l Orders, operationID string, o events.Outcome, now time.Time) {
	if !w.due(operationID, o, now) {
		return
	}
	ctx = context.WithoutCancel(ctx)
	p, err := l.Progress(ctx, operationID)
	decided, failed := 0, 0
	for outcome, n := range p.Outcomes {
		decided += n
		if fails(outcome) {
			failed += n
		}
	}
	if err != nil || decided < watchFirst {
		return
	}
	if 2*failed > decided && pauseOnce(ctx, l, operationID) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled[operationID] = true
}

// pauseOnce pauses an operation that was not paused so before.
func pauseOnce(ctx context.Context, l Orders, operationID string) error {
	// A mark that no request is subject to: "#" is not in any operation's id. It
	// comes last, so that who cannot set it has paused all the same.
	judged := operationID + "#judged"
	mark, err := l.Progress(ctx, judged)
	if err != nil || slices.Contains(mark.Orders, CodePaused) {
		return err
	}
	return errors.Join(
		l.Order(ctx, OfOperation(operationID), Order{Code: CodePaused}),
		l.Order(ctx, OfOperation(judged), Order{Code: CodePaused, For: watchMark}))
}
