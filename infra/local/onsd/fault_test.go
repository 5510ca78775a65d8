package onsd

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestFaults maps a fault to what a caller over a real connection sees of a
// push, before and after its effect.
func TestFaults(t *testing.T) {
	t.Parallel()
	jsonErr := FaultError{Status: 503, Code: "ServiceUnavailable", Message: "later"}
	as := func(format string) FaultError { e := jsonErr; e.Format = format; return e }
	tests := map[string]struct {
		fault Fault
		check func(r *http.Response, body string) bool
	}{
		"an error": {Fault{Do: "error", Error: jsonErr}, func(r *http.Response, body string) bool {
			return r.StatusCode == 503 && strings.Contains(body, `"Code":"ServiceUnavailable"`) && json.Valid([]byte(body))
		}},
		"an XML error": {Fault{Do: "error", Error: as("xml")}, func(r *http.Response, body string) bool {
			return r.StatusCode == 503 && strings.Contains(body, "<Error><RequestId>") && strings.Contains(body, "<Code>ServiceUnavailable</Code>")
		}},
		"an HTML error": {Fault{Do: "error", Error: as("html")}, func(r *http.Response, body string) bool {
			return r.StatusCode == 503 && strings.HasPrefix(body, "<html>") && r.Header.Get("Content-Type") == "text/html"
		}},
		"an empty error": {Fault{Do: "error", Error: as("empty")}, func(r *http.Response, body string) bool {
			return r.StatusCode == 503 && body == ""
		}},
		"a numeric code": {Fault{Do: "error", Error: as("numericCode")}, func(r *http.Response, body string) bool {
			return r.StatusCode == 503 && strings.Contains(body, `"Code":503`)
		}},
		"success with a code": {Fault{Do: "error", Error: FaultError{Status: 200, Code: "ONS_SYSTEM_ERROR"}}, func(r *http.Response, body string) bool {
			return r.StatusCode == 200 && strings.Contains(body, `"Code":"ONS_SYSTEM_ERROR"`)
		}},
		"success without a body": {Fault{Do: "error", Error: FaultError{Status: 200, Format: "empty"}}, func(r *http.Response, body string) bool {
			return r.StatusCode == 200 && body == ""
		}},
		"a cut connection": {Fault{Do: "cut"}, func(r *http.Response, _ string) bool { return r == nil }},
		"a redirect": {Fault{Do: "redirect", Location: "http://127.0.0.1:1/elsewhere"}, func(r *http.Response, _ string) bool {
			return r.StatusCode == 307 && r.Header.Get("Location") == "http://127.0.0.1:1/elsewhere"
		}},
		"cut-off JSON": {Fault{Do: "truncated"}, func(r *http.Response, body string) bool {
			return r.StatusCode == 200 && strings.HasPrefix(body, `{"RequestId":"`) && !json.Valid([]byte(body))
		}},
		"the wrong content type": {Fault{Do: "contentType"}, func(r *http.Response, body string) bool {
			return r.StatusCode == 200 && r.Header.Get("Content-Type") == "text/html" && json.Valid([]byte(body))
		}},
		"a huge body": {Fault{Do: "huge"}, func(r *http.Response, body string) bool {
			return r.StatusCode == 200 && len(body) > hugeAnswer && strings.HasSuffix(body, "x\"}\n")
		}},
	}
	for name, test := range tests {
		for when, delivered := range map[string]int{"before": 0, "after": 1} {
			t.Run(when+"/"+name, func(t *testing.T) {
				t.Parallel()
				f := test.fault
				f.When = when
				s := newServer(t, func(d *Data) { d.Faults = []Fault{f} })
				e := listen(t, s, false)
				client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
				defer client.CloseIdleConnections()
				post := func() (*http.Response, string) {
					r, err := client.Post(e.URL+"/?"+signed("POST", time.Now(), nil).Encode(), "", nil)
					if err != nil {
						return nil, ""
					}
					defer r.Body.Close()
					body, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					return r, string(body)
				}
				r, body := post()
				if !test.check(r, body) {
					t.Errorf("got %+v %.200q", r, body)
				}
				if n := s.Deliveries().ByMessage[goodID]; n != delivered {
					t.Errorf("%d deliveries, want %d", n, delivered)
				}
				if calls := s.Calls("OnsMessagePush"); calls.Accepted != delivered || calls.Refused != 1-delivered {
					t.Errorf("counted %+v", calls)
				}
				if r, body := post(); r == nil || r.StatusCode != 200 || !strings.HasPrefix(body, `{"RequestId":"`) {
					t.Errorf("the second call is hit as well: %+v %q", r, body)
				}
			})
		}
	}
}

