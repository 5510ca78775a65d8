package quota

import (
	"context"
	_ "embed" // law.lua
	"fmt"
	"strconv"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

//go:embed law.lua
var lawScript string

// Scripts runs scripts on Redis 6.2 or later. Safe for concurrent use.
type Scripts interface {
	// Eval runs one script atomically and returns its answer.
	Eval(ctx context.Context, script string, keys []string, args ...any) (any, error)
	// EvalLater is Eval for what nobody waits for: it runs soon, and before any
	// later Eval. done is called once, from another goroutine.
	EvalLater(script string, keys []string, args []any, done func(any, error))
}

// Redis is a [Store] for many processes: what one learns, all know. law.lua runs
// on the server's clock; when that steps back, slots keep their distance. What a
// dead process had booked is lost, half a second at most. A state that nobody
// used for an hour is gone, and the law starts afresh.
type Redis struct {
	scripts Scripts
	keys    []string
	law     law // for its constants
}

// NewRedis makes the store of the quota that key names: account, region and
// API. Who gives the same key shares the quota. The spacing is learned in shares
// of 1/qps: where processes differ in qps, each call takes the room that its own
// caller's says. Rates are bounded as those of [NewMemory].
func NewRedis(scripts Scripts, key string, qps float64) *Redis {
	return &Redis{scripts: scripts, keys: []string{"ons-repush:{quota:" + key + "}"}, law: newLaw(qps)}
}

// Book implements [Store] in one call of the server. A slot that was booked
// when ctx ended before the answer came is lost.
func (r *Redis) Book(ctx context.Context, lane events.Priority, within time.Duration) (Booking, Outlook, error) {
	n, err := r.eval(ctx, 4, "book", micros(min(within, Horizon)), string(priorities[laneOf(lane)]))
	if err != nil {
		return Booking{}, Outlook{}, err
	}
	return Booking{Seq: int64(n[3]), Wait: duration(n[4]), At: duration(n[5]), Probe: n[6] > 0}, outlook(n), nil
}

// Report implements [Store]. It travels with the next call, if one comes soon.
func (r *Redis) Report(b Booking, v pushing.Verdict, learn func(Outlook)) {
	r.scripts.EvalLater(lawScript, r.keys, r.args("report", b.Seq, micros(b.At), b.Probe, int(v)), func(reply any, err error) {
		if n, err := numbers(reply, err, 0); err == nil && learn != nil {
			learn(outlook(n))
		}
	})
}

// Shares implements [Store].
func (r *Redis) Shares(ctx context.Context) (Shares, error) {
	n, err := r.eval(ctx, 2*len(priorities), "shares")
	if err != nil {
		return Shares{}, err
	}
	var last, this counts
	for i := range priorities {
		last[i], this[i] = int64(n[3+i]), int64(n[3+len(priorities)+i])
	}
	return newShares(outlook(n), last, this), nil
}

func (r *Redis) args(op string, details ...any) []any {
	return append([]any{op, micros(r.law.interval), r.law.reach}, details...)
}

func (r *Redis) eval(ctx context.Context, details int, op string, args ...any) ([]float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	reply, err := r.scripts.Eval(ctx, lawScript, r.keys, r.args(op, args...)...)
	return numbers(reply, err, details)
}

// numbers reads an answer of the script: an outlook and so many details.
func numbers(reply any, err error, details int) ([]float64, error) {
	if err != nil {
		return nil, err
	}
	texts, _ := reply.([]any)
	n := make([]float64, len(texts))
	for i, t := range texts {
		s, _ := t.(string)
		if n[i], err = strconv.ParseFloat(s, 64); err != nil {
			break
		}
	}
	if err != nil || len(n) != 3+details {
		return nil, fmt.Errorf("the quota's script answered %v instead of %d numbers: look for what else writes to its keys", reply, 3+details)
	}
	return n, nil
}

func outlook(n []float64) Outlook {
	return Outlook{Next: duration(n[0]), Spacing: duration(n[1]), Closed: n[2] > 0}
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func duration(micros float64) time.Duration { return time.Duration(micros * float64(time.Microsecond)) }
