package fcd_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/infra/local/fcd"
)

func TestAnAnswerReachesTheCaller(t *testing.T) {
	each(t, func(t *testing.T, r fcd.Runtime) {
		f := start(t, fcd.Options{Runtime: r, Region: "cn-shenzhen"})
		for range 3 {
			a, res := invoke(t, f, command("echo", 0, "grüezi"))
			if !strings.HasSuffix(a.Text, "grüezi") || a.RequestID != res.RequestID || a.RequestID == "" || a.Region != "cn-shenzhen" {
				t.Errorf("answer %+v for request id %q", a, res.RequestID)
			}
			if res.Status != 200 || res.Duration <= 0 {
				t.Errorf("status %d after %v", res.Status, res.Duration)
			}
		}
		if f.ColdStart() <= 0 || f.PID() == 0 || (f.URL() != "") != (r == fcd.FCCustom) {
			t.Errorf("ColdStart %v, PID %d, URL %q", f.ColdStart(), f.PID(), f.URL())
		}
		wantViolations(t, f)
	})
}

func TestAFunctionsErrorIsAResponse(t *testing.T) {
	each(t, func(t *testing.T, r fcd.Runtime) {
		f := start(t, fcd.Options{Runtime: r})
		res, err := f.Invoke(t.Context(), command("fail", 0, ""))
		if err != nil || res.FunctionError != "sadError" || !strings.Contains(string(res.Payload), "as told") {
			t.Errorf("Invoke = %q %s, %v", res.FunctionError, res.Payload, err)
		}
		invoke(t, f, command("echo", 0, "still there"))
		wantViolations(t, f)
	})
}

// fc-runtime-go-sdk goes on after a panic, aws-lambda-go exits with 1, and
// net/http cuts the connection.
func TestAPanic(t *testing.T) {
	cases := map[fcd.Runtime]struct {
		says string
		dies bool
	}{
		fcd.FCGo1:    {"errorString", false},
		fcd.FCCustom: {fcd.ErrorExit, false},
		fcd.Lambda:   {"errorString", true},
	}
	each(t, func(t *testing.T, r fcd.Runtime) {
		f := start(t, fcd.Options{Runtime: r})
		res, err := f.Invoke(t.Context(), command("panic", 0, ""))
		if err != nil || res.FunctionError != cases[r].says {
			t.Fatalf("Invoke = %q %s, %v, want %q", res.FunctionError, res.Payload, err, cases[r].says)
		}
		if !cases[r].dies {
			invoke(t, f, command("echo", 0, "still there"))
			return
		}
		if err := f.Wait(); err == nil || err.Error() != "exit status 1" {
			t.Errorf("Wait = %v", err)
		}
		if _, err := f.Invoke(t.Context(), nil); !errors.Is(err, fcd.ErrExited) {
			t.Errorf("Invoke after exit: %v", err)
		}
	})
}

func TestTheDeadlineArrives(t *testing.T) {
	each(t, func(t *testing.T, r fcd.Runtime) {
		f := start(t, fcd.Options{Runtime: r, Timeout: 30500 * time.Millisecond})
		before := time.Now()
		a, _ := invoke(t, f, command("echo", 0, ""))
		after := time.Now()
		if r == fcd.FCCustom {
			if got := a.Header.Get("x-fc-function-timeout"); got != "31" {
				t.Errorf("x-fc-function-timeout %q, want seconds rounded up", got)
			}
			return
		}
		at := time.UnixMilli(a.DeadlineMs)
		if at.Before(before.Add(30499*time.Millisecond)) || at.After(after.Add(30500*time.Millisecond)) {
			t.Errorf("deadline %v after the start, want 30.5 s", at.Sub(before))
		}
	})
}

func TestATimeoutEndsTheProcess(t *testing.T) {
	each(t, func(t *testing.T, r fcd.Runtime) {
		f := start(t, fcd.Options{Runtime: r, Timeout: 300 * time.Millisecond})
		begin := time.Now()
		res, err := f.Invoke(t.Context(), command("hang", 0, ""))
		if err != nil || res.FunctionError != fcd.ErrorTimeout || !strings.Contains(string(res.Payload), "timed out after 300ms") {
			t.Fatalf("Invoke = %q %s, %v", res.FunctionError, res.Payload, err)
		}
		if took := time.Since(begin); took < 300*time.Millisecond {
			t.Errorf("timed out after %v", took)
		}
		if _, err := f.Invoke(t.Context(), nil); !errors.Is(err, fcd.ErrExited) {
			t.Errorf("Invoke after the time-out: %v", err)
		}
		f, err = f.Restart(t.Context()) // which returns when it takes work
		if err != nil {
			t.Fatal(err)
		}
		f.Kill()
	})
}

