package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Errors of JSON that is refused before its fields are looked at.
var (
	ErrTooLarge  = fmt.Errorf("larger than %d bytes", MaxEventBytes)
	ErrTooDeep   = fmt.Errorf("nested deeper than %d levels", MaxDepth)
	ErrNotJSON   = errors.New("not valid JSON")
	ErrNotObject = errors.New("not a JSON object")
	ErrTooMany   = fmt.Errorf("more than %d members in one object", MaxMembers)
)

// Member is one name and value of a JSON object, in the order of the document.
type Member struct {
	Name  string
	Value json.RawMessage
}

// CheckJSON reports whether raw is one JSON value within the limits of depth.
// It copies nothing, so it is what untrusted bytes meet first. The size is the
// caller's to bound: a batch may be larger than an event.
func CheckJSON(raw []byte) error {
	if depth(raw) > MaxDepth {
		return ErrTooDeep
	}
	if !json.Valid(raw) {
		return ErrNotJSON
	}
	return nil
}

// Members splits a JSON object into its members without decoding the values.
// Names are compared as they are, unlike encoding/json, which ignores case; a
// name given twice is a [*ValidationError], because two readers would disagree
// about which one counts. The values alias raw.
func Members(raw []byte) ([]Member, error) {
	if err := CheckJSON(raw); err != nil {
		return nil, err
	}
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 || raw[0] != '{' {
		return nil, ErrNotObject
	}
	members := make([]Member, 0, 16)
	for at := next(raw, 1); raw[at] != '}'; {
		end := valueEnd(raw, at)
		name, _ := unquote(raw[at:end])
		if slices.ContainsFunc(members, func(m Member) bool { return m.Name == name }) {
			return nil, invalid(printable(name), "is given twice")
		}
		if len(members) == MaxMembers {
			return nil, ErrTooMany
		}
		at = next(raw, end)
		end = valueEnd(raw, at)
		members = append(members, Member{Name: name, Value: raw[at:end:end]})
		at = next(raw, end)
	}
	return members, nil
}

// Elements splits a JSON array into its elements without decoding them. It
// stops with an error after limit elements. The elements alias raw.
func Elements(raw []byte, limit int) ([]json.RawMessage, error) {
	if err := CheckJSON(raw); err != nil {
		return nil, err
	}
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 || raw[0] != '[' {
		return nil, errors.New("not a JSON array")
	}
	var elements []json.RawMessage
	for at := next(raw, 1); raw[at] != ']'; {
		if len(elements) == limit {
			return nil, fmt.Errorf("more than %d events in one batch", limit)
		}
		end := valueEnd(raw, at)
		elements = append(elements, raw[at:end:end])
		at = next(raw, end)
	}
	return elements, nil
}

// depth is the deepest nesting of brackets outside strings.
func depth(raw []byte) int {
	deepest, now := 0, 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = stringEnd(raw, i)
		case '{', '[':
			now++
			deepest = max(deepest, now)
		case '}', ']':
			now--
		}
	}
	return deepest
}

// stringEnd returns where the closing quote of the string that starts at at is;
// len(raw) when there is none.
func stringEnd(raw []byte, at int) int {
	for i := at + 1; i < len(raw); i++ {
		switch raw[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(raw)
}

// next returns where the next value of valid JSON is, or the closing bracket.
func next(raw []byte, at int) int {
	for strings.IndexByte(" \t\r\n:,", raw[at]) >= 0 {
		at++
	}
	return at
}

// valueEnd returns where the value that starts at at ends, inside an array or
// object of valid JSON.
func valueEnd(raw []byte, at int) int {
	for open := 0; ; at++ {
		switch raw[at] {
		case '"':
			at = stringEnd(raw, at)
		case '{', '[':
			open++
		case '}', ']':
			open--
		default:
			if open == 0 { // a number or a word
				return at + bytes.IndexAny(raw[at:], ",:]} \t\r\n")
			}
		}
		if open == 0 {
			return at + 1
		}
	}
}

// unquote returns the text of a JSON string and whether raw is one.
func unquote(raw json.RawMessage) (text string, isText bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), true
	}
	var unescaped string // a variable of its own: Unmarshal moves it to the heap
	err := json.Unmarshal(raw, &unescaped)
	return unescaped, err == nil
}

// printable shortens and quotes a name of unknown origin for an error message,
// unless it could be a name of ours.
func printable(name string) string {
	if name != "" && len(name) <= 40 && only(word+"_", name) {
		return name
	}
	if len(name) > 40 {
		name = name[:40] + "…"
	}
	return strconv.QuoteToASCII(name)
}
