package openapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events/sink"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

const (
	instanceID = "MQ_INST_1_x"
	stuck      = "C000021112CD18B4AAC26E1A0B570001"
	dead       = "C000021112CD18B4AAC26E1A0B570002"
	impossible = "C000021112CD18B4AAC26E1A0BFF9999"
	clientID   = "192.0.2.17@4813#-19#-17#45"
)

var keys = sink.Credentials{AccessKeyID: "LTAItestKeyId", AccessKeySecret: "testS3cret", SecurityToken: "testToken+/=="}

const data = `
region: cn-test
credentials: [{accessKeyId: LTAItestKeyId, accessKeySecret: testS3cret, securityToken: "testToken+/=="}]
quotas: {"*": {kind: none}}
instances:
  - instanceId: MQ_INST_1_x
    topics: [orders]
    messages:
      - {topic: orders, msgIds: [C000021112CD18B4AAC26E1A0B570001], storedAt: 2026-01-02T03:04:05Z, retention: 1000000h, tags: paid, pendingFor: [GID_x], body: secretBody}
    groups:
      - groupId: GID_x
        clients: [{clientId: "192.0.2.17@4813#-19#-17#45"}]
        deadLetters: [{topic: orders, msgIds: [C000021112CD18B4AAC26E1A0B570002], storedAt: 1h}]
      - groupId: GID_down
`

