package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/openapi"
)

const (
	// maxSkew is how far a clock may be off before the API refuses what it signs
	// (source: help page "Signature mechanism" of RPC, InvalidTimeStamp.Expired).
	maxSkew = 15 * time.Minute
	// noMessageID is that of no message, in both forms that an id of this length
	// has: a broker at 0.0.0.0, port 0; a producer at 0.0.0.0 with process id 0
	// (source: apache/rocketmq MessageDecoder and MessageClientIDSetter).
	noMessageID = "00000000000000000000000000000000"
	// noClientID is that of no consumer: it begins with the host's address, and this
	// is no host's (source: apache/rocketmq ClientConfig.buildMQClientId).
	noClientID = "0.0.0.0@0#repush-doctor"
	// doctorNames is the line about what the flags name.
	doctorNames = "instance, topic, group"
	// whose permissions they are: the function has a role of its own.
	whose = "your credentials: "
)

// doctorLookups are for no call of ours: every call takes one of them, and pages
// of different years say which.
var doctorLookups = [...]string{"mq:OnsInstanceBaseInfo", "mq:QueryInstanceBaseInfo"}

// regionForm is that of cn-hangzhou, us-east-1 and mq-internet-access.
var regionForm = regexp.MustCompile(`^[a-z]{2}(-[a-z0-9]+)+$`)

// network asks the endpoint what needs no key: what it says to a call without
// parameters, which uses up no quota.
func (d *doctor) network(ctx context.Context) {
	defer d.skip("needs an answer of the endpoint", "endpoint", "certificate", "clock")
	if !regionForm.MatchString(d.region) {
		d.fatal("region", fmt.Sprintf("%q is not a region's id", d.region), "give --region as the console's address has it, like cn-hangzhou")
		return
	}
	d.judge("region", true, d.region, "")
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var asked time.Time
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { asked = time.Now() }})
	scheme, host, err := endpoint(cmp.Or(d.ons, os.Getenv("REPUSH_ONS_ENDPOINT"), "https://ons."+d.region+".aliyuncs.com"))
	d.ons = scheme + "://" + host
	request, failed := http.NewRequestWithContext(ctx, http.MethodGet, d.ons+"/?Format=JSON", nil)
	if err = cmp.Or(err, failed); err != nil {
		d.fatal("endpoint", err.Error(), "put --ons or REPUSH_ONS_ENDPOINT right, or leave it to the region")
		return
	}
	if proxy, _ := http.ProxyFromEnvironment(request); proxy != nil { // an error comes again below
		host += " through the proxy " + proxy.Hostname()
	}
	// A transport by itself follows no redirect.
	response, err := (&http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		d.unreachable(host, err)
		return
	}
	defer response.Body.Close()
	took := time.Since(asked)
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16)) // half an answer is judged too
	d.judge("endpoint", true, fmt.Sprintf("%s answers in %s", host, took.Round(time.Millisecond)), "")
	if !bytes.Contains(body, []byte("RequestId")) { // which every answer of the API has, as JSON or XML
		d.fatal("endpoint", fmt.Sprintf("%s answers %d, and not as the API does", host, response.StatusCode),
			"find out who answers there, like a proxy or the network's login page; check --ons and REPUSH_ONS_ENDPOINT")
		return
	}
	if response.TLS != nil {
		ends := response.TLS.PeerCertificates[0].NotAfter
		d.judge("certificate", time.Until(ends) > 7*24*time.Hour, "trusted, until "+ends.Format(time.DateOnly), "tell whoever runs the endpoint, or the proxy before it, to renew it")
	}
	d.skip("plain http, on this machine", "certificate")
	d.clock(response.Header.Get("Date"), asked, took)
}

func (d *doctor) unreachable(host string, err error) {
	if certificate := (*tls.CertificateVerificationError)(nil); errors.As(err, &certificate) {
		d.fatal("certificate", certificate.Err.Error(), "check the clock and --ons; where a proxy reads along, name its CA in SSL_CERT_FILE")
		return
	}
	_, text := explain(err)
	d.fatal("endpoint", host+": "+text, "check the region, which is part of the name, and --ons; open the way in firewall or VPC, or set HTTPS_PROXY")
}

