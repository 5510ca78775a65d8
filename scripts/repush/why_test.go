package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/openapi"
)

// Messages of the data below, by what has become of them.
const (
	whyDead     = "C000021112CD18B4AAC26E1A0B570001"
	whyPending  = "C000021112CD18B4AAC26E1A0B570002"
	whyConsumed = "C000021112CD18B4AAC26E1A0B570003"
	whyExpired  = "C000021112CD18B4AAC26E1A0B570004"
	whyCut      = "C000021112CD18B4AAC26E1A0B570005"
	whySecond   = "C000021112CD18B4AAC26E1A0B570006"
	whyThird    = "C000021112CD18B4AAC26E1A0B570007"
	whyNever    = "C000021112CD18B4AAC26E1A0B57FFFF"
	whyClient   = "192.0.2.17@4813#-19#-17#45"

	whyData = `
region: cn-hangzhou
credentials: [{accessKeyId: LTAIexample0000, accessKeySecret: s3cr3tOfTheTest, securityToken: stsTokenOfTheTest}]
quotas: {"*": {kind: none}}
instances:
  - instanceId: MQ_INST_1_x
    topics: [orders, refunds]
    messages:
      - {topic: orders, msgIds: [C000021112CD18B4AAC26E1A0B570001, C000021112CD18B4AAC26E1A0B570003, C000021112CD18B4AAC26E1A0B570005, C000021112CD18B4AAC26E1A0B570006, C000021112CD18B4AAC26E1A0B570007], storedAt: 26h, tags: paid, keys: K1, body: the-body}
      - {topic: orders, msgIds: [C000021112CD18B4AAC26E1A0B570002], storedAt: 26h, pendingFor: [GID_billing, GID_down]}
    groups:
      - groupId: GID_billing
        subscribes: [orders]
        clients: [{clientId: "192.0.2.17@4813#-19#-17#45"}]
        deadLetters:
          - {topic: orders, msgIds: [C000021112CD18B4AAC26E1A0B570001, C000021112CD18B4AAC26E1A0B570005, C000021112CD18B4AAC26E1A0B570006, C000021112CD18B4AAC26E1A0B570007], storedAt: 21h}
          - {topic: orders, msgIds: [C000021112CD18B4AAC26E1A0B570004], storedAt: 70h}
      - groupId: GID_down
        subscribes: [orders]
        clients: [{clientId: "192.0.2.18@1", online: false}]
        deadLetters: [{topic: orders, msgIds: [C000021112CD18B4AAC26E1A0B570001], storedAt: 21h}]
      - {groupId: GID_refunds, subscribes: [refunds], clients: [{clientId: "192.0.2.19@1"}]}
`
)

// whyAPI starts the stand-in with the data above, and an operator's environment.
func whyAPI(t *testing.T) *standIn {
	t.Helper()
	built(t) // while HOME still has the build cache
	file := filepath.Join(t.TempDir(), "data.yaml")
	if err := os.WriteFile(file, []byte(whyData), 0o600); err != nil {
		t.Fatal(err)
	}
	api, err := startStandIn("127.0.0.1:0", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = api.Close() })
	withKeys(t, testKey, testSecret, testToken, "REPUSH_REGION=cn-hangzhou")
	return api
}

// whyAsk is the flags of one question.
func whyAsk(url, msgID string, more ...string) []string {
	return append([]string{"why", "--ons", url, "--instance", "MQ_INST_1_x", "--topic", "orders", "--group", "GID_billing", "--msg", msgID}, more...)
}

// asked runs it both ways, and checks what holds for every answer.
func whyAnswers(t *testing.T, status int, args []string) (screen string, object why) {
	t.Helper()
	got, screen, stderr := repush(t.Context(), "", args...)
	if got != status {
		t.Errorf("status %d, want %d\n%s\n%s", got, status, screen, stderr)
	}
	again, asJSON, _ := repush(t.Context(), "", append(args, "--json")...)
	if err := json.Unmarshal([]byte(asJSON), &object); err != nil || again != status {
		t.Errorf("--json: status %d, %v in %s", again, err, asJSON)
	}
	if !strings.HasPrefix(screen, "verdict   "+object.Verdict+"\n") || !strings.Contains(screen, "\na push    ") {
		t.Errorf("the screen does not begin with %q:\n%s", object.Verdict, screen)
	}
	noSecrets(t, screen, asJSON, stderr)
	if text := screen + asJSON + stderr; strings.Contains(text, "the-body") || strings.Contains(text, testKey) {
		t.Errorf("a key or a body is shown:\n%s", text)
	}
	return screen, object
}

