package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/events/sink"
)

// target sends events, in order, and tells of each what became of it.
type target func(ctx context.Context, batch []events.Event) []delivery

// delivery is what became of one event on its way.
type delivery struct {
	EventID string `json:"eventId"`
	Status  status `json:"status"`
	// Outcome is what the function decided, as far as it answered.
	Outcome events.Outcome  `json:"outcome,omitempty"`
	Message string          `json:"message,omitempty"`
	Hint    string          `json:"hint,omitempty"`
	Answer  json.RawMessage `json:"answer,omitempty"`

	log string // the end of the function's
}

// status is how far an event came.
type status string

const (
	handedOver status = "handed over" // for good; the result event tells what becomes of it
	answered   status = "answered"    // the function ran
	givenBack  status = "given back"  // the function ran, did not decide, and says so
	refused    status = "refused"     // not handed over
	unanswered status = "unanswered"  // may have been handed over, or have ended in the middle
	notSent    status = "not sent"    // because an earlier one was refused or unanswered
)

// well reports whether nothing is left to do.
func (d delivery) well() bool {
	return endedWell(settled(d.Outcome, d.Message)) && (d.Status == handedOver || d.Status == answered)
}

// inTurn sends one event at a time, each within its own time, until one is not
// taken. What is secret is taken out of every text.
func inTurn(each time.Duration, secret sink.Credentials, send func(context.Context, events.Event, []byte) (delivery, error)) target {
	one := func(ctx context.Context, e events.Event) delivery {
		ctx, cancel := context.WithTimeout(ctx, each)
		defer cancel()
		ctx, left := mayHaveLeft(ctx)
		body, err := json.Marshal(e)
		var d delivery
		if err == nil {
			d, err = send(ctx, e, body)
		}
		if err != nil {
			d.Status, d.Message = explain(err)
			if d.Status == unanswered && !left.Load() && err != ctx.Err() { // bare: await's, whose call may still be at it
				d.Status, d.Message = refused, "not sent: "+d.Message
			}
		}
		d.EventID, d.Message, d.Hint, d.log = e.ID, hide(secret, d.Message), hide(secret, d.Hint), redact(secret, d.log)
		if len(d.Answer) > 0 {
			d.Answer = asJSON([]byte(redact(secret, string(d.Answer))))
		}
		return d
	}
	return func(ctx context.Context, batch []events.Event) []delivery {
		all := make([]delivery, len(batch))
		for i, e := range batch {
			all[i] = delivery{EventID: e.ID, Status: notSent}
			if i == 0 || all[i-1].Status != refused && all[i-1].Status != unanswered && all[i-1].Status != notSent {
				all[i] = one(ctx, e)
			}
		}
		return all
	}
}

// mayHaveLeft tells of a request sent with the context whether any of it may have left
// this machine: from when it has a connection, which is dialled and has shaken hands. The
// next one is looked for when nothing was written to a dead one: net/http repeats no other
// POST.
func mayHaveLeft(ctx context.Context) (context.Context, *atomic.Bool) {
	left := new(atomic.Bool)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { left.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { left.Store(true) },
	}), left
}

// toSink sends to a bus or a queue, which takes batches and says no more than
// that it took them.
func toSink(s sink.Sink, each time.Duration, secret sink.Credentials) target {
	return func(ctx context.Context, batch []events.Event) []delivery {
		ctx, cancel := context.WithTimeout(ctx, each*time.Duration(len(batch)))
		defer cancel()
		err := s.Send(ctx, batch...)
		var undelivered *sink.UndeliveredError
		var network net.Error
		all := make([]delivery, len(batch))
		for i, e := range batch {
			all[i] = delivery{EventID: e.ID, Status: handedOver}
			cause := err
			if errors.As(err, &undelivered) {
				cause = undelivered.Failed[i]
			}
			if cause == nil {
				continue
			}
			all[i].Status, all[i].Message = refused, hide(secret, cause.Error())
			if errors.As(cause, &network) || errors.Is(cause, io.EOF) || errors.Is(cause, context.Canceled) {
				all[i].Status, _ = explain(cause)
			}
		}
		return all
	}
}

// notRepush is why what answered is not believed.
const notRepush = "the answer is not that of functions/repush"

// judge reads the answer of a function that ran. What it parked is its ledger's
// from now on.
func (d delivery) judge(e events.Event, answer []byte, functionError string) delivery {
	said := read(answer)
	d.Status, d.Answer, d.Message = answered, asJSON(answer), said.reason()
	switch {
	case functionError != "":
		d.Status, d.Message = unanswered, functionError+": "+d.Message // it may have pushed before
		if said.ErrorType == "GivenBack" {
			d.Status = givenBack
		}
	case e.Type == events.TypePlanRequested:
		d.Message = strings.TrimRight(fmt.Sprintf("operation %s, %d requests; %s", cmp.Or(said.OperationID, "none"), said.Requests, d.Message), "; ")
		switch {
		case said.Open:
			d.Status = handedOver
		case said.OperationID == "" && !said.planned():
			d.Outcome = events.Rejected
		case !said.planned():
			d.Outcome = events.Failed
		}
	case len(said.Results) == 0 && said.Code != "": // functions/plan, which takes no requests
		d.Status = refused
	case len(said.Results) != 1 || said.Results[0].EventID != e.ID:
		d.Status, d.Message = unanswered, notRepush
	case said.Results[0].Outcome != "":
		d.Outcome, d.Hint = said.Results[0].Outcome, said.Results[0].Hint
		if said.Results[0].Code == redelivered {
			d.Outcome = settled(d.Outcome, d.Message)
		}
	case len(said.Results[0].Report) > 0: // of an operation, which has no outcome
	case said.Deferred > 0:
		d.Status = handedOver
	default:
		d.Status = givenBack
	}
	return d
}

