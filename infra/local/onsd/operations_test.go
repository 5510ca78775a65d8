package onsd

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ons"
	"github.com/google/go-cmp/cmp"
)

// vendor calls one operation through the vendor's SDK and returns what a test
// wants to know of the answer.
type vendor func(c *ons.Client, host, format string) (any, error)

func prepare(r *requests.RpcRequest, host, format string) {
	r.Domain, r.AcceptFormat = host, format
}

func millis(ago time.Duration) requests.Integer {
	return requests.Integer(fmt.Sprint(time.Now().Add(-ago).UnixMilli()))
}

func codeOf(err error) string {
	if server, ok := err.(*errors.ServerError); ok {
		return server.ErrorCode()
	}
	return fmt.Sprint(err)
}

func push(c *ons.Client, host, format, msgID, clientID string) (*ons.OnsMessagePushResponse, error) {
	r := ons.CreateOnsMessagePushRequest()
	prepare(r.RpcRequest, host, format)
	r.InstanceId, r.GroupId, r.Topic, r.MsgId, r.ClientId = testInstance, testGroup, testTopic, msgID, clientID
	return c.OnsMessagePush(r)
}

// operationTests maps a sentence to a call by the vendor's SDK and its answer.
func operationTests() map[string]struct {
	call vendor
	want any
} {
	type test = struct {
		call vendor
		want any
	}
	return map[string]test{
		"a push answers nothing but a request id": {func(c *ons.Client, host, format string) (any, error) {
			a, err := push(c, host, format, goodID, testClient)
			return len(a.RequestId), err
		}, 36},
		"connections list who is online": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsConsumerGetConnectionRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.GroupId = testInstance, testGroup
			a, err := c.OnsConsumerGetConnection(r)
			ids := []string{}
			for _, one := range a.Data.ConnectionList.ConnectionDo {
				ids = append(ids, one.ClientId)
			}
			if len(ids) == 0 {
				return nil, err
			}
			return []any{ids, a.Data.ConnectionList.ConnectionDo[0], a.Data.MessageModel}, err
		}, []any{
			[]string{testClient, "slow", "stuck", "failing", "leaves", "window"},
			ons.ConnectionDo{ClientId: testClient, ClientAddr: "192.0.2.7:28698", Language: "JAVA", Version: "V4_3_6", RemoteIP: "192.0.2.7"}, "CLUSTERING",
		}},
		"status tells lag, clients and stacks": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsConsumerStatusRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.GroupId, r.Detail, r.NeedJstack = testInstance, testGroup, "true", "true"
			a, err := c.OnsConsumerStatus(r)
			infos := a.Data.ConsumerConnectionInfoList.ConsumerConnectionInfoDo
			if len(infos) == 0 {
				return nil, err
			}
			return []any{
				a.Data.Online, a.Data.TotalDiff, a.Data.ConsumeModel, a.Data.InstanceId, len(a.Data.ConnectionSet.ConnectionDo), len(infos),
				infos[0].ConsumeType, infos[0].SubscriptionSet.SubscriptionData[0].Topic, infos[0].RunningDataList.ConsumerRunningDataDo[0].GroupId,
				infos[0].Jstack.ThreadTrackDo[0].TrackList.Track, a.Data.DetailInTopicList.DetailInTopicDo[0].Topic,
			}, err
		}, []any{
			true, int64(1), "CLUSTERING", testInstance, 6, 6, "CONSUME_PASSIVELY", testTopic, testGroup,
			[]string{"sun.misc.Unsafe.park(Native Method)"}, testTopic,
		}},
		"accumulation counts what the offset has not passed": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsConsumerAccumulateRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.GroupId, r.Detail = testInstance, testGroup, "true"
			a, err := c.OnsConsumerAccumulate(r)
			details := a.Data.DetailInTopicList.DetailInTopicDo
			consumed := time.Since(time.UnixMilli(a.Data.LastTimestamp)).Round(time.Hour)
			return []any{
				a.Data.Online, a.Data.TotalDiff, time.Duration(a.Data.DelayTime) * time.Millisecond / time.Hour, len(details),
				consumed, details[0].LastTimestamp == a.Data.LastTimestamp,
			}, err
		}, []any{true, int64(1), time.Duration(1), 1, 2 * time.Hour, true}},
		"subscriptions come from online clients": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsGroupSubDetailRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.GroupId = testInstance, testGroup
			a, err := c.OnsGroupSubDetail(r)
			return []any{a.Data.Online, a.Data.GroupId, a.Data.MessageModel, a.Data.SubscriptionDataList.SubscriptionDataListItem}, err
		}, []any{true, testGroup, "CLUSTERING", []ons.SubscriptionDataListItem{{Topic: testTopic, SubString: "*"}}}},
		"a message by its id": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsMessageGetByMsgIdRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.Topic, r.MsgId = testInstance, testTopic, goodID
			a, err := c.OnsMessageGetByMsgId(r)
			return []any{a.Data.MsgId, a.Data.Topic, a.Data.InstanceId, a.Data.StoreSize, a.Data.BodyCRC, a.Data.PropertyList.MessageProperty, a.Data.Body}, err
		}, []any{goodID, testTopic, testInstance, 205, 0x3610a686, []ons.MessageProperty{
			{Name: "KEYS", Value: "k1"}, {Name: "TAGS", Value: "paid"}, {Name: "UNIQ_KEY", Value: goodID}, {Name: "shop", Value: "<7&8>"},
		}, ""}},
		"a message by its offset id": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsMessageGetByMsgIdRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.Topic, r.MsgId = testInstance, testTopic, "C000020100002A9F0000000000000042"
			a, err := c.OnsMessageGetByMsgId(r)
			return a.Data.MsgId, err
		}, pendingID},
		"messages by a key": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsMessageGetByKeyRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.Topic, r.Key = testInstance, testTopic, "k1"
			a, err := c.OnsMessageGetByKey(r)
			return msgIDs(a.Data.OnsRestMessageDo), err
		}, []string{goodID}},
		"the messages of a topic, oldest first, expired ones gone": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsMessagePageQueryByTopicRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.Topic, r.BeginTime, r.EndTime, r.CurrentPage = testInstance, testTopic, millis(100*time.Hour), millis(0), "1"
			a, err := c.OnsMessagePageQueryByTopic(r)
			return []any{len(a.MsgFoundDo.TaskId), a.MsgFoundDo.MaxPageCount, a.MsgFoundDo.CurrentPage, msgIDs(a.MsgFoundDo.MsgFoundList.OnsRestMessageDo)}, err
		}, []any{36, int64(1), int64(1), []string{goodID, pendingID}}},
		"a trace is about offsets": {func(c *ons.Client, host, format string) (any, error) {
			var tracks []ons.MessageTrack
			for _, id := range []string{goodID, pendingID} {
				r := ons.CreateOnsMessageTraceRequest()
				prepare(r.RpcRequest, host, format)
				r.InstanceId, r.Topic, r.MsgId = testInstance, testTopic, id
				a, err := c.OnsMessageTrace(r)
				if err != nil {
					return nil, err
				}
				tracks = append(tracks, a.Data.MessageTrack...)
			}
			return tracks, nil
		}, []ons.MessageTrack{
			{ConsumerGroup: testGroup, TrackType: "CONSUMED", InstanceId: testInstance},
			{ConsumerGroup: "GID_off", TrackType: "NOT_ONLINE", InstanceId: testInstance},
			{ConsumerGroup: testGroup, TrackType: "NOT_CONSUME_YET", InstanceId: testInstance},
			{ConsumerGroup: "GID_off", TrackType: "NOT_ONLINE", InstanceId: testInstance},
		}},
		"a dead letter is a copy that names its origin": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsDLQMessageGetByIdRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.GroupId, r.MsgId = testInstance, testGroup, goodID
			a, err := c.OnsDLQMessageGetById(r)
			origin := offsetID(testTopic, goodID)
			return []any{a.Data.MsgId, a.Data.Topic, a.Data.ReconsumeTimes, a.Data.OffsetId == origin, a.Data.PropertyList.MessageProperty[4:]}, err
		}, []any{goodID, "%DLQ%" + testGroup, 16, false, []ons.MessageProperty{
			{Name: "ORIGIN_MESSAGE_ID", Value: offsetID(testTopic, goodID)}, {Name: "RETRY_TOPIC", Value: testTopic},
			{Name: "DLQ_ORIGIN_MESSAGE_ID", Value: offsetID(testTopic, goodID)}, {Name: "DLQ_ORIGIN_TOPIC", Value: testTopic},
		}}},
		"dead letters have one entry per failure": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsDLQMessagePageQueryByGroupIdRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.GroupId, r.BeginTime, r.EndTime, r.CurrentPage, r.PageSize = testInstance, testGroup, millis(72*time.Hour), millis(0), "1", "5"
			a, err := c.OnsDLQMessagePageQueryByGroupId(r)
			return msgIDs(a.MsgFoundDo.MsgFoundList.OnsRestMessageDo), err
		}, []string{expiredID, goodID, goodID}},
		"a dead letter is sent again": {func(c *ons.Client, host, format string) (any, error) {
			r := ons.CreateOnsDLQMessageResendByIdRequest()
			prepare(r.RpcRequest, host, format)
			r.InstanceId, r.GroupId, r.MsgId = testInstance, testGroup, goodID
			a, err := c.OnsDLQMessageResendById(r)
			return a.Data.MsgId, err
		}, []string{goodID}},
	}
}

