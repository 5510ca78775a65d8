package main

import (
	"github.com/sirupsen/logrus"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/wiring"
)

// logRequest writes the line of one request.
func logRequest(l *wiring.Logger, line pushing.Line) {
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
