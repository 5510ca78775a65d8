package serve

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/events"
)

const webhookToken = Token("t0ken-of-a-webhook")

func withWebhook(vars map[string]string, token Token) Config {
	c := testConfig(vars, token)
	c.WebhookToken = webhookToken
	return c
}

func TestWebhookToken(t *testing.T) {
	t.Parallel()
	const (
		inHeader = "X-Repush-Token: " + string(webhookToken)
		inQuery  = "/?token=" + string(webhookToken)
		form     = "Content-Type: application/x-www-form-urlencoded; charset=UTF-8"
		isJSON   = "Content-Type: application/json"
	)
	type hook struct {
		c         Config
		request   *http.Request
		status    int
		alertOnly bool
	}
	on := func(host string, r *http.Request) *http.Request { r.Host = host; return r }
	here := "127.0.0.1:9000"
	each(t, map[string]hook{
		"in the query":                          {withWebhook(nil, testToken), request("POST", inQuery, "a=b", form), 200, true},
		"in the header":                         {withWebhook(nil, testToken), request("POST", "/", "a=b", form, inHeader), 200, true},
		"under FC, with no other token":         {withWebhook(underFC, ""), request("POST", inQuery, "a=b", form), 200, true},
		"by an HTTP trigger":                    {withWebhook(underFC, ""), request("POST", inQuery, "{}", isJSON, "x-fc-control-path: /http-invoke"), 200, true},
		"with JSON":                             {withWebhook(nil, testToken), request("POST", inQuery, "{}", isJSON), 200, true},
		"beside a wrong one":                    {withWebhook(nil, testToken), request("POST", inQuery, "{}", isJSON, "X-Repush-Token: x"), 200, true},
		"beside a wrong bearer token":           {withWebhook(nil, testToken), request("POST", inQuery, "{}", isJSON, "Authorization: Bearer x"), 200, true},
		"a local program":                       {withWebhook(nil, ""), on(here, request("POST", inQuery, "{}", isJSON)), 200, true},
		"the bearer token says more":            {withWebhook(nil, testToken), request("POST", inQuery, "a=b", form, bearer), 200, false},
		"the bearer token, a form":              {withWebhook(nil, testToken), request("POST", "/", "a=b", form, bearer), 200, false},
		"a local program without, a form":       {withWebhook(nil, ""), on(here, request("POST", "/", "a=b", form)), 401, false},
		"a local program without":               {withWebhook(nil, ""), on(here, request("POST", "/", "{}", isJSON)), 401, false},
		"wrong in the query":                    {withWebhook(nil, testToken), request("POST", inQuery+"x", "a=b", form), 401, false},
		"wrong in the header":                   {withWebhook(nil, testToken), request("POST", "/", "a=b", form, inHeader+"x"), 401, false},
		"empty":                                 {withWebhook(nil, testToken), request("POST", "/?token=", "a=b", form, "X-Repush-Token: "), 401, false},
		"wrong, by a local program":             {withWebhook(nil, ""), on(here, request("POST", "/?token=x", "a=b", form)), 401, false},
		"none, by a web page":                   {withWebhook(nil, ""), on(here, request("POST", "/", "a=b", form, "Origin: https://example.com")), 401, false},
		"as the bearer token":                   {withWebhook(nil, testToken), request("POST", "/", "{}", isJSON, "Authorization: Bearer "+string(webhookToken)), 401, false},
		"the bearer token in its place":         {withWebhook(nil, testToken), request("POST", "/?token="+string(testToken), "{}", isJSON), 401, false},
		"another path":                          {withWebhook(nil, testToken), request("POST", "/x?token="+string(webhookToken), "{}", isJSON), 404, false},
		"the platform's path":                   {withWebhook(underFC, testToken), request("POST", "/invoke?token="+string(webhookToken), "{}", isJSON), 404, false},
		"another method":                        {withWebhook(nil, testToken), request("GET", inQuery, ""), 405, false},
		"a form that is compressed":             {withWebhook(nil, testToken), request("POST", inQuery, "a=b", form, "Content-Encoding: gzip"), 415, false},
		"a form in another encoding":            {withWebhook(nil, testToken), request("POST", inQuery, "a=b", "Content-Type: application/x-www-form-urlencoded; charset=gbk"), 415, false},
		"a form with ce- headers":               {withWebhook(nil, testToken), request("POST", inQuery, "a=b", form, "ce-id: 1"), 415, false},
		"a form as large as an event":           {withWebhook(nil, testToken), request("POST", inQuery, strings.Repeat("a", events.MaxEventBytes), form), 200, true},
		"a form larger than an event":           {withWebhook(nil, testToken), request("POST", inQuery, strings.Repeat("a", events.MaxEventBytes+1), form), 413, false},
		"none is configured, in the query":      {testConfig(nil, testToken), request("POST", "/?token=", "{}", isJSON), 401, false},
		"none is configured, in the header":     {testConfig(underFC, ""), request("POST", "/", "{}", isJSON, "X-Repush-Token: "), 401, false},
		"none is configured, a local program's": {testConfig(nil, ""), on(here, request("POST", "/?token=x", "{}", isJSON)), 200, false},
		"none is configured, a form":            {testConfig(nil, testToken), request("POST", inQuery, "a=b", form, bearer), 415, false},
	}, func(t *testing.T, c hook) {
		var handler recorder
		w := do(t.Context(), c.c, handler.handle, c.request)
		if w.Code != c.status || len(handler.calls) != map[bool]int{true: 1}[c.status == 200] {
			t.Fatalf("status %d, want %d; %d calls: %s", w.Code, c.status, len(handler.calls), w.Body)
		}
		if c.status == 401 && (w.Header().Get("WWW-Authenticate") != "Bearer" || strings.Contains(w.Body.String(), "webhook token") != (c.c.WebhookToken != "")) {
			t.Errorf("%v %s", w.Header(), w.Body)
		}
		if c.status == 200 && (handler.calls[0].In.AlertOnly != c.alertOnly || handler.calls[0].In.Platform) {
			t.Errorf("%+v", handler.calls[0].In)
		}
	})
}

