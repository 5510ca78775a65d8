package pushing

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Message names one stored message and the group it is pushed to. It is the
// key of the ledger.
type Message struct {
	InstanceID string
	Topic      string
	GroupID    string
	MsgID      string
}

// Key is text that no two messages share: no part holds a slash.
func (m Message) Key() string {
	return m.InstanceID + "/" + m.GroupID + "/" + m.Topic + "/" + m.MsgID
}

// Target is where one push goes.
type Target struct {
	Message
	ClientID string
}

// Pusher asks the broker to deliver one stored message to one consumer. An
// error is always an [*Error]; nil means accepted, not consumed. Safe for
// concurrent use.
type Pusher interface {
	Push(ctx context.Context, t Target) (requestID string, err error)
}

// Connections lists the clients of a consumer group that are online now. An
// error is always an [*Error]; that nobody is online is one of kind NoClient.
// Safe for concurrent use.
type Connections interface {
	Online(ctx context.Context, instanceID, groupID string) (clientIDs []string, err error)
}

// Pacer hands out the calls of one quota: a caller waits for its turn, does
// what must be done late (claim, choose a client), books a slot and calls. Safe
// for concurrent use.
type Pacer interface {
	// Turn waits until a slot could be booked within half a second, first
	// come, first served within a lane. It returns ctx's error when ctx ends
	// first.
	Turn(ctx context.Context, lane events.Priority) (Turn, error)
}

// Turn is the right to book the next calls. It must be released. Not safe for
// concurrent use.
type Turn interface {
	// Book takes the next slot and returns when its time has come. Every slot
	// is reported exactly once. [ErrNoSlot]: no slot comes before ctx's
	// deadline; none was taken. Any other error: the pacer's state could not
	// be reached, or ctx ended.
	Book(ctx context.Context) (Slot, error)
	// Release gives the turn to the next in line. It may be called more than
	// once, and before the slots that were booked are reported; Book then
	// waits for a slot that those in line leave.
	Release()
}

// Slot is one booked call.
type Slot interface {
	Report(v Verdict)
}

// Verdict is how a booked call was answered, as far as the quota is concerned.
type Verdict int

// Verdicts.
const (
	// Unused: no call was made, or none that reached the quota's counter.
	Unused Verdict = iota
	// Accepted: the quota had room, whatever else the API said.
	Accepted
	// Throttling: the quota refused.
	Throttling
)

// ErrNoSlot says that the next slot comes after the deadline.
var ErrNoSlot = errors.New("no slot before the deadline")

// Emitter sends result events on their way. nil means that all were taken over
// for good. Safe for concurrent use.
type Emitter interface {
	Send(ctx context.Context, batch ...events.Event) error
}

// RequestKey identifies a request: CloudEvents promises that source and id
// together do.
type RequestKey struct {
	Source string
	ID     string
}

// Ledger remembers what was asked, what is being done and what was decided, one
// record per message. Every transition is a compare-and-set on the fencing
// number of a claim and its counts of pushes and attempts: who lost the claim
// gets [ErrLost] and stops, who holds one that the ledger has forgotten
// [ErrForgotten], and a transition that is asked for again, because its answer got
// lost, is answered as before. Safe for concurrent use. Any other error means
// that the ledger could not be reached; it may have done what was asked.
type Ledger interface {
	Backlog
	Orders
	// Claim asks for the right to decide a request; see [Found] for the
	// answers. The same Ask.Token gets the same claim while its lease runs.
	Claim(ctx context.Context, ask Ask) (Claim, error)
	// MarkSending notes, directly before the call, that the message may be
	// sent from now on, counts a push and renews the lease to c.Lease. A
	// [*Halted] says that an order forbids it; the claim stays as it is.
	MarkSending(ctx context.Context, c Claim) error
	// MarkNotSent takes the count back after a definite not-sent answer, keeps
	// the claim and renews its lease to c.Lease. maybe marks every later push
	// of the message maybeDuplicate.
	MarkNotSent(ctx context.Context, c Claim, maybe bool) error
	// Park gives up the claim: the request waits until after has passed. code
	// says why. What was marked as sending beyond c.Pushes was not sent.
	Park(ctx context.Context, c Claim, after time.Duration, code string) error
	// Receive notes a request that could not be claimed, so that it ages from
	// now on, and returns what is known of it. A request that is known stays as
	// it is.
	Receive(ctx context.Context, ask Ask, code string) (Claim, error)
	// Decide writes the outcome and its event in one step and ends the claim.
	// Outcomes that do not close the generation take back the push that was
	// counted last, if it was not answered by MarkNotSent. A decision that
	// comes after another worker decided "unknown" is kept as late, and
	// ErrLost returned.
	Decide(ctx context.Context, c Claim, d Decision) error
	// MarkEmitted notes that the events of decided requests have left.
	MarkEmitted(ctx context.Context, asks ...Ask) error
	// Read returns what a claim would find, and changes nothing.
	Read(ctx context.Context, ask Ask) (Claim, error)
	// Durable reports whether the ledger outlives the process.
	Durable() bool
}

