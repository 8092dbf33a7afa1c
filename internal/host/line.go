package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"
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
	cfg     Config
	current atomic.Pointer[Client]
	life    context.Context //nolint:containedctx // the line's own; ends with Close
	end     context.CancelFunc

	// turn is held while logging in, and guards what follows.
	turn     chan struct{}
	redials  int
	patience time.Duration
	since    time.Time // the last login; zero once its loss was noticed

	final atomic.Pointer[Error] // why there won't be another login
}

// NewLine makes a line out of a connection that was made with cfg. From then on the connection is the line's.
func NewLine(client *Client, cfg Config) *Line {
	l := &Line{cfg: Pinned(cfg, client), turn: make(chan struct{}, 1), patience: redialPatience, since: time.Now()}
	l.life, l.end = context.WithCancel(context.Background())
	l.current.Store(client)
	return l
}

// Pinned is cfg with the host keys that the machine, and each bastion, has proved to own.
func Pinned(cfg Config, client *Client) Config {
	cfg.HostKey = client.hostKey
	if cfg.Bastion != nil && client.bastion != nil {
		bastion := Pinned(*cfg.Bastion, client.bastion)
		cfg.Bastion = &bastion
	}
	return cfg
}

// Err is nil while the connection is up. After a loss it tells of that until something logs in again, or of why nothing
// will.
func (l *Line) Err() error {
	if final := l.final.Load(); final != nil {
		return final
	}
	return l.current.Load().Err()
}

// Run is [Client.Run].
func (l *Line) Run(ctx context.Context, cmd Command) (Result, error) {
	client, err := l.client(ctx)
	if err != nil {
		return Result{ExitCode: -1}, err
	}
	return client.Run(ctx, cmd)
}

// Pipe is [Client.Pipe].
func (l *Line) Pipe(ctx context.Context, args ...string) (net.Conn, error) {
	client, err := l.client(ctx)
	if err != nil {
		return nil, err
	}
	return client.Pipe(ctx, args...)
}

// DialContext is [Client.DialContext].
func (l *Line) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	client, err := l.client(ctx)
	if err != nil {
		return nil, err
	}
	return client.DialContext(ctx, network, addr)
}

// Close ends the connection, or the attempt to make another one, as [Client.Close] does. Closing again does nothing.
func (l *Line) Close() error {
	l.end()
	l.turn <- struct{}{} // a login under way ends at once
	defer l.release()
	return l.current.Load().Close()
}

func (l *Line) release() { <-l.turn }

// client is a connection that is up, as far as is known.
func (l *Line) client(ctx context.Context) (*Client, error) {
	if client := l.current.Load(); KindOf(client.Err()) != Lost {
		return client, nil // one that was closed says so itself
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, interrupted(ctx, "connect to", l.cfg.name())
	}
	defer l.release()
	lost := l.current.Load()
	if KindOf(lost.Err()) != Lost { // another one was quicker
		return lost, nil
	}
	if l.life.Err() != nil {
		return nil, &Error{Op: "use", Addr: l.cfg.name(), Kind: Closed, Err: net.ErrClosed, Detail: "The connection was closed on this side."}
	}
	if final := l.final.Load(); final != nil {
		return nil, final
	}
	if !l.since.IsZero() && time.Since(l.since) >= goodService {
		l.redials, l.patience = 0, redialPatience
	}
	l.since = time.Time{}
	if l.redials == maxRedials {
		return nil, &Error{
			Op: "use", Addr: l.cfg.name(), Kind: Unreachable, Err: fmt.Errorf("the connection was lost %d times", maxRedials+1),
			Detail: "The connection to the machine breaks again and again. Look at the network in between, and at the machine's SSH server.",
		}
	}
	l.redials++
	client, err := l.redial(ctx)
	if err != nil {
		if final, ok := errors.AsType[*Error](err); ok && (final.Kind == HostKeyChanged || final.Kind == AuthFailed) {
			l.final.Store(final)
		}
		return nil, err
	}
	l.current.Store(client)
	l.since = time.Now()
	_ = lost.Close() // it is dead already
	return client, nil
}

// redial logs in again. A time that is this package's own is not told as the end of the caller's.
func (l *Line) redial(ctx context.Context) (*Client, error) {
	begun := time.Now()
	limited, cancel := context.WithTimeout(ctx, max(l.patience, l.cfg.connectTimeout()))
	defer cancel()
	defer context.AfterFunc(l.life, cancel)() //nolint:contextcheck // ends with the caller's or the line's life, whichever is first
	client, err := DialUntil(limited, l.cfg)
	l.patience -= time.Since(begun)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		detail := "The connection was lost, and the machine could not be reached again. " + DetailOf(err)
		return nil, &Error{Op: "reconnect to", Addr: l.cfg.name(), Kind: Unreachable, Err: errors.New(err.Error()), Detail: detail}
	}
	return client, err
}
