package main

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httptrace"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"gopkg.in/resty.v1"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/events/sink"
)

const (
	testKey, testSecret, testToken = "LTAIexample0000", "s3cr3tOfTheTest", "stsTokenOfTheTest"
	sampleEvent                    = `{"specversion":"1.0","id":"ticket-4711","source":"oncall/anna","type":"repush:Message:Requested","data":{"instanceId":"MQ_INST_1380156306793859_BbXbx0Y4","topic":"orders","groupId":"GID_billing","msgId":"C000021112CD18B4AAC26E1A0B570001","reason":"consumer was down"}}`
)

// withKeys sets the environment of a command. No other variable of the project
// is left in it.
func withKeys(t *testing.T, id, secret, token string, more ...string) {
	t.Helper()
	for _, entry := range os.Environ() {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "REPUSH_") || strings.HasPrefix(name, "ALIBABA_CLOUD_") {
			t.Setenv(name, "")
		}
	}
	for _, entry := range append([]string{
		"HOME=" + t.TempDir(), "XDG_STATE_HOME=", "DEBUG=", "ALIBABA_CLOUD_ACCESS_KEY_ID=" + id, "ALIBABA_CLOUD_ACCESS_KEY_SECRET=" + secret, "ALIBABA_CLOUD_SECURITY_TOKEN=" + token,
	}, more...) {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
}

// noSecrets fails when a secret stands in a text.
func noSecrets(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for _, secret := range []string{testSecret, testToken, "sesame"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is shown in:\n%s", secret, text)
			}
		}
	}
}

// acs3 computes what Authorization has to be (source: Alibaba Cloud "V3 request
// body and signature mechanism"), on its own.
func acs3(r *http.Request, body []byte, secret string) error {
	auth := r.Header.Get("Authorization")
	match := regexp.MustCompile(`^ACS3-HMAC-SHA256 Credential=(\S+),SignedHeaders=(\S+),Signature=([0-9a-f]{64})$`).FindStringSubmatch(auth)
	if match == nil || match[1] != testKey {
		return errors.New("no ACS3 authorization of this key")
	}
	sum := sha256.Sum256(body)
	if r.Header.Get("x-acs-content-sha256") != hex.EncodeToString(sum[:]) {
		return errors.New("x-acs-content-sha256 is not that of the body")
	}
	canonical := r.Method + "\n" + r.URL.EscapedPath() + "\n" + r.URL.RawQuery + "\n"
	for name := range strings.SplitSeq(match[2], ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		canonical += name + ":" + strings.TrimSpace(value) + "\n"
	}
	for _, needed := range []string{"host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-security-token", "x-acs-version"} {
		if !slices.Contains(strings.Split(match[2], ";"), needed) {
			return errors.New(needed + " is not signed")
		}
	}
	canonical += "\n" + match[2] + "\n" + hex.EncodeToString(sum[:])
	hashed := sha256.Sum256([]byte(canonical))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("ACS3-HMAC-SHA256\n" + hex.EncodeToString(hashed[:])))
	if hex.EncodeToString(mac.Sum(nil)) != match[3] {
		return errors.New("the signature does not match")
	}
	return nil
}

// fcSignature is the same for the 2016-08-15 API (source: FC 2.0 "Signature").
func fcSignature(r *http.Request, body []byte, secret string) error {
	sum := md5.Sum(body)
	if r.Header.Get("Content-MD5") != hex.EncodeToString(sum[:]) {
		return errors.New("the Content-MD5 is not that of the body")
	}
	var own []string
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-fc-") {
			own = append(own, lower+":"+r.Header.Get(name)+"\n")
		}
	}
	slices.Sort(own)
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%s\n%s\n%s\n%s\n%s%s", r.Method, r.Header.Get("Content-MD5"), r.Header.Get("Content-Type"), r.Header.Get("Date"), strings.Join(own, ""), r.URL.Path)
	if r.Header.Get("Authorization") != "FC "+testKey+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) || r.Header.Get("X-Fc-Security-Token") != testToken {
		return errors.New("the signature does not match")
	}
	return nil
}

