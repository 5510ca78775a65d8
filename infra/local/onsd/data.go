package onsd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"go.yaml.in/yaml/v3"
)

// Data is what the stand-in knows: one YAML file. The zero value of a field
// means its default. A Data is only read, so several servers may share one.
type Data struct {
	// Region is the only one that is served; required.
	Region      string       `yaml:"region"`
	Credentials []Credential `yaml:"credentials"`
	// Retention is how long messages and dead letters exist; 0 means 72h
	// (source: ApsaraMQ for RocketMQ 4.x "Limits").
	Retention time.Duration `yaml:"retention"`
	// ThrottleStatus is the HTTP status of Throttling.User, 400 to 599; 0
	// means 400.
	ThrottleStatus int `yaml:"throttleStatus"`
	// Tasks bounds the lives of page queries.
	Tasks TaskLife `yaml:"tasks"`
	// Network delays every request before it is looked at.
	Network Latency `yaml:"network"`
	// Quotas by operation; "*" stands for every operation that is not named.
	// Without either, the documented quota holds.
	Quotas    map[string]Quota `yaml:"quotas"`
	Instances []Instance       `yaml:"instances"`
	Faults    []Fault          `yaml:"faults"`
	// Scenario names the messages somebody would ask to be pushed, in order;
	// the server takes no notice of it.
	Scenario []Step `yaml:"scenario"`
}

// TaskLife is how long the task of a page query is known: for so many answered
// pages, and for so long. 0 means without end.
type TaskLife struct {
	Pages    int           `yaml:"pages"`
	Lifetime time.Duration `yaml:"lifetime"`
}

// Credential is one access key. All keys belong to one account.
type Credential struct {
	AccessKeyID     string `yaml:"accessKeyId"`
	AccessKeySecret string `yaml:"accessKeySecret"`
	// SecurityToken makes it an STS key: requests must carry the token.
	SecurityToken string `yaml:"securityToken"`
	// Denied lists operations that are answered with Forbidden.RAM.
	Denied []string `yaml:"denied"`
}

// Latency is Delay plus an evenly spread random part of up to Jitter.
type Latency struct {
	Delay  time.Duration `yaml:"delay"`
	Jitter time.Duration `yaml:"jitter"`
}

// Quota bounds the calls of one operation, whichever key makes them.
type Quota struct {
	// Kind is "sliding" (no more than Limit accepted calls in any Window),
	// "fixed" (windows aligned to the clock) or "none".
	Kind   string        `yaml:"kind"`
	Limit  int           `yaml:"limit"`
	Window time.Duration `yaml:"window"`
}

// Instance is one RocketMQ 4.x instance with a namespace.
type Instance struct {
	InstanceID string    `yaml:"instanceId"`
	Topics     []string  `yaml:"topics"`
	Groups     []Group   `yaml:"groups"`
	Messages   []Message `yaml:"messages"`
}

// Group is one consumer group.
type Group struct {
	GroupID string `yaml:"groupId"`
	// Model is "CLUSTERING" (default) or "BROADCASTING".
	Model string `yaml:"model"`
	// Subscribes lists topics; empty means all topics of the instance.
	Subscribes  []string     `yaml:"subscribes"`
	Clients     []Client     `yaml:"clients"`
	DeadLetters []DeadLetter `yaml:"deadLetters"`
}

// Client is one consumer process. It starts online unless Online is false;
// OfflineAfter and OnlineAfter count from the server's start, the later one
// that has passed holds. 0 means never.
type Client struct {
	ClientID string `yaml:"clientId"`
	// Language and Version as connections report them; JAVA and V4_3_6 if
	// empty.
	Language string `yaml:"language"`
	Version  string `yaml:"version"`
	// Behaviour is "ok" (default), "slow" or "failing" (throws); any of them
	// takes the Latency.
	Behaviour string `yaml:"behaviour"`
	Latency   `yaml:",inline"`
	Online    *bool `yaml:"online"`
	// OfflineAfterPushes takes the client away for good after so many
	// deliveries.
	OfflineAfterPushes int `yaml:"offlineAfterPushes"`
	// Buries makes a failing client turn every push that reaches it into a
	// stored message with the id that it saw, and a dead letter of that.
	Buries       bool          `yaml:"buries"`
	OfflineAfter time.Duration `yaml:"offlineAfter"`
	OnlineAfter  time.Duration `yaml:"onlineAfter"`
}

