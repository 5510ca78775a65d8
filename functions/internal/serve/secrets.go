package serve

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
	"strings"
)

// Credentials are the temporary key of the function's role, which changes
// between invocations. However printed or marshalled they say only whether they
// are set.
type Credentials struct {
	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string
}

// Format prints "set" or "unset", whatever the verb.
func (c Credentials) Format(f fmt.State, _ rune) { io.WriteString(f, set(c != Credentials{})) }

// MarshalText returns "set" or "unset".
func (c Credentials) MarshalText() ([]byte, error) { return []byte(set(c != Credentials{})), nil }

// Token is what an outsider has to bring. However printed or marshalled it says
// only whether it is set.
type Token string

// Allows reports whether the value of an Authorization header brings the token
// (source: RFC 6750, section 2.1). An unset token allows nobody. The time it
// takes says nothing about the token, not even its length.
func (t Token) Allows(authorization string) bool {
	scheme, given, _ := strings.Cut(authorization, " ")
	return t.Is(strings.TrimSpace(given)) && strings.EqualFold(scheme, "Bearer")
}

// Is reports whether this is the token, in such a time. Nothing is an unset one.
func (t Token) Is(given string) bool {
	want, got := sha256.Sum256([]byte(t)), sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1 && t != ""
}

// Format prints "set" or "unset", whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { io.WriteString(f, set(t != "")) }

// MarshalText returns "set" or "unset".
func (t Token) MarshalText() ([]byte, error) { return []byte(set(t != "")), nil }

func set(is bool) string {
	if is {
		return "set"
	}
	return "unset"
}
