package events

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	everything  = "everything"
	anOperation = "an operation"
	aMessage    = "a message"
)

// aims says what each action can be about.
var aims = map[Action][]string{
	Stop: {everything}, Start: {everything}, Describe: {everything},
	Pause: {anOperation, aMessage}, Continue: {anOperation, aMessage}, Cancel: {anOperation, aMessage},
	Status: {everything, anOperation, aMessage},
}

// TestWhatAnOperationIsAbout tries every action with every set of the fields
// that say what it is about: Go, the schema and the table of aims agree.
func TestWhatAnOperationIsAbout(t *testing.T) {
	t.Parallel()
	schema := schemas(t)["repush-operation-requested"]
	values := map[string]string{
		"operationId": "op-1", "instanceId": "MQ_INST_1", "topic": "orders", "groupId": "GID_a", "msgId": "C0A8010A00002A9F0000000000A1B2C3",
	}
	names := []string{"operationId", "instanceId", "topic", "groupId", "msgId"}
	for _, action := range append(slices.Clone(actionRule.oneOf), "", "halt") {
		for set := range 1 << len(names) {
			data := map[string]string{"action": action}
			if action == "" {
				delete(data, "action")
			}
			for i, name := range names {
				if set&(1<<i) != 0 {
					data[name] = values[name]
				}
			}
			raw := encode(t, Event{ID: "1", Source: "s", Type: TypeOperationRequested, Data: encode(t, data)})
			agree(t, schema, TypeOperationRequested, raw)
			aim := map[int]string{0: everything, 1: anOperation, 0b11110: aMessage}[set]
			want := slices.Contains(aims[Action(action)], aim)
			if _, _, err := decodeAll(TypeOperationRequested, raw); (err == nil) != want {
				t.Errorf("accepted %v, want %v: %v of %v", err == nil, want, err, data)
			}
		}
	}
}

// TestActionsAndRuleAgree: the rule knows the constants, in their order.
func TestActionsAndRuleAgree(t *testing.T) {
	t.Parallel()
	parsed, err := parser.ParseFile(token.NewFileSet(), "control.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var constants []string
	ast.Inspect(parsed, func(n ast.Node) bool {
		spec, isValue := n.(*ast.ValueSpec)
		if !isValue {
			return true
		}
		if typ, named := spec.Type.(*ast.Ident); named && typ.Name == "Action" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			constants = append(constants, text)
		}
		return true
	})
	if diff := cmp.Diff(constants, actionRule.oneOf); diff != "" || len(constants) == 0 {
		t.Errorf("constants and rule (-constants +rule):\n%s", diff)
	}
	if len(aims) != len(constants) {
		t.Errorf("%d actions have an aim, want %d", len(aims), len(constants))
	}
}

func TestDecodeControlReportsEverythingAndKeepsWhatIsRight(t *testing.T) {
	t.Parallel()
	const id = "C0A8010A00002A9F0000000000A1B2C3"
	for name, test := range map[string]struct {
		data string
		want any
		err  string
	}{
		"sweep without data": {data: ``, want: Sweep{}},
		"sweep, no fields":   {data: `{}`, want: Sweep{}},
		"sweep":              {data: `{"limit":100000}`, want: Sweep{Limit: 100_000}},
		"sweep, no object":   {data: `null`, want: Sweep{}, err: "data: not a JSON object"},
		"sweep, all wrong":   {data: `{"limits":1,"limit":0}`, want: Sweep{}, err: "limit: must be a whole number from 1 to 100000; limits: is not a field of this event"},

		"no data":      {want: Operation{}, err: "data: is required"},
		"no fields":    {data: `{}`, want: Operation{}, err: "action: is required"},
		"not an array": {data: `[]`, want: Operation{}, err: "data: not a JSON object"},
		"stop with an operation and part of a message": {
			data: `{"action":"stop","msgId":"` + id + `","operationId":"op"}`, want: Operation{Action: Stop, OperationID: "op", MsgID: id},
			err: "operationId: must be absent: stop, start and describe are about everything; msgId: must be absent: stop, start and describe are about everything",
		},
		"both": {
			data: `{"operationId":"op","action":"pause","topic":"orders"}`, want: Operation{Action: Pause, OperationID: "op", Topic: "orders"},
			err: "topic: must not stand beside operationId",
		},
		"neither": {
			data: `{"action":"cancel"}`, want: Operation{Action: Cancel},
			err: "operationId: is required, or a message by instanceId, topic, groupId and msgId",
		},
		"a field that breaks its rule is there": {
			data: `{"action":"cancel","msgId":"x","group":1}`, want: Operation{Action: Cancel},
			err: "msgId: must be 32, 34 or 56 hexadecimal digits; group: is not a field of this event; instanceId: is required: a message is instanceId, topic, groupId and msgId; " +
				"topic: is required: a message is instanceId, topic, groupId and msgId; groupId: is required: a message is instanceId, topic, groupId and msgId",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got any
			var err error
			if _, isSweep := test.want.(Sweep); isSweep {
				got, err = DecodeSweep([]byte(test.data))
			} else {
				got, err = DecodeOperation([]byte(test.data))
			}
			if text := textOfError(err); text != test.err {
				t.Errorf("error %q, want %q", text, test.err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestValidateControl(t *testing.T) {
	t.Parallel()
	message := Operation{Action: Status, InstanceID: "MQ_INST_1", Topic: "orders", GroupID: "GID_a", MsgID: "C0A8010A00002A9F0000000000A1B2C3"}
	incomplete := message
	incomplete.GroupID = ""
	for name, test := range map[string]struct {
		value interface{ Validate() error }
		field string
	}{
		"sweep":               {Sweep{Limit: 1}, ""},
		"negative limit":      {Sweep{Limit: -1}, "limit"},
		"limit too high":      {Sweep{Limit: 100_001}, "limit"},
		"message":             {message, ""},
		"incomplete message":  {incomplete, "groupId"},
		"pause of everything": {Operation{Action: Pause}, "operationId"},
		"stop of one":         {Operation{Action: Stop, OperationID: "op"}, "operationId"},
		"unknown action":      {Operation{Action: "halt"}, "action"},
		"broken UTF-8":        {Operation{Action: Stop, Reason: "a\xff"}, "reason"},
	} {
		var want []string
		var got []string
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
