package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

const (
	doctorInstance = "MQ_INST_1380156306793859_BbXbx0Y4"
	doctorAbout    = "--instance " + doctorInstance + " --topic orders --group GID_billing"
)

// examine runs doctor; bad are the names of the lines that are not ok.
func examine(t *testing.T, args ...string) (status int, lines map[string]doctorCheck, bad []string, shown string) {
	t.Helper()
	status, stdout, stderr := repush(t.Context(), "", append([]string{"doctor", "--json", "--timeout", "20s"}, args...)...)
	shown = stdout + "\n" + stderr
	var report struct{ Checks []doctorCheck }
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("status %d, %v in %s", status, err, shown)
	}
	lines = make(map[string]doctorCheck)
	for _, c := range report.Checks {
		if _, twice := lines[c.Name]; twice {
			t.Errorf("%s stands there twice:\n%s", c.Name, shown)
		}
		if lines[c.Name] = c; c.Status == "not ok" {
			bad = append(bad, c.Name)
		}
		if all := c.Found + c.Next; printable(all) != all {
			t.Errorf("%+q is not fit for a terminal", c)
		}
		if (c.Status == "not ok") != (c.Next != "") || c.Found == "" {
			t.Errorf("%+v: what is not ok says what to do, and nothing else does", c)
		}
	}
	if want := map[bool]int{true: exitDone, false: exitPartial}[bad == nil]; status != want {
		t.Errorf("status %d, want %d:\n%s", status, want, shown)
	}
	return status, lines, bad, shown
}

// inFront answers for the stand-in and changes its answers.
func inFront(t *testing.T, api *standIn, change func(*http.Response) error) string {
	t.Helper()
	to, err := url.Parse(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = change
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}

// answering is an endpoint that always answers the same, but for EVENT, the id of the
// event that came.
func answering(t *testing.T, status int, header, body string) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e events.Event
		_ = json.NewDecoder(r.Body).Decode(&e)
		if name, value, ok := strings.Cut(header, ": "); ok {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, strings.Replace(body, "EVENT", e.ID, 1))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// offBy serves the sample data set with a clock that is wrong.
func offBy(t *testing.T, api *standIn, by time.Duration) string {
	t.Helper()
	server, err := onsd.New(api.data, onsd.Options{Now: func() time.Time { return time.Now().Add(by) }})
	if err != nil {
		t.Fatal(err)
	}
	e, err := server.Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e.URL
}

// dated changes the header Date.
func dated(by time.Duration) func(*http.Response) error {
	return func(r *http.Response) error {
		r.Header.Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat))
		return nil
	}
}

// changed serves the stand-in with its answers changed.
func changed(change func(*http.Response) error) func(*testing.T, *standIn) string {
	return func(t *testing.T, api *standIn) string { return inFront(t, api, change) }
}

// env changes the environment.
func env(entries ...string) func(*testing.T, *standIn) string {
	return func(t *testing.T, api *standIn) string {
		for _, entry := range entries {
			name, value, _ := strings.Cut(entry, "=")
			t.Setenv(name, value)
		}
		return api.URL
	}
}

// ailment is one thing that is broken, and the line about it.
type ailment struct {
	broken      func(*testing.T, *standIn) string // returns the endpoint; nil: nothing is
	args        string                            // beside those that name group and endpoint
	line        string                            // that is not ok; empty: none is
	found, next string
	skipped     string // a line, ": " and the reason
}

// TestDoctor: with one thing broken that line and no other is not ok, says what it
// found and what to do; what needs it is skipped; nothing reaches a consumer.
func TestDoctor(t *testing.T) {
	for about, ailments := range map[string]map[string]ailment{"credentials": ofCredentials, "network": ofNetwork, "API": ofAPI} {
		if len(ailments) == 0 {
			t.Errorf("nothing is tested about %s", about)
		}
		for name, test := range ailments {
			t.Run(about+"/"+name, func(t *testing.T) {
				api := withAPI(t)
				ons := api.URL
				if test.broken != nil {
					ons = test.broken(t, api)
				}
				_, lines, bad, shown := examine(t, append(strings.Fields("--ons "+ons+" "+doctorAbout), strings.Fields(test.args)...)...)
				test.check(t, lines, bad, shown)
				if n := api.Deliveries().Total; n != 0 {
					t.Errorf("%d deliveries", n)
				}
				pushes := api.Calls("OnsMessagePush")
				if n := pushes.Accepted + pushes.Refused + pushes.Throttled; n > 1 || n == 1 != strings.Contains(shown, "costs one call of the push quota") {
					t.Errorf("%d pushes:\n%s", n, shown)
				}
				if strings.Contains(shown, api.data.Credentials[0].AccessKeySecret) {
					t.Errorf("the secret is shown:\n%s", shown)
				}
			})
		}
	}
}