// deliver hands events, a line each, to a target, one after the other: what inject does
// with the message of its flags, and with plans.
func deliver(t *testing.T, lines string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var batch []events.Event
	for line := range strings.Lines(lines) {
		e, err := events.Decode([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		batch = append(batch, e)
	}
	var o targetOptions
	cmd := &cobra.Command{Use: "deliver", RunE: func(cmd *cobra.Command, _ []string) error { return o.send(cmd, batch) }}
	o.addTarget(cmd, "target")
	o.addRegion(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.async, "async", false, "")
	f.BoolVar(&o.logs, "logs", false, "")
	f.BoolVar(&o.json, "json", false, "")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "")
	root := newRoot()
	root.AddCommand(cmd)
	var out, errs buffer
	status = execute(t.Context(), root, append([]string{"deliver"}, args...), strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

// platform is Function Compute as inject sees it.
type platform struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func startPlatform(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *platform {
	t.Helper()
	p := &platform{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		check := acs3
		if strings.HasPrefix(r.URL.Path, "/2016-08-15/") {
			check = fcSignature
		}
		if err := check(r, body, testSecret); err != nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprintf(w, `{"Code":"SignatureDoesNotMatch","ErrorCode":"SignatureDoesNotMatch","Message":"signed %s","ErrorMessage":"signed %[1]s"}`, testToken)
			return
		}
		p.mu.Lock()
		p.requests, p.bodies = append(p.requests, r), append(p.bodies, string(body))
		p.mu.Unlock()
		w.Header().Set("X-Fc-Request-Id", "req-1")
		answer(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

// seen is what arrived with a right signature.
func (p *platform) seen() ([]*http.Request, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests), slices.Clone(p.bodies)
}

func decidedAs(outcome string) string {
	return fmt.Sprintf(`{"results":[{"eventId":"ticket-4711","msgId":"C000021112CD18B4AAC26E1A0B570001","outcome":%q,"code":"C1","message":"m"}],"deferred":0}`, outcome)
}

// TestInjectIntoFunctions: both generations, with the vendor's clients.
func TestInjectIntoFunctions(t *testing.T) {
	say := func(status int, header, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			if name, value, ok := strings.Cut(header, ": "); ok {
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter, *http.Request)
		args   []string
		secret string // another than the server's
		status int
		says   string // in the one delivery, or in the error
	}{
		"pushed":                         {answer: say(200, "", decidedAs("pushed")), says: `"outcome": "pushed"`},
		"failed":                         {answer: say(200, "", decidedAs("failed")), status: exitPartial, says: `"outcome": "failed"`},
		"no outcome":                     {answer: say(200, "", decidedAs("")), status: exitPartial, says: `"status": "given back"`},
		"parked":                         {answer: say(200, "", strings.NewReplacer(`"outcome":"",`, "", `"deferred":0`, `"deferred":1`).Replace(decidedAs(""))), says: `"status": "handed over"`},
		"another function":               {answer: say(200, "", `"ok"`), status: exitPartial, says: `"answer": "ok"`},
		"another event":                  {answer: say(200, "", strings.Replace(decidedAs("pushed"), "4711", "4712", 1)), status: exitPartial, says: "not that of functions/repush"},
		"function error behind 200":      {answer: say(200, "X-Fc-Error-Type: UnhandledInvocationError", `{"errorMessage":"1 deferred"}`), status: exitPartial, says: "UnhandledInvocationError: 1 deferred"},
		"queued":                         {answer: say(202, "", ""), args: []string{"--async"}, says: `"status": "handed over"`},
		"queued before":                  {answer: say(409, "", `{"Code":"StatefulAsyncInvocationAlreadyExists","ErrorCode":"x"}`), args: []string{"--async"}, says: "already handed over before"},
		"409 without a task":             {answer: say(409, "", `{"Code":"Conflict","ErrorCode":"Conflict"}`), status: exitFailed, says: "409 Conflict"},
		"200 to an asynchronous one":     {answer: say(200, "", ""), args: []string{"--async"}, status: exitPartial, says: `"status": "unanswered"`},
		"another's 200":                  {answer: say(200, "X-Fc-Request-Id: ", "hello"), status: exitPartial, says: "not what Function Compute says"},
		"wrong secret":                   {secret: "anotherSecret", status: exitFailed, says: "403 SignatureDoesNotMatch"},
		"no permission":                  {answer: say(403, "", `{"Code":"AccessDenied","ErrorCode":"AccessDenied","Message":"denied","ErrorMessage":"denied"}`), status: exitFailed, says: "fc:InvokeFunction"},
		"no such function":               {answer: say(404, "", `{"Code":"FunctionNotFound","ErrorCode":"FunctionNotFound","Message":"function x","ErrorMessage":"function x"}`), status: exitFailed, says: "FunctionNotFound"},
		"the platform broke":             {answer: say(500, "", `{"Code":"InternalServerError","ErrorCode":"InternalServerError"}`), status: exitPartial, says: `"status": "unanswered"`},
		"an error that is no JSON":       {answer: say(502, "", "<html>"), status: exitPartial, says: `"status": "unanswered"`},
		"an error of an unexpected form": {answer: say(500, "", `[1]`), status: exitPartial, says: `"status": "unanswered"`},
		"XML that is none":               {answer: say(500, "Content-Type: text/xml;charset=utf-8", `<Error`), status: exitPartial, says: `"status": "unanswered"`},
		"no answer in time":              {answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, args: []string{"--timeout", "300ms"}, status: exitPartial, says: "no answer in time"},
		"cut": {answer: func(w http.ResponseWriter, _ *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.Close()
		}, status: exitPartial, says: `"status": "unanswered"`},
	} {
		for to, path := range map[string]string{
			"fc://repush?qualifier=live":       "/2023-03-30/functions/repush/invocations?qualifier=live",
			"fc2://ons/repush?qualifier=live":  "/2016-08-15/services/ons.live/functions/repush/invocations",
			"fc://ons$repush":                  "/2023-03-30/functions/ons%24repush/invocations",
			"fc2://ons-service/repush_message": "/2016-08-15/services/ons-service/functions/repush_message/invocations",
		} {
			t.Run(name+" "+to, func(t *testing.T) {
				secret := testSecret
				if test.secret != "" {
					secret = test.secret
				}
				withKeys(t, testKey, secret, testToken, "ALIBABA_CLOUD_ACCOUNT_ID=123456789012")
				p := startPlatform(t, test.answer)
				status, stdout, stderr := deliver(t, sampleEvent, append([]string{"--to", to, "--endpoint", p.URL, "--json"}, test.args...)...)
				if status != test.status || !strings.Contains(stdout+stderr, test.says) {
					t.Errorf("status %d, want %d and %q\n%s\n%s", status, test.status, test.says, stdout, stderr)
				}
				noSecrets(t, stdout, stderr)
				if strings.Contains(stderr, "http://") || strings.Contains(stdout+stderr, "signed") {
					t.Errorf("a URL or what was signed is shown: %s\n%s", stdout, stderr)
				}
				if test.secret != "" {
					return
				}
				requests, bodies := p.seen()
				if len(requests) != 1 || requests[0].RequestURI != path {
					t.Fatalf("requests: %v", requests)
				}
				var sent events.Event
				if err := json.Unmarshal([]byte(bodies[0]), &sent); err != nil || sent.ID != "ticket-4711" {
					t.Errorf("sent %s: %v", bodies[0], err)
				}
			})
		}
	}
}

// TestAsyncTaskID: what stands in the header keeps the platform's rule, follows
// from source and id, and names the result event.
func TestAsyncTaskID(t *testing.T) {
	for to, header := range map[string]string{"fc://repush": "X-Fc-Async-Task-Id", "fc2://ons/repush": "X-Fc-Stateful-Async-Invocation-Id"} {
		withKeys(t, testKey, testSecret, testToken)
		p := startPlatform(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
		for range 2 {
			if status, stdout, stderr := deliver(t, sampleEvent, "--to", to, "--endpoint", p.URL, "--async"); status != exitDone {
				t.Fatalf("status %d\n%s\n%s", status, stdout, stderr)
			}
		}
		requests, _ := p.seen()
		first, second := requests[0].Header, requests[1].Header
		if got := first.Get(header); got != second.Get(header) || got != "repush-"+events.ResultID("oncall/anna", "ticket-4711", false) || !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,127}$`).MatchString(got) {
			t.Errorf("%s: %s = %q, then %q", to, header, got, second.Get(header))
		}
		if first.Get("X-Fc-Invocation-Type") != "Async" {
			t.Errorf("%s: X-Fc-Invocation-Type = %q", to, first.Get("X-Fc-Invocation-Type"))
		}
	}
}

func TestLogTail(t *testing.T) {
	for _, to := range []string{"fc://repush", "fc2://ons/repush"} {
		withKeys(t, testKey, testSecret, testToken)
		p := startPlatform(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Fc-Log-Type") == "Tail" {
				w.Header().Set("X-Fc-Log-Result", base64.StdEncoding.EncodeToString([]byte("the last line")))
			}
			fmt.Fprint(w, decidedAs("pushed"))
		})
		for _, logs := range []string{"--logs=false", "--logs"} {
			_, stdout, stderr := deliver(t, sampleEvent, "--to", to, "--endpoint", p.URL, logs)
			if strings.Contains(stderr, "the last line") != (logs == "--logs") || !strings.Contains(stdout, "pushed") {
				t.Errorf("%s %s: %s\n%s", to, logs, stdout, stderr)
			}
		}
	}
}

// TestStopsAtTheFirstNotTaken: of three events the second is refused, the third
// not tried.
func TestStopsAtTheFirstNotTaken(t *testing.T) {
	withKeys(t, testKey, testSecret, testToken)
	calls := 0
	p := startPlatform(t, func(w http.ResponseWriter, _ *http.Request) {
		if calls++; calls == 2 {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	})
	lines := strings.Join([]string{strings.Replace(sampleEvent, "4711", "1", 1), strings.Replace(sampleEvent, "4711", "2", 1), strings.Replace(sampleEvent, "4711", "3", 1)}, "\n")
	status, stdout, stderr := deliver(t, lines, "--to", "fc2://ons/repush", "--endpoint", p.URL, "--async")
	if status != exitPartial || calls != 2 || !regexp.MustCompile(`(?s)ticket-1 +handed over.*ticket-2 +refused.*429.*ticket-3 +not sent`).MatchString(stdout) {
		t.Errorf("status %d, %d calls\n%s\n%s", status, calls, stdout, stderr)
	}
}

// TestFunctionsAreCalledByTLS unless plain http to loopback was asked for.
func TestFunctionsAreCalledByTLS(t *testing.T) {
	for _, to := range []string{"fc://repush", "fc2://ons/repush"} {
		withKeys(t, testKey, testSecret, testToken)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		first := make(chan byte, 1)
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1)
			_, _ = conn.Read(b)
			_ = conn.Close()
			first <- b[0]
		}()
		status, stdout, stderr := deliver(t, sampleEvent, "--to", to, "--endpoint", l.Addr().String())
		if b := <-first; b != 0x16 || status == exitDone { // a TLS handshake record
			t.Errorf("%s: the first byte is %#x, status %d\n%s\n%s", to, b, status, stdout, stderr)
		}
		_ = l.Close()
	}
}

// TestNoRedirect: no target takes an event elsewhere.
func TestNoRedirect(t *testing.T) {
	withKeys(t, testKey, testSecret, testToken, "REPUSH_HTTP_TOKEN=sesame-sesame-sesame")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the event went elsewhere") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	for _, args := range [][]string{{"--to", server.URL}, {"--to", "fc2://ons/repush", "--endpoint", server.URL}, {"--to", "fc://repush", "--endpoint", server.URL}} {
		status, stdout, stderr := deliver(t, sampleEvent, args...)
		if status == exitDone || !strings.Contains(stdout+stderr, "307") {
			t.Errorf("%v: status %d\n%s\n%s", args, status, stdout, stderr)
		}
	}
}

// TestFC2ClientsDoNotMeet: two targets at once, with different keys, hosts and
// times, keep theirs, and what somebody else set in resty's global client stays.
func TestFC2ClientsDoNotMeet(t *testing.T) {
	global := resty.DefaultClient
	jar, _ := cookiejar.New(nil)
	global.GetClient().Jar = jar
	slow := startPlatform(t, func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "slow"})
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Millisecond):
			fmt.Fprint(w, decidedAs("pushed"))
		}
	})
	fast := startPlatform(t, func(w http.ResponseWriter, r *http.Request) {
		if len(r.Cookies()) > 0 {
			t.Errorf("the other's cookie came along: %v", r.Cookies())
		}
		fmt.Fprint(w, decidedAs("failed"))
	})
	keys := sink.Credentials{AccessKeyID: testKey, AccessKeySecret: testSecret, SecurityToken: testToken}
	e, err := events.Decode([]byte(sampleEvent))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		p, each, want := slow, time.Minute, events.Pushed
		if i%2 == 1 {
			p, each, want = fast, 10*time.Second, events.Failed
		}
		wg.Go(func() {
			f := &fcFunction{scheme: "http", host: strings.TrimPrefix(p.URL, "http://"), service: "s", function: "f", keys: keys}
			if d := inTurn(each, keys, f.invokeV2)(context.Background(), []events.Event{e})[0]; d.Outcome != want {
				t.Errorf("%+v, want %s", d, want)
			}
		})
	}
	wg.Wait()
	atSlow, _ := slow.seen()
	atFast, _ := fast.seen()
	if len(atSlow) != 10 || len(atFast) != 10 {
		t.Errorf("%d and %d requests, want 10 each", len(atSlow), len(atFast))
	}
	if resty.DefaultClient != global || global.GetClient().Jar != jar || global.GetClient().Timeout != 0 {
		t.Error("resty's global client was changed")
	}
}

// TestInjectOverHTTP: the answer of a function, and of any other receiver.
func TestInjectOverHTTP(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		body   string
		want   int
		says   string
	}{
		"pushed":              {200, decidedAs("pushed"), exitDone, "pushed"},
		"rejected":            {200, decidedAs("rejected"), exitPartial, "rejected"},
		"deferred":            {503, `{"results":[{"eventId":"ticket-4711","code":"NoClientOnline"}],"deferred":1}`, exitPartial, "NoClientOnline"},
		"another receiver":    {202, "", exitDone, "handed over"},
		"no result":           {200, `{"count":0,"results":[]}`, exitPartial, "unanswered"},
		"no result, later":    {503, `{"results":[]}`, exitPartial, "unanswered"},
		"unavailable":         {503, "", exitPartial, "the same command asks again"},
		"a redirect":          {307, "", exitFailed, "name the address it leads to"},
		"wrong or no token":   {401, "", exitFailed, "REPUSH_HTTP_TOKEN"},
		"no such place":       {404, "sesame", exitFailed, "404"},
		"the token came back": {200, `{"results":[{"eventId":"ticket-4711","outcome":"failed","message":"sesame-sesame-sesame"}]}`, exitPartial, "[redacted]"},
	} {
		t.Run(name, func(t *testing.T) {
			withKeys(t, "", "", "", "REPUSH_HTTP_TOKEN=sesame-sesame-sesame")
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer sesame-sesame-sesame" || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/cloudevents+json") {
					t.Errorf("headers: %v", r.Header)
				}
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			}))
			defer server.Close()
			status, stdout, stderr := deliver(t, sampleEvent, "--to", server.URL+"/?code=sesame")
			if status != test.want || !strings.Contains(stdout+stderr, test.says) {
				t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
			}
			noSecrets(t, stdout, stderr)
		})
	}
}

// TestWhatAnswersIsNotBelieved: credentials that come back are taken out of all that is
// printed, and what would steer a terminal too.
func TestWhatAnswersIsNotBelieved(t *testing.T) {
	withKeys(t, "", "", "", "REPUSH_HTTP_TOKEN=sesame-sesame-sesame")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"results":[{"eventId":"ticket-4711","outcome":"failed","code":"sesame-sesame-sesame","message":"\u001b]0;owned\u0007 \u202e sesame-sesame-sesame","hint":"\u001b[31msesame-sesame-sesame"}]}`)
	}))
	defer server.Close()
	for _, args := range [][]string{{}, {"--json"}} {
		status, stdout, stderr := deliver(t, sampleEvent, append(args, "--to", server.URL)...)
		if status != exitPartial || strings.ContainsAny(stdout+stderr, "\x1b\x07") || len(args) == 0 && strings.Contains(stdout, "\u202e") || !strings.Contains(stdout, "[redacted]") {
			t.Errorf("status %d\n%q\n%q", status, stdout, stderr)
		}
		noSecrets(t, stdout, stderr)
	}
	file := csvOf(t, []string{"C0000000000000000000000000000001"})
	_, stdout, stderr := repush(t.Context(), "", injecting(file, "--to", server.URL, "--go")...)
	raw, err := os.ReadFile(stateOf(t, stdout))
	if err != nil {
		t.Fatal(err)
	}
	noSecrets(t, stdout, stderr, string(raw))
}

// TestTokenInEveryAnswer: hiding it leaves nothing to read, which is no outcome.
func TestTokenInEveryAnswer(t *testing.T) {
	withKeys(t, "", "", "", "REPUSH_HTTP_TOKEN=results")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e events.Event
		_ = json.NewDecoder(r.Body).Decode(&e)
		fmt.Fprintf(w, `{"results":[{"eventId":%q,"outcome":"pushed"}]}`, e.ID)
	}))
	defer server.Close()
	status, stdout, stderr := repush(t.Context(), "", injecting(csvOf(t, []string{"C0000000000000000000000000000001"}), "--to", server.URL, "--go")...)
	if status == exitDone || !strings.Contains(stdout, "1 in doubt") {
		t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
	}
}