// Message is a set of stored messages that differ in their ids only.
type Message struct {
	Topic string `yaml:"topic"`
	// MsgIDs are unique keys (UNIQ_KEY): 32, 34 or 56 hexadecimal digits.
	MsgIDs []string `yaml:"msgIds"`
	// OffsetID names the place in the store; only for a single message. Empty:
	// made from topic and unique key. The API finds messages by either id.
	OffsetID string `yaml:"offsetId"`
	StoredAt Moment `yaml:"storedAt"`
	// Every is how much later each was stored than the one before it.
	Every time.Duration `yaml:"every"`
	// Retention overrides [Data].Retention.
	Retention  time.Duration     `yaml:"retention"`
	Keys       string            `yaml:"keys"`
	Tags       string            `yaml:"tags"`
	Properties map[string]string `yaml:"properties"`
	Body       string            `yaml:"body"`
	// PendingFor lists groups whose offset has not passed the messages yet.
	PendingFor []string `yaml:"pendingFor"`
}

// DeadLetter is a set of dead letters of one group. Each is a copy with its
// own offset id and the unique key of its origin.
type DeadLetter struct {
	// Topic is the origin's topic; the origin need not exist any more.
	Topic    string   `yaml:"topic"`
	MsgIDs   []string `yaml:"msgIds"`
	StoredAt Moment   `yaml:"storedAt"`
	// Every is how much later each was stored than the one before it.
	Every time.Duration `yaml:"every"`
	// Copies is how many entries each id has: one per time it failed; 0 means 1.
	Copies int `yaml:"copies"`
}

// Moment is a time, given as RFC 3339 or as an age before the server's start
// ("26h"). The zero value is the server's start.
type Moment struct {
	At  time.Time
	Age time.Duration
}

// UnmarshalYAML reads either form.
func (m *Moment) UnmarshalYAML(n *yaml.Node) (err error) {
	if m.Age, err = time.ParseDuration(n.Value); err == nil && m.Age >= 0 {
		return nil
	}
	if m.At, err = time.Parse(time.RFC3339, n.Value); err == nil {
		return nil
	}
	return &yaml.TypeError{Errors: []string{fmt.Sprintf(`line %d: want an RFC 3339 time or an age such as "26h"`, n.Line)}}
}

// From resolves the moment for a server that started at start.
func (m Moment) From(start time.Time) time.Time {
	if !m.At.IsZero() {
		return m.At
	}
	return start.Add(-m.Age)
}

// Step is a part of the scenario: messages of one topic to be pushed to one
// group. Neither topic nor messages need exist.
type Step struct {
	Label      string   `yaml:"label"`
	InstanceID string   `yaml:"instanceId"`
	GroupID    string   `yaml:"groupId"`
	Topic      string   `yaml:"topic"`
	MsgIDs     []string `yaml:"msgIds"`
	// StoredAt is what whoever asks knows about their age; nil: nothing.
	StoredAt *Moment `yaml:"storedAt"`
}

// Load reads one YAML document and checks it. The error lists every problem,
// one per line; unknown keys are problems.
func Load(raw []byte) (*Data, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	var d Data
	var found problems
	var shape *yaml.TypeError
	switch err := decoder.Decode(&d); {
	case errors.As(err, &shape):
		found = shape.Errors
	case err == io.EOF:
		return nil, errors.New("load: the file is empty; see the README for an example")
	case err != nil:
		return nil, fmt.Errorf("load: %w", err)
	}
	if err := decoder.Decode(new(yaml.Node)); err != io.EOF {
		found = append(found, "the file must hold one YAML document")
	}
	d.check(&found)
	if err := found.err("load"); err != nil {
		return nil, err
	}
	return &d, nil
}
