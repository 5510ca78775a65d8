package trigger

import "cmp"

// armsTest is what the console of ARMS sends as a test: the name of what it puts the
// alerts in place of otherwise (source: ARMS 260979, "Limits").
const armsTest = "$alertmanager_content"

// alertmanager is the notification of a Prometheus Alertmanager, which ARMS sends
// for $alertmanager_content (source: Prometheus "Webhook receiver", ARMS 260979).
// Prometheus drops the name of the metric, and nothing in it names the instance:
// the rule's own labels have to, by
//
//	metric    metric, metricName, metric_name or __name__, else the alertname
//	instance  instanceId or instance_id; "instance" is what was scraped
//	group     groupId, group_id, consumerGroup, consumer_group (RocketMQ 5) or group (rocketmq-exporter)
//	topic     topic, topicName or topic_name
var alertmanager = []monitor{{members: []string{"alerts", "status"}, read: func(o object) (all []alert, err error) {
	list, err := elements(o.get("alerts"))
	for _, raw := range list {
		one, _ := split(raw) // no object: an alert of nothing
		labels, status := one.object("labels"), one.text("status")
		name := labels.text("alertname")
		metric := cmp.Or(labels.spelt("metric", "metricname"), labels.text("__name__"), name)
		all = append(all, alert{metric: metric, rule: name, stateField: "alerts.status", state: status, labels: labels})
	}
	return all, err
}}}
