package ons

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/services/ons"
	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

func TestPushSendsTheSignedRequest(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		a := newAPI(t, secure, says(200, okBody))
		id, err := a.client(t).Push(t.Context(), target)
		if err != nil || id != "5F1A-0001" {
			t.Fatalf("Push = %q, %v, want the request id", id, err)
		}
		got := map[string]string{}
		for _, name := range []string{"Action", "InstanceId", "Topic", "GroupId", "MsgId", "ClientId"} {
			got[name] = a.calls[0].Get(name)
		}
		want := map[string]string{
			"Action": "OnsMessagePush", "InstanceId": target.InstanceID, "Topic": target.Topic,
			"GroupId": target.GroupID, "MsgId": target.MsgID, "ClientId": target.ClientID,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestOnline(t *testing.T) {
	t.Parallel()
	clients := func(list string) string { return `{"RequestId":"R1","Data":{"ConnectionList":` + list + `}}` }
	for name, c := range map[string]struct {
		status int
		body   string
		want   []string
		kind   pushing.Kind
	}{
		"two clients":                  {200, clients(`{"ConnectionDo":[{"ClientId":"b@1"},{"ClientId":"a@2","Language":"JAVA"}]}`), []string{"b@1", "a@2"}, 0},
		"duplicates and empty ids":     {200, clients(`{"ConnectionDo":[{"ClientId":"b"},{"ClientId":""},{"ClientId":"a"},{"ClientId":"b"},{}]}`), []string{"b", "a"}, 0},
		"an empty list":                {200, clients(`{"ConnectionDo":[]}`), nil, pushing.NoClient},
		"an empty wrapper":             {200, clients(`{}`), nil, pushing.NoClient},
		"a null wrapper":               {200, clients(`null`), nil, pushing.NoClient},
		"no data":                      {200, `{"RequestId":"R1"}`, nil, pushing.NoClient},
		"the code for nobody":          {400, `{"RequestId":"R1","Code":"BIZ_CONSUMER_NOT_ONLINE","Message":"x"}`, nil, pushing.NoClient},
		"the code for nobody with 200": {200, `{"RequestId":"R1","Code":"BIZ_CONSUMER_NOT_ONLINE","Message":"x"}`, nil, pushing.NoClient},
		"a wrapper that is a string":   {200, clients(`""`), nil, pushing.Unavailable},
		"a bare array":                 {200, clients(`[{"ClientId":"a"}]`), nil, pushing.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, false, says(c.status, c.body))
			got, err := a.client(t).Online(t.Context(), "I", "G")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if c.want == nil {
				wantKind(t, err, c.kind)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// wantKind checks that err is a *pushing.Error of that kind, with an operation
// and a cause, and that something can be done about it.
func wantKind(t *testing.T, err error, kind pushing.Kind) *pushing.Error {
	t.Helper()
	var e *pushing.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %T %v, want *pushing.Error", err, err)
	}
	if e.Kind != kind {
		t.Errorf("kind is %v, want %v: %v", e.Kind, kind, e)
	}
	if e.Op == "" || e.Err == nil || e.Err.Error() == "" || Hint(e.Kind, e.Code) == "" {
		t.Errorf("error lacks its operation, cause or hint: %+v", e)
	}
	return e
}

func TestNoRetry(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 429, 500, 503} {
		a := newAPI(t, false, says(status, `{"Code":"InternalError","Message":"x"}`))
		c := a.client(t)
		wantKind(t, push(t.Context(), c), pushing.Unknown)
		wantKind(t, online(t.Context(), c), pushing.Unavailable)
		if calls, _ := a.counts(); calls != 2 {
			t.Errorf("status %d: %d requests for two calls", status, calls)
		}
	}
	if s, err := (&Client{region: "cn-hangzhou"}).newSession(); err != nil || s.sdk.GetConfig().AutoRetry {
		t.Errorf("the SDK's own retry is on, or %v", err)
	}
}

func TestManyCallsShareFewConnections(t *testing.T) {
	t.Parallel()
	const callers, each = 150, 5
	var all sync.WaitGroup // the first call of every caller meets the others at the server
	all.Add(callers)
	var met atomic.Int64
	a := newAPI(t, false, func(w http.ResponseWriter, r *http.Request) {
		if met.Add(1) <= callers {
			all.Done()
			all.Wait()
		}
		says(200, okBody)(w, r)
	})
	c := a.client(t)
	c.staleAfter = time.Hour // a busy machine is no freeze
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				if err := push(context.Background(), c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	calls, opened := a.counts()
	if calls != callers*each || opened > callers+callers/20 {
		t.Errorf("%d connections for %d callers and %d calls", opened, callers, calls)
	}
	if len(c.free) != callers {
		t.Errorf("%d SDK clients are kept, want %d", len(c.free), callers)
	}
}

func TestCredentialsChangeBetweenCalls(t *testing.T) {
	t.Parallel()
	a := newAPI(t, false, says(200, okBody))
	const invocations = 40
	var keys []Credentials
	for i := range invocations {
		key := Credentials{AccessKeyID: fmt.Sprint("LTAI", i), AccessKeySecret: fmt.Sprint("secret", i)}
		if i%2 == 0 {
			key.SecurityToken = fmt.Sprint("token+/=", i)
		}
		keys = append(keys, key)
		a.secrets[key.AccessKeyID] = key
	}
	c := a.client(t)
	var wg sync.WaitGroup
	for i := range 4 * invocations {
		wg.Go(func() {
			key := keys[i%invocations]
			if i%invocations == 7 {
				key = Credentials{} // the default ones
			}
			if err := push(WithCredentials(t.Context(), key), c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	used := map[string]int{}
	for _, call := range a.calls {
		used[call.Get("AccessKeyId")]++
	}
	if used[own.AccessKeyID] != 4 || used["LTAI7"] != 0 || used["LTAI8"] != 4 {
		t.Errorf("keys were used %v", used)
	}
}

func TestNoCredentials(t *testing.T) {
	t.Parallel()
	a := newAPI(t, false, says(200, okBody))
	none := a.client(t, func(cfg *Config) { cfg.Default = Credentials{} })
	for name, ctx := range map[string]context.Context{
		"none":                     t.Context(),
		"zero in the context":      WithCredentials(t.Context(), Credentials{}),
		"half a pair":              WithCredentials(t.Context(), Credentials{AccessKeyID: "LTAI"}),
		"a token without its pair": WithCredentials(t.Context(), Credentials{SecurityToken: "T"}),
	} {
		if e := wantKind(t, push(ctx, none), pushing.Credentials); !strings.Contains(e.Err.Error(), "credentials") {
			t.Errorf("%s: %v", name, e)
		}
	}
	wantKind(t, push(WithCredentials(t.Context(), Credentials{AccessKeyID: "LTAI"}), a.client(t)), pushing.Credentials)
	if calls, _ := a.counts(); calls != 0 {
		t.Errorf("%d requests without credentials", calls)
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	for name, begun := range map[string]string{"before the answer": "", "within the answer": `{"RequestId":`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arrived := make(chan struct{}, 10)
			a := newAPI(t, false, func(w http.ResponseWriter, r *http.Request) {
				if begun != "" {
					_, _ = io.WriteString(w, begun)
					_ = http.NewResponseController(w).Flush()
				}
				arrived <- struct{}{}
				<-r.Context().Done()
			})
			c := a.client(t)
			// An answer that the deadline cuts may look like one that ended by itself.
			check := func(says string, err error, kind pushing.Kind, cause error) {
				if e := wantKind(t, err, kind); begun == "" && !errors.Is(e, cause) {
					t.Errorf("%s: %v", says, e)
				}
			}
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-arrived; cancel() }()
			check("cancelled", push(ctx, c), pushing.Unknown, context.Canceled)
			deadline, stop := context.WithTimeout(t.Context(), 2*time.Second)
			defer stop()
			check("deadline", push(deadline, c), pushing.Unknown, context.DeadlineExceeded)
			short := a.client(t, func(cfg *Config) { cfg.PushTimeout, cfg.ReadTimeout = 2*time.Second, 2*time.Second })
			check("push time-out", push(t.Context(), short), pushing.Unknown, context.DeadlineExceeded)
			check("read time-out", online(t.Context(), short), pushing.Unavailable, context.DeadlineExceeded)
		})
	}
}

func TestContextEndedBefore(t *testing.T) {
	t.Parallel()
	a := newAPI(t, false, says(200, okBody))
	c := a.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if e := wantKind(t, push(ctx, c), pushing.Unavailable); !errors.Is(e, context.Canceled) {
		t.Error(e)
	}
	if calls, _ := a.counts(); calls != 0 {
		t.Errorf("%d requests under an ended context", calls)
	}
}

// TestTimeoutsOnEveryRequest: the SDK keeps the time-out of one request for the
// next one without, so every request has both, and later than the context's.
func TestTimeoutsOnEveryRequest(t *testing.T) {
	t.Parallel()
	a := newAPI(t, false, says(200, okBody))
	c := a.client(t, func(cfg *Config) { cfg.PushTimeout, cfg.ReadTimeout = 20*time.Second, 10*time.Second })
	for _, op := range []operation{c.push, c.read} {
		request := ons.CreateOnsMessagePushRequest()
		if _, err := c.call(t.Context(), op, request, ons.CreateOnsMessagePushResponse()); err != nil {
			t.Fatal(err)
		}
		if read, connect := request.GetReadTimeout(), request.GetConnectTimeout(); read <= op.timeout || connect <= op.timeout {
			t.Errorf("%+v: the SDK was given %v and %v", op, read, connect)
		}
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	good := Config{Region: "cn-hangzhou"}
	for name, c := range map[string]struct {
		change func(*Config)
		wants  string
	}{
		"the default endpoint":         {func(*Config) {}, ""},
		"https elsewhere":              {func(cfg *Config) { cfg.Endpoint = "https://ons-vpc.cn-hangzhou.aliyuncs.com:443" }, ""},
		"http to loopback":             {func(cfg *Config) { cfg.Endpoint = "http://127.0.0.1:8080" }, ""},
		"http to loopback by name":     {func(cfg *Config) { cfg.Endpoint = "http://localhost" }, ""},
		"http to loopback, IPv6":       {func(cfg *Config) { cfg.Endpoint = "http://[::1]:80" }, ""},
		"http elsewhere":               {func(cfg *Config) { cfg.Endpoint = "http://ons.cn-hangzhou.aliyuncs.com" }, "must be https"},
		"http to a loopback lookalike": {func(cfg *Config) { cfg.Endpoint = "http://127.0.0.1.example.com" }, "must be https"},
		"another scheme":               {func(cfg *Config) { cfg.Endpoint = "ftp://h" }, "must be https"},
		"no scheme":                    {func(cfg *Config) { cfg.Endpoint = "ons.example.com" }, "scheme and host only"},
		"a path":                       {func(cfg *Config) { cfg.Endpoint = "https://h/pw123" }, "scheme and host only"},
		"a query":                      {func(cfg *Config) { cfg.Endpoint = "https://h?pw123" }, "scheme and host only"},
		"a password":                   {func(cfg *Config) { cfg.Endpoint = "https://u:pw123@h" }, "scheme and host only"},
		"unreadable":                   {func(cfg *Config) { cfg.Endpoint = "https://u:pw123@h%zz" }, "scheme and host only"},
		"no region":                    {func(cfg *Config) { cfg.Region = "" }, "region: is required"},
		"a bent region":                {func(cfg *Config) { cfg.Region = "a/b"; cfg.Endpoint = "https://h" }, "region"},
		"two problems":                 {func(cfg *Config) { cfg.Region = ""; cfg.MaxInFlight = -1 }, "must not be negative"},
	} {
		cfg := good
		c.change(&cfg)
		client, err := New(cfg)
		switch {
		case c.wants == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.wants != "" && (err == nil || !strings.Contains(err.Error(), c.wants) || strings.Contains(err.Error(), "pw123")):
			t.Errorf("%s: %v, want %q", name, err, c.wants)
		case name == "the default endpoint" && client.endpoint.String() != "https://ons.cn-hangzhou.aliyuncs.com":
			t.Errorf("%s is %s", name, client.endpoint)
		}
	}
}

// TestCredentialsNeverShow: in any print of them, of what holds them, of a
// client and of a context.
func TestCredentialsNeverShow(t *testing.T) {
	t.Parallel()
	cfg := Config{Region: "cn-hangzhou", Default: own}
	c := newClient(t, cfg)
	var log bytes.Buffer
	for _, v := range []any{own, &own, cfg, c, WithCredentials(context.Background(), own)} {
		fmt.Fprintf(&log, "%v %+v %#v %s %q %x\n", v, v, v, v, v, v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
	}
	for _, secret := range []string{own.AccessKeyID, own.AccessKeySecret, own.SecurityToken} {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret)} {
			if strings.Contains(log.String(), form) {
				t.Errorf("%q is shown:\n%s", form, log.String())
			}
		}
	}
	if got := fmt.Sprintf("%v, %#v, %x", own, own, own); got != "[redacted], [redacted], [redacted]" {
		t.Error(got)
	}
}
