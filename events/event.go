package events

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"time"
)

// Event is a CloudEvent 1.0 in the JSON format (source: CloudEvents spec 1.0.2,
// "JSON Event Format"). The zero value is no valid event.
type Event struct {
	ID     string
	Source string
	Type   string
	// Subject, Time and DataSchema are optional: empty or zero means absent.
	Subject    string
	Time       time.Time
	DataSchema string
	// Data is JSON; nil means absent. After [Decode] it may alias what was
	// decoded.
	Data json.RawMessage
}

// wireEvent fixes the order of the attributes on the wire.
type wireEvent struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            time.Time       `json:"time,omitzero"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	DataSchema      string          `json:"dataschema,omitempty"`
	Data            json.RawMessage `json:"data,omitempty"`
}

// MarshalJSON writes the structured JSON format.
func (e Event) MarshalJSON() ([]byte, error) {
	w := wireEvent{
		SpecVersion: "1.0", ID: e.ID, Source: e.Source, Type: e.Type,
		Subject: e.Subject, Time: e.Time.UTC(), DataSchema: e.DataSchema, Data: e.Data,
	}
	if len(e.Data) > 0 {
		w.DataContentType = "application/json"
	}
	return marshal(w)
}

// UnmarshalJSON reads the structured JSON format; see [Decode].
func (e *Event) UnmarshalJSON(raw []byte) error {
	decoded, err := Decode(bytes.Clone(raw)) // raw is the caller's to reuse
	if err == nil {
		*e = decoded
	}
	return err
}

// Decode reads one CloudEvent in the structured JSON format. Extension
// attributes are allowed and dropped: platforms add their own. The error is a
// [*ValidationError] that names every attribute that is wrong, or says of
// "event" why the bytes are no JSON object. The data is not looked into.
func Decode(raw []byte) (Event, error) {
	if len(raw) > MaxEventBytes {
		return Event{}, invalid("event", ErrTooLarge.Error())
	}
	members, err := Members(raw)
	if err != nil {
		return Event{}, broken("event", err)
	}
	return FromMembers(members)
}

// FromMembers is [Decode] for an object that was split before.
func FromMembers(members []Member) (Event, error) {
	var e Event
	if problems := read(&e, attributes, members, extension); problems != nil {
		return Event{}, &ValidationError{Problems: problems}
	}
	return e, nil
}

// extension judges the name of an extension attribute (source: CloudEvents
// spec 1.0.2, "Naming Conventions").
func extension(name string) string {
	if name == "" || !only(lower+digit, name) {
		return "attribute names are lower-case letters and digits"
	}
	return ""
}

// attributes is in the order of the contract.
var attributes = []field[Event]{
	{name: "specversion", required: true, rule: rule{oneOf: []string{"1.0"}, says: `"1.0"`}, at: func(*Event) any { return new(string) }},
	{name: "id", required: true, rule: attributeRule, at: func(e *Event) any { return &e.ID }},
	{name: "source", required: true, rule: attributeRule, at: func(e *Event) any { return &e.Source }},
	{name: "type", required: true, rule: attributeRule, at: func(e *Event) any { return &e.Type }},
	{name: "subject", rule: attributeRule, at: func(e *Event) any { return &e.Subject }},
	{name: "time", at: func(e *Event) any { return &e.Time }},
	{name: "datacontenttype", at: func(e *Event) any { return readContentType }},
	{name: "dataschema", rule: attributeRule, at: func(e *Event) any { return &e.DataSchema }},
	{name: "data", at: func(e *Event) any { return &e.Data }},
	{name: "data_base64", at: func(e *Event) any { return e.readBase64 }},
}

// readContentType asks for what CloudEvents calls JSON: a subtype json or one
// that ends in +json (source: JSON Event Format 1.0.2, section 3.1).
func readContentType(raw json.RawMessage) string {
	var text string
	if says := attributeRule.readText(&text, raw); says != "" {
		return says
	}
	mediaType, _, _ := strings.Cut(text, ";")
	_, subtype, _ := strings.Cut(strings.ToLower(strings.TrimRight(mediaType, " ")), "/")
	if subtype != "json" && !strings.HasSuffix(subtype, "+json") {
		return "must be application/json"
	}
	return ""
}

func (e *Event) readBase64(raw json.RawMessage) string {
	text, isText := unquote(raw)
	decoded, err := base64.StdEncoding.DecodeString(text)
	switch {
	case e.Data != nil:
		return "must not stand beside data"
	case !isText || err != nil:
		return "must be base64"
	}
	if err := CheckJSON(decoded); err != nil {
		return "must hold JSON: " + err.Error()
	}
	e.Data = decoded
	return ""
}
