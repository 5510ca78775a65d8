package events

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// typeConstants returns the values of all constants of the package named
// Type…, sorted.
func typeConstants(t *testing.T) (values []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), "doc.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, isValue := n.(*ast.ValueSpec)
		if !isValue || !strings.HasPrefix(spec.Names[0].Name, "Type") {
			return true
		}
		value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
		return true
	})
	if len(values) == 0 {
		t.Fatal("no type constants found")
	}
	slices.Sort(values)
	return values
}

// row is one field of a table, whatever the table is of.
type row struct {
	name     string
	required bool
	rule     rule
	kind     string // of the pointer: "*string"; "" for what a rule cannot express
}

func rows[T any](fields []field[T]) (all []row) {
	var zero T
	for _, f := range fields {
		r := row{name: f.name, required: f.required, rule: f.rule}
		if kind := fmt.Sprintf("%T", f.at(&zero)); strings.HasPrefix(kind, "*") && kind != "*json.RawMessage" {
			r.kind = kind
		}
		all = append(all, r)
	}
	return all
}

// objects are the objects of the contract: the Go struct, its table and its
// place in the schemas.
func objects(t *testing.T) map[string]struct {
	goType reflect.Type // nil for the envelope, which is no struct of the wire
	rows   []row
	schema *jsonschema.Schema
} {
	all := schemas(t)
	requested := all["repush-message-requested"].Properties["data"].Ref
	completed := all["repush-message-completed"].Properties["data"].Ref
	sweep, operation := all["repush-sweep-requested"].Properties["data"].Ref, all["repush-operation-requested"].Properties["data"].Ref
	plan, planned := all["repush-plan-requested"].Properties["data"].Ref, all["repush-plan-completed"].Properties["data"].Ref
	given := completed.Properties["request"].Properties["data"].Ref
	if requested.Ref != given {
		t.Error("the data that a result repeats has another schema than a request")
	}
	whole := *requested.Ref
	whole.Required = requested.Required
	return map[string]struct {
		goType reflect.Type
		rows   []row
		schema *jsonschema.Schema
	}{
		"envelope":   {nil, rows(attributes), all["cloudevent"]},
		"Requested":  {reflect.TypeFor[Requested](), rows(requestedFields), &whole},
		"Completed":  {reflect.TypeFor[Completed](), rows(completedFields), completed},
		"RequestRef": {reflect.TypeFor[RequestRef](), rows(refFields), completed.Properties["request"]},
		"First":      {reflect.TypeFor[First](), rows(firstFields), completed.Properties["first"]},
		"Sweep":      {reflect.TypeFor[Sweep](), rows(sweepFields), sweep},
		"Operation":  {reflect.TypeFor[Operation](), rows(operationFields), operation},
		"Plan":       {reflect.TypeFor[Plan](), rows(planFields), plan},
		"Planned":    {reflect.TypeFor[Planned](), rows(plannedFields), planned},
		"Entry":      {reflect.TypeFor[Entry](), rows(entryFields), planned.Properties["entries"].Items2020.Ref},
		"LeftOut":    {reflect.TypeFor[LeftOut](), rows(leftOutFields), planned.Properties["leftOut"].Items2020.Ref},
		"Estimate":   {reflect.TypeFor[Estimate](), rows(estimateFields), planned.Properties["estimate"]},
	}
}

func TestTablesTypesAndSchemasHaveTheSameFields(t *testing.T) {
	t.Parallel()
	for name, o := range objects(t) {
		var table, required, inSchema []string
		for _, r := range o.rows {
			table = append(table, r.name)
			if r.required {
				required = append(required, r.name)
			}
		}
		if o.goType != nil {
			if diff := cmp.Diff(jsonNames(t, o.goType), table); diff != "" {
				t.Errorf("%s: struct and table differ, also in order (-struct +table):\n%s", name, diff)
			}
		}
		for property := range o.schema.Properties {
			inSchema = append(inSchema, property)
		}
		slices.Sort(table)
		slices.Sort(inSchema)
		if diff := cmp.Diff(table, inSchema); diff != "" {
			t.Errorf("%s: table and schema differ (-table +schema):\n%s", name, diff)
		}
		slices.Sort(required)
		if diff := cmp.Diff(required, slices.Sorted(slices.Values(o.schema.Required))); diff != "" {
			t.Errorf("%s: required differs (-table +schema):\n%s", name, diff)
		}
		if o.schema.AdditionalProperties != false {
			t.Errorf("%s: the schema is open", name)
		}
	}
}

