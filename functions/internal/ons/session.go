package ons

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/responses"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ons"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Bounds of answers. A message's properties are up to 16 KB (source: help page
// "Limits"), fifty to a page, and every pair, quote and byte below a space of
// them is longer in JSON. Bodies are not part of it.
const (
	maxAnswerBytes = 1 << 20
	maxListBytes   = 4 << 20
)

// session is one SDK client and the call it serves: its transport and its
// source of credentials. One goroutine uses it at a time.
type session struct {
	client *Client
	sdk    *ons.Client
	exchange
}

// exchange is one call on the wire.
type exchange struct {
	ctx    context.Context
	bound  int // of the answer
	signer Credentials
	query  string // as signed
	begun  bool   // a connection was obtained: bytes may have left
	answer answer
	err    error // why there is no usable answer
}

var errNotAccepted = errors.New("not accepted")

func (c *Client) newSession() (*session, error) {
	s := &session{client: c, sdk: new(ons.Client)}
	config := sdk.NewConfig().WithAutoRetry(false)
	config.Transport = s
	// Not NewClientWithOptions: it fills a package variable without a lock,
	// with endpoints that SetDomain makes useless.
	if err := s.sdk.InitWithOptions(c.region, config, s); err != nil {
		return nil, err
	}
	// The SDK reads the proxy variables and fails over a bad one, although it
	// does not touch a foreign transport. With given values it reads none.
	s.sdk.SetHttpProxy("http://unused.invalid")
	s.sdk.SetHttpsProxy("http://unused.invalid")
	s.sdk.SetNoProxy(".")
	s.sdk.SetCloseTrace(true) // a span is named by the signed URL
	return s, nil
}

// do lets the SDK make the call. What came of it stands in the exchange.
func (s *session) do(request requests.AcsRequest, response responses.AcsResponse) (panicked bool) {
	defer func() {
		if recover() != nil {
			panicked, s.err = true, errors.New("the SDK panicked")
		}
	}()
	err := s.sdk.DoAction(request, response)
	switch {
	case s.err != nil:
	case s.answer == (answer{}):
		s.err = errors.New("the SDK made no request")
	case s.answer.kind == accepted && err != nil:
		s.err = errors.New("the SDK could not decode the answer")
	}
	return false
}

// RoundTrip sends the signed request under the call's own context and hands
// accepted answers to the SDK, and no other.
func (s *session) RoundTrip(signed *http.Request) (*http.Response, error) {
	s.query = signed.URL.RawQuery
	ctx := httptrace.WithClientTrace(s.ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { s.begun = true },
	})
	s.client.dropStale()
	response, err := s.client.transport.RoundTrip(signed.WithContext(ctx))
	if err != nil {
		s.err = err
		return nil, errNotAccepted
	}
	return s.judge(response)
}

// judge reads an answer, and returns it if it is accepted.
func (s *session) judge(response *http.Response) (*http.Response, error) {
	defer response.Body.Close()
	var body []byte
	if response.StatusCode != http.StatusSwitchingProtocols { // whose body has no end
		body, s.err = io.ReadAll(io.LimitReader(response.Body, int64(s.bound)+1))
	}
	if len(body) > s.bound {
		s.err = fmt.Errorf("the answer is larger than %d MB", s.bound>>20)
	}
	if s.answer = classify(response.StatusCode, body); s.err != nil || s.answer.kind != accepted {
		return nil, errNotAccepted
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// result turns the exchange into what the caller gets.
func (s *session) result(op operation, name string) (string, error) {
	a := s.answer
	if s.err == nil && a.kind == accepted {
		return a.requestID, nil
	}
	failed := &pushing.Error{Op: name, Kind: a.kind, Code: s.redact(a.code), RequestID: s.redact(a.requestID), Denied: denied(a.code)}
	if s.err == nil {
		failed.Err = errors.New(s.redact(a.text))
		failed.MaybeSent = op.sends && a.kind == pushing.Unavailable && a.code == serviceUnavailable
	} else {
		failed.Kind, failed.Err = s.unanswered()
	}
	if failed.Kind == pushing.Unknown && !op.sends {
		failed.Kind = pushing.Unavailable
	}
	return "", failed
}

// unanswered says what it means for the message that no usable answer came. Of
// the cause only the text is kept, and a context's error.
func (s *session) unanswered() (pushing.Kind, error) {
	kind, what := pushing.Unavailable, "not sent"
	if s.begun {
		kind, what = pushing.Unknown, "sent, and no usable answer"
	}
	if ended := s.ctx.Err(); ended != nil {
		return kind, fmt.Errorf("%s: %w", what, ended)
	}
	return kind, errors.New(what + ": " + s.redact(s.err.Error()))
}
