package events

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestWhatEachSelectionNeeds tries every source with every set of topic, ids and
// keys: Go, the schema and this table agree.
func TestWhatEachSelectionNeeds(t *testing.T) {
	t.Parallel()
	schema := schemas(t)["repush-plan-requested"]
	values := map[string]any{"topic": "orders", "ids": []string{"C0A8010A00002A9F0000000000A1B2C3"}, "keys": []string{"order-4711"}}
	allowed := map[string][][]string{
		"dead-letter": {nil, {"topic"}}, "unconsumed": {nil, {"topic"}}, "ids": {{"topic", "ids"}}, "key": {{"topic", "keys"}},
	}
	names := []string{"topic", "ids", "keys"}
	if len(allowed) != len(selectionRule.oneOf) {
		t.Fatalf("%d selections in the table, want %d", len(allowed), len(selectionRule.oneOf))
	}
	for _, source := range append(slices.Clone(selectionRule.oneOf), "", "alert") {
		for set := range 1 << len(names) {
			data := map[string]any{"instanceId": "MQ_INST_1", "groupId": "GID_a", "reason": "r", "source": source}
			if source == "" {
				delete(data, "source")
			}
			var with []string
			for i, name := range names {
				if set&(1<<i) != 0 {
					data[name], with = values[name], append(with, name)
				}
			}
			raw := encode(t, Event{ID: "1", Source: "s", Type: TypePlanRequested, Data: encode(t, data)})
			agree(t, schema, TypePlanRequested, raw)
			want := slices.ContainsFunc(allowed[source], func(a []string) bool { return slices.Equal(a, with) })
			if _, _, err := decodeAll(TypePlanRequested, raw); (err == nil) != want {
				t.Errorf("source %q with %q: accepted %v, want %v: %v", source, with, err == nil, want, err)
			}
		}
	}
}

// TestListsAreBounded: as many as allowed are read, one more is not, by Go and by
// the schema.
func TestListsAreBounded(t *testing.T) {
	t.Parallel()
	all := schemas(t)
	idsOf := func(n int) (ids []string) {
		for i := range n {
			ids = append(ids, fmt.Sprintf("%032X", i))
		}
		return ids
	}
	keysOf := func(n int) (keys []string) {
		for i := range n {
			keys = append(keys, fmt.Sprint("key-", i))
		}
		return keys
	}
	plan := Plan{InstanceID: "MQ_INST_1", GroupID: "GID_a", Reason: "r", Topic: "orders"}
	part := Parts(manifest(1))[0]
	for name, test := range map[string]struct {
		typ   string
		most  int
		field string
		value func(n int) any
	}{
		"ids":      {TypePlanRequested, 1000, "ids", func(n int) any { p := plan; p.Source, p.IDs = ByIDs, idsOf(n); return p }},
		"keys":     {TypePlanRequested, 100, "keys", func(n int) any { p := plan; p.Source, p.Keys = ByKeys, keysOf(n); return p }},
		"entries":  {TypePlanCompleted, 1500, "entries", func(n int) any { p := part; p.Entries = manifest(n).Entries; return p }},
		"left out": {TypePlanCompleted, 1500, "leftOut.0.msgIds", func(n int) any { p := part; p.LeftOut = []LeftOut{{"r", n, idsOf(n)}}; return p }},
	} {
		schema := all[contracts()[test.typ].schema]
		for n, want := range map[int][]string{test.most: nil, test.most + 1: {test.field}} {
			raw := encode(t, Event{ID: "1", Source: "s", Type: test.typ, Data: encode(t, test.value(n))})
			fields, _ := refusedBySchema(schema, raw)
			if diff := cmp.Diff(want, fields); diff != "" {
				t.Errorf("%s: of %d the schema refuses (-want +got):\n%s", name, n, diff)
			}
			if len(raw) < MaxEventBytes {
				agree(t, schema, test.typ, raw)
			}
		}
	}
}

