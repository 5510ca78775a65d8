package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// schemaBase is where the $id of every schema begins: it holds the version.
const schemaBase = "https://github.com/ons-repush/ons-repush/events/schemas/1.0/"

// contract is everything that belongs to one event type.
type contract struct {
	schema string // file name without ".schema.json", and the prefix of its samples
	decode func(data []byte) (any, error)
}

func contracts() map[string]contract {
	return map[string]contract{
		TypeMessageRequested:   {"repush-message-requested", func(data []byte) (any, error) { return DecodeRequested(data) }},
		TypeMessageCompleted:   {"repush-message-completed", func(data []byte) (any, error) { return decodeCompleted(data) }},
		TypeSweepRequested:     {"repush-sweep-requested", func(data []byte) (any, error) { return DecodeSweep(data) }},
		TypeOperationRequested: {"repush-operation-requested", func(data []byte) (any, error) { return DecodeOperation(data) }},
		TypePlanRequested:      {"repush-plan-requested", func(data []byte) (any, error) { return DecodePlan(data) }},
		TypePlanCompleted:      {"repush-plan-completed", func(data []byte) (any, error) { return DecodePlanned(data) }},
	}
}

// beyondSchema lists the invalid samples that a JSON Schema cannot refuse, and
// why.
var beyondSchema = map[string]string{
	"event--nested-too-deep":         "a schema does not bound the depth of what it allows",
	"id--given-twice":                "a parser has chosen one before the schema is asked",
	"id--given-twice-escaped":        "as above",
	"topic--given-twice":             "as above",
	"code--given-twice":              "as above",
	"limit--given-twice":             "as above",
	"action--given-twice":            "as above",
	"source--given-twice":            "as above",
	"request.id--given-twice":        "as above",
	"entries.0.msgId--given-twice":   "as above",
	"generation--1.0":                "a schema compares numbers, not their spelling",
	"generation--1e2":                "as above",
	"limit--1e3":                     "as above",
	"storedAt--before-1970-in-utc":   "a pattern cannot add an offset",
	"storedAt--year-10000-in-utc":    "as above",
	"ids--given-twice-in-lower-case": "a schema compares texts as they are",
	"from--after-to":                 "a schema does not compare one field with another",
	"from--the-same-as-to":           "as above",
	"part--above-parts":              "as above",
}

// beyondMutations are rules that mutations break, and that a JSON Schema cannot
// say; each has samples.
var beyondMutations = []string{"must be before to", "must not be above parts"}

// decodeAll reads an event as a receiver of one type does.
func decodeAll(typ string, raw []byte) (Event, any, error) {
	e, err := Decode(raw)
	if err != nil {
		return e, nil, err
	}
	if e.Type != typ {
		return e, nil, invalid("type", "is another event's")
	}
	data, err := contracts()[typ].decode(e.Data)
	return e, data, err
}

// schemas compiles every schema, with formats and contents asserted.
func schemas(t testing.TB) map[string]*jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.AssertContent()
	names := list(t, "schemas")
	for _, name := range names {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(file(t, "schemas/"+name)))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := c.AddResource(schemaBase+name, doc); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	compiled := make(map[string]*jsonschema.Schema)
	for _, name := range names {
		schema, err := c.Compile(schemaBase + name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if schema.ID != schemaBase+name {
			t.Errorf("%s: $id is %q, want %q", name, schema.ID, schemaBase+name)
		}
		compiled[strings.TrimSuffix(name, ".schema.json")] = schema
	}
	return compiled
}

