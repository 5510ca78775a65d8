package ons

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

const (
	testInstance = "MQ_INST_1000_demo"
	uniqueID     = "C00002071092000000000000000A0001"
	copyID       = "C000020100002A9F0000000000000042"
	originID     = "C000020100002A9F0000000000000007"
)

var (
	storedAt = time.UnixMilli(1_795_000_000_123).UTC()
	bornAt   = time.UnixMilli(1_794_000_000_456).UTC()
	query    = planning.Query{InstanceID: testInstance, GroupID: "GID_orders", From: bornAt, To: storedAt, Number: 1}
)

// reads are all operations that read, by a sentence; in each, what it says of an
// answer in which nothing stands, and of the code BIZ_NO_MESSAGE.
var reads = map[string]struct {
	call  func(context.Context, *Client) (any, error)
	query map[string]string
	none  any
	fails bool // on BIZ_NO_MESSAGE
}{
	"a page of dead letters": {
		func(ctx context.Context, c *Client) (any, error) { return c.DeadLetters(ctx, query) },
		map[string]string{"Action": planning.OpDeadLetters, "GroupId": "GID_orders", "BeginTime": "1794000000456", "EndTime": "1795000000123", "CurrentPage": "1", "PageSize": "50"},
		planning.Page{}, false,
	},
	"a later page of a topic": {
		func(ctx context.Context, c *Client) (any, error) {
			return c.Messages(ctx, planning.Query{InstanceID: testInstance, Topic: "orders", From: bornAt, To: storedAt, Number: 3, TaskID: "T1"})
		},
		map[string]string{"Action": planning.OpMessages, "Topic": "orders", "BeginTime": "1794000000456", "EndTime": "1795000000123", "CurrentPage": "3", "PageSize": "50", "TaskId": "T1"},
		planning.Page{TaskID: "T1"}, false,
	},
	"a message by its id": {
		func(ctx context.Context, c *Client) (any, error) {
			return c.ByID(ctx, testInstance, "orders", uniqueID)
		},
		map[string]string{"Action": planning.OpByID, "Topic": "orders", "MsgId": uniqueID},
		[]planning.Stored(nil), false,
	},
	"messages by a key": {
		func(ctx context.Context, c *Client) (any, error) { return c.ByKey(ctx, testInstance, "orders", "k 1") },
		map[string]string{"Action": planning.OpByKey, "Topic": "orders", "Key": "k 1"},
		[]planning.Stored(nil), false,
	},
	"who has consumed a message": {
		func(ctx context.Context, c *Client) (any, error) {
			return c.Trace(ctx, testInstance, "orders", uniqueID)
		},
		map[string]string{"Action": planning.OpTrace, "Topic": "orders", "MsgId": uniqueID},
		map[string]string{}, true,
	},
	"what a group has left": {
		func(ctx context.Context, c *Client) (any, error) { return c.Lag(ctx, testInstance, "GID_orders") },
		map[string]string{"Action": planning.OpLag, "GroupId": "GID_orders", "Detail": "true"},
		[]planning.Lag(nil), true,
	},
}

