package batch

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
)

const (
	instance = "MQ_INST_1_x"
	event    = `{"specversion":"1.0","id":"4711","source":"ops/anna","type":"repush:Message:Requested","data":{"instanceId":"MQ_INST_1_x","topic":"orders","groupId":"GID_x","msgId":"C000021112CD18B4AAC26E1A0B570001","reason":"down"}}`
	data     = `{"instanceId":"MQ_INST_1_x","topic":"orders","groupId":"GID_x","msgId":"C000021112CD18B4AAC26E1A0B570001","reason":"down"}`
	plan     = `{"specversion":"1.0","id":"p1","source":"ops/anna","type":"repush:Plan:Requested","data":{"instanceId":"MQ_INST_1_x","groupId":"GID_x","reason":"down","source":"dead-letter"}}`
	first    = "C000021112CD18B4AAC26E1A0B570001"
)

func now() time.Time { return time.Date(2026, 11, 22, 10, 0, 0, 700, time.UTC) }

// id is the message id of the nth message; id(1) is first.
func id(n int) string { return fmt.Sprintf("C000021112CD18B4AAC26E1A0B57%04X", n) }

// flags are what an operator gives for rows of message ids alone.
func flags() Options {
	return Options{
		Defaults: events.Requested{InstanceID: instance, Topic: "orders", GroupID: "GID_x", Reason: "consumer was down", RequestedBy: "anna", OperationID: "op-1"},
		Now:      now(),
	}
}