// clock compares the header Date, which is cut to seconds, with this clock at the
// time when the answer was made: halfway, as far as anybody knows.
func (d *doctor) clock(date string, asked time.Time, took time.Duration) {
	theirs, err := http.ParseTime(date)
	if err != nil {
		d.skip("the answer has no date", "clock")
		return
	}
	skew := asked.Add(took / 2).Sub(theirs.Add(time.Second / 2))
	d.judge("clock", skew.Abs() < time.Minute, fmt.Sprintf("%+.0f s from the endpoint's, the API refuses more than %.0f", skew.Seconds(), maxSkew.Seconds()),
		"let the network set this machine's clock (timedatectl set-ntp true)")
	if skew.Abs() > maxSkew {
		d.lacking = cmp.Or(d.lacking, "clock")
	}
}

// doctorCall shows whether a RAM action is allowed.
type doctorCall struct {
	action string
	ask    func() error
}

// calls are one for each action of infra/ram/operator.json that the API has. The
// first shows whether any can be made; the last is the push.
func (d *doctor) calls(ctx context.Context, c *openapi.Client) []doctorCall {
	instance, topic, group := d.about.InstanceID, d.about.Topic, d.about.GroupID
	return []doctorCall{
		{"mq:QueryConsumerConnection", func() (err error) { d.online, err = c.Connections(ctx, instance, group); return err }},
		{"mq:QueryConsumerStatus", func() (err error) { d.alike, err = c.SubscribeAlike(ctx, instance, group); return err }},
		{"mq:QueryConsumerAccumulate", func() error { return c.Accumulate(ctx, instance, group) }},
		{"mq:QueryMessage", func() error { _, err := c.Message(ctx, instance, topic, noMessageID); return err }},
		{"mq:QueryMessageTrace", func() error { _, err := c.Trace(ctx, instance, topic, noMessageID); return err }},
		{"mq:QueryDLQMessage", func() error { _, err := c.DeadLetter(ctx, instance, group, noMessageID); return err }},
		{"mq:SUB", func() error {
			d.say("checking mq:SUB by a push that can reach nobody; it costs one call of the push quota (--no-push leaves it out)")
			return cmp.Or(c.Push(ctx, instance, topic, group, noClientID, noMessageID), errors.New("a push of what cannot exist was accepted"))
		}},
	}
}

// api makes the first call, and if that shows nothing against it the others.
func (d *doctor) api(ctx context.Context) {
	client, err := openapi.New(openapi.Options{Region: d.region, Endpoint: d.ons, Credentials: d.keys, Timeout: d.timeout})
	if err != nil && d.lacking == "" {
		d.fatal("credentials", "not used", err.Error())
	}
	if d.lacking == "" && d.about.InstanceID == "" {
		d.skip("give --instance, --topic and --group", "permissions", "consumers")
		return
	}
	calls := d.calls(ctx, client)
	answers := make([]error, len(calls))
	if d.lacking == "" {
		d.skip("no call got through", doctorNames, doctorLookups[0])
		answers[0] = calls[0].ask()
		d.settle(calls[0].action, answers[0])
	}
	if d.lacking != "" {
		d.skip("needs "+d.lacking, "permissions", "consumers")
		return
	}
	if d.noPush {
		calls, answers = calls[:len(calls)-1], answers[:len(calls)-1]
	}
	var all sync.WaitGroup
	for i, c := range calls[1:] {
		all.Go(func() { answers[i+1] = c.ask() })
	}
	all.Wait()
	if slices.ContainsFunc(answers, func(err error) bool { kind, _ := doctorVerdict(err); return kind == openapi.Absent }) {
		d.judge(doctorNames, true, "known", "") // as long as settle knows no better
		d.judge(doctorLookups[0], true, whose+"allowed, or "+doctorLookups[1]+": each call takes one", "")
	}
	for i, c := range calls {
		d.settle(c.action, answers[i])
	}
	d.skip("--no-push", "mq:SUB")
	d.consumers(answers)
}

