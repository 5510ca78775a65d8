package onsd

import (
	"cmp"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"
)

// instance is an [Instance] and its present state.
type instance struct {
	*Instance
	groups   map[string]*group
	messages map[string][]*message // by topic; dead letters under %DLQ%<group>
	named    map[string][]*message // by topic, "/" and either id
}

type group struct {
	*Group
	clients []*client
	topics  []string // subscribed
}

type client struct {
	*Client
	pushes int
	forced *bool // set by SetOnline
}

// message is one stored message or dead letter; what it shares with others is
// in the [Message].
type message struct {
	*Message
	topic, msgID, offsetID string
	storedAt, until        time.Time // until: gone from then on
	origin                 *message  // of a dead letter; nil for others
	pending                []string  // groups whose offset has not passed it
}

func newInstance(d *Instance, start time.Time, retention time.Duration) *instance {
	in := &instance{Instance: d, groups: map[string]*group{}, messages: map[string][]*message{}, named: map[string][]*message{}}
	for i := range d.Messages {
		block := &d.Messages[i]
		for j, id := range block.MsgIDs {
			at := block.StoredAt.From(start).Add(time.Duration(j) * block.Every)
			m := in.store(block, block.Topic, id, at, cmp.Or(block.Retention, retention))
			m.pending = slices.Clone(block.PendingFor)
		}
	}
	for i := range d.Groups {
		g := &group{Group: &d.Groups[i], topics: d.Groups[i].Subscribes}
		if len(g.topics) == 0 {
			g.topics = d.Topics
		}
		for j := range g.Clients {
			g.clients = append(g.clients, &client{Client: &g.Clients[j]})
		}
		in.groups[g.GroupID] = g
		for _, block := range g.DeadLetters {
			for j, id := range block.MsgIDs {
				origin := in.origin(block.Topic, id, start.Add(-retention))
				for range max(block.Copies, 1) {
					in.bury(g, origin, block.StoredAt.From(start).Add(time.Duration(j)*block.Every), retention)
				}
			}
		}
	}
	return in
}

// add puts a message where it is found.
func (in *instance) add(m *message) {
	in.messages[m.topic] = append(in.messages[m.topic], m)
	for _, id := range []string{m.msgID, m.offsetID} {
		in.named[m.topic+"/"+id] = append(in.named[m.topic+"/"+id], m)
	}
}

// store adds a message of the block that shares the rest with others.
func (in *instance) store(block *Message, topic, msgID string, at time.Time, retention time.Duration) *message {
	m := &message{
		Message: block, topic: topic, msgID: msgID, storedAt: at, until: at.Add(retention),
		offsetID: cmp.Or(block.OffsetID, offsetID(topic, msgID)),
	}
	in.add(m)
	return m
}

// origin is the message a dead letter was made of, or what is left to know of
// it: that it was stored before since.
func (in *instance) origin(topic, msgID string, since time.Time) *message {
	for _, m := range in.named[topic+"/"+msgID] {
		if m.msgID == msgID {
			return m
		}
	}
	return &message{Message: &Message{}, topic: topic, msgID: msgID, offsetID: offsetID(topic, msgID), storedAt: since}
}

// bury adds a dead letter: a copy with an offset id of its own and the origin's
// unique key.
func (in *instance) bury(g *group, origin *message, at time.Time, retention time.Duration) {
	topic := "%DLQ%" + g.GroupID
	in.add(&message{
		Message: origin.Message, topic: topic, msgID: origin.msgID, storedAt: at, until: at.Add(retention),
		offsetID: offsetID(topic, fmt.Sprint(origin.msgID, len(in.messages[topic]))), origin: origin,
	})
}

// offsetID makes the id of a place in the store of broker 192.0.2.1:10911: hex
// of address, port and commit-log offset (source: apache/rocketmq
// MessageDecoder).
func offsetID(topic, name string) string {
	hash := fnv.New64a()
	hash.Write([]byte(topic + "/" + name))
	return fmt.Sprintf("C000020100002A9F%016X", hash.Sum64()>>24)
}

