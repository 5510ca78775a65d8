package ledger

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// File is a ledger in one file of one machine, for one process at a time. What
// it has answered is on the disk: it survives SIGKILL, and a write that was cut
// (bbolt keeps the last whole state; source: bbolt README, "Caveats &
// Limitations"). Safe for concurrent use.
type File struct {
	*local
	fileShelves
}

var _ pushing.Ledger = (*File)(nil)

var errDamaged = errors.New("the ledger file is no ledger, or damaged: restore it from a copy, or move it away and begin anew, which forgets what was pushed")

// damaged makes an error of a panic, which is how bbolt says that a page is
// damaged, and the kernel that one is missing. It restores how faults end.
func damaged(err *error, faults bool) {
	debug.SetPanicOnFault(faults)
	if p := recover(); p != nil {
		*err = errDamaged
	}
}

// lockWait is how long another process is given to end: a container that is
// being replaced by the next.
const lockWait = 3 * time.Second

// OpenFile opens the ledger at path, or makes it, readable by its owner alone.
// retention and now are those of [NewMemory]. It fails when another process has
// it open, when the file is no ledger, and when the disk refuses.
func OpenFile(path string, retention time.Duration, now func() time.Time) (_ *File, err error) {
	defer damaged(&err, debug.SetPanicOnFault(true))
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait, FreelistType: bolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("the ledger file is in use by another process: end it, or use another file (a file serves one process at a time; several need redis://)")
	case errors.As(err, new(*os.PathError)), errors.As(err, new(syscall.Errno)):
		return nil, fmt.Errorf("open the ledger file: %w", plain(err))
	case err != nil:
		return nil, errDamaged
	}
	err = db.Update(func(tx *bolt.Tx) error {
		if info, err := os.Stat(path); err != nil || info.Size() < tx.Size() {
			return cmp.Or(err, errDamaged) // it was cut, which bbolt would notice too late
		}
		for _, name := range buckets {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open the ledger file: %w", plain(err)), db.Close())
	}
	s := fileShelves{db}
	return &File{newLocal(retention, now, s), s}, nil
}

// plain drops the path, which is a setting that is shown as set or unset.
func plain(err error) error {
	if path, is := errors.AsType[*os.PathError](err); is {
		return path.Err
	}
	return err
}

// Durable implements [pushing.Ledger].
func (*File) Durable() bool { return true }

// Check reports whether the ledger can be used.
func (f *File) Check(context.Context) error { return f.db.View(func(*bolt.Tx) error { return nil }) }

// Close gives the file free for other processes. It waits for steps under way.
func (f *File) Close() error { return f.db.Close() }

// Buckets. Keys of messages and requests hold no byte 0.
var (
	recordsBucket = []byte("records") // message → record
	ownersBucket  = []byte("owners")  // request → message
	openBucket    = []byte("open")    // time due, message → nothing
	doneBucket    = []byte("done")    // time touched, message → nothing
	ordersBucket  = []byte("orders")  // ordersKey → orders
	ordersKey     = []byte("all")
	// Of documents; their keys are any texts.
	documentsBucket = []byte("documents") // key → entry
	bodiesBucket    = []byte("bodies")    // key → body

	buckets = [][]byte{recordsBucket, ownersBucket, openBucket, doneBucket, ordersBucket, documentsBucket, bodiesBucket}
)

type fileShelves struct{ db *bolt.DB }

func (s fileShelves) do(change bool, step func(shelf) error) error {
	return s.transact(change, func(tx *bolt.Tx) error { return step(fileShelf{tx}) })
}

// transact keeps what run changed whole when it returns nil, and not at all
// otherwise.
func (s fileShelves) transact(change bool, run func(*bolt.Tx) error) (err error) {
	defer damaged(&err, debug.SetPanicOnFault(true))
	if change {
		err = s.db.Update(run)
	} else {
		err = s.db.View(run)
	}
	if err != nil {
		return fmt.Errorf("ledger file: %w", plain(err))
	}
	return nil
}

type fileShelf struct{ tx *bolt.Tx }

// filed is a record as it is kept: with its place in the indexes.
type filed struct {
	*record
	Open bool      `json:",omitempty"`
	At   time.Time `json:",omitzero"`
}

func (f filed) place(m []byte) (bucket, key []byte) {
	key = binary.BigEndian.AppendUint64(nil, uint64(f.At.UnixNano()))
	if bucket = doneBucket; f.Open {
		bucket = openBucket
	}
	return bucket, append(key, m...)
}

func (s fileShelf) load(m []byte) (f filed, err error) {
	raw := s.tx.Bucket(recordsBucket).Get(m)
	if raw == nil {
		return filed{}, nil
	}
	f.record = new(record)
	if err := json.Unmarshal(raw, &f); err != nil {
		return filed{}, fmt.Errorf("the record of %s cannot be read (%w): restore the file from a copy", m, err)
	}
	return f, nil
}

func (s fileShelf) record(m pushing.Message) (*record, error) {
	f, err := s.load([]byte(m.Key()))
	return f.record, err
}

func (s fileShelf) save(m pushing.Message, r *record) error {
	name := []byte(m.Key())
	old, err := s.load(name)
	if err != nil {
		return err
	}
	next := filed{record: r, Open: true, At: r.due()}
	if next.At.IsZero() {
		next.Open, next.At = false, r.Touched
	}
	raw, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if old.record != nil {
		err = s.unplace(old, name)
	}
	bucket, key := next.place(name)
	return errors.Join(err, s.tx.Bucket(bucket).Put(key, nil), s.tx.Bucket(recordsBucket).Put(name, raw))
}

func (s fileShelf) unplace(f filed, m []byte) error {
	bucket, key := f.place(m)
	return s.tx.Bucket(bucket).Delete(key)
}

func requestName(k pushing.RequestKey) []byte { return []byte(k.Source + "\x00" + k.ID) }

func (s fileShelf) owner(k pushing.RequestKey) (pushing.Message, bool) {
	raw := s.tx.Bucket(ownersBucket).Get(requestName(k))
	if raw == nil {
		return pushing.Message{}, false
	}
	part := strings.SplitN(string(raw), "/", 4)
	return pushing.Message{InstanceID: part[0], GroupID: part[1], Topic: part[2], MsgID: part[3]}, true
}

func (s fileShelf) own(k pushing.RequestKey, m pushing.Message) error {
	return s.tx.Bucket(ownersBucket).Put(requestName(k), []byte(m.Key()))
}

func (s fileShelf) each(by time.Time, visit func(*record) bool) error {
	var unreadable error
	look := func(m []byte) bool {
		f, err := s.load(m)
		if err != nil {
			unreadable = err
			return true
		}
		return visit(f.record)
	}
	if !by.IsZero() {
		s.upTo(openBucket, by, look)
		return unreadable
	}
	cursor := s.tx.Bucket(recordsBucket).Cursor()
	for m, _ := cursor.First(); m != nil && look(m); m, _ = cursor.Next() {
	}
	return unreadable
}

// upTo visits the messages of an index in the order of their times.
func (s fileShelf) upTo(bucket []byte, by time.Time, visit func(m []byte) (goOn bool)) {
	end := binary.BigEndian.AppendUint64(nil, uint64(by.UnixNano())+1)
	cursor := s.tx.Bucket(bucket).Cursor()
	for key, _ := cursor.First(); key != nil && bytes.Compare(key, end) < 0 && visit(key[8:]); key, _ = cursor.Next() {
	}
}

func (s fileShelf) open(by time.Time) (n int) {
	if by.IsZero() {
		return s.tx.Bucket(openBucket).Stats().KeyN
	}
	s.upTo(openBucket, by, func([]byte) bool { n++; return true })
	return n
}

func (s fileShelf) forget(since time.Time) error {
	var old [][]byte
	s.upTo(doneBucket, since, func(m []byte) bool {
		old = append(old, bytes.Clone(m))
		return len(old) < 2
	})
	var err error
	for _, m := range old {
		f, failed := s.load(m)
		if failed != nil {
			continue // it stays, and so does what it says to whoever asks for it
		}
		for _, q := range f.Requests {
			err = errors.Join(err, s.tx.Bucket(ownersBucket).Delete(requestName(q.Key)))
		}
		err = errors.Join(err, s.unplace(f, m), s.tx.Bucket(recordsBucket).Delete(m))
	}
	return err
}

func (s fileShelf) orders() (orders, error) {
	all := make(orders)
	if raw := s.tx.Bucket(ordersBucket).Get(ordersKey); raw != nil {
		if err := json.Unmarshal(raw, &all); err != nil {
			return nil, fmt.Errorf("read the orders: %w", err)
		}
	}
	return all, nil
}

func (s fileShelf) setOrders(o orders) error {
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return s.tx.Bucket(ordersBucket).Put(ordersKey, raw)
}
