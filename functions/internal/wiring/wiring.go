// Package wiring is what the functions' mains have in common: how settings become
// adapters, and what the log and the process say of themselves. It decides nothing.
package wiring

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
	"github.com/ons-repush/ons-repush/functions/internal/serve"
	"github.com/ons-repush/ons-repush/functions/internal/trigger"
)

// gcPercent trades CPU, of which waiting for the quota leaves enough, for
// memory, by which an instance is billed. GOGC in the environment wins.
const gcPercent = 50

// Exit statuses: 0 stopped as asked, 1 could not serve, 2 the settings are
// wrong.
const (
	ExitFailed   = 1
	ExitSettings = 2
)

// Process is one running function: its settings, and where it was told them.
type Process struct {
	// Function is config.Repush or config.Plan.
	Function string
	Config   config.Config
	Environ  []string
	Getenv   func(string) string
	Stdout   io.Writer
	Log      *Logger
}

// Function is what a main makes of a process.
type Function struct {
	Handle serve.Handler
	State  *State
}

// Main runs a function until it is told to stop, and ends the process.
func Main(function string, build func(context.Context, Process) (Function, error)) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // who reads the results may go first: writing fails, and does not kill
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	status := Run(ctx, Process{Function: function, Environ: os.Environ(), Getenv: os.Getenv, Stdout: os.Stdout}, os.Stderr, build)
	stop()
	os.Exit(status)
}

// Run is Main for a process of which all but Config and Log is given, and returns
// its exit status. The log goes to stderr.
func Run(ctx context.Context, p Process, stderr io.Writer, build func(context.Context, Process) (Function, error)) int {
	var err error
	p.Config, err = config.Load(p.Function, p.Environ)
	p.Log = NewLogger(stderr, p.Config.LogLevel)
	if err != nil {
		p.Log.settings(err)
		return ExitSettings
	}
	f, err := build(ctx, p)
	if err != nil {
		p.Log.settings(err)
		return ExitSettings
	}
	defer f.State.Close()
	p.Log.started(p, f.State)
	err = serve.Run(ctx, serve.Config{
		Getenv: p.Getenv, Token: serve.Token(p.Config.Token), WebhookToken: serve.Token(p.Config.WebhookToken),
		Log: p.Log.Event, Stdout: p.Stdout, Tick: f.State.tick(),
	}, f.Handle)
	if err != nil {
		p.Log.Event("stopped", err, nil)
		return ExitFailed
	}
	return 0
}

// API returns the client of the ONS OpenAPI.
func (p Process) API() (*ons.Client, error) {
	return ons.New(ons.Config{
		Region: p.Config.Region, Endpoint: p.Config.ONSEndpoint, PushTimeout: p.Config.Policy.PushTimeout, MaxInFlight: p.Config.Policy.Concurrency,
		Default: ons.Credentials{
			AccessKeyID:     p.Getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"),
			AccessKeySecret: p.Getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
			SecurityToken:   p.Getenv("ALIBABA_CLOUD_SECURITY_TOKEN"),
		},
	})
}

// Sink opens the targets of a setting, which are signed for with api's credentials.
func (p Process) Sink(setting string, targets []string, api *ons.Client) (sink.Sink, error) {
	s, err := sink.Open(targets, sink.Options{
		Out: p.Stdout, Region: p.Config.Region, AccountID: p.Getenv("FC_ACCOUNT_ID"),
		Credentials: func(ctx context.Context) (sink.Credentials, error) {
			c, err := api.Credentials(ctx)
			return sink.Credentials(c), err
		},
	})
	if err != nil {
		err = &config.Error{Problems: []string{setting + ": " + err.Error()}}
	}
	return s, err
}

// Handle makes a handler: bytes in, the platform's answer out. The calls of an
// invocation are signed with the credentials that it brought, if any.
func (p Process) Handle(
	decide func(ctx context.Context, invocationID string, deliveries []pushing.Delivery) []pushing.Result,
	answer func(trigger.Batch, []pushing.Result) trigger.Answer,
) serve.Handler {
	token, webhook := serve.Token(p.Config.Token), serve.Token(p.Config.WebhookToken)
	return func(ctx context.Context, in serve.Invocation, body []byte) serve.Answer {
		batch := trigger.Decode(body, trigger.Options{
			Plan: p.Function == config.Plan, AlertOnly: in.AlertOnly, Allows: token.Allows, AllowsAlert: webhook.Is,
		})
		if batch.NotAnEvent && !in.Platform {
			text, _ := json.Marshal(map[string]string{"errorMessage": batch.Deliveries[0].Err.Error(), "errorType": "NotAnEvent"})
			return serve.Answer{NotAnEvent: true, Body: text}
		}
		a := answer(batch, decide(ons.WithCredentials(ctx, ons.Credentials(in.Credentials)), in.ID, batch.Deliveries))
		return serve.Answer{
			Body: a.Body, GiveBack: a.GiveBack, Reason: a.Reason, RetryAfter: a.RetryAfter, Unauthorized: in.AlertOnly && a.Unauthorized,
		}
	}
}
