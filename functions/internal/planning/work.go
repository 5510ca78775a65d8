package planning

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// work is one worker's hold on an incident. One goroutine owns it.
type work struct {
	*Service
	key string // of the group's document
	// incident is as this worker left it last.
	incident incident
	lease    time.Duration
}

// errLost says that another worker has the incident by now.
var errLost = errors.New("another worker is at this incident")

// leaseMargin is how long a lease outlives the invocation it covers, and
// leaseMost bounds it where an invocation is longer: each step renews it.
const (
	leaseMargin = 2 * time.Second
	leaseMost   = 10 * time.Minute
)

func (s *Service) newWork(ctx context.Context, key string) *work {
	w := &work{Service: s, key: key, lease: leaseMost}
	if deadline, limited := ctx.Deadline(); limited {
		w.lease = min(leaseMost, deadline.Sub(s.Now())+saveTime+leaseMargin)
	}
	return w
}

// join finds the delivery's incident, or opens one. taken: it is ours to go on
// with; otherwise the result is the answer.
func (s *Service) join(ctx context.Context, d pushing.Delivery) (w *work, taken bool, result pushing.Result, err error) {
	w = s.newWork(ctx, groupKey(*d.Plan))
	found := false
	err = s.update(ctx, w.key, func(g *group) error {
		in := g.open(d, s.policy, s.Now())
		if found = in != nil; found {
			// No alert shortens a wait: who sends many would use the pushes' quotas up.
			taken = (!d.Alert || in.wait(s.Now()) == 0) && in.take(w.lease, s.Now())
			w.incident = *in
		}
		return nil
	})
	switch {
	case err != nil:
		return w, false, s.stateDown(err), err
	case !found && !d.Alert:
		return w, false, pushing.Result{Code: CodeInProgress, Message: fmt.Sprintf("%d plans of this group are open: send it again later", maxAlerts), Deferred: true, RetryAfter: waitForOthers}, nil
	case !found:
		return w, false, answer(Report{Code: CodeBudget, Message: fmt.Sprintf("alerts have opened %d incidents of this group: look at them first", maxAlerts)}), nil
	case !d.Alert && w.incident.Asked != askedFor(*d.Plan):
		return w, false, s.refuse(ctx, d, Report{Code: CodeContradicting, Message: "this source and id asked for another plan before: send it under a new id"}), nil
	case w.incident.Stage == closed && d.Alert:
		r := w.report()
		r.Requests, r.Code = 0, CodeJoined
		r.Message = fmt.Sprintf("this alert belongs to an incident that ended at %s with %s: nothing is planned until %s after that", w.incident.ClosedAt.UTC().Format(time.RFC3339), w.incident.Code, w.policy.Cooldown)
		return w, false, answer(r), nil
	case w.incident.Stage != closed && !taken && w.incident.wait(s.Now()) > 0:
		return w, false, w.pause(w.incident.Code, w.incident.Message, w.incident.wait(s.Now())), nil
	case w.incident.Stage != closed && !taken:
		return w, false, w.pause(CodeInProgress, errLost.Error(), 0), nil
	}
	return w, taken, answer(w.report()), nil
}

// step changes the incident while it is ours, and renews the lease.
func (w *work) step(ctx context.Context, change func(*group, *incident)) error {
	// What was done is noted even when the invocation is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	var after incident
	err := w.update(ctx, w.key, func(g *group) error {
		in := g.find(w.incident.ID)
		if in == nil || in.Fence != w.incident.Fence || in.Stage == closed {
			return errLost
		}
		in.LeaseUntil = w.Now().Add(w.lease)
		change(g, in)
		after = *in
		return nil
	})
	if err == nil {
		w.incident = after
	}
	return err
}

// run goes on with the incident until it is closed, has to wait, or ctx ends.
func (w *work) run(ctx context.Context) (pushing.Result, error) {
	for w.incident.Stage != closed {
		if in := w.incident; w.Now().Sub(in.OpenedAt) >= w.policy.MaxAge {
			return w.fail(ctx, CodeExpired, "given up, because the messages have expired; last reason: "+cmp.Or(in.Message, "none"))
		}
		do := w.selects
		switch w.incident.Stage {
		case refused:
			do = func(ctx context.Context) error { return w.ends(ctx, w.incident.Code, w.incident.Message) }
		case announcing:
			do = w.announces
		case sending:
			do = w.sendsRequests
		}
		if err := do(ctx); err != nil {
			return w.interrupted(ctx, err)
		}
	}
	return answer(w.report()), nil
}

// waiting is an error that says why an incident has to wait.
type waiting struct {
	code, text string
	lasts      time.Duration
}

// Error returns why.
func (e *waiting) Error() string { return e.text }

