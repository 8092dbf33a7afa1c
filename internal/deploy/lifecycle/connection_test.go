package lifecycle_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// line is a machine that is logged in to again, as the provider uses it.
func (r *rig) line(t *testing.T) *host.Line {
	t.Helper()
	pool := new(host.Pool)
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	line, err := pool.Open(within(t, limit), r.config)
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// dropsAt cuts every connection to the machine once, when an operation first reports something.
func (r *rig) dropsAt(t *testing.T, line *host.Line, when string) *events {
	t.Helper()
	var once sync.Once
	return &events{on: func(e lifecycle.Event) {
		if !strings.Contains(string(e.Phase)+": "+e.Message, when) {
			return
		}
		once.Do(func() {
			r.machine.DropConnections()
			testkit.Eventually(t, "the loss to be noticed", func() bool { return line.Err() != nil })
		})
	}}
}

// stamps are a launch's messages at the begin of each phase.
const (
	atPreflight  = "preflight: "
	atPull       = "pull: "
	atStart      = "start: starting the server"
	atLoad       = "load: waiting"
	atCompletion = "completion: asking"
	atAnswer     = "completion: the model answered"
	atStop       = "stop: stopping"
	atRollback   = "start: restoring the old server"
	atRemoval    = "load: removing what was started"
)

// A connection that is lost while something is only looked at is made again, and the launch goes on. What was
// being started is not started twice: it is looked for, removed, and the error says so.
func TestLaunchBearsALostConnection(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		for _, when := range []string{atPreflight, atPull, atStart, atLoad, atCompletion, atAnswer} {
			line, wanted := r.line(t), request()
			seen := r.dropsAt(t, line, when)
			wanted.Progress = seen.add
			status, err := lifecycle.Launch(within(t, limit), line, wanted)
			if err != nil {
				t.Fatalf("%s: %v\n%s\n%s", when, err, describe(err), seen.text())
			}
			contains(t, seen.text(), when)
			if n := r.servers(t); n != 1 {
				t.Errorf("%s: %d servers run, want 1", when, n)
			}
			if !status.RestartsItself {
				t.Errorf("%s: it isn't kept running", when)
			}
			r.Client = r.dial(t)
			if err := answers(t, r, status, testKey); err != nil {
				t.Errorf("%s: %v", when, err)
			}
			remove(t, r, status)
			r.clean(t)
		}
	})
}

// A connection that breaks in the middle of a start, so that nobody knows whether it took effect, is made again to take
// back whatever did.
func TestLaunchTakesBackWhatALostStartMade(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		line := r.line(t)
		dropped := make(chan struct{})
		go func() {
			defer close(dropped)
			testkit.Eventually(t, "the server's command", func() bool {
				log := strings.Join(r.machine.CommandLog(), "\n")
				return strings.Contains(log, "serve Qwen")
			})
			r.machine.DropConnections()
		}()
		status, err := lifecycle.Launch(within(t, limit), line, request())
		<-dropped
		r.Client = r.dial(t)
		if err == nil { // the answer had come already
			remove(t, r, status)
		} else {
			contains(t, wantError(t, r, err).Description(), "has been removed from the machine")
		}
		r.clean(t)
	})
}

