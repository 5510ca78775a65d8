package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// shards is the number of hash tags that the records are spread over. It is part
// of the stored format.
const shards = 64

// Kinds of keys with a name of their own.
const (
	recordKind = "r"
	indexKind  = "q"
)

// place is where something is kept: a shard, and there a key of its own.
type place struct {
	shard      int
	kind, name string
}

// key is the one of its own.
func (p place) key() string { return fmt.Sprintf("ons-repush:{%02d}:%s:%s", p.shard, p.kind, p.name) }

// keys are what a script may touch, in the order that redis.lua says.
func (p place) keys() []string {
	keys := []string{p.key()}
	for _, shared := range []string{"open", "orders", "birth", "counts", "undecided"} {
		keys = append(keys, fmt.Sprintf("ons-repush:{%02d}:%s", p.shard, shared))
	}
	return keys
}

func placeOf(kind, text string) (place, [sha256.Size]byte) {
	sum := sha256.Sum256([]byte(text))
	return place{int(sum[16]) % shards, kind, base64.RawURLEncoding.EncodeToString(sum[:16])}, sum
}

// recordOf is the place of a message's record, and what the index of requests
// calls the message: a number, because Redis keeps one in the room of a pointer.
func recordOf(m pushing.Message) (p place, owner string) {
	p, sum := placeOf(recordKind, m.Key())
	return p, strconv.FormatUint(binary.BigEndian.Uint64(sum[17:])>>1, 10)
}

func indexOf(k pushing.RequestKey) place {
	p, _ := placeOf(indexKind, string(requestName(k)))
	return p
}

// arguments of a step, by the names that redis.lua knows.
type arguments map[string]any

// call is one step of the machine.
type call struct {
	place place
	args  []any
}

func (r *Redis) call(op string, p place, args arguments, body string) call {
	args["retention"] = millis(r.retention)
	encoded, _ := json.Marshal(args) // texts, numbers and truths always encode
	return call{p, []any{op, string(encoded), body}}
}

// everywhere is one step in every shard, answered in their order.
func (r *Redis) everywhere(ctx context.Context, op string, args arguments) ([]reply, error) {
	calls := make([]call, shards)
	for shard := range calls {
		calls[shard] = r.call(op, place{shard: shard}, args, "")
	}
	return r.together(ctx, calls...)
}

// together makes calls in one exchange. It answers every one, as far as it can
// beside an error, which is one of theirs.
func (r *Redis) together(ctx context.Context, calls ...call) (replies []reply, err error) {
	type answer struct {
		at    int
		value any
		err   error
	}
	if len(calls) == 0 {
		return nil, nil
	}
	answers := make(chan answer, len(calls))
	for i, c := range calls[1:] {
		r.scripts.EvalLater(machine, c.place.keys(), c.args, func(value any, err error) { answers <- answer{i + 1, value, err} })
	}
	value, failed := r.scripts.Eval(ctx, machine, calls[0].place.keys(), calls[0].args...)
	answers <- answer{0, value, failed}
	replies = make([]reply, len(calls))
	for range calls {
		select {
		case <-ctx.Done():
			return replies, fmt.Errorf("ledger: %w", ctx.Err())
		case a := <-answers:
			if a.err == nil {
				replies[a.at], a.err = parse(calls[a.at].place, a.value)
			}
			if err == nil {
				err = a.err
			}
		}
	}
	return replies, err
}

// reply is what a step answers. Times and durations are milliseconds.
type reply struct {
	place place
	// rest is what follows the JSON.
	rest []string

	Unreadable bool `json:"unreadable"`
	// Of transitions.
	Lost      bool   `json:"lost"`
	Forgotten bool   `json:"forgotten"`
	Halted    string `json:"halted"`
	Wait      int64  `json:"wait"`
	// Of questions.
	Found      pushing.Found `json:"found"`
	Fence      int64         `json:"fence"`
	ReceivedAt int64         `json:"receivedAt"`
	Age        int64         `json:"age"`
	Code       string        `json:"code"`
	Young      bool          `json:"young"`
	Cancelled  bool          `json:"cancelled"`
	Probe      int64         `json:"probe"`
	Pushes     int           `json:"pushes"`
	Attempts   int           `json:"attempts"`
	Maybe      bool          `json:"maybe"`
	First      events.First  `json:"first"`
	Born       bool          `json:"born"`
	Owner      string        `json:"owner"`
	// Of reports.
	Due   int      `json:"due"`
	Open  int      `json:"open"`
	Codes []string `json:"codes"`
}

