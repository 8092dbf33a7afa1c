package machine

import (
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

const (
	// loginTime is sshd's LoginGraceTime.
	loginTime = 2 * time.Minute
	// maxSessions is sshd's MaxSessions.
	maxSessions = 10
	// serverVersion is what the SSH server calls itself: an Ubuntu 24.04's sshd.
	serverVersion = "SSH-2.0-OpenSSH_9.6p1 Ubuntu-3ubuntu13.14"
)

// RefuseKeys makes the SSH server refuse every key, or stop doing so.
func (m *Machine) RefuseKeys(refuse bool) { m.refuse.Store(refuse) }

// traffic counts successful logins, and exchanges after them: channels, and requests on
// channels that are answered.
type traffic struct{ logins, exchanges atomic.Int64 }

// Logins is the number of successful logins.
func (m *Machine) Logins() int { return int(m.traffic.logins.Load()) }

// Exchanges is the number of channels that clients have opened, and of requests on them
// that are answered.
func (m *Machine) Exchanges() int { return int(m.traffic.exchanges.Load()) }

// DropConnections cuts every open connection.
func (m *Machine) DropConnections() {
	m.mu.Lock()
	conns := slices.Collect(maps.Keys(m.conns))
	m.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// StopListening makes the port refuse connections. Open ones go on.
func (m *Machine) StopListening() error { return m.port.pause() }

// ResumeListening ends StopListening and Options.NotListening.
func (m *Machine) ResumeListening() error {
	m.mu.Lock() // against Close, which waits for what is started here
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return net.ErrClosed
	}
	listener, err := m.port.resume()
	if listener == nil || err != nil {
		return err
	}
	m.work.Go(func() { m.accept(listener) })
	return nil
}

// ChangeHostKey gives the machine new host keys and cuts every connection, as a
// reinstallation does.
func (m *Machine) ChangeHostKey() error {
	keys, err := newHostKeys()
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.hostKeys = keys
	m.mu.Unlock()
	m.DropConnections()
	return nil
}

// ChangePort moves the SSH server to another port and cuts every connection, as a cloud
// does that moves a machine to another address. The old port refuses connections.
func (m *Machine) ChangePort() error {
	if err := m.port.move(); err != nil {
		return err
	}
	m.DropConnections()
	return m.ResumeListening()
}

// Unresponsive makes the machine hang, or go on again. While it hangs it accepts
// connections, and all connections are silent.
func (m *Machine) Unresponsive(hang bool) { m.frozen.Shut(hang) }

func (m *Machine) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return // closed
		}
		if m.idle > 0 {
			conn = newIdleConn(conn, m.idle)
		}
		m.work.Go(func() { m.serve(&gatedConn{Conn: conn, gate: &m.frozen, done: make(chan struct{})}) })
	}
}

// keep registers a connection for DropConnections; false = the machine is ending.
func (m *Machine) keep(conn net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return false
	}
	m.conns[conn] = struct{}{}
	return true
}

func (m *Machine) forget(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, conn)
}

func (m *Machine) serverConfig() *ssh.ServerConfig {
	config := &ssh.ServerConfig{PublicKeyCallback: m.authorize, ServerVersion: serverVersion, MaxAuthTries: 6}
	m.mu.Lock()
	defer m.mu.Unlock()
	config.AddHostKey(m.hostKeys.ed25519)
	config.AddHostKey(m.hostKeys.rsa)
	return config
}

// serve is one connection, from its handshake to its end.
func (m *Machine) serve(raw net.Conn) {
	defer raw.Close()
	if !m.keep(raw) {
		return
	}
	defer m.forget(raw)
	_ = raw.SetDeadline(time.Now().Add(loginTime))
	conn, channels, requests, err := ssh.NewServerConn(raw, m.serverConfig())
	if err != nil {
		return
	}
	_ = raw.SetDeadline(time.Time{})
	m.traffic.logins.Add(1)
	c := &connection{machine: m, conn: conn, sessions: make(chan struct{}, maxSessions)}
	c.work.Go(func() { ssh.DiscardRequests(requests) }) // answers keepalives with a failure, as sshd does
	for channel := range channels {
		m.traffic.exchanges.Add(1)
		c.take(channel)
	}
	c.work.Wait()
}

// connection is a client that has logged in.
type connection struct {
	machine  *Machine
	conn     *ssh.ServerConn
	work     sync.WaitGroup
	sessions chan struct{} // holds a token for each command
}

func (c *connection) take(channel ssh.NewChannel) {
	c.work.Go(func() {
		switch channel.ChannelType() {
		case "session":
			select {
			case c.sessions <- struct{}{}:
				defer func() { <-c.sessions }()
				c.session(channel)
			default:
				_ = channel.Reject(ssh.ConnectionFailed, "open failed")
			}
		case "direct-tcpip":
			c.forward(channel)
		case "direct-streamlocal@openssh.com":
			c.forwardSocket(channel)
		default:
			_ = channel.Reject(ssh.UnknownChannelType, "unknown channel type")
		}
	})
}

// gatedConn is a connection that is silent while a gate is shut.
type gatedConn struct {
	net.Conn

	gate   *machinefs.Gate
	done   chan struct{}
	closed sync.Once
}

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.gate.Pass(c.done) {
		return 0, errors.Join(err, net.ErrClosed)
	}
	return n, err
}

func (c *gatedConn) Write(b []byte) (int, error) {
	if !c.gate.Pass(c.done) {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(b)
}

// Close also ends what waits for the gate.
func (c *gatedConn) Close() error {
	c.closed.Do(func() { close(c.done) })
	return c.Conn.Close()
}
