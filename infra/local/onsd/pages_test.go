package onsd

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// entry is what a test wants to know of a message in an answer.
type entry struct {
	MsgID          string `json:"MsgId"`
	OffsetID       string `json:"OffsetId"`
	BornTimestamp  int64
	StoreTimestamp int64
}

type pageReply struct {
	Code       string
	MsgFoundDo struct {
		TaskID       string `json:"TaskId"`
		MaxPageCount int
		MsgFoundList struct{ OnsRestMessageDo []entry }
	}
}

// deadPage asks for one page of dead letters, five to a page.
func deadPage(t testing.TB, s *Server, task string, number int, overrides map[string]string) pageReply {
	t.Helper()
	params := map[string]string{
		"Action": "OnsDLQMessagePageQueryByGroupId", "TaskId": task, "CurrentPage": strconv.Itoa(number), "PageSize": "5",
		"BeginTime": "0", "EndTime": strconv.FormatInt(s.now().UnixMilli(), 10),
	}
	for name, value := range overrides {
		params[name] = value
	}
	var got pageReply
	if err := json.Unmarshal(do(t, s, params).Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	return got
}

// manyIDs are message ids that end in their number.
func manyIDs(n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("C0000207%024d", i))
	}
	return ids
}

// buried is a server with n messages and their dead letters, one a second.
func buried(t testing.TB, n int, change func(*Data)) *Server {
	t.Helper()
	return newServer(t, func(d *Data) {
		in := &d.Instances[0]
		in.Messages = []Message{{Topic: testTopic, MsgIDs: manyIDs(n), StoredAt: Moment{Age: 10 * time.Hour}, Every: time.Second}}
		in.Groups[0].DeadLetters = []DeadLetter{{Topic: testTopic, MsgIDs: manyIDs(n), StoredAt: Moment{Age: 5 * time.Hour}, Every: time.Second}}
		if change != nil {
			change(d)
		}
	})
}

// TestPagesThatChange maps what goes wrong at the second page of three to the
// entries that each page shows, and what a new task shows on its first.
func TestPagesThatChange(t *testing.T) {
	t.Parallel()
	fault := Fault{API: "OnsDLQMessagePageQueryByGroupId", Nth: 2}
	shift := func(by int) Fault { f := fault; f.Shift = by; return f }
	vanish := fault
	vanish.Do, vanish.Error = "error", FaultError{Status: 400, Code: "BIZ_NO_MESSAGE"}
	for name, test := range map[string]struct {
		fault Fault
		want  string // of 12 entries, by their numbers
	}{
		"nothing":                      {shift(0), "0,1,2,3,4 5,6,7,8,9 10,11 0,1,2,3,4"},
		"one more entry comes late":    {shift(1), "0,1,2,3,4 4,5,6,7,8 9,10,11 0,0,1,2,3"},
		"the page is repeated":         {shift(5), "0,1,2,3,4 0,1,2,3,4 5,6,7,8,9 0,0,0,0,0"},
		"the oldest entry is deleted":  {shift(-1), "0,1,2,3,4 6,7,8,9,10 11 1,2,3,4,5"},
		"all entries are deleted":      {shift(-20), "0,1,2,3,4 BIZ_NO_MESSAGE BIZ_NO_MESSAGE BIZ_NO_MESSAGE"},
		"the page is not there":        {vanish, "0,1,2,3,4 BIZ_NO_MESSAGE 10,11 0,1,2,3,4"},
		"the task ends after one page": {Fault{}, "0,1,2,3,4 BIZ_FIELD_CHECK_INVALID BIZ_FIELD_CHECK_INVALID 0,1,2,3,4"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := buried(t, 12, func(d *Data) {
				switch test.fault {
				case Fault{}:
					d.Tasks.Pages = 1
				case shift(0):
				default:
					d.Faults = []Fault{test.fault}
				}
			})
			var got []string
			show := func(p pageReply) {
				text := p.Code
				for i, m := range p.MsgFoundDo.MsgFoundList.OnsRestMessageDo {
					n, _ := strconv.Atoi(m.MsgID[8:])
					text += strings.Repeat(",", min(i, 1)) + strconv.Itoa(n)
				}
				got = append(got, text)
			}
			first := deadPage(t, s, "", 1, nil)
			show(first)
			show(deadPage(t, s, first.MsgFoundDo.TaskID, 2, nil))
			show(deadPage(t, s, first.MsgFoundDo.TaskID, 3, nil))
			show(deadPage(t, s, "", 1, nil))
			if got := strings.Join(got, " "); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestShiftsBeyondTheEnd(t *testing.T) {
	t.Parallel()
	s := buried(t, 6, func(d *Data) {
		d.Faults = []Fault{{API: "OnsDLQMessagePageQueryByGroupId", Nth: 2, Shift: maxShift}}
		d.Instances[0].Groups[0].DeadLetters[0].Every = 0 // what is late is shown first, even of one moment
	})
	first := deadPage(t, s, "", 1, nil)
	if got := deadPage(t, s, first.MsgFoundDo.TaskID, 2, nil); got.MsgFoundDo.MaxPageCount != maxPages || first.MsgFoundDo.MaxPageCount != 2 {
		t.Errorf("%d pages, before it %d, want 50 and 2", got.MsgFoundDo.MaxPageCount, first.MsgFoundDo.MaxPageCount)
	}
	same, anew := deadPage(t, s, first.MsgFoundDo.TaskID, 1, nil).MsgFoundDo.MsgFoundList, deadPage(t, s, "", 1, nil).MsgFoundDo.MsgFoundList
	if diff := cmp.Diff(same, anew); diff != "" {
		t.Errorf("the task and a new one (-task +new):\n%s", diff)
	}
	task := &task{in: s.instances[testInstance], topic: "%DLQ%" + testGroup}
	task.shift(1, s.now())
	task.shift(-1, s.now())
	if len(task.found) != 0 {
		t.Errorf("an empty task shows %d entries", len(task.found))
	}
}

func TestTasksEndInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := buried(t, 12, func(d *Data) { d.Tasks.Lifetime = time.Minute })
		task := deadPage(t, s, "", 1, nil).MsgFoundDo.TaskID
		for i, want := range []string{"", "BIZ_FIELD_CHECK_INVALID"} {
			time.Sleep(30 * time.Second) // the bubble's time
			if got := deadPage(t, s, task, 1, nil); i == 0 && got.Code != "" || i == 1 && got.Code != want {
				t.Errorf("after %d s: %+v", 30*(i+1), got)
			}
		}
	})
}