// TestWhy: what the broker has decides the verdict, the next step and what a push
// would do. A " | " parts texts that the screen must have.
func TestWhy(t *testing.T) {
	api := whyAPI(t)
	for name, test := range map[string]struct {
		msgID   string
		more    []string
		verdict string
		screen  string
		aPush   string
	}{
		"a dead letter": {msgID: whyDead, verdict: "a dead letter after 16 retries",
			screen: "next      repush why --instance 'MQ_INST_1_x' --topic 'orders' --group 'GID_billing' --msg '" + whyDead + "' --region 'cn-hangzhou' --ons '" + api.URL + `' --to TARGET` +
				` | only if no function has pushed it: | repush push --instance 'MQ_INST_1_x' --topic 'orders' --group 'GID_billing' --msg '` + whyDead + "' --region 'cn-hangzhou' --ons '" + api.URL + `' --reason "WHY"` +
				` | 26h0m ago; the broker deletes it about | in 46h0m | TAGS "paid" | KEYS "K1" | GID_billing  CONSUMED: the group's offset has passed it | 1 of GID_billing; client ids change | ` + whyClient + `  JAVA V4_3_6  192.0.2.17: | not asked: name the function with --to`,
			aPush: "would be accepted for " + whyClient + "; whether it was pushed before is not known"},
		"a dead letter, in lower case": {msgID: strings.ToLower(whyDead), verdict: "there is no such message"},
		"and nobody online": {msgID: whyDead, more: []string{"--group", "GID_down"}, verdict: "a dead letter after 16 retries; nobody of GID_down is online",
			screen: "start a consumer of the group | repush push | online    nobody of GID_down", aPush: "is refused now, because nobody is online"},
		"not consumed yet": {msgID: whyPending, verdict: "not consumed yet: the queue still delivers it by itself", screen: "a push is one more delivery | no dead letter of GID_billing",
			aPush: "would be accepted for " + whyClient + "; maybe a duplicate, because the queue still delivers it"},
		"not consumed, nobody online": {msgID: whyPending, more: []string{"--group", "GID_down"}, verdict: "nobody of GID_down is online", screen: "what its queue still has needs no push | when somebody is; maybe a duplicate, because the queue may still deliver it"},
		"consumed":                    {msgID: whyConsumed, verdict: "consumed already, skipped or being retried", screen: "the consumer's own records | repush push"},
		"expired":                     {msgID: whyExpired, verdict: "the message does not exist any more, only its dead letter", screen: "message   does not exist | resend the dead letter in the console | in 2h0m", aPush: "would fail"},
		"never existed":               {msgID: whyNever, verdict: "there is no such message in orders: it expired, as messages exist for three days, or it never was there", screen: "next      check id, topic, instance and region", aPush: "would fail"},
		"another topic":               {msgID: whyDead, more: []string{"--topic", "refunds"}, verdict: "this names a dead letter, which is a copy: the message to push is " + whyDead + " in orders", screen: "repush why --instance 'MQ_INST_1_x' --topic 'orders'", aPush: "would be one more delivery of " + whyDead},
		"a group of another topic":    {msgID: whyConsumed, more: []string{"--group", "GID_refunds"}, verdict: "GID_refunds does not subscribe to orders", screen: "check the group and its subscriptions | a push    would be accepted for 192.0.2.19@1; but the group does not subscribe to it"},
	} {
		t.Run(name, func(t *testing.T) {
			screen, w := whyAnswers(t, exitDone, whyAsk(api.URL, test.msgID, test.more...))
			if !strings.HasPrefix(w.Verdict, test.verdict) || !strings.HasPrefix(w.APush, test.aPush) || len(w.NotSeen) > 0 {
				t.Errorf("verdict %q, want %q\na push %q, want %q", w.Verdict, test.verdict, w.APush, test.aPush)
			}
			for want := range strings.SplitSeq(test.screen, " | ") {
				if !strings.Contains(screen, want) {
					t.Errorf("%q is missing in:\n%s", want, screen)
				}
			}
		})
	}
	for _, op := range []string{"OnsMessageGetByMsgId", "OnsDLQMessageGetById", "OnsMessageTrace", "OnsConsumerGetConnection"} {
		if n := len(api.Calls(op).List); n != 2*10 { // on the screen and as JSON
			t.Errorf("%s was called %d times for 20 commands", op, n)
		}
	}
	if n := api.Deliveries().Total + len(api.Calls("OnsMessagePush").List); n != 0 {
		t.Errorf("%d pushes", n)
	}
}