func msgIDs(found []ons.OnsRestMessageDo) (ids []string) {
	for _, m := range found {
		ids = append(ids, m.MsgId)
	}
	return ids
}

func TestOperationsThroughTheVendorsSDK(t *testing.T) {
	t.Parallel()
	tests := operationTests()
	if len(tests) < len(operations) {
		t.Fatalf("%d tests for %d operations", len(tests), len(operations))
	}
	for name, test := range tests {
		for _, format := range []string{"JSON", "XML"} {
			t.Run(format+"/"+strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
				t.Parallel()
				s := newServer(t, nil)
				got, err := test.call(sdkClient(t), listen(t, s, false).Host, format)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("answer (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestRefusals maps a sentence to a request and the code it gets.
func TestRefusals(t *testing.T) {
	t.Parallel()
	now := fmt.Sprint(time.Now().UnixMilli())
	page := func(overrides map[string]string) map[string]string {
		params := map[string]string{"Action": "OnsMessagePageQueryByTopic", "BeginTime": "0", "EndTime": now, "CurrentPage": "1"}
		for name, value := range overrides {
			params[name] = value
		}
		return params
	}
	tests := map[string]struct {
		params map[string]string
		code   string
	}{
		"push without a client":              {map[string]string{"ClientId": "-"}, "MissingClientId"},
		"push with an empty topic":           {map[string]string{"Topic": ""}, "MissingTopic"},
		"a name that is not ASCII":           {map[string]string{"Topic": "orders\u00e9"}, "BIZ_FIELD_CHECK_INVALID"},
		"a name with a line break":           {map[string]string{"ClientId": "a\r\nb"}, "BIZ_FIELD_CHECK_INVALID"},
		"a name that is too long":            {map[string]string{"ClientId": strings.Repeat("x", 256)}, "BIZ_FIELD_CHECK_INVALID"},
		"no instance":                        {map[string]string{"InstanceId": "-"}, "INSTANCE_NOT_FOUND"},
		"an unknown instance":                {map[string]string{"InstanceId": "MQ_INST_0"}, "INSTANCE_NOT_FOUND"},
		"another region":                     {map[string]string{"RegionId": "cn-beijing"}, "BIZ_REGION_NOT_FOUND"},
		"an unknown topic":                   {map[string]string{"Topic": "nowhere"}, "BIZ_TOPIC_NOT_FOUND"},
		"a dead-letter topic":                {map[string]string{"Topic": "%DLQ%" + testGroup}, "BIZ_TOPIC_NOT_FOUND"},
		"an unknown group":                   {map[string]string{"GroupId": "GID_none"}, "BIZ_SUBSCRIPTION_NOT_FOUND"},
		"a message of another topic":         {map[string]string{"Topic": "empty"}, "BIZ_NO_MESSAGE"},
		"a message past its retention":       {map[string]string{"MsgId": expiredID}, "BIZ_NO_MESSAGE"},
		"an unknown client":                  {map[string]string{"ClientId": "nobody"}, "BIZ_CONSUMER_NOT_ONLINE"},
		"a client that is offline":           {map[string]string{"ClientId": "gone"}, "BIZ_CONSUMER_NOT_ONLINE"},
		"connections of an offline group":    {map[string]string{"Action": "OnsConsumerGetConnection", "GroupId": "GID_off"}, "BIZ_CONSUMER_NOT_ONLINE"},
		"no dead letter of that id":          {map[string]string{"Action": "OnsDLQMessageResendById", "MsgId": pendingID}, "BIZ_NO_MESSAGE"},
		"no message with the key":            {map[string]string{"Action": "OnsMessageGetByKey", "Key": "k"}, "BIZ_NO_MESSAGE"},
		"a search without a key":             {map[string]string{"Action": "OnsMessageGetByKey"}, "MissingKey"},
		"page without an end":                {page(map[string]string{"EndTime": "-"}), "MissingEndTime"},
		"page with a bent number":            {page(map[string]string{"BeginTime": "yesterday"}), "InvalidBeginTime"},
		"page 0":                             {page(map[string]string{"CurrentPage": "0"}), "BIZ_FIELD_CHECK_INVALID"},
		"page 51":                            {page(map[string]string{"CurrentPage": "51"}), "BIZ_FIELD_CHECK_INVALID"},
		"a page beyond the last":             {page(map[string]string{"CurrentPage": "2"}), "BIZ_NO_MESSAGE"},
		"4 to a page":                        {page(map[string]string{"PageSize": "4"}), "BIZ_FIELD_CHECK_INVALID"},
		"51 to a page":                       {page(map[string]string{"PageSize": "51"}), "BIZ_FIELD_CHECK_INVALID"},
		"a window that ends before it began": {page(map[string]string{"BeginTime": now, "EndTime": "1"}), "BIZ_FIELD_CHECK_INVALID"},
		"an empty window":                    {page(map[string]string{"EndTime": "1"}), "BIZ_NO_MESSAGE"},
		"a topic without messages":           {page(map[string]string{"Topic": "empty"}), "BIZ_NO_MESSAGE"},
		"an unknown task":                    {page(map[string]string{"TaskId": "none"}), "BIZ_FIELD_CHECK_INVALID"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, nil)
			got := do(t, s, test.params)
			if got.body.Code != test.code || got.Code != 400 {
				t.Errorf("got %d %q, want 400 %q", got.Code, got.Body, test.code)
			}
			if n := s.Deliveries().Total; n != 0 {
				t.Errorf("%d deliveries, want none", n)
			}
		})
	}
}

func TestPagesOfATask(t *testing.T) {
	t.Parallel()
	many := func(n int) (ids []string) {
		for i := range n {
			ids = append(ids, fmt.Sprintf("%032X", i))
		}
		return ids
	}
	for name, test := range map[string]struct {
		messages, size, pages int
	}{
		"the last page is short":           {12, 5, 3},
		"the last page is full":            {10, 5, 2},
		"never more than 50 pages":         {1000, 5, 50},
		"20 to a page unless asked for":    {41, 0, 3},
		"2,500 messages at most in a task": {2600, 50, 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(d *Data) {
				d.Instances[0].Messages = []Message{{Topic: testTopic, MsgIDs: many(test.messages), StoredAt: Moment{Age: time.Hour}}}
			})
			host, c := listen(t, s, false).Host, sdkClient(t)
			seen := map[string]bool{}
			task := ""
			for page := 1; page <= test.pages; page++ {
				r := ons.CreateOnsMessagePageQueryByTopicRequest()
				prepare(r.RpcRequest, host, "JSON")
				r.InstanceId, r.Topic, r.TaskId, r.CurrentPage = testInstance, testTopic, task, requests.NewInteger(page)
				r.BeginTime, r.EndTime = "0", "1" // ignored once there is a task
				if task == "" {
					r.EndTime = millis(0)
				}
				if test.size > 0 {
					r.PageSize = requests.NewInteger(test.size)
				}
				a, err := c.OnsMessagePageQueryByTopic(r)
				if err != nil {
					t.Fatalf("page %d: %v", page, err)
				}
				if got := int(a.MsgFoundDo.MaxPageCount); got != test.pages {
					t.Fatalf("MaxPageCount %d, want %d", got, test.pages)
				}
				task = a.MsgFoundDo.TaskId
				for _, id := range msgIDs(a.MsgFoundDo.MsgFoundList.OnsRestMessageDo) {
					seen[id] = true
				}
			}
			want := min(test.messages, test.pages*max(test.size, 5))
			if test.size == 0 {
				want = test.messages
			}
			if len(seen) != want {
				t.Errorf("saw %d different messages, want %d", len(seen), want)
			}
		})
	}
}

func TestATaskFitsOnlyItsQuery(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	first := do(t, s, map[string]string{"Action": "OnsMessagePageQueryByTopic", "BeginTime": "0", "EndTime": fmt.Sprint(s.now().UnixMilli()), "CurrentPage": "1"})
	if first.Code != 200 {
		t.Fatal(first.Body)
	}
	got := do(t, s, map[string]string{"Action": "OnsMessagePageQueryByTopic", "Topic": "empty", "BeginTime": "0", "EndTime": "1", "CurrentPage": "1", "TaskId": s.tasks[0].id})
	if got.body.Code != "BIZ_FIELD_CHECK_INVALID" {
		t.Errorf("another topic's task: %s", got.Body)
	}
	c := &call{in: s.instances[testInstance], topic: testTopic, at: s.now(), params: map[string]string{"EndTime": fmt.Sprint(s.now().UnixMilli())}}
	for range maxTasks {
		if refused := s.addTask(c); refused != nil {
			t.Fatal(refused.message)
		}
	}
	if len(s.tasks) != maxTasks {
		t.Errorf("%d tasks kept, want %d", len(s.tasks), maxTasks)
	}
}

func TestResendToAFailingListenerAddsAnEntry(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(d *Data) { d.Instances[0].Groups[0].Clients = d.Instances[0].Groups[0].Clients[3:4] })
	before := len(s.instances[testInstance].messages["%DLQ%"+testGroup])
	if got := do(t, s, map[string]string{"Action": "OnsDLQMessageResendById"}); got.Code != 200 {
		t.Fatal(got.Body)
	}
	if after := len(s.instances[testInstance].messages["%DLQ%"+testGroup]); after != before+1 {
		t.Errorf("%d dead letters, want %d", after, before+1)
	}
	want := Delivery{
		API: "OnsDLQMessageResendById", InstanceID: testInstance, Topic: testTopic, GroupID: testGroup,
		ClientID: "failing", MsgID: goodID, Behaviour: "failing",
	}
	got := s.Deliveries().List[0]
	got.At, got.RequestID, got.NewMsgID = time.Time{}, "", ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("delivery (-want +got):\n%s", diff)
	}
}
