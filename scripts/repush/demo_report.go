package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"text/tabwriter"
	"time"

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
		isCut := want.outcome != events.Expired && outcome == events.Unknown && d.inFlight[a.data.MsgID] // what expired makes no call
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

type demoPlan struct {
	Alert string `json:"alert"`
	// Manifest has its entries left away: the requests tell them.
	Manifest events.Planned `json:"manifest"`
	Requests int            `json:"requests"`
	// RepeatAdded counts the requests of a second alert, Repeat is its answer.
	Repeat      string `json:"repeat"`
	RepeatAdded int    `json:"repeatAdded"`
}

// alarm runs functions/plan, delivers the alert to it, twice, and puts the
// requests that come of it into the asks. The rest of these is by hand.
func (d *demo) alarm(ctx context.Context, built prepared, logs io.Writer) error {
	inbox, err := receive(d.request)
	if err != nil {
		return err
	}
	defer inbox.Close()
	said := new(results)
	f, err := d.start(ctx, built, said, logs, "REPUSH_REQUESTS="+inbox.URL)
	if err != nil {
		return err
	}
	defer f.Kill()
	about := d.asks[0].data
	var answers [2]returned
	for i := range answers {
		response, err := f.Invoke(ctx, alert(fmt.Sprintf("alert-%d", i+1), d.api.data.Region, about.InstanceID, about.GroupID, time.Now().UTC()))
		if answers[i] = read(response.Payload); err != nil || response.FunctionError != "" {
			return errors.Join(err, errors.New("functions/plan gave the alert back: "+answers[i].reason()))
		}
		if i == 0 {
			d.plan = demoPlan{Alert: alertMetric, Requests: inbox.count()}
		}
	}
	d.plan.Repeat, d.plan.RepeatAdded = answers[1].Code, inbox.count()-d.plan.Requests
	p, err := said.manifest()
	if err != nil {
		return fmt.Errorf("after the alert functions/plan answered %q: %w", answers[0].reason(), err)
	}
	d.tell(p)
	d.plan.Manifest = p
	d.plan.Manifest.Entries = nil
	return nil
}

func (d *demo) request(e events.Event) (httpStatus int) {
	data, err := events.DecodeRequested(e.Data)
	if err != nil {
		return http.StatusBadRequest
	}
	at := slices.IndexFunc(d.asks, func(a ask) bool { return a.data.Topic == data.Topic && a.data.MsgID == data.MsgID })
	if at < 0 {
		at = len(d.asks)
		d.asks = append(d.asks, ask{label: "not in the scenario"})
	}
	d.asks[at].by, d.asks[at].event, d.asks[at].data = byPlan, e, data
	return http.StatusAccepted
}

// tell says what the alert led to, and notes why a person has to ask for what the
// plan left out.
func (d *demo) tell(p events.Planned) {
	for i := range d.asks {
		for _, out := range p.LeftOut {
			if slices.Contains(out.MsgIDs, d.asks[i].data.MsgID) {
				d.asks[i].by += " (" + out.Reason + ")"
			}
		}
	}
	p.SHA256 = p.SHA256[:min(len(p.SHA256), 12)] + "…"
	d.say("alert     %s of %s, by CloudMonitor through an MNS queue; it names no message", d.plan.Alert, p.GroupID)
	for _, line := range manifestLines(p) {
		d.say("plan      %s", line)
	}
	d.say("requests  %d by the plan, %d by hand beside it", d.plan.Requests, len(d.asks)-d.plan.Requests)
	d.say("alert     once more, right after the first: %s, %d requests", d.plan.Repeat, d.plan.RepeatAdded)
}