// How long an incident is left alone: for consumers to come, for what does not
// answer.
const (
	waitForClients = time.Minute
	waitForOthers  = 15 * time.Second
)

// interrupted notes why the work stops here, and gives the incident free.
func (w *work) interrupted(ctx context.Context, cause error) (pushing.Result, error) {
	if errors.Is(cause, errLost) {
		return w.pause(CodeInProgress, cause.Error(), waitForOthers), cause
	}
	e, why := new(pushing.Error), new(waiting)
	code, text, wait := CodeGoesOn, "there is more to do than time: the sweep goes on with it", time.Duration(0)
	switch {
	case errors.As(cause, &why):
		code, text, wait = why.code, why.text, why.lasts
	case errors.As(cause, &e) && (e.Kind == pushing.Refused || e.Kind == pushing.Invalid):
		return w.fail(ctx, cmp.Or(e.Code, e.Kind.String()), e.Error())
	case ctx.Err() != nil:
	case errors.Is(cause, pushing.ErrNoSlot): // in what is left of ctx
		wait = waitForOthers
	case errors.As(cause, &e):
		code, text, wait = cmp.Or(e.Code, e.Kind.String()), e.Error(), waitForOthers
	default:
		code, text, wait = CodeState, cause.Error(), waitForOthers
	}
	err := w.step(ctx, func(_ *group, in *incident) {
		in.Due, in.LeaseUntil = w.Now().Add(wait), time.Time{}
		if in.Stage != refused { // whose reason is still to be told
			in.Code, in.Message = code, text
		}
	})
	if err != nil && !errors.Is(err, errLost) {
		return w.stateDown(err), err
	}
	return w.pause(code, text, wait), cause
}

// head is what is told of an incident in any case.
func (w *work) head() events.Planned {
	in := w.incident
	return events.Planned{
		IncidentID: in.ID, InstanceID: in.Plan.InstanceID, GroupID: in.Plan.GroupID, Topic: in.Plan.Topic, Source: in.Plan.Source,
		Reason: in.Plan.Reason, RequestedBy: in.Plan.RequestedBy, Code: in.Code, Message: in.Message, CutOff: in.OpenedAt.UTC(),
		DryRun: !in.sends(w.policy), Part: 1, Parts: 1,
	}
}

// ends closes an incident, and tells what no event told: that there is no manifest,
// or that not all of the one that was announced is known to have been asked for.
func (w *work) ends(ctx context.Context, code, message string) error {
	in := w.incident
	missing := in.Manifest.Count - in.Requests
	if in.Announced && missing > 0 {
		message = fmt.Sprintf("as far as is known, %d of the %d messages of operation %s were not asked for: %s", missing, in.Manifest.Count, in.OperationID, message)
	}
	if !in.Announced || missing > 0 {
		p := w.head()
		p.Code, p.Message = code, message
		if err := w.emit(ctx, p); err != nil {
			return &waiting{CodeSink, "the plan is over, and the result event that says how could not be delivered: " + err.Error(), waitForOthers}
		}
	}
	w.dropScan(ctx)
	return w.step(ctx, func(g *group, in *incident) { g.end(in, code, message, w.policy, w.Now()) })
}

// fail ends an incident that cannot go on.
func (w *work) fail(ctx context.Context, code, message string) (pushing.Result, error) {
	err, why := w.ends(ctx, code, message), new(waiting)
	switch {
	case errors.As(err, &why):
		return w.interrupted(ctx, err)
	case err != nil:
		return w.stateDown(err), err
	}
	result := answer(w.report())
	result.Outcome = events.Failed
	return result, errors.New(message)
}

// pause is the result of an incident that is not closed: the sweep has it, or the
// platform.
func (w *work) pause(code, text string, wait time.Duration) pushing.Result {
	r := w.report()
	r.Code, r.Message = code, text
	durable := w.docs.Durable()
	return pushing.Result{Code: code, Message: text, Report: r, Parked: durable, Deferred: !durable, RetryAfter: max(wait, time.Second)}
}

// stateDown is the result when the documents cannot be reached: only the platform
// knows of the delivery.
func (s *Service) stateDown(err error) pushing.Result {
	code, e := CodeState, new(pushing.Error)
	if errors.As(err, &e) && e.Code != "" {
		code = e.Code
	}
	return pushing.Result{Code: code, Message: "the state cannot be reached: " + err.Error(), Deferred: true, RetryAfter: waitForOthers}
}

// report is the return value for the incident as it is.
func (w *work) report() Report {
	in := w.incident
	r := Report{OperationID: in.OperationID, IncidentID: in.ID, Requests: in.Requests, Open: in.Stage != closed, Code: in.Code, Message: in.Message}
	if m := in.Manifest; m.Count > 0 || len(m.LeftOut) > 0 || m.Incomplete != "" {
		r.Manifest = &m
	}
	return r
}
