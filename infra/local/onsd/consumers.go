package onsd

import (
	"cmp"
	"slices"
	"time"
)

func (g *group) model() string { return cmp.Or(g.Model, "CLUSTERING") }

func connectionList(online []*client) object {
	list := []object{}
	for _, cl := range online {
		list = append(list, cl.object())
	}
	return object{{"ConnectionDo", list}}
}

// connected lists who is online; nobody is an error, not an empty list.
func (s *Server) connected(c *call) (object, *refusal) {
	online := s.online(c)
	if len(online) == 0 {
		return nil, notOnline()
	}
	return object{{"Data", object{{"ConnectionList", connectionList(online)}, {"MessageModel", c.group.model()}}}}, nil
}

// lag says what the group has not consumed. LastTimestamp is when the newest
// message that it has consumed was made, DelayTime the age of the oldest that it
// has not (source: alibabacloud-java-sdk OnsConsumerAccumulateResponseBody).
func (s *Server) lag(c *call) object {
	var total int
	var oldest time.Duration
	var newest int64
	topics := []object{}
	for _, topic := range c.group.topics {
		var waiting int
		var delay time.Duration
		var consumed int64
		for _, m := range c.in.messages[topic] {
			switch {
			case !slices.Contains(m.pending, c.group.GroupID):
				consumed = max(consumed, m.born().UnixMilli())
			case c.at.Before(m.until):
				waiting, delay = waiting+1, max(delay, c.at.Sub(m.storedAt))
			}
		}
		total, oldest, newest = total+waiting, max(oldest, delay), max(newest, consumed)
		topics = append(topics, object{
			{"Topic", topic}, {"TotalDiff", waiting}, {"DelayTime", delay.Milliseconds()}, {"LastTimestamp", consumed},
		})
	}
	lag := object{
		{"Online", len(s.online(c)) > 0}, {"TotalDiff", total}, {"DelayTime", oldest.Milliseconds()},
		{"LastTimestamp", newest}, {"ConsumeTps", 0.0},
	}
	if c.flag("Detail") {
		lag = append(lag, member{"DetailInTopicList", object{{"DetailInTopicDo", topics}}})
	}
	return lag
}

func (s *Server) accumulated(c *call) (object, *refusal) {
	return object{{"Data", s.lag(c)}}, nil
}

func (s *Server) consumerStatus(c *call) (object, *refusal) {
	data := append(s.lag(c), object{
		{"RebalanceOK", true}, {"SubscriptionSame", true}, {"ConsumeModel", c.group.model()}, {"InstanceId", c.in.InstanceID},
		{"ConnectionSet", connectionList(s.online(c))},
	}...)
	if c.flag("Detail") {
		clients := []object{}
		for _, cl := range s.online(c) {
			clients = append(clients, s.clientDetail(c, cl))
		}
		data = append(data, member{"ConsumerConnectionInfoList", object{{"ConsumerConnectionInfoDo", clients}}})
	}
	return object{{"Data", data}}, nil
}

func (s *Server) clientDetail(c *call, cl *client) object {
	running, subscribed := []object{}, []object{}
	for _, topic := range c.group.topics {
		running = append(running, object{
			{"Topic", topic}, {"GroupId", c.group.GroupID}, {"Rt", cl.Delay.Milliseconds()},
			{"OkTps", 0.0}, {"FailedTps", 0.0}, {"FailedCountPerHour", 0},
		})
		subscribed = append(subscribed, object{
			{"Topic", topic}, {"SubString", "*"}, {"SubVersion", s.start.UnixMilli()}, {"TagsSet", object{{"Tag", []string{}}}},
		})
	}
	detail := append(cl.object(), object{
		{"Connection", cl.ClientID}, {"ConsumeModel", c.group.model()}, {"ConsumeType", "CONSUME_PASSIVELY"}, {"ThreadCount", 20},
		{"StartTimeStamp", s.start.UnixMilli()}, {"LastTimeStamp", c.at.UnixMilli()},
		{"RunningDataList", object{{"ConsumerRunningDataDo", running}}},
		{"SubscriptionSet", object{{"SubscriptionData", subscribed}}},
	}...)
	if c.flag("NeedJstack") {
		thread := object{{"Thread", "ConsumeMessageThread_1"}, {"TrackList", object{{"Track", []string{"sun.misc.Unsafe.park(Native Method)"}}}}}
		detail = append(detail, member{"Jstack", object{{"ThreadTrackDo", []object{thread}}}})
	}
	return detail
}

// subscribed knows only what online clients report.
func (s *Server) subscribed(c *call) (object, *refusal) {
	online := len(s.online(c)) > 0
	list := []object{}
	for _, topic := range c.group.topics {
		if online {
			list = append(list, object{{"Topic", topic}, {"SubString", "*"}})
		}
	}
	return object{{"Data", object{
		{"GroupId", c.group.GroupID}, {"MessageModel", c.group.model()}, {"Online", online},
		{"SubscriptionDataList", object{{"SubscriptionDataList", list}}},
	}}}, nil
}
