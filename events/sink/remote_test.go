package sink

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func status(code int, retryAfter string) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{"Retry-After": {retryAfter}}, Body: io.NopCloser(strings.NewReader(""))}
}

// TestSchedule: delays grow to five seconds, half of each is random; a hint is
// followed up to twenty seconds; nothing is begun that does not fit.
func TestSchedule(t *testing.T) {
	t.Parallel()
	const unset = time.Duration(0)
	for name, test := range map[string]struct {
		hint     string
		deadline time.Duration
		calls    [2]int // at least, at most
		least    time.Duration
		most     time.Duration // between two calls
	}{
		"no deadline: thirty seconds": {calls: [2]int{9, 15}, least: 100 * time.Millisecond, most: 5 * time.Second, deadline: unset},
		"a deadline":                  {calls: [2]int{3, 4}, least: 100 * time.Millisecond, most: 800 * time.Millisecond, deadline: time.Second},
		"a hint":                      {calls: [2]int{10, 10}, least: 3 * time.Second, most: 5 * time.Second, deadline: 31 * time.Second, hint: "3"},
		"a long hint is cut short":    {calls: [2]int{3, 3}, least: 20 * time.Second, most: 20 * time.Second, deadline: 50 * time.Second, hint: "3600"},
		"a hint that does not fit":    {calls: [2]int{1, 1}, deadline: 2 * time.Second, hint: "3"},
		"a hint in the past":          {calls: [2]int{3, 4}, least: 100 * time.Millisecond, most: 800 * time.Millisecond, deadline: time.Second, hint: "Sun, 06 Nov 1994 08:49:37 GMT"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var at []time.Time
				r := &remote{name: "x", url: "http://localhost", client: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
					at = append(at, time.Now())
					return status(503, test.hint), nil
				})}}
				ctx, began := t.Context(), time.Now()
				if test.deadline != unset {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, test.deadline)
					defer cancel()
				}
				err := r.Send(ctx, events.Event{ID: "a"})
				if err == nil || !strings.Contains(err.Error(), "sink x: the target answered 503") {
					t.Errorf("error %v", err)
				}
				if n := len(at); test.hint != "3" && (n < test.calls[0] || n > test.calls[1]) {
					t.Errorf("%d calls, want %v", n, test.calls)
				}
				for i := range at[1:] {
					if gap := at[i+1].Sub(at[i]); gap < test.least || gap > test.most {
						t.Errorf("call %d after %s, want %s to %s", i+2, gap, test.least, test.most)
					}
				}
				if limit := max(test.deadline, sendTimeout); time.Since(began) > limit {
					t.Errorf("took %s", time.Since(began))
				}
			})
		})
	}
}

// TestAttemptTimeout: a target that never answers costs ten seconds an attempt.
func TestAttemptTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		r := &remote{name: "x", url: "http://localhost", client: &http.Client{Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
			if calls++; calls == 2 {
				return status(200, ""), nil
			}
			<-req.Context().Done()
			return nil, req.Context().Err()
		})}}
		began := time.Now()
		err := r.Send(t.Context(), events.Event{ID: "a"})
		if took := time.Since(began); err != nil || took < attemptTimeout || took > attemptTimeout+firstDelay {
			t.Errorf("error %v after %s", err, took)
		}
	})
}

// TestCancelledWhileWaiting: the last cause is told, not that it was cancelled.
func TestCancelledWhileWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &remote{name: "x", url: "http://localhost", client: &http.Client{Transport: roundTripper(func(*http.Request) (*http.Response, error) {
			time.AfterFunc(time.Millisecond, cancel)
			return status(503, ""), nil
		})}}
		began := time.Now()
		if err := r.Send(ctx, events.Event{ID: "a"}); err == nil || !strings.Contains(err.Error(), "503") || time.Since(began) != time.Millisecond {
			t.Errorf("error %v after %s", err, time.Since(began))
		}
	})
}

var options = Options{
	Region: "cn-hangzhou", AccountID: "1234567890123456",
	Credentials: func(context.Context) (Credentials, error) { return Credentials{}, errors.New("none") },
}

