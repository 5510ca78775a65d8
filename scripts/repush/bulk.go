package main

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/batch"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/run"
)

// toLocal is the target that is this machine.
const toLocal = "local"

// asksAbove is how many messages are pushed without a question.
const asksAbove = 20

type bulkOptions struct {
	runOptions
	goOn, yes, anew bool
	qps             float64
}

func (o *bulkOptions) addBulk(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.goOn, "go", false, "send what is in FILE; without it nothing leaves")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.BoolVar(&o.anew, "anew", false, "ask once more for what an unfinished run was begun with")
	f.Float64Var(&o.qps, "qps", quota(), "pushes a second of the account; by default REPUSH_QPS, or 10")
	f.StringVar(&o.ons, "ons", "", "local: another ONS OpenAPI endpoint: https, or http to loopback")
	f.StringVar(&o.ledger, "state", "", "local: file of the ledger; by default REPUSH_STATE, else that of push")
	o.addRun(cmd)
}

// quota is the account's, as far as the environment tells.
func quota() float64 {
	if qps, err := strconv.ParseFloat(os.Getenv("REPUSH_QPS"), 64); err == nil && qps > 0 {
		return qps
	}
	return 10
}

// maxAge is how old a message may be, as far as the environment tells.
func maxAge() time.Duration {
	if age, err := time.ParseDuration(os.Getenv("REPUSH_MAX_AGE")); err == nil && age > 0 {
		return age
	}
	return batch.MaxAge
}

// inject reads files, sums them up, and, with --go, asks for the pushes.
func (o bulkOptions) inject(cmd *cobra.Command, names []string) error {
	if err := checkOutput(o.report, names...); err != nil {
		return err
	}
	b, id, err := o.read(cmd, names)
	if err != nil {
		return err
	}
	if o.dry = !o.goOn; o.dry && o.to != "" {
		if _, err := o.connect(cmd); err != nil {
			return err
		}
	}
	if len(b.Plans) > 0 {
		return o.plans(cmd, b.Plans)
	}
	sum := b.Summary(batch.Quota{PerSecond: o.qps, MaxAge: maxAge(), Now: time.Now()})
	if !o.goOn {
		return o.printDry(cmd.OutOrStdout(), b, sum)
	}
	for _, line := range summaryLines(b, sum) {
		fmt.Fprintln(cmd.ErrOrStderr(), line)
	}
	begin, err := o.connect(cmd)
	if err != nil {
		return err
	}
	dir, err := o.unfinished(b)
	if err != nil {
		return err
	}
	if sum.Count > asksAbove && !o.yes {
		if err := agree(cmd, names, sum.Count, o.shownTarget()); err != nil {
			return err
		}
	}
	j, err := o.create(dir, id, cmd.Flag("reason").Value.String(), b)
	if err != nil {
		return err
	}
	return o.run(cmd, j, begin)
}

// create makes the state file. Another process may have begun with the same messages
// while somebody was asked.
func (o bulkOptions) create(dir, id, reason string, b batch.Batch) (*run.Journal, error) {
	release, err := run.Exclude(dir)
	if err != nil {
		return nil, fmt.Errorf("nothing was sent: %w", err)
	}
	defer release()
	if _, err := o.unfinished(b); err != nil {
		return nil, err
	}
	requests := make([]events.Event, len(b.Items))
	for i, item := range b.Items {
		requests[i] = item.Event
	}
	kept := o.remember()
	if o.to == toLocal {
		ledger, err := stateSetting(o.ledger, defaultLedger(pushLedger))
		if err != nil {
			return nil, err
		}
		kept["ledger"], kept["allow"] = markOf(ledger), strings.Join(allowOf(requests), ",")
	}
	path := filepath.Join(dir, id+"-"+fingerprint(b)+".jsonl") // where the next run looks
	j, err := run.Create(path, run.Header{
		ID: id, Reason: reason, By: operator(), Operation: b.OperationID, Target: kept, QPS: o.qps, StartedAt: time.Now().UTC().Truncate(time.Second),
	}, requests)
	if err != nil {
		return nil, fmt.Errorf("nothing was sent: the state file: %w", err)
	}
	return j, nil
}

