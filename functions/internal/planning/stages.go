package planning

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// selects finds the messages, and freezes the manifest.
func (w *work) selects(ctx context.Context) (wait time.Duration, err error) {
	if wait, err := w.awaitClients(ctx); wait > 0 || err != nil {
		return wait, err
	}
	s, err := w.selection(ctx)
	if err != nil {
		return 0, err
	}
	if err := s.run(ctx); err != nil {
		if kept := s.checkpoint(ctx, true); kept != nil {
			err = errors.Join(err, kept)
		}
		return 0, err
	}
	want := min(s.chosen(), w.policy.limitOf(w.incident.Plan))
	room := 0
	if err := w.step(ctx, func(g *group, in *incident) { room = g.reserve(in, want, w.policy, w.Now()) }); err != nil {
		return 0, err
	}
	_, left, err := w.ports.Work.Due(ctx, 0)
	if err != nil {
		return 0, err
	}
	p, err := w.keepManifest(ctx, w.freeze(s, room, left.Open))
	if err != nil {
		return 0, err
	}
	return 0, w.step(ctx, func(_ *group, in *incident) {
		in.Stage, in.OperationID, in.Manifest, in.Code, in.Message = announcing, p.OperationID, reportOf(p), p.Code, p.Message
	})
}

// awaitClients is how long to wait when requests would follow and nobody of the
// group is online to be pushed to: what is not consumed for that reason will be.
func (w *work) awaitClients(ctx context.Context) (time.Duration, error) {
	in := &w.incident
	if !in.sends(w.policy) {
		return 0, nil
	}
	err := pushing.Paced(ctx, w.ports.Pacer(OpOnline), events.PriorityAlert, throttledTries, OpOnline, func() error {
		_, err := w.ports.Connections.Online(ctx, in.Plan.InstanceID, in.Plan.GroupID)
		return err
	})
	if e := new(pushing.Error); errors.As(err, &e) && e.Kind == pushing.NoClient {
		return waitForClients, &waiting{CodeNoClient, "no consumer of the group is online: nothing is sent until one is; start it, the sweep looks again"}
	}
	return 0, err
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
		alert: w.incident.Alert, person: w.incident.Person, now: w.Now, savedAt: w.Now(),
	}
	if text != nil {
		if kept, err := decodeScan(text); err == nil {
			s.scan = kept
		}
	}
	s.save = func(ctx context.Context, kept scan) (err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reserve)
		defer cancel()
		version, err = w.docs.Save(ctx, key, version, kept.encode(), w.keep(), -1)
		if errors.Is(err, ErrConflict) {
			return errLost
		}
		return err
	}
	return s, nil
}

// announces sends the manifest's events, and closes what needs nothing more.
func (w *work) announces(ctx context.Context) (wait time.Duration, err error) {
	p, err := w.manifest(ctx)
	if err != nil {
		return 0, err
	}
	if err := w.emit(ctx, p); err != nil {
		return waitForOthers, &waiting{CodeSink, "the manifest could not be delivered; it is sent again: " + err.Error()}
	}
	if _, version, err := w.docs.Load(ctx, scanKey(w.incident.ID)); err == nil && version > 0 {
		_, _ = w.docs.Save(ctx, scanKey(w.incident.ID), version, nil, 0, -1) // nobody needs it any more; else it expires
	}
	return 0, w.step(ctx, func(_ *group, in *incident) {
		if in.Stage = sending; p.DryRun || p.Count == 0 {
			in.end(p.Code, p.Message, w.Now())
		}
	})
}

// batch is how many requests leave between two notes of how far it came: what a
// crash sends once more under the same ids. The sink makes the largest calls of
// them that its target takes.
const batch = 128

// sendsRequests sends a request for each entry that still needs one.
func (w *work) sendsRequests(ctx context.Context) (wait time.Duration, err error) {
	if wait, err := w.awaitClients(ctx); wait > 0 || err != nil {
		return wait, err
	}
	p, err := w.manifest(ctx)
	if err != nil {
		return 0, err
	}
	for w.incident.Done < len(p.Entries) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if wait, err := w.obeys(ctx); wait > 0 || err != nil || w.incident.Stage == closed {
			return wait, err
		}
		entries := p.Entries[w.incident.Done:min(len(p.Entries), w.incident.Done+batch)]
		requests, err := w.requests(ctx, p, entries)
		if err != nil {
			return 0, err
		}
		if len(requests) > 0 {
			if err := w.ports.Requests.Send(ctx, requests...); err != nil {
				return waitForOthers, &waiting{CodeSink, "requests could not be delivered; they are sent again under the same ids: " + err.Error()}
			}
		}
		err = w.step(ctx, func(_ *group, in *incident) {
			in.Done += len(entries)
			in.Requests += len(requests)
		})
		if err != nil {
			return 0, err
		}
	}
	return 0, w.step(ctx, func(_ *group, in *incident) {
		message := ""
		if in.Requests < len(p.Entries) {
			message = fmt.Sprintf("%d of the manifest's messages had expired, or were pushed or asked for by then", len(p.Entries)-in.Requests)
		}
		in.end(CodeDone, message, w.Now())
	})
}

