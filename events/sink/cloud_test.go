package sink_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/events/sink"
)

// key is what the stand-in knows; a call signed with anything else gets 403.
var key = sink.Credentials{AccessKeyID: "sesame-id", AccessKeySecret: "sesame-secret", SecurityToken: "sesame-token"}

func always(c sink.Credentials) func(context.Context) (sink.Credentials, error) {
	return func(context.Context) (sink.Credentials, error) { return c, nil }
}

// call is one signed call as the service saw it.
type call struct {
	Path, KeyID string
	IDs         []string       // of the events in it
	Events      []events.Event // the same, decoded
	Bytes       int            // of the body
}

// cloud is EventBridge and MNS on loopback. It checks every signature by the
// vendor's description, not with the code under test.
type cloud struct {
	*httptest.Server
	keys   []sink.Credentials
	answer func(n int, c call) (status int, body string) // nil, or status 0: everything is taken

	mu    sync.Mutex
	calls []call
}

func newCloud(t testing.TB, answer func(n int, c call) (int, string)) *cloud {
	c := &cloud{answer: answer, keys: []sink.Credentials{key}}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	return c
}

// target is this cloud as a target: "eventbridge", "queue" or "topic".
func (c *cloud) target(kind string) string {
	host := strings.TrimPrefix(c.URL, "http://")
	return map[string]string{"eventbridge": "eventbridge://" + host + "/bus_1", "queue": "mns://" + host + "/queues/q-1", "topic": "mns://" + host + "/topics/t-1"}[kind]
}

