package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
)

type invokeOptions struct {
	functionFlags
	runtime, ons, data, state string
	timeout                   time.Duration
}

func newInvoke() *cobra.Command {
	var o invokeOptions
	cmd := &cobra.Command{
		Use:   "invoke FILE|-",
		Short: "Run one event through the function on this machine",
		Long: `Run one event file through the real function binary on this machine, the way a
platform would, and print the answer and the result events.

Without --ons the event meets the embedded stand-in of the ONS OpenAPI, with the
sample data or those of --data. With --ons URL it meets that endpoint, and the
settings (REPUSH_…) and credentials (ALIBABA_CLOUD_…) of this environment hold.

The ledger is that of this run, in memory, unless --state (or, with --ons,
REPUSH_STATE) names a file. FILE may be a control event, a sweep or an operation:
the answer has its report.`,
		Example: `  repush invoke events/samples/valid/repush-message-requested.minimal.json
  repush invoke events/samples/valid/repush-sweep-requested.minimal.json --state ledger
  repush invoke events/samples/valid/repush-operation-requested.status.json --state ledger
  repush invoke event.json --runtime lambda --json
  REPUSH_REGION=cn-hangzhou REPUSH_ALLOW='MQ_INST_1_x/GID_x/orders' \
    repush invoke event.json --ons https://ons.cn-hangzhou.aliyuncs.com`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			payload, err := readFile(args[0], cmd.InOrStdin(), maxPayload)
			if err != nil {
				return err
			}
			return o.run(cmd, payload)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.runtime, "runtime", "fc", "runtime: fc (go1), fc-custom, http or lambda")
	f.StringVar(&o.ons, "ons", "", "ONS OpenAPI endpoint; empty means the embedded stand-in")
	f.StringVar(&o.data, "data", "", "data file of the embedded stand-in")
	f.StringVar(&o.state, "state", "", "file of a ledger that lasts; memory for none")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "the function's time-out")
	o.add(cmd)
	return cmd
}

// maxPayload is what a synchronous invocation may bring (source: FC "Limits").
const maxPayload = 32 << 20

// readFile reads most bytes at most, whole MiB; - is stdin.
func readFile(name string, stdin io.Reader, most int) ([]byte, error) {
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		stdin = file
	}
	payload, err := io.ReadAll(io.LimitReader(stdin, int64(most)+1))
	if err == nil && len(payload) > most {
		err = fmt.Errorf("%s: larger than %d MiB: give less at a time", name, most>>20)
	}
	return payload, err
}

// invocation is what invoke prints with --json.
type invocation struct {
	Answer        json.RawMessage `json:"answer"`
	FunctionError string          `json:"functionError,omitempty"`
	Results       []events.Event  `json:"results"`
	// Deliveries is the stand-in's own count; absent with --ons.
	Deliveries *int `json:"deliveries,omitempty"`
}

