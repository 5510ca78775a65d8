package onsd

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// brokerPatience is how long the broker waits for a listener, which goes on
// nevertheless (source: apache/rocketmq Broker2Client, 10 s).
const brokerPatience = 10 * time.Second

// Options are the server's inputs. The zero value means the real ones.
type Options struct {
	// Now is the clock; nil means [time.Now]. Waiting always takes real time,
	// or that of the [testing/synctest] bubble.
	Now func() time.Time
}

// Server is the stand-in. Safe for concurrent use.
type Server struct {
	data      *Data
	now       func() time.Time
	start     time.Time
	retention time.Duration
	control   *http.ServeMux

	connections atomic.Int64

	mu         sync.Mutex
	keys       map[string]Credential
	instances  map[string]*instance
	windows    map[string]*window   // by operation
	nonces     map[string]time.Time // last use
	faults     []*armed
	tasks      []*task // oldest first
	deliveries Deliveries
	calls      map[string]*Calls
}

// New makes a server whose time starts now. The error lists every problem of d,
// which must not be changed afterwards.
func New(d *Data, o Options) (*Server, error) {
	var found problems
	if d.check(&found); len(found) > 0 {
		return nil, found.err("new")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Server{
		data: d, now: o.Now, start: o.Now(), retention: cmp.Or(d.Retention, 72*time.Hour), nonces: map[string]time.Time{},
		keys: map[string]Credential{}, instances: map[string]*instance{}, windows: map[string]*window{},
		deliveries: Deliveries{ByMessage: map[string]int{}, List: []Delivery{}}, calls: map[string]*Calls{},
	}
	for _, c := range d.Credentials {
		s.keys[c.AccessKeyID] = c
	}
	for i := range d.Instances {
		s.instances[d.Instances[i].InstanceID] = newInstance(&d.Instances[i], s.start, s.retention)
	}
	for name, op := range operations {
		s.windows[name] = &window{Quota: cmp.Or(d.Quotas[name], d.Quotas["*"], op.quota)}
	}
	for _, f := range d.Faults {
		s.faults = append(s.faults, &armed{Fault: f})
	}
	s.control = s.controlMux()
	return s, nil
}

// ServeHTTP answers API calls on "/" and the stand-in's own count under
// "/_onsd/". It panics with [http.ErrAbortHandler], which closes the
// connection, when a fault says so.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		s.control.ServeHTTP(w, r)
		return
	}
	sleep(r.Context(), s.data.Network.draw())
	c := &call{id: requestID(), host: "ons." + s.data.Region + ".aliyuncs.com", api: "other", method: r.Method}
	c.readParams(w, r)
	c.json = c.params["Format"] == "JSON"
	if op, known := operations[c.params["Action"]]; known {
		c.api, c.op = c.params["Action"], op
	}
	a := s.handle(r.Context(), c)
	s.note(c, a.code)
	if a.fault != nil {
		a.fault.spoil(w, c, a)
		return
	}
	a.send(w, c.json)
}

// handle takes a call from the gateway to its effect.
func (s *Server) handle(ctx context.Context, c *call) answer {
	s.mu.Lock()
	c.at = s.now() // in here, so that quotas see time in order
	refused := s.admit(c)
	s.mu.Unlock()
	if refused != nil {
		return refused.answer(c)
	}
	good := answer{status: http.StatusOK, root: c.api + "Response", body: object{{"RequestId", c.id}}}
	if f := s.strike(ctx, c, "before"); f != nil {
		good.fault, good.code = f, cmp.Or(f.Error.Code, f.Do)
		return good
	}
	s.mu.Lock()
	body, refused := c.op.run(s, c)
	s.mu.Unlock()
	sleep(ctx, min(c.listener, brokerPatience))
	if c.listener > brokerPatience {
		refused = refuse("ONS_INVOKE_ERROR", "Invoke broker error: CODE: 207 DESC: consume message timeout.")
	}
	if refused != nil {
		return refused.answer(c)
	}
	good.body = append(good.body, body...)
	good.fault = s.strike(ctx, c, "after")
	return good
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}

func (l Latency) draw() time.Duration {
	return l.Delay + time.Duration(mathrand.Float64()*float64(l.Jitter))
}

// SetOnline connects or disconnects a client from now on, whatever the data
// says. It reports whether there is such a client.
func (s *Server) SetOnline(instanceID, groupID, clientID string, online bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, g := s.group(instanceID, groupID)
	if cl := g.client(clientID); cl != nil {
		cl.forced = &online
		return true
	}
	return false
}

// group returns a group and its instance; one without clients if there is none.
func (s *Server) group(instanceID, groupID string) (*instance, *group) {
	if in := s.instances[instanceID]; in != nil && in.groups[groupID] != nil {
		return in, in.groups[groupID]
	}
	return nil, &group{}
}

// Bury adds a dead letter of the group for each message, which need not exist any
// more. It reports whether there are such an instance and group.
func (s *Server) Bury(instanceID, groupID, topic string, msgIDs ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, g := s.group(instanceID, groupID)
	for i := 0; in != nil && i < len(msgIDs); i++ {
		in.bury(g, in.origin(topic, msgIDs[i], s.now().Add(-s.retention)), s.now(), s.retention)
	}
	return in != nil
}

// Consume moves the group's offset past the messages of the topic that these ids
// name. It reports whether there are such an instance and group.
func (s *Server) Consume(instanceID, groupID, topic string, msgIDs ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	in, _ := s.group(instanceID, groupID)
	if in == nil {
		return false
	}
	for _, id := range msgIDs {
		for _, m := range in.named[topic+"/"+id] {
			m.pending = slices.DeleteFunc(m.pending, func(group string) bool { return group == groupID })
		}
	}
	return true
}

// SetDenied replaces the operations that a key is denied; none grants all. It
// reports whether there is such a key.
func (s *Server) SetDenied(accessKeyID string, operations ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, known := s.keys[accessKeyID]
	if known {
		key.Denied = operations
		s.keys[accessKeyID] = key
	}
	return known
}

// AddFault arms one more fault; it matches calls from now on. The error lists
// every problem of f.
func (s *Server) AddFault(f Fault) error {
	var found problems
	f.check(&found, "fault")
	if err := found.err("add"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &armed{Fault: f})
	return nil
}

// requestID makes an upper-case UUID, as the API's request ids are.
func requestID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails since Go 1.24
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
