package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/ons-repush/ons-repush/functions/internal/ledger/ledgertest"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
)

func TestMemoryDocuments(t *testing.T) {
	t.Parallel()
	ledgertest.RunDocuments(t, func(*testing.T) ledgertest.Drawer {
		clock := newClock()
		return ledgertest.Drawer{Documents: NewMemory(time.Hour, clock.Now).Documents(), Advance: clock.advance}
	})
}

func TestFileDocuments(t *testing.T) {
	t.Parallel()
	ledgertest.RunDocuments(t, func(t *testing.T) ledgertest.Drawer {
		clock := newClock()
		file := openFile(t, filepath.Join(t.TempDir(), "ledger"), clock.Now)
		return ledgertest.Drawer{Documents: file.Documents(), Advance: clock.advance}
	})
}

func TestDocumentsAreDurableWhereTheLedgerIs(t *testing.T) {
	t.Parallel()
	file := openFile(t, filepath.Join(t.TempDir(), "ledger"), nil)
	for want, d := range map[bool][]planning.Documents{
		false: {NewMemory(time.Hour, nil).Documents()},
		true:  {file.Documents(), NewRedis(odd{}, time.Hour).Documents()},
	} {
		for _, d := range d {
			if d.Durable() != want {
				t.Errorf("%T is durable: %v", d, d.Durable())
			}
		}
	}
}

// TestMemoryDocumentsAreTheSameEachTime: who asks the ledger twice has one store.
func TestMemoryDocumentsAreTheSameEachTime(t *testing.T) {
	t.Parallel()
	l := NewMemory(time.Hour, nil)
	version := mustSave(t, l.Documents(), "a", 0, "one", -1)
	if doc, got, err := l.Documents().Load(t.Context(), "a"); string(doc) != "one" || got != version || err != nil {
		t.Errorf("load = %q, %d, %v", doc, got, err)
	}
}

func mustSave(tb testing.TB, d planning.Documents, key string, version int64, doc string, due time.Duration) int64 {
	tb.Helper()
	saved, err := d.Save(tb.Context(), key, version, []byte(doc), time.Hour, due)
	if err != nil {
		tb.Fatal(err)
	}
	return saved
}

// TestFileDocumentsOutliveTheProcess: also what versions there were, when the
// clock is behind and the document is gone.
func TestFileDocumentsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	path, clock := filepath.Join(t.TempDir(), "ledger"), newClock()
	file := openFile(t, path, clock.Now)
	kept := mustSave(t, file.Documents(), "kept", 0, "one", 0)
	gone := mustSave(t, file.Documents(), "gone", 0, "one", 0)
	if _, err := file.Documents().Save(t.Context(), "gone", gone, nil, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Documents().Save(t.Context(), "gone", 0, nil, 0, 0); err == nil || errors.Is(err, planning.ErrConflict) {
		t.Errorf("saving to a closed file: %v", err)
	}
	clock.advance(-30 * time.Minute)
	again := openFile(t, path, clock.Now).Documents()
	if doc, version, err := again.Load(t.Context(), "kept"); string(doc) != "one" || version != kept || err != nil {
		t.Errorf("load = %q, %d, %v; want what was saved, at version %d", doc, version, err, kept)
	}
	if version := mustSave(t, again, "gone", 0, "two", 0); version <= gone {
		t.Errorf("version %d after %d", version, gone)
	}
}

// TestFileForgetsDocuments: nothing stays behind of what has ended or was deleted.
func TestFileForgetsDocuments(t *testing.T) {
	t.Parallel()
	clock := newClock()
	file := openFile(t, filepath.Join(t.TempDir(), "ledger"), clock.Now)
	for i := range 20 {
		mustSave(t, file.Documents(), fmt.Sprint("old ", i), 0, "x", time.Duration(i-1)*time.Second)
	}
	clock.advance(time.Hour)
	version := mustSave(t, file.Documents(), "deleted", 0, "x", 0)
	if _, err := file.Documents().Save(t.Context(), "deleted", version, nil, 0, 0); err != nil {
		t.Fatal(err)
	}
	mustSave(t, file.Documents(), "new", 0, "x", 0)
	for _, bucket := range [][]byte{documentsBucket, bodiesBucket} {
		n := 0
		_ = file.db.View(func(tx *bolt.Tx) error { n = tx.Bucket(bucket).Stats().KeyN; return nil })
		if n != 1 {
			t.Errorf("%s holds %d, want the new one", bucket, n)
		}
	}
}