// TestFaultsSelect maps a selection to which of the calls are hit: message
// good, client A; message pending, client A; good, B; good, A; connections.
func TestFaultsSelect(t *testing.T) {
	t.Parallel()
	calls := []map[string]string{
		{}, {"MsgId": pendingID}, {"ClientId": "window"}, {}, {"Action": "OnsConsumerGetConnection"},
	}
	for name, test := range map[string]struct {
		fault Fault
		want  string // x: hit
	}{
		"the first of all":            {Fault{}, "x...."},
		"the third of all":            {Fault{Nth: 3}, "..x.."},
		"the second and third":        {Fault{Nth: 2, Count: 2}, ".xx.."},
		"all from the third":          {Fault{Nth: 3, Count: -1}, "..xxx"},
		"all pushes":                  {Fault{API: "OnsMessagePush", Count: -1}, "xxxx."},
		"another operation":           {Fault{API: "OnsConsumerGetConnection"}, "....x"},
		"the second of a message":     {Fault{API: "OnsMessagePush", MsgID: goodID, Nth: 2}, "..x.."},
		"a client":                    {Fault{ClientID: "window"}, "..x.."},
		"a message to a client":       {Fault{MsgID: pendingID, ClientID: "window"}, "....."},
		"the second after its effect": {Fault{API: "OnsMessagePush", When: "after", Nth: 2}, ".x..."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := test.fault
			f.Do, f.Error = "error", FaultError{Status: 500, Code: "InternalError"}
			s := newServer(t, nil)
			if err := s.AddFault(f); err != nil {
				t.Fatal(err)
			}
			got := ""
			for _, call := range calls {
				got += map[bool]string{true: "x", false: "."}[do(t, s, call).body.Code == "InternalError"]
			}
			if got != test.want {
				t.Errorf("hit %q, want %q", got, test.want)
			}
		})
	}
}

// TestAfterCountsOnlyCallsWithAnEffect: a push that is refused does not use the
// fault up.
func TestAfterCountsOnlyCallsWithAnEffect(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(d *Data) {
		d.Faults = []Fault{{When: "after", Do: "error", Error: FaultError{Status: 500, Code: "InternalError"}}}
	})
	got := ""
	for _, client := range []string{"gone", testClient, testClient} {
		got += do(t, s, map[string]string{"ClientId": client}).body.Code + " "
	}
	if want := "BIZ_CONSUMER_NOT_ONLINE InternalError  "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestDelays(t *testing.T) {
	t.Parallel()
	for when, deliveredEarly := range map[string]int{"before": 0, "after": 1} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, func(d *Data) {
					d.Faults = []Fault{{When: when, Delay: 2 * time.Second}, {When: when, Delay: time.Second, Do: "error", Error: FaultError{Status: 500, Code: "InternalError"}}}
				})
				began, answered := time.Now(), make(chan reply)
				go func() { answered <- do(t, s, nil) }()
				synctest.Wait()
				if n := s.Deliveries().Total; n != deliveredEarly {
					t.Errorf("%d deliveries during the delay, want %d", n, deliveredEarly)
				}
				got := <-answered
				if took := time.Since(began); took != 3*time.Second || got.body.Code != "InternalError" {
					t.Errorf("%q after %v, want InternalError after both delays", got.Body, took)
				}
				if got := do(t, s, nil); got.Code != 200 {
					t.Errorf("the second call: %s", got.Body)
				}
			})
		})
	}
}

func TestAddFaultChecks(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for rule, f := range map[string]Fault{
		"is no operation":                   {API: "OnsMagic", Do: "cut"},
		"nth must not be negative":          {Nth: -1, Do: "cut"},
		"must be one of":                    {Do: "explode"},
		`"later" must be one of`:            {When: "later", Do: "cut"},
		"must do something, delay or shift": {},
		"shift is for page queries":         {API: "OnsMessagePush", Shift: 1},
		"before they have their effect":     {API: "OnsMessagePageQueryByTopic", Shift: 1, When: "after"},
		"shift must be from -2500 to 2500":  {API: "OnsMessagePageQueryByTopic", Shift: -2501},
		"location goes with do: redirect":   {Do: "redirect"},
		"error goes with do: error":         {Do: "cut", Error: FaultError{Status: 500}},
		"status must be from 200 to 599":    {Do: "error", Error: FaultError{Code: "x"}},
		`"yaml" must be one of`:             {Do: "error", Error: FaultError{Status: 500, Format: "yaml"}},
	} {
		if err := s.AddFault(f); err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("%s: got %v", fmt.Sprintf("%+v", f), err)
		}
	}
	if len(s.faults) != 0 {
		t.Errorf("%d faults armed, want none", len(s.faults))
	}
}
