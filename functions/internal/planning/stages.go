package planning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// selects finds the messages, and freezes the manifest.
func (w *work) selects(ctx context.Context) error {
	if err := w.awaitClients(ctx); err != nil {
		return err
	}
	s, err := w.selection(ctx)
	if err != nil {
		return err
	}
	if err := s.run(ctx); err != nil {
		return errors.Join(err, s.checkpoint(ctx, true))
	}
	want := min(s.chosen(), w.policy.limitOf(w.incident.Plan))
	room := 0
	if err := w.step(ctx, func(g *group, in *incident) { room = g.reserve(in, want, w.policy, w.Now()) }); err != nil {
		return err
	}
	_, left, err := w.ports.Work.Due(ctx, 0)
	if err != nil && !isRecord(ctx, err) {
		return err
	}
	p, err := w.keepManifest(ctx, w.freeze(s, room, left.Open))
	if err != nil {
		return err
	}
	return w.step(ctx, func(_ *group, in *incident) {
		in.Stage, in.OperationID, in.Manifest, in.Code, in.Message = announcing, p.OperationID, reportOf(p), p.Code, p.Message
	})
}

// awaitClients makes the incident wait when requests would follow and nobody of
// the group is online to be pushed to: what is not consumed for that reason will
// be.
func (w *work) awaitClients(ctx context.Context) error {
	if !w.incident.sends(w.policy) {
		return nil
	}
	err := pushing.Paced(ctx, w.ports.Pacer(OpOnline), events.PriorityAlert, throttledTries, OpOnline, func() error {
		_, err := w.ports.Connections.Online(ctx, w.incident.Plan.InstanceID, w.incident.Plan.GroupID)
		return err
	})
	if e := new(pushing.Error); errors.As(err, &e) && e.Kind == pushing.NoClient {
		return &waiting{CodeNoClient, "no consumer of the group is online: nothing is sent until one is; start it, the sweep looks again", waitForClients}
	}
	return err
}

// selection goes on with the incident's scan, or begins one.
func (w *work) selection(ctx context.Context) (*selection, error) {
	key := scanKey(w.incident.ID)
	text, version, err := w.docs.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	s := &selection{
		scan: scan{CutOff: w.Now()}, ports: w.ports, policy: w.policy, plan: w.incident.Plan,
		alert: w.incident.Alert, person: w.incident.Person, now: w.Now, savedAt: w.Now(), refused: make(map[string]int),
	}
	if kept := (scan{}); json.Unmarshal(text, &kept) == nil { // else it is begun anew
		s.scan = kept
	}
	s.save = func(ctx context.Context, kept scan) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
		defer cancel()
		text, err := json.Marshal(kept)
		if err != nil {
			return err
		}
		saved, err := w.docs.Save(ctx, key, version, text, w.keep(), -1)
		switch {
		case errors.Is(err, ErrConflict):
			return errLost
		case err == nil:
			version = saved
		}
		return err
	}
	return s, nil
}

// dropScan forgets the scan, which nobody needs any more; else it expires.
func (w *work) dropScan(ctx context.Context) {
	key := scanKey(w.incident.ID)
	if _, version, err := w.docs.Load(ctx, key); err == nil && version > 0 {
		_, _ = w.docs.Save(ctx, key, version, nil, 0, -1)
	}
}

// announces sends the manifest's events, and closes what needs nothing more.
func (w *work) announces(ctx context.Context) error {
	p, err := w.manifest(ctx)
	if err != nil {
		return err
	}
	if err := w.emit(ctx, p); err != nil {
		if e := new(pushing.Error); errors.As(err, &e) {
			return err
		}
		return &waiting{CodeSink, "the manifest could not be delivered; it is sent again: " + err.Error(), waitForOthers}
	}
	w.dropScan(ctx)
	return w.step(ctx, func(g *group, in *incident) {
		in.Announced = true
		if in.Stage = sending; p.DryRun || p.Count == 0 {
			g.end(in, p.Code, p.Message, w.policy, w.Now())
		}
	})
}

// requestBatch is how many requests leave between two notes of how far it came:
// what a crash sends once more under the same ids. The sink makes the largest
// calls of them that its target takes.
const requestBatch = 128

// sendsRequests sends a request for each entry that still needs one.
func (w *work) sendsRequests(ctx context.Context) error {
	if err := w.obeys(ctx); err != nil || w.incident.Stage == closed {
		return err
	}
	if err := w.awaitClients(ctx); err != nil {
		return err
	}
	p, err := w.manifest(ctx)
	if err != nil {
		return err
	}
	for w.incident.Done < len(p.Entries) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.obeys(ctx); err != nil || w.incident.Stage == closed {
			return err
		}
		entries := p.Entries[w.incident.Done:min(len(p.Entries), w.incident.Done+requestBatch)]
		fates, requests, failed := w.requests(ctx, p, entries)
		if err := w.tries(ctx, requests); err != nil {
			return err
		}
		if sent, err := w.send(ctx, requests); err != nil {
			fates, failed = fates[:requests[sent].entry], err
		}
		err = w.step(ctx, func(g *group, in *incident) { g.spend(in, fates, w.Now()) })
		if err = errors.Join(err, failed); err != nil {
			return err
		}
	}
	message := ""
	if w.incident.Requests < len(p.Entries) {
		message = "they had expired, or were consumed, pushed or asked for by then"
	}
	return w.ends(ctx, CodeDone, message)
}