// TestNobodyThere: every kind of target says that nothing was sent, without the
// URL.
func TestNobodyThere(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	for _, to := range []string{server.URL + "/?code=sesame", "fc://repush", "fc2://ons/repush", "eventbridge://repush", "mns://repush", "mns://topics/repush"} {
		t.Run(to, func(t *testing.T) {
			withKeys(t, testKey, testSecret, testToken)
			args := []string{"--timeout", "1s", "--to", to}
			if !strings.HasPrefix(to, "http") {
				args = append(args, "--endpoint", server.URL)
			}
			status, stdout, stderr := deliver(t, sampleEvent, args...)
			if status != exitFailed || !strings.Contains(stdout, "refused") || strings.Contains(stdout+stderr, "http://") {
				t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
			}
			noSecrets(t, stdout, stderr)
		})
	}
}

// TestNeverLeft: what certainly did not leave this machine is refused, and not in doubt.
func TestNeverLeft(t *testing.T) {
	plain := httptest.NewServer(nil)
	t.Cleanup(plain.Close)
	hangs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hangs.Close() })
	for name, test := range map[string]struct {
		args, env []string
		status    int
		says      string
	}{
		"TLS to a plain port":     {[]string{"--to", strings.Replace(plain.URL, "http", "https", 1)}, nil, exitFailed, "not sent: http: server gave HTTP response"},
		"a handshake that hangs":  {[]string{"--to", "https://" + hangs.Addr().String(), "--timeout", "100ms"}, nil, exitFailed, "not sent: no answer in time"},
		"a token that is none":    {[]string{"--to", plain.URL}, []string{"REPUSH_HTTP_TOKEN=sesame\n"}, exitUsage, "REPUSH_HTTP_TOKEN: has a line feed"},
		"3.0, TLS to a plain one": {[]string{"--to", "fc://repush", "--endpoint", strings.Replace(plain.URL, "http", "https", 1)}, nil, exitFailed, "not sent"},
		"2.0, TLS to a plain one": {[]string{"--to", "fc2://ons/repush", "--endpoint", strings.Replace(plain.URL, "http", "https", 1)}, nil, exitFailed, "not sent"},
		"a proxy that is none":    {[]string{"--to", "fc://repush", "--endpoint", "https://fc.example"}, []string{"HTTPS_PROXY=http://%zz"}, exitFailed, "not sent"},
	} {
		t.Run(name, func(t *testing.T) {
			withKeys(t, testKey, testSecret, testToken, test.env...)
			status, stdout, stderr := deliver(t, sampleEvent, test.args...)
			if status != test.status || !strings.Contains(stdout+stderr, test.says) {
				t.Errorf("status %d, want %d and %q\n%s\n%s", status, test.status, test.says, stdout, stderr)
			}
			noSecrets(t, stdout, stderr)
		})
	}
}

