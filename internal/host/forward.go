package host

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// DialContext opens a connection from the machine to an address as seen from the machine, such as "tcp", "127.0.0.1:8000" or "unix",
// "/run/x.sock". ctx bounds the opening only. The connection has CloseWrite and supports deadlines. An error of kind [Refused] means
// that nothing listens there (yet), [Prohibited] that the SSH server allows no forwarding.
func (c *Client) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	op := "open a connection to " + addr + " on"
	kind, payload, err := forwarding(network, addr)
	if err != nil {
		return nil, c.failed(op, BadConfig, err, "")
	}
	ch, err := c.openChannel(ctx, op, kind, payload)
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(ch.requests)
	finish := func() error { // x/crypto/ssh also reports io.EOF when the SSH connection ends: truncated data must not look complete
		if err := c.probe(nil, probeTimeout); err != nil {
			return c.gone(op, io.ErrUnexpectedEOF)
		}
		return nil
	}
	shut := func(s *stream) {
		c.await(s.flushed, flushTimeout)
		finishes(flushTimeout, func() { _ = ch.Close() })
	}
	return newStream(c, ch, streamAddr{"ssh", c.addr}, streamAddr{network, addr}, finish, shut), nil
}

// forwarding returns the type of channel and its parameters (RFC 4254, section 7.2; for unix sockets, OpenSSH's
// PROTOCOL file, section 2.4).
func forwarding(network, addr string) (kind string, payload []byte, err error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
		name, service, err := net.SplitHostPort(addr)
		if err != nil {
			return "", nil, err
		}
		port, err := strconv.ParseUint(service, 10, 16)
		if err != nil || port == 0 {
			return "", nil, errors.New("the port must be a number between 1 and 65535")
		}
		return "direct-tcpip", ssh.Marshal(struct {
			Host       string
			Port       uint32
			OriginHost string
			OriginPort uint32
		}{name, uint32(port), "127.0.0.1", 0}), nil
	case "unix":
		if addr == "" || strings.Contains(addr, "\x00") {
			return "", nil, errors.New("the socket's path is empty or contains a NUL byte")
		}
		return "direct-streamlocal@openssh.com", ssh.Marshal(struct {
			Path, Reserved string
			ReservedNumber uint32
		}{Path: addr}), nil
	}
	return "", nil, errors.New("the network must be \"tcp\" or \"unix\", not " + strconv.Quote(network))
}

// HTTPTransport returns a new HTTP transport whose connections start at the machine. It ignores the proxy settings in this process's
// environment. Its connections end with the client. Its TLSClientConfig may be set before its first use.
func (c *Client) HTTPTransport() *http.Transport { return transport(c.DialContext) }

func transport(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{DialContext: dial, MaxIdleConns: 8, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second}
}
