package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
)

// done is the result of request n: received when the tests begin, decided so many
// milliseconds later.
func done(n, decidedMs int, o events.Outcome, edit ...func(*events.Completed)) events.Completed {
	data := asked(n)
	c := events.Completed{
		Request: events.RequestRef{ID: fmt.Sprint("e", n), Source: "ops", Data: &data}, Outcome: o, Attempts: 1, Pushes: 1, Durable: true,
		ReceivedAt: began, DecidedAt: began.Add(time.Duration(decidedMs) * time.Millisecond), WaitMs: int64(decidedMs) - 50, CallMs: 50,
	}
	for _, e := range edit {
		e(&c)
	}
	return c
}

func coded(code string) func(*events.Completed) { return func(c *events.Completed) { c.Code = code } }

func again(generation int) func(*events.Completed) {
	return func(c *events.Completed) { c.Request.Data.Generation = generation }
}

// anew is another request for the same message.
func anew(c *events.Completed) { c.Request.ID += "-again" }

func requested(t testing.TB, n int) string {
	t.Helper()
	data, err := json.Marshal(asked(n))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(events.Event{ID: fmt.Sprint("e", n), Source: "ops", Type: events.TypeMessageRequested, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw) + "\n"
}

func own(t testing.TB, c events.Completed) string {
	t.Helper()
	return line(t, events.SourceRepush, c)
}

func read(t testing.TB, inputs ...string) *Results {
	t.Helper()
	var r Results
	for i, in := range inputs {
		if err := r.Read(strings.NewReader(in), fmt.Sprint("file", i)); err != nil {
			t.Fatal(err)
		}
	}
	return &r
}

func report(t testing.TB, inputs ...string) Report {
	t.Helper()
	return New(read(t, inputs...), Options{Now: began})
}

// TestReadsEveryForm: what was read is what counts, whatever stands around it.
func TestReadsEveryForm(t *testing.T) {
	t.Parallel()
	one, two := own(t, done(1, 100, events.Pushed)), own(t, done(2, 200, events.Failed))
	type want struct {
		Outcomes   map[events.Outcome]int
		PassedOver int
		Problems   []string
	}
	both := map[events.Outcome]int{events.Pushed: 1, events.Failed: 1}
	for name, test := range map[string]struct {
		inputs []string
		want   want
	}{
		"nothing":                       {[]string{""}, want{Outcomes: map[events.Outcome]int{}}},
		"JSON Lines":                    {[]string{one + two}, want{Outcomes: both}},
		"a byte order mark":             {[]string{"\ufeff" + one + two}, want{Outcomes: both}},
		"no newline at the end":         {[]string{one + strings.TrimSpace(two)}, want{Outcomes: both}},
		"CRLF and empty lines":          {[]string{strings.ReplaceAll(one+"\n\n"+two, "\n", "\r\n")}, want{Outcomes: both}},
		"two files, one result in both": {[]string{one + two, one}, want{Outcomes: both}},
		"log lines and other JSON": {[]string{"[info] START\n" + `{"level":"info","msg":"` + events.TypeMessageCompleted + `"}` + "\n" + one + "12\n" + two},
			want{Outcomes: both, PassedOver: 3}},
		"a state file": {[]string{`{"run":{"state":1}}` + "\n" + requested(t, 1) + requested(t, 2) + requested(t, 3) + requested(t, 4) + `{"begun":"e1"}` + "\n" + `{"begun":"e3"}` + "\n" + one + two},
			want{Outcomes: map[events.Outcome]int{events.Pushed: 1, events.Failed: 1, InDoubt: 1, NoResult: 1}}},
		"asked in one file, answered in the other": {[]string{requested(t, 1), one}, want{Outcomes: map[events.Outcome]int{events.Pushed: 1}}},
		"cut in the middle": {[]string{one + two[:len(two)/2]},
			want{Outcomes: map[events.Outcome]int{events.Pushed: 1}, Problems: []string{"file0: line 2: looks like a result event and is none: event: not valid JSON"}}},
		"a state file that a kill has cut": {[]string{`{"run":{}}` + "\n" + requested(t, 1) + requested(t, 2) + `{"begun":"e2"}` + "\n" + one + two[:len(two)/2]},
			want{Outcomes: map[events.Outcome]int{events.Pushed: 1, InDoubt: 1}}},
		"an envelope": {[]string{`{"detail":` + strings.TrimSpace(one) + `}`},
			want{Outcomes: map[events.Outcome]int{}, Problems: []string{"file0: line 1: looks like a result event and is none: specversion: is required; id: is required; source: is required; type: is required"}}},
		"a line too long": {[]string{one + strings.Repeat("x", MaxLine+1) + "\n" + two},
			want{Outcomes: both, Problems: []string{"file0: line 2: looks like a result event and is none: longer than 1 MiB"}}},
		"an outcome nobody knows": {[]string{strings.Replace(one, `"pushed"`, `"shoved"`, 1)},
			want{Outcomes: map[events.Outcome]int{}, Problems: []string{"file0: line 1: looks like a result event and is none: data: a result needs an outcome, decidedAt and its request's id and source"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := report(t, test.inputs...)
			if diff := cmp.Diff(test.want, want{r.Outcomes, r.PassedOver, r.problems}); diff != "" {
				t.Error(diff)
			}
			if r.Wrong != len(test.want.Problems) {
				t.Errorf("%d wrong", r.Wrong)
			}
		})
	}
}

// TestReadFails: an input that ends in an error is never taken for a whole one.
func TestReadFails(t *testing.T) {
	t.Parallel()
	one := own(t, done(1, 100, events.Pushed))
	for name, in := range map[string]io.Reader{
		"at once":  iotest.ErrReader(errors.New("disk")),
		"half-way": io.MultiReader(strings.NewReader(one), iotest.ErrReader(errors.New("disk"))),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r Results
			if err := r.Read(in, "in"); err == nil || !strings.HasPrefix(err.Error(), "in: ") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestAFunctionsOwnResultWins: in whatever order they come, what the command line made
// of an answer gives way.
func TestAFunctionsOwnResultWins(t *testing.T) {
	t.Parallel()
	mine := own(t, done(1, 150, events.Pushed))
	answer := line(t, "repush/inject/anna", done(1, 900, events.Pushed, func(c *events.Completed) { c.CallMs, c.WaitMs, c.Durable = 0, 0, false }))
	for name, in := range map[string]string{"first": mine + answer, "last": answer + mine} {
		if r := report(t, in); r.Asked != 1 || r.Call.Count != 1 || r.Call.Max != 50 || r.NotDurable != 0 || !r.To.Equal(began.Add(150*time.Millisecond)) {
			t.Errorf("%s: %+v", name, r.Summary)
		}
	}
	if r := report(t, answer); r.Asked != 1 || r.Call.Count != 0 || r.NotDurable != 0 || r.Outcomes[events.Pushed] != 1 {
		t.Errorf("alone: %+v", r.Summary)
	}
}

// TestSummary: figures worked out by hand. Pushes began at 0, 100, 200, 1,000 and
// 2,000 ms: 4 gaps in 2 s are 2/s, a fifth of 10/s; three in the first second.
func TestSummary(t *testing.T) {
	t.Parallel()
	var in strings.Builder
	for i, at := range []int{50, 150, 250, 1050} {
		in.WriteString(own(t, done(i, at, events.Pushed)))
	}
	in.WriteString(own(t, done(5, 17_000, events.Unknown, func(c *events.Completed) { c.CallMs, c.WaitMs, c.MaybeDuplicate = 15_000, 2000, true })))
	in.WriteString(own(t, done(6, 300, events.Failed, func(c *events.Completed) { c.Attempts, c.Durable, c.CallMs = 3, false, 70 })))
	in.WriteString(own(t, done(7, 400, events.Rejected, func(c *events.Completed) { c.Attempts, c.Pushes = 0, 0 })))
	in.WriteString(own(t, done(8, 9000, events.Failed, coded("Interrupted"))))
	in.WriteString(requested(t, 9))
	got := report(t, in.String()).Summary
	want := Summary{
		Asked:        9,
		Outcomes:     map[events.Outcome]int{events.Pushed: 4, events.Unknown: 1, events.Failed: 2, events.Rejected: 1, NoResult: 1},
		FromFunction: 8, Calls: 9, MaybeDuplicate: 1, NotDurable: 1, From: began, To: began.Add(17 * time.Second),
		PerSecond: 2, Peak: 3, QPS: 10, QuotaShare: 0.2,
		Wait: Distribution{Count: 6, P50: 200, P95: 2000, P99: 2000, Max: 2000},
		Call: Distribution{Count: 6, P50: 50, P95: 15_000, P99: 15_000, Max: 15_000},
		Left: 4, Again: 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestPace: pauses are no part of it, and are told.
func TestPace(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		qps       float64
		decided   []int
		perSecond float64
		idleMs    int64
	}{
		"none":                         {10, nil, 0, 0},
		"one":                          {10, []int{50}, 0, 0},
		"no pause":                     {10, []int{0, 500, 1000}, 2, 0},
		"a pause":                      {10, []int{0, 500, 1000, 19_000, 19_500, 20_000}, 2, 18_000},
		"nothing but pauses":           {10, []int{0, 60_000, 120_000}, 0, 120_000},
		"what a slow quota takes":      {0.1, []int{0, 20_000, 40_000}, 0.05, 0},
		"a pause at that":              {0.1, []int{0, 20_000, 60_000, 80_000}, 0.05, 40_000},
		"more time than there can be":  {10, []int{0, math.MaxInt64 / 1_000_001}, 0, maxMs},
		"several at the same instants": {10, []int{0, 0, 1000, 1000}, 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var in strings.Builder
			for i, at := range test.decided {
				in.WriteString(own(t, done(i, at, events.Pushed)))
			}
			r := New(read(t, in.String()), Options{QPS: test.qps})
			if r.PerSecond != test.perSecond || r.IdleMs != test.idleMs || r.QuotaShare != test.perSecond/test.qps {
				t.Errorf("%v/s, %v of the quota, %d ms idle", r.PerSecond, r.QuotaShare, r.IdleMs)
			}
			var out strings.Builder
			if err := r.WriteText(&out); err != nil || strings.Contains(out.String(), "of pauses") != (test.idleMs > 0 && test.perSecond > 0) {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}

// TestOfTheRun: its reason and its quota are those of the report, unless they are given.
func TestOfTheRun(t *testing.T) {
	t.Parallel()
	run := func(header string) string { return `{"run":` + header + "}\n" + requested(t, 1) }
	for name, test := range map[string]struct {
		inputs []string
		given  Options
		title  string
		qps    float64
	}{
		"no run":           {[]string{requested(t, 1)}, Options{}, "Repush report", 10},
		"a run":            {[]string{run(`{"id":"inject-1","reason":"ticket 4711","qps":50,"target":{"to":"local"}}`)}, Options{}, "ticket 4711", 50},
		"given":            {[]string{run(`{"reason":"ticket 4711","qps":50}`)}, Options{Title: "t", QPS: 5}, "t", 5},
		"two":              {[]string{run(`{"reason":"a","qps":50}`), run(`{"reason":"b","qps":20}`)}, Options{}, "a", 50},
		"a quota of no":    {[]string{run(`{"reason":"a","qps":1e-300}`)}, Options{}, "a", 10},
		"a quota of huge":  {[]string{run(`{"reason":"\u001b[31m","qps":1e300}`)}, Options{}, " [31m", 100_000},
		"a header of none": {[]string{run(`{"reason":7}`)}, Options{}, "Repush report", 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if r := New(read(t, test.inputs...), test.given); r.Title != test.title || r.QPS != test.qps || r.Asked != 1 || r.PassedOver+r.Wrong != 0 {
				t.Errorf("%q, %v: %+v", r.Title, r.QPS, r.Summary)
			}
		})
	}
}

// TestTooMany: more than the limit is an error, as much is none.
func TestTooMany(t *testing.T) {
	t.Parallel()
	one, two := own(t, done(1, 1, events.Pushed)), own(t, done(2, 1, events.Pushed))
	for left, tooMany := range map[int]bool{2: false, 1: true} {
		r := Results{requests: make([]request, 100_000), told: make([]*result, 100_000-left)}
		if err := r.Read(strings.NewReader(one+two), "in"); (err != nil && strings.Contains(err.Error(), "more than 200000 requests and results")) != tooMany {
			t.Errorf("%d left: %v", left, err)
		}
	}
}

func TestDistributionIsByNearestRank(t *testing.T) {
	t.Parallel()
	var all []int64
	for i := range int64(200) {
		all = append(all, i+1)
	}
	if got, want := distribution(all), (Distribution{Count: 200, P50: 100, P95: 190, P99: 198, Max: 200}); got != want {
		t.Errorf("%+v", got)
	}
	if got, want := distribution(all[:1]), (Distribution{Count: 1, P50: 1, P95: 1, P99: 1, Max: 1}); got != want {
		t.Errorf("%+v", got)
	}
}

// TestLeftovers: what is pushed again without a word surely was not; what may have
// been is kept apart.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	duplicate := func(first events.Outcome, late string) string {
		return own(t, done(1, 500, events.Duplicate, anew, func(c *events.Completed) {
			c.First = &events.First{EventID: "e0", Outcome: first, DecidedAt: began, Late: late}
		}))
	}
	of := func(o events.Outcome, edit ...func(*events.Completed)) string {
		return own(t, done(1, 100, o, edit...))
	}
	dry := func(c *events.Completed) { c.Request.Data.DryRun = true }
	for name, test := range map[string]struct {
		input       string
		left, again []int // generations, as inject reads them
	}{
		"pushed":                                {of(events.Pushed), nil, nil},
		"failed":                                {of(events.Failed), []int{0}, nil},
		"abandoned":                             {of(events.Abandoned), []int{0}, nil},
		"pushed as often as is allowed":         {of(events.Abandoned, coded("MaxPushes")), nil, nil},
		"cancelled":                             {of(events.Cancelled), nil, nil},
		"cancelled, and failed by another":      {of(events.Cancelled) + of(events.Failed, anew), []int{0}, nil},
		"unknown, and another in doubt":         {requested(t, 1) + `{"begun":"e1"}` + "\n" + of(events.Unknown, anew), nil, nil},
		"failed, and another in doubt":          {requested(t, 1) + `{"begun":"e1"}` + "\n" + of(events.Failed, anew), nil, nil},
		"rejected":                              {of(events.Rejected), []int{0}, nil},
		"expired by its own notAfter":           {of(events.Expired, coded("NotAfter")), []int{0}, nil},
		"expired with the message":              {of(events.Expired, coded("TooOld")), nil, nil},
		"simulated":                             {of(events.Simulated), nil, nil},
		"failed in a dry run":                   {of(events.Failed, dry), nil, nil},
		"unknown":                               {of(events.Unknown), nil, []int{2}},
		"unknown of generation 3":               {of(events.Unknown, again(3)), nil, []int{4}},
		"unknown of the last generation":        {of(events.Unknown, again(events.MaxGeneration)), nil, nil},
		"no result, not begun":                  {requested(t, 1), []int{0}, nil},
		"no result, begun":                      {requested(t, 1) + `{"begun":"e1"}`, nil, nil},
		"begun and given back":                  {requested(t, 1) + `{"begun":"e1"}` + "\n" + `{"givenBack":"e1"}`, []int{0}, nil},
		"begun and parked by the function":      {requested(t, 1) + `{"begun":"e1"}` + "\n" + `{"parked":"e1"}`, nil, nil},
		"handed over to a queue":                {requested(t, 1) + `{"handedOver":"e1"}`, nil, nil},
		"parked, and failed by another":         {requested(t, 1) + `{"parked":"e1"}` + "\n" + of(events.Failed, anew), nil, nil},
		"parked and then decided":               {requested(t, 1) + `{"parked":"e1"}` + "\n" + of(events.Failed), []int{0}, nil},
		"failed and pushed by another":          {of(events.Failed) + of(events.Pushed, anew), nil, nil},
		"failed and unknown by another":         {of(events.Failed) + of(events.Unknown, anew), nil, []int{2}},
		"unknown, and pushed by a higher one":   {of(events.Unknown) + of(events.Pushed, anew, again(2)), nil, nil},
		"pushed, and a higher one failed":       {of(events.Pushed) + of(events.Failed, anew, again(2)), []int{2}, nil},
		"failed twice":                          {of(events.Failed) + of(events.Abandoned, anew, again(2)), []int{2}, nil},
		"unknown twice":                         {of(events.Unknown) + of(events.Unknown, anew, again(2)), nil, []int{3}},
		"a duplicate of pushed":                 {of(events.Failed) + duplicate(events.Pushed, ""), nil, nil},
		"a duplicate of unknown":                {duplicate(events.Unknown, ""), nil, []int{2}},
		"a duplicate of unknown, later pushed":  {of(events.Unknown) + duplicate(events.Unknown, "pushed"), nil, nil},
		"the message's id in another case":      {of(events.Failed) + of(events.Pushed, anew, func(c *events.Completed) { c.Request.Data.MsgID = strings.ToLower(c.Request.Data.MsgID) }), nil, nil},
		"failed, the same message of another g": {of(events.Failed) + of(events.Pushed, anew, func(c *events.Completed) { c.Request.Data.GroupID = "GID_other" }), []int{0}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := report(t, test.input)
			generations := func(all []events.Requested) (n []int) {
				for _, q := range all {
					n = append(n, q.Generation)
				}
				return n
			}
			if diff := cmp.Diff([][]int{test.left, test.again}, [][]int{generations(r.Leftovers()), generations(r.Unknowns())}); diff != "" {
				t.Error(diff)
			}
			if r.Left != len(test.left) || r.Again != len(test.again) {
				t.Errorf("counted %d and %d", r.Left, r.Again)
			}
		})
	}
}

// TestLeftoversAsInput: what inject reads has what identifies the message, and nothing
// of the old request that would stand in the way.
func TestLeftoversAsInput(t *testing.T) {
	t.Parallel()
	full := done(1, 100, events.Failed, func(c *events.Completed) {
		d := c.Request.Data
		d.ClientID, d.OffsetID, d.OnUnknown, d.Generation, d.NotAfter, d.Unconsumed = "host@1@n", strings.Repeat("A1", 16), events.Hold, 2, began, true
	})
	nobody := done(2, 100, events.Rejected, func(c *events.Completed) { c.Request.Data = nil })
	r := report(t, own(t, full)+own(t, nobody)+own(t, done(3, 100, events.Failed)))
	d := full.Request.Data
	want := []events.Requested{
		{InstanceID: d.InstanceID, Topic: d.Topic, GroupID: d.GroupID, MsgID: d.MsgID, ClientID: d.ClientID, OffsetID: d.OffsetID, OnUnknown: d.OnUnknown, Generation: 2, StoredAt: d.StoredAt, Unconsumed: true},
		{InstanceID: d.InstanceID, Topic: asked(3).Topic, GroupID: d.GroupID, MsgID: asked(3).MsgID, StoredAt: asked(3).StoredAt},
	}
	if diff := cmp.Diff(want, r.Leftovers()); diff != "" || r.Unnamed != 1 {
		t.Error(diff, r.Unnamed)
	}
	var out bytes.Buffer
	if err := WriteCSV(&out, r.Leftovers()); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	wantRows := [][]string{
		{"instanceId", "topic", "groupId", "msgId", "storedAt", "clientId", "offsetId", "onUnknown", "generation", "unconsumed"},
		{d.InstanceID, d.Topic, d.GroupID, d.MsgID, "2026-11-22T09:59:59Z", "host@1@n", d.OffsetID, "hold", "2", "true"},
		{d.InstanceID, asked(3).Topic, d.GroupID, asked(3).MsgID, "2026-11-22T09:59:57Z", "", "", "", "1", ""},
	}
	if diff := cmp.Diff(wantRows, rows); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestSpreadsheetsRunNothing: what a spreadsheet would take for a formula is in no
// exported cell, as only fields that keep their rule get there.
func TestSpreadsheetsRunNothing(t *testing.T) {
	t.Parallel()
	found := 0
	for _, text := range []string{"=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", `"=1`, "a,b", "a\nb"} {
		for field, at := range map[string]func(*events.Requested) *string{
			"instanceId": func(d *events.Requested) *string { return &d.InstanceID }, "topic": func(d *events.Requested) *string { return &d.Topic },
			"clientId": func(d *events.Requested) *string { return &d.ClientID }, "offsetId": func(d *events.Requested) *string { return &d.OffsetID },
			"onUnknown": func(d *events.Requested) *string { return (*string)(&d.OnUnknown) },
		} {
			found++
			in, err := json.Marshal(map[string]any{"specversion": "1.0", "id": "1", "source": events.SourceRepush, "type": events.TypeMessageCompleted, "data": func() any {
				c := done(1, 100, events.Failed)
				*at(c.Request.Data) = text
				return c
			}()})
			if err != nil {
				t.Fatal(err)
			}
			harmless := field == "clientId" && text == "-2+3" // calls nothing
			if r := report(t, string(in)); (len(r.Leftovers()) == 0) == harmless || (r.Unnamed == 0) != harmless {
				t.Errorf("%s %q: %+v", field, text, r.Leftovers())
			}
		}
	}
	if found == 0 {
		t.Error("nothing was tried")
	}
}

// TestCauses: one line for each outcome and code, what needs a person first. What was
// maybe given twice has a line, and advice, of its own.
func TestCauses(t *testing.T) {
	t.Parallel()
	says := func(message, hint string) func(*events.Completed) {
		return func(c *events.Completed) { c.Code, c.Message, c.Hint = "C", message, hint }
	}
	r := report(t, own(t, done(1, 1, events.Pushed))+own(t, done(2, 2, events.Failed, coded("A")))+own(t, done(3, 3, events.Failed, says("m", "h")))+
		own(t, done(4, 4, events.Failed, says("m", "h")))+own(t, done(5, 5, events.Failed, says("n", "h")))+own(t, done(6, 6, events.Unknown))+
		own(t, done(7, 7, events.Pushed, func(c *events.Completed) { c.MaybeDuplicate = true })))
	want := []cause{{Fate: events.Unknown, Count: 1, Hint: hint(events.Unknown)}, {Fate: events.Failed, Code: "C", Count: 3, Message: "m", Hint: "h", Others: 1}, {Fate: events.Failed, Code: "A", Count: 1, Hint: hint(events.Failed)}, {Fate: events.Pushed, Count: 1},
		{Fate: events.Pushed, Twice: true, Count: 1, Message: "the consumer may have it twice", Hint: "compare with the consumer's own records, where a second delivery hurts"}}
	if diff := cmp.Diff(want, r.causes); diff != "" {
		t.Error(diff)
	}
}

func TestFatesAreAll(t *testing.T) {
	t.Parallel()
	all := append(events.Outcomes(), InDoubt, UnderWay, NoResult)
	known := make(map[events.Outcome]bool)
	for _, fate := range Fates() {
		known[fate] = true
	}
	for _, o := range all {
		if !known[o] {
			t.Errorf("%s is missing", o)
		}
	}
	if len(known) != len(all) || len(Fates()) != len(all) || len(tiles()) != len(all) || tiles()[0] != events.Pushed {
		t.Errorf("%d, %v", len(known), tiles())
	}
}

// TestCharts: every push and every time is in one bar, inside the plot; no time stands
// below two places of it, and no mean is said that is not known.
func TestCharts(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		decided []int
		bars    int
	}{
		"none":             {nil, 0},
		"one":              {[]int{50}, 1},
		"a second":         {[]int{50, 150, 1050}, 2},
		"two minutes":      {[]int{50, 120_050}, 61},
		"a day":            {[]int{50, 86_400_050}, 97},
		"three centuries":  {[]int{50, math.MaxInt64 / 1_000_001}, 120},
		"before its call":  {[]int{0, 10}, 1},
		"the same instant": {[]int{50, 50, 50}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var in strings.Builder
			for i, at := range test.decided {
				in.WriteString(own(t, done(i, at, events.Pushed)))
			}
			r := report(t, in.String())
			c := r.rateChart()
			if len(c.Bars) != test.bars || c.Says == "" {
				t.Errorf("%d bars, want %d: %s", len(c.Bars), test.bars, c.Says)
			}
			if strings.Contains(c.Says, "average") != (r.PerSecond > 0) {
				t.Errorf("%g a second: %s", r.PerSecond, c.Says)
			}
			for i := range c.X[min(1, len(c.X)):] {
				if c.X[i].Text == c.X[i+1].Text || c.X[i].At >= c.X[i+1].At {
					t.Errorf("times %+v", c.X)
				}
			}
			for _, b := range append(c.Bars, timeChart("", r.waits, r.Wait).Bars...) {
				if !(b.X >= 0 && b.X+b.Width <= 100 && b.Height >= 0 && b.Height <= 100) {
					t.Errorf("outside: %+v", b)
				}
			}
		})
	}
	times := timeChart("t", []int64{0, 1, 9, 10, 99, 1000}, distribution([]int64{0, 1, 9, 10, 99, 1000}))
	var said []string
	for _, b := range times.Bars {
		if b.Height > 0 {
			said = append(said, b.Text)
		}
	}
	want := []string{"1 ms to 2 ms: 2", "6 ms to 10 ms: 1", "10 ms to 16 ms: 1", "63 ms to 100 ms: 1", "1 s to 1.59 s: 1"}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
}

func FuzzRead(f *testing.F) {
	one := own(f, done(1, 100, events.Pushed))
	f.Add([]byte(one + requested(f, 2) + `{"begun":"e2"}` + "\n" + `{"run":{}}`))
	f.Add([]byte(`{"begun":"","type":"repush:Message:Completed"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var results Results
		_ = results.Read(bytes.NewReader(raw), "in")
		r := New(&results, Options{})
		total := 0
		for _, n := range r.Outcomes {
			total += n
		}
		if total != r.Asked || r.Left+r.Again > r.Asked {
			t.Errorf("%+v", r.Summary)
		}
		for name, write := range map[string]func(io.Writer) error{"Markdown": r.WriteMarkdown, "text": r.WriteText} {
			if err := write(io.Discard); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if r.Asked > 0 { // the page takes its time
			if err := r.WriteHTML(io.Discard); err != nil {
				t.Error(err)
			}
		}
		for _, q := range append(r.Leftovers(), r.Unknowns()...) {
			q.Reason = "why"
			if err := q.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
