package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	goredis "github.com/redis/go-redis/v9"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Codes of the errors of this package that say more than "cannot be reached".
const (
	// StateReadOnly: a read-only replica answered.
	StateReadOnly = "StateReadOnly"
	// StateFull: Redis is at its maxmemory.
	StateFull = "StateFull"
	// StateDenied: the password is wrong or missing, or a permission is.
	StateDenied = "StateDenied"
	// StateLoading: Redis starts, or its cluster rearranges itself.
	StateLoading = "StateLoading"
	// StateEvicting: Redis may throw away what was promised to be remembered.
	StateEvicting = "StateEvicting"
	// StateTooOld: Redis is older than 6.2.
	StateTooOld = "StateTooOld"
)

// failure is an error that is always of kind Unavailable: nothing is known to
// be done.
func failure(code string, cause error) *pushing.Error {
	return &pushing.Error{Kind: pushing.Unavailable, Op: "redis", Code: code, Err: cause}
}

// classify makes the error of a call out of go-redis's. Its text is ours
// throughout: theirs name the address, the user, or arguments of the script.
func classify(err error) error {
	var own *pushing.Error
	var answer goredis.Error
	switch {
	case err == nil, errors.Is(err, goredis.Nil):
		return nil
	case errors.As(err, &own):
		return own
	case errors.As(err, &answer):
		code, text := refusal(answer.Error())
		return failure(code, errors.New(text))
	}
	return failure("", errors.New(disconnection(err)))
}

// refusal says what an error answer means. Source of the words: Redis 7.0 and
// 6.2, src/server.c (createSharedObjects), src/acl.c and src/cluster.c.
func refusal(answer string) (code, text string) {
	// Redis 6.2 puts the error of a command behind that of its script.
	if _, inner, ok := strings.Cut(answer, ": -"); ok {
		answer = inner
	}
	word, _, _ := strings.Cut(answer, " ")
	if strings.HasPrefix(answer, "ERR The user executing the script can't") {
		word = "NOPERM" // as Redis 7.0 says it
	}
	switch word {
	case "READONLY":
		return StateReadOnly, "a read-only replica answers: name the primary in the URL; while a failover is under way this ends by itself"
	case "OOM":
		return StateFull, "its memory is full: raise maxmemory, or remove what else is stored there"
	case "WRONGPASS", "NOAUTH":
		return StateDenied, "the user or password in the URL is wrong or missing"
	case "NOPERM":
		return StateDenied, "the user in the URL lacks a permission: ACL SETUSER with ~ons-repush:* +@all -@dangerous +info +cluster|slots is enough"
	case "LOADING", "MASTERDOWN":
		return StateLoading, "it is starting or waits for its primary: this ends by itself"
	case "CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK":
		return StateLoading, "its cluster is rearranging itself or has lost a node: CLUSTER INFO says which"
	}
	if _, place, ok := strings.Cut(answer, "user_script:"); ok {
		var line int
		_, _ = fmt.Sscan(place, &line) // 0 when it does not say
		return "", fmt.Sprintf("a script failed (%s) at line %d", plain(word), line)
	}
	return "", "it answers with the error " + plain(word)
}

// plain lets an error word through, and nothing else that an answer could begin
// with.
func plain(word string) string {
	if word == "" || len(word) > 20 || strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "unknown"
	}
	return word
}

// disconnection says why there was no answer.
func disconnection(err error) string {
	var network net.Error
	switch {
	case errors.Is(err, goredis.ErrClosed):
		return "the client is closed"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused: is it running, and is the port right?"
	case errors.As(err, new(*net.DNSError)):
		return "its host name cannot be resolved: is it right, and is the function in its VPC?"
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return "its TLS certificate is not valid for the host in the URL, or its issuer is not trusted here"
	case errors.As(err, new(tls.RecordHeaderError)):
		return "it does not speak TLS on this port: try redis:// instead of rediss://"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "no answer in time: is it overloaded, does it speak no TLS, or is the network closed between it and the function?"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "the connection was cut: did it restart, or does it want TLS (rediss://)?"
	}
	return "it cannot be reached"
}
