package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ons-repush/ons-repush/functions/internal/ledger/ledgertest"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

func redisDrawers(t *testing.T, server *redistest.Server) {
	client := openClient(t, server)
	ledgertest.RunDocuments(t, func(t *testing.T) ledgertest.Drawer {
		clock := newClock()
		return ledgertest.Drawer{Documents: NewRedis(newRoom(client, t.Name(), clock.Now), time.Hour).Documents(), Advance: clock.advance}
	})
}

func TestRedisDocuments(t *testing.T) {
	t.Parallel()
	redisDrawers(t, redistest.Start(t))
}

func TestRedisClusterDocuments(t *testing.T) {
	t.Parallel()
	redisDrawers(t, redistest.StartCluster(t, 3))
}

// TestRedisDocumentsAfterAFlush: what somebody knew from before it is no version
// of what came after it.
func TestRedisDocumentsAfterAFlush(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	d := NewRedis(openClient(t, server), time.Hour).Documents()
	before := map[int64]bool{0: true}
	version := int64(0)
	for range 200 { // faster than the clock's milliseconds
		version = mustSave(t, d, "a", version, "one", 0)
		before[version] = true
	}
	server.Do("FLUSHALL")
	if _, err := d.Save(t.Context(), "a", version, []byte("two"), time.Hour, 0); !errors.Is(err, planning.ErrConflict) {
		t.Errorf("save over what was flushed: %v, want a conflict", err)
	}
	for after, i := int64(0), 0; i < 200; i++ {
		if after = mustSave(t, d, "a", after, "two", 0); before[after] {
			t.Fatalf("version %d was given before the flush", after)
		}
	}
	if _, err := d.Save(t.Context(), "a", version, []byte("three"), time.Hour, 0); !errors.Is(err, planning.ErrConflict) {
		t.Errorf("save over what was flushed: %v, want a conflict", err)
	}
}

// TestRedisForgetsDocuments: by itself, and with its places in the indexes.
func TestRedisForgetsDocuments(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	d := NewRedis(openClient(t, server), time.Hour).Documents()
	mustSave(t, d, "kept", 0, "x", time.Minute)
	if ttl, _ := strconv.Atoi(server.Do("PTTL", documentKey("kept"))); ttl < 3590000 || ttl > 3600000 {
		t.Errorf("a document expires in %d ms, want an hour", ttl)
	}
	for i := range 10 {
		if _, err := d.Save(t.Context(), fmt.Sprint(i), 0, []byte("x"), 50*time.Millisecond, 0); err != nil {
			t.Fatal(err)
		}
	}
	end := time.Now().Add(10 * time.Second)
	for server.Do("EXISTS", documentKey("0"), documentKey("9")) != "0" {
		if time.Now().After(end) {
			t.Fatal("the documents do not expire")
		}
	}
	for doc := []byte{}; doc != nil; { // the last microseconds of a millisecond
		var err error
		if doc, _, err = d.Load(t.Context(), "9"); err != nil || time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if keys, open, err := d.Due(t.Context(), 10); err != nil || len(keys) != 0 || open != 1 {
		t.Errorf("due = %q, %d, %v; want the one with a time", keys, open, err)
	}
	for _, index := range []string{"due", "ends"} {
		if got := server.Do("ZRANGE", "ons-repush:{plan}:"+index, "0", "-1"); got != "[kept]" {
			t.Errorf("%s holds %s", index, got)
		}
	}
}

// TestRedisDocumentsThatAreMissing: one that somebody deleted by hand is none,
// can be made anew, and leaves the index with a Save of nothing.
func TestRedisDocumentsThatAreMissing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	d := NewRedis(openClient(t, server), time.Hour).Documents()
	mustSave(t, d, "a", 0, "x", 0)
	server.Do("DEL", documentKey("a"))
	if doc, version, err := d.Load(t.Context(), "a"); doc != nil || version != 0 || err != nil {
		t.Errorf("load = %q, %d, %v; want none", doc, version, err)
	}
	if _, err := d.Save(t.Context(), "a", 0, nil, 0, 0); err != nil {
		t.Error(err)
	}
	if keys, open, err := d.Due(t.Context(), 10); len(keys) != 0 || open != 0 || err != nil {
		t.Errorf("due = %q, %d, %v; want none", keys, open, err)
	}
	mustSave(t, d, "a", 0, "x", 0)
	server.Do("SET", "ons-repush:{plan}:version", "rubbish")
	mustSave(t, d, "b", 0, "x", 0)
}

// failures is what each method says.
func failures(t *testing.T, d planning.Documents) map[string]error {
	_, _, load := d.Load(t.Context(), "a")
	_, save := d.Save(t.Context(), "a", 0, []byte("x"), time.Hour, 0)
	_, remove := d.Save(t.Context(), "a", 0, nil, time.Hour, 0)
	_, _, due := d.Due(t.Context(), 1)
	return map[string]error{"load": load, "save": save, "delete": remove, "due": due}
}

func TestRedisDocumentsMeetOddAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]any{
		"nothing": nil, "a text": "x", "a number": int64(1), "an empty list": []any{}, "a list of a number": []any{int64(1)},
		"a list of nothing": []any{nil}, "no number": []any{"secret"}, "a long number": []any{"99999999999999999999"}, "an empty text": []any{"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for what, err := range failures(t, NewRedis(odd{answer}, time.Hour).Documents()) {
				if err == nil || errors.Is(err, planning.ErrConflict) || bytes.Contains([]byte(err.Error()), []byte("secret")) {
					t.Errorf("%s = %v, want an error that quotes nothing", what, err)
				}
			}
		})
	}
	for _, answer := range [][]any{{"1"}, {"1", "x", "y"}} {
		if doc, _, err := NewRedis(odd{answer}, time.Hour).Documents().Load(t.Context(), "a"); err == nil {
			t.Errorf("load of %v = %q", answer, doc)
		}
	}
}

// TestRedisDocumentsOutOfReach: the error of the client is what comes back, so
// that its kind says what happens next.
func TestRedisDocumentsOutOfReach(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	d := NewRedis(openClient(t, server), time.Hour).Documents()
	spoilt := func(want string) {
		t.Helper()
		for what, err := range failures(t, d) {
			var failed *pushing.Error
			if !errors.As(err, &failed) || failed.Kind != pushing.Unavailable {
				t.Errorf("%s: %s = %v, want one of kind Unavailable", want, what, err)
			}
		}
	}
	server.Do("SET", "ons-repush:{plan}:ends", "rubbish")
	spoilt("another type")
	server.Stop()
	spoilt("no server")
}

// TestRedisDocumentsTakeOneRoundTrip, each call.
func TestRedisDocumentsTakeOneRoundTrip(t *testing.T) {
	t.Parallel()
	client := openClient(t, redistest.Start(t))
	d := NewRedis(client, time.Hour).Documents()
	mustSave(t, d, "a", 0, "x", 0) // sends the script
	before := client.RoundTrips()
	for _, err := range failures(t, d) {
		if err != nil && !errors.Is(err, planning.ErrConflict) {
			t.Error(err)
		}
	}
	if got := client.RoundTrips() - before; got != 4 {
		t.Errorf("four calls took %d round trips", got)
	}
}

// TestRedisDocumentsAreTheSame: whatever is asked, and whatever the clock does,
// documents.lua answers as documents.go does.
func TestRedisDocumentsAreTheSame(t *testing.T) {
	t.Parallel()
	client := openClient(t, redistest.Start(t))
	var rooms atomic.Int64
	seen := make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		clock := newClock()
		memory := NewMemory(time.Hour, clock.Now).Documents()
		inRedis := NewRedis(newRoom(client, fmt.Sprint("drawer", rooms.Add(1)), clock.Now), time.Hour).Documents()
		given := make(map[string]bool) // key and version
		versions := []int64{0, 1}
		agree := func(what string, a, b any, err1, err2 error) {
			t.Helper()
			if a != b || !errors.Is(err2, err1) {
				t.Fatalf("%s: memory %v, %v; redis %v, %v", what, a, err1, b, err2)
			}
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			clock.advance(pick(t, "later", 0, 0, 0, time.Microsecond, time.Second, time.Minute-time.Microsecond, time.Minute, time.Hour, -time.Second, -time.Hour))
			key := pick(t, "key", "a", "b", "c")
			doc1, version, err1 := memory.Load(t.Context(), key)
			doc2, version2, err2 := inRedis.Load(t.Context(), key)
			agree("load", fmt.Sprintf("%q %v %d", doc1, doc1 == nil, version), fmt.Sprintf("%q %v %d", doc2, doc2 == nil, version2), err1, err2)
			if rapid.IntRange(0, 3).Draw(t, "other version") == 0 {
				version = rapid.SampledFrom(versions).Draw(t, "version")
			}
			doc := pick(t, "doc", nil, []byte{}, []byte("x"), []byte("y"), []byte("\x00\xff"))
			keep := pick(t, "keep", time.Minute, time.Hour, 2*time.Hour) // Redis expires in real time, too
			due := pick(t, "due", -1, 0, time.Microsecond, time.Second, time.Minute, time.Hour)
			saved1, err1 := memory.Save(t.Context(), key, version, doc, keep, due)
			saved2, err2 := inRedis.Save(t.Context(), key, version, doc, keep, due)
			agree("save", saved1, saved2, err1, err2)
			seen[fmt.Sprint("conflict ", err1 != nil)]++
			seen[fmt.Sprint("deleted ", err1 == nil && doc == nil && version != 0)]++
			edition := fmt.Sprint(key, saved1)
			if saved1 != 0 && given[edition] {
				t.Fatalf("version %d of %s came twice", saved1, key)
			}
			given[edition] = true
			versions = append(versions, saved1)
			limit := pick(t, "limit", -1, 0, 1, 2, 10)
			keys1, open1, err1 := memory.Due(t.Context(), limit)
			keys2, open2, err2 := inRedis.Due(t.Context(), limit)
			agree("due", fmt.Sprintf("%q %d", keys1, open1), fmt.Sprintf("%q %d", keys2, open2), err1, err2)
			seen[fmt.Sprint("due ", min(len(keys1), 2))]++
			seen[fmt.Sprint("more open than due ", open1 > len(keys1))]++
		}
	})
	for _, what := range []string{"conflict true", "conflict false", "deleted true", "due 0", "due 1", "due 2", "more open than due true"} {
		if seen[what] == 0 {
			t.Errorf("%q never happened", what)
		}
	}
	t.Log(seen)
}