// check compares what was found with what is wanted.
func (a ailment) check(t *testing.T, lines map[string]doctorCheck, bad []string, shown string) {
	t.Helper()
	var want []string
	if a.line != "" {
		want = []string{a.line}
	}
	if diff := cmp.Diff(want, bad); diff != "" {
		t.Errorf("not ok (-want +got):\n%s\n%s", diff, shown)
	}
	if c := lines[a.line]; !strings.Contains(c.Found, a.found) || !strings.Contains(c.Next, a.next) {
		t.Errorf("%+v, want %q and %q", c, a.found, a.next)
	}
	line, why, _ := strings.Cut(a.skipped, ": ")
	if c := lines[line]; a.skipped != "" && (c.Status != "skipped" || !strings.HasPrefix(c.Found, why)) {
		t.Errorf("%+v, want %q", c, a.skipped)
	}
	noSecrets(t, shown)
}

const noKeys = "ALIBABA_CLOUD_ACCESS_KEY_ID="

var (
	ofCredentials = map[string]ailment{
		"no credentials":     {broken: env(noKeys, "ALIBABA_CLOUD_ACCESS_KEY_SECRET="), line: "credentials", found: "none", next: "run 'aliyun configure'", skipped: "permissions: needs credentials"},
		"half of them":       {broken: env("ALIBABA_CLOUD_ACCESS_KEY_SECRET="), line: "credentials", found: "none", next: "set both ALIBABA_CLOUD_ACCESS_KEY_ID and", skipped: "consumers: needs credentials"},
		"an SDK that prints": {broken: env("DEBUG=sdk"), line: "credentials", found: "not used", next: "DEBUG", skipped: "permissions: needs credentials"},
		"a key that needs a token": {broken: env("ALIBABA_CLOUD_ACCESS_KEY_ID=STS.0123456789abWXYZ"), line: "credentials", found: "key …WXYZ, temporary and without",
			next: "set ALIBABA_CLOUD_SECURITY_TOKEN", skipped: "permissions: needs credentials"},
		"wrong secret":     {broken: env("ALIBABA_CLOUD_ACCESS_KEY_SECRET=" + testSecret), line: "credentials", found: "SignatureDoesNotMatch", next: "check the access key", skipped: "permissions: needs credentials"},
		"unknown key":      {broken: env(noKeys + testKey), line: "credentials", found: "InvalidAccessKeyId.NotFound", next: "check the access key", skipped: "permissions: needs credentials"},
		"a token too much": {broken: env("ALIBABA_CLOUD_SECURITY_TOKEN=" + testToken), line: "credentials", found: "InvalidSecurityToken", next: "token", skipped: "consumers: needs credentials"},
	}
	ofNetwork = map[string]ailment{
		"no region":      {broken: env("REPUSH_REGION="), line: "region", found: `"" is not`, next: "give --region", skipped: "endpoint: needs an answer"},
		"no region's id": {args: "--region Hangzhou", line: "region", found: `"Hangzhou" is not`, next: "give --region", skipped: "clock: needs an answer"},
		"another region": {args: "--region cn-shanghai", line: "region", found: "BIZ_REGION_NOT_FOUND", next: "region is that of the instance", skipped: "permissions: needs region"},
		"an address with a path": {broken: func(t *testing.T, api *standIn) string { return api.URL + "/api" }, line: "endpoint", found: "must be a host", next: "put --ons",
			skipped: "permissions: needs endpoint"},
		"http to elsewhere": {broken: env("REPUSH_ONS_ENDPOINT=http://192.0.2.1"), args: "--ons http://192.0.2.1", line: "endpoint", found: "must be https", next: "put --ons", skipped: "certificate: needs an answer"},
		"nobody listens":    {broken: func(*testing.T, *standIn) string { return "http://127.0.0.1:1" }, line: "endpoint", found: "no connection", next: "open the way", skipped: "clock: needs an answer"},
		"no answer": {broken: func(t *testing.T, _ *standIn) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			return "http://" + l.Addr().String()
		}, args: "--timeout 200ms", line: "endpoint", found: "no answer in time", next: "HTTPS_PROXY", skipped: "permissions: needs endpoint"},
		"a login page": {broken: func(t *testing.T, _ *standIn) string {
			return answering(t, 200, "Content-Type: text/html", "<html>log in")
		},
			line: "endpoint", found: "answers 200, and not as the API does", next: "find out who answers there", skipped: "permissions: needs endpoint"},
		"a redirect": {broken: func(t *testing.T, api *standIn) string { return answering(t, 302, "Location: "+api.URL, "") },
			line: "endpoint", found: "answers 302", next: "find out who answers there", skipped: "clock: needs an answer"},
		"an unknown CA": {broken: func(t *testing.T, api *standIn) string {
			e, err := api.Listen("127.0.0.1:0", true)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = e.Close() })
			return e.URL
		}, line: "certificate", found: "unknown authority", next: "SSL_CERT_FILE", skipped: "permissions: needs certificate"},
		"a clock 2 minutes behind": {broken: changed(dated(2 * time.Minute)),
			line: "clock", found: "-120 s", next: "let the network set"},
		"a clock 20 minutes ahead": {broken: changed(dated(-20 * time.Minute)),
			line: "clock", found: "+1200 s", next: "let the network set", skipped: "permissions: needs clock"},
		"a clock that the API refuses": {broken: func(t *testing.T, api *standIn) string { return offBy(t, api, 20*time.Minute) },
			line: "clock", found: "InvalidTimeStamp.Expired", next: "set the clock", skipped: "consumers: needs clock"},
		"no date": {broken: changed(func(r *http.Response) error { r.Header.Set("Date", "soon"); return nil }), skipped: "clock: the answer has no date"},
	}
	ofAPI = map[string]ailment{
		"everything is fine": {skipped: "certificate: plain http"},
		"no push":            {args: "--no-push", skipped: "mq:SUB: --no-push"},
		"unknown instance":   {args: "--instance MQ_INST_1_x", line: doctorNames, found: "INSTANCE_NOT_FOUND", next: "instance id", skipped: "mq:SUB: needs " + doctorNames},
		"unknown topic":      {args: "--topic none", line: doctorNames, found: "BIZ_TOPIC_NOT_FOUND", next: "check the topic", skipped: "mq:QueryMessage: needs " + doctorNames},
		"unknown group":      {args: "--group GID_none", line: doctorNames, found: "BIZ_SUBSCRIPTION_NOT_FOUND", next: "check the group", skipped: "consumers: needs mq:QueryConsumerConnection"},
		"nobody online": {broken: func(t *testing.T, api *standIn) string {
			for _, c := range api.data.Instances[0].Groups[0].Clients {
				api.SetOnline(doctorInstance, "GID_billing", c.ClientID, false)
			}
			return api.URL
		}, line: "consumers", found: "nobody is online", next: "start a consumer of GID_billing"},
		"different subscriptions":      {broken: changed(replaced(`"SubscriptionSame":true`, `"SubscriptionSame":false`)), line: "consumers", found: "2 online: JAVA V4_3_6; they subscribe to different things", next: "let all consumers of GID_billing"},
		"a client steers the terminal": {broken: changed(replaced("V4_3_6", `\u001b]52;c;QQ\u0007\u202e`)), skipped: "certificate: plain http"},
		"a client has the secret":      {broken: changed(replaced("V4_3_6", "demo-sk")), skipped: "certificate: plain http"},
		"one call is slow": {broken: func(t *testing.T, api *standIn) string {
			if err := api.AddFault(onsd.Fault{API: "OnsConsumerStatus", Count: -1, Delay: time.Minute}); err != nil {
				t.Fatal(err)
			}
			return api.URL
		}, args: "--timeout 3s", line: "mq:QueryConsumerStatus", found: "no answer", next: "network"},
		"a push of nothing is accepted": {broken: changed(func(r *http.Response) error {
			if r.Request.URL.Query().Get("Action") == "OnsMessagePush" {
				r.StatusCode = 200
				return replaced(`"Code":`, `"Was":`)(r)
			}
			return nil
		}), line: "mq:SUB", found: "cannot exist was accepted", next: "push nothing"},
	}
)

