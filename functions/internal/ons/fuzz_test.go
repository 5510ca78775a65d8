package ons

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// FuzzAnswer: no answer makes a push panic, none but the documented shape is
// accepted, and what is accepted is what the SDK accepts.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{okBody, ``, `{}`, `null`, `[]`, `{"RequestId":"R","Code":""}`, `{"RequestId":"R","Code":null}`,
		`{"RequestId":"R","Code":404}`, `{"RequestId":"R","code":"X"}`, `{"requestid":"R"}`, `{"RequestId":"R","Code":"X","Code":""}`,
		`{"RequestId":"R","Code":"Throttling.User","Message":"x"}`, `{"RequestId":"R","Message":"not online","Code":"ONS_SYSTEM_ERROR"}`,
		`<Error><Code>X</Code></Error>`, `{"RequestId":"R","HelpUrl":{}}`, `{"AccessDeniedDetail":{"AuthAction":"mq:SUB"},"Code":"Forbidden.RAM"}`} {
		for _, status := range []int{200, 204, 302, 400, 503} {
			f.Add(status, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		c := newClient(t, Config{Region: "cn-hangzhou", Default: own})
		s := <-c.free
		s.sdk.SetTransport(canned{s, status, body})
		c.free <- s
		id, err := c.Push(context.Background(), target)
		if err == nil {
			if !documentedSuccess(status, body) || id == "" {
				t.Fatalf("accepted %d %q with id %q", status, body, id)
			}
			return
		}
		var e *pushing.Error
		if !errors.As(err, &e) || e.Kind < pushing.Internal || e.Kind == pushing.Invalid || e.Kind == pushing.Internal || e.Error() == "" {
			t.Fatalf("%d %q ends as %#v", status, body, err)
		}
		if strings.Contains(e.Error(), own.AccessKeySecret) || strings.ContainsAny(e.Error(), "\n\r\x00") {
			t.Fatalf("error shows what it must not: %q", e.Error())
		}
	})
}

// documentedSuccess is the documented success, decided in another way.
func documentedSuccess(status int, body []byte) bool {
	var fields map[string]any
	if status != 200 || json.Unmarshal(body, &fields) != nil {
		return false
	}
	for name, value := range fields {
		if strings.EqualFold(name, "code") && value != nil && value != "" {
			return false
		}
		if strings.EqualFold(name, "success") && value != true && value != "true" {
			return false
		}
	}
	id, ok := fields["RequestId"].(string)
	return ok && id != ""
}

// canned stands between the SDK and the session: the session's own transport
// is replaced by one answer.
type canned struct {
	*session
	status int
	body   []byte
}

func (c canned) RoundTrip(*http.Request) (*http.Response, error) {
	c.session.begun = true
	return c.session.judge(&http.Response{StatusCode: c.status, Proto: "HTTP/1.1", Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(c.body))})
}
