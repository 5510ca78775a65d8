package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events/sink"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
)

// localFlags are those of a command that runs a function on this machine against
// the real API.
type localFlags struct {
	functionFlags
	region, ons, state string
	timeout            time.Duration
}

// Files of ledgers. A file serves one process at a time, so each command has its
// own.
const (
	pushLedger = "ledger"
	planLedger = "plan-ledger"
)

func (o *localFlags) add(cmd *cobra.Command, ledger string) {
	f := cmd.Flags()
	f.StringVar(&o.region, "region", "", "region of the instance; empty means REPUSH_REGION")
	f.StringVar(&o.ons, "ons", "", "another ONS OpenAPI endpoint: https, or http to loopback")
	f.StringVar(&o.state, "state", "", fmt.Sprintf("file of the ledger, or memory for none that lasts; by default REPUSH_STATE,\nelse $XDG_STATE_HOME/ons-repush/%s or ~/.local/state/ons-repush/%[1]s", ledger))
	f.DurationVar(&o.timeout, "timeout", time.Minute, "the function's time-out")
	o.functionFlags.add(cmd)
}

// complete fills in what the flags leave to the environment, and returns the
// operator's credentials.
func (o *localFlags) complete(ctx context.Context, ledger string) (keys sink.Credentials, err error) {
	o.region = cmp.Or(o.region, os.Getenv("REPUSH_REGION"))
	if o.region == "" {
		return keys, usage(errors.New("--region: is required, or REPUSH_REGION in the environment"))
	}
	if _, _, err := endpoint(cmp.Or(o.ons, "https://default")); err != nil {
		return keys, usage(fmt.Errorf("--ons: %w", err))
	}
	o.ons = cmp.Or(o.ons, os.Getenv("REPUSH_ONS_ENDPOINT"))
	if keys, err = operatorCredentials(ctx); err == nil {
		o.state, err = stateSetting(o.state, defaultLedger(ledger))
	}
	return keys, err
}

// start builds and runs a function, which may work on allow if the environment
// does not say on what. end ends it.
func (o localFlags) start(cmd *cobra.Command, name, allow string, stdout io.Writer, env ...string) (f *fcd.Function, end func(), err error) {
	say := notes(cmd.ErrOrStderr())
	if os.Getenv("REPUSH_ALLOW") == "" {
		say("REPUSH_ALLOW is not set: this run may %s %s and nothing else", strings.TrimPrefix(name, "re"), allow)
		env = append(env, "REPUSH_ALLOW="+allow)
	}
	built, err := prepare(cmd.Context(), name, o.bin, say)
	if err != nil {
		return nil, nil, err
	}
	f, err = fcd.Start(cmd.Context(), fcd.Options{
		Binary: built.binary, Runtime: fcd.FCGo1, Env: env, Timeout: o.timeout, Stdout: stdout, Stderr: o.log(cmd.ErrOrStderr()),
	})
	if err != nil {
		built.remove()
		return nil, nil, startError(err)
	}
	return f, func() { f.Kill(); built.remove() }, nil
}

// environment is what the function runs with: the operator's settings and the
// credentials, which reach it by no other way. Results go to this command too.
func (o localFlags) environment(keys sink.Credentials) []string {
	results := os.Getenv("REPUSH_RESULTS")
	if !strings.Contains(","+results+",", ",stdout,") {
		results = strings.TrimSuffix("stdout,"+results, ",")
	}
	return append(operatorEnv(os.Environ()), "REPUSH_RESULTS="+results, "REPUSH_STATE="+o.state, "REPUSH_REGION="+o.region, "REPUSH_ONS_ENDPOINT="+o.ons,
		"ALIBABA_CLOUD_ACCESS_KEY_ID="+keys.AccessKeyID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET="+keys.AccessKeySecret,
		"ALIBABA_CLOUD_SECURITY_TOKEN="+keys.SecurityToken)
}