// list names the files of a folder of Files and fails when there are none.
func list(t testing.TB, folder string) (names []string) {
	t.Helper()
	entries, err := fs.ReadDir(Files, folder)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%s: %d files, error %v", folder, len(entries), err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// samples returns the samples of one type by what their name says: "minimal",
// or "topic--too-long" for an invalid one. It fails when there are none.
func samples(t testing.TB, folder, typ string) map[string][]byte {
	t.Helper()
	found := make(map[string][]byte)
	for _, name := range list(t, "samples/"+folder) {
		if says, ours := strings.CutPrefix(strings.TrimSuffix(name, ".json"), contracts()[typ].schema+"."); ours {
			found[says] = file(t, path.Join("samples", folder, name))
		}
	}
	if len(found) == 0 {
		t.Fatalf("no %s samples of %s", folder, typ)
	}
	return found
}

func TestEveryTypeHasASchemaAndEverySchemaAType(t *testing.T) {
	t.Parallel()
	all := schemas(t)
	inUse := map[string]bool{"cloudevent": true} // the envelope of all of them
	for typ, c := range contracts() {
		schema := all[c.schema]
		if schema == nil {
			t.Errorf("%s: no schema %s", typ, c.schema)
			continue
		}
		inUse[c.schema] = true
		if got := schema.Properties["type"].Const; got == nil || *got != typ {
			t.Errorf("%s: schema %s is for type %v", typ, c.schema, got)
		}
		if want := strings.ToLower(strings.ReplaceAll(typ, ":", "-")); c.schema != want {
			t.Errorf("%s: schema is named %s, want %s", typ, c.schema, want)
		}
		if schema.Ref != all["cloudevent"] {
			t.Errorf("%s: schema does not build on the envelope", typ)
		}
	}
	for name := range all {
		if !inUse[name] {
			t.Errorf("schema %s has no event type", name)
		}
	}
	for _, folder := range []string{"samples/valid", "samples/invalid"} {
		for _, name := range list(t, folder) {
			prefix, _, _ := strings.Cut(name, ".")
			if !inUse[prefix] || prefix == "cloudevent" {
				t.Errorf("%s/%s belongs to no event type", folder, name)
			}
		}
	}
}

func TestEveryTypeConstantHasAContract(t *testing.T) {
	t.Parallel()
	declared := typeConstants(t)
	if got := slices.Sorted(maps.Keys(contracts())); !slices.Equal(got, declared) {
		t.Errorf("contracts for %q, constants %q", got, declared)
	}
}

func TestValidSamples(t *testing.T) {
	t.Parallel()
	all := schemas(t)
	for typ, c := range contracts() {
		for name, raw := range samples(t, "valid", typ) {
			t.Run(c.schema+"/"+name, func(t *testing.T) {
				t.Parallel()
				if fields, err := refusedBySchema(all[c.schema], raw); err != nil {
					t.Fatalf("the schema refuses %v: %v", fields, err)
				}
				e, data, err := decodeAll(typ, raw)
				if err != nil {
					t.Fatalf("Go refuses: %v", err)
				}
				if e.Data != nil {
					e.Data = encode(t, data)
				}
				again := encode(t, e)
				e2, data2, err := decodeAll(typ, again)
				if err != nil {
					t.Fatalf("what was encoded again is refused: %v\n%s", err, again)
				}
				if diff := cmp.Diff(data, data2); diff != "" {
					t.Errorf("data changed on the way (-first +again):\n%s", diff)
				}
				e.Data, e2.Data = nil, nil
				if diff := cmp.Diff(e, e2); diff != "" {
					t.Errorf("envelope changed on the way (-first +again):\n%s", diff)
				}
				if diff := cmp.Diff(coreOf(t, raw), coreOf(t, again)); diff != "" {
					t.Errorf("JSON changed on the way (-sample +again):\n%s", diff)
				}
			})
		}
	}
}

// coreOf is the JSON of an event with times as instants, its data out of
// base64 and without what Decode drops or normalises.
func coreOf(t *testing.T, raw []byte) any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	if text, ok := v["data_base64"]; ok {
		var data []byte
		if err := json.Unmarshal(encode(t, text), &data); err != nil {
			t.Fatal(err)
		}
		v["data"] = json.RawMessage(data)
		if err := json.Unmarshal(encode(t, v), &v); err != nil {
			t.Fatal(err)
		}
	}
	core := make(map[string]any)
	for _, a := range attributes {
		if a.name != "datacontenttype" && a.name != "data_base64" && v[a.name] != nil {
			core[a.name] = instants(v[a.name])
		}
	}
	return core
}

func instants(v any) any {
	switch v := v.(type) {
	case string:
		if at, err := time.Parse(time.RFC3339, v); err == nil {
			return at.UTC().Format(time.RFC3339Nano)
		}
	case map[string]any:
		for name, value := range v {
			if name == "dryRun" && value == false { // its default, and left out
				delete(v, name)
				continue
			}
			v[name] = instants(value)
		}
	case []any:
		for i, value := range v {
			v[i] = instants(value)
		}
	}
	return v
}

func TestInvalidSamples(t *testing.T) {
	t.Parallel()
	all := schemas(t)
	beyond := maps.Clone(beyondSchema)
	for typ, c := range contracts() {
		for name, raw := range samples(t, "invalid", typ) {
			field, what, named := strings.Cut(name, "--")
			if !named || what == "" {
				t.Errorf("%s: the name must be field--what", name)
			}
			_, _, err := decodeAll(typ, raw)
			inGo := fieldsOf(t, err)
			if !slices.Contains(inGo, field) && !slices.Contains(inGo, printable(field)) {
				t.Errorf("%s: Go says %v, which does not name %q", name, err, field)
			}
			inSchema, err := refusedBySchema(all[c.schema], raw)
			if _, ok := beyond[name]; ok {
				if err != nil {
					t.Errorf("%s: listed as beyond the schema, which refuses %v", name, inSchema)
				}
				delete(beyond, name)
				continue
			}
			if !slices.Equal(inGo, inSchema) {
				t.Errorf("%s: Go names %q, the schema %q: %v", name, inGo, inSchema, err)
			}
		}
	}
	for name := range beyond {
		t.Errorf("beyondSchema lists %s, and there is no such sample", name)
	}
}

