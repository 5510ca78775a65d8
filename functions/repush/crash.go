//go:build crash

package main

import (
	"context"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// instrument kills the process (SIGKILL) when it passes the point that CRASH_AT
// names, as "before claim" or "after claim:3" for the third time. Points stand
// before and after every call that the domain makes. No deployed build has this
// file.
func instrument(p ports) ports {
	point, times, _ := strings.Cut(os.Getenv("CRASH_AT"), ":")
	b := &bomb{point: point}
	n, _ := strconv.Atoi(times) // none: the first time
	b.left.Store(int64(max(1, n)))
	return ports{
		Pusher: crashPusher{p.Pusher, b}, Connections: crashConnections{p.Connections, b}, Pacer: crashPacer{p.Pacer, b},
		Ledger: crashLedger{p.Ledger, b}, Emitter: crashEmitter{p.Emitter, b},
	}
}

type bomb struct {
	point string
	left  atomic.Int64
}

// around passes the points before and after a call.
func (b *bomb) around(call string, do func()) {
	b.pass("before " + call)
	do()
	b.pass("after " + call)
}

func (b *bomb) pass(point string) {
	if point == b.point && b.left.Add(-1) == 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

type crashPusher struct {
	pushing.Pusher
	*bomb
}

func (c crashPusher) Push(ctx context.Context, t pushing.Target) (id string, err error) {
	c.around("push", func() { id, err = c.Pusher.Push(ctx, t) })
	return id, err
}

type crashConnections struct {
	pushing.Connections
	*bomb
}

func (c crashConnections) Online(ctx context.Context, instance, group string) (ids []string, err error) {
	c.around("online", func() { ids, err = c.Connections.Online(ctx, instance, group) })
	return ids, err
}

type crashPacer struct {
	pushing.Pacer
	*bomb
}

func (c crashPacer) Turn(ctx context.Context, lane events.Priority) (t pushing.Turn, err error) {
	c.around("turn", func() { t, err = c.Pacer.Turn(ctx, lane) })
	if err == nil {
		t = crashTurn{t, c.bomb}
	}
	return t, err
}

type crashTurn struct {
	pushing.Turn
	*bomb
}

func (c crashTurn) Book(ctx context.Context) (s pushing.Slot, err error) {
	c.around("book", func() { s, err = c.Turn.Book(ctx) })
	return s, err
}

type crashEmitter struct {
	pushing.Emitter
	*bomb
}

func (c crashEmitter) Send(ctx context.Context, batch ...events.Event) (err error) {
	c.around("emit", func() { err = c.Emitter.Send(ctx, batch...) })
	return err
}

type crashLedger struct {
	pushing.Ledger
	*bomb
}

func (c crashLedger) Claim(ctx context.Context, ask pushing.Ask) (claim pushing.Claim, err error) {
	c.around("claim", func() { claim, err = c.Ledger.Claim(ctx, ask) })
	return claim, err
}

func (c crashLedger) MarkSending(ctx context.Context, claim pushing.Claim) (err error) {
	c.around("sending", func() { err = c.Ledger.MarkSending(ctx, claim) })
	return err
}

func (c crashLedger) MarkNotSent(ctx context.Context, claim pushing.Claim, maybe bool) (err error) {
	c.around("notsent", func() { err = c.Ledger.MarkNotSent(ctx, claim, maybe) })
	return err
}

func (c crashLedger) Park(ctx context.Context, claim pushing.Claim, after time.Duration, code string) (err error) {
	c.around("park", func() { err = c.Ledger.Park(ctx, claim, after, code) })
	return err
}

func (c crashLedger) Receive(ctx context.Context, ask pushing.Ask, code string) (claim pushing.Claim, err error) {
	c.around("receive", func() { claim, err = c.Ledger.Receive(ctx, ask, code) })
	return claim, err
}

func (c crashLedger) Decide(ctx context.Context, claim pushing.Claim, d pushing.Decision) (err error) {
	c.around("decide", func() { err = c.Ledger.Decide(ctx, claim, d) })
	return err
}

func (c crashLedger) MarkEmitted(ctx context.Context, asks ...pushing.Ask) (err error) {
	c.around("emitted", func() { err = c.Ledger.MarkEmitted(ctx, asks...) })
	return err
}
