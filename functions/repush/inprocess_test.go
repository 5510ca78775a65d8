package main

import (
	"os"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/serve"
	"github.com/ons-repush/ons-repush/functions/internal/wiring"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

var platformCall = serve.Invocation{ID: "test", Platform: true}

// inProcess wires the function as main does, without a runtime around it.
func inProcess(tb testing.TB, endpoint *onsd.Endpoint, more ...string) (wiring.Function, *output) {
	tb.Helper()
	env := settings(endpoint, more...)
	cfg, err := config.Load(config.Repush, env)
	if err != nil {
		tb.Fatal(err)
	}
	var out output
	p := wiring.Process{
		Function: config.Repush, Config: cfg, Environ: env, Stdout: &out, Log: wiring.NewLogger(&output{}, cfg.LogLevel),
		Getenv: func(name string) string {
			for _, entry := range env {
				if value, ok := strings.CutPrefix(entry, name+"="); ok {
					return value
				}
			}
			return ""
		},
	}
	if testing.Verbose() {
		p.Log = wiring.NewLogger(os.Stderr, cfg.LogLevel)
	}
	f, err := build(tb.Context(), p)
	if err != nil {
		tb.Fatal(err)
	}
	return f, &out
}
