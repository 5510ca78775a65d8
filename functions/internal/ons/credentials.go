package ons

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
)

// Credentials sign a call. SecurityToken is empty for a plain access key. The
// zero value means none. However printed or marshalled they show "[redacted]".
type Credentials struct {
	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string
}

// Format prints "[redacted]", whatever the verb.
func (c Credentials) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// MarshalText returns "[redacted]".
func (c Credentials) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

type credentialsKey struct{}

// WithCredentials returns a context whose calls are signed with c, the
// credentials of one invocation. The zero value means those of [Config].
func WithCredentials(ctx context.Context, c Credentials) context.Context {
	return context.WithValue(ctx, credentialsKey{}, &c) // a pointer, so that %#v of ctx shows an address
}

// Credentials returns those of the invocation that ctx belongs to, else those
// of [Config]. Half a pair is no reason to act as somebody else, so it is an
// error, and so are none.
func (c *Client) Credentials(ctx context.Context) (Credentials, error) {
	found := c.defaults()
	if own, ok := ctx.Value(credentialsKey{}).(*Credentials); ok && *own != (Credentials{}) {
		found = *own
	}
	var err error
	if found == (Credentials{}) {
		err = errors.New("no credentials: give the function a service role, or set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET")
	} else if found.AccessKeyID == "" || found.AccessKeySecret == "" {
		err = errors.New("incomplete credentials: the access key id or its secret is empty; set both")
	}
	return found, err
}

// GetCredentials is what the SDK signs the session's call with.
func (s *session) GetCredentials() (*credentials.Credentials, error) {
	return &credentials.Credentials{
		AccessKeyId:     s.signer.AccessKeyID,
		AccessKeySecret: s.signer.AccessKeySecret,
		SecurityToken:   s.signer.SecurityToken,
		ProviderName:    s.GetProviderName(),
	}, nil
}

// GetProviderName is what the SDK reports in a header.
func (s *session) GetProviderName() string { return "ons-repush" }
