// Package sink is where events go: standard output, HTTP, EventBridge and MNS
// (SMQ). A new kind of target is one file here and one case in [Open].
//
// The cloud targets take one signed POST, written here and checked in the tests
// against the vendor's clients. functions/repush with each instead (linux/amd64,
// stripped; median of 101 cold starts on go1 and Lambda, as multiples of a
// hello-world's; a busy machine: differences below 0.1 are noise):
//
//	no cloud targets              9.23 MB, zip 3.64 MB, 1.22 and 1.20
//	this package                  9.27 MB, zip 3.66 MB, 1.16 and 1.27
//	eventbridge-sdk v1.3.3        9.74 MB, zip 3.84 MB, 1.20 and 1.27
//	aliyun-mns-go-sdk v1.0.11    14.84 MB, zip 5.36 MB, 1.25 and 1.30
//
// The budget bears that, the promises do not: neither SDK takes a context. The
// first follows redirects with the security token in a header and rounds numbers
// above 2^53; the second panics unless its endpoint has five parts, sleeps by a
// quota of its own and puts answers into errors.
//
// An MNS body is base64 of the structured JSON, as MNS advises. A queue source with
// IsBase64Decode (the default) hands the function JSON, others base64: it reads both.
package sink

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/ons-repush/ons-repush/events"
)

// Sink sends events. Safe for concurrent use.
type Sink interface {
	// Send returns nil when the target took every event over for good, else an
	// [*UndeliveredError]. An event that is sent again has the same id. Errors
	// carry no URL and no secret.
	Send(ctx context.Context, batch ...events.Event) error
}

// UndeliveredError names the events of a batch that were not taken over.
type UndeliveredError struct {
	// Failed holds a cause for every event that was not, by its index.
	Failed map[int]error
}

// Error returns the number of events and the cause of the first.
func (e *UndeliveredError) Error() string {
	return fmt.Sprintf("%d events were not delivered; the first: %v", len(e.Failed), e.Failed[e.First()])
}

// First is the index of the first event that was not taken over: all before it
// were.
func (e *UndeliveredError) First() int { return slices.Min(slices.Collect(maps.Keys(e.Failed))) }

// Unwrap returns the causes.
func (e *UndeliveredError) Unwrap() []error { return slices.Collect(maps.Values(e.Failed)) }

func undelivered(failed map[int]error) error {
	if len(failed) == 0 {
		return nil
	}
	return &UndeliveredError{Failed: failed}
}

// Options are what targets need beside their names.
type Options struct {
	// Out is where "stdout" goes; nobody else may write to it.
	Out io.Writer
	// Region and AccountID complete cloud targets that name no host.
	Region, AccountID string
	// Credentials returns those that sign one call to a cloud target. It is
	// asked before every call, with its context, and the answer is not kept. Its
	// error is shown, so it must carry no secret. Safe for concurrent use.
	Credentials func(ctx context.Context) (Credentials, error)
}

// Credentials sign one call. SecurityToken is empty for a plain access key.
// However printed or marshalled they show "[redacted]".
type Credentials struct{ AccessKeyID, AccessKeySecret, SecurityToken string }

// Format prints "[redacted]", whatever the verb.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// MarshalText returns "[redacted]".
func (c Credentials) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Open returns a sink for the targets, each one of
//
//	stdout                                       a JSON line per event
//	https://…                                    structured CloudEvents
//	eventbridge://BUS, eventbridge://HOST/BUS    PutEvents
//	mns://NAME, mns://[HOST/]queues/NAME         to a queue
//	mns://[HOST/]topics/NAME                     to a topic
//
// An event counts as sent when every target took it. A HOST has a dot or a colon
// or is localhost; the default is <account>.eventbridge.<region>.aliyuncs.com, or
// mns for eventbridge. Calls go by https, to loopback alone by plain http. The
// error names a target by its position and quotes nothing of it.
func Open(targets []string, o Options) (Sink, error) {
	sinks := make(all, len(targets))
	for i, target := range targets {
		var err error
		switch kind, _, _ := strings.Cut(target, "://"); {
		case target == "stdout" && o.Out != nil:
			sinks[i] = &lines{out: o.Out}
		case kind == "https", kind == "http":
			sinks[i], err = openHTTP(target)
		case kind == "eventbridge":
			sinks[i], err = openEventBridge(target, o)
		case kind == "mns":
			sinks[i], err = openMNS(target, o)
		default:
			err = errors.New("no such kind of target")
		}
		if err != nil {
			return nil, fmt.Errorf("sink %d: %w", i+1, err)
		}
	}
	if len(sinks) > 0 {
		return sinks, nil
	}
	return nil, errors.New("sink: no target")
}

// all sends to several targets at once, so that none holds up another.
type all []Sink

func (a all) Send(ctx context.Context, batch ...events.Event) error {
	var sending sync.WaitGroup
	errs := make([]error, len(a))
	for i, s := range a {
		sending.Go(func() { errs[i] = s.Send(ctx, batch...) })
	}
	sending.Wait()
	failed := make(map[int]error)
	for _, err := range errs {
		if err, is := err.(*UndeliveredError); is {
			for i, cause := range err.Failed {
				failed[i] = errors.Join(failed[i], cause)
			}
		}
	}
	return undelivered(failed)
}

// lines writes one JSON line per event, each with one call.
type lines struct {
	mu  sync.Mutex
	out io.Writer
}

func (l *lines) Send(_ context.Context, batch ...events.Event) error {
	failed := make(map[int]error)
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range batch {
		line, err := json.Marshal(e)
		if err == nil {
			_, err = l.out.Write(append(line, '\n'))
		}
		if err != nil {
			failed[i] = fmt.Errorf("sink stdout: %w", err)
		}
	}
	return undelivered(failed)
}
