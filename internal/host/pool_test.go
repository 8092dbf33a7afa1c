//go:build unix

package host

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func testPool(t *testing.T) *Pool {
	t.Helper()
	p := new(Pool)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("closing the pool: %v", err)
		}
	})
	return p
}

func mustOpen(t *testing.T, p *Pool, cfg Config) *Line {
	t.Helper()
	l, err := p.Open(testContext(t), cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, DetailOf(err))
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// size is how many machines the pool knows of.
func (p *Pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.machines)
}

// All that log in to one machine at about the same time log in once, also through a bastion.
func TestPoolSharesOneLogin(t *testing.T) {
	t.Parallel()
	bastion, s := startServer(t), startServer(t)
	p := testPool(t)
	cfg, through := s.pinnedConfig(), bastion.pinnedConfig()
	cfg.Bastion = &through
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			l, err := p.Open(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			if result, err := l.Run(t.Context(), Command{Args: []string{"echo", "here"}}); err != nil || result.Stdout != "here\n" {
				t.Errorf("%+v, %v", result, err)
			}
			_ = l.Close()
			_ = l.Close() // does nothing
			_, err = l.Run(t.Context(), Command{Args: []string{"true"}})
			if KindOf(err) != Closed {
				t.Errorf("a closed line answers %v", err)
			}
		})
	}
	callers.Wait()
	mustRun(t, mustOpen(t, p, cfg), Command{Args: []string{"true"}})
	if s.loginCount() != 1 || bastion.loginCount() != 1 {
		t.Errorf("%d logins, %d at the bastion, want 1", s.loginCount(), bastion.loginCount())
	}
}

// A line that was opened at first contact shares with those that pin the key that it has seen.
func TestPool_FirstContactIsPinned(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := testPool(t)
	first := mustOpen(t, p, s.dialConfig())
	mustRun(t, mustOpen(t, p, s.pinnedConfig()), Command{Args: []string{"true"}})
	if got := s.loginCount(); got != 1 || first.HostKey() != s.pinnedConfig().HostKey {
		t.Errorf("%d logins, host key %s", got, first.HostKey())
	}
}

// A connection says nothing about who answers at an address now, or to those that expect another host key.
func TestPoolNeverHidesAChangedHostKey(t *testing.T) {
	t.Parallel()
	s, other := startServer(t), newServerConfig(t)
	other.config.PublicKeyCallback = s.config.PublicKeyCallback // the same keys may log in
	other.listen("127.0.0.1:0")
	p := testPool(t)
	good, route := s.routed()
	line := mustOpen(t, p, good)

	// Another pin is verified by a login, while that connection is up.
	otherPin := good
	otherPin.HostKey = publicLine(t, other.hostKey)
	_, err := p.Open(testContext(t), otherPin)
	wantKind(t, err, HostKeyChanged)
	mustRun(t, line, Command{Args: []string{"true"}})

	// The machine is replaced under its address. Who pinned nothing sees the new one, though the old connection is up.
	route.to.Store(other)
	unpinned := good
	unpinned.HostKey = ""
	if got := mustOpen(t, p, unpinned).HostKey(); got != otherPin.HostKey {
		t.Errorf("first contact shows %s, and %s answers", got, otherPin.HostKey)
	}
	if l, err := p.Open(testContext(t), good); err != nil {
		t.Errorf("the old machine, which is still connected: %v", err)
	} else {
		_ = l.Close()
	}

	// Once that connection is lost, the change is noticed by those that had it and by those that come.
	line.lose(s)
	_, err = line.Run(testContext(t), Command{Args: []string{"true"}})
	wantKind(t, err, HostKeyChanged)
	_, err = p.Open(testContext(t), good)
	wantKind(t, err, HostKeyChanged)
}