func read(t testing.TB, name, text string, o Options) Batch {
	t.Helper()
	b, err := Read([]Input{{Name: name, Data: []byte(text)}}, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// numbered is n of a text with message ids and event ids of their own.
func numbered(text string, n int, separator string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.NewReplacer(first, id(i+1), "4711", fmt.Sprint(i+1)).Replace(text)
	}
	return strings.Join(all, separator)
}

func pretty(text string) string {
	return strings.NewReplacer("{", "{\n", ",", ",\n", "}", "\n}").Replace(text)
}

// TestAccepted: what comes of an input, as places and message ids.
func TestAccepted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file, text string
		want       []string
	}{
		"one event":                        {"x.json", event, []string{"event 1 of x.json"}},
		"one event over many lines":        {"", pretty(event), []string{"event 1"}},
		"one line that ends":               {"-", event + "\n", []string{"event 1"}},
		"data alone":                       {"x", data, []string{"event 1 of x"}},
		"an array":                         {"x", "\ufeff\n[" + numbered(event, 3, ",\n") + "]\n", []string{"event 1 of x", "event 2 of x", "event 3 of x"}},
		"an array of data and events":      {"", "[" + data + "," + strings.ReplaceAll(event, first, id(2)) + "]", []string{"event 1", "event 2"}},
		"lines with gaps, BOM and CRLF":    {"x", "\ufeff\r\n" + numbered(event, 3, "\r\n\r\n") + "\r\n", []string{"x line 2", "x line 4", "x line 6"}},
		"lines of data":                    {"", numbered(data, 2, "\n"), []string{"line 1", "line 2"}},
		"CSV of ids":                       {"", "msgId\n" + id(1) + "\n" + id(2), []string{"line 2", "line 3"}},
		"CSV with BOM, CRLF and gaps":      {"a.csv", "\ufeff\r\nmsgId\r\n\r\n" + id(1) + "\r\n\r\n" + id(2) + "\r\n", []string{"a.csv line 4", "a.csv line 6"}},
		"CSV with blank rows at its end":   {"", "msgId,topic\n" + id(1) + ",\n,\n , \n", []string{"line 2"}},
		"CSV by semicolons":                {"", "msgId;topic;reason\n" + id(1) + ";orders;a, b\n", []string{"line 2"}},
		"CSV by tabs with empty cells":     {"", "topic\tmsgId\treason\n\t" + id(1) + "\t\n", []string{"line 2"}},
		"CSV with padded and quoted cells": {"", "msgId, reason\n \u00a0" + id(1) + " ,  \"a \"\"b\"\", c\"\n" + id(2) + ",\"\nx\n\"\n" + id(3) + ",\"y\"", []string{"line 2", "line 3", "line 6"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := read(t, test.file, test.text, flags())
			var got []string
			for i, it := range b.Items {
				got = append(got, it.Place)
				if it.Request.MsgID != id(i+1) {
					t.Errorf("%s is %s", it.Place, it.Request.MsgID)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			check(t, b)
		})
	}
}

// check holds for every batch.
func check(t testing.TB, b Batch) {
	t.Helper()
	ids, messages := make(map[string]bool), make(map[string]bool)
	for _, it := range b.Items {
		asked, err := events.DecodeRequested(it.Event.Data)
		if err != nil {
			t.Fatalf("%s: %v", it.Place, err)
		}
		if it.Request != asked { // times of one instant may differ
			if diff := cmp.Diff(it.Request, asked); diff != "" {
				t.Fatalf("%s: %s", it.Place, diff)
			}
		}
		ids[it.Event.Source+" "+it.Event.ID] = true
		messages[strings.ToUpper(fmt.Sprint(asked.InstanceID, asked.Topic, asked.GroupID, "/")+asked.MsgID)+fmt.Sprint("/", max(asked.Generation, 1))] = true
	}
	if len(ids) != len(b.Items) {
		t.Fatalf("%d ids for %d items", len(ids), len(b.Items))
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	wrong := strings.Replace(event, first, "zz", 1)
	result := strings.Replace(event, "Message:Requested", "Message:Completed", 1)
	for name, test := range map[string]struct {
		text string
		says string // all of the error
	}{
		"nothing":                          {" \n", "1 of 1 are wrong\n  standard input: is empty"},
		"an empty array":                   {"[ ]", "1 of 1 are wrong\n  standard input: is an empty list"},
		"a header alone":                   {"msgId\n\n", "1 of 1 are wrong\n  standard input: has no row below its header"},
		"a broken pretty one":              {pretty(event)[:60], "1 of 1 are wrong\n  line 5: not valid JSON"},
		"a broken array":                   {"\n[" + event + ",\n" + event + "\n" + event + "]", "1 of 1 are wrong\n  line 4: not valid JSON"},
		"too deep":                         {strings.Repeat("[", 40) + strings.Repeat("]", 40), "1 of 1 are wrong\n  line 1: nested deeper than 32 levels"},
		"lines, the first one broken":      {event[:99] + "\n\n" + event, "1 of 2 are wrong\n  line 1: not valid JSON"},
		"lines":                            {event + "\n\n" + wrong + "\n{}\nx\n" + event, "4 of 5 are wrong\n  line 3: msgId: must be 32, 34 or 56 hexadecimal digits\n  line 4: specversion: is required; id: is required; source: is required; type: is required\n  line 5: not valid JSON\n  line 6: the same message and generation as line 1"},
		"an array of odd things":           {"[7," + wrong + "]", "2 of 2 are wrong\n  event 1: not a JSON object\n  event 2: msgId: must be 32, 34 or 56 hexadecimal digits"},
		"every problem of data":            {`{"instanceId":"","msgid":1,"dryRun":"yes"}`, "1 of 1 are wrong\n  event 1: instanceId: must be 1 to 64 letters, digits, _ and -; msgId: is required; dryRun: must be true or false; msgid: is not a field of this event"},
		"a result":                         {result, "1 of 1 are wrong\n  event 1: type: is a result, not a request: 'repush report --leftovers' makes requests of what is left"},
		"another type":                     {strings.Replace(event, "Message:Requested", "x", 1), "1 of 1 are wrong\n  event 1: type: must be repush:Message:Requested, repush:Plan:Requested or repush:Plan:Completed"},
		"the same event id":                {event + "\n" + strings.ReplaceAll(event, first, id(2)), "1 of 2 are wrong\n  line 2: the same event id as line 1"},
		"the same message":                 {data + "\n" + strings.Replace(event, first, strings.ToLower(first), 1), "1 of 2 are wrong\n  line 2: the same message and generation as line 1"},
		"the same plan":                    {plan + "\n" + plan, "1 of 2 are wrong\n  line 2: the same source and id as line 1"},
		"plans beside others":              {plan + "\n" + event, "1 of 3 are wrong\n  standard input: holds requests for plans beside others: put them into a file of their own"},
		"a wrong plan":                     {strings.Replace(plan, "dead-letter", "x", 1), "1 of 1 are wrong\n  event 1: source: must be dead-letter, unconsumed, ids or key"},
		"a large event":                    {strings.Replace(event, "down", strings.Repeat("x", events.MaxEventBytes), 1), "1 of 1 are wrong\n  event 1: larger than 262144 bytes"},
		"broken UTF-8 in a line":           {data + "\n" + `{"msgId":"` + "\xff" + `"}`, "1 of 2 are wrong\n  line 2: must be UTF-8: save the file with that encoding"},
		"broken UTF-8 in a row":            {"msgId,reason\n" + id(1) + ",\xb5\xc4\n" + id(2) + ",\n", "1 of 2 are wrong\n  line 2: must be UTF-8: save the file with that encoding"},
		"UTF-16":                           {"\xff\xfem\x00s\x00g\x00I\x00d\x00\n\x00x\x00", "1 of 1 are wrong\n  line 1: must be UTF-8: save the file with that encoding"},
		"line ends of old":                 {"msgId;topic\r1;orders\r2;orders\r", "1 of 1 are wrong\n  standard input: has line ends of carriage returns alone: save it with line feeds"},
		"columns":                          {"ID;foo;;msg_id;Message Id\n1;2;3;4;5\n", "1 of 1 are wrong\n  line 1: column 1 \"ID\" could be msgId, offsetId or another; column 2 \"foo\" is not known; column 3 \"\" is not known; column 5 is msgId once more; the first line names the columns, which may be instanceId, topic, groupId, msgId, reason, clientId, requestedBy, operationId, priority, generation, storedAt, notAfter, dryRun, onUnknown, offsetId, unconsumed"},
		"no CSV at all":                    {strings.Repeat("lorem,", 40), "1 of 1 are wrong\n  line 1: has 41 columns: is it CSV with a header?"},
		"a header that is no CSV":          {"msgId,\"x\n" + id(1), "1 of 1 are wrong\n  line 1: is not CSV: extraneous or missing \" in quoted-field"},
		"fields":                           {"msgId,topic\n" + id(1) + "\n" + id(2) + ",orders,\n" + id(3) + ",orders\n", "2 of 3 are wrong\n  line 2: has 1 fields, and the header has 2\n  line 3: has 3 fields, and the header has 2"},
		"quotes":                           {"msgId,reason\n" + id(1) + ",\"never closed\n" + id(2) + ",5\" pipe\n" + id(3) + ",\n" + id(4) + ",\"x\"y\n" + id(5) + ",\"\"", "3 of 5 are wrong\n  line 2: is not CSV: extraneous or missing \" in quoted-field\n  line 3: is not CSV: bare \" in non-quoted-field\n  line 5: is not CSV: extraneous or missing \" in quoted-field"},
		"a line feed inside of a cell":     {"msgId,reason\n" + id(1) + ",\"a\nb\"\n" + id(2) + ",", "1 of 2 are wrong\n  line 2: reason: must be 1 to 256 characters without control characters and U+FFFD"},
		"numbers, booleans and times":      {"msgId,generation,dryRun,storedAt\n" + id(1) + ",two,2,2026-11-22 10:00:00\n" + id(2) + ",1.5,maybe,22/11/2026 10:00\n", "2 of 2 are wrong\n  line 2: generation: must be a whole number from 1 to 1000; storedAt: must be an RFC 3339 time since 1970; dryRun: must be true or false\n  line 3: generation: must be a whole number from 1 to 1000; storedAt: must be an RFC 3339 time since 1970; dryRun: must be true or false"},
		"a large row":                      {"msgId,reason\n" + id(1) + "," + strings.Repeat("x", events.MaxEventBytes) + "\n" + id(2) + ",\n", "1 of 2 are wrong\n  line 2: larger than 262144 bytes"},
		"the same row, another generation": {"msgId,generation\n" + id(1) + ",\n" + id(1) + ",2\n" + strings.ToLower(id(1)) + ",1\n", "1 of 3 are wrong\n  line 4: the same message and generation as line 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := Read([]Input{{Data: []byte(test.text)}}, flags())
			if _, is := errors.AsType[*Problems](err); !is || !reflect.DeepEqual(b, Batch{}) {
				t.Fatalf("%v, %v", b, err)
			}
			if diff := cmp.Diff(test.says, err.Error()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestFortyOfFiveThousand: exactly the wrong lines are named, each with its rules.
func TestFortyOfFiveThousand(t *testing.T) {
	t.Parallel()
	kinds := []struct{ row, says string }{
		{"zz,orders,1,,", "msgId: must be 32, 34 or 56 hexadecimal digits"},
		{",orders,1,,", "msgId: is required"},
		{"%s,%%DLQ%%GID_x,1,,", "topic: must be 3 to 64 letters, digits, _ and -; the original topic, never a %RETRY% or %DLQ% copy"},
		{"%s,orders,0,,", "generation: must be a whole number from 1 to 1000"},
		{"%s,orders,2.0,,", "generation: must be a whole number from 1 to 1000"},
		{"%s,orders,1,2026-11-22 10:00:00,", "storedAt: must be an RFC 3339 time since 1970"},
		{"%s,orders,1,,ja", "dryRun: must be true or false"},
		{"%s,orders,1", "has 3 fields, and the header has 5"},
		{"%s,orders,1,,,", "has 6 fields, and the header has 5"},
		{"%s,\"orders,1,,", `is not CSV: extraneous or missing " in quoted-field`},
		{"%s,or\"ders,1,,", `is not CSV: bare " in non-quoted-field`},
		{"%s,\xb5\xc4,1,,", errNotUTF8.Error()},
		{"%s,x,x,x,x", "topic: must be 3 to 64 letters, digits, _ and -; the original topic, never a %RETRY% or %DLQ% copy; generation: must be a whole number from 1 to 1000; storedAt: must be an RFC 3339 time since 1970; dryRun: must be true or false"},
		{id(1) + ",,1,,", "the same message and generation as bad.csv line 2"},
	}
	const rows, bad = 5000, 40
	places := rand.New(rand.NewPCG(1, 2)).Perm(rows - 1)[:bad] // the first row is right
	lines, want := make([]string, rows), Problems{Checked: rows}
	for i := range lines {
		lines[i] = id(i+1) + ",orders,1,2026-11-22 10:00:00+08:00,true"
	}
	for i, n := range slices.Sorted(slices.Values(places)) {
		kind := kinds[i%len(kinds)]
		lines[n+1] = kind.row
		if strings.Contains(kind.row, "%s") {
			lines[n+1] = fmt.Sprintf(kind.row, id(n+2))
		}
		want.List = append(want.List, Problem{fmt.Sprintf("bad.csv line %d", n+3), kind.says})
	}
	_, err := Read([]Input{{Name: "bad.csv", Data: []byte("msgId,topic,generation,storedAt,dryRun\n" + strings.Join(lines, "\n"))}}, flags())
	if diff := cmp.Diff(error(&want), err); diff != "" {
		t.Fatal(diff)
	}
	if head, _, _ := strings.Cut(err.Error(), "\n"); head != "40 of 5000 are wrong" || strings.Count(err.Error(), "\n") != bad {
		t.Errorf("%v", err)
	}
}

// TestColumns: the columns are the fields of a request, in whatever spelling.
func TestColumns(t *testing.T) {
	t.Parallel()
	var want []string
	for field := range reflect.TypeFor[events.Requested]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		want = append(want, name)
	}
	if diff := cmp.Diff(want, columns[:]); diff != "" {
		t.Fatal(diff)
	}
	for given, want := range map[string]string{
		"message_id": "msgId", "Message ID": "msgId", "msgid": "msgId", "MSG-ID": "msgId", "instance": "instanceId", "Group": "groupId", "GROUP_ID": "groupId",
		"stored at": "storedAt", "OffsetId": "offsetId", "dry_run": "dryRun", "on-unknown": "onUnknown",
	} {
		if got, err := columnsOf([]string{given}); err != nil || got[0] != want {
			t.Errorf("%q is %q, %v; want %q", given, got, err, want)
		}
	}
}

// TestRow: what a row says wins, the flags fill in the rest.
func TestRow(t *testing.T) {
	t.Parallel()
	o := flags()
	o.Defaults.DryRun, o.Defaults.ClientID, o.Defaults.OnUnknown = true, "192.0.2.7@1", events.Hold
	at := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	text := "msgId,topic,reason,requestedBy,operationId,priority,generation,storedAt,notAfter,dryRun,offsetId,unconsumed,client id\n" +
		id(1) + ",payments,why,bob,op-2,alert,2,2026-11-22 17:00:00+08:00,2026-11-22T09:00:00Z,FALSE,0A00002A00002A9F0000000000A1B2C3,True,192.0.2.8@2\n" +
		id(2) + ",,,,,,,,,,,,\n"
	b := read(t, "", text, o)
	got := []events.Requested{b.Items[0].Request, b.Items[1].Request}
	want := []events.Requested{{
		InstanceID: instance, Topic: "payments", GroupID: "GID_x", MsgID: id(1), Reason: "why", ClientID: "192.0.2.8@2", RequestedBy: "bob", OperationID: "op-2",
		Priority: events.PriorityAlert, Generation: 2, StoredAt: at, NotAfter: at, OnUnknown: events.Hold, OffsetID: "0A00002A00002A9F0000000000A1B2C3", Unconsumed: true,
	}, {
		InstanceID: instance, Topic: "orders", GroupID: "GID_x", MsgID: id(2), Reason: "consumer was down", ClientID: "192.0.2.7@1", RequestedBy: "anna", OperationID: "op-1",
		Priority: events.PriorityHuman, OnUnknown: events.Hold, DryRun: true,
	}}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b time.Time) bool { return a.Equal(b) })); diff != "" {
		t.Error(diff)
	}
	if b.OperationID != "" {
		t.Errorf("there are two operations, and it says %s", b.OperationID)
	}
	check(t, b)
}

// TestEvent: the id of what is made follows from run, message and generation alone,
// whatever operation a row or a manifest is of.
func TestEvent(t *testing.T) {
	t.Parallel()
	made := read(t, "", data, flags()).Items[0].Event
	if diff := cmp.Diff(events.Event{
		ID: "repush-09e799b6b5d95a317617aff5ec217e6f", Source: "repush/inject/anna", Type: events.TypeMessageRequested, Time: now().Truncate(time.Second), Data: made.Data,
	}, made); diff != "" {
		t.Error(diff)
	}
	o := flags()
	o.Defaults.OperationID = "op-2"
	of := strings.Replace(data, "}", `,"operationId":"plan-1"}`, 1)
	same := []string{of, data + "\n", strings.Replace(data, first, strings.ToLower(first), 1), strings.Replace(data, "}", `,"generation":1,"dryRun":true}`, 1)}
	for _, text := range same {
		if id := read(t, "", text, flags()).Items[0].Event.ID; id != made.ID {
			t.Errorf("%s: another id", text)
		}
	}
	for _, other := range []Batch{read(t, "", data, o), read(t, "", of, o), read(t, "", strings.Replace(data, "}", `,"generation":2}`, 1), flags()), read(t, "", strings.Replace(data, "orders", "order", 1), flags())} {
		if other.Items[0].Event.ID == made.ID {
			t.Errorf("the same id: %s", other.Items[0].Event.Data)
		}
	}
	sent, err := events.Decode([]byte(event))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sent, read(t, "", event, flags()).Items[0].Event); diff != "" {
		t.Errorf("a CloudEvent is sent as it is: %s", diff)
	}
}

func TestPriority(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]events.Priority{20: events.PriorityHuman, 21: events.PriorityBulk} {
		for _, it := range read(t, "", numbered(data, n, "\n"), flags()).Items {
			if it.Request.Priority != want {
				t.Errorf("%d: %s is %s", n, it.Place, it.Request.Priority)
			}
		}
	}
	b := read(t, "", numbered(event, 21, "\n"), flags())
	if b.Items[0].Request.Priority != "" || strings.Contains(string(b.Items[0].Event.Data), "priority") {
		t.Errorf("a CloudEvent has another priority: %s", b.Items[0].Event.Data)
	}
}

