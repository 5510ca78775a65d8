package ledger

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/ledger/ledgertest"
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
