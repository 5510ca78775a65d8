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
	Calls    int                    `json:"calls"`    // push calls, however they were answered, as far as results tell
	// NotDurable counts results of a ledger that forgets with its process.
	MaybeDuplicate int `json:"maybeDuplicate"`
	NotDurable     int `json:"notDurable"`
	// From is when the first request came in, To the last decision; zero: no result.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// A push is what was pushed or may have been, at the time its call began. PerSecond
	// is their mean rate from the first to the last (0: fewer than two), QuotaShare that
	// as a part of the quota QPS, Peak the most in one second of the clock.
	PerSecond  float64 `json:"perSecond"`
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
	perSecond := make(map[int64]int)
	for _, i := range r.items {
		if r.Outcomes[i.Fate]++; i.Outcome == "" {
			continue
		}
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
			began := i.DecidedAt.Add(-time.Duration(i.CallMs) * time.Millisecond)
			r.pushes = append(r.pushes, began)
			perSecond[began.Unix()]++
			r.Peak = max(r.Peak, perSecond[began.Unix()])
		}
	}
	slices.SortFunc(r.pushes, time.Time.Compare)
	if n := len(r.pushes); n > 1 && r.pushes[n-1].After(r.pushes[0]) {
		r.PerSecond = float64(n-1) / r.pushes[n-1].Sub(r.pushes[0]).Seconds()
	}
	r.QuotaShare = r.PerSecond / qps
	r.Wait, r.Call = distribution(r.waits), distribution(r.ends)
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