// TestMayHaveLeft: from when a connection is there; what is tried on another one was not
// written to the one before (net/http repeats no other POST). A call that was given up may
// still be at it.
func TestMayHaveLeft(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, test := range map[string]struct {
		conns string // wanted, got
		err   error
		want  status
	}{
		"nothing":          {"", broken, refused},
		"no connection":    {"w", broken, refused},
		"one":              {"wg", broken, unanswered},
		"a dead one":       {"wgw", broken, refused},
		"a dead, then one": {"wgwg", broken, unanswered},
		"given up":         {"", context.Canceled, unanswered},
		"ended":            {"w", &url.Error{Err: context.Canceled}, refused},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		all := inTurn(time.Minute, sink.Credentials{}, func(ctx context.Context, _ events.Event, _ []byte) (delivery, error) {
			for _, c := range test.conns {
				if c == 'w' {
					httptrace.ContextClientTrace(ctx).GetConn("")
				} else {
					httptrace.ContextClientTrace(ctx).GotConn(httptrace.GotConnInfo{})
				}
			}
			cancel()
			return delivery{}, test.err
		})(ctx, make([]events.Event, 1))
		if all[0].Status != test.want {
			t.Errorf("%s: %s (%s), want %s", name, all[0].Status, all[0].Message, test.want)
		}
	}
}

