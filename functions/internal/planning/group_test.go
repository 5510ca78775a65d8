package planning_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
)

// TestHalt: a budget that is used up on two days of seven ends what alerts plan,
// until a person plans; a dry run is no plan.
func TestHalt(t *testing.T) {
	for apart, halts := range map[time.Duration]bool{5 * 24 * time.Hour: true, 8 * 24 * time.Hour: false} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.GroupBudget = 5 })
			next := 0
			alert := func() planning.Report {
				for range 6 {
					h.bury(next, time.Hour, 0)
					next++
				}
				defer time.Sleep(time.Hour) // the cooldown
				return h.report(t, alarm(events.DeadLetters))
			}
			useUp := func(code string) {
				if got := alert(); got.Requests != 5 {
					t.Errorf("%v: a day's first alert: %+v", apart, got)
				}
				if got := alert(); got.Code != code {
					t.Errorf("%v: the second: %+v", apart, got)
				}
			}
			useUp(planning.CodeBudget)
			time.Sleep(apart - 2*time.Hour)
			useUp(map[bool]string{true: planning.CodeHalted, false: planning.CodeBudget}[halts])
			if got := alert(); (got.Code == planning.CodeHalted) != halts {
				t.Fatalf("%v: after the second day: %+v", apart, got)
			}
			if !halts {
				return
			}
			for range 15 {
				time.Sleep(24 * time.Hour)
				if got := alert(); got.Code != planning.CodeHalted {
					t.Fatalf("without a person: %+v", got)
				}
			}
			dry, plans := person("dry", events.Plan{Source: events.DeadLetters, DryRun: true}), person("goes", events.Plan{Source: events.DeadLetters, Limit: 1})
			if got := h.report(t, dry); got.Code == planning.CodeHalted || alert().Code != planning.CodeHalted {
				t.Errorf("after a person's dry run: %+v", got)
			}
			if got := h.report(t, plans); got.Requests != 1 || alert().Requests != 5 {
				t.Errorf("after a person's plan: %+v", got)
			}
		})
	}
}

// TestManyIncidents: the oldest that are closed are forgotten, none that is open.
func TestManyIncidents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 20*time.Hour, time.Hour)
		h.setOffline(true)
		h.report(t, person("waits", events.Plan{Source: events.DeadLetters}))
		for n := range 250 {
			h.report(t, person(fmt.Sprint("dry ", n), events.Plan{Source: events.DeadLetters, DryRun: true}))
		}
		text, _, err := h.ports.Documents.Load(t.Context(), "group/"+instance+"/"+consumer)
		var g struct{ Incidents []any }
		if err != nil || json.Unmarshal(text, &g) != nil || len(g.Incidents) != 200 {
			t.Errorf("%d incidents are kept, %v", len(g.Incidents), err)
		}
		h.setOffline(false)
		time.Sleep(time.Minute)
		if s := h.sweep(t); s.Closed != 1 || len(h.requested.requests(t)) != 1 {
			t.Errorf("the one that was open: %+v", s)
		}
	})
}
