package main

import (
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

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
