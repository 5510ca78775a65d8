package run

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Header is what a run has to know of itself to be resumed. It holds no secret.
type Header struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
	By     string `json:"by,omitempty"`
	// Operation is the one that all requests are of; empty: they are of several.
	Operation string `json:"operationId,omitempty"`
	// Target is where the requests go, and what else belongs to that, by the names
	// of the command line's flags.
	Target    map[string]string `json:"target"`
	QPS       float64           `json:"qps"`
	Count     int               `json:"count"`
	StartedAt time.Time         `json:"startedAt"`
}

// state is how far a message came.
type state string

const (
	open       state = "givenBack"  // or not asked for yet
	begun      state = "begun"      // asked for; without an answer it is in doubt
	parked     state = "parked"     // waits in the function's ledger, which goes on with it
	handedOver state = "handedOver" // a queue's, for good: the result is told elsewhere
	decided    state = "decided"
)

// Journal is the state file of a run: JSON Lines, of the header, of the requests as
// CloudEvents, and then, as they come, of what was begun and of result events. It is
// appended to only, and locked against other processes. What a killed process wrote
// is whole but for its last line, which is dropped; after a power cut the last
// seconds may be missing, and what was begun in them is asked for once more, under
// its id. Safe for concurrent use.
type Journal struct {
	Header Header
	Path   string
	// News is called for each request's first result, from whatever goroutine told it;
	// nil: nothing is.
	News func(result events.Event)

	mu       sync.Mutex
	file     *os.File
	broken   error
	requests []events.Event
	states   []state
	before   []state          // when it was asked for last; the runner's alone
	outcomes []events.Outcome // of what is decided
	twice    []bool           // of these, maybeDuplicate
	unsure   map[int]bool     // those that are duplicates of what is unknown
	// maybeTwice, counts and results sum that up.
	maybeTwice int
	counts     map[state]int
	results    map[events.Outcome]int
	byID       map[string]int
	byResult   map[string]int  // by the id of the result event
	ours       map[string]bool // results that stand in for the function's own
}

// ErrLocked means that another process has the state file.
var ErrLocked = errors.New("another process is at this run")

// Create writes a new state file with nothing asked for yet. It fails where there
// is a file already.
func Create(path string, h Header, requests []events.Event) (*Journal, error) {
	h.Count = len(requests)
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{Header: h, Path: path, file: file}
	out := bufio.NewWriter(file)
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	err = errors.Join(lock(file), enc.Encode(head{&h}))
	for i := 0; i < len(requests) && err == nil; i++ { // a full disk is said once
		err = errors.Join(enc.Encode(requests[i]), j.add(requests[i]))
	}
	if err = cmp.Or(err, out.Flush(), file.Sync()); err != nil {
		return nil, errors.Join(err, file.Close(), os.Remove(path))
	}
	return j, nil
}

// Open reads the state file of a run that was begun. The error names the line that
// cannot be understood; [ErrLocked] means that the run is under way elsewhere.
func Open(path string) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	j := &Journal{Path: path, file: file}
	if err := j.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return j, nil
}

// ReadHeader reads the header of a state file alone, also while a run has it.
func ReadHeader(path string) (Header, error) {
	file, err := os.Open(path)
	if err != nil {
		return Header{}, err
	}
	defer file.Close()
	var first head
	line, err := bufio.NewReader(io.LimitReader(file, maxLine)).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &first)
	}
	if err != nil || first.Run == nil {
		return Header{}, errors.Join(err, errors.New(path+": is not the state file of a run"))
	}
	return *first.Run, nil
}

// maxLine bounds a line: an event and its frame.
const maxLine = events.MaxEventBytes + 1024

func (j *Journal) load() error {
	if err := lock(j.file); err != nil {
		return err
	}
	whole, err := j.read(j.file)
	if err != nil {
		return err
	}
	if err := j.file.Truncate(whole); err != nil {
		return err
	}
	_, err = j.file.Seek(whole, io.SeekStart)
	return err
}