func TestDecodePlanReportsEverythingAndKeepsWhatIsRight(t *testing.T) {
	t.Parallel()
	const a, b = "C0A8010A00002A9F0000000000A1B2C3", "C0A8010A00002A9F0000000000A1B2C4"
	for name, test := range map[string]struct {
		data string
		want Plan
		err  string
	}{
		"no data":   {err: "data: is required"},
		"no object": {data: `"ids"`, err: "data: not a JSON object"},
		"no fields": {data: `{}`, err: "instanceId: is required; groupId: is required; reason: is required; source: is required"},
		"some right, some wrong": {
			data: `{"dryrun":true,"source":"ids","ids":["` + a + `","x",7],"groupId":"GID_a","from":"2026-11-22T10:00:00Z","to":"2026-11-22T10:00:00Z","keys":["k"],"limit":0}`,
			want: Plan{GroupID: "GID_a", Source: ByIDs, From: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), Keys: []string{"k"}},
			err: "instanceId: is required; reason: is required; ids.1: must be 32, 34 or 56 hexadecimal digits; ids.2: must be a string; " +
				"limit: must be a whole number from 1 to 10000; dryrun: is not a field of this event; " +
				"keys: must stand with source key, and only there; topic: is required with source ids and key; from: must be before to",
		},
		"the same id in two cases": {
			data: `{"instanceId":"i","groupId":"GID_a","reason":"r","source":"ids","topic":"orders","ids":["` + a + `","` + b + `","c0a8010a00002a9f0000000000a1b2c3"]}`,
			want: Plan{InstanceID: "i", GroupID: "GID_a", Reason: "r", Source: ByIDs, Topic: "orders"},
			err:  "ids: must hold nothing twice: element 2 was there before",
		},
		"the same key in two cases is two": {
			data: `{"instanceId":"i","groupId":"GID_a","reason":"r","source":"key","topic":"orders","keys":["k","K"]}`,
			want: Plan{InstanceID: "i", GroupID: "GID_a", Reason: "r", Source: ByKeys, Topic: "orders", Keys: []string{"k", "K"}},
		},
		"a list that is none": {
			data: `{"instanceId":"i","groupId":"GID_a","reason":"r","source":"key","topic":"orders","keys":"k"}`,
			want: Plan{InstanceID: "i", GroupID: "GID_a", Reason: "r", Source: ByKeys, Topic: "orders"},
			err:  "keys: must be a list of 1 to 100",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodePlan([]byte(test.data))
			if text := textOfError(err); text != test.err {
				t.Errorf("error %q, want %q", text, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestDecodePlannedReportsEverythingAndKeepsWhatIsRight(t *testing.T) {
	t.Parallel()
	got, err := DecodePlanned([]byte(`{"operationId":"op-1","count":-1,"estimate":{"seconds":5,"days":1},"calls":{"OnsTrace":-1,"Ons Trace":1,"OnsLag":2},
		"leftOut":[{"reason":"r","count":1},{"count":-1}],"entries":[{"topic":"orders","topic":"a"}],"part":2,"parts":1,"dryRun":true}`))
	want := Planned{OperationID: "op-1", Estimate: Estimate{Seconds: 5}, Calls: map[string]int{"OnsLag": 2}, Part: 2, Parts: 1, DryRun: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	const call = "must be a whole number from 0 to 1000000000, by a name of 1 to 40 letters and digits"
	wantErr := `count: must be a whole number from 0 to 1000000000; leftOut.1.reason: is required; leftOut.1.count: must be a whole number from 0 to 1000000000; ` +
		`estimate.expiring: is required; estimate.days: is not a field of this event; calls.OnsTrace: ` + call + `; calls."Ons Trace": ` + call + `; entries.0.topic: is given twice; ` +
		`incidentId: is required with operationId; instanceId: is required with operationId; groupId: is required with operationId; ` +
		`source: is required with operationId; cutOff: is required with operationId; sha256: is required with operationId; part: must not be above parts`
	if text := textOfError(err); text != wantErr {
		t.Errorf("error %q, want %q", text, wantErr)
	}
}

func TestValidatePlan(t *testing.T) {
	t.Parallel()
	good := Plan{InstanceID: "MQ_INST_1", GroupID: "GID_a", Reason: "r", Source: Unconsumed}
	part := Parts(manifest(1))[0]
	for name, test := range map[string]struct {
		value interface{ Validate() error }
		field string
	}{
		"plan":              {good, ""},
		"negative limit":    {func() Plan { p := good; p.Limit = -1; return p }(), "limit"},
		"too many":          {func() Plan { p := good; p.Limit = 10_001; return p }(), "limit"},
		"broken UTF-8":      {func() Plan { p := good; p.Reason = "a\xff"; return p }(), "reason"},
		"unknown source":    {func() Plan { p := good; p.Source = "alert"; return p }(), "source"},
		"empty key":         {func() Plan { p := good; p.Source, p.Topic, p.Keys = ByKeys, "orders", []string{""}; return p }(), "keys.0"},
		"no keys":           {func() Plan { p := good; p.Source, p.Topic, p.Keys = ByKeys, "orders", []string{}; return p }(), "keys"},
		"part":              {part, ""},
		"no part":           {func() Planned { p := part; p.Part = 0; return p }(), "part"},
		"negative estimate": {func() Planned { p := part; p.Estimate.Expiring = -1; return p }(), "estimate.expiring"},
		"negative calls":    {func() Planned { p := part; p.Calls = map[string]int{"OnsTrace": -1}; return p }(), "calls.OnsTrace"},
		"no hash":           {func() Planned { p := part; p.SHA256 = ""; return p }(), "sha256"},
		"no generation": {func() Planned {
			p := part
			p.Entries = []Entry{{Topic: "orders", MsgID: part.Entries[0].MsgID}}
			return p
		}(), "entries.0.generation"},
		"time of no JSON": {func() Planned { p := part; p.CutOff = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC); return p }(), "data"},
	} {
		var want, got []string
		if test.field != "" {
			want = []string{test.field}
		}
		if err := test.value.Validate(); err != nil {
			got = fieldsOf(t, err)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: names %q, want %q", name, got, want)
		}
	}
}
