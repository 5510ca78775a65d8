package trigger

import "github.com/ons-repush/ons-repush/events"

// cloudWatch is an alarm of Amazon CloudWatch as SNS delivers it (source:
// aws-lambda-go events CloudWatchAlarmSNSPayload). The metric is the operator's
// own copy of one of RocketMQ, so any namespace will do. An alarm on an expression
// has no MetricName, a composite one no Trigger: they say nothing to us.
var cloudWatch = []monitor{{members: []string{"AlarmName", "NewStateValue"}, read: func(o object) ([]alert, error) {
	trigger := o.object("Trigger")
	a := alert{metric: trigger.text("MetricName"), rule: o.text("AlarmName"), stateField: "NewStateValue", state: o.text("NewStateValue")}
	list, _ := elements(trigger.get("Dimensions")) // none: no instance
	for _, raw := range list {
		dimension, _ := split(raw)
		a.labels = append(a.labels, events.Member{Name: dimension.text("name"), Value: dimension.get("value")})
	}
	return []alert{a}, nil
}}}
