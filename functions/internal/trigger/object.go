package trigger

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ons-repush/ons-repush/events"
)

// object is a JSON object; nil has no members.
type object []events.Member

func split(raw []byte) (object, error) {
	members, err := events.Members(raw)
	return members, err
}

func (o object) get(name string) json.RawMessage {
	for i := range o {
		if o[i].Name == name {
			return o[i].Value
		}
	}
	return nil
}

func (o object) hasAll(names []string) bool {
	for _, name := range names {
		if o.get(name) == nil {
			return false
		}
	}
	return true
}

// text is a string or the digits of a number; "" when it is neither.
func (o object) text(name string) string {
	raw := o.get(name)
	switch {
	case len(raw) == 0:
	case raw[0] == '"':
		text, _ := unquote(raw)
		return string(text)
	case raw[0] == '-' || '0' <= raw[0] && raw[0] <= '9':
		return string(raw)
	}
	return ""
}

// spelt is the text of the member whose name is the first of these, in their
// order, but for case and underscores; "" when two spellings say different things.
func (o object) spelt(names ...string) string {
	for _, name := range names {
		found := ""
		for _, m := range o {
			text := object{m}.text(m.Name)
			switch {
			case !strings.EqualFold(strings.ReplaceAll(m.Name, "_", ""), name) || text == "":
			case found != "" && found != text:
				return ""
			default:
				found = text
			}
		}
		if found != "" {
			return found
		}
	}
	return ""
}

// object is nil when the member is no readable object.
func (o object) object(name string) object {
	inner, _ := split(o.get(name))
	return inner
}

// time reads RFC 3339 or milliseconds since 1970, as a number or in a string;
// zero when it is neither.
func (o object) time(name string) time.Time {
	text := o.text(name)
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at
	}
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms > 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}

// unquote reads a JSON string. Bytes that are no UTF-8 are an error, because
// encoding/json would replace them in silence. The text may alias raw.
func unquote(raw []byte) ([]byte, error) {
	var text string
	switch {
	case !utf8.Valid(raw):
		return nil, refused(CodeUnreadable, "not UTF-8")
	case len(raw) > 1 && raw[0] == '"' && bytes.IndexByte(raw, '\\') < 0 && json.Valid(raw):
		return raw[1 : len(raw)-1], nil
	case json.Unmarshal(raw, &text) != nil:
		return nil, refused(CodeUnreadable, "not a JSON string")
	}
	return []byte(text), nil
}

// elements splits an array. One element that is nested too deep does not take
// the others with it.
func elements(raw []byte) ([]json.RawMessage, error) {
	all, err := events.Elements(raw, events.MaxBatch)
	if errors.Is(err, events.ErrTooDeep) {
		err = json.Unmarshal(raw, &all)
	}
	switch {
	case len(raw) == 0 || raw[0] != '[' || errors.Is(err, events.ErrNotJSON):
		return nil, refused(CodeUnreadable, "no valid JSON array")
	case err != nil:
		return nil, refused(CodeTooLarge, "an array of more than %d elements, or nested too deep", events.MaxBatch)
	}
	return all, nil
}