// read takes all whole lines, and returns how many bytes they are.
func (j *Journal) read(from io.Reader) (whole int64, err error) {
	in := bufio.NewReaderSize(from, 1<<20)
	for number := 1; ; number++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			break // what is behind the last line feed was cut by a kill
		}
		if err == nil {
			err = j.replay(bytes.Clone(line)) // events keep it
		}
		if err != nil {
			return 0, fmt.Errorf("line %d: %w", number, err)
		}
		whole += int64(len(line))
	}
	if j.Header.ID == "" || len(j.requests) != j.Header.Count {
		return 0, fmt.Errorf("is not the state file of a run: %d of %d requests", len(j.requests), j.Header.Count)
	}
	return whole, nil
}

// head is the first line. Other lines that are no event name a state and the id of the
// request that came to it.
type head struct {
	Run *Header `json:"run"`
}

func (j *Journal) replay(line []byte) error {
	line = bytes.TrimSpace(line)
	if len(line) > maxLine {
		return events.ErrTooLarge
	}
	if !bytes.Contains(line, []byte(`"specversion"`)) {
		return j.replayEntry(line)
	}
	e, err := events.Decode(line)
	switch {
	case err != nil:
		return err
	case e.Type == events.TypeMessageRequested:
		return j.add(e)
	}
	_, err = j.take(e)
	return err
}

func (j *Journal) replayEntry(line []byte) error {
	var first head
	if err := json.Unmarshal(line, &first); err != nil {
		return errors.New("is not JSON")
	}
	if first.Run != nil && j.Header.ID == "" {
		j.Header = *first.Run
		return nil
	}
	var mark map[state]string
	_ = json.Unmarshal(line, &mark) // what cannot be read names none
	for _, s := range []state{begun, parked, handedOver, open} {
		if at, known := j.byID[mark[s]]; known {
			if j.states[at] != decided {
				j.move(at, s)
			}
			return nil
		}
	}
	return errors.New("is nothing that a run writes")
}

func (j *Journal) add(e events.Event) error {
	asked, err := events.DecodeRequested(e.Data)
	if err != nil {
		return err
	}
	if j.byID == nil {
		j.byID, j.byResult, j.ours = make(map[string]int), make(map[string]int), make(map[string]bool)
		j.counts, j.results, j.unsure = make(map[state]int), make(map[events.Outcome]int), make(map[int]bool)
	}
	if _, twice := j.byID[e.ID]; twice {
		return fmt.Errorf("id: %q is there twice, and a run tells requests by it", e.ID)
	}
	j.byID[e.ID], j.byResult[events.ResultID(e.Source, e.ID, asked.DryRun)] = len(j.requests), len(j.requests)
	j.requests, j.states, j.outcomes = append(j.requests, e), append(j.states, open), append(j.outcomes, "")
	j.twice, j.before = append(j.twice, false), append(j.before, open)
	j.counts[open]++
	return nil
}

func (j *Journal) move(at int, s state) {
	j.counts[j.states[at]]--
	j.counts[s]++
	j.states[at] = s
}

// take reports whether a result event is of a request of this run and tells more
// than was known: a function's own tells more than what this command made of an
// answer.
func (j *Journal) take(e events.Event) (tells bool, err error) {
	at, known := j.byResult[e.ID]
	var c events.Completed
	if err := json.Unmarshal(e.Data, &c); err != nil || e.Type != events.TypeMessageCompleted {
		return false, errors.New("is no result event")
	}
	ours := strings.HasPrefix(e.Source, Source)
	if !known || j.states[at] == decided && (ours || !j.ours[e.ID]) {
		return false, nil
	}
	if j.states[at] == decided {
		j.results[j.outcomes[at]]--
	}
	j.move(at, decided)
	if c.MaybeDuplicate && !j.twice[at] {
		j.maybeTwice++
	}
	j.outcomes[at], j.twice[at], j.ours[e.ID] = c.Outcome, c.MaybeDuplicate || j.twice[at], ours
	j.results[c.Outcome]++
	if delete(j.unsure, at); c.First != nil && cmp.Or(events.Outcome(c.First.Late), c.First.Outcome) == events.Unknown {
		j.unsure[at] = true
	}
	return true, nil
}