// TestInjectIntoBusAndQueues: the events arrive signed; that the signature is
// right is tested in events/sink.
func TestInjectIntoBusAndQueues(t *testing.T) {
	for to, path := range map[string]string{
		"eventbridge://repush": "/openapi/putEvents", "mns://repush": "/queues/repush/messages", "mns://topics/repush": "/topics/repush/messages",
	} {
		t.Run(to, func(t *testing.T) {
			withKeys(t, testKey, testSecret, testToken)
			var got, auth string
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				got, auth = r.URL.Path+" "+string(body), r.Header.Get("Authorization")
				if strings.HasPrefix(to, "eventbridge") {
					fmt.Fprint(w, `{"RequestId":"r","ResourceOwnerAccountId":"1","FailedEntryCount":0,"EntryList":[{"EventId":"ticket-4711","TraceId":"t"}]}`)
					return
				}
				w.WriteHeader(http.StatusCreated)
				if strings.Contains(r.URL.Path, "queues") {
					fmt.Fprint(w, `<Messages xmlns="http://mns.aliyuncs.com/doc/v1/"><Message><MessageId>1</MessageId><MessageBodyMD5>0</MessageBodyMD5></Message></Messages>`)
				} else {
					fmt.Fprint(w, `<Message xmlns="http://mns.aliyuncs.com/doc/v1/"><MessageId>1</MessageId><MessageBodyMD5>0</MessageBodyMD5></Message>`)
				}
			}))
			defer server.Close()
			status, stdout, stderr := deliver(t, sampleEvent, "--to", to, "--endpoint", server.URL)
			if status != exitDone || !strings.Contains(stdout, "handed over") || !strings.HasPrefix(got, path+" ") || !strings.Contains(auth, testKey) {
				t.Errorf("status %d, got %s, signed %q\n%s\n%s", status, got, auth, stdout, stderr)
			}
			_, sent, _ := strings.Cut(got, "<MessageBody>")
			sent, _, _ = strings.Cut(sent, "</MessageBody>")
			if decoded, err := base64.StdEncoding.DecodeString(sent); err == nil {
				got += string(decoded)
			}
			if !strings.Contains(got, `"id":"ticket-4711"`) {
				t.Errorf("the event is not in %s", got)
			}
			noSecrets(t, stdout, stderr)
		})
	}
}

