// Package ons is the ONS OpenAPI (product Ons, version 2019-02-14) over
// alibaba-cloud-sdk-go: one call in, a result or one [*pushing.Error] out.
//
//	Push, Online,  ─▶ call ─▶ session: the SDK signs and writes the request
//	pages, Trace …          ─▶ RoundTrip: the call's context, one shared transport, bounded body
//	                        ─▶ classify: accepted, or code → kind by one table
//	                      the SDK decodes what was accepted; nothing else reaches it
//
// The SDK knows no context, follows redirects, panics on odd bodies, takes a
// 200 with an error code for a success and puts the signed URL into its errors.
// So its RoundTripper is ours: every answer is judged there, and no error of
// the SDK is ever shown.
package ons

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/responses"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ons"

	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Client calls the ONS OpenAPI of one region. It is made by [New] and safe for
// concurrent use. It never makes a call twice: the domain does, by kind.
type Client struct {
	region           string
	endpoint         *url.URL
	defaults         func() Credentials // a function, so that no print of a Client shows them
	push, read, list operation
	now              func() time.Time
	staleAfter       time.Duration
	transport        *http.Transport
	free             chan *session

	mu    sync.Mutex
	began time.Time // of the latest call
}

var (
	_ pushing.Pusher      = (*Client)(nil)
	_ pushing.Connections = (*Client)(nil)
	_ planning.Pager      = (*Client)(nil)
	_ planning.Finder     = (*Client)(nil)
	_ planning.Watcher    = (*Client)(nil)
)

// operation is how one API is called.
type operation struct {
	timeout time.Duration
	bound   int  // the largest answer that is read, in bytes
	sends   bool // a call whose fate is unknown may have delivered a message
}

// Push calls OnsMessagePush and returns the API's request id. nil means
// accepted, not consumed. An error is always a [*pushing.Error].
func (c *Client) Push(ctx context.Context, t pushing.Target) (string, error) {
	request := ons.CreateOnsMessagePushRequest()
	request.InstanceId, request.Topic, request.GroupId = t.InstanceID, t.Topic, t.GroupID
	request.MsgId, request.ClientId = t.MsgID, t.ClientID
	return c.call(ctx, c.push, request, ons.CreateOnsMessagePushResponse())
}

// Online calls OnsConsumerGetConnection and returns the ids of the group's
// clients, each once, in the API's order. None is an error of kind NoClient. An
// error is always a [*pushing.Error].
func (c *Client) Online(ctx context.Context, instanceID, groupID string) ([]string, error) {
	request := ons.CreateOnsConsumerGetConnectionRequest()
	request.InstanceId, request.GroupId = instanceID, groupID
	response := ons.CreateOnsConsumerGetConnectionResponse()
	requestID, err := c.call(ctx, c.read, request, response)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, client := range response.Data.ConnectionList.ConnectionDo {
		if client.ClientId != "" && !slices.Contains(ids, client.ClientId) {
			ids = append(ids, client.ClientId)
		}
	}
	if ids == nil {
		return nil, &pushing.Error{Kind: pushing.NoClient, Op: request.GetActionName(), RequestID: requestID,
			Err: errors.New("no client of the group is online")}
	}
	return ids, nil
}

// call makes one call of any operation, and decodes its answer into response.
// Request and response serve once: the SDK leaves its marks on them.
func (c *Client) call(ctx context.Context, op operation, request requests.AcsRequest, response responses.AcsResponse) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, op.timeout)
	defer cancel()
	signer, err := c.Credentials(ctx)
	if err != nil {
		return "", &pushing.Error{Kind: pushing.Credentials, Op: request.GetActionName(), Err: err}
	}
	s, err := c.acquire()
	if err != nil {
		return "", &pushing.Error{Kind: pushing.Internal, Op: request.GetActionName(), Err: err}
	}
	request.SetScheme(c.endpoint.Scheme)
	request.SetDomain(c.endpoint.Host)
	// The context bounds the call, these come later. The SDK keeps the
	// time-outs of one request for the next, so both are set on every one.
	request.SetReadTimeout(op.timeout + time.Second)
	request.SetConnectTimeout(op.timeout + time.Second)

	s.exchange = exchange{ctx: ctx, signer: signer, bound: op.bound}
	if panicked := s.do(request, response); !panicked {
		defer c.release(s)
	}
	return s.result(op, request.GetActionName())
}

// acquire returns an SDK client that nobody else uses: one is not safe for
// concurrent use (aliyun/alibaba-cloud-sdk-go issue 538).
func (c *Client) acquire() (*session, error) {
	select {
	case s := <-c.free:
		return s, nil
	default:
		return c.newSession()
	}
}

func (c *Client) release(s *session) {
	s.exchange = exchange{} // no credentials while at rest
	select {
	case c.free <- s:
	default:
	}
}

// dropStale closes idle connections when no call began for a while: the process
// may have been frozen, and the server closed them meanwhile. Otherwise 14 to
// 16 % of the first pushes after a freeze end as unknown. The monotonic clock
// tells a stopped process, the wall clock a suspended machine.
func (c *Client) dropStale() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if now.Sub(c.began) > c.staleAfter || now.Round(0).Sub(c.began.Round(0)).Abs() > c.staleAfter {
		c.transport.CloseIdleConnections()
	}
	c.began = now
}
