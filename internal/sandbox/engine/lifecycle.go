package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"syscall"
	"time"

	containertypes "github.com/moby/moby/api/types/container"
)

// Restart backoff of the engine (daemon/internal/restartmanager).
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = time.Minute
	steadyAfter  = 10 * time.Second // a run of that length resets the backoff

	// leastBackoff is real time, whatever the machine's speed, so that a container that
	// can't start doesn't keep the computer busy.
	leastBackoff = 25 * time.Millisecond
)

func (e *Engine) start(w http.ResponseWriter, req *http.Request, c *container) error {
	if c.snapshot().Running {
		return refusal(http.StatusNotModified, "")
	}
	if err := e.run(c); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// run starts a container and its supervisor. The caller has acquired the container.
func (e *Engine) run(c *container) error {
	ctx, cancel := context.WithCancel(e.life)
	c.mu.Lock()
	c.stopped, c.restarts, c.noRestart, c.supervised = false, 0, cancel, make(chan struct{})
	supervised := c.supervised
	c.mu.Unlock()
	if err := e.launchContainer(c); err != nil {
		cancel()
		close(supervised)
		var known *apiError
		code := 128
		if errors.Is(err, errNotFound) || errors.Is(err, syscall.ENOENT) {
			code = 127
			err = refusal(http.StatusBadRequest, "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: %v: unknown", err)
		}
		if !errors.As(err, &known) {
			known = &apiError{http.StatusInternalServerError, err.Error()}
		}
		c.change(func(s *state) { s.Error, s.ExitCode = known.message, code })
		return known
	}
	if !e.background(func() {
		defer cancel()
		defer close(supervised)
		e.supervise(ctx, c)
	}) {
		cancel()
		close(supervised)
	}
	return nil
}

// launchContainer starts the container's ports and process.
func (e *Engine) launchContainer(c *container) error {
	gpus, err := e.gpus(c)
	if err != nil {
		return err
	}
	ports, err := e.publish(c)
	if err != nil {
		return err
	}
	proc, err := e.launch(c, e.environment(c, gpus))
	if err != nil {
		e.unpublish(ports)
		return err
	}
	c.mu.Lock()
	c.proc, c.ports = proc, ports
	c.mu.Unlock()
	c.change(func(s *state) {
		runs := s.Runs
		*s = state{
			Status: containertypes.StateRunning, Running: true, PID: proc.pid,
			StartedAt: time.Now(), FinishedAt: s.FinishedAt, Runs: runs,
		}
	})
	return nil
}

// supervise waits for the container's process, and restarts it according to its policy.
func (e *Engine) supervise(ctx context.Context, c *container) {
	backoff := time.Duration(0)
	for {
		c.mu.Lock()
		proc, started := c.proc, c.state.StartedAt
		c.mu.Unlock()
		<-proc.done
		again := e.ended(c, proc.code)
		if !again {
			if c.host.AutoRemove {
				e.discard(c)
			}
			return
		}
		backoff = nextBackoff(backoff, time.Since(started))
		timer := time.NewTimer(max(leastBackoff, e.facts().Scale(backoff)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			c.change(func(s *state) { s.Status, s.Running, s.Restarting = containertypes.StateExited, false, false })
			return
		}
		if err := e.launchContainer(c); err != nil {
			c.change(func(s *state) {
				s.Status, s.Running, s.Restarting, s.Error, s.ExitCode = containertypes.StateExited, false, false, err.Error(), 128
			})
			return
		}
		if ctx.Err() != nil { // stopped just as it was starting
			c.kill()
		}
	}
}

func nextBackoff(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= steadyAfter {
		return firstBackoff
	}
	return min(2*last, lastBackoff)
}

// ended records the end of a run, and reports whether another one follows.
func (e *Engine) ended(c *container, code int) bool {
	c.mu.Lock()
	ports := c.ports
	c.proc, c.ports = nil, nil
	policy := c.host.RestartPolicy
	again := !c.stopped && e.life.Err() == nil
	switch policy.Name {
	case containertypes.RestartPolicyAlways, containertypes.RestartPolicyUnlessStopped:
	case containertypes.RestartPolicyOnFailure:
		again = again && code != 0 && (policy.MaximumRetryCount == 0 || c.restarts < policy.MaximumRetryCount)
	case containertypes.RestartPolicyDisabled, "":
		again = false
	}
	c.mu.Unlock()
	e.unpublish(ports)
	c.mu.Lock()
	if again {
		c.restarts++
	}
	c.mu.Unlock()
	c.change(func(s *state) {
		s.PID, s.ExitCode, s.FinishedAt = 0, code, time.Now()
		s.Runs++
		s.Status, s.Running, s.Restarting = containertypes.StateExited, false, false
		if again {
			s.Status, s.Running, s.Restarting = containertypes.StateRestarting, true, true
		}
	})
	return again
}

func (e *Engine) stop(w http.ResponseWriter, req *http.Request, c *container) error {
	if !c.snapshot().Running {
		return refusal(http.StatusNotModified, "")
	}
	if err := e.halt(req, c); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// halt stops a running container with its stop signal and, after the grace period of the
// request or the container, with KILL. It returns when the run is over.
func (e *Engine) halt(req *http.Request, c *container) error {
	sig, err := parseSignal(cmp.Or(req.URL.Query().Get("signal"), c.config.StopSignal, "SIGTERM"))
	if err != nil {
		return err
	}
	grace := 10 * time.Second
	if c.config.StopTimeout != nil {
		grace = time.Duration(*c.config.StopTimeout) * time.Second
	}
	if text := req.URL.Query().Get("t"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil {
			return refusal(http.StatusBadRequest, "invalid timeout: %q", text)
		}
		grace = time.Duration(seconds) * time.Second
	}
	proc, supervised := c.giveUp()
	if proc != nil {
		proc.signal(sig)
		e.waitGrace(req.Context(), proc, grace)
		proc.killGroup()
	}
	<-supervised // comes soon after KILL
	return nil
}

// waitGrace waits until a process has ended, or grace is over; a negative one never is.
func (e *Engine) waitGrace(ctx context.Context, proc *process, grace time.Duration) {
	var limit <-chan time.Time
	if grace >= 0 {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		limit = timer.C
	}
	select {
	case <-proc.done:
	case <-limit:
	case <-ctx.Done():
	case <-e.life.Done():
	}
}

// giveUp marks the container as stopped, which ends its wait for a restart. It returns
// the process, nil if none runs, and a channel that is closed when the run is over.
func (c *container) giveUp() (*process, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.noRestart()
	return c.proc, c.supervised
}

func (e *Engine) restart(w http.ResponseWriter, req *http.Request, c *container) error {
	if c.snapshot().Running {
		if err := e.halt(req, c); err != nil {
			return err
		}
	}
	if err := e.run(c); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (e *Engine) killRoute(w http.ResponseWriter, req *http.Request, c *container) error {
	sig, err := parseSignal(cmp.Or(req.URL.Query().Get("signal"), "SIGKILL"))
	if err != nil {
		return err
	}
	if !c.snapshot().Running {
		return refusal(http.StatusConflict, "cannot kill container: %s: container %s is not running", req.PathValue("id"), c.id)
	}
	proc, _ := c.giveUp()
	if proc != nil {
		proc.signal(sig)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (e *Engine) wait(w http.ResponseWriter, req *http.Request, c *container) error {
	condition := containertypes.WaitCondition(cmp.Or(req.URL.Query().Get("condition"), string(containertypes.WaitConditionNotRunning)))
	before := c.snapshot()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush() // the client waits for this before it goes on
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(e.life, cancel)() //nolint:contextcheck // what ends first, the request or the engine
	err := c.await(ctx, func(s state, removed bool) bool {
		switch condition {
		case containertypes.WaitConditionRemoved:
			return removed
		case containertypes.WaitConditionNextExit:
			return s.Runs > before.Runs || removed
		case containertypes.WaitConditionNotRunning: // the end of a run is enough, whether or not another follows
		}
		return !s.Running || s.Runs > before.Runs || removed
	})
	if err != nil {
		return nil // the client no longer waits, and has the header
	}
	return json.NewEncoder(w).Encode(containertypes.WaitResponse{StatusCode: int64(c.snapshot().ExitCode)})
}

func (e *Engine) remove(w http.ResponseWriter, req *http.Request, c *container) error {
	if c.snapshot().Running {
		if !flag(req, "force") {
			return refusal(http.StatusConflict, "cannot remove container %q: container is running: stop the container before removing or force remove", "/"+c.plainName())
		}
		proc, supervised := c.giveUp()
		if proc != nil {
			proc.killGroup()
		}
		<-supervised
	}
	e.discard(c)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// discard removes a container that does not run.
func (e *Engine) discard(c *container) {
	e.forget(c)
	c.mu.Lock()
	c.removed = true
	c.wake()
	c.mu.Unlock()
}
