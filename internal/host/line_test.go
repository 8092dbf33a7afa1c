//go:build unix

package host

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func testLine(t *testing.T, cfg Config) *Line {
	t.Helper()
	return mustOpen(t, testPool(t), cfg)
}

// lose cuts a line's connection and waits until that is noticed.
func (l *Line) lose(s *testServer) {
	client := l.current.Load()
	s.drop()
	<-client.done
}

// After a loss the next command logs in again, for all who come at once; the command that
// was under way is not repeated.
func TestLineLogsInAgain(t *testing.T) {
	t.Parallel()
	bastion, s := startServer(t), startServer(t)
	cfg, through := s.dialConfig(), bastion.dialConfig()
	cfg.Bastion = &through
	l := testLine(t, cfg)
	ctx := testContext(t)
	marker := filepath.Join(t.TempDir(), "started")
	ran := make(chan error, 1)
	go func() {
		_, err := l.Run(ctx, Command{Args: []string{"sh", "-c", `: > "$1"; exec sleep 1000`, "sh", marker}})
		ran <- err
	}()
	waitForFile(t, marker)
	l.lose(s)
	if failure := asKind(t, <-ran, Lost); !failure.Started {
		t.Error("the error doesn't say that the command had been started")
	}
	wantKind(t, l.Err(), Lost)
	if logins := s.loginCount(); logins != 1 {
		t.Errorf("%d logins before anybody asked for one", logins)
	}
	echo := echoServer(t, "tcp", "127.0.0.1:0")
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			if result, err := l.Run(ctx, Command{Args: []string{"echo", "again"}}); err != nil || result.Stdout != "again\n" {
				t.Errorf("after the loss: %+v, %v", result, err)
			}
		})
		asking.Go(func() {
			conn, err := l.DialContext(ctx, "tcp", echo)
			if err != nil {
				t.Error(err)
				return
			}
			_ = conn.Close()
		})
	}
	asking.Wait()
	if l.Err() != nil || s.loginCount() != 2 {
		t.Errorf("%d logins, %v", s.loginCount(), l.Err())
	}
	pipe, err := l.Pipe(ctx, "echo", "piped")
	if err != nil {
		t.Fatal(err)
	}
	if said, err := io.ReadAll(pipe); err != nil || string(said) != "piped\n" {
		t.Errorf("%q, %v", said, err)
	}
	_ = pipe.Close()
	if n := strings.Count(strings.Join(s.commandLog(), "\n"), "sleep"); n != 1 {
		t.Errorf("the lost command was run %d times", n)
	}
}

// The number of logins has a bound, and what is said then is no loss that could be borne.
func TestLineGivesUp(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := testLine(t, s.dialConfig())
	for range maxRedials {
		l.lose(s)
		if _, err := l.Run(testContext(t), Command{Args: []string{"true"}}); err != nil {
			t.Fatal(err)
		}
	}
	l.lose(s)
	_, err := l.Run(testContext(t), Command{Args: []string{"true"}})
	wantKind(t, err, Unreachable)

	l.lost, l.current.Load().born = nil, time.Now().Add(-goodService) // a connection that had lasted
	if _, err := l.Run(testContext(t), Command{Args: []string{"true"}}); err != nil || l.redials != 1 {
		t.Errorf("after good service: %v, %d redials", err, l.redials)
	}
}

// A final error keeps its kind, and the line logs in only once.
func TestLineThatIsFinallyRefused(t *testing.T) {
	t.Parallel()
	s, other := startServer(t), startServer(t)
	cfg, route := s.routed()
	l := testLine(t, cfg)
	route.to.Store(other)
	l.lose(s)
	for range 3 {
		_, err := l.Run(testContext(t), Command{Args: []string{"true"}})
		wantKind(t, err, HostKeyChanged)
	}
	if l.redials != 1 {
		t.Errorf("%d logins were tried", l.redials)
	}
	wantKind(t, l.Err(), HostKeyChanged)
}

// A machine that is gone is waited for once; later questions end sooner. The line's own limit isn't
// taken for the caller's.
func TestLine_MachineThatIsGone(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		cfg := bubbleConfig(s, 0, &times)
		p := new(Pool)
		l, err := p.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		l.target.Config.dial = bubbleConfig(s, 1000, &times).dial
		l.lose(s)
		for _, limit := range []time.Duration{redialPatience, defaultConnectTimeout} {
			begun := time.Now()
			_, err = l.Run(t.Context(), Command{Args: []string{"true"}})
			wantKind(t, err, Unreachable)
			if took := time.Since(begun); took > limit+time.Second || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, %v", took, err)
			}
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err = l.Run(short, Command{Args: []string{"true"}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the caller's own end: %v", err)
		}
		_ = l.Close()
		_ = p.Close()
		s.work.Wait()
	})
}

// Closing doesn't wait for a machine that isn't there, and nothing logs in afterwards.
func TestLineCloses(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		cfg := bubbleConfig(s, 0, &times)
		p := new(Pool)
		l, err := p.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		l.target.Config.dial = bubbleConfig(s, 1000, &times).dial
		l.lose(s)
		asked := make(chan error)
		go func() {
			_, err := l.Run(t.Context(), Command{Args: []string{"true"}})
			asked <- err
		}()
		synctest.Wait()
		begun := time.Now()
		closed := make(chan error)
		go func() { closed <- l.Close() }()
		if err := <-asked; err == nil {
			t.Error("it ran")
		}
		if err := <-closed; err != nil || time.Since(begun) > time.Second {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		tries := len(times)
		_, err = l.Run(t.Context(), Command{Args: []string{"true"}})
		wantKind(t, err, Closed)
		if len(times) != tries {
			t.Error("it was dialled again")
		}
		_ = p.Close()
		s.work.Wait()
	})
}

// What answers after a loss must be the machine of before, and the jump host too.
func TestLinePinsTheHostKey(t *testing.T) {
	t.Parallel()
	for _, changed := range []string{"machine", "jump host"} {
		t.Run(changed, func(t *testing.T) {
			t.Parallel()
			bastion, s := startServer(t), startServer(t)
			cfg, through := s.dialConfig(), bastion.dialConfig()
			cfg.HostKey, through.HostKey, cfg.Bastion = "", "", &through
			l := testLine(t, cfg)
			other := startServer(t)
			moved := map[string]*target{"machine": l.target, "jump host": l.target.bastion}[changed]
			moved.Port = other.dialConfig().Port
			l.lose(s)
			_, err := l.Run(testContext(t), Command{Args: []string{"true"}})
			failure := asKind(t, err, HostKeyChanged)
			if want := map[string]string{"machine": "ssh.host_key", "jump host": "ssh.bastion.host_key"}[changed]; !strings.Contains(failure.Detail, "setting "+want+" to") {
				t.Errorf("%s", failure.Detail)
			}
		})
	}
}
