package onsd

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestLoadReportsProblems maps a change of the test data to the problem that
// is reported for it.
func TestLoadReportsProblems(t *testing.T) {
	t.Parallel()
	const (
		group  = "      - groupId: GID_demo\n"
		client = `{clientId: "192.0.2.7@4242#11#-22#33"`
	)
	for name, test := range map[string]struct{ old, new, want string }{
		"no region":                 {"region: cn-hangzhou", "", "region: is required"},
		"an unknown key":            {"region:", "regoin: x\nregion:", "line 2: field regoin not found"},
		"an unknown key of a group": {"        subscribes:", "        subscribe: []\n        subscribes:", "field subscribe not found"},
		"a key twice":               {"region:", "region: x\nregion:", `mapping key "region" already defined`},
		"a wrong type":              {"topics: [orders, empty]", "topics: {a: b}", "cannot unmarshal"},
		"a bare number of time":     {"delay: 4s", "delay: 4", "into time.Duration"},
		"a bent age":                {"storedAt: 2h", "storedAt: soon", "want an RFC 3339 time or an age"},
		"a negative age":            {"storedAt: 2h", "storedAt: -2h", "want an RFC 3339 time or an age"},
		"a second document":         {"region:", "region: x\n---\nregion:", "must hold one YAML document"},
		"a key without secret":      {"accessKeySecret: demo-sk-never-shown}", "accessKeySecret: ''}", "accessKeyId and accessKeySecret are required"},
		"a key id twice":            {"sts-ak", "demo-ak", `"demo-ak" is given twice`},
		"an unknown denied call":    {"denied: [OnsMessagePush]", "denied: [OnsPush]", `"OnsPush" is no operation`},
		"an unknown quota":          {`"*"`, "OnsPush", "quota OnsPush: is for no operation"},
		"an unknown kind":           {"kind: none", "kind: leaky", `"leaky" must be one of`},
		"a quota without a limit":   {"kind: none", "kind: fixed, window: 1s", "limit and window must be positive"},
		"a status of success":       {"region:", "throttleStatus: 200\nregion:", "throttleStatus: must be from 400"},
		"a negative retention":      {"region:", "retention: -1h\nregion:", "retention, network: must not be negative"},
		"a bent instance":           {"MQ_INST_1000_demo", "MQ/INST", `"MQ/INST" must be 2 to 64`},
		"a bent topic":              {"[orders, empty]", "[orders, e%]", `"e%" must be 2 to 64`},
		"a group twice":             {"GID_off", "GID_demo", `"GID_demo" is given twice`},
		"an unknown model":          {"BROADCASTING", "SHOUTING", `"SHOUTING" must be one of`},
		"an unknown subscription":   {"subscribes: [orders]", "subscribes: [order]", `"order" must be one of`},
		"a client twice":            {"clientId: stuck", "clientId: slow", `"slow" is given twice`},
		"an unknown behaviour":      {"behaviour: failing", "behaviour: lazy", `"lazy" must be one of`},
		"slow without a delay":      {"delay: 4s", "delay: 0s", "a slow client needs a delay"},
		"less than no pushes":       {"offlineAfterPushes: 2", "offlineAfterPushes: -2", "nothing may be negative"},
		"a message without a topic": {"{topic: orders, msgIds: [C0000207109200000000000000000001], storedAt: 2h", "{msgIds: [C0000207109200000000000000000001], storedAt: 2h", `"" must be one of`},
		"a message without ids":     {"msgIds: [C0000207109200000000000000000003], storedAt: 73h", "storedAt: 73h", "msgIds must not be empty"},
		"a bent message id":         {"msgIds: [C0000207109200000000000000000003], storedAt: 73h", "msgIds: [C00002], storedAt: 73h", "must be 32, 34 or 56"},
		"a message twice":           {"msgIds: [C0000207109200000000000000000003], storedAt: 73h", "msgIds: [C0000207109200000000000000000001], storedAt: 73h", "is given twice"},
		"a bent offset id":          {"offsetId: C000020100002A9F0000000000000042", "offsetId: '42'", "offsetId is for a single message"},
		"pending for nobody":        {"pendingFor: [GID_demo]", "pendingFor: [GID]", `"GID" must be one of`},
		"a dead letter from nowhere": {"- {topic: orders, msgIds: [C0000207109200000000000000000003], storedAt: 71h}",
			"- {msgIds: [C0000207109200000000000000000003], storedAt: 71h}", `"" must be 2 to 64`},
		"too many copies":                    {"copies: 2", "copies: 1001", "copies must be from 0 to 1000"},
		"a task that ends before it begins":  {"region:", "tasks: {pages: -1}\nregion:", "tasks: must not be negative"},
		"a listener that buries and is well": {"behaviour: failing", "buries: true", "buries is for a failing client"},
		"messages against time":              {"storedAt: 73h", "storedAt: 73h, every: -1s", "retention and every must not be negative"},
		"dead letters against time":          {"copies: 2", "copies: 2, every: -1s", "every not negative"},
		"a fault for nothing":                {"region:", "faults: [{api: OnsMessagePush}]\nregion:", "faults[0]: must do something, delay or shift"},
		"an aimless scenario":                {"region:", "scenario: [{msgIds: [C0000207109200000000000000000003]}]\nregion:", "instanceId, groupId and topic are required"},
		"an empty scenario":                  {"region:", "scenario: [{instanceId: a, groupId: b, topic: c}]\nregion:", "scenario[0]: msgIds must not be empty"},
		"a client with no id":                {client, `{clientId: ""`, "clientId must be 1 to 255"},
		"a group with no name":               {group, "      - groupId: ''\n", "group : \"\" must be 2 to 64"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw := strings.Replace(testData, test.old, test.new, 1)
			if raw == testData {
				t.Fatal("the change changes nothing")
			}
			_, err := Load([]byte(raw))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestLoadReportsEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := Load([]byte("regoin: x\nretention: 4\nquotas: {Magic: {}}\nfaults: [{nth: -1}]\n"))
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{
		"field regoin not found", "into time.Duration", "region: is required", "credentials: at least one", "instances: at least one",
		"quota Magic: is for no operation", "faults[0]: nth must not be negative", "faults[0]: must do something",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not reported in:\n%v", want, err)
		}
	}
}

func TestLoadNothing(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "# nothing\n", "---\n", "[", "\x00", "a: *b"} {
		if _, err := Load([]byte(raw)); err == nil {
			t.Errorf("%q is loaded", raw)
		}
	}
}

