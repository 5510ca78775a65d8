// Package config is the one table of settings: it drives parsing, the start-up
// log line, the README's table and the comparison with infra/.
package config

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Setting is one row of the table.
type Setting struct {
	Name string
	// Default is what an unset variable means; empty means none.
	Default string
	// Unit is what the value is: a word for the README's table.
	Unit string
	// Secret values are shown as set or unset.
	Secret bool
	// Required settings have no default and must be set: for every function, or
	// for the one that Only names. A function takes no notice of another's.
	Required bool
	Only     string
	// Doc says what it is for, in one line.
	Doc string

	parse func(*Config, string) error
}

// Config is the settings as typed values.
type Config struct {
	Region      string
	ONSEndpoint string
	State       string
	// Results are where result events go; at least one.
	Results  []string
	QPS      float64
	Policy   pushing.Policy
	Token    string
	LogLevel string
	// Requests are where functions/plan sends requests.
	Requests     []string
	WebhookToken string
	Plan         planning.Policy
}

// Settings returns the table, in the order of the README.
func Settings() []Setting {
	return slices.Clone(settings)
}

var settings = []Setting{
	{Name: "REPUSH_REGION", Unit: "region id", Required: true, Doc: "region of the RocketMQ instance; under FC the function's own region is the default",
		parse: func(c *Config, v string) error { c.Region = v; return identifier(v) }},
	{Name: "REPUSH_ONS_ENDPOINT", Default: "https://ons.<region>.aliyuncs.com", Unit: "URL", Secret: true, Doc: "another endpoint of the ONS OpenAPI; plain http only to loopback",
		parse: func(c *Config, v string) error { c.ONSEndpoint = v; return hostOnly(v) }},
	{Name: "REPUSH_ALLOW", Unit: "list", Required: true, Doc: "what may be pushed: `instance/group/topic`, comma-separated; `*` is any run of characters but `/`",
		parse: func(c *Config, v string) (err error) { c.Policy.Allow, err = pushing.ParseAllowList(v); return err }},
	{Name: "REPUSH_STATE", Default: "memory", Unit: "URL", Secret: true, Doc: "where ledger and quota live: `memory` (this process), `file:PATH` (one process at a time), `redis://…` or `rediss://…` with user and password (all instances; Redis 6.2 or newer that never evicts)",
		parse: func(c *Config, v string) error { c.State = v; return state(v) }},
	{Name: "REPUSH_RESULTS", Default: "stdout", Unit: "list of URLs", Secret: true, Doc: "where result events go: `stdout`, `http(s)://…` (CloudEvents; plain http to loopback only), `eventbridge://BUS`, `mns://queues/NAME`, `mns://topics/NAME` (or `…://HOST/…`); several, comma-separated",
		parse: func(c *Config, v string) (err error) { c.Results, err = sinks(v); return err }},
	{Name: "REPUSH_REQUESTS", Unit: "list of URLs", Secret: true, Required: true, Only: Plan, Doc: "where functions/plan sends requests, in the same forms; let functions/repush read from there",
		parse: func(c *Config, v string) (err error) { c.Requests, err = sinks(v); return err }},
	{Name: "REPUSH_QPS", Default: "10", Unit: "calls per second", Doc: "pushes a second for the account, region and API; 0.1 to 100,000",
		parse: func(c *Config, v string) (err error) { c.QPS, err = number(v, 0.1, 100_000); return err }},
	{Name: "REPUSH_CONCURRENCY", Default: "150", Unit: "calls", Doc: "pushes in flight per instance; 1 to 10,000",
		parse: integer(1, 10_000, func(c *Config) *int { return &c.Policy.Concurrency })},
	{Name: "REPUSH_ON_UNKNOWN", Default: "hold", Unit: "hold or push", Doc: "a push of unknown fate is reported (`hold`), or repeated once inside the deadline and marked `maybeDuplicate` (`push`)",
		parse: func(c *Config, v string) error {
			c.Policy.OnUnknown = events.OnUnknown(v)
			return oneOf(v, "hold", "push")
		}},
	{Name: "REPUSH_MAX_PUSHES", Default: "3", Unit: "pushes", Doc: "pushes per message over its lifetime, accepted and unknown ones; 1 to 1,000",
		parse: integer(1, 1000, func(c *Config) *int { return &c.Policy.MaxPushes })},
	{Name: "REPUSH_GIVE_UP_AFTER", Default: "24h", Unit: "duration", Doc: "undecided for so long since first received: `abandoned`; 1m to 168h",
		parse: duration(time.Minute, 168*time.Hour, func(c *Config) *time.Duration { return &c.Policy.GiveUpAfter })},
	{Name: "REPUSH_MAX_AGE", Default: "72h", Unit: "duration", Doc: "messages stored longer ago (`storedAt`) are `expired` without a call; 1h to 720h",
		parse: duration(time.Hour, 720*time.Hour, func(c *Config) *time.Duration { return &c.Policy.MaxAge })},
	{Name: "REPUSH_PUSH_TIMEOUT", Default: "15s", Unit: "duration", Doc: "one push call; the broker itself waits up to 10 s for the listener; 1s to 60s",
		parse: duration(time.Second, time.Minute, func(c *Config) *time.Duration { return &c.Policy.PushTimeout })},
	{Name: "REPUSH_HTTP_TOKEN", Unit: "text", Secret: true, Doc: "bearer token for outsiders, in the Authorization header; 16 to 512 visible ASCII characters",
		parse: func(c *Config, v string) error { c.Token = v; return token(v) }},
	{Name: "REPUSH_WEBHOOK_TOKEN", Unit: "text", Secret: true, Only: Plan, Doc: "admits alerts, and nothing else, over HTTP: query parameter `token` or header `X-Repush-Token`; 16 to 512 visible ASCII characters, none of `+ & # % ;`",
		parse: func(c *Config, v string) error { c.WebhookToken = v; return urlToken(v) }},
	{Name: "REPUSH_PLAN_LAG", Default: "manifest", Unit: "manifest or push", Only: Plan, Doc: "alerts about lag end at the manifest, or send requests too (`push`): the queue delivers those messages as well, so they are marked `maybeDuplicate`",
		parse: func(c *Config, v string) error { c.Plan.PushLag = v == "push"; return oneOf(v, "manifest", "push") }},
	{Name: "REPUSH_PLAN_COOLDOWN", Default: "30m", Unit: "duration", Only: Plan, Doc: "alerts that repeat join the incident until so long after its end; 1m to 24h",
		parse: duration(time.Minute, 24*time.Hour, func(c *Config) *time.Duration { return &c.Plan.Cooldown })},
	{Name: "REPUSH_PLAN_LIMIT", Default: "1000", Unit: "messages", Only: Plan, Doc: "messages of one plan; 1 to 10,000",
		parse: integer(1, 10_000, func(c *Config) *int { return &c.Plan.Limit })},
	{Name: "REPUSH_GROUP_BUDGET", Default: "1000", Unit: "pushes", Only: Plan, Doc: "pushes that alerts may ask for in 24 h, for each consumer group and without a person; 0 to 100,000",
		parse: integer(0, 100_000, func(c *Config) *int { return &c.Plan.GroupBudget })},
	{Name: "REPUSH_LOG_LEVEL", Default: "info", Unit: "level", Doc: "debug, info, warn or error",
		parse: func(c *Config, v string) error { c.LogLevel = v; return oneOf(v, "debug", "info", "warn", "error") }},
}