// read reads everything by the flags; id is that of the run to come.
func (o bulkOptions) read(cmd *cobra.Command, names []string) (b batch.Batch, id string, err error) {
	f := cmd.Flags()
	reason, _ := f.GetString("reason")
	dryRun, _ := f.GetBool("dry-run")
	switch {
	case reason == "":
		return b, "", usage(errors.New("--reason: is required: why, for the record"))
	case f.Changed("msg") || f.Changed("stored-at") || f.Changed("again"):
		return b, "", usage(errors.New("--msg, --stored-at and --again are of one message: a FILE has columns for them (msgId, storedAt, generation); a number is written --again=N"))
	case !(o.qps >= 0.1 && o.qps <= 100_000):
		return b, "", usage(errors.New("--qps: must be 0.1 to 100000"))
	}
	id = "inject-" + time.Now().UTC().Format("20060102-150405") + "-" + strings.ToLower(rand.Text()[:8])
	defaults := events.Requested{Reason: reason, RequestedBy: operator(), OperationID: id, DryRun: dryRun}
	for flag, field := range map[string]*string{"instance": &defaults.InstanceID, "topic": &defaults.Topic, "group": &defaults.GroupID, "client": &defaults.ClientID} {
		*field, _ = f.GetString(flag)
	}
	inputs := make([]batch.Input, len(names))
	for i, name := range names {
		inputs[i].Name = name
		if name == "-" && slices.Index(names, name) < i {
			return b, "", usage(errors.New("-: standard input can be read once"))
		}
		inputs[i].Data, err = await(cmd.Context(), func() ([]byte, error) { return readFile(name, cmd.InOrStdin(), batch.MaxInputBytes) })
		if err != nil {
			return b, "", err
		}
	}
	b, err = batch.Read(inputs, batch.Options{Defaults: defaults, Now: time.Now()})
	if err == nil && len(b.Plans) > 0 && len(b.Items) > 0 {
		err = errors.New("requests for plans and for pushes go apart: one is for functions/plan, the other for functions/repush")
	}
	for _, item := range b.Items {
		if dryRun && !item.Request.DryRun {
			err = fmt.Errorf("--dry-run: %s is no dry run: a CloudEvent is sent as it is, and a row that says otherwise wins", item.Place)
			break
		}
	}
	if err != nil {
		err = fmt.Errorf("nothing was sent: %w", err)
	}
	return b, id, err
}

// maxPlans bounds the plans of one inject: each is a search.
const maxPlans = 100

func (o bulkOptions) plans(cmd *cobra.Command, plans []events.Event) error {
	switch {
	case len(plans) > maxPlans:
		return fmt.Errorf("nothing was sent: %d plans, at most %d at once", len(plans), maxPlans)
	case o.to == toLocal:
		return usage(errors.New("--to local: runs functions/repush, which makes no plans: use 'repush plan'"))
	case !o.goOn:
		fmt.Fprintf(cmd.OutOrStdout(), "%d requests for plans\ndry: nothing was sent; --go sends\n", len(plans))
		return nil
	}
	return o.send(cmd, plans)
}

// unfinished looks for a run of the same messages that is not finished, which is an
// error. dir is where runs are known.
func (o bulkOptions) unfinished(b batch.Batch) (dir string, err error) {
	if dir, err = stateFolder("runs"); err != nil {
		return "", err
	}
	known, err := runFiles()
	if err != nil {
		return "", fmt.Errorf("nothing was sent: what was begun before: %w", err)
	}
	mark := fingerprint(b)
	for _, file := range slices.DeleteFunc(known, func(file runFile) bool { return file.fingerprint != mark }) {
		j, err := run.Open(file.path)
		switch {
		case errors.Is(err, run.ErrLocked):
			return "", fmt.Errorf("nothing was sent: the same messages are being asked for right now (%s)", file.path)
		case err != nil: // not ours, damaged or gone: it does not know what was asked for
			continue
		}
		left := j.Counts().Left()
		if err := j.Close(); err != nil {
			return "", err
		}
		if left > 0 && !o.anew {
			return "", fmt.Errorf("nothing was sent: a run of the same messages was begun %s and is not finished, %d left:\n  repush resume %s\n(--anew asks for all of them once more)",
				j.Header.StartedAt.Local().Format(time.DateTime), left, quoted(file.path))
		}
	}
	return dir, nil
}

