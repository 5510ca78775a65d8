package ledger

import (
	"cmp"
	"context"
	_ "embed" // redis.lua
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

//go:embed redis.lua
var machine string

// Scripts runs scripts on Redis 6.2 or later, each atomically. Safe for
// concurrent use.
type Scripts interface {
	// Eval runs one script, whose keys are in one hash slot, and returns its
	// answer.
	Eval(ctx context.Context, script string, keys []string, args ...any) (any, error)
	// EvalLater is Eval for what travels with the next Eval, and before it.
	// done is called once, from another goroutine.
	EvalLater(script string, keys []string, args []any, done func(any, error))
}

// Redis is a ledger that all instances share. Every transition is one script
// and one round trip; a claim's look at the index of requests travels with it.
//
// The clock is that of the server. A record is one key in one of 64 shards, and
// each shard has an index of its open work, the orders, its counts and its birth
// mark in the same hash slot. What is emitted is forgotten after retention; what
// is not stays. A million emitted records take 650 MB; one that is being pushed
// takes up to 2 kB, and 3.5 kB while its event has not left (TestRedisMemory, on
// redis-server 7.0 with requests as large as they come).
//
// A server can forget: a flush, a restart, a failover to an older copy. A ledger
// is born when it is first used under the run id that its server has now, and a
// request that is new to its record is Young when it was made up to 60 s after
// that (by its event's own time; without one, in the first 24 h): a push of it
// may have been forgotten. So the first minute of a new ledger marks everything:
// a flush half a minute after a push must not double it silently. Where INFO is
// denied, only a flush is noticed.
//
// Counts of an operation are kept while something of it is undecided or not
// emitted, and for retention after that; those of everything do not go down when
// records are forgotten.
//
// Safe for concurrent use.
type Redis struct {
	scripts   Scripts
	retention time.Duration
}

var _ pushing.Ledger = (*Redis)(nil)

// NewRedis returns the ledger behind scripts, without I/O. retention must outlive
// the message (REPUSH_MAX_AGE and a margin), and is at least 1 ms.
func NewRedis(scripts Scripts, retention time.Duration) *Redis {
	return &Redis{scripts: scripts, retention: max(retention, time.Millisecond)}
}

// Durable implements [pushing.Ledger].
func (*Redis) Durable() bool { return true }

// Claim implements [pushing.Ledger].
func (r *Redis) Claim(ctx context.Context, ask pushing.Ask) (pushing.Claim, error) {
	return r.ask(ctx, "claim", ask, "")
}

// Receive implements [pushing.Ledger].
func (r *Redis) Receive(ctx context.Context, ask pushing.Ask, code string) (pushing.Claim, error) {
	return r.ask(ctx, "receive", ask, code)
}

// Read implements [pushing.Ledger].
func (r *Redis) Read(ctx context.Context, ask pushing.Ask) (pushing.Claim, error) {
	return r.ask(ctx, "read", ask, "")
}

// ask puts a question to the record and, in the same exchange, to the index of
// requests. What a contradiction did to the record is undone; if that fails, the
// next claim, at the latest the sweep's, meets the same contradiction.
func (r *Redis) ask(ctx context.Context, op string, ask pushing.Ask, code string) (pushing.Claim, error) {
	request, err := json.Marshal(ask)
	if err != nil {
		return pushing.Claim{}, fmt.Errorf("ledger: encode a request: %w", err)
	}
	eventTime := int64(0)
	if !ask.Time.IsZero() {
		eventTime = ask.Time.UnixMilli()
	}
	record, owner := recordOf(ask.Message())
	replies, err := r.together(ctx,
		r.call(op, record, arguments{
			"source": ask.Request.Source, "id": ask.Request.ID, "token": ask.Token, "lease": millis(ask.Lease), "code": code, "time": eventTime,
			"generation": ask.Generation(), "operation": ask.Data.OperationID, "scopes": ask.Scopes(),
		}, string(request)),
		r.call("own", indexOf(ask.Request), arguments{"owner": owner, "reading": op == "read"}, ""))
	if err != nil {
		return pushing.Claim{}, err
	}
	found, index := replies[0], replies[1]
	switch {
	case index.Owner != owner:
		c := pushing.Claim{Ask: ask, Found: pushing.Contradicting, ReceivedAt: instant(index.ReceivedAt)}
		if op != "read" {
			err = r.change(ctx, "drop", pushing.Claim{Ask: ask, Fence: found.Fence}, arguments{}, "")
		}
		return c, err
	case found.Born: // so that the other shards do not take themselves for younger
		if _, err := r.everywhere(ctx, "birth", arguments{}); err != nil {
			return pushing.Claim{}, err
		}
	}
	return found.claim(ask)
}

// MarkSending implements [pushing.Ledger].
func (r *Redis) MarkSending(ctx context.Context, c pushing.Claim) error {
	return r.change(ctx, "sending", c, arguments{"lease": millis(c.Lease), "scopes": c.Scopes()}, "")
}

// MarkNotSent implements [pushing.Ledger].
func (r *Redis) MarkNotSent(ctx context.Context, c pushing.Claim, maybe bool) error {
	return r.change(ctx, "notsent", c, arguments{"lease": millis(c.Lease), "maybe": maybe}, "")
}

// Park implements [pushing.Ledger].
func (r *Redis) Park(ctx context.Context, c pushing.Claim, after time.Duration, code string) error {
	return r.change(ctx, "park", c, arguments{"after": millis(after), "code": code}, "")
}

// Decide implements [pushing.Ledger].
func (r *Redis) Decide(ctx context.Context, c pushing.Claim, d pushing.Decision) error {
	event, err := json.Marshal(d.Event)
	if err != nil {
		return fmt.Errorf("ledger: encode a result: %w", err)
	}
	return r.change(ctx, "decide", c, arguments{"outcome": d.Outcome, "at": d.At.Format(time.RFC3339Nano)}, string(event))
}

// change is one transition of a claim.
func (r *Redis) change(ctx context.Context, op string, c pushing.Claim, args arguments, event string) error {
	record, _ := recordOf(c.Message())
	args["source"], args["id"], args["fence"], args["pushes"] = c.Request.Source, c.Request.ID, c.Fence, c.Pushes
	args["attempts"] = c.Attempts
	replies, err := r.together(ctx, r.call(op, record, args, event))
	switch {
	case err != nil:
		return err
	case replies[0].Lost:
		return pushing.ErrLost
	case replies[0].Forgotten:
		return pushing.ErrForgotten
	case replies[0].Halted != "":
		return &pushing.Halted{Code: replies[0].Halted, Wait: duration(replies[0].Wait)}
	}
	return nil
}

// MarkEmitted implements [pushing.Ledger].
func (r *Redis) MarkEmitted(ctx context.Context, asks ...pushing.Ask) error {
	var calls []call
	for _, ask := range asks {
		record, _ := recordOf(ask.Message())
		calls = append(calls, r.call("emitted", record, arguments{"source": ask.Request.Source, "id": ask.Request.ID}, ""))
	}
	_, err := r.together(ctx, calls...)
	return err
}

// Due implements [pushing.Backlog], in one exchange to count and two to fetch. It
// begins at a random shard, so that sweeps begin at different ends. A record that
// cannot be read is an error beside the work that can.
func (r *Redis) Due(ctx context.Context, limit int) (due []pushing.Work, left pushing.Backlogged, err error) {
	counts, err := r.everywhere(ctx, "due", arguments{"limit": 0})
	if err != nil {
		return nil, left, err
	}
	var fetch, load []call
	for first, i := rand.IntN(shards), 0; i < shards; i++ {
		shard := (first + i) % shards
		left.Due, left.Open = left.Due+counts[shard].Due, left.Open+counts[shard].Open
		if take := min(limit, counts[shard].Due); take > 0 {
			limit -= take
			fetch = append(fetch, r.call("due", place{shard: shard}, arguments{"limit": take}, ""))
		}
	}
	pages, err := r.together(ctx, fetch...)
	if err != nil {
		return nil, left, err
	}
	for _, page := range pages {
		for _, name := range page.rest {
			load = append(load, r.call("work", place{page.place.shard, recordKind, name}, arguments{}, ""))
		}
	}
	records, err := r.together(ctx, load...)
	for _, record := range records {
		for _, text := range record.rest {
			item, failed := record.work(text)
			if err = cmp.Or(err, failed); failed == nil {
				due = append(due, item)
			}
		}
	}
	return due, left, err
}

// Order implements [pushing.Orders]. Every shard keeps all orders. After an error
// some may not have it: give it again.
func (r *Redis) Order(ctx context.Context, scope pushing.Scope, o pushing.Order) error {
	_, err := r.everywhere(ctx, "order", arguments{"scope": scope, "code": o.Code, "lasts": millis(o.For)})
	return err
}

// Progress implements [pushing.Orders].
func (r *Redis) Progress(ctx context.Context, operationID string) (pushing.Progress, error) {
	p := newProgress()
	scopes := []pushing.Scope{pushing.Everything, pushing.OfOperation(operationID)}
	replies, err := r.everywhere(ctx, "progress", arguments{"operation": operationID, "scopes": scopes})
	if err != nil {
		return p, err
	}
	for _, reply := range replies {
		if err := reply.count(&p); err != nil {
			return p, err
		}
	}
	return p, nil
}

// History implements [pushing.Orders].
func (r *Redis) History(ctx context.Context, m pushing.Message) (pushing.History, error) {
	record, _ := recordOf(m)
	scopes := []pushing.Scope{pushing.Everything, pushing.OfMessage(m), pushing.OfGroup(m)}
	replies, err := r.together(ctx, r.call("history", record, arguments{"scopes": scopes}, ""))
	if err != nil {
		return pushing.History{}, err
	}
	return replies[0].history()
}