// replaced changes the body of an answer.
func replaced(old, by string) func(*http.Response) error {
	return func(r *http.Response) error {
		var body strings.Builder
		if err := r.Write(&body); err != nil {
			return err
		}
		_, text, _ := strings.Cut(body.String(), "\r\n\r\n")
		text = strings.ReplaceAll(text, old, by)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		r.Header.Set("Content-Length", fmt.Sprint(len(text)))
		return nil
	}
}

// TestDoctorPermissions: each denied operation is one line, which names its action
// and the policy; the rest is checked all the same.
func TestDoctorPermissions(t *testing.T) {
	for operation, action := range map[string]string{
		"OnsMessagePush": "mq:SUB", "OnsConsumerGetConnection": "mq:QueryConsumerConnection", "OnsConsumerStatus": "mq:QueryConsumerStatus",
		"OnsConsumerAccumulate": "mq:QueryConsumerAccumulate", "OnsMessageGetByMsgId": "mq:QueryMessage", "OnsMessageTrace": "mq:QueryMessageTrace",
		"OnsDLQMessageGetById": "mq:QueryDLQMessage",
	} {
		t.Run(action, func(t *testing.T) {
			api := withAPI(t)
			api.SetDenied(api.data.Credentials[0].AccessKeyID, operation)
			_, lines, bad, shown := examine(t, strings.Fields("--ons "+api.URL+" "+doctorAbout)...)
			c := lines[action]
			if !slices.Equal(bad, []string{action}) || !strings.HasPrefix(c.Found, whose) || !strings.Contains(c.Found, "Forbidden.RAM") || !strings.Contains(c.Next, "allow "+action+" ") || !strings.Contains(c.Next, "infra/ram/operator.json") {
				t.Errorf("%v, %+v\n%s", bad, c, shown)
			}
			if n := api.Deliveries().Total; n != 0 {
				t.Errorf("%d deliveries", n)
			}
		})
	}
	t.Run("all of them", func(t *testing.T) {
		api := withAPI(t)
		api.SetDenied(api.data.Credentials[0].AccessKeyID, "OnsMessagePush", "OnsConsumerGetConnection", "OnsConsumerStatus", "OnsConsumerAccumulate", "OnsMessageGetByMsgId", "OnsMessageTrace", "OnsDLQMessageGetById")
		_, lines, bad, shown := examine(t, strings.Fields("--ons "+api.URL+" "+doctorAbout)...)
		if len(bad) != 7 || lines[doctorNames].Status != "skipped" || lines[doctorLookups[0]].Found != "no call got through" {
			t.Errorf("%v\n%s", bad, shown)
		}
	})
}