// refusal is an error answer of a target. Above 500 nobody knows what it did.
type refusal struct {
	status          int
	code, message   string
	requestID, next string
}

// Error leaves out the message of a signature or key error: it quotes what was
// signed.
func (r *refusal) Error() string {
	message := r.message
	for _, word := range []string{"Signature", "AccessKey", "Token"} {
		if strings.Contains(r.code, word) {
			message = ""
		}
	}
	return strings.Join(strings.Fields(fmt.Sprintf("the target answered %d %s %s %s %s", r.status, r.code, message, r.requestID, r.next)), " ")
}

// explain tells what was surely not handed over from what may have been, in a
// text without the URL that a *url.Error has in it.
func explain(err error) (status, string) {
	for u := (*url.Error)(nil); errors.As(err, &u); {
		err = u.Err
	}
	var answer *refusal
	var connect *net.OpError
	var name *net.DNSError
	var certificate *tls.CertificateVerificationError
	var network net.Error
	switch {
	case errors.As(err, &answer) && answer.status < 500:
		return refused, err.Error()
	case errors.As(err, &connect) && (connect.Op == "dial" || connect.Op == "proxyconnect"), errors.As(err, &name), errors.As(err, &certificate):
		return refused, "no connection: " + err.Error()
	case errors.Is(err, context.Canceled):
		return unanswered, "interrupted"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return unanswered, "no answer in time"
	}
	return unanswered, err.Error()
}

// hide takes the credentials out of a text, whoever wrote it, makes it one line that is
// fit for a terminal, and clips it.
func hide(secret sink.Credentials, text string) string {
	text = printable(strings.Join(strings.Fields(redact(secret, text)), " "))
	return strings.ToValidUTF8(text[:min(len(text), 500)], "")
}

func redact(secret sink.Credentials, text string) string {
	for _, s := range []string{secret.AccessKeyID, secret.AccessKeySecret, secret.SecurityToken} {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[redacted]")
		}
	}
	return text
}

// endpoint splits an address into scheme and host; without a scheme https is
// meant. What travels is signed, so plain http is for loopback only.
func endpoint(address string) (scheme, host string, err error) {
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "" {
		return "", "", errors.New("must be a host, or a URL without user, path and query")
	}
	return u.Scheme, u.Host, secure(u)
}

// secure admits https, and http to loopback.
func secure(u *url.URL) error {
	addr, err := netip.ParseAddr(cmp.Or(strings.Replace(u.Hostname(), "localhost", "127.0.0.1", 1), "none"))
	if u.Scheme == "https" || u.Scheme == "http" && err == nil && addr.IsLoopback() {
		return nil
	}
	return errors.New("must be https, or http to a loopback address")
}

// openHTTP posts CloudEvents, structured, to a function's HTTP address or any
// other receiver. What stands behind the "?" of the address may be a secret.
func openHTTP(address, token string, each time.Duration) (target, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New("must be a URL with a host, without user and fragment")
	}
	if strings.ContainsFunc(token, unicode.IsControl) {
		return nil, errors.New("REPUSH_HTTP_TOKEN: has a line feed or another control character")
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return inTurn(each, sink.Credentials{SecurityToken: token}, func(ctx context.Context, e events.Event, body []byte) (delivery, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
		if err != nil {
			return delivery{}, err
		}
		req.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(req)
		if err != nil {
			return delivery{}, err
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(io.LimitReader(resp.Body, maxPayload))
		ours := bytes.Contains(answer, []byte(`"results"`)) || bytes.Contains(answer, []byte(`"requests":`))
		switch {
		case err != nil:
			return delivery{}, err
		case resp.StatusCode == http.StatusUnauthorized:
			return delivery{}, &refusal{status: resp.StatusCode, next: "(set REPUSH_HTTP_TOKEN to the function's token)"}
		case ours && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusServiceUnavailable):
			d := delivery{}.judge(e, answer, "")
			if resp.StatusCode != http.StatusOK && d.Status != unanswered {
				d.Status = givenBack
			}
			return d, nil
		case resp.StatusCode/100 == 3:
			return delivery{}, &refusal{status: resp.StatusCode, next: "(a redirect, which is not followed: name the address it leads to)"}
		case resp.StatusCode/100 != 2:
			return delivery{}, &refusal{status: resp.StatusCode}
		case resp.StatusCode == http.StatusOK && len(bytes.TrimSpace(answer)) > 0: // a page of somebody in between, for one
			return delivery{}, errors.New("the answer 200 is not that of functions/repush, nor of who takes events (202, 204, or 200 without a body)")
		}
		return delivery{Status: handedOver}, nil
	}), secure(u)
}
