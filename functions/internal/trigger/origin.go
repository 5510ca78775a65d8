package trigger

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// SourceBare is the source of data that came without any envelope.
const SourceBare = "repush/bare"

// maxKey bounds a source and an id, in characters, as the events package does.
const maxKey = 512

// origin is what the envelopes opened so far say about a payload.
type origin struct {
	// key identifies a payload that does not identify itself; zero when no
	// envelope had one.
	key pushing.RequestKey
	// subject is the attribute of the innermost CloudEvent of a platform.
	subject string
	// eventType is that of the innermost event, and of the data in it.
	eventType string
	time      time.Time
	// item is the id by which SQS wants a failure reported.
	item string
	// layers counts what was opened.
	layers int
	// single: not an element of an array.
	single bool
	// direct: no platform put an envelope around it, or it brought the token.
	direct bool
	// alertOnly: somebody vouches for an alert, and for nothing else.
	alertOnly bool
	// written: inside a body, which is whatever its sender liked.
	written bool
}

// inside is the origin of the body of an envelope.
func (f origin) inside() origin {
	f.written = true
	f.layers++
	return f
}

// deeper is the origin of what an array, a string or base64 holds.
func (f origin) deeper() origin {
	f.layers++
	return f
}

// element is the origin of one of several in what has a key.
func (f origin) element(i int) origin {
	if f.key.ID != "" {
		f.key.ID += "#" + strconv.Itoa(i)
	}
	return f
}

// named takes source and id as the key, unless one of them is unusable.
func (f origin) named(source, id string) origin {
	if usable(source) && usable(id) {
		f.key = pushing.RequestKey{Source: source, ID: id}
	}
	return f
}

// at takes the time, unless it is not known.
func (f origin) at(t time.Time) origin {
	if !t.IsZero() {
		f.time = t
	}
	return f
}

func usable(text string) bool {
	return text != "" && utf8.RuneCountInString(text) <= maxKey && !strings.ContainsFunc(text, unicode.IsControl)
}

// keyOf is the key of a payload.
func (f origin) keyOf(raw []byte) pushing.RequestKey {
	if usable(f.key.ID) {
		return f.key
	}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) == nil {
		raw = compact.Bytes()
	}
	sum := sha256.Sum256(raw)
	return pushing.RequestKey{Source: SourceBare, ID: hex.EncodeToString(sum[:16])}
}