// TestWhyCopies: the id of a dead letter itself, or of a place in the store, leads
// to the message.
func TestWhyCopies(t *testing.T) {
	api := whyAPI(t)
	ids, mu := map[string]string{}, sync.Mutex{}
	whyAnswers(t, exitDone, whyAsk(whyProxy(t, api, func(op, body string) string {
		mu.Lock()
		defer mu.Unlock()
		if match := regexp.MustCompile(`"OffsetId":"(\w+)"`).FindStringSubmatch(body); match != nil {
			ids[op] = match[1]
		}
		return body
	}), whyDead))
	if len(ids) != 2 {
		t.Fatal(ids)
	}
	for op, id := range ids {
		screen, w := whyAnswers(t, exitDone, whyAsk(api.URL, id))
		if !strings.HasPrefix(w.Verdict, map[string]string{"OnsDLQMessageGetById": "this names a dead letter, which is a copy", "OnsMessageGetByMsgId": "this names a place in the store"}[op]+": the message to push is "+whyDead+" in orders") || len(w.Next) != 1 ||
			!strings.HasPrefix(w.Next[0], "repush why --instance 'MQ_INST_1_x' --topic 'orders' --group 'GID_billing' --msg '"+whyDead+"'") || w.APush != "would be one more delivery of "+whyDead {
			t.Errorf("the id by %s: %q, %q, %q\n%s", op, w.Verdict, w.Next, w.APush, screen)
		}
		for old, new := range map[string]string{`"Name":"`: `"Name":"X_`, `"Value":"` + whyDead: `"Value":"EVIL'; rm -rf / #`} {
			if op == "OnsMessageGetByMsgId" && strings.HasPrefix(old, `"Name"`) {
				continue // it is its own id then
			}
			_, w := whyAnswers(t, exitDone, whyAsk(whyRewrite(t, api, op, old, new), id))
			if !strings.Contains(w.Verdict, "; the origin's id is missing, or is not one") || strings.Contains(strings.Join(w.Next, ""), "repush") || w.APush != "would be one more delivery of its origin" {
				t.Errorf("%s, %s: %q, %q, %q", op, new, w.Verdict, w.Next, w.APush)
			}
		}
	}
}

// whyProxy answers as the API does, with the body of each operation's answer edited.
func whyProxy(t *testing.T, api *standIn, edit func(op, body string) string) string {
	t.Helper()
	to, err := url.Parse(api.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ModifyResponse: func(r *http.Response) error {
			body, err := io.ReadAll(r.Body)
			edited := edit(r.Request.URL.Query().Get("Action"), string(body))
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(edited)), int64(len(edited))
			r.Header.Del("Content-Length")
			return err
		},
	})
	t.Cleanup(s.Close)
	return s.URL
}

func whyRewrite(t *testing.T, api *standIn, in, old, new string) string {
	t.Helper()
	return whyProxy(t, api, func(op, body string) string {
		if op == in {
			return strings.ReplaceAll(body, old, new)
		}
		return body
	})
}

// TestWhyTypes: every type of trace is told in words.
func TestWhyTypes(t *testing.T) {
	api := whyAPI(t)
	for kind, verdict := range map[string]string{
		"CONSUMED":              "consumed already",
		"CONSUMED_BUT_FILTERED": "filtered out, as the group does not subscribe to its tag",
		"NOT_CONSUME_YET":       "not consumed yet",
		"NOT_ONLINE":            "nobody of GID_billing is online",
		"UNKNOWN":               "the broker does not know",
		"PULL":                  "the group pulls",
		"CONSUME_BROADCASTING":  "the group broadcasts",
		"SOMETHING_NEW":         "the trace says SOMETHING_NEW",
	} {
		screen, w := whyAnswers(t, exitDone, whyAsk(whyRewrite(t, api, "OnsMessageTrace", `"CONSUMED"`, `"`+kind+`"`), whyConsumed))
		if !strings.HasPrefix(w.Verdict, verdict) || !strings.Contains(screen, "GID_billing  "+kind) || w.Next == nil {
			t.Errorf("%s: %q, next %q\n%s", kind, w.Verdict, w.Next, screen)
		}
	}
	for op, old := range map[string]string{"OnsMessageGetByMsgId": "K1", "OnsConsumerGetConnection": "V4_3_6"} {
		screen, _ := whyAnswers(t, exitDone, whyAsk(whyRewrite(t, api, op, old, `x\u001b[2Jx\u202e\nx`), whyConsumed))
		if strings.ContainsAny(screen, "\x1b\u202e") || strings.Contains(screen, "\nx") {
			t.Errorf("%s steers the terminal: %q", op, screen)
		}
	}
}

