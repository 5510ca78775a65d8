// Package openapi reads the ONS OpenAPI (product Ons, version 2019-02-14) as an
// operator does: a method makes one call over alibaba-cloud-sdk-go, and never again.
//
// The SDK knows no context, follows redirects, panics on odd bodies, takes a 200
// with an error code for a success, and writes signed URLs into its errors. So
// every answer is judged before the SDK sees it, and no text of the SDK is shown.
package openapi

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/responses"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ons"

	"github.com/ons-repush/ons-repush/events/sink"
)

// Options are how a [Client] reaches the API.
type Options struct {
	// Region of the instances, like "cn-hangzhou". Required.
	Region string
	// Endpoint is a scheme and a host; empty means https://ons.<Region>.aliyuncs.com,
	// plain http only to loopback.
	Endpoint    string
	Credentials sink.Credentials
	// Timeout bounds one call; 0 means 15 s.
	Timeout time.Duration
}

// Client calls the API of one region. It is made by [New] and safe for concurrent
// use; calls share connections. An error of a call is always an [*Error].
type Client struct {
	region    string
	endpoint  *url.URL
	timeout   time.Duration
	keys      func() sink.Credentials // a function, so that no print of a Client shows them
	transport *http.Transport
}

// New returns a client. The error says which option is wrong; DEBUG is one: with
// "sdk" in it the SDK prints every signed request (source: its sdk/utils/debug.go).
func New(o Options) (*Client, error) {
	u, err := url.Parse(cmp.Or(o.Endpoint, "https://ons."+o.Region+".aliyuncs.com"))
	switch {
	case o.Region == "" || strings.ContainsAny(o.Region, "./:@?#% "):
		return nil, errors.New("region: must be a region's id, like cn-hangzhou")
	case err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/")+u.RawQuery+u.Fragment != "":
		return nil, errors.New("endpoint: must be a scheme and a host, like https://ons.cn-hangzhou.aliyuncs.com")
	case slices.Contains(strings.Split(os.Getenv("DEBUG"), ","), "sdk"):
		return nil, errors.New("DEBUG: has sdk in it, which prints access keys and tokens: unset it")
	}
	address, _ := netip.ParseAddr(u.Hostname())
	if isLocal := u.Hostname() == "localhost" || address.IsLoopback(); u.Scheme != "https" && (u.Scheme != "http" || !isLocal) {
		return nil, errors.New("endpoint: must be https, or http to a loopback address")
	}
	return &Client{
		region: o.Region, endpoint: u, timeout: cmp.Or(o.Timeout, 15*time.Second), keys: func() sink.Credentials { return o.Credentials },
		transport: &http.Transport{Proxy: http.ProxyFromEnvironment, IdleConnTimeout: 5 * time.Second}, // no proxy for loopback
	}, nil
}

// call makes one call and decodes its answer into response. permission is the RAM
// action that it takes. The SDK's client is not safe for concurrent use, so each
// call has its own.
func (c *Client) call(ctx context.Context, permission string, request requests.AcsRequest, response responses.AcsResponse) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	keys := c.keys()
	x := &exchange{ctx: ctx, transport: c.transport, secrets: secrets(keys.AccessKeyID, keys.AccessKeySecret, keys.SecurityToken), failed: &Error{Op: request.GetActionName(), Permission: permission, Message: "the SDK made no request"}}
	config := sdk.NewConfig().WithAutoRetry(false)
	config.Transport = x
	var signer auth.Credential = credentials.NewAccessKeyCredential(keys.AccessKeyID, keys.AccessKeySecret)
	if keys.SecurityToken != "" {
		signer = credentials.NewStsTokenCredential(keys.AccessKeyID, keys.AccessKeySecret, keys.SecurityToken)
	}
	request.SetScheme(c.endpoint.Scheme)
	request.SetDomain(c.endpoint.Host)
	request.SetReadTimeout(c.timeout + time.Second) // the context ends first
	err := x.do(c.region, config, signer, request, response)
	switch {
	case err == nil && x.failed.Message == "":
		return nil
	case x.failed.Message == "":
		x.failed.Message = "the answer has not the shape that is documented"
	}
	x.failed.redact(x.secrets)
	return x.failed
}

// exchange is the transport of one call: it sends under the call's context, and
// hands a success to the SDK and nothing else.
type exchange struct {
	ctx       context.Context
	transport *http.Transport
	secrets   []string // that no answer may show
	failed    *Error   // why there is no success; without a message: there is one
}

func (x *exchange) do(region string, config *sdk.Config, signer auth.Credential, request requests.AcsRequest, response responses.AcsResponse) (err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the SDK panicked")
		}
	}()
	client := new(ons.Client) // by InitWithOptions alone: the constructors fill a package variable without a lock
	if err := client.InitWithOptions(region, config, signer); err != nil {
		return err
	}
	// The SDK would fail over a bad proxy variable, although the transport is ours.
	client.SetHttpProxy("http://unused.invalid")
	client.SetHttpsProxy("http://unused.invalid")
	client.SetNoProxy(".")
	client.SetCloseTrace(true) // a span is named by the signed URL
	return client.DoAction(request, response)
}

// maxAnswer bounds an answer, in bytes: a message's properties are up to 16 KB
// (source: help page "Limits").
const maxAnswer = 1 << 20

// RoundTrip implements [http.RoundTripper].
func (x *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	x.secrets = append(x.secrets, secrets(r.URL.Query().Get("Signature"))...)
	response, err := x.transport.RoundTrip(r.WithContext(x.ctx))
	var body []byte
	if err == nil {
		defer response.Body.Close()
		body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	}
	if err != nil {
		x.failed.cause = cmp.Or(x.ctx.Err(), err)
		x.failed.Message = "no answer: " + x.failed.cause.Error()
		return nil, err
	}
	if x.failed.judge(response.StatusCode, body); x.failed.Message != "" {
		return nil, x.failed
	}
	response.Body = io.NopCloser(bytes.NewReader(redacted(body, x.secrets)))
	return response, nil
}
