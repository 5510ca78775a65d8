package events

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Problem is one field and the rule it breaks. It never quotes the value.
// Fields of nested objects are joined with a dot: "first.outcome".
type Problem struct {
	Field string
	Rule  string
}

// ValidationError lists everything that is wrong with an event, in the order
// of the fields in the schema; unknown fields and what is wrong between fields
// come last.
type ValidationError struct {
	Problems []Problem
}

// Error returns "field: rule" for every problem, separated by "; ".
func (e *ValidationError) Error() string {
	texts := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		texts[i] = p.Field + ": " + p.Rule
	}
	return strings.Join(texts, "; ")
}

func invalid(field, rule string) *ValidationError {
	return &ValidationError{Problems: []Problem{{field, rule}}}
}

// broken turns the reason why field's bytes could not be split into problems.
func broken(field string, err error) *ValidationError {
	if named, is := errors.AsType[*ValidationError](err); is {
		return named
	}
	return invalid(field, err.Error())
}

const isRequired = "is required"

// field ties one field of the contract to its rule.
type field[T any] struct {
	name     string
	required bool
	rule     rule // for text and numbers, and the texts of a list
	// at returns what [rule.read] takes: a pointer to the field, or a function
	// for what a rule cannot express.
	at func(*T) any
}

// read sets the fields of to that keep their rule and returns every problem.
// unknown judges a name that is not in the table: "" means harmless.
func read[T any](to *T, fields []field[T], members []Member, unknown func(name string) string) []Problem {
	var problems []Problem
	known := 0
	for i := range fields {
		f := &fields[i]
		at := slices.IndexFunc(members, func(m Member) bool { return m.Name == f.name })
		switch {
		case at < 0 && f.required:
			problems = append(problems, Problem{f.name, isRequired})
		case at >= 0:
			known++
			problems = append(problems, inside(f.name, f.rule.read(f.at(to), members[at].Value))...)
		}
	}
	if known == len(members) {
		return problems
	}
	for _, m := range members {
		if says := unknown(m.Name); says != "" && !slices.ContainsFunc(fields, func(f field[T]) bool { return f.name == m.Name }) {
			problems = append(problems, Problem{printable(m.Name), says})
		}
	}
	return problems
}

// rule bounds one text or number.
type rule struct {
	// min and max are characters of a text or the range of a number.
	min, max int
	// lengths, when given, are the only lengths allowed.
	lengths []int
	// chars, when given, are the only characters allowed. Without, all are but
	// control characters and U+FFFD.
	chars string
	// oneOf, when given, are the only values allowed.
	oneOf []string
	// most bounds the elements of a list, whose texts keep the rule.
	most int
	// says is the whole rule in words, after "must be".
	says string
}

const (
	lower = "abcdefghijklmnopqrstuvwxyz"
	digit = "0123456789"
	word  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + lower + digit
	hexes = digit + "ABCDEF" + "abcdef"
)

// The rules of identifiers. Sources: DOC OnsTopicCreate and OnsGroupCreate for
// topic and group, OnsInstanceCreate for instances, apache/rocketmq
// MessageDecoder and MessageClientIDSetter for message ids (32 or 56 hex
// digits for IPv4 and IPv6), the 5.x GetMessageDetail sample for 34.
var (
	instanceRule = rule{min: 1, max: 64, chars: word + "_-", says: "1 to 64 letters, digits, _ and -"}
	topicRule    = rule{min: 3, max: 64, chars: word + "_-", says: "3 to 64 letters, digits, _ and -; the original topic, never a %RETRY% or %DLQ% copy"}
	groupRule    = rule{min: 2, max: 64, chars: word + "_-", says: "2 to 64 letters, digits, _ and -"}
	msgIDRule    = rule{min: 32, max: 56, lengths: []int{32, 34, 56}, chars: hexes, says: "32, 34 or 56 hexadecimal digits"}
	offsetIDRule = rule{min: 32, max: 56, lengths: []int{32, 56}, chars: hexes, says: "32 or 56 hexadecimal digits"}
	// clientRule admits what the Java, Apache and gRPC clients make of
	// themselves: "192.0.2.7@4242#-11#22#33", "host@pid@n@random", IPv6 hosts.
	clientRule    = rule{min: 1, max: 255, chars: word + "@#._:%~+-", says: "1 to 255 letters, digits and @#._:%~+-"}
	operationRule = rule{min: 1, max: 128, chars: word + "._:-", says: "1 to 128 letters, digits and ._:-"}
	proseRule     = textOf(256)
	keyRule       = textOf(255)
	attributeRule = textOf(512)
	resultRule    = textOf(1024)
)

// textOf is the rule of a text for people: CloudEvents forbids control
// characters and surrogates in strings (source: spec 1.0.2, "Type System");
// encoding/json reads surrogates and broken UTF-8 as U+FFFD, which would make
// two ids one.
func textOf(most int) rule {
	return rule{min: 1, max: most, says: "1 to " + strconv.Itoa(most) + " characters without control characters and U+FFFD"}
}

// reader reads a value that has fields or elements of its own. It names what is
// wrong from there on: "" is the value itself.
type reader = func(json.RawMessage) []Problem