// The platform's own call is never an alert's only.
func TestThePlatformNeedsNoWebhookToken(t *testing.T) {
	t.Parallel()
	var handler recorder
	do(t.Context(), withWebhook(underFC, ""), handler.handle, request("POST", "/invoke?token="+string(webhookToken), "x", "x-fc-control-path: /invoke"))
	if len(handler.calls) != 1 || handler.calls[0].In.AlertOnly || !handler.calls[0].In.Platform {
		t.Errorf("%+v", handler.calls)
	}
}

func TestTheWebhookTokenIsNeverLogged(t *testing.T) {
	t.Parallel()
	var log, out buffer
	for _, vars := range []map[string]string{{"PORT": "0"}, {"PORT": "0", "FC_FUNCTION_NAME": "f"}} {
		c := withWebhook(vars, testToken)
		c.Log, c.Stdout = logTo(&log), &out
		s := newServer(t.Context(), c, func(_ context.Context, in Invocation, body []byte) Answer { panic("of the test") })
		server := httptest.NewServer(s.httpServer().Handler)
		for _, path := range []string{"/", "/invoke", "/x", "//", "/?a;b", "/%"} {
			_, query, _ := strings.Cut(path, "?")
			answer, err := http.Post(server.URL+strings.TrimSuffix(path, "?"+query)+"?token="+string(webhookToken)+"&"+query, "application/json", bytes.NewBufferString("{}"))
			if err != nil {
				continue
			}
			text, _ := io.ReadAll(answer.Body)
			answer.Body.Close()
			if strings.Contains(string(text), string(webhookToken)) {
				t.Errorf("%s answers %s", path, text)
			}
		}
		server.Close()
	}
	if text := log.String() + out.String(); !strings.Contains(text, "panicked") || strings.Contains(text, string(webhookToken)) {
		t.Errorf("logged %s", text)
	}
}
