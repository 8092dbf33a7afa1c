package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Limits of a [Line].
const (
	// maxRedials is how often a line logs in again without goodService in between.
	maxRedials = 8
	// goodService is how long a connection must have lasted so that earlier losses no longer count: proxies of clouds
	// occasionally drop long connections.
	goodService = time.Minute
	// redialPatience is how long a line waits, in total, for a machine that no longer answers. Once that is used up,
	// each further attempt has one connect timeout. goodService resets it.
	redialPatience = 2 * time.Minute
)

// Line is a connection to a machine for the duration of an operation. After the connection is lost, the next call logs in again, a
// bounded number of times, and to the same machine only. A changed host key and a refused login are final: the line then no longer
// logs in. Calls in progress when the connection is lost are not repeated, because they may have taken effect: they return the
// error. Whoever opened a line closes it. It is safe for concurrent use.
type Line struct {
	pool    *Pool
	target  *target
	current atomic.Pointer[Client] // the connection that was used last
	life    context.Context        //nolint:containedctx // ends with Close
	end     context.CancelFunc
	closing sync.Once

	// turn is held during a login, and guards what follows.
	turn     chan struct{}
	redials  int
	patience time.Duration
	lost     *Client // the last one whose loss was noticed

	final atomic.Pointer[Error] // why the line no longer logs in
}

// newLine returns a line for which Pool.enter was called.
func newLine(pool *Pool, t *target, client *Client) *Line {
	l := &Line{pool: pool, target: t, turn: make(chan struct{}, 1), patience: redialPatience}
	l.life, l.end = context.WithCancel(context.Background())
	l.current.Store(client)
	return l
}

// HostKey is [Client.HostKey].
func (l *Line) HostKey() string { return l.current.Load().HostKey() }

// BastionHostKey is [Client.BastionHostKey].
func (l *Line) BastionHostKey() string { return l.current.Load().BastionHostKey() }

// Err returns nil while the connection is up. After a loss it returns that error until a call logs in again, or why the line no
// longer logs in.
func (l *Line) Err() error {
	if final := l.final.Load(); final != nil {
		return final
	}
	return l.current.Load().Err()
}

// Run is [Client.Run].
func (l *Line) Run(ctx context.Context, cmd Command) (result Result, err error) {
	result.ExitCode = -1
	err = l.inSession(ctx, func(client *Client) (err error) {
		result, err = client.Run(ctx, cmd)
		return err
	})
	return result, err
}

// Pipe is [Client.Pipe].
func (l *Line) Pipe(ctx context.Context, args ...string) (conn net.Conn, err error) {
	err = l.inSession(ctx, func(client *Client) (err error) {
		conn, err = client.Pipe(ctx, args...)
		return err
	})
	return conn, err
}

// inSession calls do, which opens a session. Where a connection allows no further session, nothing has started, and inSession tries
// the next connection.
func (l *Line) inSession(ctx context.Context, do func(*Client) error) error {
	client, err := l.client(ctx)
	for tried := []*Client(nil); err == nil; {
		l.current.Store(client)
		err = do(client)
		if _, full := errors.AsType[*ssh.OpenChannelError](err); !full || KindOf(err) != Refused {
			return err
		}
		tried = append(tried, client)
		others := slices.DeleteFunc(l.pool.clients(l.target), func(c *Client) bool { return slices.Contains(tried, c) })
		switch {
		case len(others) > 0:
			client, err = others[0], nil
		case len(tried) < maxConns:
			client, err = l.pool.login(ctx, l.target)
		}
	}
	return err
}

// DialContext is [Client.DialContext]. Where the connection is lost it tries once more, because nothing has been sent.
func (l *Line) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	for tries := 1; ; tries++ {
		client, err := l.client(ctx)
		if err != nil {
			return nil, err
		}
		conn, err := client.DialContext(ctx, network, addr)
		if KindOf(err) != Lost || tries == 2 {
			return conn, err
		}
	}
}

// HTTPTransport returns a new HTTP transport over DialContext. It ignores the proxy settings in this process's environment. Its
// TLSClientConfig may be set before its first use.
func (l *Line) HTTPTransport() *http.Transport { return transport(l.DialContext) }

// Close ends the line, and a login in progress. Close what was opened through the line first. It never fails, and calling it again
// does nothing.
func (l *Line) Close() error {
	l.closing.Do(func() {
		l.end()
		l.pool.leave(l.target)
	})
	return nil
}

// client returns a connection that is up, as far as is known. It logs in where there is none.
func (l *Line) client(ctx context.Context) (*Client, error) {
	client, err := l.up()
	if client != nil || err != nil {
		return client, err
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, interrupted(ctx, "connect to", l.target.name)
	}
	defer func() { <-l.turn }()
	if client, err = l.up(); client != nil || err != nil { // another call has logged in
		return client, err
	}
	if lost := l.current.Load(); lost != l.lost {
		if time.Since(lost.born) >= goodService {
			l.redials, l.patience = 0, redialPatience
		}
		l.lost = lost
	}
	if l.redials == maxRedials {
		return nil, &Error{
			Op: "use", Addr: l.target.name, Kind: Unreachable, Err: fmt.Errorf("the connection was lost %d times", maxRedials+1),
			Detail: "The connection to the machine keeps breaking. Check the network and the machine's SSH server.",
		}
	}
	l.redials++
	if client, err = l.redial(ctx); err != nil {
		if final, ok := errors.AsType[*Error](err); ok && (final.Kind == HostKeyChanged || final.Kind == AuthFailed) {
			l.final.Store(final)
		}
		return nil, err
	}
	l.current.Store(client)
	return client, nil
}

// up returns an existing connection, nil where there is none, or why the line no longer logs in.
func (l *Line) up() (*Client, error) {
	if l.life.Err() != nil {
		return nil, wasClosed("use", l.target.name)
	}
	if final := l.final.Load(); final != nil {
		return nil, final
	}
	client := l.current.Load()
	if client.Err() != nil {
		client = nil
		if others := l.pool.clients(l.target); len(others) > 0 {
			client = others[0]
			l.current.Store(client)
		}
	}
	return client, nil
}

// redial logs in again. Where its own limit has passed, the error is no context error.
func (l *Line) redial(ctx context.Context) (*Client, error) {
	begun := time.Now()
	limited, cancel := context.WithTimeout(ctx, max(l.patience, l.target.connectTimeout))
	defer cancel()
	defer context.AfterFunc(l.life, cancel)() //nolint:contextcheck // ends with the caller's or the line's life, whichever is first
	client, err := l.target.until(limited, func(ctx context.Context) (*Client, error) { return l.pool.share(ctx, l.target) })
	l.patience -= time.Since(begun)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		detail := "The connection was lost, and the machine could not be reached again. " + DetailOf(err)
		return nil, &Error{Op: "reconnect to", Addr: l.target.name, Kind: Unreachable, Err: errors.New(err.Error()), Detail: detail}
	}
	return client, err
}
