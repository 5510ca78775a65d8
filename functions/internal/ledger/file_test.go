package ledger

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/ledger/ledgertest"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

func openFile(t *testing.T, path string, now func() time.Time) *File {
	t.Helper()
	l, err := OpenFile(path, time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestFile(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) ledgertest.Harness {
		clock := newClock()
		return ledgertest.Harness{Ledger: openFile(t, filepath.Join(t.TempDir(), "ledger"), clock.Now), Advance: clock.advance}
	})
}

func TestFileServesOneProcessAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	first := openFile(t, path, nil)
	if _, err := OpenFile(path, time.Hour, nil); err == nil || !strings.Contains(err.Error(), "another process") || strings.Contains(err.Error(), path) {
		t.Errorf("a second one: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openFile(t, path, nil)
}

func TestFileForgetsWhatIsOldAndFinished(t *testing.T) {
	t.Parallel()
	clock := newClock()
	l := openFile(t, filepath.Join(t.TempDir(), "ledger"), clock.Now)
	finish := func(from, n int) {
		for i := from; i < from+n; i++ {
			c := mustClaim(t, l, askFor(i))
			if i == 7 {
				continue // stays claimed
			}
			if err := l.Decide(t.Context(), c, pushing.Decision{Outcome: events.Failed, Event: events.Event{ID: "r", Source: "s", Type: "t"}}); err != nil {
				t.Fatal(err)
			}
			if err := l.MarkEmitted(t.Context(), c.Ask); err != nil {
				t.Fatal(err)
			}
		}
	}
	finish(0, 20)
	clock.advance(2 * time.Hour)
	finish(100, 12)
	keys := func(bucket []byte) (n int) {
		_ = l.db.View(func(tx *bolt.Tx) error { n = tx.Bucket(bucket).Stats().KeyN; return nil })
		return n
	}
	if records, owners, places := keys(recordsBucket), keys(ownersBucket), keys(openBucket)+keys(doneBucket); records != 13 || owners != records || places != records {
		t.Errorf("%d records, %d requests, %d places in the indexes; want 13 of each: the new ones and the unfinished one", records, owners, places)
	}
}

// TestFileWithAnUnreadableRecord: it is an error beside the others.
func TestFileWithAnUnreadableRecord(t *testing.T) {
	t.Parallel()
	clock := newClock()
	l := openFile(t, filepath.Join(t.TempDir(), "ledger"), clock.Now)
	for i := range 5 {
		if _, err := l.Receive(t.Context(), askFor(i), "NoSlot"); err != nil {
			t.Fatal(err)
		}
		clock.advance(time.Second)
	}
	err := l.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(recordsBucket).Put([]byte(askFor(0).Message().Key()), []byte("rubbish"))
	})
	if err != nil {
		t.Fatal(err)
	}
	if due, _, err := l.Due(t.Context(), 10); len(due) != 4 || err == nil || !strings.Contains(err.Error(), askFor(0).Message().Key()) {
		t.Errorf("due = %d items, %v; want the other four, and which one cannot be read", len(due), err)
	}
	if _, err := l.Claim(t.Context(), askFor(0)); err == nil {
		t.Error("an unreadable record was claimed")
	}
}

// TestFileDamaged: whatever page is spoilt or missing, opening and using the
// file ends in an answer or an error, and an error of the start says what to do.
func TestFileDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger")
	l := openFile(t, path, nil)
	for i := range 200 {
		if _, err := l.Receive(t.Context(), askFor(i), "NoSlot"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 { // with bodies of a page and more
		mustSave(t, l.Documents(), fmt.Sprint(i), 0, strings.Repeat("x", i*2000), 0)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	refused := 0
	for i := range len(whole) / page {
		spoilt := bytes.Clone(whole)
		copy(spoilt[i*page:], bytes.Repeat([]byte{0xff}, page))
		for name, damaged := range map[string][]byte{"spoilt": spoilt, "cut": whole[:i*page]} {
			if len(damaged) == 0 {
				continue // an empty file is a new ledger
			}
			bad := filepath.Join(dir, fmt.Sprint(name, i))
			if err := os.WriteFile(bad, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := OpenFile(bad, time.Hour, nil)
			if err != nil {
				if refused++; !strings.Contains(err.Error(), "restore it") {
					t.Errorf("page %d %s: %v", i, name, err)
				}
				continue
			}
			_, _, _ = l.Due(t.Context(), 10)
			_, _ = l.Claim(t.Context(), askFor(1))
			d := l.Documents()
			_, _, _ = d.Due(t.Context(), 10)
			_, version, _ := d.Load(t.Context(), "4")
			_, _ = d.Save(t.Context(), "4", version, []byte("y"), time.Hour, 0)
			_ = l.Close()
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed at the start")
	}
}
