// Command repush takes requests to push messages again, pushes them and sends a
// result event each. One binary serves Function Compute (custom runtime and
// go1), AWS Lambda and plain HTTP; see functions/internal/serve.
package main

import (
	"context"

	"github.com/sirupsen/logrus"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/ons"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
	"github.com/ons-repush/ons-repush/functions/internal/trigger"
	"github.com/ons-repush/ons-repush/functions/internal/wiring"
)

func main() { wiring.Main(config.Repush, build) }

// ports are what the domain calls. Builds with the tag "crash" put points
// between them at which a test kills the process; see crash.go.
type ports struct {
	pushing.Pusher
	pushing.Connections
	pushing.Pacer
	pushing.Ledger
	pushing.Emitter
}

// build wires the adapters. ctx ends when the process is about to stop.
func build(ctx context.Context, p wiring.Process) (f wiring.Function, err error) {
	api, err := p.API()
	if err != nil {
		return f, err
	}
	results, err := p.Sink("REPUSH_RESULTS", p.Config.Results, api)
	if err != nil {
		return f, err
	}
	state, err := p.Open(ctx)
	if err != nil {
		return f, err
	}
	pushes := state.Quota("OnsMessagePush", p.Config.QPS)
	lookups := state.Quota(planning.OpOnline, ons.Quotas()[planning.OpOnline])
	to := instrument(ports{api, api, quota.NewPacer(pushes, nil), state.Ledger, results})
	clients := pushing.NewClients(to.Connections, quota.NewPacer(lookups, nil))
	service := pushing.NewService(p.Config.Policy, to.Pusher, clients, to.Pacer, to.Ledger, to.Emitter)
	service.Hint, service.Draining = ons.Hint, ctx
	service.Log = func(line pushing.Line) { logRequest(p.Log, line) }
	service.Describe = func(ctx context.Context) any { return p.Describe(ctx, state) }
	service.Shares = func(ctx context.Context) any {
		shares, err := pushes.Shares(ctx)
		if err != nil {
			return map[string]string{"error": err.Error()}
		}
		return shares
	}
	return wiring.Function{Handle: p.Handle(service.Handle, trigger.Batch.Answer), State: state}, nil
}

// logRequest writes the line of one request.
func logRequest(l *wiring.Logger, line pushing.Line) {
	outcome, level := string(line.Result.Outcome), logrus.InfoLevel
	switch r := line.Result; {
	case r.Report != nil:
		outcome = "answered"
	case r.Parked:
		outcome = "parked"
	case r.Outcome == "":
		outcome, level = "deferred", logrus.WarnLevel
	case r.Outcome == events.Failed, r.Outcome == events.Unknown, r.Outcome == events.Abandoned:
		level = logrus.WarnLevel
	}
	if !l.IsLevelEnabled(level) {
		return
	}
	data := line.Data
	entry := l.WithFields(logrus.Fields{
		"invocationId": line.InvocationID, "eventId": line.Request.ID, "operationId": data.OperationID,
		"instance": data.InstanceID, "group": data.GroupID, "topic": data.Topic, "msgId": data.MsgID, "generation": max(1, data.Generation),
		"outcome": outcome, "code": line.Result.Code, "requestId": line.RequestID,
		"attempts": line.Attempts, "waitMs": line.WaitMs, "callMs": line.CallMs,
	})
	if line.Err != nil {
		entry = entry.WithError(line.Err)
	}
	entry.Log(level, line.Result.Message)
}
