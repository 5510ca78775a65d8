// Package report turns result events into what a person reads after pushing: one
// HTML page, Markdown for a ticket, a short text, and what is left to push.
package report

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ons-repush/ons-repush/events"
)

// Limits of what is read: bytes of a line, and requests and results together.
const (
	MaxLine    = 1 << 20
	MaxResults = 200_000
)

const (
	maxText  = 1024    // characters; what a result may have in one text
	maxMs    = 1 << 40 // 35 years: times can be added without overflow
	maxNamed = 20      // problems that are named
)

// Results collects what was asked and what became of it, from any number of
// inputs. The zero value is empty. Not safe for concurrent use.
type Results struct {
	// PassedOver counts lines about something else, Wrong what looks like a request or
	// a result and is none; Problems names the first 20 of these.
	PassedOver, Wrong int
	Problems          []string

	asked    map[request]events.Requested
	marks    map[string]events.Outcome // by the id of the request: what is known without a result
	results  map[string]*result        // by the id of the result event
	requests []request                 // as they came
	told     []*result                 // the results, as they came
	reason   string                    // of the run, and its quota; 0: not known
	qps      float64
}

// request is what identifies one.
type request struct{ source, id string }

// result is one result event; own tells those of a function from what the command
// line made of an answer.
type result struct {
	events.Completed
	own bool
}

// Read adds JSON Lines (mixed with whatever else a function writes) or the state file
// of a run. name stands in the problems. After an error, which also means more than
// [MaxResults], the input was not read to its end.
func (r *Results) Read(in io.Reader, name string) error {
	lines := bufio.NewReaderSize(in, MaxLine)
	if mark, _ := lines.Peek(3); string(mark) == "\ufeff" {
		_, _ = lines.Discard(3)
	}
	head, _ := lines.Peek(7)
	isState := string(head) == `{"run":`
	for number := 1; ; number++ {
		line, err := lines.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = lines.ReadSlice('\n')
		}
		place := fmt.Sprintf("%s: line %d", name, number)
		isCut := isState && errors.Is(err, io.EOF) && !json.Valid(line) // by a kill: its run drops it, too
		if line = bytes.TrimSpace(line); tooLong {
			r.wrong(place, errors.New("longer than 1 MiB"))
		} else if len(line) > 0 && !isCut {
			r.take(line, place)
		}
		switch {
		case len(r.requests)+len(r.told) > MaxResults:
			return fmt.Errorf("%s: more than %d requests and results: give fewer at a time", name, MaxResults)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// marks are what a run writes of a request without a result.
var marks = regexp.MustCompile(`^{"(run|begun|parked|handedOver|givenBack)":`)

// claims are made by what says that it is a request or a result.
var claims = regexp.MustCompile(`"type"\s*:\s*"repush:Message:(Completed|Requested)"`)

// take reads one line. What it keeps does not alias raw.
func (r *Results) take(raw []byte, place string) {
	if !claims.Match(raw) {
		var mark map[string]string
		var of struct {
			Run struct {
				Reason string
				QPS    float64
			}
		}
		said := marks.FindSubmatch(raw)
		switch {
		case said == nil:
			r.PassedOver++
		case string(said[1]) == "run":
			_ = json.Unmarshal(raw, &of) // what cannot be read says nothing
			r.reason = cmp.Or(r.reason, of.Run.Reason)
			if of.Run.QPS >= 0.1 {
				r.qps = min(max(r.qps, of.Run.QPS), 100_000)
			}
		case json.Unmarshal(raw, &mark) == nil:
			r.ready()
			means := map[string]events.Outcome{"begun": InDoubt, "parked": UnderWay, "handedOver": UnderWay, "givenBack": NoResult}
			r.marks[mark[string(said[1])]] = means[string(said[1])]
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
		r.Problems = append(r.Problems, clean(place+": looks like a result event and is none: "+err.Error()))
	}
}

func (r *Results) ready() {
	if r.asked == nil {
		r.asked, r.marks, r.results = make(map[request]events.Requested), make(map[string]events.Outcome), make(map[string]*result)
	}
}

// Add takes a repush:Message:Requested or repush:Message:Completed event. The error
// says which rule another one breaks. A result counts once by its event id, and a
// function's own replaces what was made of an answer.
func (r *Results) Add(e events.Event) error {
	r.ready()
	if e.Type == events.TypeMessageRequested {
		asked, err := events.DecodeRequested(e.Data)
		of := request{e.Source, e.ID}
		if _, again := r.asked[of]; err == nil && !again {
			r.asked[of], r.requests = asked, append(r.requests, of)
		}
		return err
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
	if known := r.results[e.ID]; known == nil {
		r.results[e.ID], r.told = got, append(r.told, got)
	} else if got.own && !known.own {
		*known = *got
	}
	return nil
}

// clean makes texts fit to be shown and numbers fit to be added.
func (r *result) clean() {
	texts := []*string{&r.Request.ID, &r.Request.Source, &r.Code, &r.Message, &r.Hint, &r.RequestID, &r.ClientID}
	if d := r.Request.Data; d != nil {
		texts = append(texts, &d.InstanceID, &d.Topic, &d.GroupID, &d.MsgID)
	}
	for _, text := range texts {
		*text = clean(*text)
	}
	r.WaitMs, r.CallMs, r.Attempts = min(max(r.WaitMs, 0), maxMs), min(max(r.CallMs, 0), maxMs), min(max(r.Attempts, 0), maxMs)
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
