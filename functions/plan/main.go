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
	"github.com/ons-repush/ons-repush/functions/internal/trigger"
	"github.com/ons-repush/ons-repush/functions/internal/wiring"
)

func main() { wiring.Main(config.Plan, build) }

// build wires the adapters. ctx ends when the process is about to stop.
func build(ctx context.Context, p wiring.Process) (f wiring.Function, err error) {
	api, err := p.API()
	if err != nil {
		return f, err
	}
	results, err := p.Sink("REPUSH_RESULTS", p.Config.Results, api)
	requests, other := p.Sink("REPUSH_REQUESTS", p.Config.Requests, api)
	if err := errors.Join(err, other); err != nil {
		return f, err
	}
	state, err := p.Open(ctx)
	if err != nil {
		return f, err
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
	return wiring.Function{Handle: p.Handle(service.Handle, trigger.Batch.PlanAnswer), State: state}, nil
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
