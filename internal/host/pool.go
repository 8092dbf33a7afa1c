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
	// linger is how long connections are kept that no line uses any more.
	linger = 5 * time.Second
	// maxResting is how many machines' connections are kept that way.
	maxResting = 16
	// maxConns is how many connections to one machine there are at most. OpenSSH allows ten sessions on each
	// (MaxSessions in sshd_config).
	maxConns = 4
)

// Pool makes lines, and shares connections between those that lead to the same machine in the same way: with the
// same keys, and pinned to the same host keys. Nobody gets a connection that they could not have made. It is safe for
// concurrent use, holds no lock while it waits for a machine, and a machine that doesn't answer keeps nobody waiting
// but those that asked for that machine. The zero value can be used. Close it when it is no longer needed.
type Pool struct {
	attempts singleflight.Group // to log in, by target.id

	mu       sync.Mutex
	machines map[string]*shared // by target.id; nil before the first line
	life     context.Context    //nolint:containedctx // of the attempts; ends with Close
	end      context.CancelFunc
	closed   bool
}

// shared is what the lines to one machine have in common. The pool's mutex guards it.
type shared struct {
	lines   int         // that are open
	clients []*Client   // that are up, as far as is known
	timer   *time.Timer // ends the connections when no other line comes
}

func wasClosed(op, name string) *Error {
	return &Error{Op: op, Addr: name, Kind: Closed, Err: net.ErrClosed, Detail: "The connection was closed by the provider."}
}

// Open makes one attempt to log in as [Dial] does, or shares a connection that answers. At first contact, with a machine
// or a bastion whose host key is not pinned, whoever answers now has to be seen: that always logs in.
func (p *Pool) Open(ctx context.Context, cfg Config) (*Line, error) { return p.open(ctx, cfg, false) }

// OpenUntil waits for a machine that may still be booting: it tries again, quickly at first, while the machine is
// [Unreachable], until ctx's deadline (ten minutes when ctx has none). A changed host key or an unusable key ends it at
// once, a refused login after five attempts in a row. The last failure is in the error, also when ctx ended.
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

// enter takes a place for a line, with connections that it brings.
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

// leave gives a line's place up. The last one starts the connections' time.
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

// expire ends what nobody came back to.
func (p *Pool) expire(id string, s *shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.machines[id] == s && s.lines == 0 {
		p.endLocked(id)
	}
}

// endLocked ends the connections to a machine, without waiting for it, and returns them.
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

// clients are the connections to a machine that are up.
func (p *Pool) clients(t *target) []*Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.machines[t.id]; s != nil {
		return slices.Clone(s.up())
	}
	return nil
}

// up are the connections that are.
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

// login makes one attempt to log in. Those that come at the same time share the attempt and its failure. It goes on when they
// have lost interest, for as long as one attempt may take.
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

// keep adds a connection for the lines to its machine, false where there are none. It comes first: those that are there may be
// silent.
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

// Close ends all connections, also those in use, and waits for that as [Client.Close] does. From then on nothing can
// be opened.
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