// doctorVerdict is what an answer is about; a call that went well found nothing.
func doctorVerdict(err error) (kind openapi.Kind, next string) {
	var said *openapi.Error
	switch {
	case err == nil:
		return openapi.Absent, ""
	case errors.As(err, &said):
		return said.Explain()
	}
	return openapi.Other, "push nothing, and find out what answers there as the ONS OpenAPI"
}

// settle puts the line that the answer to a call is about.
func (d *doctor) settle(action string, err error) {
	kind, next := doctorVerdict(err)
	found := fmt.Sprint(err)
	switch {
	case kind == openapi.Absent && action == "mq:SUB":
		d.judge(action, true, whose+"allowed; the push reached nobody, and cost one call of the quota", "")
	case kind == openapi.Absent:
		d.judge(action, true, whose+"allowed", "")
	case kind == openapi.Denied:
		d.judge(action, false, whose+found, next)
	case kind == openapi.Credentials, kind == openapi.Clock:
		d.fatal(string(kind), found, next)
	case kind == openapi.Names && strings.Contains(found, "REGION"):
		d.fatal("region", found, next)
	case kind == openapi.Names && strings.Contains(found, ": Invalid"):
		d.fatal("endpoint", found, next)
	case kind == openapi.Names:
		d.skip("needs "+doctorNames, action)
		d.judge(doctorNames, false, found, next)
	default:
		d.judge(action, false, found, next)
	}
}

// consumers says who could be pushed to.
func (d *doctor) consumers(answers []error) {
	var versions []string
	for _, c := range d.online {
		versions = append(versions, strings.TrimSpace(c.Language+" "+c.Version))
	}
	slices.Sort(versions)
	found := fmt.Sprintf("%d online: %s", len(versions), strings.Join(slices.Compact(versions), ", "))
	switch kind, _ := doctorVerdict(answers[0]); {
	case kind != openapi.Absent:
		d.skip("needs mq:QueryConsumerConnection", "consumers")
	case len(versions) == 0:
		d.judge("consumers", false, "nobody is online", "start a consumer of "+d.about.GroupID+": a push needs one that is connected at that moment")
	case answers[1] == nil && !d.alike:
		d.judge("consumers", false, found+"; they subscribe to different things", "let all consumers of "+d.about.GroupID+" subscribe to the same topics and tags: else some messages reach none")
	default:
		d.judge("consumers", true, found, "")
	}
}

// described is what functions/repush says of itself. Of its settings secrets and
// URLs are "set"; what is not set is its default or "unset".
type described struct {
	Version, Commit string
	Settings        map[string]string
	State           struct {
		Kind, Error string
		OK          bool
	}
}

// function asks the one at --to, which send reaches, for its settings.
func (d *doctor) function(ctx context.Context, send target) {
	if send == nil {
		d.skip(map[bool]string{true: "name a deployed function with --to", false: "needs credentials"}[d.to == ""], "function")
		return
	}
	answer := send(ctx, []events.Event{operationEvent("doctor", events.Operation{Action: events.Describe, RequestedBy: operator()})})[0]
	var said described
	if results := read(answer.Answer).Results; len(results) == 1 {
		_ = json.Unmarshal(results[0].Report, &said) // what cannot be read is no report
	}
	next := "check --to, --account, --region and --endpoint, that it is deployed (infra/README.md), then its log"
	switch {
	case said.Settings != nil:
		d.judge("function", true, fmt.Sprintf("version %s, commit %s", said.Version, said.Commit), "")
		d.settings(said)
		if said.State.OK {
			d.orders(ctx, send)
		}
		d.skip("needs function state", "function orders")
		d.skip(fmt.Sprintf("what it allows only the function can try: repush inject --instance %s --topic %s --group %s --msg MSGID --reason TEXT --dry-run, with the same --to, shows whether it may look for consumers, and only a push whether it may push",
			cmp.Or(d.about.InstanceID, "ID"), cmp.Or(d.about.Topic, "NAME"), cmp.Or(d.about.GroupID, "GID")), "function role")
		return
	case strings.Contains(answer.Message, "REPUSH_HTTP_TOKEN"):
		next = "set REPUSH_HTTP_TOKEN to the token that the function has"
	case strings.Contains(answer.Message, "fc:InvokeFunction"):
		next = "allow fc:InvokeFunction in RAM, for this function (infra/ram/operator.json)"
	case answer.Status == answered, answer.Message == notRepush, strings.Contains(answer.Message, "to functions/repush"):
		next = "give functions/repush, which describes itself, and functions/plan does not; deploy it again if it is older than this command"
	}
	d.judge("function", false, fmt.Sprintf("%s: %s", answer.Status, cmp.Or(answer.Message, "it did not describe itself")), next)
}

