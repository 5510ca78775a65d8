package openapi

import (
	"context"
	"strings"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/services/ons"
)

// Message is what the API says of a stored message, its body left out.
type Message struct {
	MsgID string `json:"msgId"`
	Topic string `json:"topic"` // without the instance
	// StoredAt is when the broker stored it, BornAt when the producer made it;
	// zero when not said.
	StoredAt       time.Time         `json:"storedAt,omitzero"`
	BornAt         time.Time         `json:"bornAt,omitzero"`
	StoreHost      string            `json:"storeHost"`
	BornHost       string            `json:"bornHost"`
	ReconsumeTimes int               `json:"reconsumeTimes"`
	Properties     map[string]string `json:"properties"`
}

// Message calls OnsMessageGetByMsgId (mq:QueryMessage). What does not exist is an
// error with the code [NoMessage].
func (c *Client) Message(ctx context.Context, instanceID, topic, msgID string) (Message, error) {
	request, response := ons.CreateOnsMessageGetByMsgIdRequest(), ons.CreateOnsMessageGetByMsgIdResponse()
	request.InstanceId, request.Topic, request.MsgId = instanceID, topic, msgID
	err := c.call(ctx, "mq:QueryMessage", request, response)
	return found(request.GetActionName(), instanceID, response.Data, response.RequestId, err)
}

// DeadLetter calls OnsDLQMessageGetById (mq:QueryDLQMessage) for the group's copy
// of a message, by the id of either. None is an error with the code [NoMessage].
func (c *Client) DeadLetter(ctx context.Context, instanceID, groupID, msgID string) (Message, error) {
	request, response := ons.CreateOnsDLQMessageGetByIdRequest(), ons.CreateOnsDLQMessageGetByIdResponse()
	request.InstanceId, request.GroupId, request.MsgId = instanceID, groupID, msgID
	err := c.call(ctx, "mq:QueryDLQMessage", request, response)
	return found(request.GetActionName(), instanceID, response.Data, response.RequestId, err)
}

func found(op, instanceID string, d ons.Data, requestID string, err error) (Message, error) {
	if err == nil && d.MsgId == "" {
		err = &Error{Op: op, Status: 200, RequestID: requestID, Message: "the answer has no message in it"}
	}
	if err != nil {
		return Message{}, err
	}
	m := Message{
		MsgID: d.MsgId, Topic: plain(instanceID, d.Topic), StoredAt: instant(d.StoreTimestamp), BornAt: instant(d.BornTimestamp),
		StoreHost: d.StoreHost, BornHost: d.BornHost, ReconsumeTimes: d.ReconsumeTimes, Properties: make(map[string]string),
	}
	for _, p := range d.PropertyList.MessageProperty {
		m.Properties[p.Name] = p.Value
	}
	return m, nil
}

// Track is how far a group is with a message.
type Track struct {
	Group string `json:"group"`
	// Type is CONSUMED (the group's offset has passed the message, whatever became
	// of it), CONSUMED_BUT_FILTERED, NOT_CONSUME_YET, NOT_ONLINE, UNKNOWN, PULL or
	// CONSUME_BROADCASTING (source: help page OnsMessageTrace; apache/rocketmq
	// TrackType).
	Type      string `json:"type"`
	Exception string `json:"exception,omitempty"` // the API's text for UNKNOWN; mostly empty
}

// Trace calls OnsMessageTrace (mq:QueryMessageTrace). What does not exist is an
// error with the code [NoMessage].
func (c *Client) Trace(ctx context.Context, instanceID, topic, msgID string) (tracks []Track, err error) {
	request, response := ons.CreateOnsMessageTraceRequest(), ons.CreateOnsMessageTraceResponse()
	request.InstanceId, request.Topic, request.MsgId = instanceID, topic, msgID
	err = c.call(ctx, "mq:QueryMessageTrace", request, response)
	for _, t := range response.Data.MessageTrack {
		tracks = append(tracks, Track{Group: plain(instanceID, t.ConsumerGroup), Type: t.TrackType, Exception: t.ExceptionDesc})
	}
	return tracks, err
}

// Connection is one client of a group. Its id changes when it restarts.
type Connection struct {
	ClientID string `json:"clientId"`
	Addr     string `json:"addr"` // host:port
	Language string `json:"language"`
	Version  string `json:"version"`
}

// Connections calls OnsConsumerGetConnection (mq:QueryConsumerConnection). Nobody
// online is an error with the code [NotOnline], or an empty list.
func (c *Client) Connections(ctx context.Context, instanceID, groupID string) (all []Connection, err error) {
	request, response := ons.CreateOnsConsumerGetConnectionRequest(), ons.CreateOnsConsumerGetConnectionResponse()
	request.InstanceId, request.GroupId = instanceID, groupID
	err = c.call(ctx, "mq:QueryConsumerConnection", request, response)
	for _, d := range response.Data.ConnectionList.ConnectionDo {
		all = append(all, Connection{d.ClientId, d.ClientAddr, d.Language, d.Version})
	}
	return all, err
}

// SubscribeAlike calls OnsConsumerStatus (mq:QueryConsumerStatus), which is slow: it
// reports whether all online clients of the group subscribe to the same.
func (c *Client) SubscribeAlike(ctx context.Context, instanceID, groupID string) (bool, error) {
	request, response := ons.CreateOnsConsumerStatusRequest(), ons.CreateOnsConsumerStatusResponse()
	request.InstanceId, request.GroupId = instanceID, groupID
	err := c.call(ctx, "mq:QueryConsumerStatus", request, response)
	return response.Data.SubscriptionSame, err
}

// Accumulate calls OnsConsumerAccumulate (mq:QueryConsumerAccumulate); its answer is
// whether it may be called.
func (c *Client) Accumulate(ctx context.Context, instanceID, groupID string) error {
	request := ons.CreateOnsConsumerAccumulateRequest()
	request.InstanceId, request.GroupId = instanceID, groupID
	return c.call(ctx, "mq:QueryConsumerAccumulate", request, ons.CreateOnsConsumerAccumulateResponse())
}

// Push calls OnsMessagePush (mq:SUB). nil means that a client was asked to consume
// the message once more, and never that it did. It is not idempotent.
func (c *Client) Push(ctx context.Context, instanceID, topic, groupID, clientID, msgID string) error {
	request := ons.CreateOnsMessagePushRequest()
	request.InstanceId, request.Topic, request.GroupId, request.ClientId, request.MsgId = instanceID, topic, groupID, clientID, msgID
	return c.call(ctx, "mq:SUB", request, ons.CreateOnsMessagePushResponse())
}

// plain is a topic or group without its instance, which stands in front, or behind
// %RETRY% and %DLQ% (source: apache/rocketmq NamespaceUtil).
func plain(instanceID, name string) string { return strings.Replace(name, instanceID+"%", "", 1) }

// instant reads a time in ms; zero for none, and for one that JSON cannot hold.
func instant(ms int64) time.Time {
	if t := time.UnixMilli(ms).UTC(); ms > 0 && t.Year() <= 9999 {
		return t
	}
	return time.Time{}
}
