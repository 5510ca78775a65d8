package main

import (
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
