package trigger

import (
	"bytes"
	"encoding/base64"
	"slices"
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

// Options are what decoding depends on. The functions must be safe for concurrent
// use.
type Options struct {
	// Plan: functions/plan decodes, else functions/repush. Each refuses what only
	// the other one takes.
	Plan bool
	// Allows checks the Authorization header of HTTP requests that arrive as
	// events; nil allows nobody.
	Allows func(authorization string) bool
	// AllowsAlert checks the token for alerts of such a request, in its query
	// (token) or header X-Repush-Token, in constant time; nil allows nobody. It is
	// given "" where there is none.
	AllowsAlert func(token string) bool
	// AlertOnly: whoever sent this may send alerts and nothing else, as if by
	// AllowsAlert.
	AlertOnly bool
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
	d := decoder{Options: o}
	if len(body) > MaxBytes {
		d.reject(body, origin{}, refused(CodeTooLarge, "larger than %d bytes: send smaller batches", MaxBytes))
	} else {
		d.request(body, origin{single: true, direct: true, alertOnly: o.AlertOnly})
	}
	d.batch.NotAnEvent = len(d.batch.Deliveries) > 0 && !slices.ContainsFunc(d.batch.Deliveries, func(delivery pushing.Delivery) bool {
		return codeOf(delivery.Err) != CodeUnreadable
	})
	return d.batch
}

type decoder struct {
	Options
	batch Batch
}

// full reports that there are more events than allowed: nothing more is read.
func (d *decoder) full() bool { return len(d.batch.Deliveries) > events.MaxBatch }

// request reads what one sender sent, and refuses as one what is too much. Alerts of
// outsiders cost calls of a quota that the account shares.
func (d *decoder) request(raw []byte, from origin) {
	begin, most := len(d.batch.Deliveries), events.MaxBatch
	if from.alertOnly {
		most = maxAlerts
	}
	d.payload(raw, from)
	if len(d.batch.Deliveries)-begin > most {
		d.batch.Deliveries, d.batch.items = d.batch.Deliveries[:begin], d.batch.items[:begin]
		d.reject(raw, from, refused(CodeTooLarge, "more than %d events in one delivery: none was read; send smaller batches", most))
	}
}

func (d *decoder) add(raw []byte, from origin, delivery pushing.Delivery) {
	code := codeOf(delivery.Err)
	if from.alertOnly && !delivery.Alert && code != CodeUnreadable && code != CodeTooLarge {
		code, delivery = CodeUnauthorized, pushing.Delivery{Err: errUnauthorized()}
	}
	delivery.Request = from.keyOf(raw)
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
	case isForm(raw):
		d.form(raw, from)
	case d.Plan && string(raw) == armsTest:
		d.add(raw, from, pushing.Delivery{Alert: true, Nothing: "nothing to do: a test by ARMS, with no alert in it"})
	default:
		decoded, err := base64.StdEncoding.DecodeString(string(raw))
		if err != nil || len(decoded) == 0 || !strings.ContainsRune(`{["`, rune(decoded[0])) && !isForm(decoded) {
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
		d.payload(element, from.deeper().element(i))
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
	} else if m := monitorOf(o); m != nil {
		d.alerts(m, raw, o, from)
	} else if d.Plan && o.get("msgId") != nil {
		d.reject(raw, from, d.misdirected("event", true))
	} else if !events.LooksRequested(o) && !isControl(from.eventType) {
		d.reject(raw, from, refused(CodeUnreadable, "neither an event nor the data of one nor a known envelope"))
	} else if d.fits(raw, from) {
		d.data(raw, raw, nil, from, pushing.Delivery{Human: from.single && from.direct})
	}
}

// data reads the data of an event of ours, whose bytes are raw; err says what is
// wrong with its attributes. Data of no type is what the function is there for.
func (d *decoder) data(raw, data []byte, err error, from origin, delivery pushing.Delivery) {
	var dataErr error
	switch from.eventType {
	case events.TypeSweepRequested:
		delivery.Sweep = new(events.Sweep)
		*delivery.Sweep, dataErr = events.DecodeSweep(data)
	case events.TypeOperationRequested:
		if !delivery.Human {
			d.reject(raw, from, errNotTrusted("operations"))
			return
		}
		delivery.Operation = new(events.Operation)
		*delivery.Operation, dataErr = events.DecodeOperation(data)
	default:
		if !d.Plan {
			delivery.Data, dataErr = events.DecodeRequested(data)
			break
		}
		delivery.Plan = new(events.Plan)
		*delivery.Plan, dataErr = events.DecodePlan(data)
		if delivery.Plan.Again && !delivery.Human {
			d.reject(raw, from, errNotTrusted(`"again"`))
			return
		}
	}
	if delivery.Err = join(err, dataErr); delivery.Err != nil {
		delivery.Sweep, delivery.Operation, delivery.Plan = nil, nil, nil
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
	if err := d.checkType("type", eventType); eventType != "" && err != nil {
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
		trusted := !p.outsider || d.Allows != nil && d.Allows(p.authorization)
		p.from.direct = p.outsider
		p.from.alertOnly = from.alertOnly || !trusted
		if p.err == nil && strings.HasPrefix(p.from.eventType, "repush:") {
			p.err = d.checkType("detail-type", p.from.eventType)
		}
		switch {
		case d.full():
			return
		case !trusted && (d.AllowsAlert == nil || !slices.ContainsFunc(p.alertTokens, d.AllowsAlert)):
			d.reject(p.body, p.from, errUnauthorized())
		case p.err != nil:
			d.reject(p.body, p.from, p.err)
		default:
			d.request(p.body, p.from)
		}
	}
}
