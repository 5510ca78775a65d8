//go:build crash

package main

import (
	"context"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/wiring"
)

// instrument puts points at which a test kills the process before and after every
// call that the domain makes; see wiring.Bomb.
func instrument(p ports) ports {
	b := wiring.NewBomb()
	return ports{
		Pusher: crashPusher{p.Pusher, b}, Connections: crashConnections{p.Connections, b}, Pacer: crashPacer{p.Pacer, b},
		Ledger: crashLedger{p.Ledger, b}, Emitter: crashEmitter{p.Emitter, b},
	}
}

type crashPusher struct {
	pushing.Pusher
	*wiring.Bomb
}

func (c crashPusher) Push(ctx context.Context, t pushing.Target) (id string, err error) {
	c.Around("push", func() { id, err = c.Pusher.Push(ctx, t) })
	return id, err
}

type crashConnections struct {
	pushing.Connections
	*wiring.Bomb
}

func (c crashConnections) Online(ctx context.Context, instance, group string) (ids []string, err error) {
	c.Around("online", func() { ids, err = c.Connections.Online(ctx, instance, group) })
	return ids, err
}

type crashPacer struct {
	pushing.Pacer
	*wiring.Bomb
}

func (c crashPacer) Turn(ctx context.Context, lane events.Priority) (t pushing.Turn, err error) {
	c.Around("turn", func() { t, err = c.Pacer.Turn(ctx, lane) })
	if err == nil {
		t = crashTurn{t, c.Bomb}
	}
	return t, err
}

type crashTurn struct {
	pushing.Turn
	*wiring.Bomb
}

func (c crashTurn) Book(ctx context.Context) (s pushing.Slot, err error) {
	c.Around("book", func() { s, err = c.Turn.Book(ctx) })
	return s, err
}

type crashEmitter struct {
	pushing.Emitter
	*wiring.Bomb
}

func (c crashEmitter) Send(ctx context.Context, batch ...events.Event) (err error) {
	c.Around("emit", func() { err = c.Emitter.Send(ctx, batch...) })
	return err
}

type crashLedger struct {
	pushing.Ledger
	*wiring.Bomb
}

func (c crashLedger) Claim(ctx context.Context, ask pushing.Ask) (claim pushing.Claim, err error) {
	c.Around("claim", func() { claim, err = c.Ledger.Claim(ctx, ask) })
	return claim, err
}

func (c crashLedger) MarkSending(ctx context.Context, claim pushing.Claim) (err error) {
	c.Around("sending", func() { err = c.Ledger.MarkSending(ctx, claim) })
	return err
}

func (c crashLedger) MarkNotSent(ctx context.Context, claim pushing.Claim, maybe bool) (err error) {
	c.Around("notsent", func() { err = c.Ledger.MarkNotSent(ctx, claim, maybe) })
	return err
}

func (c crashLedger) Park(ctx context.Context, claim pushing.Claim, after time.Duration, code string) (err error) {
	c.Around("park", func() { err = c.Ledger.Park(ctx, claim, after, code) })
	return err
}

func (c crashLedger) Receive(ctx context.Context, ask pushing.Ask, code string) (claim pushing.Claim, err error) {
	c.Around("receive", func() { claim, err = c.Ledger.Receive(ctx, ask, code) })
	return claim, err
}

func (c crashLedger) Decide(ctx context.Context, claim pushing.Claim, d pushing.Decision) (err error) {
	c.Around("decide", func() { err = c.Ledger.Decide(ctx, claim, d) })
	return err
}

func (c crashLedger) MarkEmitted(ctx context.Context, asks ...pushing.Ask) (err error) {
	c.Around("emitted", func() { err = c.Ledger.MarkEmitted(ctx, asks...) })
	return err
}
