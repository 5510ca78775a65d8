package events

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// valid draws a text that keeps the rule.
func (r rule) valid(t *rapid.T, name string) string {
	switch {
	case r.oneOf != nil:
		return rapid.SampledFrom(r.oneOf).Draw(t, name)
	case r.lengths != nil:
		n := rapid.SampledFrom(r.lengths).Draw(t, name+" length")
		return rapid.StringOfN(rapid.RuneFrom([]rune(r.chars)), n, n, -1).Draw(t, name)
	case r.chars != "":
		return rapid.StringOfN(rapid.RuneFrom([]rune(r.chars)), r.min, r.max, -1).Draw(t, name)
	}
	anything := rapid.Rune().Filter(func(c rune) bool { return !isForbidden(c) })
	return rapid.StringOfN(anything, r.min, r.max, -1).Draw(t, name)
}

// fill draws valid values for the fields of a table; optional ones are left
// empty half of the time.
func fill[T any](t *rapid.T, to *T, fields []field[T]) {
	for _, f := range fields {
		if !f.required && rapid.Bool().Draw(t, "leave out "+f.name) {
			continue
		}
		switch at := f.at(to).(type) {
		case *string:
			*at = f.rule.valid(t, f.name)
		case *int:
			*at = rapid.IntRange(f.rule.min, f.rule.max).Draw(t, f.name)
		case *bool:
			*at = rapid.Bool().Draw(t, f.name)
		case *time.Time:
			*at = anyTime(t, f.name)
		case *[]string:
			*at = f.rule.validList(t, f.name)
		}
	}
}

// validList draws a list that keeps the rule of a list; a short one, to be quick.
func (r rule) validList(t *rapid.T, name string) []string {
	texts := rapid.Custom(func(t *rapid.T) string { return r.valid(t, name) })
	return rapid.SliceOfNDistinct(texts, 1, min(r.most, 4), strings.ToUpper).Draw(t, name+" list")
}

func anyTime(t *rapid.T, name string) time.Time {
	last := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).Unix()
	at := time.Unix(rapid.Int64Range(24*3600, last).Draw(t, name), rapid.Int64Range(0, 999_999_999).Draw(t, name+" ns"))
	offset := rapid.IntRange(-23*60-59, 23*60+59).Draw(t, name+" offset") * 60
	return at.In(time.FixedZone("", offset))
}

func TestRandomRequests(t *testing.T) {
	t.Parallel()
	random(t, TypeMessageRequested, func(t *rapid.T) (r Requested) {
		fill(t, &r, requestedFields)
		return r
	})
}

func TestRandomSweeps(t *testing.T) {
	t.Parallel()
	random(t, TypeSweepRequested, func(t *rapid.T) (s Sweep) {
		fill(t, &s, sweepFields)
		return s
	})
}

func TestRandomOperations(t *testing.T) {
	t.Parallel()
	random(t, TypeOperationRequested, func(t *rapid.T) (o Operation) {
		fill(t, &o, operationFields)
		var of Requested
		fill(t, &of, requestedFields)
		o.OperationID, o.InstanceID, o.Topic, o.GroupID, o.MsgID = "", "", "", "", ""
		switch rapid.SampledFrom(aims[o.Action]).Draw(t, "aim") {
		case anOperation:
			o.OperationID = operationRule.valid(t, "operationId")
		case aMessage:
			o.InstanceID, o.Topic, o.GroupID, o.MsgID = of.InstanceID, of.Topic, of.GroupID, of.MsgID
		}
		return o
	})
}

func TestRandomPlans(t *testing.T) {
	t.Parallel()
	random(t, TypePlanRequested, func(t *rapid.T) (p Plan) {
		fill(t, &p, planFields)
		if p.Topic == "" {
			p.Topic = topicRule.valid(t, "topic")
		}
		ids, keys := msgIDRule.upTo(1000).validList(t, "ids"), keyRule.upTo(100).validList(t, "keys")
		p.IDs, p.Keys = map[Selection][]string{ByIDs: ids}[p.Source], map[Selection][]string{ByKeys: keys}[p.Source]
		if !p.From.Before(p.To) {
			p.From = time.Time{}
		}
		return p
	})
}

func TestRandomParts(t *testing.T) {
	t.Parallel()
	random(t, TypePlanCompleted, func(t *rapid.T) Planned {
		p := anyManifest(t)
		return rapid.SampledFrom(Parts(p)).Draw(t, "part")
	})
}

