//go:build unix

package host

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// upper answers each connection with what came in capitals, once its input has ended.
func upper(t *testing.T) string {
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
				defer func() { _ = conn.Close() }()
				text, _ := io.ReadAll(conn)
				_, _ = fmt.Fprint(conn, strings.ToUpper(string(text)))
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
	})
	return listener.Addr().String()
}

// ask sends a text through a tunnel, ends its side, and returns the answer.
func ask(tunnel *Tunnel, text string) (string, error) {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tunnel.Port()))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil { //nolint:forcetypeassert // it is one
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && len(answer) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return string(answer), err
}

func mustTunnel(t *testing.T, line *Line, remote string) *Tunnel {
	t.Helper()
	tunnel, err := OpenTunnel(testContext(t), line, 0, remote, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tunnel.Close(); err != nil {
			t.Error(err)
		}
	})
	return tunnel
}

func TestTunnel_CarriesManyBothWays(t *testing.T) {
	t.Parallel()
	tunnel := mustTunnel(t, mustOpen(t, testPool(t), startServer(t).pinnedConfig()), upper(t))
	if ip := tunnel.listener.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() { //nolint:forcetypeassert // it is one
		t.Errorf("listens on %s", ip)
	}
	var callers sync.WaitGroup
	for i := range 40 {
		callers.Go(func() {
			text := strings.Repeat(fmt.Sprintf("line %d\n", i), 2000)
			want := strings.ToUpper(text)
			if got, err := ask(tunnel, text); err != nil || got != want {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	callers.Wait()
}

// Each connection that can't be passed on is reported.
func TestTunnelToNothing(t *testing.T) {
	t.Parallel()
	why := make(chan error, 2)
	line := mustOpen(t, testPool(t), startServer(t).pinnedConfig())
	tunnel, err := OpenTunnel(testContext(t), line, 0, refusingAddress(t), func(err error) { why <- err })
	if err != nil {
		t.Fatal(err)
	}
	for range cap(why) {
		if got, err := ask(tunnel, "x"); err == nil {
			t.Errorf("the answer is %q", got)
		}
		wantKind(t, <-why, Refused)
	}
	if err := tunnel.Close(); err != nil {
		t.Error(err)
	}
}

// Where the connection was lost, what connects next is passed on over another one.
func TestTunnelSurvivesADrop(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	line := mustOpen(t, testPool(t), s.pinnedConfig())
	tunnel := mustTunnel(t, line, upper(t))
	for text, want := range map[string]string{"before": "BEFORE", "after": "AFTER", "again": "AGAIN"} {
		if got, err := ask(tunnel, text); err != nil || got != want {
			t.Errorf("%q, %v", got, err)
		}
		line.lose(s)
	}
}

// A machine that has become another one is never connected to: then whoever connects is refused.
func TestTunnelGivesUp(t *testing.T) {
	t.Parallel()
	s, other := startServer(t), startServer(t)
	cfg, route := s.routed()
	line := mustOpen(t, testPool(t), cfg)
	tunnel := mustTunnel(t, line, upper(t))
	route.to.Store(other)
	line.lose(s)
	if got, err := ask(tunnel, "x"); err == nil {
		t.Errorf("the answer is %q", got)
	}
	testkit.Eventually(t, "the port is closed", func() bool {
		_, err := net.Dial("tcp", tunnel.listener.Addr().String())
		return err != nil
	})
	if got := other.loginCount(); got != 1 {
		t.Errorf("%d attempts", got)
	}
}

// Without a login the port is taken, and what connects is disconnected. A port that is taken leaves no login behind.
func TestTunnel_WithoutALine(t *testing.T) {
	t.Parallel()
	tunnel := mustTunnel(t, nil, "127.0.0.1:1")
	if got, err := ask(tunnel, "x"); err == nil {
		t.Errorf("the answer is %q", got)
	}
	if conn, err := net.Dial("tcp", tunnel.listener.Addr().String()); err != nil {
		t.Errorf("nobody listens: %v", err)
	} else {
		_ = conn.Close()
	}
	line := mustOpen(t, testPool(t), startServer(t).pinnedConfig())
	if _, err := OpenTunnel(testContext(t), line, tunnel.Port(), "127.0.0.1:1", nil); err == nil {
		t.Error("the port was taken")
	}
	_, err := line.Run(testContext(t), Command{Args: []string{"true"}})
	wantKind(t, err, Closed)
}

// Close ends everything, whatever the machine does.
func TestTunnelCloses(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	for name, hang := range map[string]bool{"a connection under way": false, "a machine that doesn't answer": true} {
		line := mustOpen(t, testPool(t), s.pinnedConfig())
		tunnel, err := OpenTunnel(testContext(t), line, 0, echoServer(t, "tcp", "127.0.0.1:0"), func(error) {})
		if err != nil {
			t.Fatal(err)
		}
		s.faults.ignoreOpen.Store(hang)
		conn, err := net.Dial("tcp", tunnel.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "x"); err != nil {
			t.Fatal(err)
		}
		if !hang {
			if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		within(t, closeTimeout, name, func() {
			if err := errors.Join(tunnel.Close(), tunnel.Close()); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: %d bytes came", name, n)
		}
		_ = conn.Close()
		if _, err := net.Dial("tcp", tunnel.listener.Addr().String()); err == nil {
			t.Errorf("%s: the port is still open", name)
		}
	}
}
