package report

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// began is when the requests of the tests came in.
var began = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// asked is a request that keeps the rules.
func asked(n int) events.Requested {
	return events.Requested{
		InstanceID: "MQ_INST_1380156306793859_BbXbx0Y4", Topic: []string{"orders", "payments", "refunds"}[n%3], GroupID: "GID_billing",
		MsgID: fmt.Sprintf("C000021112CD18B4AAC26E1A%08X", n), Reason: "consumer was down from 09:10 to 09:40", Priority: events.PriorityBulk,
		OperationID: "op-7", RequestedBy: "anna", StoredAt: began.Add(-time.Duration(n) * time.Second),
	}
}

// line is the event of a result, as source writes it.
func line(t testing.TB, source string, c events.Completed) string {
	t.Helper()
	e, err := events.NewCompleted(c)
	if err != nil {
		t.Fatal(err)
	}
	e.Source = source
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw) + "\n"
}

// bulk are results of n requests as of a run on a day with trouble.
func bulk(t testing.TB, n int, pushed bool) string {
	t.Helper()
	var out strings.Builder
	random := rand.New(rand.NewPCG(1, 2))
	at := began
	for i := range n {
		at = at.Add(100*time.Millisecond + time.Duration(random.ExpFloat64()*2)*time.Millisecond)
		if i == n/2 {
			at = at.Add(45 * time.Second)
		}
		data := asked(i)
		call := int64(40 * math.Exp(random.NormFloat64()*0.7))
		c := events.Completed{
			Request: events.RequestRef{ID: fmt.Sprintf("push-%032x", i), Source: "repush/push/anna", Data: &data}, Outcome: events.Pushed,
			RequestID: fmt.Sprintf("1E5B2C8D-0000-1111-2222-%012X", i), InvocationID: "inv-1", ClientID: fmt.Sprintf("192.0.2.%d@4242#-118#22#33", i%7),
			Attempts: 1, Pushes: 1, Durable: true, ReceivedAt: began, WaitMs: at.Sub(began).Milliseconds(), CallMs: call, DecidedAt: at.Add(time.Duration(call) * time.Millisecond),
		}
		switch k := random.IntN(1000); {
		case !pushed || k < 4:
			c.Outcome, c.Code, c.Message, c.Hint = events.Failed, "BIZ_NO_MESSAGE", "push: BIZ_NO_MESSAGE: the message does not exist", "look at the id and the topic; the broker may have deleted the message"
		case k < 7:
			c.Outcome, c.Code, c.Message, c.Hint, c.CallMs = events.Unknown, "Unknown", "nobody knows whether this push reached the consumer: push: no answer in time", "look in the consumer's log whether the message arrived before asking again with the next generation", 15000
			c.DecidedAt = at.Add(15 * time.Second)
		case k < 10:
			c.Outcome, c.Code, c.Message, c.Hint, c.Attempts = events.Abandoned, "GaveUp", "not decided within 24h0m0s; last reason: BIZ_CONSUMER_NOT_ONLINE", "remove the reason and send a new request; REPUSH_GIVE_UP_AFTER is the limit", 0
		case k < 14:
			c.Outcome, c.Code, c.Message, c.Hint, c.Attempts = events.Expired, "TooOld", "stored more than 72h0m0s ago: the broker has deleted the message", "restore it from its producer; check REPUSH_MAX_AGE if the instance keeps messages longer", 0
		case k < 20:
			c.Outcome, c.Code, c.Message, c.Hint, c.Attempts = events.Duplicate, "AlreadyDecided", "event push-1 asked for this generation or a higher one and ended as pushed", "to push the message once more on purpose, ask for a higher generation", 0
			c.First = &events.First{EventID: "push-1", Outcome: events.Pushed, DecidedAt: began}
		case k < 25:
			c.Code, c.MaybeDuplicate = "LedgerYoung", true
		}
		out.WriteString(line(t, events.SourceRepush, c))
	}
	return out.String()
}
