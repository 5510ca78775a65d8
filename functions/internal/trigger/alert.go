package trigger

import (
	"bytes"
	"cmp"
	"net/url"
	"slices"
	"strings"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// monitors is in the order in which they are tried.
var monitors = slices.Concat(cloudMonitor, alertmanager, cloudWatch)

// maxAlerts bounds the alerts of one notification.
const maxAlerts = 100

// monitor is one shape in which somebody says that a metric is out of bounds.
type monitor struct {
	// members tell it from every other shape.
	members []string
	read    func(object) ([]alert, error)
}

func monitorOf(o object) *monitor {
	if at := slices.IndexFunc(monitors, func(m monitor) bool { return o.hasAll(m.members) }); at >= 0 {
		return &monitors[at]
	}
	return nil
}

// alert is what a monitor says of one group.
type alert struct {
	// metric and rule are names. stateField is where the state stands.
	metric, rule      string
	stateField, state string
	// labels name the instance, the group and perhaps the topic.
	labels object
}

type meaning struct {
	prefix string
	source events.Selection
}

// meanings are those of metrics, by how their names begin: in CloudMonitor
// (source: fc-eventbridge.md 5.1), in RocketMQ 5 (source: apache/rocketmq
// BrokerMetricsConstant) and in apache/rocketmq-exporter (source: its README).
var meanings = []meaning{
	{"SendDLQMessageCount", events.DeadLetters},
	{"rocketmq_send_to_dlq_messages", events.DeadLetters},
	{"ConsumerLag", events.Unconsumed}, // and ConsumerLagLatency
	{"rocketmq_consumer_lag_", events.Unconsumed},
	{"rocketmq_group_diff", events.Unconsumed},
	{"rocketmq_group_get_latency", events.Unconsumed},
}

// States in which there is something to do, and in which there is not, of all
// monitors. A CloudMonitor alert in MNS has the level as its state.
var (
	firing = []string{"ALERT", "ALARM", "CRITICAL", "WARN", "INFO", "firing"}
	calm   = []string{"OK", "INSUFFICIENT_DATA", "resolved"}
)

// alerts reads what a monitor sent, whose bytes are raw.
func (d *decoder) alerts(m *monitor, raw []byte, o object, from origin) {
	if !d.Plan {
		d.reject(raw, from, d.misdirected("event", true))
		return
	}
	if !d.fits(raw, from) {
		return
	}
	all, err := m.read(o)
	if err == nil && len(all) > maxAlerts {
		err = refused(CodeTooLarge, "more than %d alerts in one notification: group them", maxAlerts)
	}
	if err != nil {
		d.reject(raw, from, err)
		return
	}
	from.key = from.keyOf(raw)
	for i, a := range all {
		each := from
		if len(all) > 1 {
			each = from.element(i)
		}
		d.add(raw, each, a.delivery())
	}
}

// delivery is what the alert asks for. What is of no interest is not judged.
func (a alert) delivery() pushing.Delivery {
	metric, _, _ := strings.Cut(a.metric, "#") // "#60" is the period
	at := slices.IndexFunc(meanings, func(m meaning) bool { return strings.HasPrefix(metric, m.prefix) })
	reason := events.ClipReason("alert: " + cmp.Or(metric, "?") + " of rule " + cmp.Or(a.rule, "?"))
	d := pushing.Delivery{Alert: true}
	switch {
	case at < 0:
		d.Nothing = events.ClipReason("nothing to do: the metric is neither SendDLQMessageCount… nor ConsumerLag…; " + reason)
	case slices.Contains(calm, a.state):
		d.Nothing = events.ClipReason("nothing to do: the state is " + a.state + "; " + reason)
	case !slices.Contains(firing, a.state):
		rule := "must be one of " + strings.Join(slices.Concat(firing, calm), ", ")
		d.Err = &events.ValidationError{Problems: []events.Problem{{Field: a.stateField, Rule: rule}}}
	default:
		p := a.plan(meanings[at].source, reason)
		if d.Err = p.Validate(); d.Err == nil {
			d.Plan = &p
		}
	}
	return d
}

// plan has no topic when that is a copy's (%RETRY%…): the group's own then are
// all looked at. On a broker, names begin with their instance's.
func (a alert) plan(source events.Selection, reason string) events.Plan {
	p := events.Plan{InstanceID: a.labels.spelt("instanceid"), Reason: reason, Source: source}
	p.GroupID = strings.TrimPrefix(a.labels.spelt("groupid", "consumergroup", "group"), p.InstanceID+"%")
	p.Topic = strings.TrimPrefix(a.labels.spelt("topic", "topicname"), p.InstanceID+"%")
	if strings.HasPrefix(p.Topic, "%") {
		p.Topic = ""
	}
	return p
}

// isForm tells a webhook's form from every other text.
func isForm(raw []byte) bool {
	return bytes.Contains(raw, []byte("alertState=")) && bytes.Contains(raw, []byte("metricName="))
}

// form reads application/x-www-form-urlencoded as the JSON object it stands for.
func (d *decoder) form(raw []byte, from origin) {
	if !d.fits(raw, from) { // before it is taken apart
		return
	}
	fields, err := url.ParseQuery(string(raw))
	var o object
	for name, values := range fields {
		if len(values) > 1 {
			err = refused(CodeUnreadable, "a field is given twice")
		}
		o = append(o, events.Member{Name: name, Value: encode(values[0])})
	}
	if m := monitorOf(o); m != nil && err == nil {
		d.alerts(m, raw, o, from)
		return
	}
	d.reject(raw, from, refused(CodeUnreadable, "no valid form of an alert"))
}
