package ons

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/responses"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ons"

	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Quotas returns the calls a second that the API allows of each operation that
// planning calls, for one account and region (source: DOC "API rate quota",
// ons-openapi.md 1.1). The pages have theirs by the minute.
func Quotas() map[string]float64 {
	return map[string]float64{
		planning.OpDeadLetters: 600. / 60,
		planning.OpMessages:    10. / 60,
		planning.OpByID:        10,
		planning.OpByKey:       10,
		planning.OpTrace:       10,
		planning.OpLag:         10,
		planning.OpOnline:      10,
	}
}

// DeadLetters calls OnsDLQMessagePageQueryByGroupId for q.GroupID; see
// [planning.Pager]. BIZ_NO_MESSAGE is a page of no messages and 0 pages, also in
// the middle of a task.
//
// BornAt of a dead letter is that of its origin (source: apache/rocketmq 8fc57f1,
// AbstractSendMessageProcessor.consumerSendMsgBack), unless the consumer could
// not send the message back and sent a new one: then it is the time of that
// (DefaultMQProducerImpl.sendKernelImpl).
func (c *Client) DeadLetters(ctx context.Context, q planning.Query) (planning.Page, error) {
	request := ons.CreateOnsDLQMessagePageQueryByGroupIdRequest()
	request.InstanceId, request.GroupId, request.TaskId = q.InstanceID, q.GroupID, q.TaskID
	request.BeginTime, request.EndTime = requests.NewInteger64(q.From.UnixMilli()), requests.NewInteger64(q.To.UnixMilli())
	request.CurrentPage, request.PageSize = requests.NewInteger(q.Number), requests.NewInteger(planning.PageSize)
	response := ons.CreateOnsDLQMessagePageQueryByGroupIdResponse()
	err := c.seek(ctx, request, response)
	return page(q, response.MsgFoundDo), err
}

// Messages calls OnsMessagePageQueryByTopic for q.Topic; see [planning.Pager]
// and, for BIZ_NO_MESSAGE, [Client.DeadLetters].
func (c *Client) Messages(ctx context.Context, q planning.Query) (planning.Page, error) {
	request := ons.CreateOnsMessagePageQueryByTopicRequest()
	request.InstanceId, request.Topic, request.TaskId = q.InstanceID, q.Topic, q.TaskID
	request.BeginTime, request.EndTime = requests.NewInteger64(q.From.UnixMilli()), requests.NewInteger64(q.To.UnixMilli())
	request.CurrentPage, request.PageSize = requests.NewInteger(q.Number), requests.NewInteger(planning.PageSize)
	response := ons.CreateOnsMessagePageQueryByTopicResponse()
	err := c.seek(ctx, request, response)
	return page(q, response.MsgFoundDo), err
}

// page never counts fewer pages than there are.
func page(q planning.Query, found ons.MsgFoundDo) planning.Page {
	p := planning.Page{TaskID: cmp.Or(found.TaskId, q.TaskID), Pages: int(min(max(found.MaxPageCount, 0), planning.MaxPages))}
	for _, m := range found.MsgFoundList.OnsRestMessageDo {
		p.Messages = append(p.Messages, stored(q.InstanceID, m, q.GroupID != ""))
		p.Pages = max(p.Pages, q.Number)
	}
	return p
}

// ByID calls OnsMessageGetByMsgId; see [planning.Finder].
func (c *Client) ByID(ctx context.Context, instanceID, topic, msgID string) ([]planning.Stored, error) {
	request := ons.CreateOnsMessageGetByMsgIdRequest()
	request.InstanceId, request.Topic, request.MsgId = instanceID, topic, msgID
	response := ons.CreateOnsMessageGetByMsgIdResponse()
	d := &response.Data
	if err := c.seek(ctx, request, response); err != nil || d.MsgId == "" {
		return nil, err
	}
	return []planning.Stored{stored(instanceID, ons.OnsRestMessageDo{
		Topic: d.Topic, MsgId: d.MsgId, OffsetId: d.OffsetId, StoreTimestamp: d.StoreTimestamp, BornTimestamp: d.BornTimestamp,
		PropertyList: ons.PropertyListInOnsDLQMessagePageQueryByGroupId(d.PropertyList),
	}, false)}, nil
}

