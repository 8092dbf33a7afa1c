package host

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Limits of a [Pool].
const (
	// DefaultPoolIdle is how long a connection that nobody uses is kept.
	DefaultPoolIdle = 15 * time.Second
	// poolIdleMost is how many connections that nobody uses are kept at most.
	poolIdleMost = 16
	// poolSharers is how many share one connection. OpenSSH allows ten sessions on one
	// (MaxSessions in sshd_config); who comes when it is full gets another connection.
	poolSharers = 8
	// poolTrust is how long a connection that nobody used is taken to be up without a question.
	poolTrust = 2 * time.Second
)

// Pool shares connections between those that log in to the same machine in the same way at about
// the same time. It is safe for concurrent use, holds no lock while it waits for a machine, and a
// machine that doesn't answer keeps nobody waiting but those that want that machine.
type Pool struct {
	idle time.Duration
	dial func(context.Context, Config) (*Client, error)

	mu     sync.Mutex
	conns  map[poolKey][]*pooled
	closed bool
}

// poolKey stands for everything that decides which machine a login reaches and as whom, so that
// no one gets a connection that they couldn't have made. It holds no key in clear.
type poolKey [sha256.Size]byte

// pooled is one connection, or the attempt to make it.
type pooled struct {
	key    poolKey
	cancel context.CancelFunc // ends the attempt
	ready  chan struct{}      // closed when the attempt is over

	// client and err are set before ready is closed.
	client *Client
	err    error

	// Guarded by the pool's mutex:
	holders int
	since   time.Time   // when the last one left
	timer   *time.Timer // closes it when nobody comes
}

// NewPool returns a pool that keeps a connection for so long after its last use; zero means
// [DefaultPoolIdle]. Close it when it is no longer needed.
func NewPool(idle time.Duration) *Pool {
	if idle <= 0 {
		idle = DefaultPoolIdle
	}
	return &Pool{idle: idle, dial: Dial, conns: map[poolKey][]*pooled{}}
}

// Lease is a connection that others may be using too. Close gives it back.
type Lease struct {
	*Client
	once sync.Once
	back func()
}

// Close gives the connection back. It never fails, and closing again does nothing. What was
// opened through the connection is to be closed before.
func (l *Lease) Close() error {
	l.once.Do(l.back)
	return nil
}

// Dial returns a connection that is up, or makes one attempt to log in as [Dial] does. Those that
// ask for the same machine at the same time share the attempt and its failure; it goes on until
// the last of them has lost interest.
func (p *Pool) Dial(ctx context.Context, cfg Config) (*Lease, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	key, err := cfg.poolKey()
	if err != nil {
		return nil, err
	}
	for {
		c, asleep, err := p.join(ctx, key, cfg)
		if err != nil {
			return nil, err
		}
		select {
		case <-c.ready:
		case <-ctx.Done():
			p.leave(c)
			return nil, interrupted(ctx, "connect to", cfg.name())
		}
		if c.err != nil {
			p.leave(c)
			return nil, c.err
		}
		if c.client.Err() == nil && (!asleep || c.client.probe(probeTimeout) == nil) {
			return &Lease{Client: c.client, back: func() { p.leave(c) }}, nil
		}
		// Lost in the meantime: the next turn finds another one or makes it.
		p.forget(c)
		p.leave(c)
	}
}

// join takes a place on a connection that has room, or begins to make one. It reports whether
// nobody has used the connection for a while.
func (p *Pool) join(ctx context.Context, key poolKey, cfg Config) (c *pooled, asleep bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false, &Error{Op: "connect to", Addr: cfg.name(), Kind: Closed, Err: errPoolClosed}
	}
	for _, c := range p.conns[key] {
		if c.holders >= poolSharers || c.broken() {
			continue
		}
		asleep = c.holders == 0 && time.Since(c.since) > poolTrust
		c.holders++
		if c.timer != nil {
			c.timer.Stop()
			c.timer = nil
		}
		return c, asleep, nil
	}
	limited, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c = &pooled{key: key, cancel: cancel, ready: make(chan struct{}), holders: 1}
	p.conns[key] = append(p.conns[key], c)
	go p.attempt(limited, c, cfg)
	return c, false, nil
}

// attempt logs in.
func (p *Pool) attempt(ctx context.Context, c *pooled, cfg Config) {
	defer close(c.ready)
	c.client, c.err = p.dial(ctx, cfg)
	if c.err != nil {
		p.forget(c)
	}
}

var errPoolClosed = errors.New("the pool of connections has been closed")

// broken reports that the attempt has failed or the connection has ended.
func (c *pooled) broken() bool {
	select {
	case <-c.ready:
		return c.err != nil || c.client.Err() != nil
	default:
		return false
	}
}

// leave gives up a place. The last one starts the connection's time, or ends the attempt.
func (p *Pool) leave(c *pooled) {
	p.mu.Lock()
	c.holders--
	var unused []*pooled
	if c.holders == 0 {
		unused = p.restLocked(c)
	}
	p.mu.Unlock()
	for _, c := range unused {
		c.end()
	}
}

// restLocked keeps a connection that nobody uses for a while, and returns those that are not kept.
func (p *Pool) restLocked(c *pooled) []*pooled {
	c.since = time.Now()
	select {
	case <-c.ready:
	default: // nobody waits for the attempt any more
		p.forgetLocked(c)
		return []*pooled{c}
	}
	if p.closed || c.broken() || !slices.Contains(p.conns[c.key], c) {
		p.forgetLocked(c)
		return []*pooled{c}
	}
	c.timer = time.AfterFunc(p.idle, func() { p.expire(c) })
	return p.surplusLocked()
}

// surplusLocked takes away what has been resting longest, where there is too much of it.
func (p *Pool) surplusLocked() []*pooled {
	var resting []*pooled
	for conns := range maps.Values(p.conns) {
		for _, c := range conns {
			if c.holders == 0 {
				resting = append(resting, c)
			}
		}
	}
	if len(resting) <= poolIdleMost {
		return nil
	}
	slices.SortFunc(resting, func(a, b *pooled) int { return a.since.Compare(b.since) })
	surplus := resting[:len(resting)-poolIdleMost]
	for _, c := range surplus {
		p.forgetLocked(c)
	}
	return surplus
}

// expire ends a connection that nobody came back to.
func (p *Pool) expire(c *pooled) {
	p.mu.Lock()
	resting := c.holders == 0
	if resting {
		p.forgetLocked(c)
	}
	p.mu.Unlock()
	if resting {
		c.end()
	}
}

// forget keeps others from getting the connection; who has it goes on.
func (p *Pool) forget(c *pooled) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetLocked(c)
}

func (p *Pool) forgetLocked(c *pooled) {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	rest := slices.DeleteFunc(p.conns[c.key], func(other *pooled) bool { return other == c })
	if len(rest) == 0 {
		delete(p.conns, c.key)
		return
	}
	p.conns[c.key] = rest
}

// end ends the attempt, or closes the connection, which nobody uses any more. It doesn't wait for
// the machine.
func (c *pooled) end() {
	c.cancel()
	go func() {
		<-c.ready
		if c.client != nil {
			_ = c.client.Close()
		}
	}()
}

// Close ends all connections, also those in use, and waits for that as [Client.Close] does. From
// then on nothing can be dialled.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	all := slices.Concat(slices.Collect(maps.Values(p.conns))...)
	for _, c := range all {
		p.forgetLocked(c)
	}
	p.mu.Unlock()
	errs := make([]error, len(all))
	var closing sync.WaitGroup
	for i, c := range all {
		closing.Go(func() {
			c.cancel()
			<-c.ready
			if c.client != nil {
				errs[i] = c.client.Close()
			}
		})
	}
	closing.Wait()
	return errors.Join(errs...)
}

// poolKey digests the login.
func (c *Config) poolKey() (poolKey, error) {
	text, err := json.Marshal(c) //nolint:gosec // goes no further than the digest; the unexported dial is left out
	if err != nil {
		return poolKey{}, &Error{Op: "connect to", Addr: c.name(), Kind: BadConfig, Err: err}
	}
	return sha256.Sum256(text), nil
}
