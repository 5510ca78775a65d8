package onsd

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// problems collects what is wrong, as "where: rule".
type problems []string

func (p *problems) require(ok bool, where, rule string, args ...any) {
	if !ok {
		*p = append(*p, where+": "+fmt.Sprintf(rule, args...))
	}
}

func (p *problems) oneOf(where, value string, allowed ...string) {
	p.require(slices.Contains(allowed, value), where, "%q must be one of %q", value, allowed)
}

// unique returns a function that reports the second use of a name.
func (p *problems) unique(where string) func(name string) {
	seen := map[string]bool{}
	return func(name string) {
		p.require(!seen[name], where, "%q is given twice", name)
		seen[name] = true
	}
}

func (p *problems) operations(where string, names ...string) {
	for _, name := range names {
		p.require(operations[name].run != nil, where, "%q is no operation of this stand-in", name)
	}
}

func (p *problems) name(where, name string) {
	p.require(namePattern.MatchString(name), where, "%q must be 2 to 64 letters, digits, _ and -", name)
}

func (p *problems) msgIDs(where string, ids []string) {
	p.require(len(ids) > 0, where, "msgIds must not be empty")
	for _, id := range ids {
		p.require(msgIDPattern.MatchString(id), where, "message id %q must be 32, 34 or 56 hexadecimal digits", id)
	}
}

func (p *problems) err(op string) error {
	if len(*p) == 0 {
		return nil
	}
	return errors.New(op + ": " + strings.Join(*p, "\n"+op+": "))
}

// The characters of names and message ids (sources: DOC OnsTopicCreate and
// OnsGroupCreate; apache/rocketmq MessageDecoder and MessageClientIDSetter).
var (
	namePattern  = regexp.MustCompile(`^[A-Za-z0-9_-]{2,64}$`)
	msgIDPattern = regexp.MustCompile(`^(?:[0-9A-Fa-f]{32}|[0-9A-Fa-f]{34}|[0-9A-Fa-f]{56})$`)
)

func (d *Data) check(p *problems) {
	p.require(d.Region != "", "region", "is required")
	p.require(len(d.Credentials) > 0, "credentials", "at least one is required")
	p.require(len(d.Instances) > 0, "instances", "at least one is required")
	p.require(d.ThrottleStatus == 0 || d.ThrottleStatus >= 400 && d.ThrottleStatus < 600, "throttleStatus", "must be from 400 to 599")
	p.require(min(d.Retention, d.Network.Delay, d.Network.Jitter) >= 0, "retention, network", "must not be negative")
	p.require(d.Tasks.Pages >= 0 && d.Tasks.Lifetime >= 0, "tasks", "must not be negative")
	unique := p.unique("credentials")
	for _, c := range d.Credentials {
		p.require(c.AccessKeyID != "" && c.AccessKeySecret != "", "credentials", "accessKeyId and accessKeySecret are required")
		unique(c.AccessKeyID)
		p.operations("credentials: denied", c.Denied...)
	}
	for name, q := range d.Quotas {
		where := "quota " + name
		p.require(name == "*" || operations[name].run != nil, where, "is for no operation of this stand-in")
		p.oneOf(where, q.Kind, "sliding", "fixed", "none")
		p.require(q.Kind == "none" || q.Limit > 0 && q.Window > 0, where, "limit and window must be positive")
	}
	unique = p.unique("instances")
	for _, in := range d.Instances {
		unique(in.InstanceID)
		in.check(p)
	}
	for i, f := range d.Faults {
		f.check(p, fmt.Sprintf("faults[%d]", i))
	}
	for i, step := range d.Scenario {
		where := fmt.Sprintf("scenario[%d]", i)
		p.require(step.InstanceID != "" && step.GroupID != "" && step.Topic != "", where, "instanceId, groupId and topic are required")
		p.msgIDs(where, step.MsgIDs)
	}
}

func (in Instance) check(p *problems) {
	where := "instance " + in.InstanceID
	p.name(where, in.InstanceID)
	for _, topic := range in.Topics {
		p.name(where+" topics", topic)
	}
	unique := p.unique(where + " groups")
	var groups []string
	for _, g := range in.Groups {
		unique(g.GroupID)
		groups = append(groups, g.GroupID)
		g.check(p, in.Topics)
	}
	unique = p.unique(where + " messages")
	for i, m := range in.Messages {
		at := fmt.Sprintf("%s messages[%d]", where, i)
		p.oneOf(at+" topic", m.Topic, in.Topics...)
		p.msgIDs(at, m.MsgIDs)
		p.require(m.OffsetID == "" || len(m.MsgIDs) == 1 && msgIDPattern.MatchString(m.OffsetID), at, "offsetId is for a single message, 32 or 56 hexadecimal digits")
		p.require(m.Retention >= 0 && m.Every >= 0, at, "retention and every must not be negative")
		for _, group := range m.PendingFor {
			p.oneOf(at+" pendingFor", group, groups...)
		}
		for _, id := range m.MsgIDs {
			unique(m.Topic + "/" + id)
		}
	}
}

func (g Group) check(p *problems, topics []string) {
	where := "group " + g.GroupID
	p.name(where, g.GroupID)
	p.oneOf(where+" model", g.Model, "", "CLUSTERING", "BROADCASTING")
	for _, topic := range g.Subscribes {
		p.oneOf(where+" subscribes", topic, topics...)
	}
	unique := p.unique(where + " clients")
	for _, c := range g.Clients {
		at := where + " client " + c.ClientID
		unique(c.ClientID)
		p.require(c.ClientID != "" && len(c.ClientID) <= 255, at, "clientId must be 1 to 255 characters")
		p.oneOf(at+" behaviour", c.Behaviour, "", "ok", "slow", "failing")
		p.require(c.Behaviour != "slow" || c.Delay > 0, at, "a slow client needs a delay")
		p.require(!c.Buries || c.Behaviour == "failing", at, "buries is for a failing client")
		p.require(c.OfflineAfterPushes >= 0 && min(c.Delay, c.Jitter, c.OfflineAfter, c.OnlineAfter) >= 0, at, "nothing may be negative")
	}
	for i, dead := range g.DeadLetters {
		at := fmt.Sprintf("%s deadLetters[%d]", where, i)
		p.name(at+" topic", dead.Topic)
		p.msgIDs(at, dead.MsgIDs)
		p.require(dead.Copies >= 0 && dead.Copies <= 1000 && dead.Every >= 0, at, "copies must be from 0 to 1000, every not negative")
	}
}
