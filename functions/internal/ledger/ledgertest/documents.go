package ledgertest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/planning"
)

// Drawer is one fresh store of documents. Advance lets d pass on its clock,
// which stands still otherwise; a negative d turns it back.
type Drawer struct {
	Documents planning.Documents
	Advance   func(d time.Duration)
}

// RunDocuments runs the suite of documents; open returns an empty store.
func RunDocuments(t *testing.T, open func(t *testing.T) Drawer) {
	t.Helper()
	for name, test := range documentTests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(&drawer{T: t, Drawer: open(t), given: make(map[int64]bool)})
		})
	}
}

type drawer struct {
	*testing.T
	Drawer
	// given are the versions so far.
	given map[int64]bool
}

// Documents of these tests are kept so long, and never due.
const (
	kept  = time.Hour
	never = -1
)

// save must succeed, with a version that never was.
func (d *drawer) save(key string, version int64, doc string, due time.Duration) int64 {
	d.Helper()
	saved, err := d.Documents.Save(d.Context(), key, version, []byte(doc), kept, due)
	switch {
	case err != nil:
		d.Fatalf("save %q over version %d: %v", key, version, err)
	case saved <= 0 || d.given[saved]:
		d.Fatalf("save %q: version %d is none, or came before", key, saved)
	}
	d.given[saved] = true
	return saved
}

func (d *drawer) remove(key string, version int64) {
	d.Helper()
	if saved, err := d.Documents.Save(d.Context(), key, version, nil, kept, 0); err != nil || saved != 0 {
		d.Fatalf("delete %q at version %d = %d, %v", key, version, saved, err)
	}
}

// conflicts expects that neither a document nor nil replaces this version.
func (d *drawer) conflicts(key string, version int64) {
	d.Helper()
	for _, doc := range [][]byte{[]byte("other"), nil} {
		if _, err := d.Documents.Save(d.Context(), key, version, doc, kept, 0); !errors.Is(err, planning.ErrConflict) {
			d.Errorf("save %q over version %d: %v, want a conflict", key, version, err)
		}
	}
}

func (d *drawer) holds(key, want string, version int64) {
	d.Helper()
	if doc, got, err := d.Documents.Load(d.Context(), key); err != nil || doc == nil || string(doc) != want || got != version {
		d.Errorf("load %q = %.40q, %d, %v; want %.40q, %d", key, doc, got, err, want, version)
	}
}

func (d *drawer) lacks(key string) {
	d.Helper()
	if doc, version, err := d.Documents.Load(d.Context(), key); err != nil || doc != nil || version != 0 {
		d.Errorf("load %q = %q, %d, %v; want none", key, doc, version, err)
	}
}

// due expects that so many documents have a time, and these keys to be due.
func (d *drawer) due(limit, open int, want ...string) {
	d.Helper()
	if keys, n, err := d.Documents.Due(d.Context(), limit); err != nil || n != open || !slices.Equal(keys, want) {
		d.Errorf("due = %q, %d, %v; want %q, %d", keys, n, err, want, open)
	}
}

