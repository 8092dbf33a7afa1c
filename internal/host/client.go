package host

import (
	"context"
	"errors"
	"net"
	"net/http"
)

// Client is a logged-in connection to a machine. It may be used by several goroutines at
// once. Whoever dialled it closes it.
type Client struct{ done chan struct{} }

var errNotBuilt = errors.New("not built yet")

// Dial makes one attempt to log in to a machine, within [Config.ConnectTimeout] and until ctx
// ends. The connection outlives ctx. Its errors are of type [*Error].
func Dial(ctx context.Context, cfg Config) (*Client, error) { return nil, errNotBuilt }

// DialUntil logs in to a machine that may still be booting: it tries again with growing pauses
// while the machine is [Unreachable], until ctx's deadline (ten minutes when ctx has none). A
// changed host key or an unusable key ends it at once, a refused login after a few attempts.
// The last failure is in the error.
func DialUntil(ctx context.Context, cfg Config) (*Client, error) { return nil, errNotBuilt }

// HostKey is the key that the machine proved to own, in authorized_keys form and without a
// comment; "@cert-authority …" when it was proved by a certificate. Give it as
// [Config.HostKey] from then on.
func (c *Client) HostKey() string { return "" }

// RemoteAddr is the machine's address as it was dialled, host:port.
func (c *Client) RemoteAddr() string { return "" }

// Done is closed when the connection has ended, by [Client.Close] or because it was lost.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the connection is up, then an [*Error] of kind [Closed] or [Lost].
func (c *Client) Err() error { return nil }

// Close ends the connection and everything that runs through it, within five seconds
// whatever the other end does. Closing again does nothing.
func (c *Client) Close() error { return nil }

// Run runs a command on the machine and waits for its end. A command that ends with a
// non-zero status or by a signal is a [Result], not an error.
//
// When ctx ends, the command is sent SIGTERM and, two seconds later, SIGKILL (servers that
// don't pass signals on only close its streams), and the error satisfies errors.Is with ctx's.
// A lost connection is an error of kind [Lost]; with [Error.Started] set, the command may have run.
func (c *Client) Run(ctx context.Context, cmd Command) (Result, error) { return Result{}, errNotBuilt }

// Pipe runs a command and returns its standard input and output as a connection, for protocols
// such as that of `docker system dial-stdio`. ctx governs the start only. Closing the connection
// ends the command, within a deadline. Read returns io.EOF when the command ended well, otherwise
// an [*Error] with what it last wrote to standard error. The connection has CloseWrite.
func (c *Client) Pipe(ctx context.Context, args ...string) (net.Conn, error) { return nil, errNotBuilt }

// DialContext opens a connection from the machine to an address as the machine sees it, such as
// "tcp", "127.0.0.1:8000" or "unix", "/run/x.sock". ctx governs the opening only. The connection
// has CloseWrite and working deadlines.
func (c *Client) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return nil, errNotBuilt
}

// HTTPTransport returns a new HTTP transport whose connections start at the machine. Proxy
// settings of this process's environment don't apply to it. Its connections end with the client.
func (c *Client) HTTPTransport() *http.Transport { return nil }