// TestDeadLettersKeepTheBirthOfTheirOrigin, and have a store time of their own.
func TestDeadLettersKeepTheBirthOfTheirOrigin(t *testing.T) {
	t.Parallel()
	gone, later := manyIDs(2)[0], manyIDs(2)[1] // of origins that nobody has
	s := newServer(t, func(d *Data) {
		dead := &d.Instances[0].Groups[0].DeadLetters
		*dead = append(*dead, DeadLetter{Topic: testTopic, MsgIDs: []string{gone}, StoredAt: Moment{Age: 3 * time.Hour}})
	})
	s.Bury(testInstance, testGroup, testTopic, later)
	ages := map[string][2]time.Duration{}
	for _, m := range deadPage(t, s, "", 1, map[string]string{"PageSize": "50"}).MsgFoundDo.MsgFoundList.OnsRestMessageDo {
		ages[m.MsgID] = [2]time.Duration{
			s.now().Sub(time.UnixMilli(m.BornTimestamp)).Round(time.Hour), s.now().Sub(time.UnixMilli(m.StoreTimestamp)).Round(time.Hour),
		}
	}
	want := map[string][2]time.Duration{goodID: {2 * time.Hour, time.Hour}, expiredID: {73 * time.Hour, 71 * time.Hour}, gone: {72 * time.Hour, 3 * time.Hour}, later: {72 * time.Hour, 0}}
	if diff := cmp.Diff(want, ages); diff != "" {
		t.Errorf("born and stored (-want +got):\n%s", diff)
	}
}

func TestBury(t *testing.T) {
	t.Parallel()
	s := buried(t, 2, nil)
	ids := manyIDs(3) // the third was never stored here
	if !s.Bury(testInstance, testGroup, testTopic, ids[1], ids[2], ids[2]) || s.Bury(testInstance, "GID_none", testTopic, ids[0]) || s.Bury("none", testGroup, testTopic, ids[0]) {
		t.Error("Bury does not know who is there")
	}
	var got, offsets []string
	for _, m := range deadPage(t, s, "", 1, nil).MsgFoundDo.MsgFoundList.OnsRestMessageDo {
		got, offsets = append(got, m.MsgID), append(offsets, m.OffsetID)
	}
	if want := []string{ids[0], ids[1], ids[1], ids[2], ids[2]}; !slices.Equal(got, want) {
		t.Errorf("dead letters %v, want %v", got, want)
	}
	if slices.Sort(offsets); len(slices.Compact(offsets)) != 5 {
		t.Errorf("offset ids are not unique: %v", offsets)
	}
}