var documentTests = map[string]func(*drawer){
	"a document is made, replaced and deleted": func(d *drawer) {
		d.lacks("a")
		v1 := d.save("a", 0, "one", never)
		d.holds("a", "one", v1)
		v2 := d.save("a", v1, "two", never)
		d.holds("a", "two", v2)
		d.lacks("b")
		d.remove("a", v2)
		d.lacks("a")
		d.remove("a", 0)
		d.save("a", 0, "three", never)
	},
	"nothing but its version replaces a document": func(d *drawer) {
		for _, none := range []int64{-1, 1, time.Now().UnixMilli(), 1 << 62} {
			d.conflicts("a", none)
		}
		v1 := d.save("a", 0, "one", never)
		v2 := d.save("a", v1, "two", time.Minute)
		for _, other := range []int64{-1, 0, v1, v2 - 1, v2 + 1, -v2} {
			d.conflicts("a", other)
		}
		d.holds("a", "two", v2)
		d.due(10, 1)
	},
	"no version comes twice, whatever happened to the document or the clock": func(d *drawer) {
		last := int64(0)
		for i, happens := range []func(version int64) (left int64){
			func(version int64) int64 { return version },
			func(version int64) int64 { d.remove("a", version); return 0 },
			func(int64) int64 { d.Advance(kept); return 0 },
			func(version int64) int64 { d.Advance(-24 * time.Hour); return version },
			func(version int64) int64 { d.remove("a", version); d.Advance(-24 * time.Hour); return 0 },
			func(int64) int64 { d.Advance(kept); return 0 },
			func(version int64) int64 { d.save("b", 0, "b", never); return version },
			func(version int64) int64 { d.Advance(time.Microsecond); return version },
		} {
			left := happens(d.save("a", last, fmt.Sprint(i), never))
			if last = left; left == 0 {
				d.lacks("a")
			} else {
				d.holds("a", fmt.Sprint(i), left)
			}
		}
	},
	"versions follow the clock, so that a lost store repeats none": func(d *drawer) {
		v1 := d.save("a", 0, "one", never)
		d.Advance(time.Second)
		if v2 := d.save("b", 0, "two", never); v2-v1 != time.Second.Microseconds() {
			d.Errorf("a second later versions are %d ahead", v2-v1)
		}
	},
	"a clock that goes back loses nothing": func(d *drawer) {
		version := d.save("a", 0, "one", time.Minute)
		d.Advance(-24 * time.Hour)
		d.holds("a", "one", version)
		d.due(10, 1)
		version = d.save("a", version, "two", time.Minute)
		d.Advance(time.Minute)
		d.due(10, 1, "a")
		d.holds("a", "two", version)
	},
	"a document is forgotten some time after it was saved last": func(d *drawer) {
		v1 := d.save("a", 0, "one", 0)
		d.Advance(kept - time.Microsecond)
		d.holds("a", "one", v1)
		v2 := d.save("a", v1, "two", 0)
		d.Advance(kept - time.Microsecond)
		d.due(10, 1, "a")
		d.holds("a", "two", v2)
		d.Advance(time.Microsecond)
		d.lacks("a")
		d.due(10, 0)
		d.conflicts("a", v2)
		d.save("a", 0, "three", never)
		d.due(10, 0)
	},
	"what is forgotten first was not saved first": func(d *drawer) {
		for i, key := range []string{"a", "b", "c"} {
			if _, err := d.Documents.Save(d.Context(), key, 0, []byte(key), time.Duration(3-i)*time.Minute, 0); err != nil {
				d.Fatal(err)
			}
		}
		for _, left := range [][]string{{"a", "b"}, {"a"}, {}} {
			d.Advance(time.Minute)
			d.due(10, len(left), left...)
		}
	},
	"a document that is not kept is gone": func(d *drawer) {
		for _, keep := range []time.Duration{0, -time.Hour} {
			if _, err := d.Documents.Save(d.Context(), "a", 0, []byte("one"), keep, 0); err != nil {
				d.Errorf("keep %v: %v", keep, err)
			}
			d.lacks("a")
			d.due(10, 0)
		}
	},
	"due names what is due, the longest first, and counts what has a time": func(d *drawer) {
		d.due(10, 0)
		d.save("late", 0, "x", 3*time.Minute)
		d.save("never", 0, "x", never)
		d.save("just so never", 0, "x", -time.Nanosecond)
		d.save("early", 0, "x", time.Minute)
		d.save("now", 0, "x", 0)
		d.save("both", 0, "x", 3*time.Minute)
		d.due(10, 4, "now")
		d.Advance(time.Minute - time.Microsecond)
		d.due(10, 4, "now")
		d.Advance(time.Microsecond)
		d.due(10, 4, "now", "early")
		d.Advance(2 * time.Minute)
		for range 2 { // it leases nothing
			d.due(10, 4, "now", "early", "both", "late")
		}
		d.due(3, 4, "now", "early", "both")
		d.due(0, 4)
		d.due(-1, 4)
	},
	"the last save says when a document is due": func(d *drawer) {
		version := d.save("a", 0, "x", 0)
		d.save("b", 0, "x", time.Second)
		version = d.save("a", version, "x", time.Minute)
		d.due(10, 2)
		d.Advance(time.Minute)
		d.due(10, 2, "b", "a")
		version = d.save("a", version, "x", never)
		d.due(10, 1, "b")
		version = d.save("a", version, "x", 0)
		d.due(10, 2, "b", "a")
		d.remove("a", version)
		d.due(10, 1, "b")
	},
	"of many who save over one version, one wins": func(d *drawer) {
		version := int64(0)
		for round := range 5 {
			var mu sync.Mutex
			won := make(map[string]int64)
			var wg sync.WaitGroup
			for i := range 16 {
				wg.Go(func() {
					doc := fmt.Sprint(round, " by ", i)
					saved, err := d.Documents.Save(d.Context(), "a", version, []byte(doc), kept, 0)
					if err != nil && !errors.Is(err, planning.ErrConflict) {
						d.Error(err)
					}
					if err == nil {
						mu.Lock()
						defer mu.Unlock()
						won[doc] = saved
					}
				})
			}
			wg.Wait()
			if len(won) != 1 {
				d.Fatalf("%d won, want one: %v", len(won), won)
			}
			for doc := range maps.Keys(won) {
				version = won[doc]
				d.holds("a", doc, version)
			}
		}
	},
	"keys and documents are any bytes": func(d *drawer) {
		docs := map[string]string{
			"empty": "", "zeros": "\x00\x00", "no text": "\xff\xfe\r\n$-1\r\n", "large": strings.Repeat("0123456789abcdef", 4<<20/16),
			"incident/dead-letter/MQ_INST_1_x/GID_x/%DLQ%GID_x": "slashes", "{a}": "braces", "}{": "more", "a b\n\"'": "spaces",
			"\x00": "zero", "\xff": "no text", "due": "due", "ends": "ends", "version": "version", "0": "number",
			strings.Repeat("k", 1000): "long", strings.Repeat("k", 1001): "longer", "Empty": "case",
		}
		versions := make(map[string]int64)
		for key, doc := range docs {
			versions[key] = d.save(key, 0, doc, 0)
		}
		for key, doc := range docs {
			d.holds(key, doc, versions[key])
		}
		d.due(100, len(docs), slices.Sorted(maps.Keys(docs))...)
		for key := range docs {
			d.remove(key, versions[key])
			d.lacks(key)
		}
		d.due(100, 0)
	},
	"nobody changes what is stored by changing bytes": func(d *drawer) {
		doc := []byte("one")
		version, err := d.Documents.Save(d.Context(), "a", 0, doc, kept, 0)
		if err != nil {
			d.Fatal(err)
		}
		copy(doc, "two")
		got, _, err := d.Documents.Load(d.Context(), "a")
		if err != nil || !bytes.Equal(got, []byte("one")) {
			d.Errorf("load = %q, %v", got, err)
		}
		copy(got, "six")
		d.holds("a", "one", version)
	},
}