// texts is nil for anything but a list of texts.
func texts(value any) (all []string) {
	list, _ := value.([]any)
	for _, item := range list {
		text, isText := item.(string)
		if !isText {
			return nil
		}
		all = append(all, text)
	}
	return all
}

func parse(p place, value any) (reply, error) {
	r := reply{place: p, rest: texts(value)}
	if len(r.rest) == 0 {
		return r, r.unexpected()
	}
	decoder := json.NewDecoder(bytes.NewReader([]byte(r.rest[0])))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return r, r.unexpected()
	}
	if r.rest = r.rest[1:]; r.Unreadable {
		return r, r.unreadable()
	}
	return r, nil
}

func (r reply) unexpected() error { return unexpected(r.place.key()) }

// unexpected never quotes: what answered may be anything.
func unexpected(key string) error {
	return fmt.Errorf("ledger: an answer about %s is not one of the ledger's: look for what else answers at this URL", key)
}

func (r reply) unreadable() error {
	return fmt.Errorf("ledger: what is stored at %s cannot be read: restore that key, or delete it, which forgets what was pushed of its message", r.place.key())
}

// claim is the answer to ask.
func (r reply) claim(ask pushing.Ask) (pushing.Claim, error) {
	ask.Token = ""
	c := pushing.Claim{
		Ask: ask, Found: r.Found, Fence: r.Fence, ReceivedAt: instant(r.ReceivedAt), Age: duration(r.Age), Young: r.Young, Cancelled: r.Cancelled, Probe: duration(r.Probe),
		Wait: duration(r.Wait), Code: r.Code, Pushes: r.Pushes, Attempts: r.Attempts, MaybeDuplicate: r.Maybe, First: r.First,
	}
	if len(r.rest) != 2 {
		return c, r.unexpected()
	}
	if r.rest[0] != "" { // another request, or this one in other words
		c.Ask = pushing.Ask{Lease: ask.Lease}
		if json.Unmarshal([]byte(r.rest[0]), &c.Ask) != nil {
			return c, r.unreadable()
		}
	}
	if r.rest[1] != "" && json.Unmarshal([]byte(r.rest[1]), &c.Event) != nil {
		return c, r.unreadable()
	}
	return c, nil
}

// work reads one item of a backlog.
func (r reply) work(text string) (pushing.Work, error) {
	w := pushing.Work{Decided: text != "" && text[0] == '+'}
	if text == "" || json.Unmarshal([]byte(text[1:]), &w.Ask) != nil {
		return w, r.unreadable()
	}
	return w, nil
}

// count adds a shard's counts.
func (r reply) count(p *pushing.Progress) error {
	var n map[string]int64
	if len(r.rest) != 1 || json.Unmarshal([]byte(r.rest[0]), &n) != nil {
		return r.unexpected()
	}
	for _, s := range []state{waiting, claimed, sending, decided, emitted} {
		if n[string(s)] > 0 {
			p.States[string(s)] += int(n[string(s)])
		}
	}
	for _, o := range events.Outcomes() {
		if n[string(o)] > 0 {
			p.Outcomes[o] += int(n[string(o)])
		}
	}
	if first := n["first"]; first > 0 && (p.First.IsZero() || instant(first).Before(p.First)) {
		p.First = instant(first)
	}
	if last := n["last"]; last > 0 && instant(last).After(p.Last) {
		p.Last = instant(last)
	}
	p.OldestMs, p.Orders = max(p.OldestMs, r.Age), r.Codes
	return nil
}

func (r reply) history() (pushing.History, error) {
	h := pushing.History{Pushes: r.Pushes, Orders: r.Codes}
	for _, text := range r.rest {
		var q struct {
			Source, ID, State, Code string
			Generation, Attempts    int
			ReceivedAt, Due         int64
			First                   events.First
		}
		if err := json.Unmarshal([]byte(text), &q); err != nil {
			return h, r.unreadable()
		}
		h.Requests = append(h.Requests, pushing.Past{
			Source: q.Source, EventID: q.ID, Generation: q.Generation, State: q.State, Code: q.Code, Attempts: q.Attempts,
			ReceivedAt: instant(q.ReceivedAt), DueInMs: q.Due, Outcome: q.First.Outcome, DecidedAt: q.First.DecidedAt, Late: q.First.Late,
		})
	}
	return h, nil
}

// millis rounds up: what is asked for is never shorter.
func millis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

func duration(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

func instant(ms int64) time.Time { return time.UnixMilli(ms).UTC() }