// obeys stops for orders on the operation.
func (w *work) obeys(ctx context.Context) (wait time.Duration, err error) {
	progress, err := w.ports.Work.Progress(ctx, w.incident.OperationID)
	switch {
	case err != nil:
		return 0, err
	case slices.Contains(progress.Orders, pushing.CodeCancelled):
		return 0, w.step(ctx, func(_ *group, in *incident) {
			in.end(pushing.CodeCancelled, "its operation was cancelled before all requests were sent", w.Now())
		})
	case len(progress.Orders) > 0:
		return waitForOthers, &waiting{progress.Orders[0], "its operation, or all pushing, was halted: nothing more is sent until it goes on"}
	}
	return 0, nil
}

// requests makes the events for the entries that still need a push: meanwhile
// they may have expired, or been pushed, asked for, or consumed.
func (w *work) requests(ctx context.Context, p events.Planned, entries []events.Entry) ([]events.Event, error) {
	s := &selection{ports: w.ports, policy: w.policy, plan: w.incident.Plan, alert: w.incident.Alert, now: w.Now}
	needs, errs := make([]bool, len(entries)), make([]error, len(entries))
	gate := make(chan struct{}, workers)
	var wg sync.WaitGroup
	for i, e := range entries {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			needs[i], errs[i] = w.stillNeeds(ctx, s, p, e)
		})
	}
	wg.Wait()
	if err := firstOf(errs); err != nil {
		return nil, err
	}
	var requests []events.Event
	for i, e := range entries {
		if needs[i] {
			request, err := w.request(p, e)
			if err != nil {
				return nil, err
			}
			requests = append(requests, request)
		}
	}
	return requests, nil
}

// fresh is how old a manifest may be whose messages are not asked about again.
const fresh = time.Minute

// stillNeeds reports whether an entry is to be pushed now. Its own request may be
// there already, sent before a crash.
func (w *work) stillNeeds(ctx context.Context, s *selection, p events.Planned, e events.Entry) (bool, error) {
	if !e.StoredAt.IsZero() && w.Now().Sub(e.StoredAt) >= w.policy.MaxAge {
		return false, nil
	}
	h, err := w.ports.Histories.History(ctx, s.message(e))
	if err != nil {
		return false, err
	}
	for _, past := range h.Requests {
		if past.Outcome == "" || past.Outcome.Closes() && past.Generation >= e.Generation {
			return false, nil
		}
	}
	if p.Source == events.Unconsumed && w.Now().Sub(p.CutOff) > fresh {
		reason, err := s.trace(ctx, e.Topic, e.MsgID)
		return reason == "", err
	}
	return true, nil
}

// requestID follows from the operation, the message and the generation, so that
// whoever sends a request again sends the same one.
func requestID(operationID string, e events.Entry) string {
	return hash(operationID, e.Topic, e.MsgID, fmt.Sprint(e.Generation))
}

func (w *work) request(p events.Planned, e events.Entry) (events.Event, error) {
	data := events.Requested{
		InstanceID: p.InstanceID, GroupID: p.GroupID, Topic: e.Topic, MsgID: e.MsgID, OffsetID: e.OffsetID, Generation: e.Generation, StoredAt: e.StoredAt,
		Reason: p.Reason, RequestedBy: p.RequestedBy, OperationID: p.OperationID,
		Priority: events.PriorityBulk, Unconsumed: p.Source == events.Unconsumed,
	}
	if w.incident.Alert {
		data.Priority = events.PriorityAlert
	}
	text, err := json.Marshal(data)
	return events.Event{
		ID: requestID(p.OperationID, e), Source: events.SourcePlan, Type: events.TypeMessageRequested,
		Subject: p.InstanceID + "/" + p.GroupID + "/" + e.Topic + "/" + e.MsgID, Time: p.CutOff, Data: text,
	}, err
}
