package batch

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/ons-repush/ons-repush/events"
)

var errNotUTF8 = errors.New("must be UTF-8: save the file with that encoding")

// records are what the input is made of, until yield has enough.
func (in Input) records(yield func(record) bool) {
	data := bytes.TrimPrefix(in.Data, []byte("\ufeff"))
	text := bytes.TrimSpace(data)
	switch {
	case len(in.Data) > MaxInputBytes:
		yield(record{place: in.name(), err: fmt.Errorf("larger than %d bytes: split it", MaxInputBytes)})
	case len(text) == 0:
		yield(record{place: in.name(), err: errors.New("is empty")})
	case text[0] == '{' || text[0] == '[':
		in.objects(text, 1+bytes.Count(data[:bytes.IndexByte(data, text[0])], []byte("\n")), yield)
	default:
		in.rows(data, yield)
	}
}

func (in Input) name() string {
	if in.Name == "" || in.Name == "-" {
		return "standard input"
	}
	return in.Name
}

// place names the nth line, event or entry.
func (in Input) place(what string, n int) string {
	place := fmt.Sprint(what, " ", n)
	switch {
	case in.name() != in.Name:
		return place
	case what == "line":
		return in.Name + " " + place
	}
	return place + " of " + in.Name
}

// objects reads one object, an array or JSON Lines; text begins in that line.
func (in Input) objects(text []byte, line int, yield func(record) bool) {
	err := events.CheckJSON(text)
	first, rest, _ := bytes.Cut(text, []byte("\n"))
	switch {
	case err == nil && text[0] == '{':
		yield(object(in.place("event", 1), text))
	case err == nil:
		elements, err := events.Elements(text, MaxMessages)
		if len(elements) == 0 {
			yield(record{place: in.name(), err: cmp.Or(err, errors.New("is an empty list"))})
		}
		for i, raw := range elements {
			if !yield(object(in.place("event", i+1), raw)) {
				return
			}
		}
	case text[0] == '{' && (json.Valid(first) || bytes.HasPrefix(bytes.TrimSpace(rest), []byte("{"))):
		for raw := range bytes.Lines(text) {
			if raw = bytes.TrimSpace(raw); len(raw) > 0 && !yield(object(in.place("line", line), raw)) {
				return
			}
			line++
		}
	default:
		if syntax, is := errors.AsType[*json.SyntaxError](json.Unmarshal(text, new(json.RawMessage))); is {
			line += bytes.Count(text[:syntax.Offset], []byte("\n"))
		}
		yield(record{place: in.place("line", line), err: err})
	}
}

func object(place string, raw json.RawMessage) record {
	members, err := events.Members(raw)
	if !utf8.Valid(raw) {
		err = errNotUTF8
	}
	return record{place: place, err: err, raw: raw, members: members}
}

// manifest is what is there of one.
type manifest struct {
	in    Input
	place string // of the first part
	parts []events.Planned
}

// collect puts a part to the others of its manifest.
func (r *reading) collect(in Input, place string, part events.Planned) {
	at := slices.IndexFunc(r.manifests, func(m manifest) bool { return m.parts[0].OperationID == part.OperationID })
	if at < 0 {
		at, r.manifests = len(r.manifests), append(r.manifests, manifest{in: in, place: place})
	}
	r.manifests[at].parts = append(r.manifests[at].parts, part)
}

// wholeManifest reads what plan -o writes: one part with more entries than a part may
// have; the rules of its entries are those of the requests.
func (r *reading) wholeManifest(in Input, rec record) {
	var p events.Planned
	decoder := json.NewDecoder(bytes.NewReader(rec.raw))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&p)
	head := p
	head.Entries, head.LeftOut = nil, nil
	if err = cmp.Or(err, head.Validate()); err != nil {
		r.wrong(rec.place, fmt.Errorf("manifest: %w", err))
		return
	}
	r.manifest(manifest{in, rec.place, []events.Planned{p}})
}

// manifest makes requests of the entries, as functions/plan does.
func (r *reading) manifest(m manifest) {
	p, err := events.Manifest(m.parts...)
	switch {
	case err != nil:
		err = fmt.Errorf("%w; a manifest counts whole and as it was planned: what is edited goes into CSV or JSON Lines", err)
	case p.OperationID == "":
		err = fmt.Errorf("manifest: there is none: %s", p.Message)
	case p.Count == 0:
		err = errors.New("manifest: no message is in it")
	}
	if err != nil {
		r.wrong(m.place, err)
		return
	}
	r.batch.Incomplete = cmp.Or(r.batch.Incomplete, p.Incomplete)
	for i, e := range p.Entries {
		f := fieldsOf(events.Requested{
			InstanceID: p.InstanceID, GroupID: p.GroupID, Topic: e.Topic, MsgID: e.MsgID, OffsetID: e.OffsetID, Generation: e.Generation, StoredAt: e.StoredAt,
			Reason: cmp.Or(r.Defaults.Reason, p.Reason), OperationID: p.OperationID, Unconsumed: p.Source == events.Unconsumed,
		})
		if !r.take(m.in, record{place: m.in.place("entry", i+1), fields: f}) {
			return
		}
	}
}
