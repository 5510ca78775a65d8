package trigger

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// FuzzDecode holds what every caller relies on, whatever the bytes.
func FuzzDecode(f *testing.F) {
	for _, pattern := range []string{"*", "deadletter/*", "control/*"} {
		for _, text := range samples(f, pattern) {
			f.Add([]byte(text))
		}
	}
	foreign, _ := filepath.Glob("../../../events/samples/*/*.json")
	for _, file := range foreign {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range alertTexts(f) {
		f.Add([]byte(text))
	}
	f.Add([]byte(planEvent(f)))
	f.Fuzz(func(t *testing.T, body []byte) {
		checkPlan(t, body)
		b := Decode(body, allowed)
		if len(b.Deliveries) > events.MaxBatch {
			t.Errorf("%d deliveries", len(b.Deliveries))
		}
		for _, d := range b.Deliveries {
			if !usable(d.Request.Source) || d.Request.ID == "" {
				t.Errorf("Request = %q", d.Request)
			}
			if err := validate(d); d.Err == nil && err != nil {
				t.Errorf("accepted %v", err)
			}
			if d.Operation != nil && !(len(b.Deliveries) == 1 && d.Human && cameAlone(body)) {
				t.Errorf("believed %+v", d)
			}
			if isControl := d.Sweep != nil || d.Operation != nil; isControl && (d.Err != nil || !d.Silent || d.Data != events.Requested{}) {
				t.Errorf("control event with more: %+v", d)
			}
			var fields *events.ValidationError
			var coded *Error
			if d.Err != nil && !errors.As(d.Err, &fields) && !errors.As(d.Err, &coded) {
				t.Errorf("Err is a %T", d.Err)
			}
			if code := codeOf(d.Err); !d.Silent && (code == CodeLoop || code == CodeUnauthorized || code == CodeNotTrusted) {
				t.Errorf("not silent with code %q", code)
			}
			if d.Silent && d.Err == nil && d.Sweep == nil && d.Operation == nil {
				t.Error("a valid request is silent")
			}
		}
		if a := b.Answer(nil); !json.Valid(a.Body) {
			t.Errorf("Body = %s", a.Body)
		}
		again := Decode(body, allowed)
		for i, d := range again.Deliveries {
			if d.Request != b.Deliveries[i].Request {
				t.Errorf("%d: redelivered as %v, first as %v", i, d.Request, b.Deliveries[i].Request)
			}
		}
	})
}

// checkPlan holds the same for functions/plan, and that who may send alerts only
// gets nothing else in.
func checkPlan(t *testing.T, body []byte) {
	b, only := Decode(body, forPlan), forPlan
	only.AlertOnly = true
	restricted := Decode(body, only).Deliveries
	for i, d := range b.Deliveries {
		if !usable(d.Request.Source) || d.Request.ID == "" {
			t.Errorf("Request = %q", d.Request)
		}
		outcomes := 0
		for _, is := range []bool{d.Err != nil, d.Plan != nil, d.Sweep != nil, d.Nothing != ""} {
			if is {
				outcomes++
			}
		}
		if outcomes != 1 || d.Operation != nil || d.Data != (events.Requested{}) {
			t.Errorf("%+v", d)
		}
		if d.Plan != nil && (d.Plan.Validate() != nil || d.Plan.Again && (d.Alert || !d.Human || len(b.Deliveries) > 1)) {
			t.Errorf("believed %+v", d.Plan)
		}
		if d.Alert && d.Human || utf8.RuneCountInString(d.Nothing) > 256 {
			t.Errorf("alert: %+v", d)
		}
		if r := restricted[i]; r.Request != d.Request || r.Human || r.Err == nil && !r.Alert || d.Alert && r.Err == nil && !cmp.Equal(r.Plan, d.Plan) {
			t.Errorf("who may send alerts only gets in %+v, else %+v", r, d)
		}
	}
	if a := b.PlanAnswer(nil); !json.Valid(a.Body) {
		t.Errorf("Body = %s", a.Body)
	}
}

func validate(d pushing.Delivery) error {
	switch {
	case d.Sweep != nil:
		return d.Sweep.Validate()
	case d.Operation != nil:
		return d.Operation.Validate()
	}
	return d.Data.Validate()
}

// cameAlone says, without the decoder's bookkeeping, whether a body is one event
// that nobody but its sender wrapped, or needs the token to be read.
func cameAlone(body []byte) bool {
	if d := Decode(body, Options{}).Deliveries[0]; codeOf(d.Err) == CodeUnauthorized {
		return true
	}
	for {
		var text string
		decoded, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(body)))
		switch {
		case json.Unmarshal(body, &text) == nil:
			body = []byte(text)
		case err == nil && len(decoded) > 0:
			body = decoded
		default:
			var e map[string]any
			err := json.Unmarshal(body, &e)
			return err == nil && e["type"] == events.TypeOperationRequested && !slices.ContainsFunc(slices.Collect(maps.Keys(e)), func(name string) bool { return strings.HasPrefix(name, "aliyun") })
		}
	}
}

func BenchmarkDecodeRocketMQ(b *testing.B) {
	body := []byte(samples(b, "rocketmq-stream")["rocketmq-stream"])
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if batch := Decode(body, Options{}); batch.Deliveries[0].Err != nil {
			b.Fatal(batch.Deliveries[0].Err)
		}
	}
}

// The worst that one invocation can be asked to read.
func BenchmarkDecodeWorst(b *testing.B) {
	element := wide(events.MaxMembers, 250)
	body := []byte("[")
	for len(body)+len(element) < MaxBytes {
		body = append(append(body, element...), ',')
	}
	body[len(body)-1] = ']'
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		Decode(body, Options{})
	}
}