// find returns the newest message that either id names and that still exists.
func (in *instance) find(topic, id string, now time.Time) *message {
	for _, m := range slices.Backward(in.named[topic+"/"+id]) {
		if now.Before(m.until) {
			return m
		}
	}
	return nil
}

// born is when the producer made the message, or the origin of the dead letter:
// the copy keeps it and has a store time of its own (source: apache/rocketmq
// 8fc57f1, AbstractSendMessageProcessor.consumerSendMsgBack: setBornTimestamp;
// CommitLog.asyncPutMessage: setStoreTimestamp).
func (m *message) born() time.Time {
	if m.origin != nil {
		return m.origin.born()
	}
	return m.storedAt.Add(-2 * time.Millisecond)
}

// object is the message as the API shows it; the body is not shown. The
// properties of a dead letter: the first two as a 4.9.8 broker writes them, the
// other two as apache/rocketmq MessageConst has them.
func (m *message) object(instanceID string) object {
	properties := []object{}
	add := func(name, value string) {
		if value != "" {
			properties = append(properties, object{{"Name", name}, {"Value", value}})
		}
	}
	add("KEYS", m.Keys)
	add("TAGS", m.Tags)
	add("UNIQ_KEY", m.msgID)
	for _, name := range slices.Sorted(maps.Keys(m.Properties)) {
		add(name, m.Properties[name])
	}
	reconsumed := 0
	if m.origin != nil {
		reconsumed = 16
		add("ORIGIN_MESSAGE_ID", m.origin.offsetID)
		add("RETRY_TOPIC", m.origin.topic)
		add("DLQ_ORIGIN_MESSAGE_ID", m.origin.offsetID)
		add("DLQ_ORIGIN_TOPIC", m.origin.topic)
	}
	return object{
		{"MsgId", m.msgID}, {"OffsetId", m.offsetID}, {"Topic", m.topic}, {"InstanceId", instanceID},
		{"BornHost", "192.0.2.7:4242"}, {"StoreHost", "192.0.2.1:10911"},
		{"BornTimestamp", m.born().UnixMilli()}, {"StoreTimestamp", m.storedAt.UnixMilli()},
		{"StoreSize", len(m.Body) + 200}, {"ReconsumeTimes", reconsumed},
		{"BodyCRC", crc32.ChecksumIEEE([]byte(m.Body)) & 0x7fffffff},
		{"PropertyList", object{{"MessageProperty", properties}}},
	}
}

func (g *group) client(id string) *client {
	for _, c := range g.clients {
		if c.ClientID == id {
			return c
		}
	}
	return nil
}

// online lists the connected clients. passed is the time since the start.
func (g *group) online(passed time.Duration) (clients []*client) {
	for _, c := range g.clients {
		if c.online(passed) {
			clients = append(clients, c)
		}
	}
	return clients
}

func (c *client) online(passed time.Duration) bool {
	left := c.OfflineAfter > 0 && passed >= c.OfflineAfter
	came := c.OnlineAfter > 0 && passed >= c.OnlineAfter
	switch {
	case c.forced != nil:
		return *c.forced
	case c.OfflineAfterPushes > 0 && c.pushes >= c.OfflineAfterPushes:
		return false
	case left && came:
		return c.OnlineAfter > c.OfflineAfter
	case left || came:
		return came
	}
	return c.Online == nil || *c.Online
}

// object is the client in a list of connections. Its id starts with its host;
// the port is made up.
func (c *client) object() object {
	host, _, _ := strings.Cut(c.ClientID, "@")
	return object{
		{"ClientId", c.ClientID}, {"ClientAddr", fmt.Sprintf("%s:%d", host, 20000+crc32.ChecksumIEEE([]byte(c.ClientID))%40000)},
		{"Language", cmp.Or(c.Language, "JAVA")}, {"Version", cmp.Or(c.Version, "V4_3_6")}, {"RemoteIP", host},
	}
}