// TestCredentials: the environment before profiles, the CLI's profile before the
// shared file, and nothing of a file in an error.
func TestCredentials(t *testing.T) {
	const cli, shared = ".aliyun/config.json", ".alibabacloud/credentials"
	cliProfile := `{"current":"work","profiles":[{"name":"default","mode":"AK"},{"name":"work","mode":"StsToken","access_key_id":"cli-id","access_key_secret":"cli-sesame","sts_token":"cli-token"},{"name":"other","mode":"AK","access_key_id":"other-id","access_key_secret":"x"}]}`
	sharedProfile := "[default]\ntype = access_key\naccess_key_id = shared-id\naccess_key_secret = shared-sesame\n"
	for name, test := range map[string]struct {
		env   []string
		files map[string]string
		want  string // "" means an error
	}{
		"environment":                {[]string{"ALIBABA_CLOUD_ACCESS_KEY_ID=env-id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET=x"}, map[string]string{cli: cliProfile, shared: sharedProfile}, "env-id"},
		"the CLI's current profile":  {nil, map[string]string{cli: cliProfile, shared: sharedProfile}, "cli-id"},
		"a named profile":            {[]string{"ALIBABA_CLOUD_PROFILE=other"}, map[string]string{cli: cliProfile}, "other-id"},
		"the shared file":            {nil, map[string]string{shared: sharedProfile}, "shared-id"},
		"the CLI's is empty":         {nil, map[string]string{cli: `{"current":"default","profiles":[{"name":"default","mode":"AK"}]}`, shared: sharedProfile}, "shared-id"},
		"the CLI's is switched off":  {[]string{"ALIBABA_CLOUD_CLI_PROFILE_DISABLED=true"}, map[string]string{cli: cliProfile, shared: sharedProfile}, "shared-id"},
		"half an environment":        {[]string{"ALIBABA_CLOUD_ACCESS_KEY_ID=env-id"}, map[string]string{cli: cliProfile}, ""},
		"the other half":             {[]string{"ALIBABA_CLOUD_ACCESS_KEY_SECRET=sesame"}, map[string]string{cli: cliProfile}, ""},
		"nothing":                    {nil, nil, ""},
		"files that are broken":      {nil, map[string]string{cli: `{"sesame"`, shared: "[default\nsesame"}, ""},
		"a library told to show all": {[]string{"DEBUG=tea", "ALIBABA_CLOUD_ACCESS_KEY_ID=env-id", "ALIBABA_CLOUD_ACCESS_KEY_SECRET=x"}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			withKeys(t, "", "", "", test.env...)
			for file, content := range test.files {
				path := filepath.Join(os.Getenv("HOME"), file)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			c, _, err := operatorCredentials(t.Context())
			if c.AccessKeyID != test.want && test.want != "" || (err == nil) != (test.want != "") {
				t.Errorf("key %q, %v; want %q", c.AccessKeyID, err, test.want)
			}
			if err != nil {
				noSecrets(t, err.Error())
			}
			if test.want == "cli-id" && c.SecurityToken != "cli-token" {
				t.Error("the profile's token is missing")
			}
		})
	}
}

// TestAwait: a panic is an error, and a call that hangs ends with its context.
func TestAwait(t *testing.T) {
	t.Parallel()
	if _, err := await(t.Context(), func() (int, error) { panic("sesame") }); err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("panic: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	release := make(chan struct{})
	defer close(release)
	time.AfterFunc(time.Millisecond, cancel)
	if _, err := await(ctx, func() (int, error) { <-release; return 1, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("hang: %v", err)
	}
}
