package trigger

import (
	"cmp"
	"slices"
	"strings"
)

// envelopes is in the order in which they are tried.
var envelopes = slices.Concat(eventBridge, httpRequests, functionCompute, aws, ourOwn)

// envelope is one shape a platform delivers.
type envelope struct {
	// eventType is the type of the CloudEvent whose data it is; empty when it
	// never comes as one.
	eventType string
	// members tell it from every other shape when it comes by itself: as its
	// platform delivers it, or as the "data" part alone (source: FC
	// DeliveryOption, eventSchema RawData).
	members []string
	open    func(object, origin) []parcel
	// httpTrigger: the platform takes an HTTP response as the answer, and an
	// error for a failure of the function.
	httpTrigger bool
}

func envelopeWith(is func(envelope) bool) *envelope {
	if at := slices.IndexFunc(envelopes, is); at >= 0 {
		return &envelopes[at]
	}
	return nil
}

// parcel is one body found in an envelope.
type parcel struct {
	body []byte // nil only with err
	from origin
	err  error // why the body is not to be read
	// outsider: nobody but the sender vouches for it; it needs the token, or to
	// be an alert and bring one for alerts.
	outsider      bool
	authorization string
	alertTokens   []string
}

// content takes a member as the body: the text of a string, or any other JSON
// value as it is.
func content(o object, name string, from origin) parcel {
	p := parcel{body: o.get(name), from: from}
	if p.body == nil || string(p.body) == "null" {
		p.body, p.err = nil, refused(CodeUnreadable, "the envelope has no %s", name)
	} else if p.body[0] == '"' {
		p.body, p.err = unquote(p.body)
	}
	return p
}

// message opens an envelope with one body, known by the member that names the
// source, after a prefix, and those that name the message. The subject of a
// CloudEvent around it names the source better.
func message(prefix, source, id, at, body string) func(object, origin) []parcel {
	return func(o object, from origin) []parcel {
		var ids []string
		for name := range strings.FieldsSeq(id) {
			ids = append(ids, o.text(name))
		}
		if !slices.Contains(ids, "") {
			from = from.named(cmp.Or(from.subject, prefix+o.text(source)), strings.Join(ids, "/"))
		}
		return []parcel{content(o, body, from.at(o.time(at)).inside())}
	}
}

// ourOwn is the data of a result, and of a part of a manifest, without its event, as
// a bus with RawData delivers it: an answer to it would come back the same way for
// ever.
var ourOwn = []envelope{
	{members: []string{"request", "outcome"}, open: openOurOwn},
	{members: []string{"part", "parts", "estimate"}, open: openOurOwn},
}

func openOurOwn(_ object, from origin) []parcel {
	return []parcel{{from: from.inside(), err: errLoop()}}
}
