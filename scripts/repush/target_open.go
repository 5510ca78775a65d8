package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/aliyun/credentials-go/credentials/providers"

	"github.com/ons-repush/ons-repush/events/sink"
)

var (
	fcTarget  = regexp.MustCompile(`^(?:([A-Za-z_][\w-]*)/)?([A-Za-z_][\w$-]*)(?:\?qualifier=([\w.-]+))?$`)
	fcAccount = regexp.MustCompile(`^[0-9]+\.[a-z0-9-]+$`)
)

// open checks the target and asks for credentials where calls are signed, unless dry.
func (o targetOptions) open(ctx context.Context) (target, error) {
	kind, rest, _ := strings.Cut(o.to, "://")
	wrong := func(err error) (target, error) { return nil, usage(fmt.Errorf("--to: %w", err)) }
	parts := fcTarget.FindStringSubmatch(rest)
	f := fcFunction{scheme: "https", host: o.account + "." + o.region + ".fc.aliyuncs.com", account: o.account, async: o.async, logs: o.logs}
	var err error
	if o.endpoint != "" {
		if f.scheme, f.host, err = endpoint(o.endpoint); err != nil {
			return nil, usage(fmt.Errorf("--endpoint: %w", err))
		}
	}
	isFC := kind == "fc" || kind == "fc2"
	switch {
	case o.timeout <= 0:
		return nil, usage(errors.New("--timeout: must be above 0"))
	case isFC && (parts == nil || (parts[1] == "") != (kind == "fc")):
		return wrong(errors.New("write fc://FUNCTION or fc2://SERVICE/FUNCTION, and ?qualifier=ALIAS behind it"))
	case isFC && o.endpoint == "" && !fcAccount.MatchString(o.account+"."+o.region):
		return wrong(errors.New("needs --account and --region (or ALIBABA_CLOUD_ACCOUNT_ID and REPUSH_REGION), or --endpoint"))
	case !isFC && (o.async || o.logs):
		return wrong(errors.New("--async and --logs are for fc:// and fc2:// alone"))
	case kind == "http" || kind == "https":
		t, err := openHTTP(o.to, os.Getenv("REPUSH_HTTP_TOKEN"), o.timeout)
		if err != nil || o.endpoint != "" {
			return wrong(cmp.Or(err, errors.New("is an address itself: --endpoint does not go with it")))
		}
		return t, nil
	case !isFC && kind != "eventbridge" && kind != "mns":
		return wrong(errors.New("must be https://…, fc://FUNCTION, fc2://SERVICE/FUNCTION, eventbridge://BUS or mns://QUEUE"))
	}
	if !o.dry {
		f.keys, _, err = operatorCredentials(ctx)
	}
	if err != nil {
		return nil, err
	}
	if !isFC {
		return o.openSink(kind, rest, f.host, f.keys)
	}
	f.service, f.function, f.qualifier = parts[1], parts[2], parts[3]
	if kind == "fc2" {
		return inTurn(o.timeout, f.keys, f.invokeV2), nil
	}
	return inTurn(o.timeout, f.keys, f.invokeV3), nil
}

// openSink leaves the rest to events/sink. host counts only with --endpoint.
func (o targetOptions) openSink(kind, rest, host string, keys sink.Credentials) (target, error) {
	if o.endpoint != "" {
		if kind == "mns" && !strings.Contains(rest, "/") {
			rest = "queues/" + rest
		}
		rest = host + "/" + rest
	}
	s, err := sink.Open([]string{kind + "://" + rest}, sink.Options{
		Region: o.region, AccountID: o.account,
		Credentials: func(context.Context) (sink.Credentials, error) { return keys, nil },
	})
	if err != nil {
		return nil, usage(fmt.Errorf("--to: %w", err))
	}
	return toSink(s, o.timeout, keys), nil
}

// operatorCredentials are those of the environment, else of the profile of the
// Alibaba Cloud CLI, else of the shared credentials file. Unlike the library's
// default chain this asks no metadata server, a half-set environment is an error
// rather than somebody else's profile, and no text of the library is shown: it
// quotes a file that cannot be read, keys included. from says in words where they are
// from.
func operatorCredentials(ctx context.Context) (c sink.Credentials, from string, err error) {
	c = sink.Credentials{
		AccessKeyID:     os.Getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"),
		AccessKeySecret: os.Getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET"),
		SecurityToken:   os.Getenv("ALIBABA_CLOUD_SECURITY_TOKEN"),
	}
	switch debug := os.Getenv("DEBUG"); {
	case strings.Contains(debug, "tea") || strings.Contains(debug, "credential"):
		return c, "", errors.New("credentials: DEBUG makes a library print signatures and tokens: unset it")
	case c.AccessKeyID != "" && c.AccessKeySecret != "":
		return c, "from the environment", nil
	case c.AccessKeyID != "" || c.AccessKeySecret != "":
		return c, "", errors.New("credentials: set both ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET, or neither")
	}
	type source struct {
		from string
		read func() (*providers.Credentials, error)
	}
	var sources []source
	if cli, err := providers.NewCLIProfileCredentialsProviderBuilder().Build(); err == nil { // or it is switched off
		sources = append(sources, source{"from the profile of the Alibaba Cloud CLI", cli.GetCredentials})
	}
	if shared, err := providers.NewProfileCredentialsProviderBuilder().Build(); err == nil {
		sources = append(sources, source{"from the shared credentials file", shared.GetCredentials})
	}
	for _, s := range sources {
		found, err := await(ctx, s.read)
		if err == nil && found.AccessKeyId != "" && found.AccessKeySecret != "" {
			return sink.Credentials{AccessKeyID: found.AccessKeyId, AccessKeySecret: found.AccessKeySecret, SecurityToken: found.SecurityToken}, s.from, nil
		}
	}
	return c, "", errors.New("credentials: neither the environment (ALIBABA_CLOUD_ACCESS_KEY_ID, …_SECRET) nor a profile in " +
		"~/.aliyun/config.json or ~/.alibabacloud/credentials (ALIBABA_CLOUD_PROFILE) has usable ones: run 'aliyun configure'")
}

// await runs a call of a library that takes no context and may panic. It ends
// with ctx; the call is then left to its own time-out.
func await[T any](ctx context.Context, call func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errors.New("the answer cannot be read")}
		defer func() {
			_ = recover() // r says it
			done <- r
		}()
		value, err := call()
		r = result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
