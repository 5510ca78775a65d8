package planning

import (
	"context"
	"errors"
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Stored is a message, or a dead letter, as the broker has it.
type Stored struct {
	Topic string
	// MsgID is the unique key, in which a dead letter agrees with its origin;
	// OffsetID is the other id, in which no two agree.
	MsgID, OffsetID string
	// StoredAt is when the broker stored this copy, BornAt when its producer made
	// the message. Zero means not known.
	StoredAt, BornAt time.Time
	// Origin is what a dead letter is a copy of; zero for what is none, and for
	// one that does not say.
	Origin pushing.Origin
}

// Query asks for one page of what was stored from From to To, both included.
type Query struct {
	InstanceID string
	// GroupID names the group whose dead letters are meant, Topic the topic; the
	// other one is empty.
	GroupID, Topic string
	From, To       time.Time
	// Number is the page, from 1 to [MaxPages], TaskID the task it belongs to:
	// empty begins one.
	Number int
	TaskID string
}

// Limits of page queries (source: DOC OnsMessagePageQueryByTopic: CurrentPage 1
// to 50, PageSize 5 to 50).
const (
	MaxPages = 50
	PageSize = 50
)

// Page is the answer to a [Query].
type Page struct {
	TaskID string
	// Pages is how many the task has, no more than MaxPages however many there
	// would be; 0 when nothing matches.
	Pages    int
	Messages []Stored
}

// Pager lists messages, [PageSize] a page. That nothing matches is an empty page.
// An error is always a [*pushing.Error]. Safe for concurrent use.
type Pager interface {
	DeadLetters(ctx context.Context, q Query) (Page, error) // OnsDLQMessagePageQueryByGroupId
	Messages(ctx context.Context, q Query) (Page, error)    // OnsMessagePageQueryByTopic
}

// Finder finds single messages; none is no error. An error is always a
// [*pushing.Error]. Safe for concurrent use.
type Finder interface {
	ByID(ctx context.Context, instanceID, topic, msgID string) ([]Stored, error) // OnsMessageGetByMsgId: one or none
	ByKey(ctx context.Context, instanceID, topic, key string) ([]Stored, error)  // OnsMessageGetByKey
}

// Watcher tells how far groups have consumed. An error is always a
// [*pushing.Error]. Safe for concurrent use.
type Watcher interface {
	// Trace says, for each group that subscribes, whether its offset has passed
	// the message, by the words of OnsMessageTrace: CONSUMED,
	// CONSUMED_BUT_FILTERED, NOT_CONSUME_YET, NOT_ONLINE, UNKNOWN.
	Trace(ctx context.Context, instanceID, topic, msgID string) (byGroup map[string]string, err error)
	// Lag lists the topics of which the group has messages left, by
	// OnsConsumerAccumulate.
	Lag(ctx context.Context, instanceID, groupID string) ([]Lag, error)
}

// Lag is what a group has left of one topic.
type Lag struct {
	Topic string
	// Messages is how many are left.
	Messages int64
	// Consumed is a store time before which all of its messages are consumed, as
	// far as the group says; zero means not known.
	Consumed time.Time
}

// Operations of the API that planning calls, by which their quotas are told
// apart.
const (
	OpDeadLetters = "OnsDLQMessagePageQueryByGroupId"
	OpMessages    = "OnsMessagePageQueryByTopic"
	OpByID        = "OnsMessageGetByMsgId"
	OpByKey       = "OnsMessageGetByKey"
	OpTrace       = "OnsMessageTrace"
	OpLag         = "OnsConsumerAccumulate"
	OpOnline      = "OnsConsumerGetConnection"
)

// Histories tells what the ledger of pushes knows of a message; the zero History
// means nothing. Safe for concurrent use.
type Histories interface {
	History(ctx context.Context, m pushing.Message) (pushing.History, error)
}

// Documents keeps what planning has to remember: one document a key. Each Save is
// a compare-and-set. Safe for concurrent use. An error but [ErrConflict] means
// that the store could not be reached; it may have done what was asked.
type Documents interface {
	// Load returns the document and its version; nil and 0 when there is none.
	Load(ctx context.Context, key string) (doc []byte, version int64, err error)
	// Save replaces the document that has this version, or makes the first one
	// (version 0), and returns the new version, which no document of this key
	// ever had, not even one that was lost. It is forgotten keep after the last
	// Save. due is when [Documents.Due] is to name it, from now; negative: never.
	// [ErrConflict]: the version is another one.
	Save(ctx context.Context, key string, version int64, doc []byte, keep, due time.Duration) (int64, error)
	// Due names documents whose time has come, the longest due first, at most
	// limit, and says how many have a time at all.
	Due(ctx context.Context, limit int) (keys []string, open int, err error)
	// Durable reports whether documents outlive the process.
	Durable() bool
}

// ErrConflict says that somebody else saved the document meanwhile.
var ErrConflict = errors.New("the document was changed by another worker")