// TestDoctorCovers: there is a check for every action of the operator's policy
// that ONS has, and for no other.
func TestDoctorCovers(t *testing.T) {
	raw, err := os.ReadFile("../../infra/ram/operator.json")
	if err != nil {
		t.Fatal(err)
	}
	var policy struct{ Statement []struct{ Action []string } }
	if err := json.Unmarshal(raw, &policy); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, s := range policy.Statement {
		for _, action := range s.Action {
			if strings.HasPrefix(action, "mq:") {
				want = append(want, action)
			}
		}
	}
	got := doctorLookups[:]
	for _, c := range new(doctor).calls(t.Context(), nil) {
		got = append(got, c.action)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" || len(want) == 0 {
		t.Errorf("(-policy +checks):\n%s", diff)
	}
}

// TestDoctorFunction: what a running function says of its settings is judged line
// by line.
func TestDoctorFunction(t *testing.T) {
	sink := answering(t, http.StatusOK, "", "")
	for name, test := range map[string]struct {
		env     []string // beside what a good one has
		plan    bool     // instead of repush
		token   string
		stopped bool
		about   string
		ailment
	}{
		"everything is fine":           {ailment: ailment{skipped: "function role: what it allows only the function can try: repush inject --instance " + doctorInstance + " --topic orders --group GID_billing --msg MSGID --reason TEXT --dry-run,"}},
		"a pattern that covers":        {env: []string{"REPUSH_ALLOW=a/b/c, MQ_INST_*/GID_*/orders"}},
		"no instance named":            {about: "none"},
		"allow-list of something else": {env: []string{"REPUSH_ALLOW=" + doctorInstance + "/GID_billing/order"}, ailment: ailment{line: "function allow-list", found: "/order", next: "add " + doctorInstance + "/GID_billing/orders to its REPUSH_ALLOW"}},
		"another region":               {env: []string{"REPUSH_REGION=cn-shanghai"}, ailment: ailment{line: "function region", found: "cn-shanghai", next: "set its REPUSH_REGION"}},
		"memory":                       {env: []string{"REPUSH_STATE=memory"}, ailment: ailment{line: "function state", found: "each instance of the function knows only its own pushes", next: "set REPUSH_STATE to redis"}},
		"Redis that is away":           {env: []string{"REPUSH_STATE=redis://127.0.0.1:1"}, ailment: ailment{line: "function state", found: "redis cannot be used", next: "Redis trouble", skipped: "function orders: needs function state"}},
		"results in the log":           {env: []string{"REPUSH_RESULTS="}, ailment: ailment{line: "function results", found: "in the function's log alone", next: "set its REPUSH_RESULTS"}},
		"stopped":                      {stopped: true, ailment: ailment{line: "function orders", found: "Stopped", next: "ask who stopped it"}},
		"stopped, no instance named":   {stopped: true, about: "none", ailment: ailment{line: "function orders", found: "Stopped", next: "repush start"}},
		"no token":                     {token: "none", ailment: ailment{line: "function", found: "401", next: "set REPUSH_HTTP_TOKEN"}},
		"plan":                         {plan: true, env: []string{"REPUSH_REQUESTS=" + sink, "REPUSH_STATE=memory"}, ailment: ailment{line: "function", found: "send it to functions/repush", next: "give functions/repush"}},
	} {
		t.Run(name, func(t *testing.T) {
			api := withAPI(t)
			const token = "sesame-sesame-sesame"
			binary := built(t)
			if test.plan {
				binary = builtPlan(t)
			}
			env := append(append(api.env(), "REPUSH_HTTP_TOKEN="+token, "REPUSH_RESULTS="+sink, "REPUSH_STATE=file:"+filepath.Join(t.TempDir(), "ledger")), test.env...)
			f, err := startHTTP(t.Context(), binary, env, &buffer{}, &buffer{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(f.stop)
			if test.token == "" {
				t.Setenv("REPUSH_HTTP_TOKEN", token)
			}
			if test.stopped {
				if status, _, stderr := repush(t.Context(), "", "stop", "--to", f.URL); status != exitDone {
					t.Fatal(stderr)
				}
			}
			args := "--ons " + api.URL + " --to " + f.URL
			if test.about == "" {
				args += " " + doctorAbout
			}
			_, lines, bad, shown := examine(t, strings.Fields(args)...)
			test.check(t, lines, bad, shown)
			if c := lines["function pace"]; test.line != "function" && !strings.HasPrefix(c.Found, "10 pushes a second, 150 at a time, 15s for each; messages up to 72h old, 3 pushes each; unknown: hold") {
				t.Errorf("%+v", c)
			}
			if c := lines["function allow-list"]; test.about != "" && (c.Status != "skipped" || c.Found != "give --instance, --topic and --group; it has */*/*") {
				t.Errorf("%+v", c)
			}
		})
	}
}

// fine is what a function says of itself, and of its orders.
const fine = `"settings":{"REPUSH_REGION":"unset","REPUSH_ALLOW":"*/*/*","REPUSH_RESULTS":"set"},"state":{"kind":"redis","ok":true},"history":{}`

// TestDoctorSaid: what a function says of itself is judged and shown, but for the
// token it was asked with and what steers a terminal.
func TestDoctorSaid(t *testing.T) {
	api := withAPI(t, "REPUSH_HTTP_TOKEN=sesame-sesame-sesame")
	for name, test := range map[string]struct {
		report string
		ailment
	}{
		"the function's own region": {fine, ailment{}},
		"the breaker":               {strings.Replace(fine, "{}", `{"orders":["BreakerOpen"]}`, 1), ailment{line: "function orders", found: "BreakerOpen", next: "infra/ram/function.json"}},
		"no orders":                 {strings.Replace(fine, "history", "future", 1), ailment{line: "function orders", found: "not told", next: "repush status"}},
		"escapes and the token":     {strings.Replace(`"version":"\u001b[2J\u202e \u0073esame-sesame-sesame",`+fine, "redis", `redis\u001b \u0073esame-sesame-sesame`, 1), ailment{}},
	} {
		t.Run(name, func(t *testing.T) {
			to := answering(t, http.StatusOK, "", `{"results":[{"eventId":"EVENT","code":"Done","report":{`+test.report+`}}]}`)
			_, lines, bad, shown := examine(t, strings.Fields("--region "+api.data.Region+" --ons "+api.URL+" --to "+to)...)
			test.check(t, lines, bad, shown)
			if c := lines["function region"]; c.Found != "that of the function itself" {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestDoctorClock: an answer is as old as half of what it took.
func TestDoctorClock(t *testing.T) {
	var d doctor
	asked := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	d.clock(asked.Add(5*time.Minute).Format(http.TimeFormat), asked, 10*time.Minute+time.Second)
	if c := d.checks[0]; c.Status != "ok" || !strings.HasPrefix(c.Found, "+0 s") {
		t.Errorf("%+v", c)
	}
}

// TestDoctorTarget: what does not answer is said, and a target that cannot be right
// is an error of the command line.
func TestDoctorTarget(t *testing.T) {
	api := withAPI(t)
	for to, want := range map[string][2]string{
		"http://127.0.0.1:1/":                   {"no connection", "check --to"},
		answering(t, 200, "", "hello"):          {"is not that of functions/repush", "check --to"},
		answering(t, 202, "", ""):               {"it did not describe itself", "check --to"},
		answering(t, 200, "", `{"results":[]}`): {"is not that of functions/repush", "give functions/repush"},
		answering(t, 503, "", "come back"):      {"503", "that it is deployed (infra/README.md)"},
		answering(t, 200, "", `{"results":[{"eventId":"EVENT","outcome":"rejected","code":"Malformed","message":"type: must be repush:Message:Requested"}]}`): {
			"Malformed", "deploy it again if it is older"},
	} {
		_, lines, bad, shown := examine(t, "--ons", api.URL, "--to", to)
		if c := lines["function"]; !slices.Equal(bad, []string{"function"}) || !strings.Contains(c.Found, want[0]) || !strings.Contains(c.Next, want[1]) {
			t.Errorf("%s: %+v\n%s", to, c, shown)
		}
	}
	for line, says := range map[string]string{
		"doctor --to eventbridge://bus":               "must be asked directly",
		"doctor --to fc://repush":                     "needs --account",
		"doctor --to http://192.0.2.1/":               "must be https",
		"doctor --instance i":                         "--instance, --topic and --group: give all three",
		"doctor now":                                  "unknown command",
		"doctor " + doctorAbout + " --group GID%bill": "--group: must",
	} {
		status, stdout, stderr := repush(t.Context(), "", strings.Fields(line)...)
		if status != exitUsage || !strings.Contains(stderr, says) {
			t.Errorf("%s: status %d, want %q\n%s\n%s", line, status, says, stdout, stderr)
		}
	}
}

// TestDoctorDeployed: on Function Compute a lack of permission is told from one of
// credentials.
func TestDoctorDeployed(t *testing.T) {
	withKeys(t, testKey, testSecret, testToken)
	p := startPlatform(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"Code":"AccessDenied","Message":"denied"}`)
	})
	args := []string{"--region", "cn-hangzhou", "--ons", "http://127.0.0.1:1", "--to", "fc://repush", "--endpoint", p.URL}
	_, lines, _, shown := examine(t, args...)
	if c := lines["function"]; !strings.Contains(c.Next, "allow fc:InvokeFunction") {
		t.Errorf("%+v\n%s", c, shown)
	}
	if c := lines["credentials"]; c.Found != "from the environment, with a security token" {
		t.Errorf("%+v", c)
	}
	noSecrets(t, shown)
	p = startPlatform(t, func(w http.ResponseWriter, _ *http.Request) {
		_, bodies := p.seen()
		e, _ := events.Decode([]byte(bodies[len(bodies)-1]))
		fmt.Fprint(w, `{"results":[{"eventId":"`+e.ID+`","code":"Done","report":{`+strings.Replace(fine, "redis", "file", 1)+`}}]}`)
	})
	args[len(args)-1] = p.URL
	_, lines, _, shown = examine(t, append(args, strings.Fields(doctorAbout)...)...)
	if c := lines["function state"]; c.Status != "not ok" || !strings.HasPrefix(c.Found, "file: each instance") {
		t.Errorf("%+v\n%s", c, shown)
	}
	if asked := p.bodies[len(p.bodies)-1]; lines["function orders"].Status != "ok" || !strings.Contains(asked, "GID_billing") {
		t.Errorf("orders of the group were not asked for:\n%s\n%s", asked, shown)
	}
	withKeys(t, "", "", "")
	_, lines, _, shown = examine(t, args...)
	if c := lines["function"]; c.Status != "skipped" || c.Found != "needs credentials" {
		t.Errorf("%+v\n%s", c, shown)
	}
}

// TestDoctorOrigin: profiles are told apart.
func TestDoctorOrigin(t *testing.T) {
	for file, test := range map[string]struct{ content, want string }{
		".aliyun/config.json": {
			`{"current":"default","profiles":[{"name":"default","mode":"AK","access_key_id":"` + testKey + `XY","access_key_secret":"` + testSecret + `"}]}`,
			"from the profile of the Alibaba Cloud CLI, key …00XY",
		},
		".alibabacloud/credentials": {
			"[default]\ntype = access_key\naccess_key_id = " + testKey + "XY\naccess_key_secret = " + testSecret + "\n",
			"from the shared credentials file, key …00XY",
		},
	} {
		withKeys(t, "", "", "")
		path := filepath.Join(os.Getenv("HOME"), file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, lines, _, shown := examine(t, "--region", "cn-hangzhou", "--ons", "http://127.0.0.1:1")
		if c := lines["credentials"]; c.Found != test.want {
			t.Errorf("%s: %+v", file, c)
		}
		noSecrets(t, shown)
	}
}

// TestDoctorForPeople: without --json there is a line each, and under one that is
// not ok what to do.
func TestDoctorForPeople(t *testing.T) {
	withKeys(t, "", "", "", "ALIBABA_CLOUD_PROFILE=none")
	status, stdout, _ := repush(t.Context(), "", "doctor", "--region", "cn-hangzhou", "--ons", "http://127.0.0.1:1", "--timeout", "5s")
	for _, want := range []string{"not ok   credentials                 none that can be used\n" + strings.Repeat(" ", 35) + "  do this: neither the environment", "\nok       region                      cn-hangzhou\n", "\nskipped  permissions"} {
		if !strings.Contains("\n"+stdout, want) || status != exitPartial {
			t.Errorf("status %d, %q is missing in:\n%s", status, want, stdout)
		}
	}
}

// TestDoctorCertificate needs a process of its own, which trusts the CA and has a
// proxy.
func TestDoctorCertificate(t *testing.T) {
	dir := t.TempDir()
	run := func(ons string, env ...string) string {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "doctor", "--region", "cn-hangzhou", "--ons", ons, "--timeout", "5s")
		cmd.Env = append([]string{asCommand + "=1", "HOME=" + dir, "PATH=" + os.Getenv("PATH"), "SSL_CERT_FILE=" + filepath.Join(dir, "ca.pem")}, env...)
		out, _ := cmd.CombinedOutput() // there are no credentials: status 3
		return string(out)
	}
	for name, test := range map[string]struct {
		left time.Duration
		want string
	}{
		"in time": {30 * 24 * time.Hour, "ok       certificate                 trusted, until "},
		"soon":    {3 * 24 * time.Hour, "not ok   certificate                 trusted, until "},
		"over":    {-time.Hour, "not ok   certificate                 x509: certificate has expired"},
	} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"RequestId":"1"}`) }))
		server.TLS = &tls.Config{Certificates: []tls.Certificate{certificateFor(t, filepath.Join(dir, "ca.pem"), test.left)}}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		if out := run(server.URL); !strings.Contains("\n"+out, "\n"+test.want) || strings.Contains(out, "renew it") != (name == "soon") {
			t.Errorf("%s: want %q\n%s", name, test.want, out)
		}
		server.Close()
	}
	proxy := answering(t, http.StatusBadGateway, "", "")
	out := run("https://ons.invalid", "HTTPS_PROXY="+strings.Replace(proxy, "://", "://user:"+testSecret+"@", 1))
	if !strings.Contains(out, "ons.invalid through the proxy 127.0.0.1: ") {
		t.Errorf("the proxy is not named:\n%s", out)
	}
	noSecrets(t, out)
}

// certificateFor makes a certificate of 127.0.0.1 and writes it to path, to trust.
func certificateFor(t *testing.T, path string, left time.Duration) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(left),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