// A pool that many use at once, with connections that break under them.
func TestPoolUnderConcurrentUse(t *testing.T) {
	t.Parallel()
	servers := []*testServer{startServer(t), startServer(t)}
	configs := []Config{servers[0].pinnedConfig(), servers[1].pinnedConfig()}
	p := testPool(t)
	var callers sync.WaitGroup
	for i := range 40 {
		cfg := configs[i%2]
		callers.Go(func() {
			for range 5 {
				l, err := p.Open(t.Context(), cfg)
				if err != nil {
					continue // dropped while it logged in
				}
				_, _ = l.Run(t.Context(), Command{Args: []string{"true"}})
				_ = l.Close()
			}
		})
	}
	for range 10 {
		servers[0].drop()
	}
	callers.Wait()
	mustRun(t, mustOpen(t, p, configs[0]), Command{Args: []string{"true"}})
}

func TestPool_NobodyGetsAConnectionThatTheyCouldNotMake(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := testPool(t)
	good := s.pinnedConfig()
	mustOpen(t, p, good)
	for name, test := range map[string]struct {
		change func(*Config)
		kind   Kind
	}{
		"another key":      {func(c *Config) { c.PrivateKeys = []string{openSSH(t, newEd25519(t))} }, AuthFailed},
		"another host key": {func(c *Config) { c.HostKey = publicLine(t, newEd25519(t)) }, HostKeyChanged},
		"another agent":    {func(c *Config) { c.PrivateKeys, c.AgentSocket = nil, startAgent(t, newEd25519(t)).socket }, AuthFailed},
		"another bastion": {func(c *Config) {
			bastion := s.pinnedConfig()
			bastion.PrivateKeys = []string{openSSH(t, newEd25519(t))}
			c.Bastion = &bastion
		}, AuthFailed},
		"nowhere": {func(c *Config) { *c = Config{Host: "x"} }, BadConfig},
	} {
		cfg := good
		test.change(&cfg)
		_, err := p.Open(testContext(t), cfg)
		if KindOf(err) != test.kind {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := p.size(); got != 1 {
		t.Errorf("the pool holds %d machines, want the good one", got)
	}
}

// Where a connection broke, all that used it share the next one.
func TestPoolRedialsWhatBroke(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := testPool(t)
	lines := []*Line{mustOpen(t, p, s.pinnedConfig()), mustOpen(t, p, s.pinnedConfig())}
	lines[0].lose(s)
	for range 2 {
		for _, l := range lines {
			mustRun(t, l, Command{Args: []string{"true"}})
		}
	}
	if got := s.loginCount(); got != 2 {
		t.Errorf("%d logins, want another one", got)
	}
}

// A connection that has no room for another session isn't the end: a further one is made, up to a bound.
func TestPool_FullConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.faults.maxSessions.Store(2)
	l := mustOpen(t, testPool(t), s.pinnedConfig())
	for i := range 2 * maxConns {
		pipe, err := l.Pipe(testContext(t), "cat")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pipe.Close() })
		if got := s.loginCount(); got != i/2+1 {
			t.Errorf("%d logins for %d sessions", got, i+1)
		}
	}
	_, err := l.Run(testContext(t), Command{Args: []string{"true"}})
	wantKind(t, err, Refused)
}

// While one machine doesn't answer, others are served.
func TestPoolSlowMachineHoldsUpNobody(t *testing.T) {
	t.Parallel()
	slow, quick := startServer(t), startServer(t)
	slow.faults.mute.Store(true)
	p := testPool(t)
	ctx, cancel := context.WithCancel(t.Context())
	cfg, failures := slow.pinnedConfig(), make(chan error, 2)
	for range cap(failures) {
		go func() {
			_, err := p.Open(ctx, cfg)
			failures <- err
		}()
	}
	testkit.Eventually(t, "the attempt to log in", func() bool { return len(slow.connections()) > 0 })
	mustRun(t, mustOpen(t, p, quick.pinnedConfig()), Command{Args: []string{"true"}})
	cancel()
	within(t, patience, "giving up", func() {
		for range cap(failures) {
			if err := <-failures; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		}
	})
	if n := len(slow.connections()); n != 1 {
		t.Errorf("%d attempts for two callers, want a shared one", n)
	}
}

