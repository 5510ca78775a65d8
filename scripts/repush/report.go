package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/report"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/run"
)

type reportOptions struct {
	out, left, again, title string
	qps                     float64
	markdown, json          bool
}

func newReport() *cobra.Command {
	var o reportOptions
	cmd := &cobra.Command{
		Use:   "report RESULTS… [-o report.html]",
		Short: "Show what became of requests, as a page, as Markdown or in short",
		Long: `Show what became of requests. RESULTS are files, or - for standard input: result
events as JSON Lines as the functions write them to standard output, with log lines
in between; or the state file of a run, or its id, which also tells what has no result
yet and what is in doubt. A result that is there twice counts once, and a function's own
before what a run made of its answer.

With -o one HTML page is written that needs nothing else: counts, pace against the
quota, times, causes with what to do, every request, and what is left as downloads.
--md prints the same for a ticket. --leftovers writes what sent nothing, is not known
to have been pushed and was not cancelled, as CSV for inject; --unknowns what may have
arrived, under its next generation: to inject that pushes again, on purpose. What is in
doubt is in neither: 'repush resume' settles that first.

Exit status: 0 done, 1 a file cannot be read or written, 2 wrong flags, 3 something in
RESULTS looks like a result and is none, or nothing in them does.`,
		Example: `  repush report results.jsonl -o report.html
  repush report results.jsonl --md --leftovers leftovers.csv
  repush report inject-20261122-031500-k3v9q2xd results.jsonl`,
		RunE: o.run,
	}
	f := cmd.Flags()
	f.StringVarP(&o.out, "out", "o", "", "`FILE` for the page; one that is there is replaced")
	f.BoolVar(&o.markdown, "md", false, "print Markdown")
	f.BoolVar(&o.json, "json", false, "print the counts as one JSON object")
	f.StringVar(&o.left, "leftovers", "", "`FILE` for what is left to push, as CSV")
	f.StringVar(&o.again, "unknowns", "", "`FILE` for what may have arrived, as CSV, to push it again on purpose")
	f.StringVar(&o.title, "title", "", "title of the report; by default the reason of the run")
	f.Float64Var(&o.qps, "qps", 0, "pushes a second that the quota allows; by default those of the run, or 10")
	return cmd
}

func (o *reportOptions) run(cmd *cobra.Command, names []string) error {
	switch {
	case len(names) == 0:
		return usage(errors.New("name at least one file of results, or - for standard input"))
	case o.markdown && o.json:
		return usage(errors.New("--md and --json: only one of them can be printed"))
	case cmd.Flags().Changed("qps") && !(o.qps >= 0.1 && o.qps <= 100_000): // nor NaN
		return usage(errors.New("--qps: must be from 0.1 to 100000"))
	}
	names = slices.Clone(names)
	for i, name := range names {
		if name != "-" {
			var err error
			if names[i], err = stateFile(name); err != nil {
				return err
			}
		}
	}
	files := []string{o.out, o.left, o.again}
	for i, file := range files {
		if err := checkOutput(file, slices.Concat(names, files[:i])...); err != nil {
			return err
		}
	}
	var results report.Results
	for _, name := range names {
		if err := readResults(&results, name, cmd.InOrStdin()); err != nil {
			return err
		}
	}
	r := report.New(&results, report.Options{Title: o.title, QPS: o.qps})
	csv := func(requests []events.Requested) func(io.Writer) error {
		return func(w io.Writer) error { return report.WriteCSV(w, requests) }
	}
	for i, write := range []func(io.Writer) error{r.WriteHTML, csv(r.Leftovers()), csv(r.Unknowns())} {
		if files[i] != "" {
			if err := writeWhole(files[i], os.Rename, write); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is written\n", files[i])
		}
	}
	write := r.WriteText
	switch {
	case o.json:
		write = func(w io.Writer) error { return indented(w).Encode(r.Summary) }
	case o.markdown:
		write = r.WriteMarkdown
	case o.out != "": // which says it all
		write = func(io.Writer) error { return nil }
	}
	err := write(cmd.OutOrStdout())
	switch {
	case err != nil:
	case results.Wrong == 0 && r.Asked == 0 && results.PassedOver > 0:
		fmt.Fprintf(cmd.ErrOrStderr(), "no result was found in %d lines: name files of result events, or the state file of a run\n", results.PassedOver)
		err = errPartial
	case results.Wrong > 0:
		fmt.Fprintf(cmd.ErrOrStderr(), "%d look like results and are none, such as %s\n", results.Wrong, results.Problems[0])
		err = errPartial
	}
	return err
}

func readResults(to *report.Results, name string, stdin io.Reader) error {
	if name == "-" {
		return to.Read(stdin, "standard input")
	}
	file, err := os.Open(name)
	if err == nil {
		err = to.Read(file, name)
		_ = file.Close()
	}
	return err
}

// checkOutput finds what is wrong with a file that is to be written, before anything is
// done; none is well. others are read, or written as something else.
func checkOutput(name string, others ...string) error {
	info, err := os.Stat(name)
	folder, noFolder := os.Stat(filepath.Dir(name))
	switch {
	case name == "":
	case name == "-", err == nil && info.IsDir(), noFolder != nil || !folder.IsDir():
		return usage(fmt.Errorf("%s: must be a file, in a folder that is there", name))
	case slices.ContainsFunc(others, func(other string) bool { return sameFile(name, other) }):
		return usage(fmt.Errorf("%s: is read, or written, as something else", name))
	case err == nil && info.Mode().IsRegular():
		if _, isNone := run.ReadHeader(name); isNone == nil {
			return usage(fmt.Errorf("%s: is the state file of a run, which is not written over", name))
		}
	}
	return nil
}

// sameFile also tells links.
func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if other, otherErr := os.Stat(b); err == nil && otherErr == nil {
		return os.SameFile(one, other)
	}
	return filepath.Clean(a) == filepath.Clean(b)
}

// writeWhole writes a whole file, or leaves what was there: place is os.Rename, or
// os.Link, which replaces nothing. What it holds is for whoever made it. A link stays;
// what is no regular file (a device, a pipe) is written into.
func writeWhole(name string, place func(from, to string) error, write func(io.Writer) error) error {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		file, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err == nil {
			err = errors.Join(write(file), file.Close())
		}
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".repush-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file.Name()) }() // gone when all went well
	if err := errors.Join(write(file), file.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return place(file.Name(), name)
}