// TestOrder: what expires first is first, what is not known comes last.
func TestOrder(t *testing.T) {
	t.Parallel()
	text := "msgId,storedAt,notAfter\n" +
		id(1) + ",,\n" + id(2) + ",2026-11-22T01:00:00Z,\n" + id(3) + ",,2026-11-22T02:00:00Z\n" + id(4) + ",,\n" +
		id(5) + ",2026-11-22T01:00:00Z,2026-11-22T03:00:00Z\n" + id(6) + ",2026-11-20T00:00:00Z,2026-12-22T03:00:00Z\n" + id(7) + ",2026-11-22T09:00:00+08:00,\n"
	var got []string
	for _, it := range read(t, "", text, flags()).Items {
		got = append(got, it.Request.MsgID)
	}
	if diff := cmp.Diff([]string{id(3), id(5), id(6), id(2), id(7), id(1), id(4)}, got); diff != "" {
		t.Error(diff)
	}
	text = "msgId,storedAt\n"
	for i := range 300 {
		text += fmt.Sprintf("%s,2026-11-22T0%d:00:00Z\n", id(i), i*7%3)
	}
	items := read(t, "", text, flags()).Items
	for i, it := range items[1:] {
		before := items[i].Request
		if it.Request.StoredAt.Before(before.StoredAt) || it.Request.StoredAt.Equal(before.StoredAt) && it.Request.MsgID < before.MsgID {
			t.Errorf("%s is behind %s", it.Place, items[i].Place)
		}
	}
}