// jsonNames returns the names of a struct on the wire, in order.
func jsonNames(t *testing.T, typ reflect.Type) (names []string) {
	t.Helper()
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if name == "" || name == "-" {
			t.Errorf("%s.%s has no name on the wire", typ, typ.Field(i).Name)
		}
		names = append(names, name)
	}
	return names
}

// TestOptionalMeansLeftOut: what is not required is absent when empty, and what
// is required in a result is always there. (A request's fields may all be
// absent in a result, and an operation without its action is refused, as is a
// plan without its source.)
func TestOptionalMeansLeftOut(t *testing.T) {
	t.Parallel()
	asked := []string{"Requested", "Operation", "Plan"}
	for name, o := range objects(t) {
		if o.goType == nil {
			continue
		}
		for i, r := range o.rows {
			_, options, _ := strings.Cut(o.goType.Field(i).Tag.Get("json"), ",")
			if omitted := strings.HasPrefix(options, "omit"); omitted == (r.required && !slices.Contains(asked, name)) {
				t.Errorf("%s.%s: required %v, JSON option %q", name, r.name, r.required, options)
			}
		}
	}
}

func TestRulesAndSchemasAgree(t *testing.T) {
	t.Parallel()
	for name, o := range objects(t) {
		for _, r := range o.rows {
			schema := o.schema.Properties[r.name]
			if schema == nil {
				continue // reported by another test
			}
			if schema.Description == "" {
				t.Errorf("%s.%s: no description in the schema", name, r.name)
			}
			if schema.Ref != nil {
				schema = schema.Ref
			}
			if r.kind == "" {
				continue // no bounds to compare, see TestMutations
			}
			if diff := cmp.Diff(bounds(r), boundsOf(schema)); diff != "" {
				t.Errorf("%s.%s (-table +schema):\n%s", name, r.name, diff)
			}
		}
	}
}

// limits are what a table and a schema both say about one value.
type limits struct {
	Type, Pattern, Format string
	Min, Max              string
	OneOf                 []string
	List                  string // "" for what is none
}

func bounds(r row) (l limits) {
	switch {
	case r.rule.oneOf != nil:
		l.OneOf = slices.Sorted(slices.Values(r.rule.oneOf))
	case r.kind == "*string":
		l = limits{Type: "[string]", Min: strconv.Itoa(r.rule.min), Max: strconv.Itoa(r.rule.max), Pattern: patternOf(r.rule)}
	case r.kind == "*int":
		l = limits{Type: "[integer]", Min: strconv.Itoa(r.rule.min), Max: strconv.Itoa(r.rule.max)}
		if r.rule.max == countRule.max {
			l.Max = "" // what every JSON reader can count to
		}
	case r.kind == "*[]string":
		l = bounds(row{rule: r.rule, kind: "*string"})
		l.List = fmt.Sprintf("[array] of 1 to %d, unique true", r.rule.most)
	case r.kind == "*bool":
		l.Type = "[boolean]"
	case r.kind == "*time.Time":
		l = limits{Type: "[string]", Format: "date-time", Pattern: timePattern}
	default:
		l.Type = "unknown kind " + r.kind
	}
	return l
}

const timePattern = `^(?:19[7-9][0-9]|[2-9][0-9]{3})-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})$`

func boundsOf(s *jsonschema.Schema) (l limits) {
	if s.Items2020 != nil {
		element := s.Items2020
		if element.Ref != nil {
			element = element.Ref
		}
		l = boundsOf(element)
		l.List = fmt.Sprintf("%v of %d to %d, unique %v", s.Types, *s.MinItems, *s.MaxItems, s.UniqueItems)
		return l
	}
	if s.Enum != nil {
		for _, v := range s.Enum.Values {
			l.OneOf = append(l.OneOf, fmt.Sprint(v))
		}
		slices.Sort(l.OneOf)
		return l
	}
	if s.Types != nil {
		l.Type = s.Types.String()
	}
	if s.Pattern != nil {
		l.Pattern = s.Pattern.String()
	}
	if s.Format != nil {
		l.Format = s.Format.Name
	}
	for _, limit := range []struct {
		to   *string
		text *int
	}{{&l.Min, s.MinLength}, {&l.Max, s.MaxLength}} {
		if limit.text != nil {
			*limit.to = strconv.Itoa(*limit.text)
		}
	}
	if s.Minimum != nil {
		l.Min = s.Minimum.RatString()
	}
	if s.Maximum != nil {
		l.Max = s.Maximum.RatString()
	}
	return l
}

