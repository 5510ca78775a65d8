package onsd

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Limits of page queries (source: DOC OnsMessagePageQueryByTopic). maxTasks is
// ours: the oldest task is forgotten.
const (
	maxPages        = 50
	minPageSize     = 5
	maxPageSize     = 50
	defaultPageSize = 20
	maxTasks        = 1000
)

// push hands one stored message to one client. Every accepted call is one more
// delivery under a new id; it moves no offset and removes no dead letter.
func (s *Server) push(c *call) (object, *refusal) {
	to := c.group.client(c.params["ClientId"])
	if to == nil || !to.online(c.at.Sub(s.start)) {
		return nil, notOnline()
	}
	c.listener = to.draw()
	id := s.deliver(c, c.message, to)
	if to.Buries {
		block := *c.message.Message
		block.OffsetID = ""
		c.in.bury(c.group, c.in.store(&block, c.topic, id, c.at, s.retention), c.at, s.retention)
	}
	return nil, nil
}

func (s *Server) get(c *call) (object, *refusal) {
	return object{{"Data", c.message.object(c.in.InstanceID)}}, nil
}

// getByKey finds the messages that have the key among theirs, which spaces
// separate (source: apache/rocketmq IndexService.buildIndex, KEY_SEPARATOR).
func (s *Server) getByKey(c *call) (object, *refusal) {
	list := []object{}
	for _, m := range c.in.messages[c.topic] {
		if c.at.Before(m.until) && slices.Contains(strings.Fields(m.Keys), c.params["Key"]) {
			list = append(list, m.object(c.in.InstanceID))
		}
	}
	if len(list) == 0 {
		return nil, noMessage()
	}
	return object{{"Data", object{{"OnsRestMessageDo", list}}}}, nil
}

// trace says per group that subscribes whether its offset has passed the
// message, which is all that CONSUMED means.
func (s *Server) trace(c *call) (object, *refusal) {
	tracks := []object{}
	for _, d := range c.in.Groups {
		g := c.in.groups[d.GroupID]
		if !slices.Contains(g.topics, c.topic) {
			continue
		}
		track := "CONSUMED"
		if len(g.online(c.at.Sub(s.start))) == 0 {
			track = "NOT_ONLINE"
		} else if slices.Contains(c.message.pending, g.GroupID) {
			track = "NOT_CONSUME_YET"
		}
		tracks = append(tracks, object{{"ConsumerGroup", g.GroupID}, {"TrackType", track}, {"InstanceId", c.in.InstanceID}})
	}
	return object{{"Data", object{{"MessageTrack", tracks}}}}, nil
}

// task is the result of a page query, frozen but for faults.
type task struct {
	id       string
	in       *instance
	topic    string
	found    []*message
	size     int
	began    time.Time
	answered int // pages
}

// known reports whether the task still exists.
func (t *task) known(life TaskLife, now time.Time) bool {
	return (life.Pages == 0 || t.answered < life.Pages) && (life.Lifetime == 0 || now.Sub(t.began) < life.Lifetime)
}

// shift changes the store and what the task shows of it; see [Fault].
func (t *task) shift(by int, now time.Time) {
	for ; by < 0 && len(t.found) > 0; by++ {
		t.found[0].until = now
		t.found = t.found[1:]
	}
	for ; by > 0 && len(t.found) > 0; by-- {
		late := *t.found[0]
		late.storedAt = late.storedAt.Add(-time.Millisecond)
		late.offsetID = offsetID(t.topic, fmt.Sprint(late.offsetID, len(t.in.messages[t.topic])))
		t.in.add(&late)
		t.found = slices.Insert(t.found, 0, &late)
	}
}

// page answers one page of a task, a new one when TaskId is not sent.
func (s *Server) page(c *call) (object, *refusal) {
	number := int(c.number("CurrentPage"))
	if number < 1 || number > maxPages {
		return nil, refuse("BIZ_FIELD_CHECK_INVALID", "CurrentPage must be from 1 to %d.", maxPages)
	}
	at := slices.IndexFunc(s.tasks, func(t *task) bool {
		return t.id == c.params["TaskId"] && t.in == c.in && t.topic == c.topic && t.known(s.data.Tasks, c.at)
	})
	if c.params["TaskId"] == "" {
		if refused := s.addTask(c); refused != nil {
			return nil, refused
		}
		at = len(s.tasks) - 1
	}
	if at < 0 {
		return nil, refuse("BIZ_FIELD_CHECK_INVALID", "TaskId is not known.")
	}
	t := s.tasks[at]
	t.answered++
	t.shift(c.shift, c.at)
	pages := slices.Collect(slices.Chunk(t.found, t.size))
	pages = pages[:min(len(pages), maxPages)]
	if number > len(pages) {
		return nil, noMessage()
	}
	list := []object{}
	for _, m := range pages[number-1] {
		list = append(list, m.object(c.in.InstanceID))
	}
	return object{{"MsgFoundDo", object{
		{"TaskId", t.id}, {"MaxPageCount", len(pages)}, {"CurrentPage", number},
		{"MsgFoundList", object{{"OnsRestMessageDo", list}}},
	}}}, nil
}

// addTask selects the messages of the window, oldest first. An empty selection
// is BIZ_NO_MESSAGE and makes no task.
func (s *Server) addTask(c *call) *refusal {
	size := cmp.Or(int(c.number("PageSize")), defaultPageSize)
	begin, end := c.number("BeginTime"), c.number("EndTime")
	if size < minPageSize || size > maxPageSize || end < begin {
		return refuse("BIZ_FIELD_CHECK_INVALID", "PageSize must be from %d to %d, BeginTime not after EndTime.", minPageSize, maxPageSize)
	}
	t := &task{id: requestID(), in: c.in, topic: c.topic, size: size, began: c.at}
	for _, m := range c.in.messages[c.topic] {
		if at := m.storedAt.UnixMilli(); c.at.Before(m.until) && begin <= at && at <= end {
			t.found = append(t.found, m)
		}
	}
	if len(t.found) == 0 {
		return noMessage()
	}
	slices.SortStableFunc(t.found, func(a, b *message) int { return a.storedAt.Compare(b.storedAt) })
	s.tasks = append(s.tasks[max(0, len(s.tasks)+1-maxTasks):], t)
	return nil
}

// resend delivers a dead letter to the group as normal consumption does. The
// entry stays; a renewed failure adds one with the same id. With nobody online
// nothing is delivered, now or later.
func (s *Server) resend(c *call) (object, *refusal) {
	if online := s.online(c); len(online) > 0 {
		s.deliver(c, c.message.origin, online[0])
		if online[0].Behaviour == "failing" {
			c.in.bury(c.group, c.message.origin, c.at, c.message.until.Sub(c.message.storedAt))
		}
	}
	return object{{"Data", object{{"MsgId", []string{c.message.msgID}}}}}, nil
}
