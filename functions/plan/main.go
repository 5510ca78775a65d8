// Command plan takes alerts and requests for plans, finds the messages that they
// mean, writes them down, and asks functions/repush for their pushes. One binary
// serves Function Compute (custom runtime and go1), AWS Lambda and plain HTTP.
package main

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/ons"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
	"github.com/ons-repush/ons-repush/functions/internal/serve"
	"github.com/ons-repush/ons-repush/functions/internal/trigger"
	"github.com/ons-repush/ons-repush/functions/internal/wiring"
)

func main() { wiring.Main(config.Plan, build) }

func build(ctx context.Context, p wiring.Process) (wiring.Function, error) {
	f, err := newFunction(ctx, p)
	if err != nil {
		return wiring.Function{}, err
	}
	return wiring.Function{Handle: f.handle, State: f.state}, nil
}

// function is the object graph of one process.
type function struct {
	service        *planning.Service
	token, webhook serve.Token
	state          *wiring.State
}

// newFunction wires the adapters. ctx ends when the process is about to stop.
func newFunction(ctx context.Context, p wiring.Process) (*function, error) {
	api, err := p.API()
	if err != nil {
		return nil, err
	}
	results, err := p.Sink("REPUSH_RESULTS", p.Config.Results, api)
	requests, other := p.Sink("REPUSH_REQUESTS", p.Config.Requests, api)
	if err := errors.Join(err, other); err != nil {
		return nil, err
	}
	state, err := p.Open(ctx)
	if err != nil {
		return nil, err
	}
	pacers := make(map[string]pushing.Pacer)
	for operation, qps := range ons.Quotas() {
		pacers[operation] = quota.NewPacer(state.Quota(operation, qps), nil)
	}
	ports := instrument(planning.Ports{
		Pager: api, Finder: api, Watcher: api, Connections: api,
		Pacer:     func(operation string) pushing.Pacer { return pacers[operation] },
		Histories: state.Ledger, Work: state.Ledger, Documents: state.Ledger.Documents(),
		Results: results, Requests: requests,
	})
	service := planning.NewService(p.Config.Plan, ports)
	service.Draining = ctx
	service.Log = func(line planning.Line) { logPlan(p.Log, line) }
	return &function{service: service, token: serve.Token(p.Config.Token), webhook: serve.Token(p.Config.WebhookToken), state: state}, nil
}

// handle is one invocation.
func (f *function) handle(ctx context.Context, in serve.Invocation, body []byte) serve.Answer {
	o := trigger.Options{Plan: true, AlertOnly: in.AlertOnly, Allows: f.token.Allows, AllowsAlert: f.webhook.Is}
	return wiring.Handle(ctx, in, body, o, f.service.Handle, trigger.Batch.PlanAnswer)
}

// logPlan writes the line of one delivery, or of an incident that a sweep went on
// with.
func logPlan(l *wiring.Logger, line planning.Line) {
	outcome, level := "answered", logrus.InfoLevel
	switch {
	case line.Outcome != "":
		outcome, level = string(line.Outcome), logrus.WarnLevel
	case line.Parked:
		outcome = "parked"
	case line.Deferred:
		outcome, level = "deferred", logrus.WarnLevel
	case line.Err != nil: // of a sweep, whose other work was done
		level = logrus.WarnLevel
	}
	r := line.Report
	fields := logrus.Fields{
		"invocationId": line.InvocationID, "eventId": line.Request.ID, "operationId": r.OperationID, "incidentId": r.IncidentID,
		"instance": line.Plan.InstanceID, "group": line.Plan.GroupID, "topic": line.Plan.Topic, "source": line.Plan.Source,
		"outcome": outcome, "code": r.Code, "requests": r.Requests,
	}
	if r.Manifest != nil {
		fields["count"], fields["incomplete"] = r.Manifest.Count, r.Manifest.Incomplete
	}
	entry := l.WithFields(fields)
	if line.Err != nil {
		entry = entry.WithError(line.Err)
	}
	entry.Log(level, r.Message)
}
