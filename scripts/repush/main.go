// Command repush is the operator's command line. It knows the functions only by
// their events and runtimes, as any other client does.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
)

// Exit statuses.
const (
	exitDone    = 0 // everything that was asked ended well
	exitFailed  = 1 // it could not be done
	exitUsage   = 2 // the command line is wrong
	exitPartial = 3 // it ran, and something did not end well
)

func main() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // a write to a closed pipe fails, and does not kill
	ctx, stop := signal.NotifyContext(context.Background(), interrupts()...)
	context.AfterFunc(ctx, stop) // a second signal kills, unless a run minds it
	status := execute(ctx, newRoot(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// interrupts are the signals that end a command politely: SIGHUP, of a terminal that is
// closed, unless it was to be ignored (nohup).
func interrupts() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// errPartial ends a command that ran and whose outcome the output tells.
var errPartial = errors.New("not everything ended well")

// errUsage marks what is wrong with the command line; it has no text of its own.
var errUsage = errors.New("")

// execute runs one command line and returns its exit status.
func execute(ctx context.Context, root *cobra.Command, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	ran := false
	root.PersistentPreRun = func(*cobra.Command, []string) { ran = true }
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errPartial):
		return exitPartial
	case !ran || errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "repush: %v\nTry 'repush --help'.\n", err)
		return exitUsage
	default:
		fmt.Fprintf(stderr, "repush: %v\n", err)
		return exitFailed
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "repush",
		Short: "Push stuck messages of ApsaraMQ for RocketMQ again",
		Long: `Push stuck messages of ApsaraMQ for RocketMQ again.

Exit status: 0 everything ended well, 1 it could not be done,
2 the command line is wrong, 3 it ran and something did not end well.`,
		Version:       version(),
		SilenceErrors: true, SilenceUsage: true,
	}
	root.AddCommand(newDemo(), newPlan(), newPush(), newInject(), newResume(), newReport(), newWhy(), newDoctor(), newInvoke(), newOnsd(), newUp())
	root.AddCommand(newSteering()...)
	complete(root)
	return root
}

// version is that of the module, as go install knows it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// complete lets a shell fill in what can be known: kinds of targets, values that are
// a choice, and runs. What is a file stays the shell's.
func complete(root *cobra.Command) {
	const more = cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	for _, cmd := range root.Commands() {
		for flag, choice := range map[string]struct {
			values    []cobra.Completion
			directive cobra.ShellCompDirective
		}{
			"to":      {targets(cmd), more},
			"at":      {[]cobra.Completion{"fc://", "fc2://", "https://"}, more},
			"source":  {[]cobra.Completion{string(events.DeadLetters), string(events.Unconsumed), string(events.ByIDs), string(events.ByKeys)}, cobra.ShellCompDirectiveNoFileComp},
			"runtime": {[]cobra.Completion{"fc", "fc-custom", "http", "lambda"}, cobra.ShellCompDirectiveNoFileComp},
		} {
			if cmd.Flags().Lookup(flag) != nil {
				_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(choice.values, choice.directive)) // fails when there is one already
			}
		}
		if cmd.Name() == "resume" || cmd.Name() == "report" {
			cmd.ValidArgsFunction = runs
		}
	}
}

func targets(cmd *cobra.Command) []cobra.Completion {
	kinds := []cobra.Completion{"fc://", "fc2://", "https://"}
	switch cmd.Name() {
	case "inject":
		return append(kinds, toLocal, "eventbridge://", "mns://")
	case "plan":
		return append(kinds, "eventbridge://", "mns://")
	}
	return kinds
}

// runs are the ids of those that this machine knows, beside files.
func runs(*cobra.Command, []string, string) (ids []cobra.Completion, directive cobra.ShellCompDirective) {
	known, _ := runFiles() // or there is none
	for _, file := range known {
		ids = append(ids, file.id)
	}
	return ids, cobra.ShellCompDirectiveDefault
}
