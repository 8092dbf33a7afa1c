//go:build unix

package host

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// greeter is a server that says this to whoever connects, and then waits.
func greeter(t *testing.T, greeting string) (port int) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				_, _ = io.WriteString(conn, greeting)
				_, _ = io.Copy(io.Discard, conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
	})
	return listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is one
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	s := startServer(t).dialConfig()
	if !Answers(testContext(t), s.Host, s.Port) {
		t.Error("an SSH server doesn't answer")
	}
	for name, test := range map[string]struct {
		greeting string
		want     bool
	}{
		"SSH":               {"SSH-2.0-OpenSSH_9.2p1\r\n", true},
		"lines before that": {"Authorized use only\r\nreally\r\nSSH-2.0-x\r\n", true},
		"silent":            {"", false},
		"web server":        {"HTTP/1.1 400 Bad Request\r\n\r\n", false},
		"without an end":    {strings.Repeat("x", 1<<20), false},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		begun := time.Now()
		if got := Answers(ctx, "127.0.0.1", greeter(t, test.greeting)); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
		cancel()
	}
	if Answers(testContext(t), "127.0.0.1", 1) || Answers(testContext(t), "no such name", 22) {
		t.Error("nobody answers")
	}
}
