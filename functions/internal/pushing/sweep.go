package pushing

import (
	"context"
	"errors"
	"fmt"

	"github.com/ons-repush/ons-repush/events"
)

// Swept is the report of a sweep.
type Swept struct {
	// Taken counts the requests taken up: Outcomes what became of them, Waiting
	// those that are not decided yet.
	Taken    int                    `json:"taken"`
	Outcomes map[events.Outcome]int `json:"outcomes"`
	Waiting  int                    `json:"waiting"`
	// TimeUp: the sweep ended with its invocation, not with the work.
	TimeUp bool `json:"timeUp"`
	// Left is what is still open.
	Left Backlogged `json:"left"`
	// Problem is why some of it could not be read; empty: all could.
	Problem string `json:"problem,omitempty"`
}

// sweeper is one sweep. Only its own goroutine touches it.
type sweeper struct {
	*Service
	invocationID string
	// taken remembers what this sweep took up, so that nothing is taken twice.
	taken  map[RequestKey]bool
	active int
	ended  chan Result
	out    *outbox
	report Swept
}

// sweep takes up what is due: what was parked, what a dead worker left behind,
// and results that have not left. It ends when nothing more is due or a push
// could not be begun any more. Several sweeps at once share the work.
func (s *Service) sweep(ctx context.Context, invocationID string, want events.Sweep) Result {
	sw := &sweeper{
		Service: s, invocationID: invocationID, taken: make(map[RequestKey]bool), ended: make(chan Result), out: new(outbox),
		report: Swept{Outcomes: make(map[events.Outcome]int)},
	}
	timer := s.newWork(ctx, invocationID, Ask{}, nil)
	full := s.policy.Concurrency
	var failed error
	for more := true; ; {
		sw.report.TimeUp = !s.Now().Before(timer.startBy()) || s.Draining != nil && s.Draining.Err() != nil
		room := full - sw.active
		if want.Limit > 0 {
			room = min(room, want.Limit-sw.report.Taken)
		}
		if failed == nil && !sw.report.TimeUp && room > 0 && (sw.active == 0 || more && room >= full/2) {
			more, failed = sw.fetch(ctx, room)
		}
		if sw.active == 0 {
			break
		}
		sw.count(<-sw.ended)
	}
	s.flush(ctx, invocationID, sw.out)
	if failed == nil {
		_, failed = sw.due(ctx, 0)
	}
	if failed != nil {
		return timer.ledgerDown(failed)
	}
	return Result{Code: codeDone, Report: sw.report, Message: fmt.Sprintf("%d requests taken up, %d open, %d of them due", sw.report.Taken, sw.report.Left.Open, sw.report.Left.Due)}
}

// fetch takes up to room items that are due. more: there may be others.
func (sw *sweeper) fetch(ctx context.Context, room int) (more bool, err error) {
	due, err := sw.due(ctx, room)
	for _, item := range due {
		if sw.taken[item.Ask.Request] {
			continue
		}
		sw.taken[item.Ask.Request] = true
		more = true
		sw.active++
		sw.report.Taken++
		go func() { sw.ended <- sw.finish(ctx, item) }()
	}
	return more, err
}

// due asks the ledger. That a record cannot be read must not keep the others
// waiting: the error is that the ledger cannot be reached.
func (sw *sweeper) due(ctx context.Context, limit int) (due []Work, err error) {
	due, sw.report.Left, err = sw.ledger.Due(ctx, limit)
	if away := new(Error); err != nil && !errors.As(err, &away) {
		sw.report.Problem, err = err.Error(), nil
	}
	return due, err
}

func (sw *sweeper) finish(ctx context.Context, item Work) Result {
	w := sw.newWork(ctx, sw.invocationID, item.Ask, sw.out)
	return w.logged(func() Result {
		if !item.Decided {
			return w.run(ctx)
		}
		c, err := w.ledger.Read(ctx, w.ask)
		if err != nil {
			return w.ledgerDown(err)
		}
		return w.answer(ctx, c)
	})
}

func (sw *sweeper) count(r Result) {
	sw.active--
	if r.Outcome == "" {
		sw.report.Waiting++
		return
	}
	sw.report.Outcomes[r.Outcome]++
}