func TestTargets(t *testing.T) {
	t.Parallel()
	for target, want := range map[string]string{
		"eventbridge://orders":                      "https://1234567890123456.eventbridge.cn-hangzhou.aliyuncs.com/openapi/putEvents orders",
		"eventbridge://1.eventbridge.x.example/o_1": "https://1.eventbridge.x.example/openapi/putEvents o_1",
		"eventbridge://localhost/bus":               "http://localhost/openapi/putEvents bus",
		"eventbridge://127.0.0.1:9000/bus":          "http://127.0.0.1:9000/openapi/putEvents bus",
		"eventbridge://[::1]:9000/bus":              "http://[::1]:9000/openapi/putEvents bus",
		"eventbridge://10.0.0.1:9000/bus":           "https://10.0.0.1:9000/openapi/putEvents bus",
		"mns://results":                             "https://1234567890123456.mns.cn-hangzhou.aliyuncs.com/queues/results/messages",
		"mns://queues":                              "https://1234567890123456.mns.cn-hangzhou.aliyuncs.com/queues/queues/messages",
		"mns://queues/results":                      "https://1234567890123456.mns.cn-hangzhou.aliyuncs.com/queues/results/messages",
		"mns://topics/results":                      "https://1234567890123456.mns.cn-hangzhou.aliyuncs.com/topics/results/messages",
		"mns://1.mns.cn-x.aliyuncs.com/queues/q":    "https://1.mns.cn-x.aliyuncs.com/queues/q/messages",
		"mns://1.mns.cn-x.aliyuncs.com/topics/t":    "https://1.mns.cn-x.aliyuncs.com/topics/t/messages",
		"mns://localhost:80/topics/t":               "http://localhost:80/topics/t/messages",
		"mns://localhost.example.com/queues/q":      "https://localhost.example.com/queues/q/messages",
		"mns://127.0.0.1.example.com/queues/q":      "https://127.0.0.1.example.com/queues/q/messages",
		"eventbridge://":                            "write",
		"eventbridge://1.example":                   "write",
		"eventbridge://1.example/":                  "write",
		"eventbridge://1.example/a/b":               "write",
		"eventbridge://a/b":                         "write",
		"eventbridge://a?b":                         "write",
		`eventbridge://a"b`:                         "write",
		"eventbridge://bus#x":                       "write",
		"eventbridge://" + strings.Repeat("a", 257): "write",
		"eventbridge://user@1.example/bus":          "host",
		"eventbridge://1.example:/bus":              "host",
		"eventbridge://1.example:x/bus":             "host",
		"eventbridge://[::1/bus":                    "host",
		"eventbridge://::1/bus":                     "host",
		"eventbridge://1.exa mple/bus":              "host",
		"eventbridge://1.example?x=/bus":            "host",
		"eventbridge://.:80@evil.example:80/bus":    "host",
		"mns://":                                    "write",
		"mns:///x":                                  "write",
		"mns://queues/":                             "write",
		"mns://tables/x":                            "write",
		"mns://localhost/results":                   "write",
		"mns://1.example/queues/a/b":                "write",
		"mns://1.example/queues/..":                 "write",
	} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			got, err := describe(target, options)
			if err != nil {
				got = err.Error()
			}
			if (err == nil) != strings.Contains(want, "://") || err == nil && got != want || !strings.Contains(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	for missing, o := range map[string]Options{
		"account or region":  {Region: "cn-hangzhou", Credentials: options.Credentials},
		"account or region ": {AccountID: "1", Credentials: options.Credentials},
		"no credentials":     {AccountID: "1", Region: "cn-hangzhou"},
	} {
		for _, target := range []string{"eventbridge://b", "mns://q"} {
			if _, err := describe(target, o); err == nil || !strings.Contains(err.Error(), strings.TrimSpace(missing)) {
				t.Errorf("%s without %s: %v", target, missing, err)
			}
		}
	}
}

// describe returns where a cloud target's calls go.
func describe(target string, o Options) (string, error) {
	s, err := Open([]string{target}, o)
	if err != nil {
		return "", err
	}
	r := s.(all)[0].(*remote)
	text := r.url
	if r.name == "eventbridge" {
		_, bus, _ := strings.Cut(string(r.encode([]byte("{}"))), `"aliyuneventbusname":`)
		text += " " + strings.Trim(bus, `"}`)
	}
	return text, nil
}

// FuzzTargets: whatever the target, it is refused, or its calls go by https (to
// loopback: http) to the host it names or to the one of account and region, and
// to no path but the service's.
func FuzzTargets(f *testing.F) {
	for _, seed := range []string{"eventbridge://bus", "eventbridge://h.x:80/bus", "mns://q", "mns://topics/t", "mns://[::1]:80/queues/q", "http://localhost/x?y", "https://h/", "stdout", "mns://a@b.c/queues/q", "mns:///0", "eventbridge://../bus"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		s, err := Open([]string{target}, options)
		if err != nil {
			return
		}
		r, is := s.(all)[0].(*remote)
		if !is {
			return
		}
		u, err := url.Parse(r.url)
		if err != nil || u.Hostname() == "" || u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())) {
			t.Fatalf("%q: %v %v", target, u, err)
		}
		if r.name == "http" {
			return
		}
		if named := strings.Contains(target, "://"+u.Host+"/"); !named && u.Host != "1234567890123456."+r.name+".cn-hangzhou.aliyuncs.com" {
			t.Errorf("%q goes to %q", target, u.Host)
		}
		parts := strings.Split(u.EscapedPath(), "/")
		want := r.name == "eventbridge" && u.Path == "/openapi/putEvents" ||
			r.name == "mns" && len(parts) == 4 && (parts[1] == "queues" || parts[1] == "topics") && strings.HasSuffix(target, "/"+parts[2]) && parts[3] == "messages"
		if !want || u.RawQuery != "" || u.User != nil || u.Fragment != "" {
			t.Errorf("%q goes to %q", target, r.url)
		}
	})
}