// standIn is the real SDK's counterpart, which shares no code with this package.
func standIn(t *testing.T) (*onsd.Server, *Client) {
	t.Helper()
	d, err := onsd.Load([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	s, err := onsd.New(d, onsd.Options{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return s, client(t, Options{Region: "cn-test", Endpoint: e.URL})
}

func client(t *testing.T, o Options) *Client {
	t.Helper()
	if o.Credentials == (sink.Credentials{}) {
		o.Credentials = keys
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func noSecret(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{keys.AccessKeyID, keys.AccessKeySecret, keys.SecurityToken, "testToken", "://", "Signature=", "secretBody", "proxyPassword"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is shown in: %s", secret, text)
		}
	}
}

// TestOperations: each reads what the stand-in has, or says what it answered.
func TestOperations(t *testing.T) {
	t.Parallel()
	s, c := standIn(t)
	ctx := t.Context()
	connected := []Connection{{ClientID: clientID, Language: "JAVA", Version: "V4_3_6"}}
	withoutAddr := func(all []Connection) []Connection {
		for i := range all {
			if !strings.HasPrefix(all[i].Addr, "192.0.2.17:") {
				t.Errorf("address %q", all[i].Addr)
			}
			all[i].Addr = ""
		}
		return all
	}
	stored := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, test := range map[string]struct {
		call func() (any, error)
		want any
		code string
	}{
		"message": {call: func() (any, error) { return c.Message(ctx, instanceID, "orders", stuck) }, want: Message{
			MsgID: stuck, Topic: "orders", StoredAt: stored, BornAt: stored.Add(-2 * time.Millisecond), StoreHost: "192.0.2.1:10911", BornHost: "192.0.2.7:4242",
			Properties: map[string]string{"TAGS": "paid", "UNIQ_KEY": stuck},
		}},
		"no message": {call: func() (any, error) { return c.Message(ctx, instanceID, "orders", impossible) }, code: NoMessage},
		"no topic":   {call: func() (any, error) { return c.Message(ctx, instanceID, "other", stuck) }, code: "BIZ_TOPIC_NOT_FOUND"},
		"dead letter": {call: func() (any, error) {
			m, err := c.DeadLetter(ctx, instanceID, "GID_x", dead)
			return []any{m.MsgID, m.Topic, m.ReconsumeTimes, m.Properties["DLQ_ORIGIN_TOPIC"]}, err
		}, want: []any{dead, "%DLQ%GID_x", 16, "orders"}},
		"no dead letter": {call: func() (any, error) { return c.DeadLetter(ctx, instanceID, "GID_x", stuck) }, code: NoMessage},
		"trace": {call: func() (any, error) { return c.Trace(ctx, instanceID, "orders", stuck) },
			want: []Track{{Group: "GID_x", Type: "NOT_CONSUME_YET"}, {Group: "GID_down", Type: "NOT_ONLINE"}}},
		"connections":         {call: func() (any, error) { all, err := c.Connections(ctx, instanceID, "GID_x"); return withoutAddr(all), err }, want: connected},
		"nobody online":       {call: func() (any, error) { return c.Connections(ctx, instanceID, "GID_down") }, code: NotOnline},
		"no group":            {call: func() (any, error) { return c.Connections(ctx, instanceID, "GID_z") }, code: "BIZ_SUBSCRIPTION_NOT_FOUND"},
		"status":              {call: func() (any, error) { return c.SubscribeAlike(ctx, instanceID, "GID_x") }, want: true},
		"accumulate":          {call: func() (any, error) { return nil, c.Accumulate(ctx, instanceID, "GID_x") }},
		"impossible push":     {call: func() (any, error) { return nil, c.Push(ctx, instanceID, "orders", "GID_x", clientID, impossible) }, code: NoMessage},
		"push to nobody":      {call: func() (any, error) { return nil, c.Push(ctx, instanceID, "orders", "GID_x", "a@1", stuck) }, code: NotOnline},
		"push":                {call: func() (any, error) { return nil, c.Push(ctx, instanceID, "orders", "GID_x", clientID, stuck) }},
		"of another instance": {call: func() (any, error) { return c.Trace(ctx, "MQ_INST_2_y", "orders", stuck) }, code: "INSTANCE_NOT_FOUND"},
	} {
		got, err := test.call()
		var failed *Error
		switch {
		case test.code != "" && (!errors.As(err, &failed) || failed.Code != test.code || failed.Status != 400 || failed.RequestID == ""):
			t.Errorf("%s: %v", name, err)
		case test.code == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.code == "":
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		if strings.Contains(fmt.Sprintf("%+v", got), "secretBody") {
			t.Errorf("%s: the body is in %+v", name, got)
		}
	}
	if n := s.Deliveries().Total; n != 1 {
		t.Errorf("%d deliveries, want 1", n)
	}
	if n := s.Connections(); n != 1 {
		t.Errorf("%d connections for calls in turn, want 1", n)
	}
	noSecret(t, fmt.Sprintf("%v %+v %#v", c, c, c))
}

// TestOddAnswers: whatever comes back is an Error, once asked, with nothing secret
// in it.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	never := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	t.Cleanup(never.Close)
	for name, test := range map[string]struct {
		fault  onsd.Fault
		raw    string // the whole answer, instead of a fault
		status int
		code   string
		kind   Kind
		says   string
	}{
		"a code":             {fault: onsd.Fault{Do: "error", Error: onsd.FaultError{Status: 400, Code: "Throttling.User", Message: "slow down"}}, status: 400, code: "Throttling.User", kind: Throttled, says: "slow down"},
		"a 200 with a code":  {fault: onsd.Fault{Do: "error", Error: onsd.FaultError{Status: 200, Code: "BIZ_TOPIC_NOT_FOUND"}}, status: 200, code: "BIZ_TOPIC_NOT_FOUND", kind: Names, says: "no reason given"},
		"a numeric code":     {fault: onsd.Fault{Do: "error", Error: onsd.FaultError{Status: 503, Format: "numericCode"}}, status: 503, code: "503", kind: Other},
		"HTML":               {fault: onsd.Fault{Do: "error", Error: onsd.FaultError{Status: 502, Code: "Bad Gateway", Format: "html"}}, status: 502, kind: Other, says: "status 502 is not JSON"},
		"XML":                {fault: onsd.Fault{Do: "error", Error: onsd.FaultError{Status: 500, Code: "InternalError", Format: "xml"}}, status: 500, kind: Other, says: "not JSON"},
		"an empty 200":       {fault: onsd.Fault{Do: "error", Error: onsd.FaultError{Status: 200, Format: "empty"}}, status: 200, kind: Other, says: "not JSON"},
		"truncated":          {fault: onsd.Fault{Do: "truncated"}, status: 200, kind: Other, says: "not JSON"},
		"huge":               {fault: onsd.Fault{Do: "huge"}, status: 200, kind: Other, says: "larger than 1 MB"},
		"a redirect":         {fault: onsd.Fault{Do: "redirect", Location: never.URL}, status: 307, kind: Other, says: "redirect"},
		"cut":                {fault: onsd.Fault{Do: "cut"}, kind: Network, says: "EOF"},
		"too late":           {fault: onsd.Fault{Delay: time.Hour}, kind: Network, says: "deadline exceeded"},
		"no body":            {raw: "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{", kind: Network, says: "unexpected EOF"},
		"not HTTP":           {raw: "HTTP/1.1 Signature=LTAItestKeyId\r\n\r\n", kind: Network, says: "may quote"},
		"an empty object":    {raw: ok("{}"), status: 200, kind: Other, says: "neither success nor error"},
		"null":               {raw: ok("null"), status: 200, kind: Other, says: "neither"},
		"a list":             {raw: ok("[]"), status: 200, kind: Other, says: "not JSON"},
		"no data":            {raw: ok(`{"RequestId":"r"}`), status: 200, kind: Other, says: "no message in it"},
		"another shape":      {raw: ok(`{"RequestId":"r","Data":{"MsgId":"x","PropertyList":[1]}}`), status: 200, kind: Other, says: "shape"},
		"numbers for texts":  {raw: strings.Replace(ok(`{"RequestId":7,"Code":8,"Message":9}`), "200 OK", "500 E", 1), status: 500, code: "8", kind: Other, says: "9"},
		"the keys in a text": {raw: strings.Replace(ok(`{"RequestId":"LTAItestKeyId","Code":"X","Message":"of LTAItestKeyId\u001b[2J, testS3cret"}`), "200 OK", "400 E", 1), status: 400, code: "X", kind: Other, says: "of [redacted] [2J, [redacted]"},
		"what was signed":    {raw: strings.Replace(ok(`{"RequestId":"r","Code":"SignatureDoesNotMatch","Message":"server string to sign is:POST&%2F&AccessKeyId%3DLTAItestKeyId"}`), "200 OK", "400 E", 1), status: 400, code: "SignatureDoesNotMatch", kind: Credentials},
		"a name that quotes": {raw: strings.Replace(ok(`{"RequestId":"a?Signature=x","Code":"Signature=aGVsbG8gd29ybGQ=","Message":"m"}`), "200 OK", "400 E", 1), status: 400, code: "(a text that may quote what was signed)", kind: Other},
		"denied":             {raw: strings.Replace(ok(`{"RequestId":"r","Code":"Forbidden.RAM","Message":"m","AccessDeniedDetail":{"AuthAction":"mq:Other"}}`), "200 OK", "403 F", 1), status: 403, code: "Forbidden.RAM", kind: Denied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := standIn(t)
			calls := func() int { return len(s.Calls("OnsMessageGetByMsgId").List) }
			if test.raw != "" {
				var n int
				var mu sync.Mutex
				url := answering(t, func() { mu.Lock(); n++; mu.Unlock() }, test.raw)
				calls = func() int { mu.Lock(); defer mu.Unlock(); return n }
				c = client(t, Options{Region: "cn-test", Endpoint: url})
			} else if test.fault.Count = -1; s.AddFault(test.fault) != nil {
				t.Fatal(s.AddFault(test.fault))
			}
			if test.fault.Delay > 0 {
				c.timeout = 50 * time.Millisecond
				calls = func() int { return 1 } // it is not answered
			}
			_, err := c.Message(t.Context(), instanceID, "orders", stuck)
			var failed *Error
			if !errors.As(err, &failed) {
				t.Fatalf("error %v", err)
			}
			kind, next := failed.Explain()
			if failed.Status != test.status || failed.Code != test.code || kind != test.kind || next == "" || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%+v, %s, %s", failed, kind, next)
			}
			if (failed.Unwrap() == nil) != (test.status > 0) {
				t.Errorf("cause %v", failed.Unwrap())
			}
			if test.kind == Denied && next != "allow mq:Other in RAM, for this instance, topic and group (infra/ram/operator.json)" {
				t.Error(next)
			}
			if n := calls(); n != 1 {
				t.Errorf("%d calls", n)
			}
			noSecret(t, err.Error()+next+fmt.Sprintf("%+v", failed))
		})
	}
}

// TestLastingCodes: what stays as it is however often one asks is not to be asked again,
// and what RAM does not decide is not to be allowed there (source: ons-openapi.md 2.2, 2.3).
func TestLastingCodes(t *testing.T) {
	t.Parallel()
	for code, says := range map[string]string{
		"BIZ_FIELD_CHECK_INVALID": "with the console", "MissingParameter": "with the console", "MissingMsgId": "with the console", "InvalidParameter.Format": "with the console",
		"BIZ_CONSUMER_ID_BELONG_TO_OTHER_USER": "this account", "InvalidProtocol.NeedSsl": "the endpoint",
		"Forbidden.RiskControl": "the owner of the account", "ActionUnauthorized": "the owner of the account",
		"InvalidAccessKeyId.NotFound": "the access key", "InvalidTimeStamp.Expired": "the clock", "MissingSecurityToken": "its token",
	} {
		if kind, next := (&Error{Code: code, Status: 400, Permission: "mq:SUB"}).Explain(); !strings.Contains(next, says) || strings.Contains(next, "ask again") {
			t.Errorf("%s: %s, %s", code, kind, next)
		}
	}
}

// TestEchoes: what an endpoint repeats of a call's secrets is shown nowhere.
func TestEchoes(t *testing.T) {
	t.Parallel()
	signature, secret := "", "S3&<cret"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		signature = q.Get("Signature")
		said, _ := json.Marshal(signature + " " + q.Get("AccessKeyId") + " " + url.QueryEscape(q.Get("SecurityToken")) + " " + secret)
		text := strings.ReplaceAll(string(said), "t", `\u0074`)
		if q.Get("Action") == "OnsMessageTrace" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprintf(w, `{"RequestId":%s,"Code":%s,"Message":%s,"AccessDeniedDetail":{"AuthAction":%s}}`, text, text, text, text)
			return
		}
		_, _ = fmt.Fprintf(w, `{"RequestId":"r","Data":{"MsgId":"m","ReconsumeTimes":9007199254740993,"StoreHost":%s,"PropertyList":{"MessageProperty":[{"Name":"KEYS","Value":%s}]}}}`, text, text)
	}))
	t.Cleanup(s.Close)
	c := client(t, Options{Region: "cn-test", Endpoint: s.URL, Credentials: sink.Credentials{AccessKeyID: keys.AccessKeyID, AccessKeySecret: secret, SecurityToken: keys.SecurityToken}})
	m, err := c.Message(t.Context(), instanceID, "orders", stuck)
	if hidden := "[redacted] [redacted] [redacted] [redacted]"; err != nil || m.StoreHost != hidden || m.Properties["KEYS"] != hidden || m.ReconsumeTimes != 9007199254740993 {
		t.Errorf("%+v, %v", m, err)
	}
	_, err = c.Trace(t.Context(), instanceID, "orders", stuck)
	var failed *Error
	if !errors.As(err, &failed) || len(signature) != 28 {
		t.Fatal(err, signature)
	}
	_, next := failed.Explain()
	text := fmt.Sprintf("%v %+v %s", err, failed, next)
	if strings.Contains(text, signature) || strings.Contains(text, "cret") || strings.Contains(text, url.QueryEscape(signature)) {
		t.Errorf("the signature is shown in: %s", text)
	}
	noSecret(t, text)
}

