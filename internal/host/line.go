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
	// goodService is how long a connection must have lasted for the losses before it to be forgiven: clouds' proxies
	// drop long connections now and then.
	goodService = time.Minute
	// redialPatience is how long a line waits, in all, for a machine that doesn't answer any more.
	// Once it is used up, each further attempt has one connect timeout. Good service fills it again.
	redialPatience = 2 * time.Minute
)

// Line is a machine for the length of an operation: where the connection was lost, what comes next logs in again, a
// bounded number of times, and to the same machine only. A changed host key and a refused login are final: the line
// logs in no more. What was under way when the connection broke is never repeated: it may have taken effect, so
// whoever asked for it gets the error and decides. Whoever opened a line closes it. It is safe for concurrent use.
type Line struct {
	pool    *Pool
	target  *target
	current atomic.Pointer[Client] // the connection that was used last
	life    context.Context        //nolint:containedctx // the line's own; ends with Close
	end     context.CancelFunc
	closing sync.Once

	// turn is held while logging in, and guards what follows.
	turn     chan struct{}
	redials  int
	patience time.Duration
	lost     *Client // the last one whose loss was noticed

	final atomic.Pointer[Error] // why there won't be another login
}

// newLine makes a line of a place in the pool.
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

// Err is nil while the connection is up. After a loss it tells of that until something logs in again, or of why nothing
// will.
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

// inSession does what takes a session. Where a connection has no room for one, nothing has begun, and the next
// connection is used.
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

// DialContext is [Client.DialContext]. It is repeated once where the connection is lost: nothing has been sent.
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

// HTTPTransport returns a new HTTP transport whose connections start at the machine. Proxy settings of this process's
// environment don't apply to it. Its TLSClientConfig may be set before its first use.
func (l *Line) HTTPTransport() *http.Transport { return transport(l.DialContext) }

// Close gives the line's place up, and ends an attempt to log in again. What was opened through the line is to be
// closed before. It never fails, and closing again does nothing.
func (l *Line) Close() error {
	l.closing.Do(func() {
		l.end()
		l.pool.leave(l.target)
	})
	return nil
}

// client is a connection that is up, as far as is known.
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
	if client, err = l.up(); client != nil || err != nil { // another one was quicker
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

// up is a connection that is there already, nil where somebody has to log in, and an error where nobody will.
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

// redial logs in again. A time that is this package's own is not told as the end of the caller's.
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
