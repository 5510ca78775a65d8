package report

import (
	"math"
	"slices"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Summary is the report in numbers.
type Summary struct {
	Asked    int                    `json:"asked"`    // requests, with a result or without
	Outcomes map[events.Outcome]int `json:"outcomes"` // of them, [InDoubt] and [NoResult] among them
	// FromFunction counts functions' own results. FromAnswers those that a command made of
	// an answer: they tell no calls, no times of their own, nor whether the ledger lasts,
	// and of MaybeDuplicate only what the answer does.
	FromFunction int `json:"fromFunction"`
	FromAnswers  int `json:"fromAnswers"`
	Calls        int `json:"calls"` // push calls, however they were answered
	// NotDurable counts results of a ledger that forgets with its process.
	MaybeDuplicate int `json:"maybeDuplicate"`
	NotDurable     int `json:"notDurable"`
	// From is when the first request came in, To the last decision; zero: no result.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// A push is what was pushed or may have been, at the time its call began; where not all
	// are told by functions (ByAnswers), at that of the answer. PerSecond is their mean rate
	// (0: not known) without the IdleMs of gaps longer than 10 s, or than three pushes
	// take at the quota. QuotaShare is that as a part of the quota QPS, and 0 where times
	// are of answers; Peak the most in one second of the clock.
	ByAnswers  bool    `json:"byAnswers"`
	PerSecond  float64 `json:"perSecond"`
	IdleMs     int64   `json:"idleMs"`
	Peak       int     `json:"peak"`
	QPS        float64 `json:"qps"`
	QuotaShare float64 `json:"quotaShare"`
	// Wait and Call are of the requests that were called, where a function tells them.
	Wait Distribution `json:"waitMs"`
	Call Distribution `json:"callMs"`
	// Left and Again count messages ([Report.Leftovers], [Report.Unknowns]), Unnamed those
	// of either that are not whole.
	Left    int `json:"leftovers"`
	Again   int `json:"unknowns"`
	Unnamed int `json:"unnamed"`
	// As in [Results].
	PassedOver int `json:"passedOver"`
	Wrong      int `json:"wrong"`
}

// Distribution is of times in milliseconds, by nearest rank.
type Distribution struct {
	Count int   `json:"count"`
	P50   int64 `json:"p50"`
	P95   int64 `json:"p95"`
	P99   int64 `json:"p99"`
	Max   int64 `json:"max"`
}

func (r *Report) summarise(qps float64) {
	r.Summary = Summary{Asked: len(r.items), Outcomes: make(map[events.Outcome]int), QPS: qps}
	var calls []time.Time
	for _, i := range r.items {
		if r.Outcomes[i.Fate]++; i.Outcome == "" {
			continue
		}
		r.FromFunction += map[bool]int{true: 1}[i.own]
		r.FromAnswers += map[bool]int{false: 1}[i.own]
		r.Calls += i.Attempts
		r.MaybeDuplicate += map[bool]int{true: 1}[i.MaybeDuplicate]
		r.NotDurable += map[bool]int{true: 1}[i.own && !i.Durable]
		if came := i.ReceivedAt; !came.IsZero() && (r.From.IsZero() || came.Before(r.From)) {
			r.From = came
		}
		r.To = slices.MaxFunc([]time.Time{r.To, i.DecidedAt}, time.Time.Compare)
		if i.own && i.Attempts > 0 && i.Code != "Interrupted" { // whose worker died: its times are nobody's
			r.waits, r.ends = append(r.waits, i.WaitMs), append(r.ends, i.CallMs)
		}
		if i.Outcome.Closes() {
			r.ByAnswers = r.ByAnswers || !i.own
			r.pushes, calls = append(r.pushes, i.DecidedAt), append(calls, i.DecidedAt.Add(-time.Duration(i.CallMs)*time.Millisecond))
		}
	}
	if !r.ByAnswers {
		r.pushes = calls
	}
	r.findPace()
	r.Wait, r.Call = distribution(r.waits), distribution(r.ends)
}

// findPace sorts the pushes.
func (r *Report) findPace() {
	slices.SortFunc(r.pushes, time.Time.Compare)
	perSecond := make(map[int64]int)
	var intervals, active float64
	for n, at := range r.pushes {
		perSecond[at.Unix()]++
		r.Peak = max(r.Peak, perSecond[at.Unix()])
		gap := at.Sub(r.pushes[max(n-1, 0)])
		if gap.Seconds() > max(10, 3/r.QPS) {
			r.IdleMs = min(r.IdleMs+gap.Milliseconds(), maxMs)
		} else if n > 0 {
			intervals, active = intervals+1, active+gap.Seconds()
		}
	}
	if active > 0 {
		r.PerSecond = intervals / active
	}
	if !r.ByAnswers {
		r.QuotaShare = r.PerSecond / r.QPS
	}
}

// distribution sorts the times.
func distribution(times []int64) Distribution {
	if len(times) == 0 {
		return Distribution{}
	}
	slices.Sort(times)
	rank := func(part float64) int64 { return times[int(math.Ceil(part*float64(len(times))))-1] }
	return Distribution{Count: len(times), P50: rank(0.5), P95: rank(0.95), P99: rank(0.99), Max: rank(1)}
}
