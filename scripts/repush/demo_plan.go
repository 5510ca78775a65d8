package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

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
		payload, err := alert(fmt.Sprintf("alert-%d", i+1), d.api.data.Region, about.InstanceID, about.GroupID, time.Now().UTC())
		if err != nil {
			return err
		}
		response, err := f.Invoke(ctx, payload)
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
