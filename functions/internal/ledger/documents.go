package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/ons-repush/ons-repush/functions/internal/planning"
)

// Documents returns the documents beside this ledger.
func (m Memory) Documents() planning.Documents { return m.documents }

// Documents returns the documents in this file. After [File.Close] every call is
// an error.
func (f *File) Documents() planning.Documents {
	do := func(change bool, step func(entries, bodies bucket) error) error {
		return f.transact(change, func(tx *bolt.Tx) error {
			return step(tx.Bucket(documentsBucket), tx.Bucket(bodiesBucket))
		})
	}
	return documents{now: f.now, durable: true, do: do}
}

// documents are those within reach of this process alone: in one bucket an
// entry of each, in another its body. The sequence of the first is the version
// given last, to whatever document. Safe for concurrent use.
type documents struct {
	now     func() time.Time
	durable bool
	// do makes steps as shelves does.
	do func(change bool, step func(entries, bodies bucket) error) error
}

// bucket is what documents need of a [bolt.Bucket].
type bucket interface {
	Get(key []byte) []byte
	Put(key, value []byte) error
	Delete(key []byte) error
	ForEach(visit func(key, value []byte) error) error
	Sequence() uint64
	SetSequence(n uint64) error
}

// entry is what there is to know of a document. Times are microseconds since
// 1970. None has version 0.
type entry struct{ Version, Ends, Due int64 }

// never is due at no time.
const never = math.MaxInt64

func entryOf(key, raw []byte) (e entry, err error) {
	if raw == nil {
		return entry{}, nil
	}
	if _, err := binary.Decode(raw, binary.BigEndian, &e); err != nil {
		return entry{}, fmt.Errorf("the document %q cannot be read (%w): restore the file from a copy", key, err)
	}
	return e, nil
}

// Load implements [planning.Documents].
func (d documents) Load(_ context.Context, key string) (doc []byte, version int64, err error) {
	name := []byte(key)
	err = d.do(false, func(entries, bodies bucket) error {
		e, err := entryOf(name, entries.Get(name))
		if e.Ends > d.now().UnixMicro() {
			doc, version = append([]byte{}, bodies.Get(name)...), e.Version
		}
		return err
	})
	return doc, version, err
}

// Save implements [planning.Documents]. Microseconds, because no store saves
// faster: versions do not run ahead of the clock.
func (d documents) Save(_ context.Context, key string, version int64, doc []byte, keep, due time.Duration) (saved int64, err error) {
	name := []byte(key)
	err = d.do(true, func(entries, bodies bucket) error {
		now := d.now().UnixMicro()
		if err := forget(entries, bodies, now); err != nil {
			return err
		}
		old, err := entryOf(name, entries.Get(name))
		switch {
		case err != nil:
			return err
		case old.Version != version:
			return planning.ErrConflict
		case doc == nil:
			return errors.Join(entries.Delete(name), bodies.Delete(name))
		}
		next := entry{Version: max(int64(entries.Sequence())+1, now), Ends: now + keep.Microseconds(), Due: never}
		if due >= 0 {
			next.Due = now + due.Microseconds()
		}
		raw, err := binary.Append(nil, binary.BigEndian, next)
		saved = next.Version
		return errors.Join(err, entries.SetSequence(uint64(saved)), entries.Put(name, raw), bodies.Put(name, bytes.Clone(doc)))
	})
	return saved, err
}

// forget drops what has ended. What cannot be read stays, and so does what it
// says to whoever asks for it.
func forget(entries, bodies bucket, now int64) error {
	var ended [][]byte
	err := entries.ForEach(func(name, raw []byte) error {
		if e, err := entryOf(name, raw); err == nil && e.Ends <= now {
			ended = append(ended, bytes.Clone(name))
		}
		return nil
	})
	for _, name := range ended {
		err = errors.Join(err, entries.Delete(name), bodies.Delete(name))
	}
	return err
}

// Due implements [planning.Documents]. The error is of the documents that cannot
// be read.
func (d documents) Due(_ context.Context, limit int) (keys []string, open int, err error) {
	due := make(map[string]int64)
	err = d.do(false, func(entries, _ bucket) error {
		var unreadable error
		now := d.now().UnixMicro()
		failed := entries.ForEach(func(name, raw []byte) error {
			e, err := entryOf(name, raw)
			unreadable = cmp.Or(unreadable, err)
			if e.Ends <= now || e.Due == never {
				return nil
			}
			if open++; e.Due <= now {
				due[string(name)] = e.Due
			}
			return nil
		})
		return cmp.Or(failed, unreadable)
	})
	keys = slices.SortedFunc(maps.Keys(due), func(a, b string) int { return cmp.Or(cmp.Compare(due[a], due[b]), cmp.Compare(a, b)) })
	return keys[:min(len(keys), max(limit, 0))], open, err
}

// Durable implements [planning.Documents].
func (d documents) Durable() bool { return d.durable }

// table is a bucket in memory.
type table struct {
	rows     map[string][]byte
	sequence uint64
}

func newTable() *table { return &table{rows: make(map[string][]byte)} }

func (t *table) Get(key []byte) []byte       { return t.rows[string(key)] }
func (t *table) Put(key, value []byte) error { t.rows[string(key)] = value; return nil }
func (t *table) Delete(key []byte) error     { delete(t.rows, string(key)); return nil }
func (t *table) Sequence() uint64            { return t.sequence }
func (t *table) SetSequence(n uint64) error  { t.sequence = n; return nil }

func (t *table) ForEach(visit func(key, value []byte) error) (err error) {
	for key, value := range t.rows {
		err = cmp.Or(err, visit([]byte(key), value))
	}
	return err
}

func newMemoryDocuments(now func() time.Time) documents {
	var mu sync.Mutex
	entries, bodies := newTable(), newTable()
	do := func(_ bool, step func(entries, bodies bucket) error) error {
		mu.Lock()
		defer mu.Unlock()
		return step(entries, bodies)
	}
	return documents{now: now, do: do}
}
