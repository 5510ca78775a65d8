package wiring

import (
	"runtime/debug"
	"testing"
)

// TestOrigin: which build runs is read from what the go command stamped.
func TestOrigin(t *testing.T) {
	t.Parallel()
	stamped := func(version string, settings ...debug.BuildSetting) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: settings}
	}
	for name, test := range map[string]struct {
		info            *debug.BuildInfo
		version, commit string
	}{
		"a tagged commit": {stamped("v1.2.3", debug.BuildSetting{Key: "vcs", Value: "git"}, debug.BuildSetting{Key: "vcs.revision", Value: "4edfabd"}), "v1.2.3", "4edfabd"},
		"no repository":   {stamped("(devel)", debug.BuildSetting{Key: "GOOS", Value: "linux"}), "(devel)", "unknown"},
	} {
		if version, commit := origin(test.info); version != test.version || commit != test.commit {
			t.Errorf("%s: origin = %q, %q, want %q, %q", name, version, commit, test.version, test.commit)
		}
	}
}
