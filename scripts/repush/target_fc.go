package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	fc3 "github.com/alibabacloud-go/fc-20230330/v4/client"
	util "github.com/alibabacloud-go/tea-utils/v2/service"
	"github.com/alibabacloud-go/tea/tea"
	fc2 "github.com/aliyun/fc-go-sdk"
	"gopkg.in/resty.v1"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/events/sink"
)

// fcFunction is a function of Function Compute, at https (or loopback http) host.
type fcFunction struct {
	scheme, host, account        string
	service, function, qualifier string // service is empty in 3.0
	async, logs                  bool
	keys                         sink.Credentials
}

// invokeV3 sends to Function Compute 3.0. The SDK takes no context, so noRedirects
// puts it in; it repeats nothing without Autoretry; it
// sends loopback through a proxy but for NoProxy.
func (f *fcFunction) invokeV3(ctx context.Context, e events.Event, body []byte) (delivery, error) {
	client, err := fc3.NewClient(&openapi.Config{
		Endpoint: &f.host, Protocol: &f.scheme, AccessKeyId: &f.keys.AccessKeyID, AccessKeySecret: &f.keys.AccessKeySecret, SecurityToken: &f.keys.SecurityToken,
		HttpClient: noRedirects{ctx},
	})
	if err != nil {
		return delivery{}, errors.New("the Function Compute client cannot be made of these credentials")
	}
	request := &fc3.InvokeFunctionRequest{Body: bytes.NewReader(body)}
	if f.qualifier != "" {
		request.Qualifier = &f.qualifier
	}
	headers := &fc3.InvokeFunctionHeaders{XFcInvocationType: tea.String("Sync"), XFcLogType: tea.String("None")}
	if f.logs {
		headers.XFcLogType = tea.String("Tail")
	}
	if f.async {
		headers = &fc3.InvokeFunctionHeaders{XFcInvocationType: tea.String("Async"), XFcAsyncTaskId: tea.String(taskID(e))}
	}
	deadline, _ := ctx.Deadline()
	options := &util.RuntimeOptions{ConnectTimeout: tea.Int(10_000), ReadTimeout: tea.Int(int(time.Until(deadline).Milliseconds()) + 1)}
	if f.scheme == "http" {
		options.NoProxy = &f.host
	}
	type read struct {
		*fc3.InvokeFunctionResponse
		payload []byte
	}
	answer, err := await(ctx, func() (read, error) {
		resp, err := client.InvokeFunctionWithOptions(&f.function, request, headers, options)
		if err != nil {
			return read{}, err
		}
		payload, err := io.ReadAll(io.LimitReader(resp.Body, maxPayload))
		return read{resp, payload}, err
	})
	var said *tea.SDKError
	if errors.As(err, &said) {
		return f.failed(&refusal{status: tea.IntValue(said.StatusCode), code: tea.StringValue(said.Code), message: tea.StringValue(said.Message)})
	}
	if err != nil {
		return delivery{}, err
	}
	header := http.Header{}
	for name, value := range answer.Headers {
		header.Set(name, tea.StringValue(value))
	}
	return f.taken(e, int(tea.Int32Value(answer.StatusCode)), header, answer.payload)
}

// noRedirects makes the calls of the 3.0 SDK, which would follow a redirect with
// the event and the security token.
type noRedirects struct{ ctx context.Context }

// Call implements dara.HttpClient.
func (n noRedirects) Call(request *http.Request, transport *http.Transport) (*http.Response, error) {
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return client.Do(request.WithContext(n.ctx))
}

// taskID makes the queue take an event once. It shows the id of the result event
// to come (source: FC "Task deduplication": a letter or _, then letters, digits,
// _ and -, at most 128; the second gets 409).
func taskID(e events.Event) string {
	asked, _ := events.DecodeRequested(e.Data) // it was read before
	return "repush-" + events.ResultID(e.Source, e.ID, asked.DryRun)
}

func (f *fcFunction) failed(r *refusal) (delivery, error) {
	switch {
	case f.async && r.status == http.StatusConflict:
		return delivery{Status: handedOver, Message: "already handed over before"}, nil
	case r.status == http.StatusForbidden:
		r.next = "(invoking needs fc:InvokeFunction)"
	}
	return delivery{}, r
}

// taken is an answer of the platform that is no error; but a function that
// failed is HTTP 200 with X-Fc-Error-Type (source: FC "InvokeFunction"), and
// what has no request id comes from somebody in between.
func (f *fcFunction) taken(e events.Event, status int, header http.Header, body []byte) (delivery, error) {
	id := header.Get("X-Fc-Request-Id")
	d := delivery{Message: "request " + id}
	switch {
	case id == "" || status/100 != 2 || f.async && status != http.StatusAccepted:
		return d, fmt.Errorf("the answer %d is not what Function Compute says to an invocation", status)
	case f.async:
		d.Status = handedOver
		return d, nil
	}
	log, _ := base64.StdEncoding.DecodeString(header.Get("X-Fc-Log-Result")) // a broken log is no log
	d.log = string(log)
	return d.judge(e, body, header.Get("X-Fc-Error-Type")), nil
}

// restyGlobal guards resty.DefaultClient, through which fc-go-sdk sends everything:
// each NewClient of the SDK replaces its transport and time-out for everybody,
// and all share its cookies. So each call gets a resty client of its own, and
// calls take turns.
var restyGlobal sync.Mutex

// invokeV2 is invokeV3 for Function Compute 2.0, which fc-go-sdk alone can
// address.
func (f *fcFunction) invokeV2(ctx context.Context, e events.Event, body []byte) (delivery, error) {
	input := fc2.NewInvokeFunctionInput(f.service, f.function).WithPayload(body)
	if f.qualifier != "" {
		input.WithQualifier(f.qualifier)
	}
	if f.logs {
		input.WithLogType("Tail")
	}
	if f.async {
		input.WithStatefulAsyncInvocationID(taskID(e))
	}
	type read struct {
		*fc2.InvokeFunctionOutput
		status int
	}
	answer, err := await(ctx, func() (r read, err error) {
		restyGlobal.Lock()
		defer restyGlobal.Unlock()
		defer func(before *resty.Client) { resty.DefaultClient = before }(resty.DefaultClient)
		client := &http.Client{}
		resty.DefaultClient = resty.NewWithClient(client)
		// The scheme is there: without one the SDK speaks plain http.
		sdk, err := fc2.NewClient(f.scheme+"://"+f.host, "2016-08-15", f.keys.AccessKeyID, f.keys.AccessKeySecret,
			fc2.WithSecurityToken(f.keys.SecurityToken), fc2.WithAccountID(f.account), fc2.WithTimeout(0)) // ctx bounds it
		if err != nil {
			return read{}, err
		}
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		client.Transport = roundTrip(func(req *http.Request) (*http.Response, error) {
			resp, err := http.DefaultTransport.RoundTrip(req.WithContext(ctx)) // the SDK passes none on
			if err == nil {
				r.status = resp.StatusCode
			}
			return resp, err
		})
		r.InvokeFunctionOutput, err = sdk.InvokeFunction(input)
		return r, err
	})
	var said fc2.ServiceError
	pointer := &said // the SDK returns both forms
	if errors.As(err, &pointer) || errors.As(err, &said) {
		return f.failed(&refusal{status: pointer.HTTPStatus, code: pointer.ErrorCode, message: pointer.ErrorMessage, requestID: pointer.RequestID})
	}
	if err != nil {
		return delivery{}, err
	}
	return f.taken(e, answer.status, answer.Header, answer.Payload)
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
