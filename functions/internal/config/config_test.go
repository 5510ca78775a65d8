package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

var least = []string{"REPUSH_REGION=cn-hangzhou", "REPUSH_ALLOW=i/g/t"}

func TestDefaults(t *testing.T) {
	t.Parallel()
	got, err := Load(Repush, least)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Region: "cn-hangzhou", State: "memory", Results: []string{"stdout"}, QPS: 10, LogLevel: "info",
		Policy: pushing.Policy{
			Concurrency: 150, OnUnknown: events.Hold, MaxPushes: 3,
			GiveUpAfter: 24 * time.Hour, MaxAge: 72 * time.Hour, PushTimeout: 15 * time.Second,
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreTypes(pushing.AllowList{})); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	if !got.Policy.Allow.Allows(pushing.Message{InstanceID: "i", GroupID: "g", Topic: "t"}) {
		t.Error("the allow-list was not read")
	}
}

func TestValues(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env []string
		ok  bool
	}{
		"region of the function":           {[]string{"FC_REGION=cn-beijing", "REPUSH_ALLOW=i/g/t"}, true},
		"empty means unset":                {append(slices.Clone(least), "REPUSH_QPS="), true},
		"other programs' variables":        {append(slices.Clone(least), "PATH=/bin", "repush_x=1"), true},
		"no region":                        {[]string{"REPUSH_ALLOW=i/g/t"}, false},
		"no allow-list":                    {[]string{"REPUSH_REGION=r"}, false},
		"region that is no host name":      {[]string{"REPUSH_REGION=a.b/c", "REPUSH_ALLOW=i/g/t"}, false},
		"endpoint on loopback":             {append(slices.Clone(least), "REPUSH_ONS_ENDPOINT=http://127.0.0.1:8080"), true},
		"endpoint on IPv6 loopback":        {append(slices.Clone(least), "REPUSH_ONS_ENDPOINT=http://[::1]:8080"), true},
		"endpoint in the clear":            {append(slices.Clone(least), "REPUSH_ONS_ENDPOINT=http://ons.cn-hangzhou.aliyuncs.com"), false},
		"endpoint that looks local":        {append(slices.Clone(least), "REPUSH_ONS_ENDPOINT=http://127.0.0.1.example.com"), false},
		"endpoint with a user":             {append(slices.Clone(least), "REPUSH_ONS_ENDPOINT=https://u:p@host"), false},
		"endpoint with a path":             {append(slices.Clone(least), "REPUSH_ONS_ENDPOINT=https://host/x"), false},
		"endpoint without scheme":          {append(slices.Clone(least), "REPUSH_ONS_ENDPOINT=host"), false},
		"another state":                    {append(slices.Clone(least), "REPUSH_STATE=etcd://x"), false},
		"a file without a path":            {append(slices.Clone(least), "REPUSH_STATE=file:"), false},
		"a file as a URL":                  {append(slices.Clone(least), "REPUSH_STATE=file:///x"), false},
		"Redis without a host":             {append(slices.Clone(least), "REPUSH_STATE=redis://"), false},
		"Redis with parameters":            {append(slices.Clone(least), "REPUSH_STATE=redis://x?db=1"), false},
		"a file":                           {append(slices.Clone(least), "REPUSH_STATE=file:/var/lib/x"), true},
		"Redis":                            {append(slices.Clone(least), "REPUSH_STATE=redis://u:p@x:6379/1"), true},
		"Redis with TLS":                   {append(slices.Clone(least), "REPUSH_STATE=rediss://x"), true},
		"several results":                  {append(slices.Clone(least), "REPUSH_RESULTS=stdout, https://a/b?c=d"), true},
		"a bus":                            {append(slices.Clone(least), "REPUSH_RESULTS=eventbridge://results"), true},
		"a topic":                          {append(slices.Clone(least), "REPUSH_RESULTS=mns://1.mns.cn-hangzhou.aliyuncs.com/topics/results"), true},
		"no bus":                           {append(slices.Clone(least), "REPUSH_RESULTS=eventbridge://"), false},
		"a bus with a user":                {append(slices.Clone(least), "REPUSH_RESULTS=eventbridge://u:p@results"), false},
		"a result twice":                   {append(slices.Clone(least), "REPUSH_RESULTS=stdout,stdout"), false},
		"a result in the clear":            {append(slices.Clone(least), "REPUSH_RESULTS=http://a/b"), false},
		"an empty result":                  {append(slices.Clone(least), "REPUSH_RESULTS=stdout,"), false},
		"least quota":                      {append(slices.Clone(least), "REPUSH_QPS=0.1"), true},
		"most quota":                       {append(slices.Clone(least), "REPUSH_QPS=100000"), true},
		"no quota":                         {append(slices.Clone(least), "REPUSH_QPS=0"), false},
		"quota that is no number":          {append(slices.Clone(least), "REPUSH_QPS=NaN"), false},
		"concurrency of none":              {append(slices.Clone(least), "REPUSH_CONCURRENCY=0"), false},
		"concurrency in words":             {append(slices.Clone(least), "REPUSH_CONCURRENCY=many"), false},
		"unknown policy":                   {append(slices.Clone(least), "REPUSH_ON_UNKNOWN=retry"), false},
		"push policy":                      {append(slices.Clone(least), "REPUSH_ON_UNKNOWN=push"), true},
		"no pushes":                        {append(slices.Clone(least), "REPUSH_MAX_PUSHES=0"), false},
		"a duration without unit":          {append(slices.Clone(least), "REPUSH_GIVE_UP_AFTER=24"), false},
		"a duration out of range":          {append(slices.Clone(least), "REPUSH_MAX_AGE=1s"), false},
		"a push time-out too long":         {append(slices.Clone(least), "REPUSH_PUSH_TIMEOUT=2m"), false},
		"a short token":                    {append(slices.Clone(least), "REPUSH_HTTP_TOKEN=short"), false},
		"a token with a space":             {append(slices.Clone(least), "REPUSH_HTTP_TOKEN=0123456789 abcdef"), false},
		"a good token":                     {append(slices.Clone(least), "REPUSH_HTTP_TOKEN=0123456789abcdef"), true},
		"level":                            {append(slices.Clone(least), "REPUSH_LOG_LEVEL=debug"), true},
		"level in capitals":                {append(slices.Clone(least), "REPUSH_LOG_LEVEL=DEBUG"), false},
		"a misspelt setting":               {append(slices.Clone(least), "REPUSH_MAX_PUSH=1"), false},
		"a misspelt setting that is empty": {append(slices.Clone(least), "REPUSH_MAX_PUSH="), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Load(Repush, test.env); (err == nil) != test.ok {
				t.Errorf("error = %v, want ok %v", err, test.ok)
			}
		})
	}
}