// anyManifest draws a whole manifest, or none and why.
func anyManifest(t *rapid.T) (p Planned) {
	fill(t, &p, plannedFields)
	fill(t, &p.Estimate, estimateFields)
	p.Calls = rapid.SampledFrom([]map[string]int{nil, {"OnsTrace": 0}, {"OnsTrace": 5, "OnsMessageGetByKey": 1}}).Draw(t, "calls")
	p.LeftOut = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) (l LeftOut) {
		fill(t, &l, leftOutFields)
		l.Count = max(l.Count, len(l.MsgIDs))
		return l
	}), 1, 3).Draw(t, "leftOut")
	if rapid.Bool().Draw(t, "nothing left out") {
		p.LeftOut = nil
	}
	p.Count, p.Message, p.SHA256 = 0, resultRule.valid(t, "message"), ""
	if p.OperationID == "" {
		return p
	}
	p.IncidentID, p.InstanceID, p.GroupID = "incident", "MQ_INST_1", "GID_a"
	p.Source = Selection(selectionRule.valid(t, "source"))
	p.CutOff = anyTime(t, "cutOff")
	p.Entries = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) (e Entry) {
		fill(t, &e, entryFields)
		return e
	}), 1, 5).Draw(t, "entries")
	if rapid.Bool().Draw(t, "nothing to push") {
		p.Entries = nil
	}
	p.Count, p.SHA256 = len(p.Entries), ManifestHash(p.Entries)
	return p
}

// random makes events of one type with valid data: Go and the schema take them,
// and they are the same when written and read again.
func random[T interface{ Validate() error }](t *testing.T, typ string, draw func(*rapid.T) T) {
	schema := schemas(t)[contracts()[typ].schema]
	rapid.Check(t, func(t *rapid.T) {
		var e Event
		fill(t, &e, attributes)
		e.Type = typ
		value := draw(t)
		if err := value.Validate(); err != nil {
			t.Fatalf("Validate refuses: %v", err)
		}
		e.Data = encode(t, value)
		raw := encode(t, e)
		if fields, err := refusedBySchema(schema, raw); err != nil {
			t.Fatalf("the schema refuses %q: %v\n%s", fields, err, raw)
		}
		again, data, err := decodeAll(typ, raw)
		if err != nil {
			t.Fatalf("Go refuses: %v\n%s", err, raw)
		}
		if diff := cmp.Diff(any(value), data); diff != "" {
			t.Fatalf("data changed on the way:\n%s", diff)
		}
		if diff := cmp.Diff(e, again); diff != "" {
			t.Fatalf("envelope changed on the way:\n%s", diff)
		}
	})
}

// TestRandomResults also lets the texts be anything: NewCompleted must make a
// valid event of what the API and the requests bring.
func TestRandomResults(t *testing.T) {
	t.Parallel()
	schema := schemas(t)["repush-message-completed"]
	rapid.Check(t, func(t *rapid.T) {
		var c Completed
		fill(t, &c, completedFields)
		fill(t, &c.Request, refFields)
		c.WaitMs, c.CallMs = rapid.Int64Range(-5, 1e6).Draw(t, "waitMs"), rapid.Int64Range(-5, 1e6).Draw(t, "callMs")
		c.Message, c.ClientID = rapid.String().Draw(t, "message"), rapid.StringN(0, 3000, -1).Draw(t, "clientId")
		if rapid.Bool().Draw(t, "with data") {
			c.Request.Data = &Requested{}
			fill(t, c.Request.Data, requestedFields)
			c.Request.Data.Topic = rapid.String().Draw(t, "topic")
		}
		if rapid.Bool().Draw(t, "with first") {
			c.First = &First{}
			fill(t, c.First, firstFields)
		}
		e, err := NewCompleted(c)
		if err != nil {
			t.Fatalf("NewCompleted: %v", err)
		}
		raw := encode(t, e)
		if fields, err := refusedBySchema(schema, raw); err != nil {
			t.Fatalf("the schema refuses %q: %v\n%s", fields, err, raw)
		}
		if _, _, err := decodeAll(TypeMessageCompleted, raw); err != nil {
			t.Fatalf("Go refuses: %v\n%s", err, raw)
		}
	})
}
