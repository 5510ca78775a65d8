package onsd

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxLog bounds the lists of deliveries and of calls: the older half is
// forgotten when it is reached. Counts go on.
const maxLog = 1 << 14

// Delivery is one message that really reached a listener, whatever the caller
// was told.
type Delivery struct {
	At         time.Time `json:"at"`
	API        string    `json:"api"`
	RequestID  string    `json:"requestId"`
	InstanceID string    `json:"instanceId"`
	Topic      string    `json:"topic"`
	GroupID    string    `json:"groupId"`
	ClientID   string    `json:"clientId"`
	// MsgID is the stored message's unique key, NewMsgID what the consumer
	// sees (source: DOC OnsMessagePush, "a new message with a different id").
	MsgID    string `json:"msgId"`
	NewMsgID string `json:"newMsgId"`
	// Behaviour is the client's: a "failing" listener threw.
	Behaviour string `json:"behaviour"`
}

// Deliveries is the stand-in's own count, exact but for List, which holds the
// last 8,192 or more, oldest first.
type Deliveries struct {
	Total     int            `json:"total"`
	ByMessage map[string]int `json:"byMessage"` // by unique key
	List      []Delivery     `json:"list"`
}

// Calls is how the requests of one operation were judged, counted when they are
// answered; exact but for List, which holds the last 8,192 or more. Accepted
// ones had their effect, even if the answer was spoilt afterwards; Refused are
// all others but Throttled, and those that outlasted the broker's patience.
type Calls struct {
	Accepted  int    `json:"accepted"`
	Throttled int    `json:"throttled"`
	Refused   int    `json:"refused"`
	List      []Call `json:"list"`
}

// Call is one request. At is when the quota saw it; Code is empty for an
// accepted one.
type Call struct {
	At        time.Time `json:"at"`
	RequestID string    `json:"requestId"`
	Code      string    `json:"code,omitempty"`
}

// note counts a call.
func (s *Server) note(c *call, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls[c.api]
	if calls == nil {
		calls = &Calls{}
		s.calls[c.api] = calls
	}
	switch code {
	case "":
		calls.Accepted++
	case "Throttling.User":
		calls.Throttled++
	default:
		calls.Refused++
	}
	calls.List = appendBounded(calls.List, Call{c.at, c.id, code})
}

// deliver counts a message that reaches a client, and returns the id that the
// client sees. The caller holds s.mu.
func (s *Server) deliver(c *call, m *message, to *client) (newMsgID string) {
	newMsgID = strings.ReplaceAll(requestID(), "-", "")
	to.pushes++
	s.deliveries.Total++
	s.deliveries.ByMessage[m.msgID]++
	s.deliveries.List = appendBounded(s.deliveries.List, Delivery{
		At: s.now(), API: c.api, RequestID: c.id, InstanceID: c.in.InstanceID, Topic: m.topic, GroupID: c.group.GroupID,
		ClientID: to.ClientID, MsgID: m.msgID, NewMsgID: newMsgID, Behaviour: cmp.Or(to.Behaviour, "ok"),
	})
	return newMsgID
}

func appendBounded[T any](list []T, item T) []T {
	if len(list) == maxLog {
		list = slices.Delete(list, 0, maxLog/2)
	}
	return append(list, item)
}

// Deliveries returns what really reached consumers.
func (s *Server) Deliveries() Deliveries {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Deliveries{s.deliveries.Total, maps.Clone(s.deliveries.ByMessage), slices.Clone(s.deliveries.List)}
}

// Calls returns how the requests of one operation were judged. Requests that
// name no known operation are counted as "other".
func (s *Server) Calls(api string) Calls { return s.allCalls()[api] }

func (s *Server) allCalls() map[string]Calls {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]Calls{}
	for name, calls := range s.calls {
		copied := *calls
		copied.List = slices.Clone(calls.List)
		all[name] = copied
	}
	return all
}

// Connections returns how many connections the listeners have accepted.
func (s *Server) Connections() int { return int(s.connections.Load()) }

// controlMux serves the stand-in's own count, read-only and without signature:
// there is nothing secret in it.
func (s *Server) controlMux() *http.ServeMux {
	mux := http.NewServeMux()
	for name, report := range map[string]func() any{
		"deliveries":  func() any { return s.Deliveries() },
		"calls":       func() any { return s.allCalls() },
		"connections": func() any { return s.Connections() },
	} {
		mux.HandleFunc("GET /_onsd/"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(report()) // the client may be gone: nobody to tell
		})
	}
	return mux
}