// Backlog is the ledger's open work.
type Backlog interface {
	// Due returns work that nobody is at and whose time has come, at most limit
	// items, and how much there is. Who asks next is given other items for a
	// while, as far as there are others.
	Due(ctx context.Context, limit int) ([]Work, Backlogged, error)
}

// Work is one open request.
type Work struct {
	Ask Ask
	// Decided: only its event is still to be sent.
	Decided bool
}

// Backlogged counts open requests' messages.
type Backlogged struct {
	// Due can be taken up now; Open is all that has no end yet.
	Due  int `json:"due"`
	Open int `json:"open"`
}

// Orders are standing orders to the ledger, and what it can tell of the work
// they are about.
type Orders interface {
	// Order halts a scope, or lets it go on; every claim and every mark of
	// sending from then on obeys.
	Order(ctx context.Context, s Scope, o Order) error
	// Progress counts the requests of an operation; "" counts all.
	Progress(ctx context.Context, operationID string) (Progress, error)
	// History is every request for a message and what became of it.
	History(ctx context.Context, m Message) (History, error)
}

// ErrLost says that somebody else holds the claim by now.
var ErrLost = errors.New("claim lost to another worker")

// ErrForgotten says that the ledger does not know the request any more.
var ErrForgotten = errors.New("the ledger has forgotten the request: it was flushed, or is an older copy")

// Ask is a request as the ledger sees it.
type Ask struct {
	Request RequestKey
	Data    events.Requested
	// Human: priority "human" is honoured.
	Human bool
	// Time is the event's own time; zero means not known.
	Time time.Time
	// Lease is how long a claim is good for, on the ledger's clock.
	Lease time.Duration `json:"-"`
	// Token names one attempt to claim; empty means that no answer is repeated.
	Token string `json:"-"`
}

// Message is the key of the record the request belongs to.
func (a Ask) Message() Message {
	return Message{a.Data.InstanceID, a.Data.Topic, a.Data.GroupID, strings.ToUpper(a.Data.MsgID)}
}

// Generation of the push that is asked for, from 1.
func (a Ask) Generation() int { return max(1, a.Data.Generation) }

// Found is what a claim met.
type Found int

// What a claim can meet.
const (
	// Granted: the claim is ours; push.
	Granted Found = iota
	// Interrupted: the claim is ours, but a worker died or fell asleep while
	// sending: the fate of its push must be decided first. Claim.Ask is the
	// request it was sending for, which may be another than the one asked.
	Interrupted
	// Closed: the generation was pushed or may have been, or a higher one was.
	// The claim is ours, to decide "duplicate"; see Claim.First.
	Closed
	// Busy: somebody is at it, or it waits for its time; see Claim.Wait.
	Busy
	// Undelivered: decided, and its event has not left yet; see Claim.Event.
	Undelivered
	// Repeated: this very request was decided and emitted; see Claim.First.
	Repeated
	// Contradicting: this source and id were used for another message.
	Contradicting
)

// Claim is the ledger's answer to an Ask. Fields beyond Found and Ask are set
// as far as they apply.
type Claim struct {
	Ask
	Found Found
	// Fence is the fencing number of a claim that is ours.
	Fence int64
	// ReceivedAt is when the ledger first saw this request.
	ReceivedAt time.Time
	// Age is how long ago that was, without the time it stood still by order.
	Age time.Duration
	// Young: the ledger was born after the request was made, and so may have
	// forgotten a push of it.
	Young bool
	// Cancelled: an order ends the request of this claim.
	Cancelled bool
	// Probe: the group's breaker has ended, and this claim is the one that finds
	// out whether calls pass again. It is how long the breaker was open; zero: no
	// probe.
	Probe time.Duration
	// Wait is how long a Busy record asks to be left alone.
	Wait time.Duration
	// Code is why a Busy request waits.
	Code string
	// Pushes counts the accepted and unknown pushes of the message so far, over
	// all generations.
	Pushes int
	// Attempts counts the push calls made for this request so far; one whose
	// mark got no answer, and which was not made, counts too.
	Attempts int
	// MaybeDuplicate: the message was pushed by us before, or may have been.
	MaybeDuplicate bool
	// Event is the stored result of an Undelivered request.
	Event events.Event
	// First is the decision that a Closed or Repeated request meets, and that
	// of an Undelivered one.
	First events.First
}

// Decision is how a request ends.
type Decision struct {
	Outcome events.Outcome
	Event   events.Event
	At      time.Time
}
