package onsd

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"
)

const (
	hugeAnswer = 8 << 20
	maxShift   = maxPages * maxPageSize
)

// Fault is scripted misbehaviour. It looks at calls that passed signature,
// quota and permission and name things that exist.
type Fault struct {
	// API, MsgID and ClientID select calls; empty matches all.
	API      string `yaml:"api"`
	MsgID    string `yaml:"msgId"`
	ClientID string `yaml:"clientId"`
	// Nth is the first matching call that is hit; 0 means 1. Count is how many
	// from there; 0 means 1, -1 all.
	Nth   int `yaml:"nth"`
	Count int `yaml:"count"`
	// When is "before" (default) the call has its effect, which it then never
	// has unless the fault is a mere delay, or "after": only calls that
	// succeeded are matched, the consumer has got the message.
	When  string        `yaml:"when"`
	Delay time.Duration `yaml:"delay"`
	// Shift is for page queries: before the page is made, the store changes and
	// the task shows it. So many copies of the oldest entry come late, in front
	// of it, and move all others on; below 0 so many of the oldest are deleted,
	// and the others move up.
	Shift int `yaml:"shift"`
	// Do is what the caller gets: "" (a mere delay), "error", "cut" (the
	// connection closes without an answer), "redirect" (307 to Location),
	// "truncated" JSON, "contentType" (JSON called text/html) or "huge" (8 MiB
	// of JSON).
	Do       string     `yaml:"do"`
	Error    FaultError `yaml:"error"`
	Location string     `yaml:"location"`
}

// FaultError is the answer of a fault that does "error". Status 200 makes a
// success that carries an error code.
type FaultError struct {
	Status  int    `yaml:"status"`
	Code    string `yaml:"code"`
	Message string `yaml:"message"`
	// Format is "" (as asked for), "json", "xml", "html", "empty" or
	// "numericCode": JSON whose Code is the number of the status.
	Format string `yaml:"format"`
}

func (f *Fault) check(p *problems, where string) {
	if f.API != "" {
		p.operations(where, f.API)
	}
	p.require(f.Nth >= 0 && f.Count >= -1, where, "nth must not be negative, count not less than -1")
	p.oneOf(where+".when", f.When, "", "before", "after")
	p.oneOf(where+".do", f.Do, "", "error", "cut", "redirect", "truncated", "contentType", "huge")
	p.require(f.Delay >= 0 && (f.Do != "" || f.Delay > 0 || f.Shift != 0), where, "must do something, delay or shift")
	p.require(f.Shift == 0 || strings.Contains(f.API, "PageQuery") && f.When != "after", where, "shift is for page queries, before they have their effect")
	p.require(max(f.Shift, -f.Shift) <= maxShift, where, "shift must be from -%d to %[1]d", maxShift)
	p.require((f.Do == "redirect") == (f.Location != ""), where, "location goes with do: redirect")
	p.require((f.Do == "error") == (f.Error != FaultError{}), where, "error goes with do: error")
	if f.Do == "error" {
		p.require(f.Error.Status >= 200 && f.Error.Status < 600, where, "error.status must be from 200 to 599")
		p.oneOf(where+".error.format", f.Error.Format, "", "json", "xml", "html", "empty", "numericCode")
	}
}

// armed is a fault and the calls it has matched.
type armed struct {
	Fault
	matched int
}

// hits reports whether the fault strikes this call, and counts it.
func (a *armed) hits(c *call, when string) bool {
	if (a.API != "" && a.API != c.api) || (a.MsgID != "" && a.MsgID != c.params["MsgId"]) ||
		(a.ClientID != "" && a.ClientID != c.params["ClientId"]) || cmp.Or(a.When, "before") != when {
		return false
	}
	a.matched++
	nth, count := cmp.Or(a.Nth, 1), cmp.Or(a.Count, 1)
	return a.matched >= nth && (count < 0 || a.matched < nth+count)
}

// strike waits for the delays of all faults that hit and returns the first that
// does something, or nil.
func (s *Server) strike(ctx context.Context, c *call, when string) (first *Fault) {
	var delay time.Duration
	s.mu.Lock()
	for _, a := range s.faults {
		if a.hits(c, when) {
			delay += a.Delay
			c.shift += a.Shift
			if first == nil && a.Do != "" {
				first = &a.Fault
			}
		}
	}
	s.mu.Unlock()
	sleep(ctx, delay)
	return first
}

// spoil answers as the fault says. good is the answer without it.
func (f *Fault) spoil(w http.ResponseWriter, c *call, good answer) {
	switch f.Do {
	case "error":
		f.Error.send(w, c)
	case "cut":
		panic(http.ErrAbortHandler) // net/http's way to close without an answer
	case "redirect":
		w.Header().Set("Location", f.Location)
		w.WriteHeader(http.StatusTemporaryRedirect)
	case "truncated":
		text := good.encode(true)
		send(w, good.status, jsonType, text[:len(text)*2/3])
	case "contentType":
		send(w, good.status, "text/html", good.encode(true))
	case "huge":
		good.body = append(good.body, member{"Padding", strings.Repeat("x", hugeAnswer)})
		good.send(w, true)
	}
}

func (e FaultError) send(w http.ResponseWriter, c *call) {
	a := answer{status: e.Status, root: "Error", body: errorBody(c, e.Code, e.Message)}
	switch e.Format {
	case "html":
		send(w, e.Status, "text/html", []byte("<html><body><h1>"+e.Code+"</h1>"+e.Message+"</body></html>"))
	case "empty":
		send(w, e.Status, jsonType, nil)
	case "numericCode":
		a.body = errorBody(c, e.Status, e.Message)
		a.send(w, true)
	default:
		a.send(w, e.Format == "json" || e.Format == "" && c.json)
	}
}
