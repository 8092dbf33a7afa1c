package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	containertypes "github.com/moby/moby/api/types/container"
)

// container is a container of the engine, from create to remove.
type container struct {
	id      string
	created time.Time
	image   *image
	config  *containertypes.Config
	host    *containertypes.HostConfig
	dir     string // its directory on the machine, and its own network
	address string // on the bridge
	argv    []string
	output  *containerLog
	// turn has a token while an operation (start, stop, remove, …) is under way.
	turn chan struct{}

	mu       sync.Mutex
	name     string // without a slash
	state    state
	restarts int
	// stopped is true once a request has stopped the container: it is not restarted.
	stopped bool
	proc    *process
	ports   []*publishedPort
	// supervised is closed when the supervisor of the current run has ended.
	supervised chan struct{}
	// noRestart ends the supervisor's wait for the next restart.
	noRestart context.CancelFunc
	// changed is closed and replaced whenever the state changes.
	changed chan struct{}
	removed bool
}

// state is what inspect shows as State.
type state struct {
	Status     containertypes.ContainerState
	Running    bool
	Restarting bool
	OOMKilled  bool
	PID        int
	ExitCode   int
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
	Runs       int // that have ended
}

func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func (c *container) plainName() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.name
}

func (c *container) snapshot() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// watch returns whether the container runs, and a channel that the next change of its state closes.
func (c *container) watch() (running bool, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Running, c.changed
}

// change changes the state and wakes those who wait for that.
func (c *container) change(f func(*state)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.state)
	c.wake()
}

// wake must be called with mu held.
func (c *container) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// acquire waits until no other operation is under way.
func (c *container) acquire(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *container) release() { <-c.turn }

// await waits until done accepts the state, or ctx ends.
func (c *container) await(ctx context.Context, done func(s state, removed bool) bool) error {
	for {
		c.mu.Lock()
		s, removed, changed := c.state, c.removed, c.changed
		c.mu.Unlock()
		if done(s, removed) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// kill kills the container's process group, if it runs.
func (c *container) kill() {
	c.mu.Lock()
	proc := c.proc
	c.mu.Unlock()
	if proc != nil {
		proc.killGroup()
	}
}

// find looks a container up by its name or its whole id.
func (e *Engine) find(key string) (*container, error) {
	key = strings.TrimPrefix(key, "/")
	e.mu.Lock()
	defer e.mu.Unlock()
	if c, ok := e.containers[key]; ok {
		return c, nil
	}
	if id, ok := e.names[key]; ok {
		return e.containers[id], nil
	}
	for id, c := range e.containers {
		if key != "" && strings.HasPrefix(id, key) {
			return c, nil
		}
	}
	return nil, refusal(http.StatusNotFound, "No such container: %s", key)
}

// all returns the containers, newest first.
func (e *Engine) all() []*container {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.SortedFunc(maps.Values(e.containers), func(a, b *container) int { return b.created.Compare(a.created) })
}

// of is a route that handles a container.
func (e *Engine) of(handle func(w http.ResponseWriter, req *http.Request, c *container) error) route {
	return func(w http.ResponseWriter, req *http.Request) error {
		c, err := e.find(req.PathValue("id"))
		if err != nil {
			return err
		}
		return handle(w, req, c)
	}
}

// turn is a route that changes a container, one request at a time.
func (e *Engine) turn(handle func(w http.ResponseWriter, req *http.Request, c *container) error) route {
	return e.of(func(w http.ResponseWriter, req *http.Request, c *container) error {
		if err := c.acquire(req.Context()); err != nil {
			return err
		}
		defer c.release()
		c.mu.Lock()
		removed := c.removed
		c.mu.Unlock()
		if removed {
			return refusal(http.StatusNotFound, "No such container: %s", req.PathValue("id"))
		}
		return handle(w, req, c)
	})
}

// containerDir returns a short path: a container's ports are unix sockets, whose paths have about a hundred bytes at most.
func (e *Engine) containerDir(id string) string {
	return filepath.Join(string(e.cfg.Root), "c", id[:12])
}
