package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"

	"github.com/ons-repush/ons-repush/events"
)

// results collects the result events that a function writes to its standard
// output. Safe for concurrent use.
type results struct {
	// seen is called for every result whose id is new; nil: nothing is.
	seen func(events.Completed)

	mu        sync.Mutex
	partial   []byte
	events    []events.Event
	completed []events.Completed
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
	known := slices.ContainsFunc(r.events, func(other events.Event) bool { return other.ID == e.ID })
	var c events.Completed
	if err != nil || known || e.Type != events.TypeMessageCompleted || json.Unmarshal(e.Data, &c) != nil {
		return
	}
	r.events, r.completed = append(r.events, e), append(r.completed, c)
	if r.seen != nil {
		r.seen(c)
	}
}

// all returns the results so far, in the order of their arrival.
func (r *results) all() ([]events.Event, []events.Completed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events), slices.Clone(r.completed)
}
