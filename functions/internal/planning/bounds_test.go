package planning_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// TestManyPlansOfNobody: requests for plans that no person sent are taken up a few
// at a time, so that the group's document stays small; the others are given back.
// Alerts and persons do not wait for them.
func TestManyPlansOfNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 20*time.Hour, time.Hour)
		var batch []pushing.Delivery
		for i := range 30 {
			list := make([]string, 1000)
			for k := range list {
				list[k] = msgID(1000*i + k)
			}
			d := person(fmt.Sprint("p", i), events.Plan{Source: events.ByIDs, Topic: topic, IDs: list})
			d.Human = false
			batch = append(batch, d)
		}
		handle := func() (parked, deferred, done int) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for _, r := range h.Handle(ctx, "i", batch) {
				switch {
				case r.Parked:
					parked++
				case r.Deferred && r.Code == planning.CodeInProgress && r.RetryAfter > 0:
					deferred++
				case r.Code == planning.CodeNothing:
					done++
				}
			}
			return parked, deferred, done
		}
		h.setOffline(true)
		for i := range 5 {
			h.report(t, person(fmt.Sprint("hers", i), events.Plan{Source: events.DeadLetters}))
		}
		if parked, deferred, _ := handle(); parked != 20 || deferred != 10 {
			t.Errorf("nobody online: %d wait, %d are given back", parked, deferred)
		}
		if doc, _, _ := h.ports.Documents.Load(t.Context(), "group/"+instance+"/"+consumer); len(doc) > 1<<20 {
			t.Errorf("the group's document has %d bytes", len(doc))
		}
		h.setOffline(false)
		if got := h.report(t, person("mine", events.Plan{Source: events.DeadLetters, DryRun: true})); got.Manifest == nil || got.Manifest.Count != 1 {
			t.Errorf("a person's: %+v", got)
		}
		if got := h.report(t, alarm(events.DeadLetters)); got.Requests != 1 {
			t.Errorf("an alert: %+v", got)
		}
		time.Sleep(2 * time.Minute)
		if _, deferred, done := handle(); deferred != 0 || done != 30 {
			t.Errorf("when somebody is: %d are done, %d are given back", done, deferred)
		}
	})
}