func (c *cloud) seen() []call {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

func (c *cloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	seen, err := c.read(r, body)
	if err != nil {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"code":"SignatureDoesNotMatch","requestId":"r","message":%q}`, err)
		return
	}
	c.mu.Lock()
	c.calls = append(c.calls, seen)
	n := len(c.calls)
	c.mu.Unlock()
	status, text := 0, ""
	if c.answer != nil {
		status, text = c.answer(n, seen)
	}
	if status == 0 {
		status, text = answerTo(seen, nil)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// answerTo takes over everything but the refused ids.
func answerTo(c call, refused map[string]string) (int, string) {
	var entries, messages string
	for i, id := range c.IDs {
		code := refused[id]
		entries += fmt.Sprintf(`,{"EventId":%q,"TraceId":"t","ErrorCode":%q}`, id, code)
		if messages += fmt.Sprintf(`<Message><MessageId>%d</MessageId><MessageBodyMD5>0</MessageBodyMD5></Message>`, i); code != "" {
			messages = strings.TrimSuffix(messages, fmt.Sprintf(`<Message><MessageId>%d</MessageId><MessageBodyMD5>0</MessageBodyMD5></Message>`, i)) +
				`<Message><ErrorCode>` + code + `</ErrorCode><ErrorMessage>sesame</ErrorMessage></Message>`
		}
	}
	const head = `<?xml version="1.0" encoding="UTF-8"?>`
	switch {
	case strings.HasPrefix(c.Path, "/openapi"):
		return 200, fmt.Sprintf(`{"RequestId":"r","ResourceOwnerAccountId":"1","FailedEntryCount":%d,"EntryList":[%s]}`, len(refused), entries[1:])
	case strings.HasPrefix(c.Path, "/topics"):
		return 201, head + `<Message xmlns="http://mns.aliyuncs.com/doc/v1/"><MessageId>m</MessageId><MessageBodyMD5>0</MessageBodyMD5></Message>`
	case len(refused) > 0:
		return 500, head + `<Messages xmlns="http://mns.aliyuncs.com/doc/v1/">` + messages + `</Messages>`
	}
	return 201, head + `<Messages xmlns="http://mns.aliyuncs.com/doc/v1/">` + messages + `</Messages>`
}

// read checks a call and takes it apart.
func (c *cloud) read(r *http.Request, body []byte) (call, error) {
	seen := call{Path: r.URL.Path, Bytes: len(body)}
	scheme, prefix, token := "MNS ", "x-mns-", r.Header.Get("security-token")
	if strings.HasPrefix(r.URL.Path, "/openapi/") {
		scheme, prefix, token = "acs:", "x-acs-", r.Header.Get("x-acs-security-token")
	}
	id, signature, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), scheme), ":")
	seen.KeyID = id
	at := slices.IndexFunc(c.keys, func(k sink.Credentials) bool { return k.AccessKeyID == id })
	if at < 0 || c.keys[at].SecurityToken != token || len(r.Header.Values("Authorization")) != 1 {
		return seen, errors.New("no such key, or a wrong token")
	}
	own := map[string]string{}
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, prefix) {
			own[lower] = strings.TrimSpace(r.Header.Get(name))
		}
	}
	toSign := "POST\n" + r.Header.Get("Content-MD5") + "\n" + r.Header.Get("Content-Type") + "\n" + r.Header.Get("Date") + "\n"
	for _, name := range slices.Sorted(maps.Keys(own)) {
		toSign += name + ":" + own[name] + "\n"
	}
	mac := hmac.New(sha1.New, []byte(c.keys[at].AccessKeySecret))
	mac.Write([]byte(toSign + r.RequestURI))
	if base64.StdEncoding.EncodeToString(mac.Sum(nil)) != signature {
		return seen, errors.New("the signature is not that of " + toSign)
	}
	date, err := http.ParseTime(r.Header.Get("Date"))
	if err != nil || time.Since(date).Abs() > 15*time.Minute || r.Method != http.MethodPost {
		return seen, errors.New("the date or the method is wrong")
	}
	if scheme == "acs:" {
		return seen, seen.readBatch(r, body, own, token, id)
	}
	return seen, seen.readMessages(r, body, own)
}

func (c *call) readBatch(r *http.Request, body []byte, own map[string]string, token, id string) error {
	var batch []json.RawMessage
	if err := json.Unmarshal(body, &batch); err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents-batch+json") {
		return fmt.Errorf("no batch: %w", err)
	}
	if own["x-acs-signature-method"] != "HMAC-SHA1" || own["x-acs-signature-nonce"] == "" || token != "" && own["x-acs-accesskey-id"] != id {
		return errors.New("a header is missing")
	}
	for _, raw := range batch {
		var bus struct{ AliyunEventBusName string }
		if err := json.Unmarshal(raw, &bus); err != nil || bus.AliyunEventBusName != "bus_1" || len(raw) > 64<<10 {
			return fmt.Errorf("an event of %d bytes on bus %q: %w", len(raw), bus.AliyunEventBusName, err)
		}
		if err := c.add(raw); err != nil {
			return err
		}
	}
	if len(batch) > 16 || len(body) > 256<<10 {
		return fmt.Errorf("%d events, %d bytes", len(batch), len(body))
	}
	return nil
}

func (c *call) readMessages(r *http.Request, body []byte, own map[string]string) error {
	type message struct{ MessageBody string }
	var m struct {
		XMLName xml.Name
		message
		Messages []message `xml:"Message"`
	}
	if err := xml.Unmarshal(body, &m); err != nil || own["x-mns-version"] != "2015-06-06" {
		return fmt.Errorf("no XML, or no version: %w", err)
	}
	if m.XMLName.Local == "Message" {
		m.Messages = []message{m.message}
	}
	total := 0
	for _, one := range m.Messages {
		total += len(one.MessageBody)
		raw, err := base64.StdEncoding.DecodeString(one.MessageBody)
		if err != nil {
			return err
		}
		if err := c.add(raw); err != nil {
			return err
		}
	}
	if len(m.Messages) > 16 || total > 64<<10 || total == 0 {
		return fmt.Errorf("%d messages, %d bytes", len(m.Messages), total)
	}
	return nil
}

func base64Of(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

func (c *call) add(raw []byte) error {
	e, err := events.Decode(raw)
	c.IDs, c.Events = append(c.IDs, e.ID), append(c.Events, e)
	return err
}

func batch(n int) (all []events.Event) {
	for i := range n {
		e := result(fmt.Sprintf("id-%02d", i))
		e.Subject, e.Data = "MQ_INST_1/GID/<topic>&\"x\"", json.RawMessage(`{"n":9007199254740993,"text":"größer <&> 推送"}`)
		all = append(all, e)
	}
	return all
}

var kinds = []string{"eventbridge", "queue", "topic"}

// TestCloudTakesEverything: 20 events arrive unchanged, once, in calls as large
// as allowed.
func TestCloudTakesEverything(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		for _, c := range []sink.Credentials{key, {AccessKeyID: "plain-id", AccessKeySecret: "plain-secret"}} {
			t.Run(kind+" "+c.AccessKeyID, func(t *testing.T) {
				t.Parallel()
				server := newCloud(t, nil)
				server.keys = append(server.keys, sink.Credentials{AccessKeyID: "plain-id", AccessKeySecret: "plain-secret"})
				sent := batch(20)
				if err := open(t, sink.Options{Credentials: always(c)}, server.target(kind)).Send(t.Context(), sent...); err != nil {
					t.Fatal(err)
				}
				var got []events.Event
				var sizes []int
				for _, call := range server.seen() {
					got, sizes = append(got, call.Events...), append(sizes, len(call.Events))
				}
				if diff := cmp.Diff(compact(t, sent), compact(t, got)); diff != "" {
					t.Errorf("events (-sent +got):\n%s", diff)
				}
				want := []int{16, 4}
				if kind == "topic" {
					want = slices.Repeat([]int{1}, 20)
				}
				if diff := cmp.Diff(want, sizes); diff != "" {
					t.Errorf("events per call (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// compact makes events comparable: the same JSON may be written in two ways.
func compact(t *testing.T, all []events.Event) (out []string) {
	t.Helper()
	for _, e := range all {
		text, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(text))
	}
	return out
}

// TestCloudAnswers maps what a service answers to the first call to what the
// sink does. Every later call is taken.
func TestCloudAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		body   string
		calls  int
		err    string // contained in the error; empty: none
	}{
		"throttled":                          {status: 429, body: `{"code":"TooManyRequests","requestId":"r"}`, calls: 2},
		"throttled by code":                  {status: 400, body: `<Error xmlns="http://mns.aliyuncs.com/doc/v1/"><Code>QpsLimitExceeded</Code><Message>m</Message></Error>`, calls: 2},
		"the signature is too old":           {status: 408, body: `<Error><Code>TimeExpired</Code></Error>`, calls: 2},
		"broken":                             {status: 500, body: `<Error><Code>InternalError</Code></Error>`, calls: 2},
		"broken in HTML":                     {status: 502, body: `<html><body>Bad Gateway`, calls: 2},
		"a proxy's page with 200":            {status: 200, body: `<html><body>sesame-token</body></html>`, calls: 2},
		"nothing with 200":                   {status: 200, calls: 2},
		"cut off":                            {status: 200, body: `{"RequestId":"r","FailedEnt`, calls: 2},
		"an error with 200":                  {status: 200, body: `<Error><Code>InternalError</Code></Error>`, calls: 2},
		"null with 200":                      {status: 200, body: `null`, calls: 2},
		"one of another shape":               {status: 201, body: `<Messages><Message><MessageId>1</MessageId></Message><Message><MessageId>2</MessageId></Message></Messages>`, calls: 2},
		"a message with neither id nor code": {status: 201, body: `<Messages><Message></Message></Messages>`, calls: 2},
		"a message with both":                {status: 201, body: `<Messages><Message><MessageId>1</MessageId><ErrorCode>InternalError</ErrorCode></Message></Messages>`, calls: 2},
		"failures that nobody is named for":  {status: 200, body: `{"RequestId":"r","FailedEntryCount":1,"EntryList":[]}`, calls: 2},
		"not allowed":                        {status: 403, body: `{"code":"AccessDenied","message":"sesame-token","requestId":"r"}`, calls: 1, err: "the target answered 403 "},
		"not allowed, with a success in it":  {status: 403, body: `{"RequestId":"r","FailedEntryCount":0}`, calls: 1, err: "the target answered 403 "},
		"no such queue":                      {status: 404, body: `<Error><Code>QueueNotExist</Code></Error>`, calls: 1, err: "check its name"},
		"bad request":                        {status: 400, body: `<Error><Code>sesame/token</Code></Error>`, calls: 1, err: "400 without a code"},
		"redirected":                         {status: 307, calls: 1, err: "the target answered 307"},
	} {
		for _, kind := range kinds {
			if kind == "eventbridge" && strings.Contains(test.body, "Qps") {
				continue // it answers in JSON, and throttles with 429
			}
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				server := newCloud(t, func(n int, _ call) (int, string) {
					if n == 1 {
						return test.status, test.body
					}
					return 0, ""
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := open(t, sink.Options{Credentials: always(key)}, server.target(kind)).Send(ctx, result("a"))
				if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				if n := len(server.seen()); n != test.calls {
					t.Errorf("%d calls, want %d", n, test.calls)
				}
				if err != nil && strings.Contains(err.Error(), "sesame") {
					t.Errorf("the error shows what it must not: %v", err)
				}
			})
		}
	}
}

// TestOneRefusedOfSixteenIsSentAgainAlone, or given up alone when its code says
// that it will not change.
func TestOneRefusedOfSixteenIsSentAgainAlone(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"eventbridge", "queue"} {
		for code, again := range map[string]bool{"InternalError": true, "InvalidArgument": false} {
			t.Run(kind+" "+code, func(t *testing.T) {
				t.Parallel()
				server := newCloud(t, func(n int, c call) (int, string) {
					if n == 1 {
						return answerTo(c, map[string]string{"id-07": code})
					}
					return 0, ""
				})
				err := open(t, sink.Options{Credentials: always(key)}, server.target(kind)).Send(t.Context(), batch(16)...)
				calls := server.seen()
				if again {
					if err != nil || len(calls) != 2 || !slices.Equal(calls[1].IDs, []string{"id-07"}) {
						t.Fatalf("error %v, calls %v", err, calls)
					}
					return
				}
				var partly *sink.UndeliveredError
				if !errors.As(err, &partly) || len(calls) != 1 || !slices.Equal(slices.Collect(maps.Keys(partly.Failed)), []int{7}) || partly.First() != 7 {
					t.Fatalf("error %v, calls %v", err, calls)
				}
				if text := partly.Failed[7].Error(); !strings.Contains(text, `"id-07": InvalidArgument`) || strings.Contains(text, "sesame") {
					t.Errorf("error %q", text)
				}
			})
		}
	}
}