// patternOf writes a text rule as the schemas do.
func patternOf(r rule) string {
	if r.chars == "" {
		return "^[^\\x00-\\x1f\\x7f-\\x9f\uFFFD]+$"
	}
	class := "[" + strings.NewReplacer(word, "A-Za-z0-9", hexes, "0-9A-Fa-f", digit+"abcdef", "0-9a-f").Replace(r.chars) + "]"
	if r.lengths == nil {
		return "^" + class + "+$"
	}
	var exactly []string
	for _, n := range r.lengths {
		exactly = append(exactly, fmt.Sprintf("%s{%d}", class, n))
	}
	return "^(?:" + strings.Join(exactly, "|") + ")$"
}

// TestRulesMatchTheirPattern holds the hand-written matching against the
// regular expression of the schema, for the first thousand characters and
// the odd ones beyond.
func TestRulesMatchTheirPattern(t *testing.T) {
	t.Parallel()
	rules := map[string]rule{
		"instance": instanceRule, "topic": topicRule, "group": groupRule, "msgId": msgIDRule, "offsetId": offsetIDRule,
		"client": clientRule, "operation": operationRule, "prose": proseRule, "attribute": attributeRule, "result": resultRule,
		"sha256": sha256Rule, "key": keyRule, "leftOut": leftOutRule, "call": callRule,
	}
	characters := []rune{'\u2028', '\u200B', '\uFEFF', '\uFF11', '\uFFFC', '\uFFFD', '\uFFFE', '\U0001F6A8', '\U0010FFFF'}
	for c := range rune(1000) {
		characters = append(characters, c)
	}
	for name, r := range rules {
		pattern := regexp.MustCompile(patternOf(r))
		matches := func(text string) bool {
			n := utf8.RuneCountInString(text)
			return n >= r.min && n <= r.max && pattern.MatchString(text)
		}
		for _, c := range characters {
			if text := strings.Repeat("A", r.min) + string(c); r.lengths == nil && r.allows(text) != matches(text) {
				t.Errorf("%s: %q is allowed: %v, by the pattern: %v", name, text, r.allows(text), matches(text))
			}
			if text := strings.Repeat("A", r.min-1) + string(c); r.allows(text) != matches(text) {
				t.Errorf("%s: %q is allowed: %v, by the pattern: %v", name, text, r.allows(text), matches(text))
			}
		}
		for n := range r.max + 2 {
			if text := strings.Repeat("A", n); r.allows(text) != matches(text) {
				t.Errorf("%s: %d characters are allowed: %v, by the pattern: %v", name, n, r.allows(text), matches(text))
			}
		}
		if broken := strings.Repeat("A", r.min-1) + "\xff"; r.allows(broken) {
			t.Errorf("%s: allows broken UTF-8", name)
		}
	}
}

func TestOutcomesAndSchemaAgree(t *testing.T) {
	t.Parallel()
	var inSchema []Outcome
	for _, v := range schemas(t)["repush-message-completed"].Properties["data"].Ref.Properties["outcome"].Ref.Enum.Values {
		inSchema = append(inSchema, Outcome(v.(string)))
	}
	if diff := cmp.Diff(Outcomes(), inSchema); diff != "" {
		t.Errorf("-Outcomes() +schema:\n%s", diff)
	}
	valid := samples(t, "valid", TypeMessageCompleted)
	for _, o := range Outcomes() {
		if _, data, err := decodeAll(TypeMessageCompleted, valid[string(o)]); err != nil || data.(Completed).Outcome != o {
			t.Errorf("no sample named and showing outcome %s: %v", o, err)
		}
	}
}