func TestNewChecks(t *testing.T) {
	t.Parallel()
	if _, err := New(&Data{}, Options{}); err == nil || !strings.Contains(err.Error(), "new: region: is required") {
		t.Errorf("got %v", err)
	}
}

func TestMoments(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2h":                        start.Add(-2 * time.Hour),
		"0s":                        start,
		"2026-11-20T09:30:00Z":      time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC),
		"2026-11-20T09:30:00+08:00": time.Date(2026, 11, 20, 1, 30, 0, 0, time.UTC),
	} {
		var m Moment
		if err := yaml.Unmarshal([]byte(text), &m); err != nil || !m.From(start).Equal(want) {
			t.Errorf("%s: %v, %v; want %v", text, m.From(start), err, want)
		}
	}
}

// TestReadmeExample: the example of the README loads.
func TestReadmeExample(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(raw), "```yaml\n")
	example, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("the README has no example")
	}
	if _, err := Load([]byte(example)); err != nil {
		t.Error(err)
	}
	for name := range operations {
		if !strings.Contains(string(raw), "`"+name+"`") {
			t.Errorf("the README does not name %s", name)
		}
	}
}

// TestDemo pushes what the demo's scenario names, one by one, to whoever is
// online, and compares what becomes of it.
func TestDemo(t *testing.T) {
	t.Parallel()
	d, err := Load(readDemo(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range d.Instances[0].Groups[0].Clients {
		d.Instances[0].Groups[0].Clients[i].Behaviour, d.Instances[0].Groups[0].Clients[i].Latency = "ok", Latency{}
	}
	if want := (Quota{"sliding", 10, time.Second}); d.Quotas["OnsMessagePush"] != want {
		t.Errorf("quota %+v, want %+v", d.Quotas["OnsMessagePush"], want)
	}
	d.Credentials[0].AccessKeySecret = secret
	d.Quotas, d.Network = map[string]Quota{"*": {Kind: "none"}}, Latency{}
	s, err := New(d, Options{})
	if err != nil {
		t.Fatal(err)
	}
	clients := d.Instances[0].Groups[0].Clients
	outcomes, ids, dead := map[string]int{}, map[string]bool{}, 0
	for _, step := range d.Scenario {
		for _, id := range step.MsgIDs {
			ids[id] = true
			params := map[string]string{"InstanceId": step.InstanceID, "GroupId": step.GroupID, "Topic": step.Topic, "MsgId": id, "ClientId": clients[len(ids)%2].ClientID}
			code := demoPush(t, s, params)
			if code == "BIZ_CONSUMER_NOT_ONLINE" {
				outcomes["retried: "+code]++
				params["ClientId"] = clients[0].ClientID
				code = demoPush(t, s, params)
			}
			outcomes[step.Label+": "+code]++
			if got := do(t, s, map[string]string{"Action": "OnsDLQMessageGetById", "InstanceId": step.InstanceID, "GroupId": step.GroupID, "MsgId": id}); got.Code == 200 {
				dead++
			}
		}
	}
	want := map[string]int{
		"stuck: ": 22, "answer cut after the delivery: cut": 1, "expired: BIZ_NO_MESSAGE": 1, "unknown topic: BIZ_TOPIC_NOT_FOUND": 1,
		"retried: BIZ_CONSUMER_NOT_ONLINE": 6,
	}
	if diff := cmp.Diff(want, outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if got := s.Deliveries(); got.Total != 23 || len(got.ByMessage) != 23 || len(ids) != 25 || dead != 24 {
		t.Errorf("%d deliveries of %d messages, %d asked for, %d dead letters; want 23, 23, 25, 24", got.Total, len(got.ByMessage), len(ids), dead)
	}
}

func demoPush(t *testing.T, s *Server, params map[string]string) (code string) {
	defer func() {
		if recover() != nil {
			code = "cut"
		}
	}()
	keys := map[string]string{"AccessKeyId": "demo-ak"}
	for name, value := range params {
		keys[name] = value
	}
	return do(t, s, keys).body.Code
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(testData))
	f.Add(readDemo(f))
	f.Add([]byte("a: &a [*a, *a]"))
	f.Add([]byte("instances: [{groups: [{clients: [{<<: {delay: 1s}}]}]}]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := Load(raw)
		if (d == nil) != (err != nil) {
			t.Fatalf("data %v, error %v", d, err)
		}
		if err == nil {
			if _, err := New(d, Options{}); err != nil {
				t.Fatalf("loaded, but %v", err)
			}
		}
	})
}
