package onsd

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// operation is one row of the API.
type operation struct {
	required   []string
	permission string // RAM action
	quota      Quota
	// run has the effect and makes the body; it is called with s.mu held, after
	// resolve.
	run func(*Server, *call) (object, *refusal)
}

var (
	tenPerSecond     = Quota{"sliding", 10, time.Second}
	tenPerMin        = Quota{"fixed", 10, time.Minute}
	sixHundredPerMin = Quota{"fixed", 600, time.Minute}
)

// operations is the API (source: ons-openapi.md 1.1). OnsMessagePush is
// documented with 600/60 s and, later, with 10/s: the later one holds. Whether
// windows slide is not documented.
var operations = map[string]operation{
	"OnsMessagePush":                  {strings.Fields("ClientId GroupId MsgId Topic"), "mq:SUB", tenPerSecond, (*Server).push},
	"OnsConsumerGetConnection":        {strings.Fields("GroupId"), "mq:QueryConsumerConnection", tenPerSecond, (*Server).connected},
	"OnsConsumerStatus":               {strings.Fields("GroupId"), "mq:QueryConsumerStatus", tenPerSecond, (*Server).consumerStatus},
	"OnsConsumerAccumulate":           {strings.Fields("GroupId"), "mq:QueryConsumerAccumulate", tenPerSecond, (*Server).accumulated},
	"OnsGroupSubDetail":               {strings.Fields("GroupId InstanceId"), "mq:QueryGroupSubDetail", sixHundredPerMin, (*Server).subscribed},
	"OnsMessageGetByMsgId":            {strings.Fields("MsgId Topic"), "mq:QueryMessage", tenPerSecond, (*Server).get},
	"OnsMessageGetByKey":              {strings.Fields("Key Topic"), "mq:QueryMessage", tenPerSecond, (*Server).getByKey},
	"OnsMessagePageQueryByTopic":      {strings.Fields("Topic BeginTime EndTime CurrentPage"), "mq:QueryMessage", tenPerMin, (*Server).page},
	"OnsMessageTrace":                 {strings.Fields("MsgId Topic"), "mq:QueryMessageTrace", tenPerSecond, (*Server).trace},
	"OnsDLQMessageGetById":            {strings.Fields("GroupId MsgId"), "mq:QueryDLQMessage", sixHundredPerMin, (*Server).get},
	"OnsDLQMessagePageQueryByGroupId": {strings.Fields("GroupId BeginTime EndTime CurrentPage"), "mq:QueryDLQMessage", sixHundredPerMin, (*Server).page},
	"OnsDLQMessageResendById":         {strings.Fields("GroupId MsgId"), "mq:ResendDLQMessage", sixHundredPerMin, (*Server).resend},
}

// resolve checks the operation's parameters and finds what they name. All
// instances have a namespace, so InstanceId must be sent.
func (s *Server) resolve(c *call) *refusal {
	p := c.params
	for _, name := range c.op.required {
		if p[name] == "" {
			return missing(name)
		}
	}
	for _, name := range []string{"InstanceId", "Topic", "GroupId", "MsgId", "ClientId", "TaskId"} {
		if len(p[name]) > 255 || strings.ContainsFunc(p[name], func(r rune) bool { return r <= ' ' || r >= unicode.MaxASCII }) {
			return refuse("BIZ_FIELD_CHECK_INVALID", "Parameter check failed: %s.", name)
		}
	}
	for _, name := range []string{"BeginTime", "EndTime", "CurrentPage", "PageSize"} {
		if _, err := strconv.ParseInt(p[name], 10, 64); err != nil && p[name] != "" {
			return refuse("Invalid"+name, "The specified parameter %s is not valid.", name)
		}
	}
	asks := func(name string) bool { return slices.Contains(c.op.required, name) }
	c.in = s.instances[p["InstanceId"]]
	switch {
	case p["RegionId"] != "" && p["RegionId"] != s.data.Region:
		return refuse("BIZ_REGION_NOT_FOUND", "The region is not served here.")
	case c.in == nil:
		return refuse("INSTANCE_NOT_FOUND", "The instance does not exist.")
	case asks("Topic") && !slices.Contains(c.in.Topics, p["Topic"]):
		return refuse("BIZ_TOPIC_NOT_FOUND", "The topic does not exist.")
	case asks("GroupId") && c.in.groups[p["GroupId"]] == nil:
		return refuse("BIZ_SUBSCRIPTION_NOT_FOUND", "The consumer group does not exist.")
	}
	c.group, c.topic = c.in.groups[p["GroupId"]], p["Topic"]
	if !asks("Topic") {
		c.topic = "%DLQ%" + p["GroupId"]
	}
	if asks("MsgId") {
		if c.message = c.in.find(c.topic, p["MsgId"], c.at); c.message == nil {
			return noMessage()
		}
	}
	return nil
}

// number is a parameter that resolve has checked; 0 when it is not sent.
func (c *call) number(name string) int64 {
	n, _ := strconv.ParseInt(c.params[name], 10, 64)
	return n
}

func (c *call) flag(name string) bool { return strings.EqualFold(c.params[name], "true") }

// online lists the connected clients of the call's group.
func (s *Server) online(c *call) []*client { return c.group.online(c.at.Sub(s.start)) }

func noMessage() *refusal { return refuse("BIZ_NO_MESSAGE", "No message matches.") }

func notOnline() *refusal {
	return refuse("BIZ_CONSUMER_NOT_ONLINE", "The consumer is not online.")
}

// window is the state of one quota.
type window struct {
	Quota
	accepted []time.Time // those that still count
}

// take counts a call and reports whether the quota has room. Refused calls do
// not count.
func (w *window) take(now time.Time) bool {
	if w.Kind == "none" {
		return true
	}
	w.accepted = slices.DeleteFunc(w.accepted, func(at time.Time) bool {
		if w.Kind == "fixed" {
			return at.Before(now.Truncate(w.Window))
		}
		return now.Sub(at) >= w.Window
	})
	if len(w.accepted) >= w.Limit {
		return false
	}
	w.accepted = append(w.accepted, now)
	return true
}