// FuzzAnswers: no answer is a panic; nothing counts as taken that was not
// answered with 2xx or named in a list of messages; only a word is shown.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"RequestId":"r","FailedEntryCount":1,"EntryList":[{"EventId":"a"},{"EventId":"b","ErrorCode":"X"}]}`, `{"code":"X"}`, `null`,
		`<Messages><Message><MessageId>1</MessageId></Message><Message><ErrorCode>X</ErrorCode></Message></Messages>`,
		`<Message><MessageId>1</MessageId></Message>`, `<Error><Code>X</Code><Message>m</Message></Error>`, `<html>`,
	} {
		f.Add(200, []byte(seed))
		f.Add(500, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, code int, answer []byte) {
		for name, read := range map[string]func([]*item, int, []byte) (string, bool){"eventbridge": readPutEvents, "mns": readMNS} {
			items := []*item{{id: "a"}, {id: "b"}}
			(&remote{name: name, read: read}).judge(items, code, answer)
			for _, it := range items {
				if it.err == nil && (it.again || code/100 != 2 && !(name == "mns" && strings.Contains(string(answer), "MessageId"))) {
					t.Errorf("%s: %d %q: taken, again %v", name, code, answer, it.again)
				}
			}
		}
	})
}

// TestCalls: what one call holds.
func TestCalls(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		maxEvents, maxBytes int
		sizes, want         []int
	}{
		"one by one":          {sizes: []int{5, 5}, want: []int{1, 1}},
		"by number":           {maxEvents: 2, sizes: []int{5, 5, 5}, want: []int{2, 1}},
		"by bytes":            {maxEvents: 9, maxBytes: 14, sizes: []int{5, 5, 5}, want: []int{2, 1}},
		"by one byte less":    {maxEvents: 9, maxBytes: 13, sizes: []int{5, 5, 5}, want: []int{1, 1, 1}},
		"a large one goes by": {maxEvents: 9, maxBytes: 4, sizes: []int{5, 5}, want: []int{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &remote{before: "[", between: ",", after: "]", maxEvents: test.maxEvents, maxBytes: test.maxBytes}
			var left []*item
			for _, size := range test.sizes {
				left = append(left, &item{part: strings.Repeat("x", size)})
			}
			var got []int
			for len(left) > 0 {
				n := r.fitting(left)
				got, left = append(got, n), slices.Clone(left[n:])
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestTheCauseSurvivesTheEnd: an attempt that the end of the time cuts does not
// hide why the ones before it failed.
func TestTheCauseSurvivesTheEnd(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	ctx, cancel := context.WithCancel(t.Context()) // a deadline would depend on the machine
	defer cancel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the server would not see the client leave
		if calls.Add(1) > 1 {
			cancel()
			<-r.Context().Done()
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	s, err := Open([]string{server.URL}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(ctx, events.Event{ID: "a", Source: "test", Type: events.TypeMessageRequested}); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("error after %d calls = %v, want the first answer", calls.Load(), err)
	}
	if calls.Load() < 2 {
		t.Error("there was no second attempt")
	}
}