// TestReads: each sends what it is asked for, once; nothing that matches is no
// error where the contract says so; and every failure is one of a kind that a
// read can have.
func TestReads(t *testing.T) {
	t.Parallel()
	if len(reads) == 0 {
		t.Fatal("no reads")
	}
	for name, r := range reads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{`{"RequestId":"R"}`, `{"RequestId":"R","Data":null,"MsgFoundDo":null}`, `{"RequestId":"R","Data":{},"MsgFoundDo":{"MsgFoundList":{}}}`} {
				a := newAPI(t, false, says(200, body))
				got, err := r.call(t.Context(), a.client(t))
				if diff := cmp.Diff(r.none, got); diff != "" || err != nil {
					t.Errorf("%s: %v\n%s", body, err, diff)
				}
				want := map[string]string{"InstanceId": testInstance}
				for name, value := range r.query {
					want[name] = value
				}
				sent := map[string]string{}
				for name := range a.calls[0] {
					if _, meant := want[name]; meant || name == "TaskId" {
						sent[name] = a.calls[0].Get(name)
					}
				}
				if want["TaskId"] == "" && sent["TaskId"] == "" {
					delete(sent, "TaskId")
				}
				if diff := cmp.Diff(want, sent); diff != "" {
					t.Error(diff)
				}
			}
			for _, status := range []int{200, 400, 404} {
				a := newAPI(t, false, says(status, `{"RequestId":"R","Code":"BIZ_NO_MESSAGE","Message":"x"}`))
				got, err := r.call(t.Context(), a.client(t))
				if r.fails {
					if e := wantKind(t, err, map[bool]pushing.Kind{true: pushing.Unavailable, false: pushing.Refused}[status == 200]); e.Code != "BIZ_NO_MESSAGE" {
						t.Errorf("code %q", e.Code)
					}
				} else if diff := cmp.Diff(r.none, got); diff != "" || err != nil {
					t.Errorf("status %d: %v\n%s", status, err, diff)
				}
			}
			for body, kind := range map[string]pushing.Kind{
				`{"RequestId":"R","Code":"Throttling.User","Message":"x"}`: pushing.Throttled,
				`{"RequestId":"R","Code":"InternalError","Message":"x"}`:   pushing.Unavailable,
				`{"RequestId":"R","Code":"Forbidden.RAM","Message":"x"}`:   pushing.Refused,
			} {
				a := newAPI(t, false, says(400, body))
				_, err := r.call(t.Context(), a.client(t))
				if e := wantKind(t, err, kind); e.Op != r.query["Action"] || e.Denied != (kind == pushing.Refused) {
					t.Errorf("%+v", e)
				}
				if calls, _ := a.counts(); calls != 1 {
					t.Errorf("%d requests for one call", calls)
				}
			}
			for _, body := range []string{`{"RequestId":"R","Data":"","MsgFoundDo":""}`, `{"RequestId":"R","Data":[1],"MsgFoundDo":[1]}`} {
				_, err := r.call(t.Context(), newAPI(t, false, says(200, body)).client(t))
				wantKind(t, err, pushing.Unavailable)
			}
		})
	}
}

// message is one as the API shows it: pairs of property names and values follow.
func message(topic, msgID, offsetID string, pairs ...string) string {
	properties := []map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		properties = append(properties, map[string]string{"Name": pairs[i], "Value": pairs[i+1]})
	}
	text, _ := json.Marshal(map[string]any{
		"Topic": topic, "MsgId": msgID, "OffsetId": offsetID, "InstanceId": testInstance, "Body": "SECRET-BODY", "StoreSize": 300,
		"StoreTimestamp": storedAt.UnixMilli(), "BornTimestamp": bornAt.UnixMilli(), "PropertyList": map[string]any{"MessageProperty": properties},
	})
	return string(text)
}