// obeys stops for orders on the operation.
func (w *work) obeys(ctx context.Context) error {
	progress, err := w.ports.Work.Progress(ctx, w.incident.OperationID)
	switch {
	case isRecord(ctx, err): // the orders are known all the same, or nobody's are
	case err != nil:
		return err
	}
	switch {
	case slices.Contains(progress.Orders, pushing.CodeCancelled):
		return w.ends(ctx, pushing.CodeCancelled, "its operation was cancelled")
	case len(progress.Orders) > 0:
		return &waiting{progress.Orders[0], "its operation, or all pushing, was halted: nothing more is sent until it goes on", waitForOthers}
	}
	return nil
}

// tries notes that requests are about to be sent: if no answer comes, and they are
// not needed any more afterwards, they may have been taken all the same.
func (w *work) tries(ctx context.Context, requests []request) error {
	if len(requests) == 0 || w.incident.Done+requests[len(requests)-1].entry < w.incident.Tried {
		return nil
	}
	return w.step(ctx, func(_ *group, in *incident) { in.Tried = in.Done + requests[len(requests)-1].entry + 1 })
}

// send sends requests and returns how many of the first were taken over before an
// error. What was taken of the others is sent again, under the same ids.
func (w *work) send(ctx context.Context, requests []request) (sent int, err error) {
	if len(requests) == 0 {
		return 0, nil
	}
	batch := make([]events.Event, len(requests))
	for i, r := range requests {
		batch[i] = r.event
	}
	if err = w.ports.Requests.Send(ctx, batch...); err == nil {
		return len(batch), nil
	}
	var partly interface{ First() int }
	if errors.As(err, &partly) {
		sent = min(partly.First(), len(batch)-1)
	}
	if ctx.Err() != nil {
		return sent, ctx.Err()
	}
	return sent, &waiting{CodeSink, "requests could not be delivered; they are sent again under the same ids: " + err.Error(), waitForOthers}
}

// request is the event for an entry of a batch, by its place.
type request struct {
	entry int
	event events.Event
}

// fate is what becomes of an entry when its turn comes.
type fate int

const (
	dropped fate = iota // it has expired meanwhile, or was pushed, asked for, or consumed
	needed
	asked // its own request is there already, though no answer said so
)

// requests makes the events for those of the entries that still need a push. fates
// are those of the first of them, which were looked at before something failed.
func (w *work) requests(ctx context.Context, p events.Planned, entries []events.Entry) (fates []fate, requests []request, failed error) {
	s := &selection{ports: w.ports, policy: w.policy, plan: w.incident.Plan, alert: w.incident.Alert, now: w.Now, refused: make(map[string]int)}
	fates = make([]fate, len(entries))
	done, failed := inOrder(len(entries), func(i int) (err error) {
		fates[i], err = w.fate(ctx, s, p, entries[i])
		return err
	})
	if failed == nil && s.refusal != nil {
		failed = s.refusal
	}
	for i, e := range entries[:done] {
		if fates[i] == needed {
			event, err := w.request(p, e)
			if err != nil {
				return fates[:i], requests, err
			}
			requests = append(requests, request{i, event})
		}
	}
	return fates[:done], requests, failed
}

// fresh is how old a manifest may be whose messages are not asked about again.
const fresh = time.Minute

// fate looks at an entry whose turn it is.
func (w *work) fate(ctx context.Context, s *selection, p events.Planned, e events.Entry) (fate, error) {
	h, err := w.ports.Histories.History(ctx, s.message(e))
	if isRecord(ctx, err) {
		return dropped, nil
	}
	mayPush := err == nil && !s.isGone(e.StoredAt, w.Now())
	for _, past := range h.Requests {
		switch {
		case past.Source == events.SourcePlan && past.EventID == requestID(p.OperationID, e):
			return asked, nil
		case past.Outcome == "" || past.Outcome.Closes() && past.Generation >= e.Generation:
			mayPush = false
		}
	}
	if mayPush && p.Source == events.Unconsumed && w.Now().Sub(p.CutOff) > fresh {
		reason := ""
		reason, err = s.trace(ctx, &candidate{Entry: e})
		mayPush = reason == "" && err == nil
	}
	if !mayPush {
		return dropped, err
	}
	return needed, nil
}

// requestID follows from the operation, the message and the generation, so that
// whoever sends a request again sends the same one.
func requestID(operationID string, e events.Entry) string {
	return hash(operationID, e.Topic, e.MsgID, fmt.Sprint(e.Generation))
}

func (w *work) request(p events.Planned, e events.Entry) (events.Event, error) {
	data := requested(w.incident.Plan, e)
	data.OperationID, data.Priority = p.OperationID, events.PriorityBulk
	if w.incident.Alert {
		data.Priority = events.PriorityAlert
	}
	text, err := json.Marshal(data)
	return events.Event{
		ID: requestID(p.OperationID, e), Source: events.SourcePlan, Type: events.TypeMessageRequested,
		Subject: p.InstanceID + "/" + p.GroupID + "/" + e.Topic + "/" + e.MsgID, Time: p.CutOff, Data: text,
	}, err
}

// requested is what is asked for an entry of a plan, without the operation.
func requested(p events.Plan, e events.Entry) events.Requested {
	return events.Requested{
		InstanceID: p.InstanceID, GroupID: p.GroupID, Topic: e.Topic, MsgID: e.MsgID, OffsetID: e.OffsetID, Generation: e.Generation, StoredAt: e.StoredAt,
		Reason: p.Reason, RequestedBy: p.RequestedBy, Unconsumed: p.Source == events.Unconsumed,
	}
}
