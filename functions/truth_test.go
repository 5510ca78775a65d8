package functions_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/trigger"
)

// deployment is what every description under infra/ says about one function, in
// the words of this test. A loader per format fills it from the file's text and
// reports arguments that the platform does not know.
type deployment struct {
	// function is [config.Repush] or [config.Plan].
	function string
	// settings are the REPUSH_ variables that are set; a value that is computed
	// at deploy time is "${…}".
	settings map[string]string
	timeout  time.Duration
	// instances is the most that may run at once; 0 means no limit.
	instances int
	// perInstance is how many invocations one instance serves at a time.
	perInstance int
	// network: it has joined a private network.
	network  bool
	triggers []source
	// results are the places the function may write result events to, named
	// like source.from.
	results []string
	// requests are where functions/plan sends requests, named the same way.
	requests []string
	// role is the identity the function has.
	role string
	// actions are the RAM actions that the function's role is granted.
	actions []string
	// grants are the same with their resources; nil where a loader does not
	// know them.
	grants []grant
}

// grant is one action on one resource.
type grant struct{ action, resource string }

// source is one way in.
type source struct {
	name    string
	kind    string // rocketmq, mns-queue, kafka, bus, timer, http, async, sqs, sns, eventbridge
	enabled bool
	// from names the queue, topic or bus: "mns:queue/NAME", "mns:topic/NAME",
	// "mq:INSTANCE/TOPIC", "bus/NAME", "sqs/NAME", "sns/NAME"; empty for timers
	// and HTTP.
	from string
	// batch is the most events of one invocation; 1 where the platform knows no
	// batches.
	batch int
	// answersPerItem: the platform takes back single items of a batch.
	answersPerItem bool
	// throughEventBridge: Alibaba's EventBridge calls the function.
	throughEventBridge bool
	// retries: a failed invocation is tried again. deadLetter: what is given up
	// ends in a queue, topic or bus of this name, which is empty if there is
	// none. tolerates: one event that fails for ever does not block the rest.
	retries    bool
	deadLetter string
	tolerates  bool
	// visibility of the queue; 0 where the platform has none.
	visibility time.Duration
	// eventTypes are the types that a filter lets through or a payload has.
	eventTypes []string
	// delivers is what the function gets from a timer.
	delivers string
	// anonymous HTTP triggers let everybody ask; a token of ours is all there is.
	anonymous bool
	// signed HTTP triggers want the Authorization header for themselves.
	signed bool
	// handsOver: the invocation is asynchronous although the source retries.
	handsOver bool
	// retriesFor is how long the source tries again; 0 where a count decides.
	retriesFor time.Duration
}

// exponentialDecay is how long EventBridge's EXPONENTIAL_DECAY_RETRY goes on:
// 1, 2, 4 … 256 s, then 167 times 512 s (source: EB "Retry policies and
// dead-letter queues").
const exponentialDecay = (511 + 167*512) * time.Second

const (
	// deadLetterBytes is what a message of MNS may have (source: MNS "Limits").
	deadLetterBytes = 64 << 10
	// aRequest is a request with the envelope of its source, generously.
	aRequest = 2 << 10
)

// needed is what a push takes at most: 2 s to begin with, the call, a second to
// record and emit, and a second of margins.
func needed(settings map[string]string) time.Duration {
	push, err := time.ParseDuration(settings["REPUSH_PUSH_TIMEOUT"])
	if err != nil {
		push = 15 * time.Second
	}
	return 2*time.Second + push + 2*time.Second
}