// Functions that have settings.
const (
	Repush = "repush"
	Plan   = "plan"
)

// Load reads the environment of a function, given as os.Environ returns it. The error lists
// every problem, in the order of the table, then unknown REPUSH_ names: a
// misspelt setting must not go unnoticed. It never quotes a value.
func Load(function string, environ []string) (Config, error) {
	env := variables(environ)
	var c Config
	var problems []string
	for _, s := range settings {
		value := cmp.Or(env[s.Name], s.fallback(env))
		switch {
		case !s.of(function):
		case value != "":
			if err := s.parse(&c, value); err != nil {
				problems = append(problems, s.Name+": "+err.Error())
			}
		case s.Required:
			problems = append(problems, s.Name+": is required ("+s.Doc+")")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if strings.HasPrefix(name, "REPUSH_") && !slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == name }) {
			problems = append(problems, strings.Trim(strconv.QuoteToASCII(name), `"`)+": is not a setting")
		}
	}
	if c.WebhookToken != "" && c.WebhookToken == c.Token {
		problems = append(problems, "REPUSH_WEBHOOK_TOKEN: must not be REPUSH_HTTP_TOKEN, which admits more and does not travel in URLs")
	}
	if problems != nil {
		return Config{}, &Error{Problems: problems}
	}
	if function != Plan {
		return c, nil
	}
	c.Plan.Allow, c.Plan.MaxAge, c.Plan.MaxPushes, c.Plan.QPS = c.Policy.Allow, c.Policy.MaxAge, c.Policy.MaxPushes, c.QPS
	return c, nil
}

// of reports whether a function reads the setting.
func (s Setting) of(function string) bool { return s.Only == "" || s.Only == function }

// Error lists what is wrong with the settings.
type Error struct{ Problems []string }

// Error returns the problems, separated by "; ".
func (e *Error) Error() string { return "settings: " + strings.Join(e.Problems, "; ") }

