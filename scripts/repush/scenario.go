package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// ask is one request of the scenario.
type ask struct {
	label string
	event events.Event
	data  events.Requested
}

// expected outcomes of the sample data set, by the label of the scenario.
var expected = map[string]events.Outcome{
	"stuck":                         events.Pushed,
	"answer cut after the delivery": events.Unknown,
	"expired":                       events.Expired,
	"unknown topic":                 events.Failed,
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
			asks = append(asks, ask{label: step.Label, data: data, event: events.Event{
				ID: fmt.Sprintf("demo-%02d", len(asks)+1), Source: "repush/demo", Type: events.TypeMessageRequested, Time: now.UTC(), Data: raw,
			}})
		}
	}
	if len(asks) == 0 {
		return nil, fmt.Errorf("the data file has no scenario: nobody asks for anything")
	}
	return asks, nil
}

// rocketMQ wraps a request the way EventBridge delivers a message of a RocketMQ
// topic, event-driven (source: fc-runtime-go-sdk events/README_RocketMQ.md).
func (a ask) rocketMQ(region string) ([]byte, error) {
	body, err := json.Marshal(a.event)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"id": "eb-" + a.event.ID, "source": "acs:mq", "specversion": "1.0", "type": "mq:Topic:SendMessage",
		"subject": "acs:mq:" + region + ":123456789012:" + a.data.InstanceID + "%repush-requests",
		"time":    a.event.Time.Format(time.RFC3339), "datacontenttype": "application/json; charset=utf-8",
		"aliyunaccountid": "123456789012", "aliyunregionid": region, "aliyunpublishtime": a.event.Time.Format(time.RFC3339),
		"data": map[string]any{
			"topic":            "repush-requests",
			"systemProperties": map[string]any{"UNIQ_KEY": "demo" + a.event.ID, "INSTANCE_ID": a.data.InstanceID, "CONSUME_START_TIME": a.event.Time.UnixMilli()},
			"userProperties":   map[string]any{},
			"body":             string(body),
		},
	})
}

// sampleRequest is the data of one request that the stand-in can fulfil.
func sampleRequest(d *onsd.Data) string {
	asks, err := scenario(d, time.Now())
	if err != nil {
		return "{}"
	}
	asks[0].data.OperationID, asks[0].data.RequestedBy, asks[0].data.Reason = "", "", "a try"
	raw, _ := json.Marshal(asks[0].data)
	return string(raw)
}

// sweepEvent asks for what waits in the ledger and is due.
func sweepEvent() []byte {
	raw, _ := json.Marshal(events.Event{ID: "sweep", Source: "repush/demo", Type: events.TypeSweepRequested}) // cannot fail
	return raw
}
