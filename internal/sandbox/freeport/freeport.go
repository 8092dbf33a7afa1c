// Package freeport finds ports for tests.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

var (
	mu    sync.Mutex
	given = map[int]bool{}
)

// New returns a TCP port that nothing on loopback listens on, and never the same one twice in a process. Linux gives none of
// these ports to a connection: it chooses from 32768 on (ip_local_port_range,
// https://docs.kernel.org/networking/ip-sysctl.html). A port asked for with 127.0.0.1:0 and closed may be a connection's next.
func New(t testing.TB) int {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	for range 100 {
		port := 20000 + rand.N(10000)
		if given[port] {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			given[port] = true
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}
