package sink

import (
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// How a target is retried: after 0.2, 0.4, 0.8 … 5 s, half of it random, or
// later if Retry-After says so, of which no more than retryAfterMax counts.
const (
	attemptTimeout = 10 * time.Second
	sendTimeout    = 30 * time.Second // to the last attempt, without a deadline
	firstDelay     = 200 * time.Millisecond
	lastDelay      = 5 * time.Second
	retryAfterMax  = 20 * time.Second
)

// remote posts events by HTTP: as many in a call as the target takes, and those
// alone again that it did not take, until it took them, said what will not
// change, or no further attempt fits before the deadline.
type remote struct {
	name, url, contentType string
	before, between, after string // around the events in the body of a call
	maxEvents              int    // in a call; 0: one
	maxEvent, maxBytes     int    // of an event, of a call; 0: any
	client                 *http.Client
	encode                 func(event []byte) []byte        // to its part of the body; nil: as it is
	sign                   func(*http.Request, Credentials) // nil: nothing is signed
	credentials            func(context.Context) (Credentials, error)
	// read refuses the items that an answer names. ok: all others were taken
	// over; else code is its error code. nil: 2xx is all there is to know.
	read func(items []*item, status int, answer []byte) (code string, ok bool)
}

// item is one event on its way.
type item struct {
	id, part string
	err      error // why it was not taken over
	again    bool  // it is to be sent (again)
}

// newClient follows no redirects: nobody configured where they lead.
func newClient() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 32
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: stay}
}

func (r *remote) Send(ctx context.Context, batch ...events.Event) error {
	items := make([]*item, len(batch))
	for i, e := range batch {
		items[i] = r.pack(e)
	}
	r.deliver(ctx, slices.DeleteFunc(slices.Clone(items), settled))
	failed := make(map[int]error)
	for i, it := range items {
		if it.err != nil {
			failed[i] = fmt.Errorf("sink %s: %w", r.name, it.err)
		}
	}
	return undelivered(failed)
}

func (r *remote) pack(e events.Event) *item {
	part, err := e.MarshalJSON() // json.Marshal would make six bytes of each "&"
	if r.encode != nil && err == nil {
		part = r.encode(part)
	}
	if r.maxEvent > 0 && len(part) > r.maxEvent {
		err = fmt.Errorf("event %.100q has %d bytes as they are counted there, %d are allowed: shorten its data", e.ID, len(part), r.maxEvent)
	}
	return &item{id: e.ID, part: string(part), err: err, again: err == nil}
}

func (r *remote) deliver(ctx context.Context, left []*item) {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		deadline = time.Now().Add(sendTimeout)
	}
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		wait := delay/2 + rand.N(delay/2)
		for todo := left; len(todo) > 0; {
			n := r.fitting(todo)
			wait = max(wait, r.attempt(ctx, todo[:n]))
			todo = todo[n:]
		}
		left = slices.DeleteFunc(left, settled)
		if len(left) == 0 || time.Until(deadline) <= wait {
			return
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func settled(it *item) bool { return !it.again }

// fitting returns how many of the items one call takes, at least one.
func (r *remote) fitting(items []*item) int {
	size := len(r.before) + len(r.after)
	for n, it := range items {
		size += len(it.part) + len(r.between)
		if n > 0 && (n >= r.maxEvents || r.maxBytes > 0 && size > r.maxBytes) {
			return n
		}
	}
	return len(items)
}

// attempt makes one call and returns what Retry-After asks for, else zero.
func (r *remote) attempt(all context.Context, items []*item) time.Duration {
	ctx, cancel := context.WithTimeout(all, attemptTimeout)
	defer cancel()
	req, err := r.request(ctx, items)
	if err != nil {
		fail(items, false, err)
		return 0
	}
	resp, err := r.client.Do(req)
	if err != nil {
		if all.Err() != nil && items[0].err != nil {
			return 0 // time is up: the failure before this one is the cause
		}
		if outer, is := errors.AsType[*url.Error](err); is {
			err = outer.Err // the outer text has the URL in it
		}
		fail(items, true, err)
		return 0
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, 256<<10))
	r.judge(items, resp.StatusCode, answer)
	return retryAfter(resp.Header.Get("Retry-After"), time.Now())
}

