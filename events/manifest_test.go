package events

import (
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// manifest is a whole one of n messages that leaves out as many for each of two
// reasons.
func manifest(n int) Planned {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	p := Planned{
		OperationID: "op-1", IncidentID: "incident-1", InstanceID: "MQ_INST_1", GroupID: "GID_a", Source: DeadLetters, CutOff: at,
		Count: n, Calls: map[string]int{"OnsDLQMessagePageQueryByGroupId": 3, "OnsMessageGetByMsgId": 1},
	}
	for i := range n {
		p.Entries = append(p.Entries, Entry{Topic: "orders", MsgID: fmt.Sprintf("%032X", i), OffsetID: fmt.Sprintf("%032x", i), StoredAt: at.Add(time.Duration(i)), Generation: 1 + i%3, Copies: i % 2})
	}
	p.SHA256 = ManifestHash(p.Entries)
	for of, reason := range []string{"no origin", "pushed already"} {
		out := LeftOut{Reason: reason, Count: n + 1}
		for i := range n {
			out.MsgIDs = append(out.MsgIDs, fmt.Sprintf("%031x%x", i, 10+of))
		}
		p.LeftOut = append(p.LeftOut, out)
	}
	return p
}

// TestPartsFitAndMakeTheManifestAgain, whatever its size; and what fits as base64
// into 64 KB leaves through every sink.
func TestPartsFitAndMakeTheManifestAgain(t *testing.T) {
	t.Parallel()
	for n, least := range map[int]int{0: 1, 1: 1, 100: 1, 300: 2, 10_000: 40} {
		whole := manifest(n)
		parts := Parts(whole)
		if len(parts) < least {
			t.Errorf("%d messages: %d parts, want at least %d", n, len(parts), least)
		}
		var arrived []Planned
		ids := make(map[string]bool)
		for i, part := range parts {
			e, err := NewPlanned(part, "", time.Time{})
			if err != nil {
				t.Fatalf("%d messages: %v", n, err)
			}
			raw := encode(t, e)
			if got := base64.StdEncoding.EncodedLen(len(raw)); got > 64<<10 {
				t.Errorf("%d messages, part %d: %d bytes of base64", n, i, got)
			}
			if i < len(parts)-1 && len(raw) < MaxPartBytes-1500 {
				t.Errorf("%d messages, part %d of %d: only %d bytes", n, i, len(parts), len(raw))
			}
			_, data, err := decodeAll(TypePlanCompleted, raw)
			if err != nil {
				t.Fatalf("%d messages: %v", n, err)
			}
			ids[e.ID] = true
			arrived = append(arrived, data.(Planned), data.(Planned)) // at least once
		}
		if len(ids) != len(parts) {
			t.Errorf("%d messages: %d ids of %d parts", n, len(ids), len(parts))
		}
		slices.Reverse(arrived)
		got, err := Manifest(arrived...)
		if err != nil {
			t.Fatalf("%d messages: %v", n, err)
		}
		if !reflect.DeepEqual(whole, got) {
			t.Errorf("%d messages, -planned +arrived:\n%s", n, cmp.Diff(whole, got))
		}
		if !reflect.DeepEqual(parts, Parts(got)) {
			t.Errorf("%d messages are split in another way again", n)
		}
	}
}

// TestEntriesComeFirst: once ids of what is left out begin, no entries follow.
func TestEntriesComeFirst(t *testing.T) {
	t.Parallel()
	parts := Parts(manifest(3000))
	begun, named := 0, make(map[string]int)
	for _, part := range parts {
		if begun > 0 && len(part.Entries) > 0 {
			t.Errorf("part %d has entries, and part %d had ids", part.Part, begun)
		}
		if len(part.LeftOut) != 2 || part.LeftOut[0].Count != 3001 || part.LeftOut[1].Reason != "pushed already" {
			t.Errorf("part %d does not say what is left out: %d reasons", part.Part, len(part.LeftOut))
		}
		for _, out := range part.LeftOut {
			for _, id := range out.MsgIDs {
				begun = part.Part
				named[id]++
			}
		}
	}
	if begun == 0 || len(named) != 6000 || slices.Max(slices.Collect(maps.Values(named))) != 1 {
		t.Errorf("%d ids are named, want each of 6000 once", len(named))
	}
}

// TestPartsKeepTheirSizeWhateverTheTexts: the longest texts of characters that
// take most in JSON, and as many reasons and calls as allowed, leave room.
func TestPartsKeepTheirSizeWhateverTheTexts(t *testing.T) {
	t.Parallel()
	whole := manifest(1000)
	dearest := strings.Repeat("\u2028", 3000) // six bytes each, escaped
	whole.Reason, whole.RequestedBy, whole.Code, whole.Message, whole.Incomplete = dearest, dearest, dearest, dearest, dearest
	whole.OperationID, whole.IncidentID = strings.Repeat("o", 128), strings.Repeat("i", 128)
	whole.InstanceID, whole.GroupID, whole.Topic = strings.Repeat("i", 64), strings.Repeat("g", 64), strings.Repeat("t", 64)
	for len(whole.LeftOut) < leftOutRule.most {
		whole.LeftOut = append(whole.LeftOut, LeftOut{Count: 1e9})
	}
	for i := range whole.LeftOut {
		whole.LeftOut[i].Reason = dearest[:3*leftOutRule.max]
	}
	for i := range callRule.most - len(whole.Calls) {
		whole.Calls[strings.Repeat("O", 38)+fmt.Sprintf("%02d", i)] = 1e9
	}
	head := whole.head()
	head.clip()
	if n := size(head); n > MaxPartBytes*2/3 {
		t.Errorf("what all parts share takes %d bytes", n)
	}
	var arrived []Planned
	for _, part := range Parts(whole) {
		e, err := NewPlanned(part, "", time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(encode(t, e)); n > MaxPartBytes {
			t.Errorf("part %d has %d bytes", part.Part, n)
		}
		arrived = append(arrived, part)
	}
	if got, err := Manifest(arrived...); err != nil || len(got.Entries) != 1000 {
		t.Errorf("%d entries, error %v", len(got.Entries), err)
	}
	if whole.Reason != dearest || len(whole.LeftOut[0].MsgIDs) != 1000 {
		t.Error("Parts changed its argument")
	}
}

func TestPartsNameEachIDOnce(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("a", 32)
	parts := Parts(Planned{Message: "m", LeftOut: []LeftOut{{Reason: "r", Count: 3, MsgIDs: []string{id, strings.ToUpper(id), id}}, {Reason: "s", Count: 1, MsgIDs: []string{id}}}})
	want := []LeftOut{{Reason: "r", Count: 3, MsgIDs: []string{id}}, {Reason: "s", Count: 1, MsgIDs: []string{id}}}
	if len(parts) != 1 {
		t.Fatalf("%d parts", len(parts))
	}
	if diff := cmp.Diff(want, parts[0].LeftOut); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err := parts[0].Validate(); err != nil {
		t.Error(err)
	}
}

// TestManifestTellsWhatIsWrong: every way in which parts do not make a manifest.
func TestManifestTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func([]Planned) []Planned
		err   string
	}{
		"nothing at all":       {func([]Planned) []Planned { return nil }, "manifest: 0 of its 0 parts are there"},
		"the first is missing": {func(p []Planned) []Planned { return p[1:] }, "manifest: part 1 of 4 is missing, "},
		"one is missing":       {func(p []Planned) []Planned { return slices.Delete(p, 1, 3) }, "manifest: part 2 of 4 is missing, "},
		"the last is missing":  {func(p []Planned) []Planned { return p[:3] }, "manifest: 3 of its 4 parts are there"},
		"one too many": {func(p []Planned) []Planned {
			more := p[3]
			more.Part = 5
			return append(p, more)
		}, "manifest: 5 of its 4 parts are there"},
		"one of another cut-off": {func(p []Planned) []Planned {
			p[2].CutOff = p[2].CutOff.Add(1)
			return p
		}, "manifest: part 3 of 4 is missing, there twice with a difference, or of another manifest"},
		"one of another operation": {func(p []Planned) []Planned {
			p[3].OperationID = "op-2"
			return p
		}, "manifest: part 4 of 4 is missing, there twice with a difference, or of another manifest"},
		"one with other reasons": {func(p []Planned) []Planned {
			p[1].LeftOut = p[1].LeftOut[:1]
			return p
		}, "manifest: part 2 of 4 is missing, "},
		"one with more reasons": {func(p []Planned) []Planned {
			p[1].LeftOut = append(p[1].LeftOut, LeftOut{Reason: "r"})
			return p
		}, "manifest: part 2 of 4 is missing, "},
		"two that differ": {func(p []Planned) []Planned {
			other := p[1]
			other.Entries = other.Entries[1:]
			return append(p, other)
		}, "manifest: part 3 of 4 is missing, there twice"},
		"an entry is missing": {func(p []Planned) []Planned {
			p[0].Entries = p[0].Entries[1:]
			return p
		}, "manifest: it says that it has 650 messages, and has 649"},
		"another message": {func(p []Planned) []Planned {
			p[0].Entries[7].MsgID = strings.Repeat("F", 32)
			return p
		}, "manifest: its messages are not those that were planned: their hash is "},
		"another order": {func(p []Planned) []Planned {
			slices.Reverse(p[0].Entries)
			return p
		}, "manifest: its messages are not those that were planned: their hash is "},
		"another generation": {func(p []Planned) []Planned {
			p[0].Entries[0].Generation++
			return p
		}, "manifest: its messages are not those that were planned: their hash is "},
		"nothing": {func(p []Planned) []Planned { return p }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parts := Parts(manifest(650))
			if len(parts) != 4 {
				t.Fatalf("%d parts: the test wants four", len(parts))
			}
			_, err := Manifest(test.spoil(parts)...)
			if text := textOfError(err); test.err == "" && text != "" || !strings.HasPrefix(text, test.err) {
				t.Errorf("error %q, want %q", text, test.err)
			}
		})
	}
}

