package ledger

import (
	"context"
	_ "embed" // documents.lua
	"strconv"
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/planning"
)

//go:embed documents.lua
var documentsMachine string

// Documents returns the documents beside this ledger, which all instances share.
// The clock is that of the server. All are in one hash slot, each in a key of its
// own, ons-repush:{plan}:document:KEY. A call is one script and one round trip.
func (r *Redis) Documents() planning.Documents { return redisDocuments{r.scripts} }

type redisDocuments struct{ scripts Scripts }

func documentKey(key string) string { return "ons-repush:{plan}:document:" + key }

// Load implements [planning.Documents].
func (r redisDocuments) Load(ctx context.Context, key string) (doc []byte, version int64, err error) {
	version, rest, err := r.call(ctx, "load", key)
	switch {
	case err != nil || version == 0:
		return nil, 0, err
	case len(rest) != 1:
		return nil, 0, unexpected(documentKey(key))
	}
	return []byte(rest[0]), version, nil
}

// Save implements [planning.Documents].
func (r redisDocuments) Save(ctx context.Context, key string, version int64, doc []byte, keep, due time.Duration) (int64, error) {
	step, when := "save", ""
	if doc == nil {
		step = "delete"
	}
	if due >= 0 {
		when = strconv.FormatInt(due.Microseconds(), 10)
	}
	saved, _, err := r.call(ctx, step, key, version, keep.Microseconds(), when, doc)
	if saved < 0 {
		return 0, planning.ErrConflict
	}
	return saved, err
}

// Due implements [planning.Documents].
func (r redisDocuments) Due(ctx context.Context, limit int) (keys []string, open int, err error) {
	n, keys, err := r.call(ctx, "due", "", max(limit, 0))
	return keys, int(n), err
}

// Durable implements [planning.Documents].
func (redisDocuments) Durable() bool { return true }

// call is one step of documents.lua, which says what goes there and comes back.
func (r redisDocuments) call(ctx context.Context, step, key string, args ...any) (n int64, rest []string, err error) {
	keys := []string{"ons-repush:{plan}:due", "ons-repush:{plan}:ends", "ons-repush:{plan}:version", documentKey(key)}
	value, err := r.scripts.Eval(ctx, documentsMachine, keys, append([]any{step, key}, args...)...)
	if err != nil {
		return 0, nil, err
	}
	answer := texts(value)
	if len(answer) > 0 {
		n, err = strconv.ParseInt(answer[0], 10, 64)
	}
	if len(answer) == 0 || err != nil {
		return 0, nil, unexpected(documentKey(key))
	}
	return n, answer[1:], nil
}