// The connection of an update is lost at each of its steps. One server runs afterwards and has answered: the new one
// where nothing was in doubt, else the old one; which of them, the error says.
func TestReplaceBearsALostConnection(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		first := launch(t, r, request())
		length := 4096
		for _, test := range []struct {
			when  string
			fails bool // the update fails for another reason
		}{
			{when: atPreflight},
			{when: atPull},
			{when: atStop},
			{when: atStart},
			{when: atLoad},
			{when: atCompletion},
			{when: atAnswer},
			{when: atRemoval, fails: true},
			{when: atRollback, fails: true},
		} {
			line, wanted := r.line(t), request()
			length -= 16
			wanted.Spec.MaxModelLen = length
			if test.fails {
				wanted.Spec.ExtraArgs = []string{"--no-such-flag"}
			}
			seen := r.dropsAt(t, line, test.when)
			wanted.Progress = seen.add
			status, err := lifecycle.Replace(within(t, limit), line, first.Ref, wanted, lifecycle.Rollback)
			contains(t, seen.text(), test.when)
			if err != nil {
				contains(t, describe(err), "The old server is running again and has answered")
			}
			if test.fails != (err != nil) {
				t.Errorf("%s: %v\n%s\n%s", test.when, err, describe(err), seen.text())
			}
			if err == nil && status.ServedMaxModelLen != length {
				t.Errorf("%s: %d tokens are served", test.when, status.ServedMaxModelLen)
			}
			if n := r.servers(t); n != 1 || !status.RestartsItself {
				t.Errorf("%s: %d servers run, kept running: %v", test.when, n, status.RestartsItself)
			}
			r.Client = r.dial(t)
			if err := answers(t, r, status, testKey); err != nil {
				t.Errorf("%s: %v\n%s", test.when, err, seen.text())
			}
			first = status
		}
		remove(t, r, first)
		r.clean(t)
	})
}

// A connection that breaks while the old server is being stopped, or is on its way back, leaves that server or the new
// one, and never both.
func TestReplaceBearsALossInTheMiddle(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		first := launch(t, r, request())
		for _, test := range []struct {
			name  string
			fails bool
			// when is called once the operation has reported this.
			after string
			when  func(started int) bool
		}{
			{"the old server has just ended", false, atStop, func(int) bool { return r.servers(t) == 0 }},
			{"the old server is just started again", true, atRollback, func(started int) bool { return r.starts() > started }},
		} {
			line, wanted := r.line(t), request()
			wanted.Spec.MaxModelLen = 2048
			if test.fails {
				wanted.Spec.ExtraArgs = []string{"--no-such-flag"}
			}
			told := make(chan int, 1)
			seen := &events{on: func(e lifecycle.Event) {
				if strings.Contains(string(e.Phase)+": "+e.Message, test.after) {
					told <- r.starts()
				}
			}}
			wanted.Progress = seen.add
			dropped := make(chan struct{})
			go func() {
				defer close(dropped)
				started := <-told
				testkit.Eventually(t, test.name, func() bool { return test.when(started) })
				r.machine.DropConnections()
			}()
			status, err := lifecycle.Replace(within(t, limit), line, first.Ref, wanted, lifecycle.Rollback)
			<-dropped
			if err != nil {
				contains(t, wantError(t, r, err).Description(), "The old server is running again and has answered")
			} else if test.fails {
				t.Errorf("%s: no error", test.name)
			}
			if n := r.servers(t); n != 1 {
				t.Errorf("%s: %d servers run, want 1\n%s\n%s", test.name, n, describe(err), seen.text())
			}
			r.Client = r.dial(t)
			if err := answers(t, r, status, testKey); err != nil {
				t.Errorf("%s: %v\n%s", test.name, err, seen.text())
			}
			first = status
		}
		remove(t, r, first)
		r.clean(t)
	})
}

// A restart whose connection is lost, before or during it, leaves one running server.
func TestRestartBearsALostConnection(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		status := launch(t, r, request())
		for name, when := range map[string]func() bool{
			"before": func() bool { return true },
			"middle": func() bool { return r.servers(t) == 0 },
		} {
			line, wanted := r.line(t), request()
			told := make(chan struct{}, 1)
			seen := &events{on: func(e lifecycle.Event) {
				if e.Phase == deploy.PhaseStop && strings.HasPrefix(e.Message, "restarting") {
					told <- struct{}{}
				}
			}}
			wanted.Progress = seen.add
			dropped := make(chan struct{})
			go func() {
				defer close(dropped)
				<-told
				testkit.Eventually(t, name, when)
				r.machine.DropConnections()
			}()
			again, err := lifecycle.Restart(within(t, limit), line, status.Ref, wanted)
			<-dropped
			if err != nil {
				t.Fatalf("%s: %v\n%s\n%s", name, err, describe(err), seen.text())
			}
			if n := r.servers(t); n != 1 {
				t.Errorf("%s: %d servers run", name, n)
			}
			r.Client = r.dial(t)
			if err := answers(t, r, again, testKey); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			status = again
		}
		remove(t, r, status)
		r.clean(t)
	})
}

