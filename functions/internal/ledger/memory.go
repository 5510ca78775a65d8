package ledger

import (
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Memory is a ledger that lives as long as the process. Safe for concurrent
// use.
type Memory struct {
	*local
	documents documents
}

var _ pushing.Ledger = Memory{}

// NewMemory returns an empty ledger. A record is forgotten once nothing of it
// is unfinished and retention has passed since it changed last; retention must
// outlive the message (REPUSH_MAX_AGE and a margin). now is the ledger's clock;
// nil means time.Now.
func NewMemory(retention time.Duration, now func() time.Time) Memory {
	l := newLocal(retention, now, &memory{
		records:   make(map[pushing.Message]*record),
		owners:    make(map[pushing.RequestKey]pushing.Message),
		standings: make(orders),
	})
	return Memory{l, newMemoryDocuments(l.now)}
}

// Durable implements [pushing.Ledger].
func (Memory) Durable() bool { return false }

// memory implements shelves and shelf. Its steps never fail, so that they may
// change records in place.
type memory struct {
	mu        sync.Mutex
	copies    bool // what is read must not be changed
	records   map[pushing.Message]*record
	owners    map[pushing.RequestKey]pushing.Message
	standings orders
	// queue holds every record once, in the order in which forget looks.
	queue []pushing.Message
}

func (s *memory) do(change bool, step func(shelf) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copies = !change
	return step(s)
}

func (s *memory) record(m pushing.Message) (*record, error) {
	r := s.records[m]
	if r == nil || !s.copies {
		return r, nil
	}
	copied := new(*r)
	copied.Requests = nil
	for _, q := range r.Requests {
		copied.Requests = append(copied.Requests, new(*q))
	}
	return copied, nil
}

func (s *memory) save(m pushing.Message, r *record) error {
	if s.records[m] == nil {
		s.queue = append(s.queue, m)
	}
	s.records[m] = r
	return nil
}

func (s *memory) owner(k pushing.RequestKey) (pushing.Message, bool) {
	m, known := s.owners[k]
	return m, known
}

func (s *memory) own(k pushing.RequestKey, m pushing.Message) error {
	s.owners[k] = m
	return nil
}

func (s *memory) each(by time.Time, visit func(*record) bool) error {
	for _, r := range s.records {
		if (by.IsZero() || r.isOpen(by)) && !visit(r) {
			return nil
		}
	}
	return nil
}

func (s *memory) open(by time.Time) (n int) {
	for _, r := range s.records {
		if r.isOpen(by) {
			n++
		}
	}
	return n
}

// forget looks at the next two records in turn, so that no single claim pays
// for many. In memory what waits is given back, and may never come again.
func (s *memory) forget(since time.Time) error {
	for range min(2, len(s.queue)) {
		m := s.queue[0]
		s.queue = s.queue[1:]
		r := s.records[m]
		if r.Touched.After(since) || !r.idle() {
			s.queue = append(s.queue, m)
			continue
		}
		for _, q := range r.Requests {
			delete(s.owners, q.Key)
		}
		delete(s.records, m)
	}
	return nil
}

func (s *memory) orders() (orders, error) { return s.standings, nil }

func (s *memory) setOrders(o orders) error { s.standings = o; return nil }
