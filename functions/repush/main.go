// Command repush takes requests to push messages again, pushes them and sends a
// result event each. One binary serves Function Compute (custom runtime and
// go1), AWS Lambda and plain HTTP; see functions/internal/serve.
package main

import (
	"context"

	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/ons"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
	"github.com/ons-repush/ons-repush/functions/internal/serve"
	"github.com/ons-repush/ons-repush/functions/internal/trigger"
	"github.com/ons-repush/ons-repush/functions/internal/wiring"
)

func main() { wiring.Main(config.Repush, build) }

func build(ctx context.Context, p wiring.Process) (wiring.Function, error) {
	f, err := newFunction(ctx, p)
	if err != nil {
		return wiring.Function{}, err
	}
	return wiring.Function{Handle: f.handle, State: f.state}, nil
}

// function is the object graph of one process.
type function struct {
	service *pushing.Service
	token   serve.Token
	state   *wiring.State
}

// newFunction wires the adapters. ctx ends when the process is about to stop.
func newFunction(ctx context.Context, p wiring.Process) (*function, error) {
	api, err := p.API()
	if err != nil {
		return nil, err
	}
	results, err := p.Sink(p.Config.Results, api)
	if err != nil {
		return nil, err
	}
	state, err := p.Open(ctx)
	if err != nil {
		return nil, err
	}
	pushes := state.Quota("OnsMessagePush", p.Config.QPS)
	lookups := state.Quota(planning.OpOnline, ons.Quotas()[planning.OpOnline])
	to := instrument(ports{api, api, quota.NewPacer(pushes, nil), state.Ledger, results})
	clients := pushing.NewClients(to.Connections, quota.NewPacer(lookups, nil), nil)
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
	return &function{service: service, token: serve.Token(p.Config.Token), state: state}, nil
}

// handle is one invocation: bytes in, the platform's answer out.
func (f *function) handle(ctx context.Context, in serve.Invocation, body []byte) serve.Answer {
	ctx = wiring.WithCredentials(ctx, in)
	batch := trigger.Decode(body, trigger.Options{Allows: f.token.Allows})
	if batch.NotAnEvent && !in.Platform {
		return wiring.NotAnEvent(batch.Deliveries[0].Err)
	}
	answer := batch.Answer(f.service.Handle(ctx, in.ID, batch.Deliveries))
	return serve.Answer{Body: answer.Body, GiveBack: answer.GiveBack, Reason: answer.Reason, RetryAfter: answer.RetryAfter}
}