func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// answering writes the same bytes to every request and closes.
func answering(t *testing.T, count func(), raw string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				count()
				_, _ = io.WriteString(conn, raw)
			}
			_ = conn.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

// TestContext: a call ends with its context, and says so.
func TestContext(t *testing.T) {
	t.Parallel()
	s, c := standIn(t)
	if err := s.AddFault(onsd.Fault{Delay: time.Hour, Count: -1}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	began := time.Now()
	if _, err := c.Trace(ctx, instanceID, "orders", stuck); !errors.Is(err, context.Canceled) || time.Since(began) > 10*time.Second {
		t.Errorf("error %v after %s", err, time.Since(began))
	}
}

// TestPanic: one of the SDK becomes an error.
func TestPanic(t *testing.T) {
	t.Parallel()
	if err := new(exchange).do("cn-test", nil, nil, nil, nil); err == nil || err.Error() != "the SDK panicked" {
		t.Errorf("error %v", err)
	}
}

// TestConcurrent: calls at the same time do not meet.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	_, c := standIn(t)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if m, err := c.Message(t.Context(), instanceID, "orders", stuck); err != nil || m.MsgID != stuck {
				t.Errorf("%+v, %v", m, err)
			}
			if _, err := c.Connections(t.Context(), instanceID, "GID_down"); err == nil {
				t.Error("nobody is online")
			}
		})
	}
	all.Wait()
}

