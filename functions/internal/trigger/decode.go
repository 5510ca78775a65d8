package trigger

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

const (
	// MaxBytes bounds what one invocation delivers: the largest synchronous
	// payload (source: FC "Limits").
	MaxBytes = 32 << 20
	// maxLayers bounds how many envelopes, arrays, strings in strings and
	// base64 texts one event may be wrapped in. A Kafka element that comes back
	// as the record of a failed invocation through a queue has seven.
	maxLayers = 8
)

// Options are what decoding depends on.
type Options struct {
	// Allows checks the Authorization header of HTTP requests that arrive as
	// events; nil allows nobody. It must be safe for concurrent use.
	Allows func(authorization string) bool
}

// Batch is what one invocation delivered.
type Batch struct {
	// Deliveries has one element for every event, readable or not, in the order
	// of the bytes; never more than events.MaxBatch. Empty for an empty array.
	Deliveries []pushing.Delivery
	// NotAnEvent: nothing in it could be recognised. HTTP callers get 400.
	NotAnEvent bool

	httpTrigger bool     // answered with an HTTP response
	items       []string // SQS message ids, one per delivery
}

// Decode reads what a platform delivered. It never fails: what cannot be read
// becomes a rejected delivery, alone; a batch above the limit becomes one. The
// errors are [*events.ValidationError] or [*Error]. Safe for concurrent use.
func Decode(body []byte, o Options) Batch {
	d := decoder{allows: o.Allows}
	if len(body) > MaxBytes {
		d.reject(body, origin{}, refused(CodeTooLarge, "larger than %d bytes: send smaller batches", MaxBytes))
	} else {
		d.payload(body, origin{single: true, direct: true})
	}
	if d.full() {
		d.batch.Deliveries, d.batch.items = nil, nil
		d.reject(body, origin{}, refused(CodeTooLarge, "more than %d events in one delivery: none was read; send smaller batches", events.MaxBatch))
	}
	d.batch.NotAnEvent = len(d.batch.Deliveries) > 0 && !slices.ContainsFunc(d.batch.Deliveries, func(delivery pushing.Delivery) bool {
		return codeOf(delivery.Err) != CodeUnreadable
	})
	return d.batch
}

type decoder struct {
	allows func(string) bool
	batch  Batch
}

// full reports that there are more events than allowed: nothing more is read.
func (d *decoder) full() bool { return len(d.batch.Deliveries) > events.MaxBatch }

func (d *decoder) add(raw []byte, from origin, delivery pushing.Delivery) {
	delivery.Request = from.keyOf(raw)
	code := codeOf(delivery.Err)
	delivery.Silent = isControl(from.eventType) || code == CodeLoop || code == CodeUnauthorized
	if delivery.Time.IsZero() {
		delivery.Time = from.time
	}
	d.batch.Deliveries = append(d.batch.Deliveries, delivery)
	d.batch.items = append(d.batch.items, from.item)
}

func (d *decoder) reject(raw []byte, from origin, err error) {
	d.add(raw, from, pushing.Delivery{Err: err})
}

// payload reads one JSON value, or the base64 of one.
func (d *decoder) payload(raw []byte, from origin) {
	raw = bytes.Trim(raw, " \t\r\n")
	switch {
	case from.layers > maxLayers:
		d.reject(raw, from, refused(CodeUnreadable, "wrapped in more than %d layers", maxLayers))
	case len(raw) == 0:
		d.reject(raw, from, refused(CodeUnreadable, "empty"))
	case raw[0] == '{':
		d.object(raw, from)
	case raw[0] == '[':
		d.array(raw, from)
	case raw[0] == '"':
		text, err := unquote(raw)
		if err != nil {
			d.reject(raw, from, err)
			return
		}
		d.payload(text, from.deeper())
	default:
		decoded, err := base64.StdEncoding.DecodeString(string(raw))
		if err != nil || len(decoded) == 0 || !strings.ContainsRune(`{["`, rune(decoded[0])) {
			d.reject(raw, from, refused(CodeUnreadable, "neither JSON nor base64 of JSON"))
			return
		}
		d.payload(decoded, from.deeper())
	}
}

func (d *decoder) array(raw []byte, from origin) {
	all, err := elements(raw)
	if err != nil {
		d.reject(raw, from, err)
		return
	}
	from.single = false
	for i, element := range all {
		if d.full() {
			return
		}
		each := from.deeper()
		if each.key.ID != "" {
			each.key.ID += "#" + strconv.Itoa(i)
		}
		d.payload(element, each)
	}
}

