package pushing

import (
	"cmp"
	"strings"
)

// Origin is the message that a dead letter is a copy of.
type Origin struct {
	Topic, MsgID string
	// OffsetID is the origin's other id; empty when not known, or when it is
	// MsgID.
	OffsetID string
}

// OriginOf reads the properties of a dead letter. The copy keeps the UNIQ_KEY of
// its origin and has an offset id and a store time of its own (source: RocketMQ
// 4.9.8, baselines.md A4). Topics are without the name of the instance. A zero
// Topic or MsgID: the dead letter does not say where it came from.
//
// A message that was retried keeps REAL_TOPIC from the delay queue, and that is
// %RETRY%<group> (source: apache/rocketmq ScheduleMessageService.messageTimeUp
// copies the properties): a name of such a copy is passed over for the next.
func OriginOf(instanceID string, property func(name string) string) Origin {
	offsetID := cmp.Or(property("DLQ_ORIGIN_MESSAGE_ID"), property("ORIGIN_MESSAGE_ID"))
	o := Origin{MsgID: cmp.Or(property("UNIQ_KEY"), offsetID)}
	if offsetID != o.MsgID {
		o.OffsetID = offsetID
	}
	for _, name := range []string{"RETRY_TOPIC", "REAL_TOPIC", "DLQ_ORIGIN_TOPIC"} { // the best last
		topic := strings.TrimPrefix(property(name), instanceID+"%")
		if topic != "" && topic[0] != '%' {
			o.Topic = topic
		}
	}
	return o
}
