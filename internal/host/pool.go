package host

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// linger is how long connections that no line uses are kept.
	linger = 5 * time.Second
	// maxResting is the maximum number of machines with such connections.
	maxResting = 16
	// maxConns is the maximum number of connections to one machine. OpenSSH allows ten sessions on each
	// (MaxSessions in sshd_config).
	maxConns = 4
)

// Pool opens lines. Lines to the same machine, with the same keys and pinned to the same host keys, share connections, so no line
// gets a connection that it could not have made. It is safe for concurrent use, and a machine that doesn't answer delays only the
// lines to that machine. The zero value is ready for use. Close it when it is no longer needed.
type Pool struct {
	attempts singleflight.Group // to log in, by target.id

	mu       sync.Mutex
	machines map[string]*shared // by target.id; nil before the first line
	life     context.Context    //nolint:containedctx // of the attempts; ends with Close
	end      context.CancelFunc
	closed   bool
}

// shared is what the lines to one machine share. The pool's mutex guards it.
type shared struct {
	lines   int         // open ones
	clients []*Client   // those that are up, as far as is known
	timer   *time.Timer // ends the connections that no line uses
}

func wasClosed(op, name string) *Error {
	return &Error{Op: op, Addr: name, Kind: Closed, Err: net.ErrClosed, Detail: "The connection was closed by the provider."}
}

// Open makes one attempt to log in as [Dial] does, or shares a connection that answers. At first contact, where the host key of the
// machine or a bastion is not pinned, it always logs in, to see the key of the machine that answers now.
func (p *Pool) Open(ctx context.Context, cfg Config) (*Line, error) { return p.open(ctx, cfg, false) }

// OpenUntil is Open for a machine that may still be booting: it retries, quickly at first, while the machine is [Unreachable], until
// ctx's deadline (ten minutes when ctx has none). It returns at once for a changed host key or an unusable key, and after five refused
// logins in a row. The error wraps the last failure, also when ctx ended.
func (p *Pool) OpenUntil(ctx context.Context, cfg Config) (*Line, error) {
	return p.open(ctx, cfg, true)
}

func (p *Pool) open(ctx context.Context, cfg Config, patient bool) (*Line, error) {
	t, err := cfg.target()
	if err != nil {
		return nil, err
	}
	dial, first := dialer(t.dial), t.isFirstContact()
	if !first {
		if err := p.enter(t); err != nil {
			return nil, err
		}
		dial = func(ctx context.Context) (*Client, error) { return p.share(ctx, t) }
	}
	var client *Client
	if patient {
		client, err = t.until(ctx, dial)
	} else {
		client, err = dial(ctx)
	}
	switch {
	case err != nil && !first:
		p.leave(t)
	case err == nil && first:
		t = t.pinnedTo(client)
		if err = p.enter(t, client); err != nil {
			_ = client.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return newLine(p, t, client), nil
}

// enter registers a line, and connections for it.
func (p *Pool) enter(t *target, clients ...*Client) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return wasClosed("connect to", t.name)
	}
	if p.machines == nil {
		p.machines = map[string]*shared{}
		p.life, p.end = context.WithCancel(context.Background())
	}
	s := p.machines[t.id]
	if s == nil {
		s = &shared{}
		p.machines[t.id] = s
	}
	s.lines++
	s.clients = append(s.clients, clients...)
	if s.timer != nil {
		s.timer.Stop()
	}
	return nil
}

// leave unregisters a line. After the last one, connections are kept for linger.
func (p *Pool) leave(t *target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.machines[t.id]
	if s == nil {
		return // the pool has been closed
	}
	if s.lines--; s.lines > 0 {
		return
	}
	if len(s.up()) == 0 {
		delete(p.machines, t.id)
		return
	}
	s.timer = time.AfterFunc(linger, func() { p.expire(t.id, s) })
	resting := 0
	for _, s := range p.machines {
		if s.lines == 0 {
			resting++
		}
	}
	if resting > maxResting {
		p.endLocked(t.id)
	}
}

// expire ends the connections to a machine unless a line uses them again.
func (p *Pool) expire(id string, s *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.machines[id] == s && s.lines == 0 {
		p.endLocked(id)
	}
}

// endLocked ends the connections to a machine in the background, and returns them. The caller holds the mutex.
func (p *Pool) endLocked(id string) []*Client {
	s := p.machines[id]
	delete(p.machines, id)
	if s.timer != nil {
		s.timer.Stop()
	}
	for _, client := range s.clients {
		go func() { _ = client.Close() }()
	}
	return s.clients
}

// clients returns the connections to a machine that are up.
func (p *Pool) clients(t *target) []*Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.machines[t.id]; s != nil {
		return slices.Clone(s.up())
	}
	return nil
}

// up returns the connections that are up, and removes the others.
func (s *shared) up() []*Client {
	s.clients = slices.DeleteFunc(s.clients, func(c *Client) bool { return c.Err() != nil })
	return s.clients
}

// share returns a connection that is up and answers, or logs in.
func (p *Pool) share(ctx context.Context, t *target) (*Client, error) {
	for _, client := range p.clients(t) {
		if client.probe(ctx.Done(), probeTimeout) == nil {
			return client, nil
		}
	}
	return p.login(ctx, t)
}

// login makes one attempt to log in. Concurrent calls share the attempt and its failure. The attempt goes on after their contexts
// have ended.
func (p *Pool) login(ctx context.Context, t *target) (*Client, error) {
	attempt := p.attempts.DoChan(t.id, func() (any, error) {
		client, err := t.dial(p.life)
		if err == nil && !p.keep(t, client) {
			_ = client.Close()
			err = wasClosed("connect to", t.name)
		}
		if p.life.Err() != nil {
			err = wasClosed("connect to", t.name)
		}
		return client, err
	})
	select {
	case got := <-attempt:
		client, _ := got.Val.(*Client)
		return client, got.Err
	case <-ctx.Done():
		return nil, interrupted(ctx, "connect to", t.name)
	}
}

// keep adds a connection for the lines to a machine, and reports whether there are any. It puts it first, because the others may no
// longer answer.
func (p *Pool) keep(t *target, client *Client) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.machines[t.id]
	if s == nil || s.lines == 0 {
		return false
	}
	s.clients = slices.Insert(s.clients, 0, client)
	return true
}

// Close ends all connections, including those in use, and waits for that as [Client.Close] does. Later calls of Open and OpenUntil
// fail.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	if p.end != nil {
		p.end()
	}
	var clients []*Client
	for id := range p.machines {
		clients = append(clients, p.endLocked(id)...)
	}
	p.mu.Unlock()
	errs := make([]error, len(clients))
	var closing sync.WaitGroup
	for i, client := range clients {
		closing.Go(func() { errs[i] = client.Close() })
	}
	closing.Wait()
	return errors.Join(errs...)
}
