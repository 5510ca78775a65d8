// Package report turns result events into what a person reads after pushing: one
// HTML page, Markdown for a ticket, a short text, and what is left to push.
//
// Everything in an event is a text of unknown origin.
package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ons-repush/ons-repush/events"
)

// Limits of what is read.
const (
	// MaxLine bounds a line, or an element of an array, in bytes.
	MaxLine = 1 << 20
	// MaxResults bounds requests and results together.
	MaxResults = 1_000_000

	maxText   = 1024    // characters; what an event may have in a text for people
	maxMs     = 1 << 40 // 35 years: times can be added without overflow
	maxNamed  = 20      // problems that are named
	tooLong   = "longer than 1 MiB"
	noEvent   = "looks like a result event and is none: "
	arrayOf   = "event"
	lineOf    = "line"
	tooMuchOf = "more than 1000000 requests and results: give fewer files at a time"
)

// Results collects what was asked and what became of it, from any number of
// inputs. The zero value is empty. Not safe for concurrent use.
type Results struct {
	// PassedOver counts lines that are about something else: log lines and other JSON.
	PassedOver int
	// Wrong counts what looks like a request or a result and is none; Problems names
	// the first 20 with place and rule.
	Wrong    int
	Problems []string

	asked   map[request]events.Requested
	begun   map[string]bool    // by the id of the request
	results map[string]*result // by the id of the result event
	order   []any              // request or *result, as they came
}

// request is what identifies one.
type request struct{ source, id string }

// result is one result event; own tells those of a function from what the command
// line made of an answer.
type result struct {
	events.Completed
	own bool
}

