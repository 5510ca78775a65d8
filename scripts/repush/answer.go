package main

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/run"
)

// answerOf reads what a function, or a queue, said of one request.
func answerOf(e events.Event, d delivery, began time.Time) run.Answer {
	a := run.Answer{Why: cmp.Or(d.Message, string(d.Status))}
	said := read(d.Answer)
	isParked := d.Status == handedOver && len(d.Answer) > 0
	switch {
	case d.Status == answered && d.Outcome != "" && len(said.Results) == 1: // none where hiding a secret broke it
		r := said.Results[0]
		c := events.Completed{
			Request: events.RequestRef{ID: e.ID, Source: e.Source}, Outcome: r.Outcome, Code: r.Code, Message: r.Message, Hint: r.Hint,
			MaybeDuplicate: r.MaybeDuplicate,
			ReceivedAt:     began.UTC(), DecidedAt: time.Now().UTC(),
		}
		if r.Code == redelivered { // the outcome was decided before
			if i := strings.LastIndex(r.Message, " "); slices.Contains(events.Outcomes(), events.Outcome(r.Message[i+1:])) {
				c.Outcome = events.Outcome(r.Message[i+1:])
			}
		}
		if asked, err := events.DecodeRequested(e.Data); err == nil {
			c.Request.Data = &asked
		}
		result, err := events.NewCompleted(c)
		if err != nil {
			return run.Answer{Status: run.Unanswered, Why: "the answer is not that of functions/repush"}
		}
		result.Source = run.Source + "inject"
		a.Status, a.Result = run.Decided, result
		a.Pushed = r.Outcome == events.Pushed || r.Outcome == events.Unknown || r.Outcome == events.Failed
	case d.Status == answered:
		a.Why = "the answer is not that of functions/repush"
	case isParked:
		a.Status = run.Parked
	case d.Status == handedOver:
		a.Status = run.HandedOver
	case d.Status == givenBack:
		a.Status = run.GivenBack
	case d.Status == refused || d.Status == notSent:
		a.Status = run.Refused
	}
	return a
}

// redelivered is the code of functions/repush for a request that it decided before;
// the message ends with the outcome (design, section 4).
const redelivered = "Redelivered"

// decodeCompleted reads a result event of this command or of a function.
func decodeCompleted(e events.Event) (c events.Completed) {
	_ = json.Unmarshal(e.Data, &c) // what cannot be read says nothing
	return c
}