// TestFileWithAnUnreadableDocument: it is an error that names it, and keeps
// nobody from the others.
func TestFileWithAnUnreadableDocument(t *testing.T) {
	t.Parallel()
	for _, rubbish := range []string{"", "rubbish", strings.Repeat("x", 23)} {
		file := openFile(t, filepath.Join(t.TempDir(), "ledger"), nil)
		d := file.Documents()
		for _, key := range []string{"bad", "good"} {
			mustSave(t, d, key, 0, "x", 0)
		}
		err := file.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(documentsBucket).Put([]byte("bad"), []byte(rubbish)) })
		if err != nil {
			t.Fatal(err)
		}
		_, _, err1 := d.Load(t.Context(), "bad")
		_, err2 := d.Save(t.Context(), "bad", 0, []byte("y"), time.Hour, 0)
		keys, open, err3 := d.Due(t.Context(), 10)
		for _, err := range []error{err1, err2, err3} {
			if err == nil || errors.Is(err, planning.ErrConflict) || !strings.Contains(err.Error(), `"bad" cannot be read`) {
				t.Errorf("%q: %v, want an error that names the document", rubbish, err)
			}
		}
		if fmt.Sprint(keys, open) != "[good] 1" {
			t.Errorf("due = %q, %d; want the one that can be read", keys, open)
		}
		if doc, _, err := d.Load(t.Context(), "good"); string(doc) != "x" || err != nil {
			t.Errorf("load = %q, %v", doc, err)
		}
	}
}

// crashPath is the variable that makes a process of TestFileDocumentsSurviveSIGKILL
// the one that is killed.
const crashPath = "DOCUMENTS_CRASH_PATH"

// saveForEver saves documents of all sizes and says which, until it is killed.
func saveForEver(t *testing.T, path string) {
	d := openFile(t, path, nil).Documents()
	key := fmt.Sprint("of process ", os.Getpid())
	for version, i := int64(0), 0; ; i++ {
		version = mustSave(t, d, key, version, strings.Repeat(fmt.Sprintf("%08d", i), 1+i%5*1000), 0)
		fmt.Println("saved", key, version, i)
	}
}

// TestFileDocumentsSurviveSIGKILL: what was answered is there, and whatever else
// is there is whole.
func TestFileDocumentsSurviveSIGKILL(t *testing.T) {
	if path := os.Getenv(crashPath); path != "" {
		saveForEver(t, path)
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ledger")
	versions := make(map[int64]bool)
	for round := range 10 {
		child := exec.Command(os.Args[0], "-test.run=^TestFileDocumentsSurviveSIGKILL$", "-test.timeout=60s")
		child.Env = []string{crashPath + "=" + path}
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		var pid, last, version int64
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if n, _ := fmt.Sscanf(lines.Text(), "saved of process %d %d %d", &pid, &version, &last); n != 3 {
				continue
			}
			if versions[version] {
				t.Errorf("version %d came twice", version)
			}
			versions[version] = true
			if last == int64(7+round*3) {
				_ = child.Process.Kill() // and read on: it may have said more
			}
		}
		_ = child.Wait()
		if last == 0 {
			t.Fatal("the child saved nothing")
		}
		file := openFile(t, path, nil)
		doc, found, err := file.Documents().Load(t.Context(), fmt.Sprint("of process ", pid))
		i, _ := strconv.ParseInt(string(doc[:min(8, len(doc))]), 10, 64)
		if err != nil || found < version || i < last || i > last+1 || string(doc) != strings.Repeat(fmt.Sprintf("%08d", i), int(1+i%5*1000)) {
			t.Errorf("after %d, version %d: load = %.8q of %d bytes, version %d, %v", last, version, doc, len(doc), found, err)
		}
		if keys, open, err := file.Documents().Due(t.Context(), 100); err != nil || open != round+1 || len(keys) != open {
			t.Errorf("due = %q, %d, %v; want one of each process", keys, open, err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func BenchmarkFileDocuments(b *testing.B) {
	for _, others := range []int{0, 1000, 10000} {
		b.Run(fmt.Sprint("beside ", others), func(b *testing.B) {
			file, err := OpenFile(filepath.Join(b.TempDir(), "ledger"), time.Hour, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = file.Close() }()
			file.db.NoSync = true
			d := file.Documents()
			for i := range others {
				mustSave(b, d, fmt.Sprint(i), 0, "x", time.Minute)
			}
			for version := int64(0); b.Loop(); {
				version = mustSave(b, d, "a", version, "x", 0)
			}
		})
	}
}