func TestSeveralInputs(t *testing.T) {
	t.Parallel()
	one, two := Input{Name: "a.csv", Data: []byte("msgId\n" + id(1) + "\n" + id(2) + "\n")}, Input{Name: "b.json", Data: []byte(data)}
	_, err := Read([]Input{one, two, {Name: "c"}}, flags())
	want := "2 of 4 are wrong\n  event 1 of b.json: the same message and generation as a.csv line 2\n  c: is empty"
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	two.Data = []byte(plan)
	b, err := Read([]Input{one, two}, flags())
	if err != nil || len(b.Items) != 2 || len(b.Plans) != 1 || b.Plans[0].ID != "p1" || b.OperationID != "op-1" {
		t.Errorf("%v, %v", b, err)
	}
	if b, err := Read(nil, flags()); err != nil || !reflect.DeepEqual(b, Batch{}) {
		t.Errorf("%v, %v", b, err)
	}
}

// TestWrongFlags: they are named once, not in every row.
func TestWrongFlags(t *testing.T) {
	t.Parallel()
	o := flags()
	o.Defaults.Reason, o.Defaults.ClientID = strings.Repeat("x", 257), "a b"
	_, err := Read([]Input{{Data: []byte("msgId\n" + id(1))}}, o)
	want := "2 of 2 are wrong\n  the flags: reason: must be 1 to 256 characters without control characters and U+FFFD\n  the flags: clientId: must be 1 to 255 letters, digits and @#._:%~+-"
	if err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
	if _, err := Read([]Input{{Data: []byte(data)}}, Options{}); err != nil {
		t.Errorf("whole data needs no flags: %v", err)
	}
	_, err = Read([]Input{{Data: []byte("msgId\n" + id(1))}}, Options{})
	if err == nil || !strings.Contains(err.Error(), "line 2: instanceId: is required; topic: is required; groupId: is required; reason: is required") {
		t.Errorf("%v", err)
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	half := []byte("[" + strings.Repeat("7,", MaxMessages/2) + "7]")
	_, err := Read([]Input{{Data: half}, {Name: "x", Data: half}}, flags())
	problems, is := errors.AsType[*Problems](err)
	want := Problem{"event 50000 of x", "is more than 100000 in all: inject them in several runs"}
	if !is || problems.Checked != MaxMessages+1 || problems.List[MaxMessages] != want {
		t.Errorf("%v, %d", is, problems.Checked)
	}
	_, err = Read([]Input{{Data: []byte("[" + strings.Repeat("7,", MaxMessages) + "7]")}}, flags())
	if err == nil || !strings.Contains(err.Error(), "more than 100000 events") {
		t.Errorf("%v", err)
	}
	_, err = Read([]Input{{Name: "x", Data: make([]byte, MaxInputBytes+1)}}, flags())
	if want := "1 of 1 are wrong\n  x: larger than 67108864 bytes: split it"; err == nil || err.Error() != want {
		t.Errorf("%v", err)
	}
}

// planned is a manifest of n messages as plan -o writes it.
func planned(n int) events.Planned {
	p := events.Planned{
		OperationID: "plan-1", IncidentID: "i1", InstanceID: instance, GroupID: "GID_x", Source: events.Unconsumed, Reason: "alert", CutOff: now(), Count: n,
		Incomplete: "page 7 was not read", Part: 1, Parts: 1, DryRun: true,
	}
	for i := range n {
		p.Entries = append(p.Entries, events.Entry{Topic: "orders", MsgID: id(i + 1), Generation: 2, OffsetID: id(i), StoredAt: now().Add(time.Duration(i) * time.Second)})
	}
	p.SHA256 = events.ManifestHash(p.Entries)
	return p
}

func encode(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// parts are the events of a manifest, the last one first.
func parts(t testing.TB, p events.Planned) (all []string) {
	t.Helper()
	for _, part := range events.Parts(p) {
		e, err := events.NewPlanned(part, "", now())
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(raw))
	}
	slices.Reverse(all)
	return all
}

func TestManifest(t *testing.T) {
	t.Parallel()
	const n = 2000 // more than a part may have
	p := planned(n)
	split := parts(t, p)
	if len(split) < 2 {
		t.Fatal("the manifest has one part")
	}
	o := flags()
	o.Defaults.ClientID = "192.0.2.7@1"
	for name, text := range map[string]string{
		"as plan writes it": encode(t, p), "its parts as lines": strings.Join(append(split, split[0]), "\n"), "its parts as an array": "[" + strings.Join(split, ",") + "]",
	} {
		b := read(t, "plan.json", text, o)
		if len(b.Items) != n || b.OperationID != "plan-1" || b.Incomplete != p.Incomplete {
			t.Fatalf("%s: %d items of %s, %s", name, len(b.Items), b.OperationID, b.Incomplete)
		}
		check(t, b)
		want := events.Requested{
			InstanceID: instance, Topic: "orders", GroupID: "GID_x", MsgID: id(17), Reason: "consumer was down", ClientID: "192.0.2.7@1", RequestedBy: "anna", OperationID: "plan-1",
			Priority: events.PriorityBulk, Generation: 2, StoredAt: now().Add(16 * time.Second), OffsetID: id(16), Unconsumed: true,
		}
		if diff := cmp.Diff(want, b.Items[16].Request); diff != "" || b.Items[16].Place != "entry 17 of plan.json" {
			t.Errorf("%s: %s: %s", name, b.Items[16].Place, diff)
		}
	}
	dead := planned(1)
	dead.Source = events.DeadLetters
	if it := read(t, "", encode(t, dead), Options{Now: now()}).Items[0]; it.Request.Unconsumed || it.Request.Reason != "alert" || it.Place != "entry 1" {
		t.Errorf("%+v", it)
	}
}

func TestManifestRefused(t *testing.T) {
	t.Parallel()
	whole, split := planned(2), parts(t, planned(2000))
	edited, empty, none, odd := planned(2), planned(0), planned(0), planned(1)
	edited.Entries[1].MsgID = id(7)
	none.OperationID, none.SHA256, none.Code, none.Message = "", "", "Throttled", "the API did not answer"
	odd.InstanceID = ""
	part := events.Parts(planned(2000))[1]
	const asItWas = "; a manifest counts whole and as it was planned: what is edited goes into CSV or JSON Lines"
	for name, test := range map[string]struct{ text, says string }{
		"edited":          {encode(t, edited), "its messages are not those that were planned"},
		"edited, says so": {encode(t, edited), asItWas},
		"an entry less":   {strings.Replace(encode(t, whole), `"count": 2`, `"count": 3`, 1), "event 1: manifest: it says that it has 3 messages, and has 2" + asItWas},
		"empty":           {encode(t, empty), "event 1: manifest: no message is in it"},
		"none":            {encode(t, none), "event 1: manifest: there is none: the API did not answer"},
		"unknown field":   {strings.Replace(encode(t, whole), `"count"`, `"cuont"`, 1), `event 1: manifest: json: unknown field "cuont"`},
		"wrong instance":  {encode(t, odd), "event 1: manifest: instanceId: is required"},
		"one part alone":  {encode(t, part), "manifest: part 1 of"},
		"a part missing":  {strings.Join(split[1:], "\n"), "line 1: manifest: "},
		"twice":           {"[" + encode(t, whole) + "," + encode(t, whole) + "]", "2 of 4 are wrong\n  entry 1: the same message and generation as entry 1"},
		"a wrong part":    {strings.Replace(split[0], `"parts"`, `"prats"`, 1), "prats: is not a field"},
		"beside plans":    {plan + "\n" + strings.Join(split, "\n"), "holds requests for plans beside others"},
	} {
		if _, err := Read([]Input{{Data: []byte(test.text)}}, flags()); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v\nwant %s", name, err, test.says)
		}
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	text := "msgId,topic,group,storedAt,notAfter,generation,unconsumed,dryRun\n" +
		id(1) + ",payments,GID_y,,,,,\n" +
		id(2) + ",orders,GID_x,,,3,true,true\n" +
		id(3) + ",orders,GID_x,2026-11-19T10:00:00Z,,,,\n" + // expired by 700 ns
		id(4) + ",orders,GID_x,2026-11-22T09:00:00Z,2026-11-22T09:59:00Z,,,\n" + // past
		id(5) + ",orders,GID_x,2026-11-19T10:00:05Z,,,,\n" + // in 5 s
		id(6) + ",orders,GID_x,2026-11-19T10:00:06Z,,,,\n" + // in 6 s, behind one that takes 4
		id(7) + ",orders,GID_x,,2026-11-22T10:00:09Z,,,\n" +
		id(8) + ",payments,GID_x,2026-11-22T09:00:00Z,,,,\n"
	b := read(t, "", text, flags())
	want := Summary{
		Count:  8,
		Groups: []GroupCount{{instance, "GID_x", "orders", 6}, {instance, "GID_x", "payments", 1}, {instance, "GID_y", "payments", 1}},
		Again:  1, Unconsumed: 1, DryRun: 1, Seconds: 20, Expired: 2, Expiring: 1, Undated: 3,
	}
	if diff := cmp.Diff(want, b.Summary(Quota{PerSecond: 0.25, Now: now()})); diff != "" {
		t.Error(diff)
	}
	want.Seconds, want.Expiring = 0, 0
	if diff := cmp.Diff(want, b.Summary(Quota{Now: now(), MaxAge: 72 * time.Hour})); diff != "" {
		t.Errorf("no quota: %s", diff)
	}
	if s := b.Summary(Quota{PerSecond: 10, MaxAge: time.Hour, Now: now()}); s.Expired != 5 {
		t.Errorf("%d are older than an hour, or past", s.Expired)
	}
	if diff := cmp.Diff(Summary{Groups: []GroupCount{}}, Batch{}.Summary(Quota{PerSecond: 10, Now: now()})); diff != "" {
		t.Error(diff)
	}
}

// FuzzRead: nothing panics; what is accepted keeps the contract, each message and id
// is there once, and the same input makes the same batch.
func FuzzRead(f *testing.F) {
	for _, text := range []string{
		event, data, plan, pretty(event), numbered(event, 3, "\n"), "[" + data + "]", encode(f, planned(2)), strings.Join(parts(f, planned(3)), "\n"),
		"msgId\n" + id(1), "\ufeffmessage_id;reason;storedAt;dryRun;generation\r\n" + id(1) + ";\"a\n\";2026-11-22 10:00:00Z;TRUE;2\r\n", "msgId\ttopic\n\"", `{"parts":1}`, "{\n{", "[", "",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		inputs := []Input{{Name: "x", Data: text}}
		b, err := Read(inputs, flags())
		again, errAgain := Read(inputs, flags())
		if !reflect.DeepEqual(b, again) || !reflect.DeepEqual(err, errAgain) {
			t.Fatal("not the same twice")
		}
		check(t, b)
		s := b.Summary(Quota{PerSecond: 10, Now: now()})
		if s.Count != len(b.Items) || s.Expired+s.Expiring > s.Count {
			t.Fatalf("%+v", s)
		}
		problems, is := errors.AsType[*Problems](err)
		switch {
		case err == nil && len(b.Items)+len(b.Plans) == 0:
			t.Fatal("accepted, and nothing is in it")
		case err != nil && (!is || len(problems.List) == 0 || len(problems.List) > problems.Checked || !reflect.DeepEqual(b, Batch{})):
			t.Fatalf("%v, %v", b, err)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	var csv, lines strings.Builder
	csv.WriteString("instanceId,topic,groupId,msgId,storedAt\n")
	for i := range 10_000 {
		fmt.Fprintf(&csv, "%s,orders,GID_x,%032X,2026-11-22T09:00:00Z\n", instance, i)
		lines.WriteString(strings.Replace(data, first, fmt.Sprintf("%032X", i), 1) + "\n")
	}
	for name, text := range map[string]string{"csv": csv.String(), "lines": lines.String()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(read(b, "", text, flags()).Items) != 10_000 {
					b.Fatal("lost some")
				}
			}
		})
	}
}