// Read adds JSON Lines (mixed with whatever else a function writes), a JSON array of
// events or the state file of a run. name stands in the problems. The error means
// that the input could not be read to its end, or that there is more than
// [MaxResults]; what was read until then is kept.
func (r *Results) Read(in io.Reader, name string) error {
	lines := bufio.NewReaderSize(in, MaxLine)
	start, err := lines.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w", name, err)
	}
	if next, isArray := bytes.CutPrefix(bytes.TrimSpace(bytes.TrimPrefix(start, []byte("\ufeff"))), []byte("[")); isArray {
		if next = bytes.TrimSpace(next); len(next) == 0 || next[0] == '{' || next[0] == ']' {
			return r.readArray(lines, name)
		}
	}
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		whole := true
		for ; errors.Is(err, bufio.ErrBufferFull); _, err = lines.ReadSlice('\n') {
			whole = false
		}
		place := fmt.Sprintf("%s: %s %d", name, lineOf, number)
		if line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\ufeff"))); !whole {
			r.wrong(place, errors.New(tooLong))
		} else if len(line) > 0 {
			r.take(line, place)
		}
		switch {
		case len(r.order) > MaxResults:
			return fmt.Errorf("%s: %s", name, tooMuchOf)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// allowance lets one element after the other be read, none larger than MaxLine.
type allowance struct {
	in   io.Reader
	left int
}

func (a *allowance) Read(p []byte) (int, error) {
	if a.left <= 0 {
		return 0, errors.New(tooLong)
	}
	n, err := a.in.Read(p[:min(len(p), a.left)])
	a.left -= n
	return n, err
}

func (r *Results) readArray(in *bufio.Reader, name string) error {
	if first, _, _ := in.ReadRune(); first != '\ufeff' {
		_ = in.UnreadRune()
	}
	bounded := &allowance{in: in, left: MaxLine}
	elements := json.NewDecoder(bounded)
	_, err := elements.Token()
	for number := 1; err == nil && elements.More(); number++ {
		bounded.left = MaxLine
		var element json.RawMessage
		if err = elements.Decode(&element); err == nil {
			r.take(element, fmt.Sprintf("%s: %s %d", name, arrayOf, number))
		}
		if len(r.order) > MaxResults {
			err = errors.New(tooMuchOf)
		}
	}
	if err == nil {
		_, err = elements.Token()
	}
	if err != nil {
		return fmt.Errorf("%s: the array ends early: %w", name, err)
	}
	return nil
}

// take reads one line or element. What it keeps does not alias raw.
func (r *Results) take(raw []byte, place string) {
	claims := bytes.Contains(raw, []byte(`"`+events.TypeMessageCompleted+`"`)) || bytes.Contains(raw, []byte(`"`+events.TypeMessageRequested+`"`))
	if !claims {
		var mark struct{ Begun string }
		if bytes.HasPrefix(raw, []byte(`{"begun":`)) && json.Unmarshal(raw, &mark) == nil && mark.Begun != "" {
			r.Begin(mark.Begun)
		} else if !bytes.HasPrefix(raw, []byte(`{"run":`)) {
			r.PassedOver++
		}
		return
	}
	e, err := events.Decode(raw)
	if err == nil {
		err = r.Add(e)
	}
	if err != nil {
		r.wrong(place, err)
	}
}

func (r *Results) wrong(place string, err error) {
	if r.Wrong++; r.Wrong <= maxNamed {
		r.Problems = append(r.Problems, clean(place+": "+noEvent+err.Error()))
	}
}

// Begin marks the request with this event id as begun: without a result it is in doubt.
func (r *Results) Begin(eventID string) {
	r.ready()
	r.begun[eventID] = true
}

func (r *Results) ready() {
	if r.asked == nil {
		r.asked, r.begun, r.results = make(map[request]events.Requested), make(map[string]bool), make(map[string]*result)
	}
}

// Add takes a repush:Message:Requested or repush:Message:Completed event. The error
// says which rule another one breaks. A result counts once by its event id, and a
// function's own replaces what was made of an answer.
func (r *Results) Add(e events.Event) error {
	r.ready()
	if e.Type == events.TypeMessageRequested {
		asked, err := events.DecodeRequested(e.Data)
		if err != nil {
			return err
		}
		of := request{e.Source, e.ID}
		if _, again := r.asked[of]; !again {
			r.asked[of], r.order = asked, append(r.order, of)
		}
		return nil
	}
	got := &result{own: e.Source == events.SourceRepush}
	if e.Type != events.TypeMessageCompleted {
		return errors.New("type: must be " + events.TypeMessageCompleted)
	}
	if err := json.Unmarshal(e.Data, &got.Completed); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if got.Request.ID == "" || got.Request.Source == "" || got.DecidedAt.IsZero() || !slices.Contains(events.Outcomes(), got.Outcome) {
		return errors.New("data: a result needs an outcome, decidedAt and its request's id and source")
	}
	got.clean()
	switch known := r.results[e.ID]; {
	case known == nil:
		r.results[e.ID], r.order = got, append(r.order, got)
	case got.own && !known.own:
		*known = *got
	}
	return nil
}

// clean makes texts fit to be shown and numbers fit to be added.
func (r *result) clean() {
	for _, text := range []*string{&r.Request.ID, &r.Request.Source, &r.Code, &r.Message, &r.Hint, &r.RequestID, &r.ClientID} {
		*text = clean(*text)
	}
	if d := r.Request.Data; d != nil {
		for _, text := range []*string{&d.InstanceID, &d.Topic, &d.GroupID, &d.MsgID} {
			*text = clean(*text)
		}
	}
	r.WaitMs, r.CallMs = min(max(r.WaitMs, 0), maxMs), min(max(r.CallMs, 0), maxMs)
	r.Attempts, r.Pushes = min(max(r.Attempts, 0), maxMs), min(max(r.Pushes, 0), maxMs)
}

// clean takes out what would steer a terminal or turn the direction of a text, and
// clips it.
func clean(text string) string {
	text = strings.Map(func(c rune) rune {
		if unicode.IsControl(c) || c == utf8.RuneError || unicode.Is(unicode.Bidi_Control, c) {
			return ' '
		}
		return c
	}, text)
	if utf8.RuneCountInString(text) > maxText {
		text = string([]rune(text)[:maxText-1]) + "…"
	}
	return text
}
