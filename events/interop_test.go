package events

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
)

// TestCloudEventsSDKReadsOurs: the reference SDK takes every valid sample and
// everything we write, and reads the same attributes as we do.
func TestCloudEventsSDKReadsOurs(t *testing.T) {
	t.Parallel()
	for typ := range contracts() {
		for name, raw := range samples(t, "valid", typ) {
			ours, data, err := decodeAll(typ, raw)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if ours.Data == nil {
				continue // as the SDK reads it, which has no word for absent data
			}
			same(t, name, raw, ours)
			ours.Data = encode(t, data)
			same(t, name+", written by us", encode(t, ours), ours)
		}
	}
}

func same(t *testing.T, name string, raw []byte, ours Event) {
	t.Helper()
	var theirs event.Event
	if err := json.Unmarshal(raw, &theirs); err != nil {
		t.Errorf("%s: the SDK cannot read it: %v", name, err)
		return
	}
	if err := theirs.Validate(); err != nil {
		t.Errorf("%s: the SDK refuses it: %v", name, err)
	}
	var theirData, ourData any
	if err := json.Unmarshal(theirs.Data(), &theirData); err != nil {
		t.Errorf("%s: data by the SDK: %v", name, err)
	}
	if err := json.Unmarshal(ours.Data, &ourData); err != nil {
		t.Errorf("%s: data by us: %v", name, err)
	}
	for attribute, pair := range map[string][2]string{
		"specversion": {theirs.SpecVersion(), "1.0"},
		"id":          {theirs.ID(), ours.ID},
		"source":      {theirs.Source(), ours.Source},
		"type":        {theirs.Type(), ours.Type},
		"subject":     {theirs.Subject(), ours.Subject},
		"time":        {theirs.Time().UTC().Format(time.RFC3339Nano), ours.Time.UTC().Format(time.RFC3339Nano)},
		"dataschema":  {theirs.DataSchema(), ours.DataSchema},
		"data":        {string(encode(t, theirData)), string(encode(t, ourData))},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s is %q for the SDK and %q for us", name, attribute, pair[0], pair[1])
		}
	}
}

// TestWeReadTheCloudEventsSDK: what the reference SDK writes is read with the
// same attributes, its extensions dropped.
func TestWeReadTheCloudEventsSDK(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{event.ApplicationJSON, "text/json"} {
		theirs := event.New()
		theirs.SetID("1")
		theirs.SetSource("/ops/anna")
		theirs.SetType(TypeMessageRequested)
		theirs.SetSubject("orders")
		theirs.SetTime(time.Date(2026, 11, 22, 10, 0, 0, 5, time.FixedZone("", 3600)))
		theirs.SetDataSchema("https://example.com/schema")
		theirs.SetExtension("sequence", 7)
		if err := theirs.SetData(contentType, Requested{Topic: "R&D"}); err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(theirs)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := Decode(raw)
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		same(t, contentType, raw, ours)
	}
}