// Inspect and Remove are done again if the connection is lost.
func TestInspectAndRemoveBearALostConnection(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		status := launch(t, r, request())
		line := r.line(t)
		lose := func() {
			r.machine.DropConnections() // and whether that has been noticed is left open
		}
		lose()
		if seen, err := lifecycle.Inspect(within(t, limit), line, status.Ref); err != nil || seen.State != deploy.Running {
			t.Errorf("inspected: %s, %v", seen.State, err)
		}
		lose()
		if found, err := lifecycle.Find(within(t, limit), line, status.Ref); err != nil || len(found) != 1 {
			t.Errorf("found: %v, %v", found, err)
		}
		lose()
		if _, err := lifecycle.Remove(within(t, limit), line, status.Ref, lifecycle.Request{}); err != nil {
			t.Error(err)
		}
		r.clean(t)
	})
}

// starts counts the servers that were ever started on the machine.
func (r *rig) starts() int {
	count := 0
	for _, line := range r.machine.CommandLog() {
		if strings.Contains(line, "serve Qwen") {
			count++
		}
	}
	return count
}

// vanishing is a machine that can't be reached any more, and not logged in to again.
type vanishing struct {
	*host.Client
	gone atomic.Bool
}

func (v *vanishing) err() error {
	if v.gone.Load() {
		return &host.Error{Op: "reconnect to", Kind: host.Unreachable, Err: errors.New("no answer")}
	}
	return nil
}

func (v *vanishing) Run(ctx context.Context, cmd host.Command) (host.Result, error) {
	if err := v.err(); err != nil {
		return host.Result{}, err
	}
	return v.Client.Run(ctx, cmd)
}

func (v *vanishing) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := v.err(); err != nil {
		return nil, err
	}
	return v.Client.DialContext(ctx, network, address)
}

func (v *vanishing) Pipe(ctx context.Context, args ...string) (net.Conn, error) {
	if err := v.err(); err != nil {
		return nil, err
	}
	conn, err := v.Client.Pipe(ctx, args...)
	return &vanishingConn{conn, v}, err
}

// vanishingConn ends when its machine is gone.
type vanishingConn struct {
	net.Conn
	machine *vanishing
}

func (c *vanishingConn) Write(p []byte) (int, error) {
	if err := c.machine.err(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// A machine that can't be reached any more in the middle of an update: the error says what is known of both servers, and
// the old one isn't started beside a new one that may still run.
func TestReplaceLosesTheMachine(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		first := launch(t, r, request())
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load = time.Hour })
		line, wanted := &vanishing{Client: r.dial(t)}, request()
		wanted.Spec.MaxModelLen = 2048
		seen := &events{on: func(e lifecycle.Event) { line.gone.Store(line.gone.Load() || e.Phase == deploy.PhaseLoad) }}
		wanted.Progress = seen.add
		status, err := lifecycle.Replace(within(t, limit), line, first.Ref, wanted, lifecycle.Rollback)
		failed := wantError(t, r, err)
		contains(t, failed.Description(), "may still be running and hold GPU memory", "The old server is stopped", "not"+
			" restarted", "The old server, stopped: ")
		if status.ID != "" {
			t.Errorf("it says that this runs: %+v", status)
		}
		if n := r.servers(t); n > 1 {
			t.Errorf("%d servers run", n)
		}
		// Once it is back, a plain update clears up.
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load = 0 })
		status, err = lifecycle.Replace(within(t, limit), r, first.Ref, request(), lifecycle.Rollback)
		if err != nil {
			t.Fatalf("%v\n%s", err, describe(err))
		}
		if n := r.servers(t); n != 1 {
			t.Errorf("%d servers run, want 1", n)
		}
		remove(t, r, status)
		r.clean(t)
	})
}
