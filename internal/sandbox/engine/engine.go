// Package engine is a stand-in for the Docker Engine API on a sandbox machine. It has
// the routes that pull an image, run a container of it and inspect that one, for
// github.com/moby/moby/client and the docker command line.
// Each container is a real process: the running executable under the name of the
// program that the image starts. Pull progress, logs, exit codes, restart policies,
// port conflicts and a missing GPU runtime are as the real engine has them
// (github.com/moby/moby, release 28).
package engine

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// Config describes an engine.
type Config struct {
	// Root is the machine. Its directories and its facts must exist.
	Root machinefs.Root
	// Program is the executable that containers run. Its argv[0] is the name of the image's
	// program, as which it has to act (see package tool).
	Program string
	// Record, if set, is called with the command line of every process that the
	// engine starts. It must not call the engine.
	Record func(argv []string)
	// Images are additional images. Images with "vllm" in their name and a release as their
	// tag, such as those of vllm/vllm-openai, always exist.
	Images []Image
}

// Image is an image in the registries that the engine pulls from.
type Image struct {
	// Ref is its full name with a tag, such as "registry.example/team/vllm:v0.11.0".
	Ref string
	// Version is the vLLM release inside; "" for the tag.
	Version string
	// Username and Password are what the registry requires; "" = nothing.
	Username, Password string
	// Local is true for an image that the engine has from the start.
	Local bool
}

// imageGB is the disk space that an image takes.
const imageGB = 20

// Engine is an http.Handler that answers the Engine API. Mount it on a server on
// the machine's DockerSocket. Close it when done.
type Engine struct {
	cfg    Config
	routes http.Handler
	// life ends when the engine is closed.
	life  context.Context //nolint:containedctx // it is the engine's own, no call's
	end   context.CancelFunc
	tasks sync.WaitGroup // goroutines of the engine and requests under way
	// hanging is shut while the engine hangs.
	hanging machinefs.Gate
	asked   atomic.Int64
	// What tests make fail or slow; see FailPull, FailLogs and SlowPull.
	failPull, failLogs atomic.Pointer[string]
	slowPull           atomic.Int64

	mu         sync.Mutex
	closed     bool
	containers map[string]*container // by id
	names      map[string]string     // container name to id
	reserved   map[int]string        // host port to the id of the container that has it
	local      map[string]*image     // pulled images by reference
	volumes    map[string]time.Time  // since when each volume exists
	nextIP     int
}

// New returns an engine for a machine. It starts nothing.
func New(cfg Config) (*Engine, error) {
	if cfg.Root == "" || cfg.Program == "" {
		return nil, errors.New("engine: Root and Program are required")
	}
	if _, err := cfg.Root.ReadFacts(); err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	e := &Engine{
		cfg: cfg, life: life, end: end,
		containers: map[string]*container{}, names: map[string]string{}, reserved: map[int]string{},
		local: map[string]*image{}, volumes: map[string]time.Time{}, nextIP: 2,
	}
	e.routes = e.mux()
	for _, img := range cfg.Images {
		if img.Local {
			found := newImage(parseRef(img.Ref), img)
			e.local[found.ref.String()] = found
		}
	}
	return e, nil
}

// Requests is how many requests the engine was sent.
func (e *Engine) Requests() int { return int(e.asked.Load()) }

// ServeHTTP answers one request. It blocks while the engine hangs, and answers 503 once
// the engine is closed.
func (e *Engine) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	e.asked.Add(1)
	if !e.enter() {
		writeError(w, http.StatusServiceUnavailable, "the engine is shutting down")
		return
	}
	defer e.tasks.Done()
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(e.life, cancel)() //nolint:contextcheck // what ends first, the request or the engine
	if e.hanging.Pass(ctx.Done()) {
		e.routes.ServeHTTP(w, req)
	}
}

// enter counts a task, unless the engine is closed.
func (e *Engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.tasks.Add(1)
	return true
}

// background runs f as a task of the engine. It returns false, and doesn't run f, if the
// engine is closed.
func (e *Engine) background(f func()) bool {
	if !e.enter() {
		return false
	}
	go func() {
		defer e.tasks.Done()
		f()
	}()
	return true
}

// Close kills the process groups of all containers, and returns when they and all
// requests have ended. Close the engine's server first, so that no answer waits for a
// client that doesn't read.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.end() // kills the processes: see launch
	e.tasks.Wait()
}

// Hang makes the engine leave new requests unanswered until Hang(false).
func (e *Engine) Hang(hang bool) { e.hanging.Shut(hang) }

// FailPull makes every pull break off halfway with this message; "" ends that.
func (e *Engine) FailPull(message string) { e.failPull.Store(&message) }

// FailLogs makes requests for logs fail with this message, as with a logging driver that
// keeps none; "" ends that.
func (e *Engine) FailLogs(message string) { e.failLogs.Store(&message) }

// SlowPull makes every pull take this long in real time; 0 ends that.
func (e *Engine) SlowPull(d time.Duration) { e.slowPull.Store(int64(d)) }

// KillContainer kills a container's process, as a crash does: the restart policy applies.
// It takes an id or a name.
func (e *Engine) KillContainer(id string) error { return e.crash(id, false) }

// OutOfMemory kills a container's process as the kernel's OOM killer does.
func (e *Engine) OutOfMemory(id string) error { return e.crash(id, true) }

func (e *Engine) crash(id string, oom bool) error {
	c, err := e.find(id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	running := c.proc != nil
	c.state.OOMKilled = oom && running
	c.mu.Unlock()
	if !running {
		return errors.New("container " + id + " is not running")
	}
	c.kill()
	return nil
}

// facts reads the machine's facts, the zero value if the machine is gone.
func (e *Engine) facts() machinefs.Facts {
	facts, _ := e.cfg.Root.ReadFacts()
	return facts
}