// TestWhyNotSeen: a read that failed is shown with what to do about it, and is no
// ground for a verdict.
func TestWhyNotSeen(t *testing.T) {
	for name, test := range map[string]struct {
		msgID   string
		denied  []string
		fault   onsd.Fault
		more    []string
		status  int
		verdict string
		screen  string
	}{
		"message denied":     {msgID: whyDead, denied: []string{"OnsMessageGetByMsgId"}, verdict: "a dead letter after 16 retries; not seen: message", screen: "allow mq:QueryMessage in RAM | infra/ram/operator.json"},
		"dead letter denied": {msgID: whyDead, denied: []string{"OnsDLQMessageGetById"}, verdict: "the group's offset has passed it: consumed, skipped or a dead letter; not seen: deadLetter", screen: "allow mq:QueryDLQMessage in RAM"},
		"trace denied":       {msgID: whyConsumed, denied: []string{"OnsMessageTrace"}, verdict: "it is no dead letter; not seen: trace", screen: "allow mq:QueryMessageTrace in RAM"},
		"connections denied": {msgID: whyDead, denied: []string{"OnsConsumerGetConnection"}, verdict: "a dead letter after 16 retries; not seen: online", screen: "allow mq:QueryConsumerConnection in RAM | a push    not known: who is online was not seen"},
		"two denied":         {msgID: whyConsumed, denied: []string{"OnsMessageGetByMsgId", "OnsMessageTrace"}, verdict: "it is no dead letter; not seen: message, trace"},
		"gone, dead letter denied": {msgID: whyExpired, denied: []string{"OnsDLQMessageGetById"},
			verdict: "there is no such message in orders", screen: "not seen: deadLetter"},
		"gone by its trace alone":             {msgID: whyNever, denied: []string{"OnsMessageGetByMsgId"}, verdict: "there is no such message in orders"},
		"all denied":                          {msgID: whyDead, denied: []string{"OnsMessageGetByMsgId", "OnsDLQMessageGetById", "OnsMessageTrace", "OnsConsumerGetConnection"}, status: exitFailed, verdict: "not seen: message, deadLetter, trace, online"},
		"throttled":                           {msgID: whyDead, fault: whyFault("OnsMessageTrace", 400, "Throttling.User"), verdict: "a dead letter after 16 retries; not seen: trace", screen: "ask again in a few seconds"},
		"a 200 with a code":                   {msgID: whyDead, fault: whyFault("OnsDLQMessageGetById", 200, "ONS_SYSTEM_ERROR"), verdict: "the group's offset has passed it"},
		"cut":                                 {msgID: whyDead, fault: onsd.Fault{API: "OnsConsumerGetConnection", Do: "cut", Count: -1}, verdict: "a dead letter", screen: "check the network"},
		"no trace of a message that is there": {msgID: whyDead, fault: whyFault("OnsMessageTrace", 400, "BIZ_NO_MESSAGE"), verdict: "a dead letter after 16 retries; not seen: trace"},
		"no message, although it is asked who is online": {msgID: whyDead, fault: whyFault("OnsConsumerGetConnection", 400, "BIZ_NO_MESSAGE"), verdict: "a dead letter after 16 retries; not seen: online"},
		"nobody online, although a message is asked for": {msgID: whyDead, fault: whyFault("OnsMessageGetByMsgId", 400, "BIZ_CONSUMER_NOT_ONLINE"), verdict: "a dead letter after 16 retries; not seen: message"},
		"no such topic":                 {msgID: whyDead, more: []string{"--topic", "invoices"}, verdict: "this names a dead letter, which is a copy: the message to push is " + whyDead + " in orders", screen: "check the topic"},
		"no such topic, no dead letter": {msgID: whyPending, more: []string{"--topic", "invoices"}, verdict: "a name is wrong (BIZ_TOPIC_NOT_FOUND)", screen: "next      check the topic"},
		"no such group":                 {msgID: whyDead, more: []string{"--group", "GID_none"}, verdict: "a name is wrong (BIZ_SUBSCRIPTION_NOT_FOUND); not seen: deadLetter, online", screen: "next      check the group"},
		"no such instance":              {msgID: whyDead, more: []string{"--instance", "MQ_INST_2_y"}, status: exitFailed, verdict: "a name is wrong (INSTANCE_NOT_FOUND)", screen: "check the instance id, and that the region"},
		"another region":                {msgID: whyDead, more: []string{"--region", "cn-beijing"}, status: exitFailed, verdict: "a name is wrong (BIZ_REGION_NOT_FOUND)"},
		"unreachable":                   {msgID: whyDead, more: []string{"--ons", "http://127.0.0.1:1"}, status: exitFailed, verdict: "not seen: message, deadLetter, trace, online", screen: "connection refused | check the network"},
	} {
		t.Run(name, func(t *testing.T) {
			api := whyAPI(t)
			api.SetDenied(testKey, test.denied...)
			if test.fault.API != "" {
				if err := api.AddFault(test.fault); err != nil {
					t.Fatal(err)
				}
			}
			if test.status == 0 {
				test.status = exitPartial
			}
			screen, w := whyAnswers(t, test.status, whyAsk(api.URL, test.msgID, test.more...))
			if !strings.HasPrefix(w.Verdict, test.verdict) || len(w.NotSeen) == 0 || len(w.Next) == 0 || !strings.Contains(screen, "NOT SEEN: ") {
				t.Errorf("verdict %q, want %q\nnext %q\n%s", w.Verdict, test.verdict, w.Next, screen)
			}
			if n := strings.Count(screen, "allow mq:"); n != len(test.denied) {
				t.Errorf("%d permissions asked for, want %d:\n%s", n, len(test.denied), screen)
			}
			for want := range strings.SplitSeq(test.screen, " | ") {
				if !strings.Contains(screen, want) {
					t.Errorf("%q is missing in:\n%s", want, screen)
				}
			}
		})
	}
}

