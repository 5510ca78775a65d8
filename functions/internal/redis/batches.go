package redis

import (
	"sync"
	"time"
)

const (
	// maxBatch bounds a pipeline: 128 scripts of a few hundred bytes are two
	// or three segments of TCP's first window, and under 10 ms of Redis's time.
	maxBatch = 128
	// laterWait is how long EvalLater waits for company.
	laterWait = 10 * time.Millisecond
)

// batches hands what is added to send, one batch at a time; doc.go says when.
type batches struct {
	// send answers every call of a batch before it returns.
	send func([]*call)
	// later is how long what is not urgent waits for company: laterWait.
	later time.Duration

	mu      sync.Mutex
	queue   []*call
	sending bool
	// due says that somebody waits for the queue, or has waited long enough.
	due   bool
	timer *time.Timer
	// idle is made by drain and closed when nothing is queued or on its way.
	idle chan struct{}
}

// add queues a call and reports whether it was taken: after drain none is. A
// call that is not urgent waits for one that is, at most b.later.
func (b *batches) add(c *call, urgent bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.idle != nil {
		return false
	}
	b.queue = append(b.queue, c)
	switch {
	case urgent:
		b.start()
	case b.timer == nil:
		b.timer = time.AfterFunc(b.later, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.timer = nil; len(b.queue) > 0 {
				b.start()
			}
		})
	}
	return true
}

// start makes the queue due. The caller holds mu.
func (b *batches) start() {
	b.due = true
	if !b.sending {
		b.sending = true
		go b.run()
	}
}

func (b *batches) run() {
	for batch := b.next(); batch != nil; batch = b.next() {
		b.send(batch)
	}
}

// next takes the next batch off the queue; nil ends run.
func (b *batches) next() []*call {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.due || len(b.queue) == 0 {
		b.sending, b.due = false, false
		if b.idle != nil {
			close(b.idle)
		}
		return nil
	}
	batch := b.queue[:min(len(b.queue), maxBatch)]
	if b.queue = b.queue[len(batch):]; len(b.queue) == 0 {
		b.queue, b.due = nil, false
		if b.timer != nil && b.timer.Stop() {
			b.timer = nil
		}
	}
	return batch
}

// drain refuses further calls, sends what is queued at once and reports whether
// all was answered in time. Only the first call drains.
func (b *batches) drain(limit time.Duration) bool {
	b.mu.Lock()
	first := b.idle == nil
	if first {
		b.idle = make(chan struct{})
		b.start()
	}
	b.mu.Unlock()
	select {
	case <-b.idle:
		return true
	case <-time.After(limit):
		return false
	}
}