// fallback is what an unset variable means in this environment.
func (s Setting) fallback(env map[string]string) string {
	switch s.Name {
	case "REPUSH_REGION":
		return env["FC_REGION"]
	case "REPUSH_ONS_ENDPOINT":
		return "" // follows from the region
	}
	return s.Default
}

// variables are those of an environment, by name.
func variables(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	return env
}

// Describe returns the settings of a function that are in force, for the start-up
// log line: defaults as they are, secrets and URLs that are set as "set".
func Describe(function string, environ []string) map[string]string {
	env, shown := variables(environ), make(map[string]string, len(settings))
	for _, s := range settings {
		switch value := env[s.Name]; {
		case !s.of(function):
		case value != "" && s.Secret:
			shown[s.Name] = "set"
		default:
			shown[s.Name] = cmp.Or(value, s.Default, "unset")
		}
	}
	return shown
}

func oneOf(v string, allowed ...string) error {
	if !slices.Contains(allowed, v) {
		return fmt.Errorf("must be %s", strings.Join(allowed, ", "))
	}
	return nil
}

func number(v string, low, high float64) (float64, error) {
	n, err := strconv.ParseFloat(v, 64)
	if err != nil || !(n >= low && n <= high) {
		return 0, fmt.Errorf("must be a number from %g to %g", low, high)
	}
	return n, nil
}

func integer(low, high int, to func(*Config) *int) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < low || n > high {
			return fmt.Errorf("must be a whole number from %d to %d", low, high)
		}
		*to(c) = n
		return nil
	}
}

func duration(low, high time.Duration, to func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		d, err := time.ParseDuration(v)
		if err != nil || d < low || d > high {
			return fmt.Errorf("must be a duration with a unit, from %s to %s", low, high)
		}
		*to(c) = d
		return nil
	}
}

// identifier admits region ids, which become part of a host name.
func identifier(v string) error {
	if len(v) > 64 || strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("must be a region id: lower-case letters, digits and -")
	}
	return nil
}

func token(v string) error {
	if len(v) < 16 || len(v) > 512 || strings.ContainsFunc(v, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("must be 16 to 512 visible ASCII characters")
	}
	return nil
}

// urlToken admits what is the same behind "?token=" of a URL: base64 has a plus
// sign, which would arrive as a space.
func urlToken(v string) error {
	if strings.ContainsAny(v, "+&#%;") {
		return fmt.Errorf("must have none of + & # %% ; which mean something else in a URL")
	}
	return token(v)
}

// state admits what looks like a store; who opens it at the start knows the
// details.
func state(v string) error {
	path, isFile := strings.CutPrefix(v, "file:")
	u, err := url.Parse(v)
	switch {
	case v == "memory", isFile && path != "" && !strings.HasPrefix(path, "//"):
		return nil
	case err == nil && (u.Scheme == "redis" || u.Scheme == "rediss") && u.Hostname() != "" && u.RawQuery == "" && u.Fragment == "":
		return nil
	}
	return fmt.Errorf("must be memory, file:PATH, or redis:// or rediss:// with a host, without query and fragment")
}

func sinks(v string) ([]string, error) {
	var list []string
	for i, target := range strings.Split(v, ",") {
		target = strings.TrimSpace(target)
		if err := sink(target); err != nil {
			return nil, fmt.Errorf("target %d: %w", i+1, err)
		}
		if slices.Contains(list, target) {
			return nil, fmt.Errorf("target %d: is named twice", i+1)
		}
		list = append(list, target)
	}
	return list, nil
}

// sink admits what looks like a target; events/sink, which opens it at the
// start, knows the details.
func sink(target string) error {
	u, err := url.Parse(target)
	switch {
	case target == "stdout":
		return nil
	case err == nil && (u.Scheme == "eventbridge" || u.Scheme == "mns"):
		if u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("must name a bus, queue or topic, without user, query and fragment")
		}
		return nil
	}
	if err := endpoint(target); err != nil {
		return fmt.Errorf("%w, or stdout, eventbridge:// or mns://", err)
	}
	return nil
}

// endpoint admits https, and http to loopback: what travels is signed or
// secret.
func endpoint(v string) error {
	u, err := url.Parse(v)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("must be a URL with scheme and host, without user and fragment")
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	}
	return fmt.Errorf("must be https, or http to a loopback address")
}

// hostOnly admits what endpoint admits, without path and query.
func hostOnly(v string) error {
	if err := endpoint(v); err != nil {
		return err
	}
	if u, _ := url.Parse(v); u.Path != "" || u.RawQuery != "" {
		return fmt.Errorf("must have neither path nor query")
	}
	return nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
