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
)

func testPool(t *testing.T, idle time.Duration) *Pool {
	t.Helper()
	p := NewPool(idle)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("closing the pool: %v", err)
		}
	})
	return p
}

func mustLease(t *testing.T, p *Pool, cfg Config) *Lease {
	t.Helper()
	l, err := p.Dial(testContext(t), cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, DetailOf(err))
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// size is how many connections and attempts the pool knows of.
func (p *Pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, conns := range p.conns {
		n += len(conns)
	}
	return n
}

func TestPool_SharesOneLogin(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := testPool(t, time.Minute)
	cfg := s.dialConfig()
	var callers sync.WaitGroup
	for range poolSharers {
		callers.Go(func() {
			l, err := p.Dial(t.Context(), cfg)
			if err != nil {
				t.Error(err)
				return
			}
			if result, err := l.Run(t.Context(), Command{Args: []string{"echo", "here"}}); err != nil || result.Stdout != "here\n" {
				t.Errorf("%+v, %v", result, err)
			}
			_ = l.Close()
			_ = l.Close() // does nothing
		})
	}
	callers.Wait()
	if got := s.loginCount(); got != 1 {
		t.Errorf("%d logins, want 1", got)
	}
	mustLease(t, p, cfg)
	if got := s.loginCount(); got != 1 {
		t.Errorf("%d logins after reuse, want 1", got)
	}
}

// A pool that many use at once, with connections that break under them.
func TestPoolUnderConcurrentUse(t *testing.T) {
	t.Parallel()
	servers := []*testServer{startServer(t), startServer(t)}
	configs := []Config{servers[0].dialConfig(), servers[1].dialConfig()}
	p := testPool(t, time.Millisecond)
	var callers sync.WaitGroup
	for i := range 40 {
		cfg := configs[i%2]
		callers.Go(func() {
			for range 5 {
				l, err := p.Dial(t.Context(), cfg)
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
	l := mustLease(t, p, servers[0].dialConfig())
	mustRun(t, l.Client, Command{Args: []string{"true"}})
}

func TestPool_NobodyGetsAConnectionThatTheyCouldNotMake(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := testPool(t, time.Minute)
	good := s.dialConfig()
	mustLease(t, p, good)

	otherKey := good
	otherKey.PrivateKeys = []string{openSSH(t, newEd25519(t))}
	_, err := p.Dial(testContext(t), otherKey)
	wantKind(t, err, AuthFailed)

	otherHost := good
	otherHost.HostKey = publicLine(t, newEd25519(t))
	_, err = p.Dial(testContext(t), otherHost)
	wantKind(t, err, HostKeyChanged)

	_, err = p.Dial(testContext(t), Config{Host: "x"})
	wantKind(t, err, BadConfig)
	if got := p.size(); got != 1 {
		t.Errorf("the pool holds %d connections, want the good one", got)
	}
}

// A connection that broke is not handed out again.
func TestPoolRedialsWhatBroke(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := testPool(t, time.Minute)
	cfg := s.dialConfig()
	first := mustLease(t, p, cfg)
	s.drop()
	<-first.Done()
	second := mustLease(t, p, cfg)
	mustRun(t, second.Client, Command{Args: []string{"true"}})
	if first.Client == second.Client {
		t.Error("the broken connection was handed out again")
	}
}

func TestPool_FullConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := testPool(t, time.Minute)
	cfg := s.dialConfig()
	first := mustLease(t, p, cfg)
	for range poolSharers - 1 {
		if l := mustLease(t, p, cfg); l.Client != first.Client {
			t.Fatal("there was room on the first connection")
		}
	}
	if l := mustLease(t, p, cfg); l.Client == first.Client {
		t.Errorf("more than %d share a connection", poolSharers)
	}
}

// While one machine doesn't answer, others are served.
func TestPoolSlowMachineHoldsUpNobody(t *testing.T) {
	t.Parallel()
	slow, quick := startServer(t), startServer(t)
	slow.faults.mute.Store(true)
	p := testPool(t, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cfg, failures := slow.dialConfig(), make(chan error, 2)
	for range cap(failures) {
		go func() {
			_, err := p.Dial(ctx, cfg)
			failures <- err
		}()
	}
	eventually(t, "the attempt to log in", func() bool { return len(slow.connections()) > 0 })
	l := mustLease(t, p, quick.dialConfig())
	mustRun(t, l.Client, Command{Args: []string{"true"}})
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
	eventually(t, "the attempt to be given up", func() bool { return p.size() == 1 })
}

// One caller's end doesn't end the attempt for another.
func TestPool_AttemptOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		cfg := bubbleConfig(s, 0, &times)
		arrived := make(chan struct{})
		open := cfg.dial
		cfg.dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			<-arrived
			return open(ctx, network, addr)
		}
		p := NewPool(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := p.Dial(ctx, cfg)
			gone <- err
		}()
		synctest.Wait()
		stays := make(chan error, 1)
		go func() {
			l, err := p.Dial(t.Context(), cfg)
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
		cfg := bubbleConfig(s, 0, &times)
		p := NewPool(0)
		l, err := p.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Hour)
		if l.Err() != nil {
			t.Fatal("a connection in use was closed")
		}
		_ = l.Close()
		<-time.After(DefaultPoolIdle - time.Second)
		again, err := p.Dial(t.Context(), cfg)
		if err != nil || again.Client != l.Client {
			t.Fatalf("not the same connection again: %v", err)
		}
		_ = again.Close()
		<-time.After(DefaultPoolIdle)
		<-l.Done()
		wantKind(t, l.Err(), Closed)
		if p.size() != 0 {
			t.Error("the pool keeps it")
		}

		held, err := p.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		wantKind(t, held.Err(), Closed)
		_ = held.Close()
		_, err = p.Dial(t.Context(), cfg)
		if KindOf(err) != Closed {
			t.Errorf("a closed pool answers %v", err)
		}
		s.work.Wait()
	})
}

// A machine that vanished without a word is noticed before its connection is handed out again.
func TestPool_AsksAConnectionThatRested(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		cfg := bubbleConfig(s, 0, &times)
		cfg.KeepAlive = time.Hour
		p := NewPool(time.Minute)
		l, err := p.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		s.freeze()
		<-time.After(10 * time.Second)
		begun := time.Now()
		again, err := p.Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if again.Client == l.Client || time.Since(begun) > probeTimeout {
			t.Errorf("the silent connection was used, or waited for: %s", time.Since(begun))
		}
		_ = again.Close()
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
		p := NewPool(time.Hour)
		var leases []*Lease
		for i := range poolIdleMost + 3 {
			cfg := bubbleConfig(s, 0, &times)
			cfg.Port = 1000 + i
			l, err := p.Dial(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			leases = append(leases, l)
		}
		for _, l := range leases {
			_ = l.Close()
			<-time.After(time.Second)
		}
		for i, l := range leases {
			if ended := l.Err() != nil; ended != (i < 3) {
				t.Errorf("connection %d ended: %v", i, ended)
			}
		}
		if got := p.size(); got != poolIdleMost {
			t.Errorf("%d are kept, want %d", got, poolIdleMost)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		s.work.Wait()
	})
}