func TestEveryProblemIsListedAndNoValueShown(t *testing.T) {
	t.Parallel()
	_, err := Load(Repush, []string{
		"REPUSH_QPS=sesame", "REPUSH_HTTP_TOKEN=sesame", "REPUSH_STATE=redis://:sesame@x?sesame", "REPUSH_RESULTS=sesame", "REPUSH_ZZ=sesame", "REPUSH_AA=sesame",
	})
	var problems *Error
	if !errors.As(err, &problems) {
		t.Fatalf("error = %v", err)
	}
	var names []string
	for _, p := range problems.Problems {
		name, _, _ := strings.Cut(p, ":")
		names = append(names, name)
	}
	want := []string{"REPUSH_REGION", "REPUSH_ALLOW", "REPUSH_STATE", "REPUSH_RESULTS", "REPUSH_QPS", "REPUSH_HTTP_TOKEN", "REPUSH_AA", "REPUSH_ZZ"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("problems (-want +got):\n%s", diff)
	}
	if strings.Contains(err.Error(), "sesame") {
		t.Errorf("the error shows a value: %v", err)
	}
}

// TestPlan: its settings are required and read by the function that has them, and
// nobody else's concern.
func TestPlan(t *testing.T) {
	t.Parallel()
	if _, err := Load(Plan, least); err == nil || !strings.Contains(err.Error(), "REPUSH_REQUESTS: is required") {
		t.Errorf("without REPUSH_REQUESTS: %v", err)
	}
	got, err := Load(Plan, append(slices.Clone(least), "REPUSH_REQUESTS=mns://queues/requests", "REPUSH_PLAN_LAG=push", "REPUSH_MAX_PUSHES=2"))
	if err != nil {
		t.Fatal(err)
	}
	want := planning.Policy{PushLag: true, Cooldown: 30 * time.Minute, Limit: 1000, GroupBudget: 1000, MaxPushes: 2, MaxAge: 72 * time.Hour, QPS: 10}
	if diff := cmp.Diff(want, got.Plan, cmpopts.IgnoreTypes(pushing.AllowList{})); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
	if !got.Plan.Allow.Allows(pushing.Message{InstanceID: "i", GroupID: "g", Topic: "t"}) {
		t.Error("the allow-list was not read")
	}
	same := append(slices.Clone(least), "REPUSH_REQUESTS=stdout", "REPUSH_WEBHOOK_TOKEN=sesame-sesame-sesame", "REPUSH_HTTP_TOKEN=sesame-sesame-sesame")
	if _, err := Load(Plan, same); err == nil || !strings.Contains(err.Error(), "REPUSH_WEBHOOK_TOKEN: must not be REPUSH_HTTP_TOKEN") || strings.Contains(err.Error(), "sesame") {
		t.Errorf("one token for both: %v", err)
	}
	// As it stands behind "?token=", each of these would arrive as something else.
	for _, c := range "+&#%;" {
		in := append(slices.Clone(least), "REPUSH_REQUESTS=stdout", "REPUSH_WEBHOOK_TOKEN=0123456789abcdef"+string(c))
		if _, err := Load(Plan, in); err == nil || !strings.Contains(err.Error(), "REPUSH_WEBHOOK_TOKEN: must have none of + & # % ;") {
			t.Errorf("a token for URLs with %c: %v", c, err)
		}
	}
	if _, err := Load(Repush, append(slices.Clone(least), "REPUSH_PLAN_LIMIT=nonsense")); err != nil {
		t.Errorf("repush reads plan's settings: %v", err)
	}
}