// Source is that of result events which a command made of a function's answer.
const Source = "repush/"

// append writes a line. After one that could not be written none is: it would stand
// behind half a line.
func (j *Journal) append(v any) error {
	line, err := json.Marshal(v)
	if err == nil && j.broken == nil {
		_, err = j.file.Write(append(line, '\n'))
	}
	if err != nil && j.broken == nil {
		j.broken = fmt.Errorf("the state file cannot be written: %w", err)
	}
	return j.broken
}

// set writes down how far a request came, unless it is decided.
func (j *Journal) set(at int, s state) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s == begun {
		j.before[at] = j.states[at]
	}
	if j.states[at] == decided || j.states[at] == s {
		return nil
	}
	j.move(at, s)
	return j.append(map[state]string{s: j.requests[at].ID})
}

// giveBack makes what was asked for what it was before: a target that does not take it
// tells nothing of an earlier time, when it was parked, or got no answer.
func (j *Journal) giveBack(at int) error { return j.set(at, j.before[at]) }

// Finish writes down a result event, of whatever run. It reports whether it decides a
// request of this one that was not decided before.
func (j *Journal) Finish(e events.Event) (isNews bool, err error) {
	if isNews, err = j.finish(e); isNews && j.News != nil {
		j.News(e)
	}
	return isNews, err
}

func (j *Journal) finish(e events.Event) (isNews bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, known := j.byResult[e.ID]
	isNews = known && j.states[at] != decided
	if tells, err := j.take(e); err != nil || !tells {
		return false, err
	}
	return isNews, j.append(e)
}

// Decided reports whether there is a result of the id of this one.
func (j *Journal) Decided(result events.Event) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, known := j.byResult[result.ID]
	return known && j.states[at] == decided
}

// Counts says how many messages are how far.
type Counts struct {
	// Open were not asked for, or given back; InDoubt were, and one time no answer came.
	Open, InDoubt, Parked, HandedOver, Decided int
	Outcomes                                   map[events.Outcome]int
	// MaybeTwice counts those whose consumer may have been given them more than once.
	MaybeTwice int
	// Unsure counts duplicates of what may have been pushed, by whoever asked first.
	Unsure int
}

// Left is how many a run still has to do with: all but what is decided and what is a
// queue's.
func (c Counts) Left() int { return c.Open + c.InDoubt + c.Parked }

// Counts are those of now.
func (j *Journal) Counts() Counts {
	j.mu.Lock()
	defer j.mu.Unlock()
	c := Counts{
		Open: j.counts[open], InDoubt: j.counts[begun], Parked: j.counts[parked], HandedOver: j.counts[handedOver], Decided: j.counts[decided],
		Outcomes: maps.Clone(j.results), MaybeTwice: j.maybeTwice, Unsure: len(j.unsure),
	}
	maps.DeleteFunc(c.Outcomes, func(_ events.Outcome, n int) bool { return n == 0 })
	return c
}

// InDoubt are the requests that were begun and have no answer.
func (j *Journal) InDoubt() (all []events.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, s := range j.states {
		if s == begun {
			all = append(all, j.requests[i])
		}
	}
	return all
}

// Requests are all of the run, in their order.
func (j *Journal) Requests() []events.Event { return j.requests }

// Close gives the file free for other processes.
func (j *Journal) Close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return errors.Join(j.file.Sync(), j.file.Close())
}

// unfinished are the places of what a run has to ask for: first what may have been
// decided already.
func (j *Journal) unfinished() (queue []int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, wanted := range []state{begun, parked, open} {
		for i, s := range j.states {
			if s == wanted {
				queue = append(queue, i)
			}
		}
	}
	return queue
}

func (j *Journal) isDecided(at int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.states[at] == decided
}