// TestSize: an event of exactly 64 KB as the service counts is sent; one byte
// more is not, with a clear error, and holds up no other.
func TestSize(t *testing.T) {
	t.Parallel()
	sized := func(kind, id string, want int) events.Event {
		e := result(id)
		e.Data = json.RawMessage(`""`)
		raw, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		free := want - len(raw) - len(`,"aliyuneventbusname":"bus_1"`)
		if kind != "eventbridge" {
			free = want/4*3 - len(raw) // base64
		}
		e.Data = json.RawMessage(`"` + strings.Repeat("x", free) + `"`)
		return e
	}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			server := newCloud(t, nil)
			step := 1
			if kind != "eventbridge" {
				step = 4
			}
			all := []events.Event{sized(kind, "fits", 64<<10), sized(kind, "large", 64<<10+step), result("small")}
			for i := range 4 {
				all = append(all, sized(kind, fmt.Sprint("more", i), 60<<10))
			}
			err := open(t, sink.Options{Credentials: always(key)}, server.target(kind)).Send(t.Context(), all...)
			var partly *sink.UndeliveredError
			if !errors.As(err, &partly) || len(partly.Failed) != 1 || !strings.Contains(partly.Failed[1].Error(), `event "large" has 655`) {
				t.Fatalf("error %v", err)
			}
			var ids []string
			for _, call := range server.seen() {
				ids = append(ids, call.IDs...)
			}
			if diff := cmp.Diff([]string{"fits", "small", "more0", "more1", "more2", "more3"}, ids); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A part of a manifest that keeps its bound fits, whatever characters its texts have.
func TestAFullPartFitsWhateverItsReason(t *testing.T) {
	t.Parallel()
	p := events.Planned{
		OperationID: "op", IncidentID: "in", InstanceID: "i", GroupID: "gg", Source: events.DeadLetters, CutOff: time.Now(),
		Count: 1000, Reason: strings.Repeat("<&>", 80),
	}
	for i := range p.Count {
		p.Entries = append(p.Entries, events.Entry{Topic: "orders", MsgID: fmt.Sprintf("%032X", i), Generation: 1})
	}
	p.SHA256 = events.ManifestHash(p.Entries)
	part, err := events.NewPlanned(events.Parts(p)[0], "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		if err := open(t, sink.Options{Credentials: always(key)}, newCloud(t, nil).target(kind)).Send(t.Context(), part); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestCredentialsAreThoseOfTheCall: they change between two attempts of one
// Send, and are asked for with its context.
func TestCredentialsAreThoseOfTheCall(t *testing.T) {
	t.Parallel()
	type ctxKey struct{}
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			server := newCloud(t, func(n int, _ call) (int, string) { return map[int]int{1: 503}[n], "" })
			other := sink.Credentials{AccessKeyID: "other-id", AccessKeySecret: "other-secret"}
			server.keys = append(server.keys, other)
			asked := 0
			s := open(t, sink.Options{Credentials: func(ctx context.Context) (sink.Credentials, error) {
				if ctx.Value(ctxKey{}) != "invocation" {
					t.Error("asked without the context of the call")
				}
				asked++
				if asked == 1 {
					return key, nil
				}
				return other, nil
			}}, server.target(kind))
			if err := s.Send(context.WithValue(t.Context(), ctxKey{}, "invocation"), result("a")); err != nil {
				t.Fatal(err)
			}
			calls := server.seen()
			if len(calls) != 2 || calls[0].KeyID != key.AccessKeyID || calls[1].KeyID != other.AccessKeyID {
				t.Errorf("calls %v", calls)
			}
		})
	}
}