// bubblePinned is bubbleConfig with the host key pinned.
func bubblePinned(s *testServer, times *[]time.Duration) Config {
	cfg := bubbleConfig(s, 0, times)
	cfg.HostKey = publicLine(s.t, s.hostKey)
	return cfg
}

// One caller's end doesn't end the attempt for another.
func TestPool_AttemptOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		cfg := bubblePinned(s, &times)
		arrived := make(chan struct{})
		open := cfg.dial
		cfg.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			<-arrived
			return open(ctx, network, addr)
		}
		p := new(Pool)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := p.Open(ctx, cfg)
			gone <- err
		}()
		synctest.Wait()
		stays := make(chan error, 1)
		go func() {
			l, err := p.Open(t.Context(), cfg)
			if err == nil {
				err = l.Close()
			}
			stays <- err
		}()
		synctest.Wait()
		cancel()
		wantKind(t, <-gone, Interrupted)
		close(arrived)
		if err := <-stays; err != nil {
			t.Error(err)
		}
		if len(times) != 1 {
			t.Errorf("%d attempts, want 1", len(times))
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		s.work.Wait()
	})
}

// What nobody uses is closed after a while, and everything with the pool.
func TestPoolClosesWhatIsIdle(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		cfg := bubblePinned(s, &times)
		p := new(Pool)
		open := func() (*Line, *Client) {
			t.Helper()
			l, err := p.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			return l, l.current.Load()
		}
		l, client := open()
		<-time.After(time.Hour)
		if l.Err() != nil {
			t.Fatal("a connection in use was closed")
		}
		_ = l.Close()
		<-time.After(linger - time.Second)
		l, again := open()
		if again != client {
			t.Fatal("not the same connection again")
		}
		<-time.After(2 * linger)
		_ = l.Close()
		<-time.After(linger)
		<-client.done
		wantKind(t, client.Err(), Closed)
		if p.size() != 0 {
			t.Error("the pool keeps it")
		}

		held, client := open()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		wantKind(t, client.Err(), Closed)
		_, err := held.Run(t.Context(), Command{Args: []string{"true"}})
		wantKind(t, err, Closed)
		_ = held.Close()
		_, err = p.Open(t.Context(), cfg)
		wantKind(t, err, Closed)
		s.work.Wait()
	})
}

// A machine that vanished without a word is noticed before its connection is shared, and those that use it keep it.
func TestPool_AsksBeforeItShares(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		cfg := bubblePinned(s, &times)
		cfg.keepAlive = time.Hour
		p := new(Pool)
		l, err := p.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		s.freeze()
		begun := time.Now()
		other, err := p.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if other.current.Load() == l.current.Load() || time.Since(begun) > probeTimeout {
			t.Errorf("the silent connection was shared, or waited for: %s", time.Since(begun))
		}
		if l.Err() != nil {
			t.Errorf("it was taken from the one that has it: %v", l.Err())
		}
		_, _ = l.Close(), other.Close()
		_ = p.Close()
		s.drop()
		s.work.Wait()
	})
}

// What is kept has a bound.
func TestPoolKeepsFew(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		p := new(Pool)
		var clients []*Client
		var lines []*Line
		for i := range maxResting + 3 {
			cfg := bubblePinned(s, &times)
			cfg.Port = 1000 + i
			l, err := p.Open(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			lines, clients = append(lines, l), append(clients, l.current.Load())
		}
		for _, l := range lines {
			_ = l.Close()
			<-time.After(time.Millisecond)
		}
		synctest.Wait()
		for i, client := range clients {
			if ended := client.Err() != nil; ended != (i >= maxResting) {
				t.Errorf("connection %d ended: %v", i, ended)
			}
		}
		if got := p.size(); got != maxResting {
			t.Errorf("%d are kept, want %d", got, maxResting)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		s.work.Wait()
	})
}