// rules are what makes a deployment true, each by its name. They return what is
// wrong.
var rules = map[string]func(deployment) []string{
	"settings set = settings read": func(d deployment) (wrong []string) {
		read := make(map[string]bool)
		for _, s := range config.Settings() {
			if s.Only != "" && s.Only != d.function {
				continue
			}
			read[s.Name] = true
			if _, set := d.settings[s.Name]; !set {
				wrong = append(wrong, s.Name+" is not set")
			}
		}
		for _, name := range slices.Sorted(maps.Keys(d.settings)) {
			if strings.HasPrefix(name, "REPUSH_") && !read[name] {
				wrong = append(wrong, name+" is set and never read")
			}
		}
		return wrong
	},
	"settings are accepted": func(d deployment) []string {
		var env []string
		for name, value := range d.settings {
			if !strings.Contains(value, "${") {
				env = append(env, name+"="+value)
			} else if example := map[string]string{"REPUSH_ALLOW": "i/g/t", "REPUSH_REGION": "cn-hangzhou", "REPUSH_REQUESTS": "https://r.example/x"}[name]; example != "" {
				env = append(env, name+"="+example)
			}
		}
		if _, err := config.Load(d.function, env); err != nil {
			return []string{err.Error()}
		}
		return nil
	},
	"time-out holds a push and frees it within a minute": func(d deployment) (wrong []string) {
		if d.timeout < needed(d.settings) || d.timeout > time.Minute {
			wrong = append(wrong, fmt.Sprintf("time-out %v, want %v to 1m", d.timeout, needed(d.settings)))
		}
		return wrong
	},
	"time-out of EventBridge triggers": func(d deployment) (wrong []string) {
		for _, s := range d.triggers {
			if s.throughEventBridge && d.timeout > 5*time.Minute {
				wrong = append(wrong, s.name+": FC ends invocations by EventBridge after 5 minutes")
			}
		}
		return wrong
	},
	"visibility is six time-outs": func(d deployment) (wrong []string) {
		for _, s := range d.triggers {
			if s.visibility > 0 && s.visibility < 6*d.timeout {
				wrong = append(wrong, fmt.Sprintf("%s: visibility %v, want at least %v", s.name, s.visibility, 6*d.timeout))
			}
		}
		return wrong
	},
	"memory state is one instance and single events": func(d deployment) (wrong []string) {
		if d.settings["REPUSH_STATE"] != "memory" {
			return nil
		}
		if d.instances != 1 {
			wrong = append(wrong, fmt.Sprintf("%d instances share nothing", d.instances))
		}
		for _, s := range d.triggers {
			if s.enabled && s.batch != 1 && !s.answersPerItem {
				wrong = append(wrong, fmt.Sprintf("%s: batch of %d is given back whole", s.name, s.batch))
			}
		}
		return wrong
	},
	"no state in a file": func(d deployment) (wrong []string) {
		if strings.HasPrefix(d.settings["REPUSH_STATE"], "file:") {
			wrong = append(wrong, "no disk here outlives an instance")
		}
		return wrong
	},
	"Redis is reached by TLS or in a private network": func(d deployment) (wrong []string) {
		if strings.HasPrefix(d.settings["REPUSH_STATE"], "redis:") && !d.network {
			wrong = append(wrong, "redis:// sends its password through the internet")
		}
		return wrong
	},
	"shared state is several instances, but few": func(d deployment) (wrong []string) {
		if isRedis := strings.HasPrefix(d.settings["REPUSH_STATE"], "redis"); isRedis && (d.instances < 2 || d.instances > 100) {
			wrong = append(wrong, fmt.Sprintf("%d instances, want 2 to 100", d.instances))
		}
		return wrong
	},
	"a batch fits the time-out": func(d deployment) (wrong []string) {
		qps, _ := strconv.ParseFloat(d.settings["REPUSH_QPS"], 64)
		for _, s := range d.triggers {
			if s.batch <= 1 {
				continue
			}
			if start := time.Duration(float64(s.batch) / qps * float64(time.Second)); s.batch > events.MaxBatch || start+needed(d.settings) > d.timeout {
				wrong = append(wrong, fmt.Sprintf("%s: %d pushes begin within %v, and the last one takes up to %v", s.name, s.batch, start, needed(d.settings)))
			}
		}
		return wrong
	},
	"a failed batch fits a dead letter": func(d deployment) (wrong []string) {
		for _, s := range d.triggers {
			if s.throughEventBridge && s.batch*aRequest > deadLetterBytes {
				wrong = append(wrong, fmt.Sprintf("%s: %d requests do not fit the %d bytes of a message of MNS", s.name, s.batch, deadLetterBytes))
			}
		}
		return wrong
	},
	"timers ask for a sweep": func(d deployment) (wrong []string) {
		for _, s := range d.triggers {
			if s.kind != "timer" {
				continue
			}
			all := trigger.Decode([]byte(s.delivers), trigger.Options{Plan: d.function == config.Plan}).Deliveries
			if len(all) != 1 || all[0].Sweep == nil || all[0].Err != nil {
				wrong = append(wrong, fmt.Sprintf("%s: %s is read as %+v", s.name, s.delivers, all))
			}
		}
		return wrong
	},
	"what waits has a sweep": func(d deployment) (wrong []string) {
		sweep := slices.ContainsFunc(d.triggers, func(s source) bool {
			return s.enabled && s.kind == "timer" && slices.Contains(s.eventTypes, "repush:Sweep:Requested")
		})
		// Scans of functions/plan go on with it in memory, too.
		if needed := d.function == config.Plan || !strings.HasPrefix(d.settings["REPUSH_STATE"], "memory"); needed != sweep {
			wrong = append(wrong, fmt.Sprintf("state %q, sweep timer enabled: %v", d.settings["REPUSH_STATE"], sweep))
		}
		return wrong
	},
	"nobody is lost": func(d deployment) (wrong []string) {
		for _, s := range d.triggers {
			switch {
			case s.kind == "http":
			case !s.retries:
				wrong = append(wrong, s.name+": a failed invocation is not tried again")
			case s.deadLetter == "" && s.kind != "timer":
				wrong = append(wrong, s.name+": what is given up is dropped: no dead-letter queue")
			case !s.tolerates:
				wrong = append(wrong, s.name+": one poison event blocks the stream")
			}
		}
		return wrong
	},
	"nothing comes back": func(d deployment) (wrong []string) {
		for _, s := range d.triggers {
			if s.from != "" && slices.Contains(slices.Concat(d.results, d.requests), s.from) {
				wrong = append(wrong, s.name+": what the function writes comes back to it: "+s.from)
			}
		}
		return wrong
	},
	"what is sent may be written": func(d deployment) (wrong []string) {
		if d.grants == nil {
			return nil
		}
		var needed []grant
		for _, place := range slices.Concat(d.results, d.requests) {
			needed = append(needed, writing(place, "mns:BatchSendMessage")) // what events/sink calls
		}
		for _, s := range d.triggers {
			if s.kind == "async" { // the platform writes its dead letters in the function's role
				needed = append(needed, writing(s.deadLetter, "mns:SendMessage"))
			}
		}
		for _, want := range needed {
			if !slices.Contains(d.grants, want) {
				wrong = append(wrong, fmt.Sprintf("missing %s on …:%s", want.action, want.resource))
			}
		}
		return wrong
	},
	"dead letters do not come straight back": func(d deployment) (wrong []string) {
		for _, s := range d.triggers {
			if s.deadLetter != "" && s.deadLetter == s.from {
				wrong = append(wrong, s.name+": its dead letters go to where it reads: "+s.from)
			}
		}
		return wrong
	},
	"one layer retries": func(d deployment) (wrong []string) {
		for _, s := range d.triggers {
			if s.handsOver {
				wrong = append(wrong, s.name+": is told that the event was queued, whatever becomes of it")
			}
		}
		return wrong
	},
	"abandoned before it is a dead letter": func(d deployment) (wrong []string) {
		if d.settings["REPUSH_STATE"] != "memory" {
			return nil // what waits is parked, and no retries are used up
		}
		after, _ := time.ParseDuration(d.settings["REPUSH_GIVE_UP_AFTER"])
		for _, s := range d.triggers {
			if s.retriesFor > 0 && after+10*time.Minute > s.retriesFor { // one more retry comes after
				wrong = append(wrong, fmt.Sprintf("%s: tries again for %v, REPUSH_GIVE_UP_AFTER is %v", s.name, s.retriesFor, after))
			}
		}
		return wrong
	},
	"callers can show the token": func(d deployment) (wrong []string) {
		for _, s := range d.triggers {
			if s.signed {
				wrong = append(wrong, s.name+": the platform takes the Authorization header, where the token has to be")
			}
		}
		return wrong
	},
	"results go somewhere": func(d deployment) (wrong []string) {
		if len(d.results) == 0 || d.settings["REPUSH_RESULTS"] == "stdout" {
			wrong = append(wrong, "no result sink but the log")
		}
		return wrong
	},
	"event types are ours": func(d deployment) (wrong []string) {
		ours := map[string][]string{
			config.Repush: {"repush:Message:Requested", "repush:Sweep:Requested", "repush:Operation:Requested"},
			config.Plan:   {events.TypePlanRequested, "repush:Sweep:Requested"},
		}[d.function]
		for _, s := range d.triggers {
			for _, name := range s.eventTypes {
				if !slices.Contains(ours, name) {
					wrong = append(wrong, s.name+": lets "+name+" through, which the function does not take")
				}
			}
		}
		return wrong
	},
	"no anonymous way in": func(d deployment) (wrong []string) {
		for _, s := range d.triggers {
			// Who sends webhooks can neither sign nor show a JWT.
			if s.anonymous && (d.function != config.Plan || d.settings["REPUSH_WEBHOOK_TOKEN"] == "") {
				wrong = append(wrong, s.name+": everybody may ask; use a signed or JWT trigger beside the token")
			}
		}
		return wrong
	},
	"permissions granted = operations called": func(d deployment) (wrong []string) {
		if d.actions == nil {
			return nil // the description holds no RAM policy (AWS)
		}
		want := neededActions(d.function)
		for _, a := range want {
			if !slices.Contains(d.actions, a) {
				wrong = append(wrong, "missing "+a)
			}
		}
		for _, a := range d.actions {
			if strings.HasPrefix(a, "mq:") && !slices.Contains(want, a) {
				wrong = append(wrong, a+" is granted and never used")
			}
		}
		return wrong
	},
}