// TestEveryRuleHasAnInvalidSample: each field of each table is refused in at
// least one sample, and each required one is missing in at least one.
func TestEveryRuleHasAnInvalidSample(t *testing.T) {
	t.Parallel()
	prefix := map[string]string{
		"envelope": "requested.", "Requested": "message-requested.", "Completed": "message-completed.", "RequestRef": "message-completed.request.",
		"First": "message-completed.first.", "Sweep": "sweep-requested.", "Operation": "operation-requested.",
		"Plan": "plan-requested.", "Planned": "plan-completed.", "Estimate": "plan-completed.estimate.",
		"Entry": "plan-completed.entries.0.", "LeftOut": "plan-completed.leftOut.0.",
	}
	all, err := fs.Glob(Files, "samples/invalid/*.json")
	if err != nil || len(all) == 0 {
		t.Fatalf("%d invalid samples, error %v", len(all), err)
	}
	has := func(field, what string) bool {
		return slices.ContainsFunc(all, func(name string) bool { return strings.Contains(name, field+"--"+what) })
	}
	for name, o := range objects(t) {
		for _, r := range o.rows {
			if !has(prefix[name]+r.name, "") {
				t.Errorf("%s.%s: no invalid sample", name, r.name)
			}
			if r.required && !has(prefix[name]+r.name, "missing") {
				t.Errorf("%s.%s: no sample without it", name, r.name)
			}
		}
	}
}

func TestZeroValuesAreRefused(t *testing.T) {
	t.Parallel()
	all := schemas(t)
	for typ, c := range contracts() {
		zero := Event{ID: "1", Source: "test", Type: typ, Data: json.RawMessage(`{}`)}
		switch typ {
		case TypeMessageCompleted:
			zero.Data = encode(t, Completed{})
		case TypePlanCompleted:
			zero.Data = encode(t, Planned{})
		}
		raw := encode(t, zero)
		needsNothing := typ == TypeSweepRequested
		if _, _, err := decodeAll(typ, raw); (err == nil) != needsNothing {
			t.Errorf("%s: zero data in Go: %v", typ, err)
		}
		if _, err := refusedBySchema(all[c.schema], raw); (err == nil) != needsNothing {
			t.Errorf("%s: zero data by the schema: %v", typ, err)
		}
		if _, err := refusedBySchema(all[c.schema], encode(t, Event{})); err == nil {
			t.Errorf("%s: the schema accepts the zero event", typ)
		}
	}
	if _, err := Decode(encode(t, Event{})); err == nil {
		t.Error("Decode accepts the zero event")
	}
	if err := (Requested{}).Validate(); err == nil {
		t.Error("Validate accepts the zero request")
	}
	if err := (Sweep{}).Validate(); err != nil {
		t.Errorf("Validate refuses the zero sweep: %v", err)
	}
	if err := (Operation{}).Validate(); err == nil {
		t.Error("Validate accepts the zero operation")
	}
	if err := (Plan{}).Validate(); err == nil {
		t.Error("Validate accepts the zero plan")
	}
	if err := (Planned{}).Validate(); err == nil {
		t.Error("Validate accepts the zero part of a manifest")
	}
	if _, err := NewCompleted(Completed{}); err == nil {
		t.Error("NewCompleted accepts the zero result")
	}
}

func TestValidateAgreesWithDecode(t *testing.T) {
	t.Parallel()
	good := Requested{InstanceID: "MQ_INST_1", Topic: "orders", GroupID: "GID_a", MsgID: strings.Repeat("A", 32), Reason: "r"}
	for name, test := range map[string]struct {
		change func(*Requested)
		field  string
	}{
		"nothing wrong": {func(*Requested) {}, ""},
		"nothing wrong, all optional": {func(r *Requested) {
			r.Generation, r.StoredAt, r.Priority, r.OnUnknown = 1000, time.Unix(0, 0), PriorityBulk, Hold
		}, ""},
		"no topic":               {func(r *Requested) { r.Topic = "" }, "topic"},
		"dead letter copy":       {func(r *Requested) { r.Topic = "%DLQ%GID_a" }, "topic"},
		"broken UTF-8":           {func(r *Requested) { r.Reason = "a\xff" }, "reason"},
		"negative generation":    {func(r *Requested) { r.Generation = -1 }, "generation"},
		"generation too high":    {func(r *Requested) { r.Generation = MaxGeneration + 1 }, "generation"},
		"unknown priority":       {func(r *Requested) { r.Priority = "urgent" }, "priority"},
		"unknown policy":         {func(r *Requested) { r.OnUnknown = "retry" }, "onUnknown"},
		"stored before 1970":     {func(r *Requested) { r.StoredAt = time.Unix(-1, 0) }, "storedAt"},
		"time JSON cannot write": {func(r *Requested) { r.NotAfter = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "data"},
	} {
		r := good
		test.change(&r)
		err := r.Validate()
		if test.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if got := fieldsOf(t, err); !slices.Equal(got, []string{test.field}) {
			t.Errorf("%s: names %q, want %q", name, got, test.field)
		}
	}
}
