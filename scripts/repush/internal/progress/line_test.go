package progress

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"pgregory.net/rapid"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/progress/progresstest"
)

// full has every part of the line.
func full() Snapshot {
	outcomes := make(map[events.Outcome]int)
	for i, o := range events.Outcomes() {
		outcomes[o] = i + 1
	}
	return Snapshot{
		Total: 5000, Done: 2100, InFlight: 7, Waiting: 12, Outcomes: outcomes, HandedOver: 40,
		PerSecond: 9.83, Quota: 10, Elapsed: 3*time.Minute + 400*time.Millisecond, ETA: 12*time.Minute + 30*time.Second, Note: "nobody online",
	}
}

// plain is the part of a snapshot that most cases need not change.
func plain(change func(*Snapshot)) Snapshot {
	s := Snapshot{Total: 5000, Done: 2100}
	change(&s)
	return s
}

func TestLine(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		s     Snapshot
		limit int
		chars string
		color bool
		want  string
	}{
		"all of it": {full(), 300, "#-", false, " 42%  ############------------------  2100/5000  pushed 1  unknown 5  failed 4  abandoned 7  rejected 3  expired 6" +
			"  duplicate 2  cancelled 8  simulated 9  handed over 40  in flight 7  waiting 12  9.8/s  98% of quota  3m0s  ETA 12m30s  nobody online"},
		"without limit and bar": {plain(func(s *Snapshot) { s.Note = strings.Repeat("x", 500) }), math.MaxInt, "", false, " 42%  2100/5000  " + strings.Repeat("x", 500)},
		"80 columns":            {full(), 79, "#-", false, " 42%  2100/5000  unknown 5  failed 4  abandoned 7  rejected 3  nobody online"},
		"80 columns, all is well": {plain(func(s *Snapshot) {
			s.Outcomes, s.PerSecond, s.Quota, s.ETA, s.InFlight = map[events.Outcome]int{events.Pushed: 2100}, 9.8, 10, time.Hour, 10
		}), 79, "⣿⣀", false, " 42%  ⣿⣿⣿⣿⣿⣿⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀  2100/5000  pushed 2100  9.8/s  98% of quota  ETA 1h0m0s"},
		"40 columns":                 {full(), 39, "#-", false, " 42%  2100/5000  nobody online"},
		"20 columns":                 {full(), 19, "#-", false, " 42%  2100/5000"},
		"10 columns":                 {full(), 9, "#-", false, " 42%"},
		"5 columns":                  {full(), 4, "#-", false, " 42%"},
		"4 columns":                  {full(), 3, "#-", false, ""},
		"1 column":                   {full(), 0, "#-", false, ""},
		"a long note is cut at half": {plain(func(s *Snapshot) { s.Note = "stopping: waiting for 7 in flight" }), 39, "", false, " 42%  2100/5000  stopping: waitin..."},
		"colours: red and yellow, and names": {plain(func(s *Snapshot) {
			s.Outcomes = map[events.Outcome]int{events.Pushed: 1, events.Failed: 2, events.Expired: 3}
		}), 99, "", true, " 42%  2100/5000  pushed 1  \x1b[31mfailed 2\x1b[0m  \x1b[33mexpired 3\x1b[0m"},
		"control characters in the note": {plain(func(s *Snapshot) { s.Note = "a\x1b[31m\r\nb\u009b\x7fc" }), 99, "", false, " 42%  2100/5000  a[31mbc"},
		"others than ASCII in the note":  {plain(func(s *Snapshot) { s.Note = "没人 online\xff" }), 99, "", false, " 42%  2100/5000  ?? online?"},
		"an outcome that there is not":   {plain(func(s *Snapshot) { s.Outcomes = map[events.Outcome]int{"lost\n": 1} }), 99, "", false, " 42%  2100/5000"},
		"nothing to do":                  {Snapshot{}, 39, "#-", false, "100%  ############################  0/0"},
		"more than all":                  {Snapshot{Total: 5, Done: 7}, 99, "", false, "100%  7/5"},
		"below zero":                     {Snapshot{Total: 5, Done: -1, InFlight: -1, Waiting: -1, HandedOver: -1, PerSecond: -1, Quota: -1, Elapsed: -1, ETA: -1}, 99, "#-", false, "  0%  ------------------------------  0/5"},
		"one is missing":                 {Snapshot{Total: 5000, Done: 4999}, 99, "", false, " 99%  4999/5000"},
		"one is missing of very many":    {Snapshot{Total: math.MaxInt, Done: math.MaxInt - 1}, 99, "", false, " 99%  9223372036854775806/9223372036854775807"},
		"no numbers":                     {plain(func(s *Snapshot) { s.PerSecond, s.Quota = math.NaN(), math.NaN() }), 99, "", false, " 42%  2100/5000"},
		"too large numbers":              {plain(func(s *Snapshot) { s.PerSecond, s.Quota = math.Inf(1), 5e-324 }), 99, "", false, " 42%  2100/5000"},
		"a rate without a quota":         {plain(func(s *Snapshot) { s.PerSecond = 3.25 }), 99, "", false, " 42%  2100/5000  3.2/s"},
		"less than a second is left":     {plain(func(s *Snapshot) { s.ETA = 1 }), 99, "", false, " 42%  2100/5000  ETA 1s"},
		"the longest time":               {plain(func(s *Snapshot) { s.Elapsed = math.MaxInt64 }), 99, "", false, " 42%  2100/5000  2562047h47m16.854775807s"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, test.s.line(test.limit, test.chars, test.color)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestLineDropsInOrder: as the terminal gets narrower, parts go in the order that
// Display states, and a part that is gone stays away.
func TestLineDropsInOrder(t *testing.T) {
	t.Parallel()
	stated := []string{"3m0s", "waiting", "in flight", "handed over", "simulated", "cancelled", "duplicate", "##", "% of quota", "pushed", "/s", "ETA",
		"expired", "rejected", "abandoned", "failed", "unknown", "nobody", "2100/5000", "42%"}
	var gone []string
	for limit := 300; limit >= 0; limit-- {
		line := full().line(limit, "#-", false)
		for _, part := range stated {
			if in := strings.Contains(line, part); in == slices.Contains(gone, part) {
				if in {
					t.Fatalf("%d columns: %q is back: %q", limit, part, line)
				}
				gone = append(gone, part)
			}
		}
	}
	if diff := cmp.Diff(stated, gone); diff != "" {
		t.Errorf("-stated +dropped:\n%s", diff)
	}
}

func TestEveryOutcomeIsShown(t *testing.T) {
	t.Parallel()
	line := full().line(math.MaxInt, "", false)
	if len(events.Outcomes()) == 0 {
		t.Fatal("no outcomes")
	}
	for _, o := range events.Outcomes() {
		if !strings.Contains(line, "  "+string(o)+" ") {
			t.Errorf("no %s in %q", o, line)
		}
	}
}

func snapshots() *rapid.Generator[Snapshot] {
	return rapid.Custom(func(t *rapid.T) Snapshot {
		count := rapid.OneOf(rapid.IntRange(0, 10_000), rapid.Int())
		length := rapid.Map(rapid.OneOf(rapid.Int64Range(0, 1e13), rapid.Int64()), func(n int64) time.Duration { return time.Duration(n) })
		number := rapid.OneOf(rapid.Float64Range(0, 1000), rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}))
		outcome := rapid.OneOf(rapid.SampledFrom(events.Outcomes()), rapid.Map(rapid.String(), func(s string) events.Outcome { return events.Outcome(s) }))
		return Snapshot{
			Total: count.Draw(t, "total"), Done: count.Draw(t, "done"), InFlight: count.Draw(t, "in flight"), Waiting: count.Draw(t, "waiting"),
			Outcomes: rapid.MapOf(outcome, count).Draw(t, "outcomes"), HandedOver: count.Draw(t, "handed over"),
			PerSecond: number.Draw(t, "a second"), Quota: number.Draw(t, "quota"), Elapsed: length.Draw(t, "elapsed"), ETA: length.Draw(t, "eta"),
			Note: rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "nobody online", "a\nb\x1b[2J\r", "\xff\xfe", "消息"})).Draw(t, "note"),
		}
	})
}