func (r *remote) request(ctx context.Context, items []*item) (*http.Request, error) {
	parts := make([]string, len(items))
	for i, it := range items {
		parts[i] = it.part
	}
	body := r.before + strings.Join(parts, r.between) + r.after
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, strings.NewReader(body))
	if err != nil {
		return nil, errors.New("the target is no URL")
	}
	req.Header.Set("Content-Type", r.contentType)
	if r.sign == nil {
		return req, nil
	}
	c, err := r.credentials(ctx)
	if err == nil && (c.AccessKeyID == "" || c.AccessKeySecret == "") {
		err = errors.New("the access key id or its secret is empty: give the function a role, or set both")
	}
	if err != nil {
		return nil, fmt.Errorf("no credentials: %w", err)
	}
	r.sign(req, c)
	return req, nil
}

// sign completes a request as EventBridge and MNS both ask: base64 of HMAC-SHA1 over
// method, Content-MD5, Content-Type, Date, the service's own headers in order, path
// (source: MNS "Sign requests"; eventbridge-util v1.0.4 GetStringToSign). Content-MD5
// is optional and left out: MNS's page and SDK disagree on its form; TLS is enough.
func (c Credentials) sign(req *http.Request, scheme, ownHeaders string) {
	date := time.Now().UTC().Format(http.TimeFormat)
	var own []string
	for name, values := range req.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, ownHeaders) {
			own = append(own, name+":"+values[0]+"\n")
		}
	}
	slices.Sort(own)
	mac := hmac.New(sha1.New, []byte(c.AccessKeySecret))
	fmt.Fprintf(mac, "%s\n\n%s\n%s\n%s%s", req.Method, req.Header.Get("Content-Type"), date, strings.Join(own, ""), req.URL.Path)
	req.Header.Set("Date", date)
	req.Header.Set("Authorization", scheme+c.AccessKeyID+":"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// judge marks what was not taken over. Of an answer only the error code is
// shown: the rest may repeat what was signed.
func (r *remote) judge(items []*item, status int, answer []byte) {
	fail(items, false, nil)
	code, ok := "", status/100 == 2
	if r.read != nil {
		code, ok = r.read(items, status, answer)
	}
	switch again := status >= 500 || status == 429 || status == 408 || code == "QpsLimitExceeded"; {
	case status/100 == 2 && !ok:
		fail(items, true, errors.New("the answer cannot be read: cut off, or another server answers under this name"))
	case !ok && again:
		fail(items, true, fmt.Errorf("the target answered %d %s", status, word(code)))
	case !ok:
		fail(items, false, fmt.Errorf("the target answered %d %s: check its name, region and account, and the permissions there", status, word(code)))
	}
}

// refuse notes that an answer refused this event alone. Codes like those beside
// 400, 403 and 404 will not change (source: EventBridge, MNS "Error codes").
func (it *item) refuse(code string) {
	lasting := strings.HasPrefix(code, "Invalid") || strings.Contains(code, "Denied") || strings.Contains(code, "NotExist")
	fail([]*item{it}, !lasting, fmt.Errorf("the target refused event %.100q: %s", it.id, word(code)))
}

func fail(items []*item, again bool, err error) {
	for _, it := range items {
		it.again, it.err = again, err
	}
}

// word returns an error code if it looks like one.
func word(code string) string {
	if code == "" || len(code) > 64 || strings.Trim(code, letters+".") != "" {
		return "without a code"
	}
	return code
}

// retryAfter reads seconds or a date (source: RFC 9110, 10.2.3).
func retryAfter(header string, now time.Time) time.Duration {
	wait, err := time.ParseDuration(header + "s")
	if err != nil {
		at, _ := http.ParseTime(header) // else the year 1: long ago
		wait = at.Sub(now)
	}
	return min(max(wait, 0), retryAfterMax)
}
