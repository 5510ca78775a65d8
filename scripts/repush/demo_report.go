package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/ons-repush/ons-repush/events"
)

// demoReport is what the demo prints with --json.
type demoReport struct {
	Plan     demoPlan       `json:"plan"`
	Requests int            `json:"requests"`
	Seconds  float64        `json:"seconds"`
	Rows     []demoRow      `json:"outcomes"`
	Results  []events.Event `json:"results"`
	Twice    []string       `json:"deliveredTwice"`
	Calls    map[string]int `json:"pushCalls"`
	// InFlight counts the requests under way when the function was killed.
	InFlight int `json:"inFlight,omitempty"`
	// AsExpected: every message was asked for by whom the scenario says and has one
	// result, as it says (or unknown, if it was under way at the kill), none was
	// delivered twice, and the repeated alert added nothing.
	AsExpected bool `json:"asExpected"`
}

type demoRow struct {
	Scenario string         `json:"scenario"`
	By       string         `json:"askedBy"`
	Outcome  events.Outcome `json:"outcome"`
	Requests int            `json:"requests"`
	// Deliveries is the stand-in's own count for these messages.
	Deliveries int  `json:"deliveries"`
	Expected   bool `json:"expected"`
}

// report compares what was asked for with the results and with the stand-in's own
// count of deliveries.
func (d *demo) report(deliveries map[string]int) demoReport {
	all, completed := d.results.all()
	outcomes := make(map[string]events.Outcome)
	for _, c := range completed {
		if c.Request.Data != nil {
			outcomes[c.Request.Data.MsgID] = c.Outcome
		}
	}
	calls := d.api.Calls("OnsMessagePush")
	r := demoReport{
		Plan: d.plan, Requests: len(d.asks), Seconds: d.took.Seconds(), Results: all, Twice: []string{}, InFlight: len(d.inFlight),
		Calls: map[string]int{"accepted": calls.Accepted, "throttled": calls.Throttled, "refused": calls.Refused},
	}
	r.AsExpected = d.plan.RepeatAdded == 0 && len(all) == len(d.asks) // and each has an outcome, so each has one
	for _, a := range d.asks {
		outcome := outcomes[a.data.MsgID]
		want, known := expected[a.label]
		isCut := want.outcome == events.Pushed && outcome == events.Unknown && d.inFlight[a.data.MsgID]
		fits := !known && outcome != "" || a.by == want.by && (outcome == want.outcome || isCut)
		at := slices.IndexFunc(r.Rows, func(row demoRow) bool { return row.Scenario == a.label && row.By == a.by && row.Outcome == outcome })
		if at < 0 {
			at = len(r.Rows)
			r.Rows = append(r.Rows, demoRow{Scenario: a.label, By: a.by, Outcome: outcome, Expected: true})
		}
		r.Rows[at].Expected = r.Rows[at].Expected && fits
		r.Rows[at].Requests++
		r.Rows[at].Deliveries += deliveries[a.data.MsgID]
		if deliveries[a.data.MsgID] > 1 {
			r.Twice = append(r.Twice, a.data.MsgID)
		}
		r.AsExpected = r.AsExpected && fits && deliveries[a.data.MsgID] <= 1
	}
	return r
}

func (d *demo) print(out io.Writer, r demoReport) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "messages\tasked for\toutcome\trequests\treached a consumer\t")
	for _, row := range r.Rows {
		mark := map[bool]string{false: "not as expected"}[row.Expected]
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\n", row.Scenario, row.By, cmp.Or(row.Outcome, "(none)"), row.Requests, row.Deliveries, mark)
	}
	_ = w.Flush()
	fmt.Fprintf(out, "\nthe stand-in counted %d accepted, %d throttled and %d refused push calls\n", r.Calls["accepted"], r.Calls["throttled"], r.Calls["refused"])
	if d.crash {
		fmt.Fprintf(out, "%d requests were under way at the kill: the ledger, a file, still knew each of them, and %d messages reached a consumer twice\n"+
			"(a push that was cut ends as unknown and is not repeated)\n", r.InFlight, len(r.Twice))
	}
	if n := len(r.Results); n > 0 {
		fmt.Fprintln(out, "\none result event in full:")
		_ = indented(out).Encode(r.Results[n-1])
	}
	fmt.Fprint(out, `
what to try next:
  go run ./scripts/repush demo --crash      kill the function half-way
  go run ./scripts/repush plan --help       find the messages of a real group, dry
  go run ./scripts/repush up                keep everything running, for curl
  go run ./scripts/repush invoke FILE       run one event of yours
`)
}
