package events_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

func ExampleDecodeRequested() {
	event, err := events.Decode([]byte(`{
		"specversion": "1.0", "id": "1", "source": "ops/anna", "type": "repush:Message:Requested",
		"data": {
			"instanceId": "MQ_INST_1234567890123456_BXabcdef",
			"topic": "%DLQ%GID_billing",
			"groupId": "GID_billing",
			"msgId": "C0A8010A00002A9F0000000000A1B2C3",
			"dryrun": true
		}
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	request, err := events.DecodeRequested(event.Data)
	var invalid *events.ValidationError
	if errors.As(err, &invalid) {
		fmt.Println("message", request.MsgID)
		for _, p := range invalid.Problems {
			fmt.Printf("%s: %s\n", p.Field, p.Rule)
		}
	}
	// Output:
	// message C0A8010A00002A9F0000000000A1B2C3
	// topic: must be 3 to 64 letters, digits, _ and -; the original topic, never a %RETRY% or %DLQ% copy
	// reason: is required
	// dryrun: is not a field of this event
}

func ExampleRequested_Validate() {
	request := events.Requested{
		InstanceID: "MQ_INST_1234567890123456_BXabcdef",
		Topic:      "orders",
		GroupID:    "GID_billing",
		MsgID:      "C0A8010A00002A9F0000000000A1B2C3",
		Reason:     "consumer was down",
		Priority:   "urgent",
	}
	fmt.Println(request.Validate())
	request.Priority = events.PriorityAlert
	fmt.Println(request.Validate())
	// Output:
	// priority: must be human, alert or bulk
	// <nil>
}

func ExampleNewCompleted() {
	at := time.Date(2026, 11, 22, 10, 0, 1, 0, time.UTC)
	event, err := events.NewCompleted(events.Completed{
		Request:    events.RequestRef{ID: "1", Source: "ops/anna"},
		Outcome:    events.Rejected,
		Code:       "Invalid",
		Message:    "reason: is required",
		Hint:       "correct the request and send it under a new id",
		ReceivedAt: at,
		DecidedAt:  at,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	raw, err := event.MarshalJSON()
	fmt.Println(string(raw), err)
	// Output:
	// {"specversion":"1.0","id":"856de350e98c0d802e3d097901b4249f","source":"ons-repush/repush","type":"repush:Message:Completed","time":"2026-11-22T10:00:01Z","datacontenttype":"application/json","data":{"request":{"id":"1","source":"ops/anna"},"outcome":"rejected","code":"Invalid","message":"reason: is required","hint":"correct the request and send it under a new id","attempts":0,"pushes":0,"maybeDuplicate":false,"durable":false,"receivedAt":"2026-11-22T10:00:01Z","decidedAt":"2026-11-22T10:00:01Z","waitMs":0,"callMs":0}} <nil>
}

// A manifest leaves in parts, and whoever collects them finds out whether he has
// all of it.
func ExampleManifest() {
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	entries := []events.Entry{
		{Topic: "orders", MsgID: "C0A8010A00002A9F0000000000A1B2C3", Generation: 1, Copies: 2},
		{Topic: "orders", MsgID: "C0A8010A00002A9F0000000000A1B2C4", Generation: 2},
	}
	plan := events.Planned{
		OperationID: "op-1", IncidentID: "incident-1", InstanceID: "MQ_INST_1234567890123456_BXabcdef", GroupID: "GID_billing",
		Source: events.DeadLetters, CutOff: at, Count: len(entries), SHA256: events.ManifestHash(entries), Entries: entries,
		LeftOut: []events.LeftOut{{Reason: "no origin", Count: 1, MsgIDs: []string{"C0A8010A00002A9F0000000000A1B2C5"}}},
	}
	parts := events.Parts(plan)
	event, err := events.NewPlanned(parts[0], "", at)
	fmt.Println(len(parts), event.ID, event.Subject, err)

	part, err := events.DecodePlanned(event.Data)
	fmt.Println(part.Part, part.Parts, err)
	whole, err := events.Manifest(part)
	fmt.Println(len(whole.Entries), whole.SHA256[:8], err)
	part.Entries = part.Entries[:1]
	_, err = events.Manifest(part)
	fmt.Println(err)
	// Output:
	// 1 02f854d02c93a6200abf3d3d132e489a MQ_INST_1234567890123456_BXabcdef/GID_billing <nil>
	// 1 1 <nil>
	// 2 a7bf3f7e <nil>
	// manifest: it says that it has 2 messages, and has 1
}

func ExampleDecodePlan() {
	plan, err := events.DecodePlan([]byte(`{
		"instanceId": "MQ_INST_1234567890123456_BXabcdef", "groupId": "GID_billing", "reason": "consumer was down",
		"source": "ids", "ids": ["C0A8010A00002A9F0000000000A1B2C3", "order-4711"], "keys": ["order-4711"]
	}`))
	var invalid *events.ValidationError
	if errors.As(err, &invalid) {
		fmt.Println("group", plan.GroupID)
		for _, p := range invalid.Problems {
			fmt.Printf("%s: %s\n", p.Field, p.Rule)
		}
	}
	// Output:
	// group GID_billing
	// ids.1: must be 32, 34 or 56 hexadecimal digits
	// keys: must stand with source key, and only there
	// topic: is required with source ids and key
}
