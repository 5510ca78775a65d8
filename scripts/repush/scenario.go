package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// ask is one message of the scenario, and the request for it.
type ask struct {
	label string
	event events.Event
	data  events.Requested
	// by is who asks: the plan, or a person by hand, because of what the plan left
	// the message out for.
	by string
}

// Who asks.
const (
	byPlan = "by the plan"
	byHand = "by hand"
)

// expected is what becomes of the sample data set, by the label of the scenario.
var expected = map[string]struct {
	outcome events.Outcome
	by      string
}{
	"stuck":                         {events.Pushed, byPlan},
	"answer cut after the delivery": {events.Unknown, byPlan},
	"expired":                       {events.Expired, byHand + " (origin expired: resend only)"},
	"unknown topic":                 {events.Failed, byHand},
}

// scenario turns the messages of the data set into requests.
func scenario(d *onsd.Data, now time.Time) ([]ask, error) {
	var asks []ask
	for _, step := range d.Scenario {
		for _, id := range step.MsgIDs {
			data := events.Requested{
				InstanceID: step.InstanceID, Topic: step.Topic, GroupID: step.GroupID, MsgID: id,
				Reason: "consumer was down over night", RequestedBy: "repush demo", OperationID: "demo",
			}
			if step.StoredAt != nil {
				data.StoredAt = step.StoredAt.From(now).UTC().Truncate(time.Second)
			}
			raw, err := json.Marshal(data)
			if err != nil {
				return nil, err
			}
			asks = append(asks, ask{label: step.Label, by: byHand, data: data, event: events.Event{
				ID: fmt.Sprintf("demo-%02d", len(asks)+1), Source: "repush/demo", Type: events.TypeMessageRequested, Time: now.UTC(), Data: raw,
			}})
		}
	}
	if len(asks) == 0 {
		return nil, fmt.Errorf("the data file has no scenario: nobody asks for anything")
	}
	return asks, nil
}

// platformEvent is what EventBridge makes of something of this account.
func platformEvent(id, source, kind, subject, region string, at time.Time, data map[string]any) map[string]any {
	return map[string]any{
		"id": id, "source": source, "specversion": "1.0", "type": kind, "subject": subject,
		"time": at.Format(time.RFC3339), "datacontenttype": "application/json; charset=utf-8",
		"aliyunaccountid": demoAccount, "aliyunregionid": region, "aliyunpublishtime": at.Format(time.RFC3339), "data": data,
	}
}

const demoAccount = "123456789012"

// rocketMQ wraps a request the way EventBridge delivers a message of a RocketMQ
// topic, event-driven (source: fc-runtime-go-sdk events/README_RocketMQ.md).
func (a ask) rocketMQ(region string) []byte {
	subject := "acs:mq:" + region + ":" + demoAccount + ":" + a.data.InstanceID + "%repush-requests"
	return encoded(platformEvent("eb-"+a.event.ID, "acs:mq", "mq:Topic:SendMessage", subject, region, a.event.Time, map[string]any{
		"topic":            "repush-requests",
		"systemProperties": map[string]any{"UNIQ_KEY": "demo" + a.event.ID, "INSTANCE_ID": a.data.InstanceID, "CONSUME_START_TIME": a.event.Time.UnixMilli()},
		"userProperties":   map[string]any{},
		"body":             string(encoded(a.event)),
	}))
}

// alertMetric is CloudMonitor's for the dead letters of a group.
const alertMetric = "SendDLQMessageCountPerGid"

// alert is what CloudMonitor writes to an MNS queue when the dead letters of a
// group become many, the way an EventBridge stream delivers it; each time it is
// another message (source: events/samples/alerts/cloudmonitor-mns-queue.json).
func alert(id, region, instanceID, groupID string, now time.Time) []byte {
	resources := encoded(map[string]string{"userId": demoAccount, "instanceId": instanceID, "groupId": groupID})
	body := encoded(map[string]any{
		"ruleId": "putNewAlarm_demo", "ruleName": "dead letters", "curLevel": "CRITICAL", "preLevel": "OK", "resources": string(resources),
		"escalation": map[string]any{"comparisonOperator": "GreaterThanOrEqualToThreshold", "level": 2, "statistics": "Sum", "tag": "CRITICAL", "threshold": "1", "times": 1},
		"metricData": map[string]any{"timestamp": now.UnixMilli(), "userId": demoAccount, "instanceId": instanceID, "groupId": groupID, "Sum": 24},
		"metricName": alertMetric + "#60", "namespace": "acs_rocketmq", "period": "60", "time": now.UnixMilli(), "userId": demoAccount,
		"eventName": "AlertCritical", "eventType": "Alert", "version": "1.0",
	})
	return encoded([]any{platformEvent(id, "MNS-plan-trigger", "mns:Queue:SendMessage", "acs:mns:"+region+":"+demoAccount+":queues/alerts", region, now, map[string]any{
		"requestId": "demo", "messageId": id, "messageBody": string(body),
	})})
}

// sampleRequest is the data of one request that the stand-in can fulfil.
func sampleRequest(d *onsd.Data) string {
	asks, err := scenario(d, time.Now())
	if err != nil {
		return "{}"
	}
	asks[0].data.OperationID, asks[0].data.RequestedBy, asks[0].data.Reason = "", "", "a try"
	return string(encoded(asks[0].data))
}

// sweepEvent asks for what waits in the ledger and is due.
func sweepEvent() []byte {
	return encoded(events.Event{ID: "sweep", Source: "repush/demo", Type: events.TypeSweepRequested})
}
