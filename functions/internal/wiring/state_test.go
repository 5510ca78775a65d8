package wiring

import (
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// TestAccount: whose quota it is must be the same on every platform.
func TestAccount(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ allow, fc, want string }{
		"in the allow-list":               {allow: "*/g/t,MQ_INST_123_x/g/t,MQ_INST_456_x/g/t", want: "123"},
		"the function's own":              {allow: "MQ_INST_123_x/g/t", fc: "789", want: "789"},
		"nowhere":                         {allow: "MQ_INST_*/g/t,MQ_INST_12a_x/g/t,MQ_INST__x/g/t,MQ_INST_12/g/t,XMQ_INST_1_x/g/t", want: "default"},
		"the function's own, no instance": {allow: "*/g/t", fc: "789", want: "789"},
	} {
		allow, err := pushing.ParseAllowList(test.allow)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var cfg config.Config
		cfg.Policy.Allow = allow
		if got := account(cfg, func(string) string { return test.fc }); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