func TestAFunctionThatMindsItsDeadlineAnswersInTime(t *testing.T) {
	t.Parallel()
	f := start(t, fcd.Options{Runtime: fcd.FCGo1, Timeout: 10 * time.Second})
	soon := strconv.FormatInt(time.Now().Add(100*time.Millisecond).UnixMilli(), 10)
	res, err := f.Invoke(t.Context(), command("until-deadline", 0, ""), func(h http.Header) { h.Set("x-fc-function-deadline", soon) })
	if err != nil || res.FunctionError != "deadlineExceededError" {
		t.Errorf("Invoke = %q, %v", res.FunctionError, err)
	}
}

func TestInvocationsRunAsManyAtOnceAsAllowed(t *testing.T) {
	t.Parallel()
	f := start(t, fcd.Options{Runtime: fcd.FCCustom, InstanceConcurrency: 5})
	all(t, 5, func() { invoke(t, f, command("meet", 5, "")) })
	all(t, 20, func() { invoke(t, f, command("pause", 1, "")) })
	if a, _ := invoke(t, f, command("peak", 0, "")); a.N != 5 {
		t.Errorf("%d invocations ran at once, want 5", a.N)
	}
}

func TestInvocationsQueue(t *testing.T) {
	each(t, func(t *testing.T, r fcd.Runtime) {
		f := start(t, fcd.Options{Runtime: r})
		all(t, 10, func() { invoke(t, f, command("pause", 1, "")) })
		if a, _ := invoke(t, f, command("peak", 0, "")); a.N != 1 {
			t.Errorf("%d invocations ran at once, want 1", a.N)
		}
	})
}

func all(t *testing.T, n int, do func()) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(do)
	}
	wg.Wait()
}

func TestTheCallersContextBoundsItsWaitOnly(t *testing.T) {
	t.Parallel()
	out := newTranscript()
	f := start(t, fcd.Options{Runtime: fcd.FCCustom, InstanceConcurrency: 2, Stdout: out})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		out.await("doing meet")
		cancel()
	}()
	if res, err := f.Invoke(ctx, command("meet", 2, "")); !errors.Is(err, context.Canceled) {
		t.Fatalf("Invoke = %q, %v", res.FunctionError, err)
	}
	invoke(t, f, command("meet", 2, "")) // meets the first, which goes on
	full := start(t, fcd.Options{Runtime: fcd.FCGo1, Stdout: out})
	go func() { _, _ = full.Invoke(t.Context(), command("hang", 0, "")) }()
	out.await("doing hang")
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := full.Invoke(ctx, nil); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "no place was free") {
		t.Errorf("Invoke of a busy function = %v", err)
	}
}

func TestCredentialsArriveAndChange(t *testing.T) {
	first := fcd.Credentials{AccessKeyID: "LTAI1", AccessKeySecret: "s1", SecurityToken: "t1"}
	second := fcd.Credentials{AccessKeyID: "LTAI2", AccessKeySecret: "s2", SecurityToken: "t2"}
	each(t, func(t *testing.T, r fcd.Runtime) {
		f := start(t, fcd.Options{Runtime: r, Credentials: first})
		prefix := map[fcd.Runtime]string{fcd.Lambda: "AWS_ACCESS_KEY_ID="}[r]
		if prefix == "" {
			prefix = "ALIBABA_CLOUD_ACCESS_KEY_ID="
		}
		inEnv := func(want fcd.Credentials) {
			t.Helper()
			if a, _ := invoke(t, f, command("env", 0, "")); !slices.Contains(a.Env, prefix+want.AccessKeyID) {
				t.Errorf("%s%s is not in the environment", prefix, want.AccessKeyID)
			}
		}
		inEnv(first)
		for _, want := range []fcd.Credentials{first, second} {
			f.SetCredentials(want)
			if r == fcd.Lambda {
				continue
			}
			a, _ := invoke(t, f, command("echo", 0, ""))
			if diff := cmp.Diff(want, fcd.Credentials{AccessKeyID: a.Key, AccessKeySecret: a.Secret, SecurityToken: a.Token}); diff != "" {
				t.Error(diff)
			}
		}
		inEnv(first)
		var err error
		if f, err = f.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer f.Kill()
		inEnv(second)
	})
	if got := fmt.Sprintf("%v %+v %#v", first, fcd.Options{Credentials: first}, first); strings.Contains(got, "s1") {
		t.Errorf("printed credentials: %s", got)
	}
}