// TestAnySnapshot: whatever the work says of itself, on any width, the line is one
// line that leaves the last column free and holds no control character but ours,
// and says neither NaN nor anything below zero.
func TestAnySnapshot(t *testing.T) {
	t.Parallel()
	allowed := regexp.MustCompile("^\r\x1b\\[J((?:[^\x00-\x1f\x7f-\u009f]|\x1b\\[(?:31|33|0)m)*)\r$")
	colour := regexp.MustCompile(`\x1b\[\d+m`)
	wrong := regexp.MustCompile(`NaN|Inf|(^| )-\d`)
	rapid.Check(t, func(t *rapid.T) {
		s, columns := snapshots().Draw(t, "snapshot"), rapid.IntRange(1, 300).Draw(t, "columns")
		var out strings.Builder
		d := New(&out, Options{
			Terminal: true, Width: func() int { return columns }, Color: rapid.Bool().Draw(t, "color"), Unicode: rapid.Bool().Draw(t, "unicode"),
		})
		d.Update(s)
		found := allowed.FindStringSubmatch(out.String())
		if found == nil {
			t.Fatalf("wrote %q", out.String())
		}
		line := colour.ReplaceAllString(found[1], "")
		if n := utf8.RuneCountInString(line); n > columns-1 {
			t.Errorf("%d columns of %d: %q", n, columns, line)
		}
		if s.Note = ""; wrong.MatchString(s.line(columns-1, "", false)) {
			t.Errorf("%q", line)
		}
		if columns >= 20 && s.Done >= 0 && s.Done < 100_000 && s.Total >= 0 && s.Total < 100_000 && !strings.Contains(line, "/") {
			t.Errorf("%d columns without the counts: %q", columns, line)
		}
		d.Close()
		screen := progresstest.New(columns, 5)
		_, _ = screen.Write([]byte(out.String()))
		if x, y := screen.Cursor(); x != 0 || y != 1 || len(screen.All()) > 1 {
			t.Errorf("after Close the cursor is in column %d of line %d: %q", x, y, screen.All())
		}
	})
}

func BenchmarkUpdate(b *testing.B) {
	d := New(new(discard), Options{Terminal: true, Color: true, Now: func() time.Time { return at(0) }})
	s := full()
	b.ReportAllocs()
	for b.Loop() {
		s.Note, s.Done = "other"[:s.Done%2*5], s.Done+1 // draws every time
		d.Update(s)
	}
}

type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }
