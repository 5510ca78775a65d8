package redistest_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

func TestDataOutlivesARestart(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always", "--requirepass", "secret")
	addr := s.Addr()
	s.Do("SET", "key", "value")
	s.Restart()
	if got := s.Do("GET", "key"); got != "value" {
		t.Errorf("after the restart GET = %q", got)
	}
	if s.Addr() != addr || s.URL() != "redis://:secret@"+addr+"/0" {
		t.Errorf("Addr, URL = %q, %q, before %q", s.Addr(), s.URL(), addr)
	}
	s.Stop()
	s.Stop()
	s.Restart()
	s.Freeze()
	s.Thaw()
	if got := s.Do("GET", "none"); got != "" {
		t.Errorf("GET of nothing = %q", got)
	}
}

func TestClusterSharesTheSlots(t *testing.T) {
	t.Parallel()
	s := redistest.StartCluster(t, 3)
	if len(s.Nodes()) != 3 || s.Nodes()[0] != s {
		t.Fatalf("Nodes = %v", s.Nodes())
	}
	for _, node := range s.Nodes() {
		if got := node.Do("CLUSTER", "INFO"); !strings.Contains(got, "cluster_slots_ok:16384") {
			t.Errorf("CLUSTER INFO of %s:\n%s", node.Addr(), got)
		}
	}
	if got := fmt.Sprint(redistest.Start(t).Nodes()); got != "[]" {
		t.Errorf("Nodes of a single server = %s", got)
	}
}