func (d *decoder) object(raw []byte, from origin) {
	o, err := split(raw)
	if err != nil {
		d.reject(raw, from, refused(CodeUnreadable, "event: %v", err))
		return
	}
	if o.get("specversion") != nil || o.get("type") != nil && o.get("source") != nil {
		d.event(raw, o, from)
	} else if e := envelopeWith(func(e envelope) bool { return o.hasAll(e.members) }); e != nil {
		d.open(e, raw, o, from)
	} else if !events.LooksRequested(o) && !isControl(from.eventType) {
		d.reject(raw, from, refused(CodeUnreadable, "neither an event nor the data of one nor a known envelope"))
	} else if d.fits(raw, from) {
		d.data(raw, raw, nil, from, pushing.Delivery{Human: from.single && from.direct})
	}
}

// data reads the data of an event of ours, whose bytes are raw; err says what is
// wrong with its attributes. Data of no type is a request's.
func (d *decoder) data(raw, data []byte, err error, from origin, delivery pushing.Delivery) {
	var dataErr error
	switch from.eventType {
	case events.TypeSweepRequested:
		delivery.Sweep = new(events.Sweep)
		*delivery.Sweep, dataErr = events.DecodeSweep(data)
	case events.TypeOperationRequested:
		if !delivery.Human {
			d.reject(raw, from, errNotTrusted())
			return
		}
		delivery.Operation = new(events.Operation)
		*delivery.Operation, dataErr = events.DecodeOperation(data)
	default:
		delivery.Data, dataErr = events.DecodeRequested(data)
	}
	if delivery.Err = join(err, dataErr); delivery.Err != nil {
		delivery.Sweep, delivery.Operation = nil, nil
	}
	d.add(raw, from, delivery)
}

// fits rejects what is larger than one event. That its text is UTF-8 is a rule
// of every field.
func (d *decoder) fits(raw []byte, from origin) bool {
	if len(raw) > events.MaxEventBytes {
		d.reject(raw, from, refused(CodeTooLarge, "event: %v", events.ErrTooLarge))
		return false
	}
	return true
}

// event reads a CloudEvent: one of ours, or one that a platform made of a
// message. A bus says when it took an event that has no time of its own.
func (d *decoder) event(raw []byte, o object, from origin) {
	from = from.named(o.text("source"), o.text("id")).at(o.time("aliyunpublishtime")).at(o.time("time"))
	eventType := o.text("type")
	if e := envelopeWith(func(e envelope) bool { return e.eventType == eventType }); e != nil && eventType != "" {
		data, err := split(o.get("data"))
		if err != nil {
			d.reject(raw, from, refused(CodeUnreadable, "data: %v", err))
			return
		}
		from.subject = o.text("subject")
		d.open(e, raw, data, from)
		return
	}
	from.eventType = eventType
	if err := checkType("type", eventType); eventType != "" && err != nil {
		d.reject(raw, from, err)
		return
	}
	if !d.fits(raw, from) {
		return
	}
	e, err := events.FromMembers(o)
	data := []byte(e.Data)
	if err != nil {
		data = o.get("data") // for the problems in it, and to name the message
	}
	human := from.single && from.direct && !slices.ContainsFunc(o, isPlatformExtension)
	d.data(raw, data, err, from, pushing.Delivery{Time: e.Time, Human: human})
}

// isPlatformExtension: a bus delivered it, whoever sent it there (source:
// EventBridge, extension attributes of an event).
func isPlatformExtension(m events.Member) bool { return strings.HasPrefix(m.Name, "aliyun") }

// open reads what is in an envelope, whose bytes are raw.
func (d *decoder) open(e *envelope, raw []byte, o object, from origin) {
	d.batch.httpTrigger = d.batch.httpTrigger || e.httpTrigger && from.layers == 0
	for _, p := range e.open(o, from) {
		if p.body == nil {
			p.body = raw
		}
		switch {
		case d.full():
			return
		case p.outsider && (d.allows == nil || !d.allows(p.authorization)):
			d.reject(p.body, p.from, refused(CodeUnauthorized, `no valid token: send "Authorization: Bearer <token>" with the value of REPUSH_HTTP_TOKEN`))
		case p.err != nil:
			d.reject(p.body, p.from, p.err)
		default:
			p.from.direct = p.outsider
			d.payload(p.body, p.from)
		}
	}
}
