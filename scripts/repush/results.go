package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// results collects the result events that a function writes to its standard
// output. Safe for concurrent use.
type results struct {
	// each is called for every event whose id is new, frozen once all parts of a
	// manifest are there; nil: nothing is.
	each   func(events.Event)
	frozen func(events.Planned)

	mu        sync.Mutex
	partial   []byte
	known     map[string]bool
	events    []events.Event
	completed []events.Completed
	planned   []events.Planned // parts of a manifest, or why there is none
}

// Write takes the function's output as it comes; lines that are no result
// events (the platform's own) are passed over.
func (r *results) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.partial = append(r.partial, p...)
	for {
		line, rest, whole := bytes.Cut(r.partial, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		r.take(line)
		r.partial = append([]byte(nil), rest...)
	}
}

func (r *results) take(line []byte) {
	e, err := events.Decode(line)
	if err != nil || r.known[e.ID] {
		return
	}
	var c events.Completed
	p, notPlanned := events.DecodePlanned(e.Data)
	switch {
	case e.Type == events.TypePlanCompleted && notPlanned == nil:
		r.planned = append(r.planned, p)
		if whole, err := r.whole(); r.frozen != nil && err == nil && p.OperationID != "" { // without one it tells why a frozen one was not worked off
			r.frozen(whole)
		}
	case e.Type == events.TypeMessageCompleted && json.Unmarshal(e.Data, &c) == nil:
		r.completed = append(r.completed, c)
	default:
		return
	}
	if r.known == nil {
		r.known = make(map[string]bool)
	}
	r.known[e.ID] = true
	r.events = append(r.events, e)
	if r.each != nil {
		r.each(e)
	}
}

// all returns the results so far, in the order of their arrival.
func (r *results) all() ([]events.Event, []events.Completed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events), slices.Clone(r.completed)
}

// manifest is what came of a plan: without an operation it says why there is none.
// The error means that not all of it came.
func (r *results) manifest() (events.Planned, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.whole()
}

func (r *results) whole() (events.Planned, error) {
	parts := slices.DeleteFunc(slices.Clone(r.planned), func(p events.Planned) bool { return p.OperationID == "" })
	if len(parts) == 0 {
		parts = r.planned
	}
	p, err := events.Manifest(parts...)
	p.Part, p.Parts = 1, 1
	return p, err
}

// receiver takes CloudEvents by HTTP on loopback: what functions/plan sends its
// requests to when this machine runs it.
type receiver struct {
	// URL has a part that only the function is told.
	URL   string
	Close func() error
	mu    sync.Mutex
	taken map[string]bool
}

// receive takes one event at a time, each once, by its id. accept says what becomes
// of it: 2xx, it is taken; 5xx, it shall be sent again.
func receive(accept func(events.Event) (httpStatus int)) (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	path := "/" + rand.Text()
	mux := http.NewServeMux()
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	r := &receiver{URL: "http://" + l.Addr().String() + path, Close: server.Close, taken: make(map[string]bool)}
	mux.HandleFunc("POST "+path, func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(req.Body, events.MaxEventBytes+1)) // what was cut is no event
		e, err := events.Decode(body)
		r.mu.Lock()
		defer r.mu.Unlock()
		status := http.StatusAccepted
		if err != nil {
			status = http.StatusBadRequest
		} else if !r.taken[e.ID] {
			status = accept(e)
		}
		if status/100 == 2 {
			r.taken[e.ID] = true
		}
		w.WriteHeader(status)
	})
	go func() { _ = server.Serve(l) }() // until Close
	return r, nil
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.taken)
}
