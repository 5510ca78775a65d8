package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/infra/local/fcd"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// BenchmarkTenThousandDeadLetters plans for them at the documented quotas, in
// invocations of a minute. Aim: within the quotas, in less than 64 MB, and in
// about the time that 200 pages at ten a second take.
func BenchmarkTenThousandDeadLetters(b *testing.B) {
	for b.Loop() {
		planTenThousand(b)
	}
	b.ReportMetric(0, "ns/op")
}

func planTenThousand(b *testing.B) {
	const count = 10_000
	server, api := world(b, count, func(d *onsd.Data) {
		d.Quotas = nil
		d.Instances[0].Groups[0].DeadLetters[0].Every = 4 * time.Second
	})
	in := newInbox(b)
	env := settings(api, in, "REPUSH_STATE=file:"+filepath.Join(b.TempDir(), "ledger"), "REPUSH_PLAN_LIMIT=10000", "REPUSH_GROUP_BUDGET=10000")
	p := start(b, binary, fcd.FCCustom, time.Minute, env)
	began := time.Now()
	r := p.call(b, alert(b, "SendDLQMessageCountPerGid", ""))
	took := time.Since(began)
	again := p.call(b, alert(b, "SendDLQMessageCountPerGid", ""))
	requests, _ := in.requests(b)
	calls := server.Calls("OnsDLQMessagePageQueryByGroupId")
	if r.Manifest == nil || r.Manifest.Count != count || r.Manifest.Incomplete != "" || len(requests) != count || again.Requests != 0 {
		b.Fatalf("report %+v, %d requests; the second alert: %+v", r, len(requests), again)
	}
	b.ReportMetric(took.Seconds(), "s/plan")
	b.ReportMetric(float64(calls.Accepted), "calls")
	b.ReportMetric(float64(calls.Throttled), "throttled")
	b.ReportMetric(peakMB(b, p.PID()), "peakMB")
}

// peakMB is the most resident memory that a process ever had.
func peakMB(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skipf("no /proc to read resident memory from: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
			return kb / 1024
		}
	}
	b.Fatal("no VmHWM in /proc/pid/status")
	return 0
}
