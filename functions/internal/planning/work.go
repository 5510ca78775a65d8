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
// leaseMost bounds it where an invocation has no end.
const (
	leaseMargin = 2 * time.Second
	leaseMost   = 10 * time.Minute
)

func (s *Service) newWork(ctx context.Context, key string) *work {
	w := &work{Service: s, key: key, lease: leaseMost}
	if deadline, limited := ctx.Deadline(); limited {
		w.lease = min(leaseMost, deadline.Sub(s.Now())+leaseMargin)
	}
	return w
}

func (w *work) now() time.Time { return w.Now() }

// plan joins the delivery to its incident, and goes on with that as far as time
// allows.
func (s *Service) plan(ctx context.Context, d pushing.Delivery) (pushing.Result, error) {
	w := s.newWork(ctx, groupKey(*d.Plan))
	var isNew, taken bool
	err := s.update(ctx, w.key, func(g *group) error {
		var in *incident
		in, isNew = g.open(d, s.policy, s.Now())
		taken = in.take(w.lease, s.Now())
		w.incident = *in
		return nil
	})
	switch {
	case err != nil:
		return s.stateDown(err), err
	case taken:
		return w.run(ctx)
	case w.incident.Stage != closed:
		return w.pause(CodeInProgress, "somebody is at this incident", 0), nil
	case !isNew && d.Alert:
		r := w.report()
		r.Requests, r.Code = 0, CodeJoined
		r.Message = fmt.Sprintf("this alert belongs to an incident that ended at %s: nothing is planned until %s after that", w.incident.ClosedAt.UTC().Format(time.RFC3339), s.policy.Cooldown)
		return answer(r), nil
	}
	return answer(w.report()), nil
}

// step changes the incident while it is ours.
func (w *work) step(ctx context.Context, change func(*group, *incident)) error {
	// What was done is noted even when the invocation is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reserve)
	defer cancel()
	return w.update(ctx, w.key, func(g *group) error {
		in := g.find(w.incident.ID)
		if in == nil || in.Fence != w.incident.Fence || in.Stage == closed {
			return errLost
		}
		change(g, in)
		w.incident = *in
		return nil
	})
}

// run goes on with the incident until it is closed, has to wait, or ctx ends.
func (w *work) run(ctx context.Context) (pushing.Result, error) {
	for {
		var wait time.Duration
		var err error
		if in := w.incident; in.Stage != closed && w.Now().Sub(in.OpenedAt) >= w.policy.MaxAge {
			return w.fail(ctx, CodeExpired, fmt.Sprintf("given up, because the messages have expired: %d requests were sent; last reason: %s", in.Requests, cmp.Or(in.Message, "none")))
		}
		switch w.incident.Stage {
		case selecting:
			wait, err = w.selects(ctx)
		case announcing:
			wait, err = w.announces(ctx)
		case sending:
			wait, err = w.sendsRequests(ctx)
		default:
			return answer(w.report()), nil
		}
		if err != nil || wait > 0 {
			return w.interrupted(ctx, wait, err)
		}
	}
}

// waiting is an error that says why an incident has to wait.
type waiting struct{ code, text string }

// Error returns why.
func (e *waiting) Error() string { return e.text }

// How long an incident is left alone: for consumers to come, for what does not
// answer.
const (
	waitForClients = time.Minute
	waitForOthers  = 15 * time.Second
)

// interrupted notes why the work stops here, and gives the incident free.
func (w *work) interrupted(ctx context.Context, wait time.Duration, cause error) (pushing.Result, error) {
	if errors.Is(cause, errLost) {
		return w.pause(CodeInProgress, cause.Error(), waitForOthers), cause
	}
	e, why := new(pushing.Error), new(waiting)
	code, text := CodeGoesOn, "there is more to do than time: the sweep goes on with it"
	switch {
	case errors.As(cause, &why):
		code, text = why.code, why.text
	case errors.As(cause, &e) && (e.Kind == pushing.Refused || e.Kind == pushing.Invalid):
		return w.fail(ctx, cmp.Or(e.Code, e.Kind.String()), e.Error())
	case ctx.Err() != nil:
	case errors.As(cause, &e):
		code, text, wait = cmp.Or(e.Code, e.Kind.String()), e.Error(), waitForOthers
	case cause != nil:
		code, text, wait = CodeState, cause.Error(), waitForOthers
	}
	err := w.step(ctx, func(_ *group, in *incident) {
		in.Due, in.LeaseUntil, in.Code, in.Message = w.Now().Add(wait), time.Time{}, code, text
	})
	if err != nil && !errors.Is(err, errLost) {
		return w.stateDown(err), err
	}
	return w.pause(code, text, wait), cause
}

// fail closes an incident without more requests, and tells of it if nothing was
// told yet.
func (w *work) fail(ctx context.Context, code, message string) (pushing.Result, error) {
	p := events.Planned{
		IncidentID: w.incident.ID, InstanceID: w.incident.Plan.InstanceID, GroupID: w.incident.Plan.GroupID, Topic: w.incident.Plan.Topic,
		Source: w.incident.Plan.Source, Reason: w.incident.Plan.Reason, RequestedBy: w.incident.Plan.RequestedBy,
		Code: code, Message: message, CutOff: w.incident.OpenedAt.UTC(), DryRun: w.incident.Plan.DryRun, Part: 1, Parts: 1,
	}
	if w.incident.Stage == selecting {
		if err := w.emit(ctx, p); err != nil {
			return w.interrupted(ctx, waitForOthers, &waiting{CodeSink, "the plan failed, and the result event could not be delivered: " + err.Error()})
		}
	}
	if err := w.step(ctx, func(_ *group, in *incident) { in.end(code, message, w.Now()) }); err != nil {
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
	r := Report{OperationID: in.OperationID, IncidentID: in.ID, Requests: in.Requests, Code: in.Code, Message: in.Message}
	if in.Manifest.SHA256 != "" {
		r.Manifest = &in.Manifest
	}
	return r
}