// TestNoSecretShows, whatever goes wrong.
func TestNoSecretShows(t *testing.T) {
	t.Parallel()
	nobody := httptest.NewServer(nil)
	nobody.Close()
	for name, credentials := range map[string]sink.Credentials{
		"wrong secret":          {AccessKeyID: "sesame-id", AccessKeySecret: "sesame-wrong", SecurityToken: "sesame-token"},
		"no secret":             {AccessKeyID: "sesame-id"},
		"no id":                 {AccessKeySecret: "sesame-secret"},
		"a line break in an id": {AccessKeyID: "sesame-id\r\nX: y", AccessKeySecret: "sesame-secret"},
		"a line break in a tok": {AccessKeyID: "sesame-id", AccessKeySecret: "sesame-secret", SecurityToken: "sesame\n"},
		"nobody there":          key,
	} {
		for _, kind := range kinds {
			t.Run(name+" "+kind, func(t *testing.T) {
				t.Parallel()
				server := newCloud(t, nil)
				target := server.target(kind)
				if name == "nobody there" {
					target = strings.Replace(target, strings.TrimPrefix(server.URL, "http://"), strings.TrimPrefix(nobody.URL, "http://"), 1)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				err := open(t, sink.Options{Credentials: always(credentials)}, target).Send(ctx, result("a"))
				for _, shown := range []string{fmt.Sprint(err), fmt.Sprintf("%+v", err), fmt.Sprintf("%#v", errors.Unwrap(err))} {
					if err == nil || strings.Contains(shown, "sesame") || strings.Contains(shown, "://") {
						t.Errorf("error %v", err)
					}
				}
				if half := strings.HasPrefix(name, "no "); half != strings.Contains(err.Error(), "or its secret is empty") {
					t.Errorf("error %v", err)
				}
			})
		}
	}
	c := key
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		if shown := fmt.Sprintf(verb+verb, c, &c); strings.Contains(shown, "sesame") || !strings.Contains(shown, "redacted") {
			t.Errorf("%s shows %s", verb, shown)
		}
	}
	if shown, err := json.Marshal(map[string]any{"c": c}); err != nil || string(shown) != `{"c":"[redacted]"}` {
		t.Errorf("JSON shows %s, %v", shown, err)
	}
}