// ByKey calls OnsMessageGetByKey, which the vendor calls fuzzy; see
// [planning.Finder]. How many it finds at most is not documented.
func (c *Client) ByKey(ctx context.Context, instanceID, topic, key string) (found []planning.Stored, err error) {
	request := ons.CreateOnsMessageGetByKeyRequest()
	request.InstanceId, request.Topic, request.Key = instanceID, topic, key
	response := ons.CreateOnsMessageGetByKeyResponse()
	err = c.seek(ctx, request, response)
	for _, m := range response.Data.OnsRestMessageDo {
		found = append(found, stored(instanceID, m, false))
	}
	return found, err
}

// seek makes a call that finds messages. That there are none is no error, and
// leaves response empty.
func (c *Client) seek(ctx context.Context, request requests.AcsRequest, response responses.AcsResponse) error {
	_, err := c.call(ctx, c.list, request, response)
	if e := (*pushing.Error)(nil); errors.As(err, &e) && e.Code == pushing.CodeNoMessage {
		return nil
	}
	return err
}

// Trace calls OnsMessageTrace; see [planning.Watcher]. A message that does not
// exist is an error with code BIZ_NO_MESSAGE.
func (c *Client) Trace(ctx context.Context, instanceID, topic, msgID string) (map[string]string, error) {
	request := ons.CreateOnsMessageTraceRequest()
	request.InstanceId, request.Topic, request.MsgId = instanceID, topic, msgID
	response := ons.CreateOnsMessageTraceResponse()
	_, err := c.call(ctx, c.read, request, response)
	byGroup := map[string]string{}
	for _, track := range response.Data.MessageTrack {
		byGroup[plain(instanceID, track.ConsumerGroup)] = track.TrackType
	}
	return byGroup, err
}

// Lag calls OnsConsumerAccumulate; see [planning.Watcher]. What begins with % is
// a topic of retries or dead letters and left out.
//
// LastTimestamp is that of the newest message consumed, although one queue may
// be far behind the others, and DelayTime is the greatest delay, in ms (source:
// alibabacloud-java-sdk OnsConsumerAccumulateResponseBody). Consumed is the
// earlier of both, as far as the clocks agree.
func (c *Client) Lag(ctx context.Context, instanceID, groupID string) (lags []planning.Lag, err error) {
	request := ons.CreateOnsConsumerAccumulateRequest()
	request.InstanceId, request.GroupId, request.Detail = instanceID, groupID, requests.NewBoolean(true)
	response := ons.CreateOnsConsumerAccumulateResponse()
	_, err = c.call(ctx, c.read, request, response)
	for _, d := range response.Data.DetailInTopicList.DetailInTopicDo {
		topic := plain(instanceID, d.Topic)
		if d.TotalDiff > 0 && !strings.HasPrefix(topic, "%") {
			consumed := min(d.LastTimestamp, c.now().UnixMilli()-max(d.DelayTime, 0))
			lags = append(lags, planning.Lag{Topic: topic, Messages: d.TotalDiff, Consumed: instant(consumed)})
		}
	}
	return lags, err
}

// stored keeps what planning needs: nothing of the body, and of the properties
// the names of the message and its origin.
func stored(instanceID string, m ons.OnsRestMessageDo, dead bool) planning.Stored {
	property := func(name string) string {
		for _, p := range m.PropertyList.MessageProperty {
			if p.Name == name {
				return p.Value
			}
		}
		return ""
	}
	s := planning.Stored{
		Topic: plain(instanceID, m.Topic), MsgID: cmp.Or(property("UNIQ_KEY"), m.MsgId), OffsetID: m.OffsetId,
		StoredAt: instant(m.StoreTimestamp), BornAt: instant(m.BornTimestamp),
	}
	if s.OffsetID == "" && m.MsgId != property("UNIQ_KEY") {
		s.OffsetID = m.MsgId
	}
	if dead {
		s.Origin = pushing.OriginOf(instanceID, property)
	}
	return s
}

// plain is the name of a topic or group without its instance, which stands in
// front, or behind %RETRY% and %DLQ% (source: apache/rocketmq NamespaceUtil).
func plain(instanceID, name string) string { return strings.Replace(name, instanceID+"%", "", 1) }

// instant reads a time in ms; zero for one that JSON cannot hold.
func instant(ms int64) time.Time {
	if t := time.UnixMilli(ms).UTC(); ms > 0 && t.Year() <= 9999 {
		return t
	}
	return time.Time{}
}