// TestMutations puts every kind of JSON value into every field of the fullest
// samples: Go and the schema must agree about each.
func TestMutations(t *testing.T) {
	t.Parallel()
	values := []any{nil, true, false, 0, 1, -1, 1.5, 1000, 1001, "", "x", "1", "true", "a&b", "a\r\nb", "a\x00b", "ä", "a b",
		strings.Repeat("x", 65), strings.Repeat("A", 32), strings.Repeat("x", 2000), "1.0", "human", "hold", "pushed", "pause", "ids", "unconsumed",
		"2026-11-22T10:00:00Z", "1.0.0", "application/json", []any{}, []any{"x"}, []any{nil}, map[string]any{}, map[string]any{"x": 1}}
	fullest := map[string][]string{
		TypeMessageRequested: {"all-fields"}, TypeMessageCompleted: {"duplicate"}, TypeSweepRequested: {"all-fields"},
		TypeOperationRequested: {"all-fields-operation", "all-fields-message", "stop", "status"},
		TypePlanRequested:      {"all-fields-dead-letter", "all-fields-ids", "all-fields-key"},
		TypePlanCompleted:      {"all-fields", "no-manifest"},
	}
	all := schemas(t)
	checked := 0
	for typ, c := range contracts() {
		for _, name := range fullest[typ] {
			var sample map[string]any
			if err := json.Unmarshal(samples(t, "valid", typ)[name], &sample); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			everyObject(sample, func(object map[string]any) {
				for name, before := range object {
					for _, value := range append(values, absent{}) {
						object[name] = value
						if value == any(absent{}) {
							delete(object, name)
						}
						agree(t, all[c.schema], typ, encode(t, sample))
						checked++
					}
					object[name] = before
				}
			})
		}
		if len(fullest[typ]) == 0 {
			t.Errorf("%s: no sample to mutate", typ)
		}
	}
	if checked < 5000 {
		t.Errorf("only %d mutations", checked)
	}
}

type absent struct{}

// everyObject calls f with every object in v and, if it is one, v.
func everyObject(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case []any:
		for _, child := range v {
			everyObject(child, f)
		}
	case map[string]any:
		for _, child := range v {
			everyObject(child, f)
		}
		f(v)
	}
}

// agree fails when Go and the schema do not name the same fields of raw.
func agree(t interface {
	Errorf(string, ...any)
	Fatalf(string, ...any)
}, schema *jsonschema.Schema, typ string, raw []byte) {
	_, _, err := decodeAll(typ, raw)
	var inGo []string
	if v := new(ValidationError); errors.As(err, &v) {
		v.Problems = slices.DeleteFunc(v.Problems, func(p Problem) bool { return slices.Contains(beyondMutations, p.Rule) })
		if len(v.Problems) > 0 {
			inGo = fieldsOf(t, err)
		}
	}
	if inSchema, schemaErr := refusedBySchema(schema, raw); !slices.Equal(inGo, inSchema) {
		t.Errorf("Go names %q (%v), the schema %q (%v) of\n%s", inGo, err, inSchema, schemaErr, raw)
	}
}

// fieldsOf returns the sorted names of the fields that an error names.
func fieldsOf(t interface{ Fatalf(string, ...any) }, err error) []string {
	var v *ValidationError
	if !errors.As(err, &v) || len(v.Problems) == 0 {
		t.Fatalf("%v is no ValidationError with problems", err)
		return nil
	}
	names := make([]string, len(v.Problems))
	for i, p := range v.Problems {
		names[i] = p.Field
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// refusedBySchema returns the sorted fields that the schema refuses, in the
// words of ValidationError: "event" for the whole, data's fields by themselves.
func refusedBySchema(schema *jsonschema.Schema, raw []byte) ([]string, error) {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return []string{"event"}, err
	}
	var refused *jsonschema.ValidationError
	if err = schema.Validate(v); !errors.As(err, &refused) {
		return nil, err
	}
	names := leaves(refused)
	slices.Sort(names)
	return slices.Compact(names), err
}

func leaves(e *jsonschema.ValidationError) (names []string) {
	for _, cause := range e.Causes {
		names = append(names, leaves(cause)...)
	}
	if len(e.Causes) > 0 {
		return names
	}
	var below []string
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		below = k.Missing
	case *kind.AdditionalProperties:
		below = k.Properties
	default:
		return []string{fieldName(e.InstanceLocation)}
	}
	for _, name := range below {
		names = append(names, fieldName(append(slices.Clone(e.InstanceLocation), printable(name))))
	}
	return names
}

func fieldName(at []string) string {
	if len(at) > 1 && (at[0] == "data" || at[0] == "data_base64") {
		at = at[1:]
	}
	if len(at) == 0 {
		return "event"
	}
	return strings.Join(at, ".")
}

func encode(t interface{ Fatalf(string, ...any) }, v any) []byte {
	raw, err := marshal(v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return raw
}
