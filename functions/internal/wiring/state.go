package wiring

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/ledger"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
	"github.com/ons-repush/ons-repush/functions/internal/redis"
)

// State is what an invocation leaves to the next: ledger and quotas.
type State struct {
	Ledger interface {
		pushing.Ledger
		Documents() planning.Documents
	}
	// Quota is the state of an operation's quota, of so many calls a second.
	Quota func(operation string, qps float64) quota.Store
	// Close ends it.
	Close func()

	kind string // memory, file or redis
	// check says whether the state can be used now, server what it runs on.
	check  func(context.Context) error
	server func(context.Context) (any, error)
}

// recordMargin is how long the ledger remembers a message beyond its life.
const recordMargin = 24 * time.Hour

// startPatience is how long the start waits for Redis. One that is away then
// is met again by the first request.
const startPatience = 2 * time.Second

// Open opens what REPUSH_STATE names. The error is a problem of the settings,
// which time does not mend.
func (p Process) Open(ctx context.Context) (*State, error) {
	retention := max(p.Config.Policy.MaxAge, p.Config.Policy.GiveUpAfter) + recordMargin
	s := &State{
		kind: "memory", check: func(context.Context) error { return nil }, server: func(context.Context) (any, error) { return nil, nil }, Close: func() {},
		Quota: func(_ string, qps float64) quota.Store { return quota.NewMemory(qps, nil) },
	}
	if path, isFile := strings.CutPrefix(p.Config.State, "file:"); isFile {
		file, err := ledger.OpenFile(path, retention, nil)
		if err != nil {
			return nil, stateError(err)
		}
		s.kind, s.Ledger, s.check, s.Close = "file", file, file.Check, func() { _ = file.Close() }
		return s, nil
	}
	if p.Config.State == "memory" {
		s.Ledger = ledger.NewMemory(retention, nil)
		return s, nil
	}
	client, err := redis.Open(p.Config.State)
	if err != nil {
		return nil, stateError(err)
	}
	whose := account(p.Config, p.Getenv) + "/" + p.Config.Region + "/"
	s.Quota = func(operation string, qps float64) quota.Store { return quota.NewRedis(client, whose+operation, qps) }
	s.kind, s.Ledger, s.check, s.Close = "redis", ledger.NewRedis(client, retention), client.Check, func() { _ = client.Close() }
	s.server = func(ctx context.Context) (any, error) { return client.Info(ctx) }
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := client.Check(ctx); err != nil {
		if neverRight(err) {
			s.Close()
			return nil, stateError(err)
		}
		p.Log.Event("the state cannot be used yet; requests are given back until it can", err, nil)
	}
	return s, nil
}

// neverRight reports whether an error of Redis is one of the settings: those of
// the server or ours.
func neverRight(err error) bool {
	e, is := errors.AsType[*pushing.Error](err)
	return is && (e.Code == redis.StateEvicting || e.Code == redis.StateTooOld || e.Code == redis.StateDenied)
}

func stateError(err error) error {
	return &config.Error{Problems: []string{"REPUSH_STATE: " + err.Error()}}
}

// account is whose quota is used: the function's own, else that in the first
// instance id of the allow-list that has one (source: instance ids are
// MQ_INST_<account>_<suffix>), else one name for all.
func account(cfg config.Config, getenv func(string) string) string {
	for _, instance := range cfg.Policy.Allow.Instances() {
		rest, named := strings.CutPrefix(instance, "MQ_INST_")
		id, _, ended := strings.Cut(rest, "_")
		if named && ended && id != "" && strings.Trim(id, "0123456789") == "" {
			return cmp.Or(getenv("FC_ACCOUNT_ID"), id)
		}
	}
	return cmp.Or(getenv("FC_ACCOUNT_ID"), "default")
}

// tick is the event with which a process that has no timer sweeps; nil where
// nothing is parked.
func (s *State) tick() []byte {
	if !s.Ledger.Durable() {
		return nil
	}
	tick, _ := json.Marshal(events.Event{ID: "tick", Source: events.SourceRepush, Type: events.TypeSweepRequested}) // cannot fail
	return tick
}

// Describe is what an operator may know of a process: no secret, no address.
func (p Process) Describe(ctx context.Context, s *State) any {
	version, commit := build()
	about := map[string]any{"kind": s.kind, "durable": s.Ledger.Durable(), "ok": true}
	server, err := s.server(ctx)
	if err = cmp.Or(s.check(ctx), err); err != nil {
		about["ok"], about["error"] = false, err.Error()
	} else if server != nil {
		about["server"] = server
	}
	return map[string]any{"version": version, "commit": commit, "settings": config.Describe(p.Function, p.Environ), "state": about}
}