func TestTheErrorOfTheCredentialsIsTheCause(t *testing.T) {
	t.Parallel()
	server := newCloud(t, nil)
	cause := errors.New("no role")
	s := open(t, sink.Options{Credentials: func(context.Context) (sink.Credentials, error) { return sink.Credentials{}, cause }}, server.target("queue"))
	if err := s.Send(t.Context(), result("a")); !errors.Is(err, cause) || len(server.seen()) != 0 {
		t.Errorf("error %v after %d calls", err, len(server.seen()))
	}
}

// TestContextEndsACall that is not answered.
func TestContextEndsACall(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			begun, release := make(chan struct{}), make(chan struct{})
			server := newCloud(t, func(int, call) (int, string) { close(begun); <-release; return 500, "" })
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-begun; cancel() }()
			err := open(t, sink.Options{Credentials: always(key)}, server.target(kind)).Send(ctx, result("a"))
			close(release)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestConnectionCut: the answer breaks off, or the connection before it; the
// event goes again with the same id.
func TestConnectionCut(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		for _, after := range []string{"", "HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n<Messages>"} {
			t.Run(kind+" "+after, func(t *testing.T) {
				t.Parallel()
				server := newCloud(t, nil)
				var cut sync.Once
				whole := server.Config.Handler
				server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					did := false
					cut.Do(func() {
						_, _ = io.Copy(io.Discard, r.Body)
						conn, _, err := w.(http.Hijacker).Hijack()
						if err != nil {
							t.Error(err)
							return
						}
						_, _ = io.WriteString(conn, after)
						_ = conn.Close()
						did = true
					})
					if !did {
						whole.ServeHTTP(w, r)
					}
				})
				if err := open(t, sink.Options{Credentials: always(key)}, server.target(kind)).Send(t.Context(), result("a")); err != nil {
					t.Fatal(err)
				}
				if calls := server.seen(); len(calls) != 1 || calls[0].IDs[0] != "a" {
					t.Errorf("calls after the cut: %v", calls)
				}
			})
		}
	}
}