// TestStored maps a message, as the API shows it, to what is kept of it when it
// is met as a dead letter and when it is met as a message.
func TestStored(t *testing.T) {
	t.Parallel()
	whole := planning.Stored{Topic: "orders", MsgID: uniqueID, OffsetID: copyID, StoredAt: storedAt, BornAt: bornAt}
	with := func(change func(*planning.Stored)) planning.Stored { s := whole; change(&s); return s }
	timed := func(stored, born string) string {
		text := strings.Replace(message("orders", uniqueID, copyID), "1795000000123", stored, 1)
		return strings.Replace(text, "1794000000456", born, 1)
	}
	for name, c := range map[string]struct {
		shown string
		want  planning.Stored
		dead  pushing.Origin
	}{
		"whole":                             {message("orders", uniqueID, copyID, "KEYS", "k", "UNIQ_KEY", uniqueID), whole, pushing.Origin{MsgID: uniqueID}},
		"MsgId is the offset id":            {message("orders", copyID, "", "UNIQ_KEY", uniqueID), whole, pushing.Origin{MsgID: uniqueID}},
		"MsgId is not the unique key":       {message("orders", originID, copyID, "UNIQ_KEY", uniqueID), whole, pushing.Origin{MsgID: uniqueID}},
		"no offset id is shown":             {message("orders", uniqueID, "", "UNIQ_KEY", uniqueID), with(func(s *planning.Stored) { s.OffsetID = "" }), pushing.Origin{MsgID: uniqueID}},
		"no unique key":                     {message("orders", copyID, ""), with(func(s *planning.Stored) { s.MsgID = copyID }), pushing.Origin{}},
		"a topic with its instance":         {message(testInstance+"%orders", uniqueID, copyID), whole, pushing.Origin{}},
		"a dead-letter topic with instance": {message("%DLQ%"+testInstance+"%GID_orders", uniqueID, copyID), with(func(s *planning.Stored) { s.Topic = "%DLQ%GID_orders" }), pushing.Origin{}},
		"all names of an origin": {
			message("orders", uniqueID, copyID, "UNIQ_KEY", uniqueID, "ORIGIN_MESSAGE_ID", originID, "RETRY_TOPIC", testInstance+"%orders", "REAL_TOPIC", "%RETRY%GID_orders"),
			whole, pushing.Origin{Topic: "orders", MsgID: uniqueID, OffsetID: originID},
		},
		"the first of two":     {message("orders", uniqueID, copyID, "UNIQ_KEY", uniqueID, "UNIQ_KEY", originID), whole, pushing.Origin{MsgID: uniqueID}},
		"times nobody knows":   {timed("0", "-1"), with(func(s *planning.Stored) { s.StoredAt, s.BornAt = time.Time{}, time.Time{} }), pushing.Origin{}},
		"times beyond the end": {timed("9223372036854775807", "253402300800000"), with(func(s *planning.Stored) { s.StoredAt, s.BornAt = time.Time{}, time.Time{} }), pushing.Origin{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list := `{"RequestId":"R","Data":{"OnsRestMessageDo":[` + c.shown + `]},"MsgFoundDo":{"TaskId":"T","MaxPageCount":2,"MsgFoundList":{"OnsRestMessageDo":[` + c.shown + `]}}}`
			lists, single := newAPI(t, false, says(200, list)).client(t), newAPI(t, false, says(200, `{"RequestId":"R","Data":`+c.shown+`}`)).client(t)
			check := func(says string, want planning.Stored, got []planning.Stored, err error) {
				if diff := cmp.Diff([]planning.Stored{want}, got); diff != "" || err != nil {
					t.Errorf("%s: %v\n%s", says, err, diff)
				}
			}
			dead := c.want
			dead.Origin = c.dead
			p, err := lists.DeadLetters(t.Context(), query)
			check("dead letter", dead, p.Messages, err)
			p, err = lists.Messages(t.Context(), planning.Query{InstanceID: testInstance, Topic: "orders", Number: 1})
			check("message of a topic", c.want, p.Messages, err)
			if at := p.Messages[0].StoredAt; at.Location() != time.UTC {
				t.Errorf("a time in %v", at.Location())
			}
			if p.TaskID != "T" || p.Pages != 2 {
				t.Errorf("task %q of %d pages", p.TaskID, p.Pages)
			}
			got, err := lists.ByKey(t.Context(), testInstance, "orders", "k")
			check("by key", c.want, got, err)
			got, err = single.ByID(t.Context(), testInstance, "orders", uniqueID)
			check("by id", c.want, got, err)
		})
	}
}

// TestPages maps what an answer says of its task, with one message or none, to
// what comes of it when the second page of task T was asked for.
func TestPages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says     string
		messages int
		want     planning.Page
	}{
		"as documented":                 {`"TaskId":"T","MaxPageCount":3,"CurrentPage":2`, 1, planning.Page{TaskID: "T", Pages: 3}},
		"more pages than can be read":   {`"TaskId":"T","MaxPageCount":51`, 1, planning.Page{TaskID: "T", Pages: 50}},
		"far more":                      {`"TaskId":"T","MaxPageCount":9223372036854775807`, 1, planning.Page{TaskID: "T", Pages: 50}},
		"fewer than none":               {`"TaskId":"T","MaxPageCount":-1`, 0, planning.Page{TaskID: "T"}},
		"no pages, and yet messages":    {`"TaskId":"T"`, 1, planning.Page{TaskID: "T", Pages: 2}},
		"a task that is not said again": {`"MaxPageCount":2`, 1, planning.Page{TaskID: "T", Pages: 2}},
		"another task":                  {`"TaskId":"U","MaxPageCount":2`, 1, planning.Page{TaskID: "U", Pages: 2}},
	} {
		list := strings.Repeat(message("orders", uniqueID, copyID), c.messages)
		a := newAPI(t, false, says(200, `{"RequestId":"R","MsgFoundDo":{`+c.says+`,"MsgFoundList":{"OnsRestMessageDo":[`+list+`]}}}`))
		got, err := a.client(t).Messages(t.Context(), planning.Query{InstanceID: testInstance, Topic: "orders", Number: 2, TaskID: "T"})
		if len(got.Messages) != c.messages {
			t.Errorf("%s: %d messages", name, len(got.Messages))
		}
		got.Messages = nil
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
}

