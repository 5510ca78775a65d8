//go:build !unix

package run

import "os"

// lock is nothing where there is no flock: one run at a time is the operator's care.
func lock(*os.File) error { return nil }

// Exclude is nothing there, either.
func Exclude(string) (release func(), err error) { return func() {}, nil }
