package wiring

import (
	"errors"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/sirupsen/logrus"

	"github.com/ons-repush/ons-repush/functions/internal/config"
)

// Logger writes JSON lines. Neither secrets nor message bodies reach it: errors
// are redacted where they are made. Safe for concurrent use.
type Logger struct{ *logrus.Logger }

// NewLogger returns a logger of the level; an unknown one means info.
func NewLogger(out io.Writer, level string) *Logger {
	l := logrus.New()
	l.SetOutput(out)
	l.SetFormatter(&logrus.JSONFormatter{})
	if parsed, err := logrus.ParseLevel(level); err == nil {
		l.SetLevel(parsed)
	}
	return &Logger{l}
}

// settings says why the start failed: every problem in a line of its own.
func (l *Logger) settings(err error) {
	if several, is := err.(interface{ Unwrap() []error }); is {
		for _, one := range several.Unwrap() {
			l.settings(one)
		}
		return
	}
	var all *config.Error
	if !errors.As(err, &all) {
		all = &config.Error{Problems: []string{err.Error()}}
	}
	for _, problem := range all.Problems {
		l.WithField("problem", problem).Error("the settings are wrong; nothing is served")
	}
}

// started is the one line of the start.
func (l *Logger) started(p Process, state *State) {
	version, commit := build()
	credentials := "none; each invocation must bring its own"
	if p.Getenv("ALIBABA_CLOUD_ACCESS_KEY_ID") != "" {
		credentials = "environment, unless an invocation brings its own"
	}
	l.WithFields(logrus.Fields{
		"version": version, "commit": commit, "go": runtime.Version(), "settings": config.Describe(p.Function, p.Environ), "credentials": credentials,
		// Without it, plan does not know what repush pushed.
		"sharedState": state.kind == "redis",
	}).Info(p.Function + " started")
}

func build() (version, commit string) {
	if info, ok := debug.ReadBuildInfo(); ok {
		return origin(info)
	}
	return "unknown", "unknown"
}

// origin is what the go command stamped into the binary: the version, which
// ends in "+dirty" if not everything was committed, and the commit. A build
// outside a git repository, or with -buildvcs=false, is "(devel)", "unknown".
func origin(info *debug.BuildInfo) (version, commit string) {
	commit = "unknown"
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			commit = s.Value
		}
	}
	return info.Main.Version, commit
}

// Event is for what the runtimes have to say.
func (l *Logger) Event(message string, err error, fields map[string]any) {
	entry := l.WithFields(fields)
	if err != nil {
		entry.WithError(err).Error(message)
		return
	}
	entry.Info(message)
}
