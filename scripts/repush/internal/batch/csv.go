package batch

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ons-repush/ons-repush/events"
)

var columns = [...]string{
	"instanceId", "topic", "groupId", "msgId", "reason", "clientId", "requestedBy", "operationId", "priority",
	"generation", "storedAt", "notAfter", "dryRun", "onUnknown", "offsetId", "unconsumed",
}

// rows reads CSV with a header, whose most frequent separator is that of all.
func (in Input) rows(text []byte, yield func(record) bool) {
	if bytes.ContainsRune(text, '\r') && !bytes.ContainsRune(text, '\n') {
		yield(record{place: in.name(), err: errors.New("has line ends of carriage returns alone: save it with line feeds")})
		return
	}
	first, _, _ := bytes.Cut(bytes.TrimLeft(text, "\r\n"), []byte("\n"))
	often := func(a, b rune) int {
		return strings.Count(string(first), string(a)) - strings.Count(string(first), string(b))
	}
	comma := slices.MaxFunc([]rune{',', ';', '\t'}, often)
	var header []string
	found := false
	for line := 1; len(text) > 0; {
		raw, cells, err := cut(text, comma)
		rec := record{place: in.place("line", line), err: err}
		text, line = text[len(raw):], line+bytes.Count(raw, []byte("\n"))
		switch {
		case err == nil && strings.Join(cells, "") == "":
			continue
		case header == nil && err == nil:
			if header, rec.err = columnsOf(cells); rec.err == nil {
				continue
			}
		case err == nil && len(cells) != len(header):
			rec.err = fmt.Errorf("has %d fields, and the header has %d", len(cells), len(header))
		case err == nil:
			rec.fields = row(header, cells)
		}
		found = true
		if !yield(rec) || header == nil {
			return
		}
	}
	if !found {
		yield(record{place: in.name(), err: errors.New("has no row below its header")})
	}
}

// cut takes the first record apart: the first line, or more where line feeds stand in
// quotes. Where that is no CSV it is the first line alone, so that a quote that is not
// closed does not hide what follows. What keeps the rules is shorter than the search.
func cut(text []byte, comma rune) (raw []byte, cells []string, err error) {
	line, open := cmp.Or(bytes.IndexByte(text, '\n')+1, len(text)), false
	end := line
	for i, c := range text[:min(len(text), 16<<10)] {
		open = open != (c == '"')
		if c == '\n' && !open || i == len(text)-1 {
			end = i + 1
			break
		}
	}
	cells, err = split(text[:end], comma)
	if err != nil && end > line {
		end = line
		cells, err = split(text[:end], comma)
	}
	return text[:end], cells, err
}

// split takes one record apart; a blank one has no cells.
func split(raw []byte, comma rune) ([]string, error) {
	switch {
	case len(raw) > events.MaxEventBytes:
		return nil, events.ErrTooLarge
	case !utf8.Valid(raw):
		return nil, errNotUTF8
	case len(bytes.TrimSpace(raw)) == 0:
		return nil, nil
	}
	r := csv.NewReader(bytes.NewReader(raw))
	r.Comma, r.TrimLeadingSpace = comma, comma != '\t' // which would trim empty cells away
	cells, err := r.Read()
	if parse, is := errors.AsType[*csv.ParseError](err); is {
		return nil, fmt.Errorf("is not CSV: %w", parse.Err) // its line counts from the record
	}
	for i := range cells {
		cells[i] = strings.TrimSpace(cells[i])
	}
	return cells, err
}

func columnsOf(cells []string) ([]string, error) {
	if len(cells) > 2*len(columns) {
		return nil, fmt.Errorf("has %d columns: is it CSV with a header?", len(cells))
	}
	var header, wrong []string
	for i, cell := range cells {
		name := strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(cell))
		name = cmp.Or(map[string]string{"messageid": "msgid", "instance": "instanceid", "group": "groupid"}[name], name)
		at := slices.IndexFunc(columns[:], func(column string) bool { return strings.ToLower(column) == name })
		switch {
		case name == "id":
			wrong = append(wrong, fmt.Sprintf("column %d %q could be msgId, offsetId or another", i+1, cell))
		case at < 0:
			wrong = append(wrong, fmt.Sprintf("column %d %.40q is not known", i+1, cell))
		case slices.Contains(header, columns[at]):
			wrong = append(wrong, fmt.Sprintf("column %d is %s once more", i+1, columns[at]))
		default:
			header = append(header, columns[at])
		}
	}
	if wrong != nil {
		return nil, fmt.Errorf("%s; the first line names the columns, which may be %s", strings.Join(wrong, "; "), strings.Join(columns[:], ", "))
	}
	return header, nil
}

// row makes JSON of what is not empty. What is no number, and neither true nor false,
// stays text, which breaks the rule of the field.
func row(header, cells []string) fields {
	f := make(fields, len(cells))
	for i, cell := range cells {
		value, _ := json.Marshal(cell)
		switch header[i] {
		case "generation", "dryRun", "unconsumed":
			if bare := []byte(strings.ToLower(cell)); json.Valid(bare) { // spreadsheets write TRUE
				value = bare
			}
		case "storedAt", "notAfter":
			if day := len(time.DateOnly); len(cell) > day && cell[day] == ' ' {
				value, _ = json.Marshal(cell[:day] + "T" + cell[day+1:])
			}
		}
		if cell != "" {
			f[header[i]] = value
		}
	}
	return f
}