// TestTLS: a certificate that nobody vouches for is refused before anything is
// sent.
func TestTLS(t *testing.T) {
	t.Parallel()
	asked := false
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	_, err := client(t, Options{Region: "cn-test", Endpoint: s.URL}).Trace(t.Context(), instanceID, "orders", stuck)
	var failed *Error
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "certificate") || asked {
		t.Errorf("error %v, asked %v", err, asked)
	}
}

// TestOptions: what cannot be right is refused by name, without quoting it.
func TestOptions(t *testing.T) {
	for name, test := range map[string]struct {
		o    Options
		env  string
		says string
	}{
		"no region":         {o: Options{}, says: "region: "},
		"a host for region": {o: Options{Region: "evil.example/"}, says: "region: "},
		"plain http":        {o: Options{Region: "r", Endpoint: "http://ons.example"}, says: "must be https"},
		"no scheme":         {o: Options{Region: "r", Endpoint: "ons.example"}, says: "endpoint: "},
		"another scheme":    {o: Options{Region: "r", Endpoint: "ftp://127.0.0.1"}, says: "must be https"},
		"a user":            {o: Options{Region: "r", Endpoint: "https://u:proxyPassword@ons.example"}, says: "endpoint: "},
		"a path":            {o: Options{Region: "r", Endpoint: "https://ons.example/v1"}, says: "endpoint: "},
		"a query":           {o: Options{Region: "r", Endpoint: "https://ons.example?x=1"}, says: "endpoint: "},
		"no URL":            {o: Options{Region: "r", Endpoint: "https://%zz"}, says: "endpoint: "},
		"DEBUG":             {o: Options{Region: "r"}, env: "tea,sdk", says: "DEBUG: "},
		"IPv6 loopback":     {o: Options{Region: "r", Endpoint: "http://[::1]:1"}},
		"localhost":         {o: Options{Region: "r", Endpoint: "http://localhost:1"}},
		"by the region":     {o: Options{Region: "cn-hangzhou"}, env: "tea"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DEBUG", test.env)
			c, err := New(test.o)
			if (err == nil) != (test.says == "") || err != nil && (!strings.HasPrefix(err.Error(), test.says[:min(4, len(test.says))]) && !strings.Contains(err.Error(), test.says)) {
				t.Errorf("error %v, want %q", err, test.says)
			}
			if err == nil && test.o.Endpoint == "" && (c.endpoint.String() != "https://ons.cn-hangzhou.aliyuncs.com" || c.timeout != 15*time.Second) {
				t.Errorf("%s, %s", c.endpoint, c.timeout)
			}
			noSecret(t, strings.ReplaceAll(fmt.Sprint(err), "https://ons.cn-hangzhou.aliyuncs.com", ""))
		})
	}
}
