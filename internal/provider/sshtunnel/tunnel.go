package sshtunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// Limits of a tunnel.
const (
	// maxRedials is how many attempts in a row are made to bring a dropped connection
	// back before the tunnel is given up.
	maxRedials = 6
	firstPause = 500 * time.Millisecond
	lastPause  = 10 * time.Second
	// openLimit bounds the opening of one connection through the machine, the wait for
	// a redial included.
	openLimit = 45 * time.Second
	// probeLimit bounds the look whether anything listens at the other end.
	probeLimit = 10 * time.Second
	// closeLimit bounds Close.
	closeLimit = 5 * time.Second
	// maxStreams is how many connections go through one tunnel at a time; more wait.
	maxStreams = 128
)

// login is what a tunnel needs of a machine; *host.Lease is one.
type login interface {
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
	Done() <-chan struct{}
	Close() error
}

// dialer logs in to the tunnel's machine.
type dialer func(ctx context.Context) (login, error)

// tunnel listens on loopback and passes what connects on to an address as its
// machine sees it. It brings a dropped connection back by itself.
type tunnel struct {
	remote   string
	listener net.Listener
	ctx      context.Context //nolint:containedctx // the tunnel's life, which no call spans
	cancel   context.CancelFunc
	dial     dialer
	slots    chan struct{}
	work     sync.WaitGroup

	mu      sync.Mutex
	machine login
	changed chan struct{} // closed when machine changes, or when it is given up
	lost    error         // why it was given up
	streams map[net.Conn]struct{}
}

// start opens a tunnel: it logs in, so that what is wrong with that is known at
// once, and listens on a port of loopback, a free one for 0. The tunnel outlives
// ctx. One that can't log in is given up, for the reason in lost: it listens all the
// same, so that nobody else gets the port, and closes what connects.
func start(ctx context.Context, dial dialer, port int, remote string) (*tunnel, error) {
	machine, lost := dial(ctx)
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort(loopback, fmt.Sprint(port)))
	if err != nil {
		if lost == nil {
			_ = machine.Close()
		}
		return nil, fmt.Errorf("this side's port could not be opened: %w", err)
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	t := &tunnel{
		remote: remote, listener: listener, ctx: life, cancel: cancel, dial: dial, slots: make(chan struct{}, maxStreams),
		machine: machine, lost: lost, changed: make(chan struct{}), streams: map[net.Conn]struct{}{},
	}
	t.work.Go(t.accept)
	if lost == nil {
		t.work.Go(t.keep)
	}
	return t, nil
}

// port is the port of loopback.
func (t *tunnel) port() int {
	addr, ok := t.listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0
	}
	return addr.Port
}

// keep watches the connection to the machine, and brings it back when it drops.
func (t *tunnel) keep() {
	for {
		machine := t.current()
		select {
		case <-t.ctx.Done():
			_ = machine.Close()
			return
		case <-machine.Done():
		}
		_ = machine.Close()
		tflog.Info(t.ctx, "a tunnel's connection dropped, logging in again", map[string]any{"remote": t.remote})
		next, err := t.redial()
		t.mu.Lock()
		t.machine, t.lost = next, err
		close(t.changed)
		t.changed = make(chan struct{})
		t.mu.Unlock()
		if err != nil {
			if t.ctx.Err() == nil {
				tflog.Error(t.ctx, "a tunnel is given up", map[string]any{"remote": t.remote, "error": err.Error()})
			}
			// Whoever connects from now on is refused, instead of waiting in vain.
			_ = t.listener.Close()
			return
		}
	}
}

func (t *tunnel) current() login {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.machine
}

// redial logs in again, a bounded number of times.
func (t *tunnel) redial() (login, error) {
	pause := firstPause
	var last error
	for range maxRedials {
		machine, err := t.dial(t.ctx)
		if err == nil {
			return machine, nil
		}
		last = err
		if kind := host.KindOf(err); kind == host.HostKeyChanged || kind == host.BadKey {
			break // no attempt will end better
		}
		timer := time.NewTimer(pause)
		select {
		case <-t.ctx.Done():
			timer.Stop()
			return nil, t.ctx.Err()
		case <-timer.C:
		}
		pause = min(2*pause, lastPause)
	}
	return nil, fmt.Errorf("the connection dropped and could not be made again: %w", last)
}

// accept takes what connects.
func (t *tunnel) accept() {
	for {
		select {
		case t.slots <- struct{}{}:
		case <-t.ctx.Done():
			return
		}
		conn, err := t.listener.Accept()
		if err != nil {
			return // closed: nothing else ends a listener of loopback
		}
		t.work.Go(func() {
			defer func() { <-t.slots }()
			t.pass(conn)
		})
	}
}

// pass carries one connection to its end.
func (t *tunnel) pass(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := t.open(t.ctx)
	if err != nil {
		if t.ctx.Err() == nil { // who connects sees the connection closed, and no more
			tflog.Warn(t.ctx, "a connection through a tunnel was refused", map[string]any{"remote": t.remote, "error": err.Error()})
		}
		return
	}
	defer func() { _ = far.Close() }()
	if !t.track(near, far) {
		return
	}
	defer t.untrack(near, far)
	var both sync.WaitGroup
	both.Go(func() { copyStream(far, near) })
	copyStream(near, far)
	both.Wait()
}

// probe reports why a connection to the other end can't be opened.
func (t *tunnel) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	far, err := t.open(ctx)
	if err == nil {
		_ = far.Close()
	}
	return err
}

// copyStream copies one direction and passes its end on, so that the other
// direction can still be answered.
func copyStream(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_ = to.Close()
		_ = from.Close()
	}
}

// open opens the other side. A connection that drops meanwhile is waited for, once:
// nothing has been sent, so that trying again repeats nothing.
func (t *tunnel) open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	var err error
	for range 2 {
		machine, changed, lost := t.state()
		if lost != nil {
			return nil, lost
		}
		select {
		case <-machine.Done(): // dropped: the next one is being dialled
		default:
			var conn net.Conn
			if conn, err = machine.DialContext(ctx, "tcp", t.remote); err == nil {
				return conn, nil
			}
			if kind := host.KindOf(err); kind != host.Lost && kind != host.Closed {
				return nil, err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	machine, _, lost := t.state()
	if lost != nil {
		return nil, lost
	}
	return machine.DialContext(ctx, "tcp", t.remote)
}

func (t *tunnel) state() (login, <-chan struct{}, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.machine, t.changed, t.lost
}

// track remembers connections, for close; false when the tunnel is closed already.
func (t *tunnel) track(conns ...net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ctx.Err() != nil {
		return false
	}
	for _, conn := range conns {
		t.streams[conn] = struct{}{}
	}
	return true
}

func (t *tunnel) untrack(conns ...net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, conn := range conns {
		delete(t.streams, conn)
	}
}

var errSlowClose = errors.New("the tunnel's connections did not end in time")

// close ends the tunnel and what goes through it, within closeLimit.
func (t *tunnel) close() error {
	t.cancel()
	_ = t.listener.Close()
	t.mu.Lock()
	var open []net.Conn
	for conn := range t.streams {
		open = append(open, conn)
	}
	t.mu.Unlock()
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		var closing sync.WaitGroup
		for _, conn := range open {
			closing.Go(func() { _ = conn.Close() })
		}
		closing.Wait()
		t.work.Wait()
	}()
	timer := time.NewTimer(closeLimit)
	defer timer.Stop()
	select {
	case <-finished:
		return nil
	case <-timer.C:
		return errSlowClose
	}
}
