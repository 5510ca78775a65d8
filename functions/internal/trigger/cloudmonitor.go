package trigger

import (
	"bytes"
	"strings"

	"github.com/ons-repush/ons-repush/events"
)

// cloudMonitor lists the threshold alerts of Alibaba Cloud CloudMonitor: the
// webhook's form, which older rules send as JSON, and what a rule writes to an
// MNS queue or topic (source: help 60714 and 119889). The groupId beside the
// dimensions is an application group of CloudMonitor and no consumer's. Of one
// resource, metricData says what resources leaves out: the sample of 119889 has the
// userId there alone. metricName of a webhook may be the name for people, and then
// rawMetricName is the metric's; "null" stands for what is not there (source: help
// 60714, its table and sample).
var cloudMonitor = []monitor{
	{members: []string{"alertState", "metricName", "dimensions"}, read: cloudMonitorAlerts("alertName", "alertState", "dimensions")},
	{members: []string{"curLevel", "metricName", "resources"}, read: cloudMonitorAlerts("ruleName", "curLevel", "resources")},
}

func cloudMonitorAlerts(rule, state, dimensions string) func(object) ([]alert, error) {
	return func(o object) (all []alert, err error) {
		each := dimensionsOf(o.get(dimensions))
		for _, name := range []string{"instanceId", "groupId", "topic"} {
			if value := o.object("metricData").get(name); len(each) == 1 && value != nil && each[0].get(name) == nil {
				each[0] = append(each[0], events.Member{Name: name, Value: value})
			}
		}
		metric := o.text("rawMetricName")
		if metric == "" || metric == "null" {
			metric = o.text("metricName")
		}
		for _, labels := range each {
			all = append(all, alert{metric: metric, rule: o.text(rule), stateField: state, state: o.text(state), labels: labels})
		}
		return all, nil
	}
}

// dimensionsOf reads an object, an array of objects, either of them in a string,
// or "{name=value, name=value}"; nothing of that is one object without members,
// and neither is text that could be several.
func dimensionsOf(raw []byte) (all []object) {
	if text, err := unquote(raw); err == nil {
		raw = bytes.TrimSpace(text)
	}
	list, err := elements(raw)
	if err != nil || len(list) == 0 {
		list = append(list, raw)
	}
	for _, one := range list {
		labels, err := split(one)
		text := strings.TrimSuffix(strings.TrimPrefix(string(one), "{"), "}")
		if err == nil || strings.ContainsAny(text, "{}[]") {
			all = append(all, labels)
			continue
		}
		for pair := range strings.SplitSeq(text, ",") {
			if name, value, is := strings.Cut(pair, "="); is {
				labels = append(labels, events.Member{Name: strings.TrimSpace(name), Value: encode(strings.TrimSpace(value))})
			}
		}
		all = append(all, labels)
	}
	return all
}
