package main

import (
	"errors"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/sirupsen/logrus"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// logger writes JSON lines. Neither secrets nor message bodies reach it: errors
// are redacted where they are made. Safe for concurrent use.
type logger struct{ *logrus.Logger }

// newLogger returns a logger of the level; an unknown one means info.
func newLogger(out io.Writer, level string) *logger {
	l := logrus.New()
	l.SetOutput(out)
	l.SetFormatter(&logrus.JSONFormatter{})
	if parsed, err := logrus.ParseLevel(level); err == nil {
		l.SetLevel(parsed)
	}
	return &logger{l}
}

// settings says why the start failed: every problem in a line of its own.
func (l *logger) settings(err error) {
	var all *config.Error
	if !errors.As(err, &all) {
		all = &config.Error{Problems: []string{err.Error()}}
	}
	for _, problem := range all.Problems {
		l.WithField("problem", problem).Error("the settings are wrong; nothing is served")
	}
}

// started is the one line of the start.
func (l *logger) started(environ []string, getenv func(string) string) {
	version, commit := build()
	credentials := "none; each invocation must bring its own"
	if getenv("ALIBABA_CLOUD_ACCESS_KEY_ID") != "" {
		credentials = "environment, unless an invocation brings its own"
	}
	l.WithFields(logrus.Fields{
		"version": version, "commit": commit, "go": runtime.Version(), "settings": config.Describe(environ), "credentials": credentials,
	}).Info("repush started")
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

// event is for what the runtimes have to say.
func (l *logger) event(message string, err error, fields map[string]any) {
	entry := l.WithFields(fields)
	if err != nil {
		entry.WithError(err).Error(message)
		return
	}
	entry.Info(message)
}

// request is the line of one request.
func (l *logger) request(line pushing.Line) {
	outcome, level := string(line.Result.Outcome), logrus.InfoLevel
	switch r := line.Result; {
	case r.Report != nil:
		outcome = "answered"
	case r.Parked:
		outcome = "parked"
	case r.Outcome == "":
		outcome, level = "deferred", logrus.WarnLevel
	case r.Outcome == events.Failed, r.Outcome == events.Unknown, r.Outcome == events.Abandoned:
		level = logrus.WarnLevel
	}
	if !l.IsLevelEnabled(level) {
		return
	}
	data := line.Data
	entry := l.WithFields(logrus.Fields{
		"invocationId": line.InvocationID, "eventId": line.Request.ID, "operationId": data.OperationID,
		"instance": data.InstanceID, "group": data.GroupID, "topic": data.Topic, "msgId": data.MsgID, "generation": max(1, data.Generation),
		"outcome": outcome, "code": line.Result.Code, "requestId": line.RequestID,
		"attempts": line.Attempts, "waitMs": line.WaitMs, "callMs": line.CallMs,
	})
	if line.Err != nil {
		entry = entry.WithError(line.Err)
	}
	entry.Log(level, line.Result.Message)
}
