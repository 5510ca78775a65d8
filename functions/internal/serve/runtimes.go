package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"time"

	"github.com/aliyun/fc-runtime-go-sdk/fc"
	fcmessages "github.com/aliyun/fc-runtime-go-sdk/fc/messages"
	"github.com/aliyun/fc-runtime-go-sdk/fccontext"
	"github.com/aws/aws-lambda-go/lambda"
	lambdamessages "github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// postTime is what the go1 SDK gets to post its last answers: it ends its
// context before that and offers no other way to learn of it.
const postTime = 200 * time.Millisecond

// runGo1 serves Function Compute's built-in runtime. Only a parameter of type
// []byte gets the event as it came; any other is decoded as JSON first, and an
// MNS STREAM event need not be any (source: fc-runtime-go-sdk v0.3.1,
// fc/handler.go NewHandler).
func (s *server) runGo1() error {
	// A hook that is configured but not registered would fail.
	fc.RegisterInitializerFunction(func(context.Context) {})
	fc.RegisterPreStopFunction(func(hook context.Context) { _ = s.wait(hook) })
	go fc.Start(func(sdk context.Context, body []byte) (json.RawMessage, error) {
		call, _ := fccontext.FromContext(sdk) // the SDK always sets it
		key := call.Credentials
		answer, failed := s.call(sdk, Invocation{
			ID: call.RequestID, Platform: true,
			Credentials: Credentials{key.AccessKeyId, key.AccessKeySecret, key.SecurityToken},
		}, time.Now().Add(seconds(call.Function.Timeout, s.DefaultTimeout)), body)
		if failed != nil {
			return nil, fcmessages.InvokeResponse_Error{Message: failed.Message, Type: failed.Type}
		}
		return answer.Body, nil
	})
	<-s.run.Done()
	err := s.end(s.wait)
	<-time.After(postTime)
	return err
}

// runLambda serves AWS Lambda. The platform freezes the process between calls
// and kills it without a signal: only a local run ever sees ctx end.
func (s *server) runLambda() error {
	go lambda.StartWithOptions(invoker(func(sdk context.Context, body []byte) ([]byte, error) {
		call, _ := lambdacontext.FromContext(sdk) // the SDK always sets it
		in := Invocation{ID: call.AwsRequestID, Platform: true}
		// The SDK uses its buffer again after the answer.
		answer, failed := s.call(sdk, in, time.Now().Add(maxTimeout), bytes.Clone(body))
		if failed != nil {
			return nil, lambdamessages.InvokeResponse_Error{Message: failed.Message, Type: failed.Type}
		}
		return answer.Body, nil
	}))
	<-s.run.Done()
	return s.end(s.wait)
}

// invoker is a lambda.Handler: the SDK hands it the event as it came.
type invoker func(context.Context, []byte) ([]byte, error)

// Invoke calls the function.
func (f invoker) Invoke(ctx context.Context, body []byte) ([]byte, error) { return f(ctx, body) }
