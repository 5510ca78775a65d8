// Command repush takes requests to push messages again, pushes them and sends a
// result event each. One binary serves Function Compute (custom runtime and
// go1), AWS Lambda and plain HTTP; see functions/internal/serve.
package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/ons-repush/ons-repush/events/sink"
	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/ons"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
	"github.com/ons-repush/ons-repush/functions/internal/serve"
	"github.com/ons-repush/ons-repush/functions/internal/trigger"
)

// gcPercent trades CPU, of which waiting for the quota leaves enough, for
// memory, by which an instance is billed. GOGC in the environment wins.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	status := run(ctx, os.Environ(), os.Getenv, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// Exit statuses: 0 stopped as asked, 1 could not serve, 2 the settings are
// wrong.
const (
	exitFailed   = 1
	exitSettings = 2
)

func run(ctx context.Context, environ []string, getenv func(string) string, stdout, stderr io.Writer) int {
	cfg, err := config.Load(environ)
	log := newLogger(stderr, cfg.LogLevel)
	if err != nil {
		log.settings(err)
		return exitSettings
	}
	f, err := newFunction(ctx, cfg, environ, getenv, stdout, log)
	if err != nil {
		log.settings(err)
		return exitSettings
	}
	defer f.state.close()
	log.started(environ, getenv)
	err = serve.Run(ctx, serve.Config{Getenv: getenv, Token: f.token, Log: log.event, Stdout: stdout, Tick: f.state.tick()}, f.handle)
	if err != nil {
		log.event("stopped", err, nil)
		return exitFailed
	}
	return 0
}

// function is the object graph of one process.
type function struct {
	service *pushing.Service
	token   serve.Token
	state   *state
}

// newFunction wires the adapters. ctx ends when the process is about to stop.
func newFunction(ctx context.Context, cfg config.Config, environ []string, getenv func(string) string, stdout io.Writer, log *logger) (*function, error) {
	api, err := ons.New(ons.Config{
		Region: cfg.Region, Endpoint: cfg.ONSEndpoint, PushTimeout: cfg.Policy.PushTimeout, MaxInFlight: cfg.Policy.Concurrency,
		Default: ons.Credentials{
			AccessKeyID:     getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"),
			AccessKeySecret: getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
			SecurityToken:   getenv("ALIBABA_CLOUD_SECURITY_TOKEN"),
		},
	})
	if err != nil {
		return nil, err
	}
	results, err := sink.Open(cfg.Results, sink.Options{
		Out: stdout, Region: cfg.Region, AccountID: getenv("FC_ACCOUNT_ID"),
		Credentials: func(ctx context.Context) (sink.Credentials, error) {
			c, err := api.Credentials(ctx)
			return sink.Credentials(c), err
		},
	})
	if err != nil {
		return nil, err
	}
	kept, err := openState(ctx, cfg, getenv, log)
	if err != nil {
		return nil, err
	}
	p := instrument(ports{api, api, quota.NewPacer(kept.pushes, nil), kept.ledger, results})
	clients := pushing.NewClients(p.Connections, quota.NewPacer(kept.lookups, nil), nil)
	service := pushing.NewService(cfg.Policy, p.Pusher, clients, p.Pacer, p.Ledger, p.Emitter)
	service.Hint, service.Log, service.Draining = ons.Hint, log.request, ctx
	service.Shares = kept.shares
	service.Describe = func(ctx context.Context) any { return describe(ctx, environ, kept) }
	return &function{service: service, token: serve.Token(cfg.Token), state: kept}, nil
}

// handle is one invocation: bytes in, the platform's answer out.
func (f *function) handle(ctx context.Context, in serve.Invocation, body []byte) serve.Answer {
	if in.Credentials != (serve.Credentials{}) {
		ctx = ons.WithCredentials(ctx, ons.Credentials(in.Credentials))
	}
	batch := trigger.Decode(body, trigger.Options{Allows: f.token.Allows})
	if batch.NotAnEvent && !in.Platform {
		return notAnEvent(batch.Deliveries[0].Err)
	}
	answer := batch.Answer(f.service.Handle(ctx, in.ID, batch.Deliveries))
	return serve.Answer{Body: answer.Body, GiveBack: answer.GiveBack, Reason: answer.Reason, RetryAfter: answer.RetryAfter}
}

// notAnEvent is the answer to an outsider whose bytes are no event at all.
func notAnEvent(why error) serve.Answer {
	body, _ := json.Marshal(map[string]string{"errorMessage": why.Error(), "errorType": "NotAnEvent"})
	return serve.Answer{NotAnEvent: true, Body: body}
}