func TestEverySettingIsReadAndDocumented(t *testing.T) {
	t.Parallel()
	if len(Settings()) < 10 {
		t.Fatal("the table is empty")
	}
	for _, s := range Settings() {
		if s.Doc == "" || s.Unit == "" || s.parse == nil || s.Required != (s.Default == "" && !strings.HasSuffix(s.Name, "_TOKEN")) {
			t.Errorf("%s: incomplete row %+v", s.Name, s)
		}
		if s.Default != "" && s.Name != "REPUSH_ONS_ENDPOINT" {
			if err := s.parse(new(Config), s.Default); err != nil {
				t.Errorf("%s: its own default is refused: %v", s.Name, err)
			}
		}
	}
}

func TestDescribeShowsNoSecret(t *testing.T) {
	t.Parallel()
	env := slices.Clone(least)
	for _, s := range Settings() {
		if s.Secret {
			env = append(env, s.Name+"=https://sesame.example")
		}
	}
	shown := Describe(Repush, env)
	for _, s := range Settings() {
		if _, is := shown[s.Name]; is != (s.Only == "" || s.Only == Repush) {
			t.Errorf("%s: shown: %t", s.Name, is)
		}
	}
	if text := fmt.Sprint(shown); strings.Contains(text, "sesame") {
		t.Errorf("shown: %s", text)
	}
	if shown["REPUSH_REGION"] != "cn-hangzhou" || shown["REPUSH_HTTP_TOKEN"] != "set" || Describe(Repush, least)["REPUSH_HTTP_TOKEN"] != "unset" || shown["REPUSH_QPS"] != "10" || Describe(Repush, least)["REPUSH_STATE"] != "memory" {
		t.Errorf("shown = %v", shown)
	}
}

// FuzzLoad: whatever the values, the settings are in range or refused, and no
// value is quoted.
func FuzzLoad(f *testing.F) {
	f.Add("cn-hangzhou", "i/g/t", "10", "24h", "stdout", "https://ons.example")
	f.Add("", "*", "1e9", "-1s", "http://127.0.0.1/x", "http://[::1]")
	f.Fuzz(func(t *testing.T, region, allow, qps, giveUp, results, endpoint string) {
		c, err := Load(Repush, []string{
			"REPUSH_REGION=" + region, "REPUSH_ALLOW=" + allow, "REPUSH_QPS=" + qps,
			"REPUSH_GIVE_UP_AFTER=" + giveUp, "REPUSH_RESULTS=" + results, "REPUSH_ONS_ENDPOINT=" + endpoint,
		})
		if err != nil {
			return
		}
		if c.Region == "" || c.QPS < 0.1 || c.QPS > 100_000 || c.Policy.GiveUpAfter < time.Minute || len(c.Results) == 0 {
			t.Errorf("accepted %+v", c)
		}
		for _, r := range c.Results {
			if strings.HasPrefix(r, "http://") && !strings.Contains(r, "127.") && !strings.Contains(r, "localhost") && !strings.Contains(r, ":1]") && !strings.Contains(r, "ffff") {
				t.Errorf("plain http to %q", r)
			}
		}
	})
}
