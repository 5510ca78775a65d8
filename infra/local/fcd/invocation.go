package fcd

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strconv"
	"time"
)

// Response is what the caller of a function sees.
type Response struct {
	// Payload is the function's answer, or the JSON object {"errorMessage",
	// "errorType"} of an error.
	Payload []byte
	// FunctionError is empty for success, else the errorType that the function
	// gave or one of the Error constants.
	FunctionError string
	RequestID     string
	// Status and Header are those of a custom runtime's HTTP answer; else 200 and
	// the header of the function's post. Both are zero when the platform answers
	// for the function.
	Status int
	Header http.Header
	// Duration is from hand-over to answer.
	Duration time.Duration
}

// Values of FunctionError that do not come from the function.
const (
	ErrorTimeout   = "fcd.Timeout"   // no answer in time; the process was killed
	ErrorExit      = "fcd.Exit"      // the process or its connection ended without an answer
	ErrorTooLarge  = "fcd.TooLarge"  // the answer exceeds the platform's limit
	ErrorUnhandled = "fcd.Unhandled" // failed without a readable errorType
)

var errTimedOut, errExited = errors.New("timed out"), errors.New("process exited unexpectedly before completing request")

// phase numbers are those of x-fc-function-type (fc-runtime-go-sdk).
type phase int

const (
	handle phase = iota
	initialize
	preStop
)

type invocation struct {
	id       string
	phase    phase
	payload  []byte
	header   http.Header
	timeout  time.Duration
	deadline time.Time
	answered chan Response // room for one
}

// newInvocation sets the headers that the platform sends. Sources:
// fc-runtime-go-sdk, FC "Specifications" and a dump of a 3.0 custom function's
// request (which has no deadline); AWS "Lambda runtime API".
func (o Options) newInvocation(phase phase, c Credentials, timeout time.Duration, payload []byte) *invocation {
	inv := &invocation{rand.Text(), phase, payload, http.Header{}, timeout, time.Now().Add(timeout), make(chan Response, 1)}
	deadline := strconv.FormatInt(inv.deadline.UnixMilli(), 10)
	if o.Runtime == Lambda {
		inv.header.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
		inv.header.Set("Lambda-Runtime-Deadline-Ms", deadline)
		inv.header.Set("Lambda-Runtime-Trace-Id", "Root=1-"+inv.id)
		inv.header.Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:"+o.Region+":"+o.AccountID+":function:"+o.FunctionName)
		return inv
	}
	for name, value := range map[string]string{
		"request-id": inv.id, "account-id": o.AccountID, "region": o.Region, "qualifier": "LATEST", "version-id": "",
		"access-key-id": c.AccessKeyID, "access-key-secret": c.AccessKeySecret, "security-token": c.SecurityToken,
		"function-name": o.FunctionName, "function-handler": filepath.Base(o.Binary), "function-memory": memoryMB,
		"function-timeout": strconv.Itoa(int((o.Timeout + time.Second - 1) / time.Second)),
		"service-name":     "", "service-logproject": "", "service-logstore": "", "retry-count": "0",
	} {
		inv.header.Set("x-fc-"+name, value)
	}
	if o.Runtime == FCCustom {
		inv.header.Set("x-fc-control-path", customCalls[phase].path)
		inv.header.Set("Content-Type", "application/octet-stream")
	} else {
		inv.header.Set("x-fc-function-deadline", deadline)
		inv.header.Set("x-fc-function-type", strconv.Itoa(int(phase)))
	}
	return inv
}

// failure is the platform's own answer for a function that gave none.
func failure(kind, message string) Response {
	payload, _ := json.Marshal(map[string]string{"errorType": kind, "errorMessage": message}) // strings always encode
	return Response{Payload: payload, FunctionError: kind}
}

// errorType is what an error body calls itself.
func errorType(body []byte) string {
	var e struct {
		ErrorType string `json:"errorType"`
	}
	_ = json.Unmarshal(body, &e) // what cannot be read has no type
	return cmp.Or(e.ErrorType, ErrorUnhandled)
}