// TestCloudConcurrently: one sink, many senders, the first ten calls throttled.
func TestCloudConcurrently(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			server := newCloud(t, func(n int, _ call) (int, string) { return map[bool]int{true: 429}[n <= 10], "" })
			s := open(t, sink.Options{Credentials: always(key)}, server.target(kind))
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					if err := s.Send(t.Context(), result(fmt.Sprint(i))); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			ids := make(map[string]bool)
			for _, c := range server.seen() {
				ids[c.IDs[0]] = true
			}
			if len(ids) != 20 {
				t.Errorf("%d events arrived", len(ids))
			}
		})
	}
}

// TestSeveralTargets: the result names an event that any of them did not take,
// with the cause of each.
func TestSeveralTargets(t *testing.T) {
	t.Parallel()
	refuse := func(id string) *cloud {
		return newCloud(t, func(_ int, c call) (int, string) { return answerTo(c, map[string]string{id: "InvalidArgument"}) })
	}
	a, b, c := refuse("id-01"), refuse("id-02"), refuse("id-01")
	err := open(t, sink.Options{Credentials: always(key)}, a.target("eventbridge"), b.target("queue"), c.target("queue")).Send(t.Context(), batch(4)...)
	var partly *sink.UndeliveredError
	if !errors.As(err, &partly) || !slices.Equal(slices.Sorted(maps.Keys(partly.Failed)), []int{1, 2}) {
		t.Fatalf("error %v", err)
	}
	if text := partly.Failed[1].Error(); !strings.Contains(text, "eventbridge") || !strings.Contains(text, "mns") {
		t.Errorf("causes of the second event: %v", text)
	}
}