// fingerprint is the same for the same messages, in whatever order.
func fingerprint(b batch.Batch) string {
	keys := make([]string, len(b.Items))
	for i, item := range b.Items {
		r := item.Request
		keys[i] = strings.Join([]string{r.InstanceID, r.Topic, r.GroupID, strings.ToUpper(r.MsgID), strconv.Itoa(max(1, r.Generation)), strconv.FormatBool(r.DryRun)}, "\x00")
	}
	slices.Sort(keys)
	sum := sha256.Sum256([]byte(strings.Join(keys, "\n")))
	return hex.EncodeToString(sum[:6])
}

func (o bulkOptions) printDry(out io.Writer, b batch.Batch, sum batch.Summary) error {
	if o.json {
		return indented(out).Encode(map[string]any{"dry": true, "summary": sum, "operationId": b.OperationID, "incomplete": b.Incomplete})
	}
	for _, line := range append(summaryLines(b, sum), "dry: nothing was sent; --go sends") {
		fmt.Fprintln(out, line)
	}
	return nil
}

const groupsShown = 10

// summaryLines say for people what will be asked for.
func summaryLines(b batch.Batch, sum batch.Summary) []string {
	lines := []string{fmt.Sprintf("%s, about %s at the quota", messages(sum.Count), time.Duration(sum.Seconds*float64(time.Second)).Round(time.Second))}
	for i, g := range sum.Groups {
		if i == groupsShown {
			lines = append(lines, fmt.Sprintf("        and %d more groups and topics", len(sum.Groups)-i))
			break
		}
		lines = append(lines, fmt.Sprintf("%7d of %s, to %s in %s", g.Count, g.Topic, g.GroupID, g.InstanceID))
	}
	for _, part := range []struct {
		n    int
		says string
	}{
		{sum.Expired, "have expired already"},
		{sum.Expiring, "will expire before their turn"},
		{sum.Undated, "have no storedAt: whether they will expire is not known"},
		{sum.Again, "are asked for once more on purpose (generation above 1)"},
		{sum.Unconsumed, "are not consumed yet: their queue delivers them as well"},
		{sum.DryRun, "are dry runs: nothing will be pushed"},
	} {
		if part.n > 0 {
			lines = append(lines, fmt.Sprintf("%7d %s", part.n, part.says))
		}
	}
	if b.Incomplete != "" {
		lines = append(lines, "INCOMPLETE, there may be more messages: "+b.Incomplete)
	}
	return lines
}

func messages(n int) string {
	if n == 1 {
		return "1 message"
	}
	return strconv.Itoa(n) + " messages"
}

var errNotAgreed = errors.New("nothing was sent: it was not agreed to")

func agree(cmd *cobra.Command, names []string, count int, to string) error {
	in, isFile := cmd.InOrStdin().(*os.File)
	if slices.Contains(names, "-") || !isFile || !term.IsTerminal(int(in.Fd())) {
		return usage(fmt.Errorf("%s, and nobody can be asked here: add --yes", messages(count)))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "push %s through %s? [y/N] ", messages(count), to)
	line, _ := await(cmd.Context(), func() (string, error) { return bufio.NewReader(in).ReadString('\n') }) // what cannot be read is no
	if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
		return nil
	}
	if !strings.HasSuffix(line, "\n") { // Ctrl-C, or Ctrl-D
		fmt.Fprintln(cmd.ErrOrStderr())
	}
	return errNotAgreed
}
