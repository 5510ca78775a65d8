package main

import (
	"io"
	"strings"
	"unicode"
)

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