func TestTrace(t *testing.T) {
	t.Parallel()
	a := newAPI(t, false, says(200, `{"RequestId":"R","Data":{"MessageTrack":[{"ConsumerGroup":"GID_a","TrackType":"CONSUMED","InstanceId":"x"},
		{"ConsumerGroup":"`+testInstance+`%GID_b","TrackType":"NOT_ONLINE","ExceptionDesc":"e"},{"ConsumerGroup":"GID_c"}]}}`))
	got, err := a.client(t).Trace(t.Context(), testInstance, "orders", uniqueID)
	if diff := cmp.Diff(map[string]string{"GID_a": "CONSUMED", "GID_b": "NOT_ONLINE", "GID_c": ""}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestLag(t *testing.T) {
	t.Parallel()
	now := storedAt.Add(time.Hour)
	topic := func(name string, left, last, delay int64) string {
		return fmt.Sprintf(`{"Topic":%q,"TotalDiff":%d,"LastTimestamp":%d,"DelayTime":%d}`, name, left, last, delay)
	}
	a := newAPI(t, false, says(200, `{"RequestId":"R","Data":{"Online":true,"TotalDiff":9,"DetailInTopicList":{"DetailInTopicDo":[`+strings.Join([]string{
		topic("even", 3, storedAt.UnixMilli(), time.Minute.Milliseconds()),
		topic(testInstance+"%uneven", 2, storedAt.UnixMilli(), 3*time.Hour.Milliseconds()),
		topic("never", 1, 0, 1<<62), topic("bent", 1, storedAt.UnixMilli(), -1<<63),
		topic("done", 0, storedAt.UnixMilli(), 0), topic("less", -1, 0, 0),
		topic("%RETRY%GID_orders", 4, storedAt.UnixMilli(), 0), topic("%DLQ%"+testInstance+"%GID_orders", 4, storedAt.UnixMilli(), 0),
	}, ",")+`]}}}`))
	got, err := a.client(t, func(cfg *Config) { cfg.Now = func() time.Time { return now } }).Lag(t.Context(), testInstance, "GID_orders")
	want := []planning.Lag{
		{Topic: "even", Messages: 3, Consumed: storedAt}, {Topic: "uneven", Messages: 2, Consumed: now.Add(-3 * time.Hour)},
		{Topic: "never", Messages: 1}, {Topic: "bent", Messages: 1, Consumed: storedAt},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// fullPage is a page of 50 messages with 16 KB of properties each, all of them
// as long as they can get in JSON.
func fullPage() string {
	shown := message("orders", uniqueID, copyID, "UNIQ_KEY", uniqueID, "p", strings.Repeat("\"", 16<<10))
	return `{"RequestId":"R","MsgFoundDo":{"TaskId":"T","MaxPageCount":1,"MsgFoundList":{"OnsRestMessageDo":[` + strings.Repeat(shown+",", 49) + shown + `]}}}`
}

// TestAnswersHaveBounds: lists may be larger than the rest, and nothing is read
// without end.
func TestAnswersHaveBounds(t *testing.T) {
	t.Parallel()
	padded := func(size int) http.HandlerFunc {
		return says(200, `{"RequestId":"R","HelpUrl":"`+strings.Repeat("x", size)+`"}`)
	}
	for name, r := range reads {
		sizes := map[int]bool{maxAnswerBytes + 1: !r.fails}
		if r.query["Action"] == planning.OpDeadLetters {
			sizes[maxListBytes-100], sizes[maxListBytes+1] = true, false
		}
		for size, fits := range sizes {
			_, err := r.call(t.Context(), newAPI(t, false, padded(size)).client(t))
			if fits && err != nil {
				t.Errorf("%s, %d bytes: %v", name, size, err)
			} else if e := (*pushing.Error)(nil); !fits && (!errors.As(err, &e) || e.Kind != pushing.Unavailable || !strings.Contains(e.Error(), " MB")) {
				t.Errorf("%s, %d bytes: %v", name, size, err)
			}
		}
	}
	p, err := newAPI(t, false, says(200, fullPage())).client(t).DeadLetters(t.Context(), query)
	if err != nil || len(p.Messages) != 50 {
		t.Errorf("%d messages of a full page, %v", len(p.Messages), err)
	}
}

// TestNothingElseIsKept: six full pages are 5 MB of properties. It
// measures the heap, so it does not run beside others.
func TestNothingElseIsKept(t *testing.T) {
	c := newAPI(t, false, says(200, fullPage())).client(t)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // pools are emptied by the second
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	var kept []planning.Stored
	read := func() {
		p, err := c.DeadLetters(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, p.Messages...)
	}
	read()
	before := heap()
	for range 6 {
		read()
	}
	if grown := int64(heap()) - int64(before); grown > 5<<20/2 {
		t.Errorf("%d entries keep %d KB", len(kept), grown>>10)
	}
	if text := fmt.Sprintf("%+v", kept[0]); strings.Contains(text, "SECRET-BODY") {
		t.Error("a body is kept")
	}
	runtime.KeepAlive(kept)
}

// TestQuotas: every operation of planning has one, and so has every read.
func TestQuotas(t *testing.T) {
	t.Parallel()
	want := map[string]float64{
		"OnsDLQMessagePageQueryByGroupId": 10, "OnsMessagePageQueryByTopic": 1. / 6, "OnsMessageGetByMsgId": 10, "OnsMessageGetByKey": 10,
		"OnsMessageTrace": 10, "OnsConsumerAccumulate": 10, "OnsConsumerGetConnection": 10,
	}
	if diff := cmp.Diff(want, Quotas()); diff != "" {
		t.Error(diff)
	}
	for name, r := range reads {
		if Quotas()[r.query["Action"]] == 0 {
			t.Errorf("%s has no quota", name)
		}
	}
	Quotas()[planning.OpLag] = 0
	if Quotas()[planning.OpLag] != 10 {
		t.Error("the quotas can be changed")
	}
}

// FuzzReads: no answer makes a read panic; what comes is an error of a kind, or
// a result that can be written as JSON and counts its pages.
func FuzzReads(f *testing.F) {
	shown := message("%DLQ%GID_orders", uniqueID, copyID, "UNIQ_KEY", uniqueID, "RETRY_TOPIC", "orders")
	for _, inner := range []string{
		`"MsgFoundDo":{"TaskId":"T","MaxPageCount":1,"MsgFoundList":{"OnsRestMessageDo":[` + shown + `]}}`, `"Data":` + shown,
		`"Data":{"OnsRestMessageDo":[` + shown + `]}`, `"Data":{"MessageTrack":[{"ConsumerGroup":"g","TrackType":"CONSUMED"}]}`,
		`"Data":{"DetailInTopicList":{"DetailInTopicDo":[{"Topic":"t","TotalDiff":1e3,"LastTimestamp":"7"}]}}`,
		`"Data":[]`, `"Data":"","MsgFoundDo":""`, `"Data":{"StoreTimestamp":1.5e300,"MsgId":{}}`, `"MsgFoundDo":{"MsgFoundList":[]}`,
		`"MsgFoundDo":{"MaxPageCount":true,"MsgFoundList":{"OnsRestMessageDo":[null,{},{"PropertyList":{"MessageProperty":[null]}}]}}`, `"Code":"BIZ_NO_MESSAGE"`,
	} {
		f.Add(200, []byte(`{"RequestId":"R",`+inner+`}`))
		f.Add(400, []byte(`{"RequestId":"R",`+inner+`}`))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c := newClient(t, Config{Region: "cn-hangzhou", Default: own})
		s := <-c.free
		s.sdk.SetTransport(canned{s, status, body})
		for _, name := range slices.Sorted(maps.Keys(reads)) {
			c.free <- s
			got, err := reads[name].call(context.Background(), c)
			if len(c.free) > 0 { // it did not panic
				<-c.free
			}
			var e *pushing.Error
			if err != nil && (!errors.As(err, &e) || e.Kind == pushing.Internal || e.Kind == pushing.Invalid || e.Kind == pushing.Unknown || strings.ContainsAny(e.Error(), "\n\r\x00")) {
				t.Fatalf("%s: %d %q ends as %#v", name, status, body, err)
			}
			if err == nil && json.NewEncoder(io.Discard).Encode(got) != nil {
				t.Fatalf("%s: %d %q cannot be written: %+v", name, status, body, got)
			}
			if p, isPage := got.(planning.Page); err == nil && isPage && (p.Pages < 0 || p.Pages > planning.MaxPages || p.Pages == 0 && p.Messages != nil) {
				t.Fatalf("%s: %d %q has %d pages and %d messages", name, status, body, p.Pages, len(p.Messages))
			}
		}
	})
}