// read sets to from raw, or returns the broken rule in words, named as a [reader]
// does, and leaves to alone.
func (r rule) read(to any, raw json.RawMessage) []Problem {
	says := "must be absent" // unreachable: the table's types are tested
	switch to := to.(type) {
	case *string:
		says = r.readText(to, raw)
	case *int:
		says = r.readInt(to, raw)
	case *time.Time:
		says = readTime(to, raw)
	case *bool:
		says = readBool(to, raw)
	case *json.RawMessage:
		*to, says = raw, ""
	case func(json.RawMessage) string:
		says = to(raw)
	case *[]string:
		return listOf(to, r, func(text *string) any { return text })(raw)
	case reader:
		return to(raw)
	}
	if says == "" {
		return nil
	}
	return []Problem{{"", says}}
}

// inside names problems from outside.
func inside(name string, problems []Problem) []Problem {
	for i, p := range problems {
		problems[i].Field = strings.TrimSuffix(name+"."+p.Field, ".")
	}
	return problems
}

// objectOf reads an object by its table.
func objectOf[T any](to *T, fields []field[T]) reader {
	return func(raw json.RawMessage) []Problem {
		members, err := Members(raw)
		if err != nil {
			return broken("", err).Problems
		}
		return read(to, fields, members, closed)
	}
}

// listOf reads 1 to r.most elements, each by the rule into what at returns. Texts
// differ, hexadecimal ones not only in case.
func listOf[E any](to *[]E, r rule, at func(*E) any) reader {
	return func(raw json.RawMessage) (problems []Problem) {
		elements, err := Elements(raw, r.most)
		if err != nil || len(elements) == 0 {
			return []Problem{{"", "must be a list of 1 to " + strconv.Itoa(r.most)}}
		}
		all, seen := make([]E, len(elements)), make(map[string]bool)
		for i, element := range elements {
			problems = append(problems, inside(strconv.Itoa(i), r.read(at(&all[i]), element))...)
			text, isText := unquote(element)
			if r.chars == hexes {
				text = strings.ToUpper(text)
			}
			if isText && seen[text] {
				problems = append(problems, Problem{"", "must hold nothing twice: element " + strconv.Itoa(i) + " was there before"})
			}
			seen[text] = true
		}
		if problems == nil {
			*to = all
		}
		return problems
	}
}

func (r rule) readText(to *string, raw json.RawMessage) string {
	text, isText := unquote(raw)
	switch {
	case !isText:
		return "must be a string"
	case !r.allows(text):
		return "must be " + r.says
	}
	*to = text
	return ""
}

func (r rule) allows(text string) bool {
	if r.oneOf != nil {
		return slices.Contains(r.oneOf, text)
	}
	if n := utf8.RuneCountInString(text); n < r.min || n > r.max || r.lengths != nil && !slices.Contains(r.lengths, n) {
		return false
	}
	if r.chars == "" {
		return !strings.ContainsFunc(text, isForbidden)
	}
	return only(r.chars, text)
}

// clip makes any text fit a rule of textOf; what was empty stays empty.
func (r rule) clip(text string) string {
	text = strings.Map(func(c rune) rune {
		if isForbidden(c) {
			return ' '
		}
		return c
	}, text)
	if utf8.RuneCountInString(text) > r.max {
		text = string([]rune(text)[:r.max-1]) + "…"
	}
	return text
}

// ClipReason makes any text fit for a Reason: one line of at most 256 characters.
func ClipReason(text string) string { return proseRule.clip(text) }

// upTo is the rule of a list of such texts.
func (r rule) upTo(most int) rule { r.most = most; return r }

func only(chars, text string) bool { return strings.Trim(text, chars) == "" }

func isForbidden(c rune) bool { return unicode.IsControl(c) || c == utf8.RuneError }

func (r rule) readInt(to *int, raw json.RawMessage) string {
	n, err := strconv.Atoi(string(raw))
	if err != nil || n < r.min || n > r.max {
		return "must be " + r.says
	}
	*to = n
	return ""
}

func readTime(to *time.Time, raw json.RawMessage) string {
	text, isText := unquote(raw)
	if !isText {
		return "must be a string"
	}
	at, err := time.Parse(time.RFC3339, text)
	if year := at.UTC().Year(); err != nil || year < 1970 || year > 9999 || !isStrict(text) {
		return "must be an RFC 3339 time since 1970"
	}
	*to = at
	return ""
}

// isStrict refuses what time.Parse takes beyond RFC 3339: an hour of one digit,
// a decimal comma, an offset of a day and an hour of 60 minutes (source:
// go.dev/issue/54580).
func isStrict(parsed string) bool {
	if parsed[len("2006-01-02T15")] != ':' || strings.Contains(parsed, ",") {
		return false
	}
	offset := parsed[len(parsed)-len("07:00"):]
	return parsed[len(parsed)-1] == 'Z' || offset < "24" && offset[len("07:")] < '6'
}

func readBool(to *bool, raw json.RawMessage) string {
	if string(raw) != "true" && string(raw) != "false" {
		return "must be true or false"
	}
	*to = string(raw) == "true"
	return ""
}