// writing is the right to write to a place, named like source.from; its
// resource is without region and account; toQueue is the action of a queue. The
// log needs none of ours.
func writing(place, toQueue string) grant {
	kind, name, _ := strings.Cut(place, "/")
	switch kind {
	case "bus":
		return grant{"eventbridge:PutEvents", "eventbus/" + name}
	case "mns:queue":
		return grant{toQueue, "/queues/" + name + "/messages"}
	case "mns:topic":
		return grant{"mns:PublishMessage", "/topics/" + name + "/messages"}
	}
	return grant{"nothing known", place}
}

// problems applies every rule.
func (d deployment) problems() map[string][]string {
	all := make(map[string][]string)
	for name, rule := range rules {
		if wrong := rule(d); wrong != nil {
			all[name] = wrong
		}
	}
	return all
}

// checkTruth fails for every rule that a deployment breaks.
func checkTruth(t *testing.T, d deployment) {
	t.Helper()
	if len(d.settings) == 0 || len(d.triggers) == 0 {
		t.Fatalf("%s: the loader found %d settings and %d triggers", d.function, len(d.settings), len(d.triggers))
	}
	for name, wrong := range d.problems() {
		for _, w := range wrong {
			t.Errorf("%s: %s: %s", d.function, name, w)
		}
	}
}
