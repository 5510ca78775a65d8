package report

import (
	"math"
	"slices"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Summary is the report in numbers.
type Summary struct {
	// Asked counts requests, with a result or without.
	Asked int `json:"asked"`
	// Outcomes counts them by outcome, [InDoubt] and [NoResult].
	Outcomes map[events.Outcome]int `json:"outcomes"`
	// Calls counts push calls, as far as the results tell; their answers do not matter.
	Calls          int `json:"calls"`
	MaybeDuplicate int `json:"maybeDuplicate"`
	// NotDurable counts results of a ledger that forgets with its process.
	NotDurable int `json:"notDurable"`
	// From is when the first request came in, To the last decision; zero: no result.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// PerSecond is the mean rate between the first and the last push; 0 with fewer
	// than two. Peak is the most pushes in one second of the clock. A push is what was
	// pushed or may have been, at the time its call began.
	PerSecond float64 `json:"perSecond"`
	Peak      int     `json:"peak"`
	// QPS is the quota, and QuotaShare PerSecond as a part of it.
	QPS        float64 `json:"qps"`
	QuotaShare float64 `json:"quotaShare"`
	// Wait and Call are of the requests that were called, where a function tells them.
	Wait Distribution `json:"waitMs"`
	Call Distribution `json:"callMs"`
	// Left and Again count messages ([Report.Leftovers], [Report.Unknowns]), Unnamed those of them that are not whole.
	Left       int `json:"leftovers"`
	Again      int `json:"unknowns"`
	Unnamed    int `json:"unnamed"`
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

// interrupted is the code of a push whose worker died: its times are nobody's.
const interrupted = "Interrupted"

func (r *Report) summarise(qps float64) {
	s := Summary{Asked: len(r.items), Outcomes: make(map[events.Outcome]int), QPS: qps, Left: len(r.leftovers), Again: len(r.unknowns), Unnamed: r.Unnamed}
	perSecond := make(map[int64]int)
	for _, i := range r.items {
		s.Outcomes[i.Fate]++
		s.Calls += i.Attempts
		if i.Outcome == "" {
			continue
		}
		if i.MaybeDuplicate {
			s.MaybeDuplicate++
		}
		if i.own && !i.Durable {
			s.NotDurable++
		}
		if came := i.ReceivedAt; !came.IsZero() && (s.From.IsZero() || came.Before(s.From)) {
			s.From = came.UTC()
		}
		if i.DecidedAt.After(s.To) {
			s.To = i.DecidedAt.UTC()
		}
		if i.own && i.Attempts > 0 && i.Code != interrupted {
			r.waits, r.calls = append(r.waits, i.WaitMs), append(r.calls, i.CallMs)
		}
		if i.Outcome.Closes() {
			began := i.DecidedAt.Add(-time.Duration(i.CallMs) * time.Millisecond)
			r.pushes = append(r.pushes, began)
			perSecond[began.Unix()]++
			s.Peak = max(s.Peak, perSecond[began.Unix()])
		}
	}
	slices.SortFunc(r.pushes, time.Time.Compare)
	slices.Sort(r.waits)
	slices.Sort(r.calls)
	if n := len(r.pushes); n > 1 && r.pushes[n-1].After(r.pushes[0]) {
		s.PerSecond = float64(n-1) / r.pushes[n-1].Sub(r.pushes[0]).Seconds()
	}
	s.QuotaShare = s.PerSecond / qps
	s.Wait, s.Call = distribution(r.waits), distribution(r.calls)
	r.Summary = s
}

func distribution(sorted []int64) Distribution {
	if len(sorted) == 0 {
		return Distribution{}
	}
	rank := func(part float64) int64 { return sorted[int(math.Ceil(part*float64(len(sorted))))-1] }
	return Distribution{Count: len(sorted), P50: rank(0.5), P95: rank(0.95), P99: rank(0.99), Max: rank(1)}
}
