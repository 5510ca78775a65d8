package ledger

import (
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

func newProgress() pushing.Progress {
	return pushing.Progress{States: make(map[string]int), Outcomes: make(map[events.Outcome]int)}
}

// count adds the record's requests of an operation; "" means all.
func (r *record) count(p *pushing.Progress, operationID string, now time.Time) {
	for _, q := range r.Requests {
		if operationID != "" && q.OperationID != operationID {
			continue
		}
		p.States[string(q.State)]++
		if !q.isDecided() {
			p.OldestMs = max(p.OldestMs, now.Sub(q.ReceivedAt).Milliseconds())
			continue
		}
		p.Outcomes[q.First.Outcome]++
		if at := q.DecidedAt; p.First.IsZero() || at.Before(p.First) {
			p.First = at
		}
		if q.DecidedAt.After(p.Last) {
			p.Last = q.DecidedAt
		}
	}
}

func (r *record) history(now time.Time) pushing.History {
	h := pushing.History{Pushes: r.Pushes}
	for _, q := range r.Requests {
		past := pushing.Past{
			Source: q.Key.Source, EventID: q.Key.ID, Generation: q.Generation, State: string(q.State), Code: q.Code, Attempts: q.Attempts,
			ReceivedAt: q.ReceivedAt, Outcome: q.First.Outcome, DecidedAt: q.First.DecidedAt, Late: q.First.Late,
		}
		if !q.isDecided() {
			past.DueInMs = max(0, r.dueOf(q).Sub(now).Milliseconds())
		}
		h.Requests = append(h.Requests, past)
	}
	return h
}
