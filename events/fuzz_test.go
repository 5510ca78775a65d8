package events

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// seed adds every sample of these types, and what bends JSON.
func seed(f *testing.F, types ...string) {
	for _, typ := range types {
		for _, folder := range []string{"valid", "invalid"} {
			for _, raw := range samples(f, folder, typ) {
				f.Add(raw)
				if e, err := Decode(raw); err == nil {
					f.Add([]byte(e.Data))
				}
			}
		}
	}
	for _, raw := range []string{``, ` `, `[]`, `[1,"a",{}]`, `{"a":{"a":1}}`, `{"\u0061":1,"a":2}`, `"\`, `{"a":"\ud800"}`, "{\"\xff\":1}"} {
		f.Add([]byte(raw))
	}
}

// FuzzDecode: no input panics; what is accepted is JSON to encoding/json, and
// is the same event when written and read again.
func FuzzDecode(f *testing.F) {
	seed(f, slices.Collect(maps.Keys(contracts()))...)
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := Decode(raw)
		if err != nil {
			fieldsOf(t, err)
			return
		}
		if !json.Valid(raw) {
			t.Fatalf("accepted, and no JSON: %q", raw)
		}
		written := encode(t, e)
		if depth(written) > MaxDepth || len(written) > MaxEventBytes {
			return // base64 hid a level, or an escape grew
		}
		again, err := Decode(written)
		if err != nil {
			t.Fatalf("%v\n%s", err, written)
		}
		if e.Data != nil {
			e.Data = encode(t, e.Data) // compact
		}
		if diff := cmp.Diff(e, again); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzDecodeRequested(f *testing.F) { fuzzData(f, TypeMessageRequested, DecodeRequested) }
func FuzzDecodeSweep(f *testing.F)     { fuzzData(f, TypeSweepRequested, DecodeSweep) }
func FuzzDecodeOperation(f *testing.F) { fuzzData(f, TypeOperationRequested, DecodeOperation) }
func FuzzDecodePlan(f *testing.F)      { fuzzData(f, TypePlanRequested, DecodePlan) }
func FuzzDecodePlanned(f *testing.F)   { fuzzData(f, TypePlanCompleted, DecodePlanned) }

// fuzzData: what is accepted validates, is the same when written and read again,
// and the schema accepts it.
func fuzzData[T interface{ Validate() error }](f *testing.F, typ string, decode func([]byte) (T, error)) {
	seed(f, typ)
	schema := schemas(f)[contracts()[typ].schema]
	f.Fuzz(func(t *testing.T, raw []byte) {
		value, err := decode(raw)
		if err != nil {
			fieldsOf(t, err)
		} else {
			if err := value.Validate(); err != nil {
				t.Fatalf("decoded and not valid: %v", err)
			}
			again, err := decode(encode(t, value))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(value, again); diff != "" {
				t.Fatal(diff)
			}
		}
		if _, err := Members(raw); err != nil || !utf8.Valid(raw) {
			return // what a schema is never asked about
		}
		event := encode(t, Event{ID: "1", Source: "fuzz", Type: typ, Data: raw})
		if _, _, err := decodeAll(typ, event); err == nil {
			if fields, err := refusedBySchema(schema, event); err != nil {
				t.Fatalf("accepted by Go, and the schema refuses %q: %v\n%s", fields, err, event)
			}
		}
	})
}

// FuzzMembers: what is split is what encoding/json finds.
func FuzzMembers(f *testing.F) {
	seed(f, TypeMessageRequested)
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := Members(raw)
		var want map[string]json.RawMessage
		if wantErr := json.Unmarshal(raw, &want); (wantErr != nil || want == nil) && err == nil {
			t.Fatalf("accepted, and encoding/json says %v: %q", wantErr, raw)
		}
		if err != nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%d members, want %d: %q", len(got), len(want), raw)
		}
		for _, m := range got {
			if !bytes.Equal(m.Value, want[m.Name]) {
				t.Fatalf("%q is %q, want %q", m.Name, m.Value, want[m.Name])
			}
		}
	})
}

// FuzzElements: what is split is what encoding/json finds.
func FuzzElements(f *testing.F) {
	seed(f, TypeMessageRequested)
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := Elements(raw, MaxBatch)
		var want []json.RawMessage
		if wantErr := json.Unmarshal(raw, &want); (wantErr != nil || want == nil) && err == nil {
			t.Fatalf("accepted, and encoding/json says %v: %q", wantErr, raw)
		}
		if err != nil {
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%d elements, want %d: %q", len(got), len(want), raw)
		}
		for i := range got {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("element %d is %q, want %q", i, got[i], want[i])
			}
		}
	})
}
