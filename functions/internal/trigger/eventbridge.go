package trigger

import (
	"cmp"
	"encoding/json"
	"strings"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// eventBridge lists the sources that put a message into the data of a
// CloudEvent: one object in event-driven mode, an array in event streaming, an
// array of JSON strings for Kafka; the subject names the queue or topic (source:
// READMEs of fc-runtime-go-sdk/events, EventBridge pages of the event sources).
// The requestId of MNS changes with every delivery.
var eventBridge = []envelope{
	{eventType: "mq:Topic:SendMessage", members: []string{"topic", "systemProperties", "body"}, open: openRocketMQ},
	{eventType: "mns:Queue:SendMessage", members: []string{"messageId", "messageBody"},
		open: message("acs:mns", "", "messageId", "", "messageBody")},
	{eventType: "alikafka:Topic:Message", members: []string{"topic", "partition", "offset", "value"},
		open: message("acs:alikafka", "", "topic partition offset", "timestamp", "value")},
}

// openRocketMQ reads {topic, systemProperties, userProperties, body}. UNIQ_KEY
// is in EventBridge's sample and absent in the SDK's; the body is text, or an
// object when the source's body type is JSON (source: EventBridge 191238,
// fc-runtime-go-sdk README_RocketMQ). A %DLQ% topic is believed only where the
// platform itself says it, not inside a body somebody wrote.
func openRocketMQ(o object, from origin) []parcel {
	system := o.object("systemProperties")
	if group, is := strings.CutPrefix(o.text("topic"), "%DLQ%"); is && !from.written {
		return []parcel{openDeadLetter(group, append(system, o.object("userProperties")...), from)}
	}
	from = from.named(cmp.Or(from.subject, "acs:mq"), system.text("UNIQ_KEY"))
	return []parcel{content(o, "body", from.inside())}
}

// openDeadLetter makes a request for the origin of a dead letter: pushing the
// copy would hand the consumer a topic it never subscribed. Times are the copy's
// own, so storedAt stays unknown.
func openDeadLetter(group string, properties object, from origin) parcel {
	instance := cmp.Or(properties.text("INSTANCE_ID"), instanceOf(from.subject))
	o := pushing.OriginOf(instance, properties.text)
	body, err := json.Marshal(events.Requested{
		InstanceID: instance, GroupID: strings.TrimPrefix(group, instance+"%"),
		Topic: o.Topic, MsgID: o.MsgID, OffsetID: o.OffsetID, Reason: "dead letter",
	})
	if o.Topic == "" || o.MsgID == "" {
		err = refused(CodeNoOrigin, "no origin: the dead letter names no original topic or no message id; ask for the original message by its id")
	}
	return parcel{body: body, from: from.inside(), err: err}
}

// instanceOf finds the instance in acs:mq:<region>:<account>:<instance>%<topic>
// (source: EventBridge 191238).
func instanceOf(subject string) string {
	instance, _, _ := strings.Cut(subject[strings.LastIndexByte(subject, ':')+1:], "%")
	return instance
}