func (o invokeOptions) run(cmd *cobra.Command, payload []byte) error {
	if o.runtime == "fc-custom" && o.ons != "" {
		return errors.New("--runtime fc-custom is for the stand-in only: a custom runtime listens on all interfaces and trusts whoever speaks like the platform; use fc, http or lambda with --ons")
	}
	if o.ons == "" {
		o.state = cmp.Or(o.state, "memory")
	}
	state, err := stateSetting(o.state, "memory")
	if err != nil {
		return err
	}
	f, err := prepare(cmd.Context(), repushFunction, o.bin, notes(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	defer f.remove()
	env := append(operatorEnv(os.Environ()), "REPUSH_ONS_ENDPOINT="+o.ons, "REPUSH_STATE="+state)
	var api *standIn
	if o.ons == "" {
		if api, err = startStandIn("127.0.0.1:0", o.data); err != nil {
			return err
		}
		defer api.Close()
		env = append(api.env(), "REPUSH_STATE="+state)
	}
	collected := new(results)
	response, err := o.invoke(cmd.Context(), f.binary, env, payload, collected, o.log(cmd.ErrOrStderr()))
	if err != nil {
		return err
	}
	all, completed := collected.all()
	done := invocationOf(response, all)
	if api != nil {
		total := api.Deliveries().Total
		done.Deliveries = &total
	}
	if err := done.print(cmd.OutOrStdout(), o.json); err != nil {
		return err
	}
	return verdict(response, completed)
}

func (o invokeOptions) invoke(ctx context.Context, binary string, env []string, payload []byte, stdout, logs io.Writer) (fcd.Response, error) {
	runtimes := map[string]fcd.Runtime{"fc": fcd.FCGo1, "fc-custom": fcd.FCCustom, "lambda": fcd.Lambda}
	if o.runtime == "http" {
		f, err := startHTTP(ctx, binary, env, stdout, logs)
		if err != nil {
			return fcd.Response{}, err
		}
		defer f.stop()
		return f.post(ctx, payload)
	}
	runtime, known := runtimes[o.runtime]
	if !known {
		return fcd.Response{}, fmt.Errorf("--runtime %q: must be fc, fc-custom, http or lambda", o.runtime)
	}
	f, err := fcd.Start(ctx, fcd.Options{Binary: binary, Runtime: runtime, Env: env, Timeout: o.timeout, Stdout: stdout, Stderr: logs})
	if err != nil {
		return fcd.Response{}, startError(err)
	}
	response, err := f.Invoke(ctx, payload)
	return response, errors.Join(err, f.Stop(context.WithoutCancel(ctx)))
}

// verdict is the exit status in words: failed, partial or well.
func verdict(response fcd.Response, completed []events.Completed) error {
	said := read(response.Payload)
	bad := response.FunctionError != "" || said.Deferred > 0
	for _, r := range said.Results {
		bad = bad || !endedWell(settled(r.Outcome, r.Message))
	}
	for _, c := range completed {
		bad = bad || !endedWell(settled(c.Outcome, c.Message))
	}
	if bad {
		return errPartial
	}
	return nil
}

// returned is what a function returns, as far as it can be read. What is not
// decided has no outcome, nor has a control event, which has a report. The last
// fields are the report of functions/plan on one delivery.
type returned struct {
	Results []struct {
		EventID, Code, Message, Hint string
		MaybeDuplicate               bool
		Outcome                      events.Outcome
		Report                       json.RawMessage
	}
	Deferred                int
	ErrorMessage, ErrorType string

	OperationID, Code, Message string
	Manifest                   struct{ Incomplete string }
	Requests                   int
	Open                       bool
}

func read(answer []byte) (r returned) {
	_ = json.Unmarshal(answer, &r) // what cannot be read says nothing
	return r
}

// planned reports that a closed plan has a list, of which all requests were sent but of a
// dry one, or found nothing to do.
func (r returned) planned() bool {
	return r.Code == "NothingToDo" || r.OperationID != "" && (r.Code == "" || r.Code == "Done")
}

// reason is what a function says that failed, or of the first result, or of a plan.
func (r returned) reason() string {
	code, message := r.Code, r.Message
	if len(r.Results) > 0 {
		code, message = r.Results[0].Code, r.Results[0].Message
	}
	return cmp.Or(r.ErrorMessage, strings.Trim(code+": "+message, ": "))
}

// redelivered is the code of functions/repush for a request that it decided before.
const redelivered = "Redelivered"

// settled is the outcome that answers a request: of a duplicate that of the first, with
// which functions/repush ends its message.
func settled(o events.Outcome, message string) events.Outcome {
	first := events.Outcome(message[strings.LastIndex(message, " ")+1:])
	if o == events.Duplicate && slices.Contains(events.Outcomes(), first) {
		return first
	}
	return o
}

// endedWell reports that an outcome, if there is one, leaves nothing to do.
func endedWell(o events.Outcome) bool {
	return o == "" || o == events.Pushed || o == events.Duplicate || o == events.Simulated
}

// asJSON keeps an answer that is no JSON printable.
func asJSON(payload []byte) json.RawMessage {
	if json.Valid(payload) {
		return payload
	}
	return encoded(string(payload))
}

// encoded is the JSON of what always has one: texts, numbers, and times that were read.
func encoded(v any) []byte {
	raw, _ := json.Marshal(v)
	return raw
}

func indented(out io.Writer) *json.Encoder {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc
}

func invocationOf(response fcd.Response, results []events.Event) invocation {
	return invocation{Answer: asJSON(response.Payload), FunctionError: response.FunctionError, Results: append([]events.Event{}, results...)}
}

func (i invocation) print(out io.Writer, asObject bool) error {
	enc := indented(out)
	if asObject {
		return enc.Encode(i)
	}
	show := func(title string, v any) error {
		_, err := fmt.Fprintln(out, title)
		return cmp.Or(err, enc.Encode(v))
	}
	err := show("answer:", i.Answer)
	if i.FunctionError != "" {
		fmt.Fprintf(out, "the function gave the event back: %s\n", i.FunctionError)
	}
	for _, e := range i.Results {
		err = cmp.Or(err, show("result event:", e))
	}
	if i.Deliveries != nil {
		fmt.Fprintf(out, "deliveries counted by the stand-in: %d\n", *i.Deliveries)
	}
	return err
}

// printable is a text of somebody else, fit for a terminal: without what would steer it
// or turn the direction of writing.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if c != ' ' && !unicode.IsPrint(c) || unicode.Is(unicode.Bidi_Control, c) {
			return '�'
		}
		return c
	}, text)
}

// printableLines is out for lines that have such texts in them.
func printableLines(out io.Writer) io.Writer { return lineWriter{out} }

type lineWriter struct{ io.Writer }

// Write takes whole characters, as fmt and tabwriter write them.
func (w lineWriter) Write(p []byte) (int, error) {
	lines := strings.Split(string(p), "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	if _, err := io.WriteString(w.Writer, strings.Join(lines, "\n")); err != nil {
		return 0, err
	}
	return len(p), nil
}
