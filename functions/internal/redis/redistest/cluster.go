package redistest

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// slots is the number of hash slots of a cluster. Source: Redis cluster
// specification, "Key distribution model".
const slots = 16384

// StartCluster starts n masters that share the slots evenly and waits until
// all agree. The server returned is the first; see [Server.Nodes]. args are as
// for [Start].
func StartCluster(t testing.TB, n int, args ...string) *Server {
	t.Helper()
	nodes := make([]*Server, n)
	for i := range nodes {
		nodes[i] = Start(t, append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000"}, args...)...)
		nodes[i].nodes = nodes
		nodes[i].Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		add := []string{"CLUSTER", "ADDSLOTS"}
		for slot := i * slots / n; slot < (i+1)*slots/n; slot++ {
			add = append(add, strconv.Itoa(slot))
		}
		nodes[i].Do(add...)
		host, port, _ := net.SplitHostPort(nodes[i].addr)
		nodes[0].Do("CLUSTER", "MEET", host, port)
	}
	agreed := fmt.Sprintf("cluster_known_nodes:%d\r", n)
	for _, node := range nodes {
		waitFor(t, "the cluster to agree", func() bool {
			info := node.Do("CLUSTER", "INFO")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, agreed)
		})
	}
	return nodes[0]
}

// Nodes are the masters of a cluster, each with an even share of the slots, in
// order; nil for a server that is none.
func (s *Server) Nodes() []*Server { return s.nodes }

// waitFor waits until the condition holds, and fails the test when it never
// does.
func waitFor(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("redistest: waited %v for %s", patience, what)
		}
	}
}