func whyFault(op string, status int, code string) onsd.Fault {
	return onsd.Fault{API: op, Count: -1, Do: "error", Error: onsd.FaultError{Status: status, Code: code, Message: "for the test"}}
}

// TestWhyCredentials: wrong keys and a wrong clock are named, without quoting what
// was signed.
func TestWhyCredentials(t *testing.T) {
	api := whyAPI(t)
	data, err := onsd.Load([]byte(whyData))
	if err != nil {
		t.Fatal(err)
	}
	later, err := onsd.New(data, onsd.Options{Now: func() time.Time { return time.Now().Add(20 * time.Minute) }})
	if err != nil {
		t.Fatal(err)
	}
	skewed, err := later.Listen("127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = skewed.Close() })
	for name, test := range map[string]struct{ url, env, screen string }{
		"wrong secret": {api.URL, "ALIBABA_CLOUD_ACCESS_KEY_SECRET=wrong-sesame", "SignatureDoesNotMatch | check the access key and its secret"},
		"wrong key":    {api.URL, "ALIBABA_CLOUD_ACCESS_KEY_ID=LTAIother", "InvalidAccessKeyId.NotFound | check the access key"},
		"no token":     {api.URL, "ALIBABA_CLOUD_SECURITY_TOKEN=", "MissingSecurityToken | needs its token"},
		"clock":        {skewed.URL, "DEBUG=", "InvalidTimeStamp.Expired | set the clock of this machine"},
	} {
		t.Run(name, func(t *testing.T) {
			variable, value, _ := strings.Cut(test.env, "=")
			t.Setenv(variable, value)
			screen, w := whyAnswers(t, exitFailed, whyAsk(test.url, whyDead))
			for want := range strings.SplitSeq(test.screen, " | ") {
				if !strings.Contains(screen, want) {
					t.Errorf("%q is missing in:\n%s", want, screen)
				}
			}
			if w.Verdict != "not seen: message, deadLetter, trace, online" || len(w.Next) != 1 {
				t.Errorf("verdict %q, next %q", w.Verdict, w.Next)
			}
		})
	}
}

// TestWhyLedger: what the real function decided comes first, and the command that
// is named does what is promised.
func TestWhyLedger(t *testing.T) {
	api := whyAPI(t)
	t.Setenv("REPUSH_HTTP_TOKEN", "sesame-sesame-sesame")
	env := append([]string{"PATH=" + os.Getenv("PATH"), "REPUSH_HTTP_TOKEN=sesame-sesame-sesame", "REPUSH_STATE=file:" + filepath.Join(t.TempDir(), "ledger")}, api.env()...)
	f, err := startHTTP(t.Context(), built(t), env, &buffer{}, &buffer{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.stop)
	do := func(args ...string) (int, string, string) {
		return repush(t.Context(), "", append(args, "--to", f.URL)...)
	}
	if err := api.AddFault(onsd.Fault{API: "OnsMessagePush", MsgID: whyCut, When: "after", Do: "cut"}); err != nil {
		t.Fatal(err)
	}
	about := func(msgID string) []string {
		return []string{"--instance", "MQ_INST_1_x", "--topic", "orders", "--group", "GID_billing", "--msg", msgID}
	}
	inject := func(msgID, operation string) []string {
		file := filepath.Join(t.TempDir(), "event.json")
		if err := os.WriteFile(file, []byte(`{"instanceId":"MQ_INST_1_x","topic":"orders","groupId":"GID_billing","msgId":"`+msgID+`","reason":"r","operationId":"`+operation+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{"inject", file, "--reason", "r", "--go", "--wait", "1s"}
	}
	for _, step := range []struct {
		do      []string
		msgID   string
		verdict string
		next    string // of the commands named, that which begins so
		aPush   string
		follow  bool // type that command
	}{
		{nil, whyDead, "a dead letter after 16 retries", "repush inject", "would be accepted for 192.0.2.1", false},
		{[]string{"stop"}, whyDead, "all pushing is stopped; a dead letter", "repush start", "would wait until that order is lifted", true},
		{inject(whyDead, "op-1"), whyDead, "pushed by us at 20", "repush inject", "would answer duplicate, because generation 1 is closed; --again=2 pushes once more", true},
		{nil, whyDead, "pushed by us at 20", "repush inject", "would answer duplicate, because generation 2 is closed", false},
		{inject(whyCut, "op-1"), whyCut, "pushed by us at 20", "wait: a consumer may still be at it; look again after ", "would answer duplicate", false},
		{append([]string{"pause"}, about(whySecond)...), whySecond, "the message is paused; a dead letter", "repush continue", "would wait", false},
		{inject(whySecond, "op-2"), whySecond, "the message is paused; generation 1 was asked for at 20", "repush continue", "would wait", true},
		{[]string{"pause", "op-3"}, whyThird, "a dead letter", "repush inject", "would be accepted", false},
		{inject(whyThird, "op-3"), whyThird, "generation 1 was asked for at 20", "repush continue OPERATION", "would wait for the request that is open", false},
		{append([]string{"cancel"}, about(whyThird)...), whyThird, "the message was cancelled for good; generation 1", "repush status", "would end as cancelled", true},
		{inject(whyNever, "op-4"), whyNever, "our last request ended as failed at 20", "", "would fail, for there is no such message", false},
	} {
		if step.do != nil {
			_, stdout, stderr := do(step.do...)
			noSecrets(t, stdout, stderr)
		}
		status, stdout, stderr := do(append([]string{"why", "--ons", api.URL, "--json"}, about(step.msgID)...)...)
		var w why
		if err := json.Unmarshal([]byte(stdout), &w); err != nil || status != exitDone {
			t.Fatalf("%v: status %d, %v\n%s\n%s", step.do, status, err, stdout, stderr)
		}
		_, screen, _ := do(append([]string{"why", "--ons", api.URL}, about(step.msgID)...)...)
		at := slices.IndexFunc(w.Next, func(line string) bool { return strings.HasPrefix(line, step.next) })
		if !strings.HasPrefix(w.Verdict, step.verdict) || !strings.HasPrefix(w.APush, step.aPush) || at < 0 && step.next != "" || !strings.Contains(screen, "\npushes    ") {
			t.Fatalf("%v: verdict %q, want %q\nnext %q, want %q\na push %q, want %q\n%s", step.do, w.Verdict, step.verdict, w.Next, step.next, w.APush, step.aPush, screen)
		}
		if step.msgID == whyCut && !strings.Contains(w.Verdict, "outcome unknown: it may have reached the consumer") {
			t.Errorf("verdict %q", w.Verdict)
		}
		noSecrets(t, stdout, stderr, screen)
		if step.follow {
			line := strings.Fields(strings.NewReplacer("'", "", `"`, "").Replace(w.Next[at]))
			if status, stdout, stderr := repush(t.Context(), "", line[1:]...); status != exitDone {
				t.Fatalf("%q: status %d\n%s\n%s", line, status, stdout, stderr)
			}
		}
	}
	if n := api.Deliveries().ByMessage[whyDead]; n != 2 {
		t.Errorf("%d deliveries by the commands that were named, want 2", n)
	}
}

// TestWhySteps: what the advice depends on, one at a time. " | " parts texts of next
// and of a push that must be there; not are those that must not.
func TestWhySteps(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	past := func(outcome events.Outcome, ago time.Duration, generation int, more string) string {
		return fmt.Sprintf(`{"eventId":"e-1","generation":%d,"outcome":%q,"decidedAt":%q%s}`, generation, outcome, at.Add(-ago).Format(time.RFC3339), more)
	}
	for name, test := range map[string]struct {
		history string // of the ledger: empty for one that was not asked
		track   string
		unseen  []string
		dead    bool
		gone    bool
		offline bool
		origin  string // whyDead when empty
		says    string
		not     string
	}{
		"a dead letter":                  {history: `{}`, dead: true, says: "repush inject | would be accepted for c@1", not: "TARGET | only if | maybe a duplicate | --again"},
		"unknown, just now":              {history: `{"pushes":1,"requests":[` + past(events.Unknown, 2*time.Minute, 1, "") + `]}`, dead: true, says: "look again after 03:17Z | would answer duplicate, because generation 1 is closed", not: "repush | --again"},
		"unknown, and then another":      {history: `{"pushes":2,"requests":[` + past(events.Unknown, 2*time.Minute, 1, "") + `,` + past(events.Pushed, time.Minute, 2, "") + `]}`, dead: true, says: "look again after 03:17Z", not: "repush | --again"},
		"unknown, long ago":              {history: `{"pushes":1,"requests":[` + past(events.Unknown, 16*time.Minute, 1, "") + `]}`, dead: true, says: "own records | --again=2 pushes once more, if REPUSH_MAX_PUSHES allows", not: "wait:"},
		"unknown, and a late answer":     {history: `{"pushes":1,"requests":[` + past(events.Unknown, 2*time.Minute, 1, `,"late":"pushed"`) + `]}`, dead: true, says: "own records | --reason \"WHY\" --again=2", not: "wait:"},
		"waits, nobody online":           {history: `{"requests":[{"eventId":"e-1","generation":1,"code":"NoClientOnline"}]}`, dead: true, offline: true, says: "start a consumer of the group: the request that waits goes on by itself then | would wait for the request that is open", not: "repush"},
		"waits":                          {history: `{"requests":[{"eventId":"e-1","generation":1,"code":"NoClientOnline"}]}`, dead: true, says: "repush status", not: "start"},
		"pushed, and gone":               {history: `{"pushes":1,"requests":[` + past(events.Pushed, time.Hour, 1, "") + `]}`, gone: true, says: "generation 1 is closed", not: "repush | --again"},
		"stopped":                        {history: `{"orders":["Stopped"]}`, dead: true, says: "ask who stopped it: start lets everything go on; then: | repush start"},
		"cancelled":                      {history: `{"orders":["Cancelled"]}`, dead: true, says: "push it in the console | would end as cancelled", not: "inject"},
		"not permitted":                  {history: `{"orders":["BreakerOpen"]}`, dead: true, says: "infra/ram/function.json | would wait", not: "inject"},
		"failed, and not permitted":      {history: `{"orders":["BreakerOpen"],"requests":[` + past(events.Failed, time.Minute, 1, "") + `]}`, dead: true, says: "infra/ram/function.json | remove what ended it as failed | repush inject | would wait"},
		"cancelled, ended so":            {history: `{"orders":["Cancelled"],"requests":[` + past(events.Cancelled, time.Minute, 1, "") + `]}`, dead: true, says: "here it stays cancelled", not: "inject"},
		"stopped, and gone":              {history: `{"orders":["Stopped"]}`, gone: true, says: "would wait", not: "repush | ask who"},
		"failed":                         {history: `{"requests":[` + past(events.Failed, time.Hour, 1, "") + `]}`, dead: true, says: "remove what ended it as failed (the result of request e-1 says what), then: | repush inject"},
		"the message unseen":             {history: `{}`, track: "CONSUMED", unseen: []string{"message"}, says: "not known: the message was not seen", not: "repush | accepted"},
		"the message unseen, but pushed": {history: `{"pushes":1,"requests":[` + past(events.Pushed, time.Hour, 1, "") + `]}`, track: "CONSUMED", unseen: []string{"message"}, says: "closed", not: "repush | --again"},
		"message and trace unseen":       {history: `{}`, unseen: []string{"message", "trace"}, says: "not known: the message was not seen", not: "repush | accepted"},
		"the trace unseen":               {history: `{}`, unseen: []string{"trace"}, says: "would be accepted for c@1; maybe a duplicate, because the queue may still deliver it", not: "repush"},
		"the broker does not know":       {history: `{}`, track: "UNKNOWN", says: "own records | maybe a duplicate, because the queue may still deliver it"},
		"a dead letter, trace unseen":    {history: `{}`, dead: true, unseen: []string{"trace"}, says: "repush inject", not: "maybe a duplicate"},
		"another id, and stopped":        {history: `{"orders":["Stopped"],"requests":[` + past(events.Unknown, time.Minute, 1, "") + `]}`, origin: whyThird, says: "repush why | --msg '" + whyThird + "' | one more delivery of " + whyThird, not: "start | inject | wait"},
		"the ledger was not asked":       {track: "CONSUMED", says: "repush why | --to TARGET | own records | only if no function has pushed it: | repush push", not: "repush inject"},
	} {
		w := why{At: at, NotSeen: make(map[string]whyFailure), Gone: test.gone, Online: []openapi.Connection{{ClientID: "c@1"}}, where: whyOptions{targetOptions: targetOptions{region: "r"}}}
		w.Asked = events.Operation{InstanceID: "MQ_INST_1_x", Topic: "orders", GroupID: "GID_x", MsgID: whyDead}
		copyOf := openapi.Message{MsgID: whyDead, StoredAt: at.Add(-time.Hour), Properties: map[string]string{"UNIQ_KEY": whyDead, "DLQ_ORIGIN_TOPIC": "orders"}}
		if test.offline {
			w.Online = nil
		}
		for _, name := range test.unseen {
			w.NotSeen[name] = whyFailure{Error: "denied", Next: "allow it"}
		}
		if test.origin != "" {
			copyOf.Properties["UNIQ_KEY"] = test.origin
		}
		if !test.gone && w.seen("message") {
			w.Message = copyOf
		}
		if test.dead {
			w.DeadLetter = copyOf
		}
		if test.track != "" {
			w.Trace = []openapi.Track{{Group: "GID_x", Type: test.track}}
		}
		if test.history != "" {
			w.where.to, w.Ledger = "fc://repush", json.RawMessage(`{"history":`+test.history+`}`)
			if err := json.Unmarshal(w.Ledger, &w.history); err != nil {
				t.Fatal(err)
			}
		}
		w.judge()
		text := strings.Join(append(w.Next, w.APush), "\n")
		for want := range strings.SplitSeq(test.says, " | ") {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is missing in %q, %q", name, want, w.Next, w.APush)
			}
		}
		for no := range strings.SplitSeq(test.not, " | ") {
			if no != "" && strings.Contains(text, no) {
				t.Errorf("%s: %q is in %q, %q", name, no, w.Next, w.APush)
			}
		}
	}
}

// TestWhyTexts: a command is quoted for a shell, and no time is left out.
func TestWhyTexts(t *testing.T) {
	t.Parallel()
	w := why{Asked: events.Operation{InstanceID: "i", GroupID: "g;"}, where: whyOptions{targetOptions: targetOptions{region: "r r"}}}
	if line, want := w.command("push", "$t", "m'; rm"), `repush push --instance 'i' --topic '$t' --group 'g;' --msg 'm'\''; rm' --region 'r r'`; line != want {
		t.Errorf("%s, want %s", line, want)
	}
	now := time.Now()
	for ago, says := range map[time.Duration]string{time.Second: ", 0m ago; the broker deletes it about ", 71*time.Hour + 59*time.Minute: ", in 1m", whyRetention: "the broker deletes it at any time"} {
		if text := whyStored(openapi.Message{MsgID: "x", StoredAt: now.Add(-ago)}, now)[0]; !strings.Contains(text, says) || strings.HasSuffix(text, " ") {
			t.Errorf("%s ago: %q, want %q", ago, text, says)
		}
	}
}

// TestWhyLedgerNotSeen: a function that does not answer leaves a verdict from what
// the broker says, and 3.
func TestWhyLedgerNotSeen(t *testing.T) {
	api := whyAPI(t)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("a") {
		case "report":
			var e events.Event
			_ = json.NewDecoder(r.Body).Decode(&e)
			_, _ = io.WriteString(w, `{"results":[{"eventId":"`+e.ID+`","code":"Done","report":{}}]}`)
		case "no":
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	t.Cleanup(other.Close)
	for to, says := range map[string]string{
		"http://127.0.0.1:1/?t=sesame": "refused: no connection",
		other.URL + "/?a=no&t=sesame":  "set REPUSH_HTTP_TOKEN",
		other.URL + "/?a=any&t=sesame": "the function did not answer",
		other.URL + "/?a=report":       "none that this version understands",
	} {
		screen, w := whyAnswers(t, exitPartial, whyAsk(api.URL, whyDead, "--to", to))
		if !strings.HasPrefix(w.Verdict, "a dead letter after 16 retries; not seen: ledger") || !strings.Contains(screen, says) || !strings.Contains(screen, "ours      NOT SEEN: ") ||
			!strings.HasSuffix(w.APush, "; whether it was pushed before is not known") {
			t.Errorf("%s: verdict %q, want %q\n%s", to, w.Verdict, says, screen)
		}
	}
}

// TestWhyWrong: what cannot be right is said by the flag, and nothing is asked.
func TestWhyWrong(t *testing.T) {
	api := whyAPI(t)
	t.Setenv("REPUSH_REGION", "")
	message := "--instance MQ_INST_1_x --topic orders --group GID_billing --msg " + whyDead
	for line, says := range map[string]string{
		"why":                     "--instance, --topic, --group and --msg: are required",
		"why --msg 00 --region r": "--instance: is required",
		"why " + message:          "--region: is required",
		"why x":                   "unknown command",
		"why --region r --ons ftp://x " + message:            "--ons: must be https",
		"why --region r --to mns://queue " + message:         "--to: must be asked directly",
		"why --region r --to nonsense " + message:            "--to: must be asked directly",
		"why --region r --topic %DLQ%GID_billing " + message: "--topic: must be 3 to 64",
		"why --region r/../ " + message:                      "region: must be a region's id",
	} {
		if strings.Contains(line, "%DLQ%") {
			line = strings.Replace(line, "--topic orders ", "", 1)
		}
		status, stdout, stderr := repush(t.Context(), "", strings.Fields(line)...)
		if status != exitUsage && !strings.Contains(line, "..") || status == exitDone || !strings.Contains(stderr, says) || stdout != "" {
			t.Errorf("%s: status %d, want %q\n%s\n%s", line, status, says, stdout, stderr)
		}
	}
	if n := len(api.Calls("OnsMessageTrace").List); n != 0 {
		t.Errorf("%d calls", n)
	}
}
