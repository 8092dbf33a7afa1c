package machine

import (
	"net"
	"time"
)

// idleConn is a connection that is cut after it was idle for a while, as by a proxy.
type idleConn struct {
	net.Conn

	after time.Duration
	cut   *time.Timer
}

func newIdleConn(conn net.Conn, after time.Duration) *idleConn {
	return &idleConn{Conn: conn, after: after, cut: time.AfterFunc(after, func() { _ = conn.Close() })}
}

func (c *idleConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.cut.Reset(c.after)
	return n, err
}

func (c *idleConn) Write(b []byte) (int, error) {
	c.cut.Reset(c.after)
	return c.Conn.Write(b)
}

func (c *idleConn) Close() error {
	c.cut.Stop()
	return c.Conn.Close()
}