// orders says what halts the function, or its work for the group when that is named.
func (d *doctor) orders(ctx context.Context, send target) {
	op := d.about // the message is none, but its group is
	op.Action, op.RequestedBy = events.Status, operator()
	report, _, err := send.ask(ctx, "doctor", op)
	var now standing
	err = cmp.Or(err, json.Unmarshal(report, &now))
	var codes []string
	switch {
	case err != nil || now.History == nil && now.Progress == nil:
		d.judge("function orders", false, fmt.Sprintf("not told: %v", cmp.Or(err, errors.New("no such report"))), "ask for them by repush status, with the same --to")
		return
	case now.History != nil:
		codes = now.History.Orders
	default:
		codes = now.Progress.Orders
	}
	next := "give the function's role what infra/ram/function.json has: it goes on by itself within ten minutes"
	if slices.Contains(codes, "Stopped") {
		next = "ask who stopped it, and why; repush start, with the same --to, then lets everything go on"
	}
	d.judge("function orders", len(codes) == 0, cmp.Or(strings.Join(codes, ", "), "none: nothing is stopped"), next)
}

// settings judges those that decide whether a push can work and is remembered.
func (d *doctor) settings(said described) {
	set, wanted := said.Settings, d.about.InstanceID+"/"+d.about.GroupID+"/"+d.about.Topic
	region, allow, state := set["REPUSH_REGION"], set["REPUSH_ALLOW"], said.State
	d.judge("function region", region == d.region || region == "unset", strings.Replace(region, "unset", "that of the function itself", 1),
		"set its REPUSH_REGION to the region of the instance, or give that as --region")
	if wanted == "//" {
		d.skip("give --instance, --topic and --group; it has "+allow, "function allow-list")
	} else {
		d.judge("function allow-list", slices.ContainsFunc(strings.Split(allow, ","), func(entry string) bool {
			matched, _ := path.Match(strings.TrimSpace(entry), wanted) // of its signs only * may stand in an entry, and means the same
			return matched
		}), allow, "add "+wanted+" to its REPUSH_ALLOW, and all three to infra/ram/function.json")
	}
	switch {
	case !state.OK:
		d.judge("function state", false, state.Kind+" cannot be used: "+state.Error, "put that right: until then nothing is pushed (infra/README.md, Redis trouble)")
	case state.Kind == "memory", state.Kind == "file" && strings.HasPrefix(d.to, "fc"):
		d.judge("function state", false, state.Kind+": each instance of the function knows only its own pushes, and forgets them when it ends",
			"set REPUSH_STATE to redis://… (infra/README.md, State in Redis), or keep it at one instance and look at the results for durable: false")
	default:
		d.judge("function state", true, state.Kind, "")
	}
	d.judge("function results", set["REPUSH_RESULTS"] != "stdout", strings.Replace(set["REPUSH_RESULTS"], "stdout", "in the function's log alone", 1),
		"set its REPUSH_RESULTS to a bus, a queue, a topic or https://…")
	d.judge("function pace", true, fmt.Sprintf("%s pushes a second, %s at a time, %s for each; messages up to %s old, %s pushes each; unknown: %s", set["REPUSH_QPS"],
		set["REPUSH_CONCURRENCY"], set["REPUSH_PUSH_TIMEOUT"], set["REPUSH_MAX_AGE"], set["REPUSH_MAX_PUSHES"], set["REPUSH_ON_UNKNOWN"]), "")
}