// TestManifestHash: others must be able to compute it.
func TestManifestHash(t *testing.T) {
	t.Parallel()
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	if got := ManifestHash(nil); got != empty {
		t.Errorf("of nothing: %s", got)
	}
	lower := []Entry{{Topic: "orders", MsgID: "c0a8010a00002a9f0000000000a1b2c3", Generation: 2}, {Topic: "a", MsgID: "AB", Generation: 1}}
	got := ManifestHash(lower)
	// printf 'orders/C0A8010A00002A9F0000000000A1B2C3/2\na/AB/1\n' | sha256sum
	if want := "a7de879d45d79bb208d5a0eed67f18f35b6a536ab92d65704c42080b3e8c4a2a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	lower[0].MsgID, lower[0].Copies, lower[0].OffsetID = strings.ToUpper(lower[0].MsgID), 5, "x"
	if ManifestHash(lower) != got {
		t.Error("case, copies or the other id change the hash")
	}
}

func TestNewPlanned(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	whole := Parts(manifest(1))[0]
	none := Planned{InstanceID: "i", GroupID: "GID_a", Code: "Budget", Message: "used up", Part: 1, Parts: 1}
	e, err := NewPlanned(whole, "ops/anna 1", at)
	if err != nil {
		t.Fatal(err)
	}
	want := Event{ID: e.ID, Source: "ons-repush/plan", Type: TypePlanCompleted, Subject: "MQ_INST_1/GID_a", Time: whole.CutOff, Data: e.Data}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if e.ID != "02f854d02c93a6200abf3d3d132e489a" {
		t.Errorf("the id of a known part became %s: parts sent before are no longer recognised", e.ID)
	}
	ids := map[string]string{e.ID: "a manifest"}
	for what, of := range map[string]struct {
		part    Planned
		request string
	}{
		"another part":      {func() Planned { p := whole; p.Part, p.Parts = 2, 2; return p }(), ""},
		"another operation": {func() Planned { p := whole; p.OperationID = "op-2"; return p }(), ""},
		"no manifest":       {none, "ops/anna 1"},
		"another request":   {none, "ops/anna 2"},
		"a request that is named like an operation": {none, "op-1"},
	} {
		e, err := NewPlanned(of.part, of.request, at)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if other, taken := ids[e.ID]; taken || len(e.ID) != 32 {
			t.Errorf("%s and %s have the id %q", what, other, e.ID)
		}
		ids[e.ID] = what
		if of.part.CutOff.IsZero() && !e.Time.Equal(at) {
			t.Errorf("%s: time %s, want that of the caller", what, e.Time)
		}
	}
	if again, _ := NewPlanned(whole, "another", at.Add(1)); again.ID != e.ID {
		t.Error("a manifest's id depends on who asked")
	}
	none.CutOff = whole.CutOff
	if e, err := NewPlanned(none, "ops/anna 1", at); err != nil || !e.Time.Equal(whole.CutOff) {
		t.Errorf("no manifest, with a cut-off: time %s, error %v", e.Time, err)
	}
}

func TestNewPlannedRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil func(*Planned)
		err   string
	}{
		"a whole manifest":           {func(p *Planned) { p.Part, p.Parts = 0, 0 }, "part: must be a whole number from 1 to 10000; parts: must be"},
		"too much for one part":      {func(p *Planned) { *p = manifest(500); p.Part, p.Parts = 1, 1 }, "it needs an operation or a request, and at most 49152 bytes"},
		"neither of whom":            {func(p *Planned) { *p = Planned{Message: "m", Part: 1, Parts: 1} }, "it needs an operation or a request"},
		"a malformed id left out":    {func(p *Planned) { p.LeftOut[0].MsgIDs[0] = "x" }, "leftOut.0.msgIds.0: must be 32, 34 or 56 hexadecimal digits"},
		"a malformed id":             {func(p *Planned) { p.Entries[0].MsgID = "x" }, "entries.0.msgId: must be 32, 34 or 56 hexadecimal digits"},
		"a reason that is too long":  {func(p *Planned) { p.LeftOut[0].Reason = strings.Repeat("x", 129) }, "leftOut.0.reason: must be 1 to 128 characters"},
		"no reason why there's none": {func(p *Planned) { *p = Planned{Part: 1, Parts: 1} }, "message: is required without operationId: why is there no manifest?"},
	} {
		p := Parts(manifest(1))[0]
		test.spoil(&p)
		e, err := NewPlanned(p, "", time.Time{})
		if !strings.HasPrefix(textOfError(err), "events: part ") || !strings.Contains(textOfError(err), "of a manifest: "+test.err) || e.ID != "" {
			t.Errorf("%s: error %v, want %q; event %+v", name, err, test.err, e)
		}
	}
}

// TestRandomManifests: whatever is planned leaves in valid events and is the same
// when it arrives.
func TestRandomManifests(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		whole := anyManifest(t)
		whole.Part, whole.Parts = 0, 0
		whole.Reason = rapid.String().Draw(t, "any reason")
		var arrived []Planned
		for _, part := range Parts(whole) {
			e, err := NewPlanned(part, "request", time.Unix(1, 0))
			if err != nil {
				t.Fatalf("%v", err)
			}
			_, data, err := decodeAll(TypePlanCompleted, encode(t, e))
			if err != nil {
				t.Fatalf("%v", err)
			}
			arrived = append(arrived, data.(Planned))
		}
		got, err := Manifest(rapid.Permutation(arrived).Draw(t, "order")...)
		if err != nil {
			t.Fatalf("%v", err)
		}
		whole.Reason = proseRule.clip(whole.Reason)
		if diff := cmp.Diff(whole, got); diff != "" {
			t.Fatalf("-planned +arrived:\n%s", diff)
		}
	})
}
