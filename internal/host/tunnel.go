package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Limits of a [Tunnel].
const (
	// tunnelOpen bounds the opening of one connection through the machine, including another login.
	tunnelOpen = 45 * time.Second
	// tunnelStreams is the maximum number of connections through one tunnel at a time; more wait.
	tunnelStreams = 128
)

// Tunnel is a port of this computer's loopback. Connections to it are passed on to an address as seen from a machine.
type Tunnel struct {
	line     *Line // nil: connections are closed at once
	remote   string
	listener net.Listener
	port     int
	refused  func(error)
	ctx      context.Context //nolint:containedctx // ends with Close
	cancel   context.CancelFunc
	work     sync.WaitGroup
}

// OpenTunnel listens on a port of loopback, a free one for 0, and passes connections on to remote (host:port). It takes ownership of
// the line, also when it returns an error. With a nil line it only reserves the port, and closes connections at once. It calls
// refused with the reason where a connection could not be passed on: the client only sees that it was closed. The tunnel outlives
// ctx; whoever opened it closes it.
func OpenTunnel(ctx context.Context, line *Line, port int, remote string, refused func(error)) (*Tunnel, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)))
	if err == nil {
		if at, ok := listener.Addr().(*net.TCPAddr); ok {
			port = at.Port
		}
		t := &Tunnel{line: line, remote: remote, listener: listener, port: port, refused: refused}
		t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
		t.work.Go(t.accept)
		return t, nil
	}
	if line != nil {
		_ = line.Close()
	}
	return nil, fmt.Errorf("the local port could not be opened: %w", err)
}

// Port returns the port of loopback.
func (t *Tunnel) Port() int { return t.port }

// accept accepts connections until the tunnel is closed.
func (t *Tunnel) accept() {
	slots := make(chan struct{}, tunnelStreams)
	for {
		select {
		case slots <- struct{}{}:
		case <-t.ctx.Done():
			return
		}
		conn, err := t.listener.Accept()
		if err != nil {
			return // the listener was closed
		}
		t.work.Go(func() {
			defer func() { <-slots }()
			t.pass(conn)
		})
	}
}

// pass passes one connection on until it ends.
func (t *Tunnel) pass(near net.Conn) {
	defer func() { _ = near.Close() }()
	if t.line == nil {
		return
	}
	limited, cancel := context.WithTimeout(t.ctx, tunnelOpen)
	defer cancel()
	far, err := t.line.DialContext(limited, "tcp", t.remote)
	if err != nil {
		if t.line.final.Load() != nil { // later connections are refused, not closed
			_ = t.listener.Close()
		}
		if t.ctx.Err() == nil {
			t.refused(err)
		}
		return
	}
	defer func() { _ = far.Close() }()
	defer context.AfterFunc(t.ctx, func() { _, _ = near.Close(), far.Close() })()
	var both sync.WaitGroup
	both.Go(func() { copyStream(far, near) })
	copyStream(near, far)
	both.Wait()
}

// copyStream copies one direction and passes its end on, so that the other direction can go on.
func copyStream(to, from net.Conn) {
	_, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		_ = to.Close()
		_ = from.Close()
	}
}

// Close ends the tunnel and its connections, within five seconds. Calling it again does nothing.
func (t *Tunnel) Close() error {
	t.cancel()
	_ = t.listener.Close()
	var err error
	if !finishes(closeTimeout, t.work.Wait) {
		err = errors.New("closing the tunnel's connections timed out")
	}
	if t.line != nil {
		_ = t.line.Close()
	}
	return err
}