func TestConsume(t *testing.T) {
	t.Parallel()
	d, err := Load([]byte(testData))
	if err != nil {
		t.Fatal(err)
	}
	d.Instances[0].Messages = []Message{{Topic: testTopic, MsgIDs: manyIDs(4), StoredAt: Moment{Age: time.Hour}, PendingFor: []string{"GID_off", testGroup}}}
	s, err := New(d, Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := New(d, Options{}) // of the same data
	if err != nil {
		t.Fatal(err)
	}
	left := func(s *Server, group string) int64 {
		var got struct{ Data struct{ TotalDiff int64 } }
		if err := json.Unmarshal(do(t, s, map[string]string{"Action": "OnsConsumerAccumulate", "GroupId": group}).Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		return got.Data.TotalDiff
	}
	track := func(id string) bool {
		return strings.Contains(do(t, s, map[string]string{"Action": "OnsMessageTrace", "MsgId": id}).Body.String(), "NOT_CONSUME_YET")
	}
	got := []int64{left(s, testGroup)}
	if !s.Consume(testInstance, testGroup, testTopic, manyIDs(2)[1], "none") || s.Consume(testInstance, "GID_none", testTopic) || s.Consume("none", testGroup, testTopic) {
		t.Error("Consume does not know who is there")
	}
	got = append(got, left(s, testGroup))
	if !track(manyIDs(1)[0]) || track(manyIDs(2)[1]) {
		t.Error("the trace does not follow the offset")
	}
	s.Consume(testInstance, testGroup, testTopic, manyIDs(4)...)
	got = append(got, left(s, testGroup), left(s, "GID_off"), left(other, testGroup))
	if want := []int64{4, 3, 0, 4, 4}; !slices.Equal(got, want) {
		t.Errorf("left %v, want %v", got, want)
	}
}

// TestAListenerThatFailsForEver: every push makes one more message and one more
// dead letter, of the id that the listener saw.
func TestAListenerThatFailsForEver(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(d *Data) {
		d.Instances[0].Groups[0].DeadLetters = nil
		d.Instances[0].Groups[0].Clients[3].Buries = true
		d.Instances[0].Messages[1].OffsetID = "C000020100002A9F0000000000000042"
	})
	id, seen, offsets := pendingID, map[string]bool{}, map[string]bool{}
	for range 4 {
		if got := do(t, s, map[string]string{"ClientId": "failing", "MsgId": id}); got.Code != 200 {
			t.Fatal(got.Body)
		}
		dead := deadPage(t, s, "", 1, nil).MsgFoundDo.MsgFoundList.OnsRestMessageDo
		last := dead[len(dead)-1]
		deliveries := s.Deliveries().List
		if id = deliveries[len(deliveries)-1].NewMsgID; last.MsgID != id || seen[id] || len(dead) != len(seen)+1 {
			t.Fatalf("%d dead letters, the last %+v, the listener saw %s", len(dead), last, id)
		}
		seen[id] = true
		var origin struct{ Data entry }
		if err := json.Unmarshal(do(t, s, map[string]string{"Action": "OnsMessageGetByMsgId", "MsgId": id}).Body.Bytes(), &origin); err != nil {
			t.Fatal(err)
		}
		if origin.Data.MsgID != id || origin.Data.OffsetID == last.OffsetID || offsets[origin.Data.OffsetID] || origin.Data.BornTimestamp != last.BornTimestamp {
			t.Errorf("origin %+v of dead letter %+v", origin.Data, last)
		}
		offsets[origin.Data.OffsetID] = true
	}
	do(t, s, nil) // to a listener that is well
	if n := len(deadPage(t, s, "", 1, nil).MsgFoundDo.MsgFoundList.OnsRestMessageDo); n != 4 {
		t.Errorf("%d dead letters, want 4", n)
	}
}

func TestKeysAreSeparatedBySpaces(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(d *Data) {
		for i := range d.Instances[0].Messages {
			d.Instances[0].Messages[i].Keys = fmt.Sprintf("order%d  all", i)
		}
	})
	for key, want := range map[string]int{"all": 2, "order0": 1, "order": 0, "order0  all": 0, "order2": 0} { // the third has expired
		var got struct {
			Data struct{ OnsRestMessageDo []entry }
		}
		if err := json.Unmarshal(do(t, s, map[string]string{"Action": "OnsMessageGetByKey", "Key": key}).Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if n := len(got.Data.OnsRestMessageDo); n != want {
			t.Errorf("%q: %d messages, want %d", key, n, want)
		}
	}
}

// readAll reads the dead letters of windows of a half hour, 50 to a page.
func readAll(t testing.TB, s *Server) (found int) {
	t.Helper()
	for begin := s.start.Add(-6 * time.Hour); begin.Before(s.start); begin = begin.Add(30 * time.Minute) {
		window := map[string]string{
			"BeginTime": strconv.FormatInt(begin.UnixMilli(), 10), "EndTime": strconv.FormatInt(begin.Add(30*time.Minute).UnixMilli()-1, 10), "PageSize": "50",
		}
		p := deadPage(t, s, "", 1, window)
		for number := 1; p.MsgFoundDo.MaxPageCount >= number; number++ {
			if number > 1 {
				p = deadPage(t, s, p.MsgFoundDo.TaskID, number, window)
			}
			found += len(p.MsgFoundDo.MsgFoundList.OnsRestMessageDo)
		}
	}
	return found
}

func TestMoreDeadLettersThanATaskShows(t *testing.T) {
	t.Parallel()
	if found := readAll(t, buried(t, 3000, nil)); found != 3000 {
		t.Errorf("%d entries, want 3,000", found)
	}
}

// BenchmarkDeadLetters makes the server and reads all: ns/entry must not grow
// with the number of entries.
func BenchmarkDeadLetters(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				if found := readAll(b, buried(b, n, nil)); found != n {
					b.Fatal(found)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/entry")
		})
	}
}
