package lifecycle_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// A cancel ends whatever is under way, waits for it, and leaves nothing behind.
func TestCancelLeavesNothing(t *testing.T) {
	t.Parallel()
	phases := []struct {
		phase deploy.Phase
		facts func(*machinefs.Facts)
	}{
		{deploy.PhasePull, func(*machinefs.Facts) {}},
		{deploy.PhaseStart, func(*machinefs.Facts) {}},
		{deploy.PhaseLoad, func(f *machinefs.Facts) { f.VLLM.Load = time.Hour }},
		{deploy.PhaseCompletion, func(f *machinefs.Facts) { f.VLLM.Hang = true }},
	}
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		for _, p := range phases {
			r.facts(t, p.facts)
			ctx, cancel := context.WithCancel(within(t, limit))
			seen := &events{on: func(e lifecycle.Event) {
				if e.Phase == p.phase {
					cancel()
				}
			}}
			wanted := request()
			wanted.Progress = seen.add
			_, err := lifecycle.Launch(ctx, r, wanted)
			failed := wantError(t, r, err)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: cancelling isn't recognizable in: %v", p.phase, err)
			}
			if failed.Remains != "" {
				t.Errorf("%s: left behind: %s", p.phase, failed.Remains)
			}
			contains(t, failed.Description(), "canceled")
			if failed.Summary != "Interrupted during the phase "+string(p.phase) {
				t.Errorf("%s: %s", p.phase, failed.Summary)
			}
			r.clean(t)
			r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load, f.VLLM.Hang = 0, false })
		}
	})
}

// What a user can set travels as data, through the SSH server's real shell too.
func TestHostileValuesStayData(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		planted := t.TempDir()
		hostile := strings.ReplaceAll("a'b\"c $(touch pwned1) `touch pwned2`; touch pwned3 & \\ | > pwned4 *~!#%{}[]é", "pwned", planted+"/")
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.AnyModel = true })
		wanted := request()
		wanted.Spec.Model = "org/" + hostile
		wanted.Spec.ServedModelName = "name " + hostile
		wanted.Spec.Revision = hostile
		wanted.Spec.ExtraArgs = []string{"--chat-template", "line one\nline two " + hostile}
		wanted.Spec.Env = map[string]string{"HOSTILE": hostile + "\nsecond line\n\n", "EMPTY": "", "PERCENT": `%s\n\0101`}
		wanted.Owner = "o'wner $(touch " + planted + "/5)"
		status := launch(t, r, wanted)
		for _, value := range []string{wanted.Spec.Model, wanted.Spec.ServedModelName, hostile, wanted.Spec.ExtraArgs[1]} {
			if !slices.Contains(status.Arguments, value) {
				t.Errorf("%q is not among the arguments %q", value, status.Arguments)
			}
		}
		line, environ := serverProcess(t, r)
		if status.Runtime == deploy.Container { // where the server listens on all addresses
			line[slices.Index(line, "0.0.0.0")] = "127.0.0.1"
		}
		if !slices.Equal(line[len(line)-len(status.Arguments):], status.Arguments) {
			t.Errorf("the process has the arguments\n%q\nwant\n%q", line, status.Arguments)
		}
		for name, value := range wanted.Spec.Env {
			if !slices.Contains(environ, name+"="+value) || status.Environment[name] != value {
				t.Errorf("%s is not %q in the process's environment; status says %q", name, value, status.Environment[name])
			}
		}
		remove(t, r, status)
		if made, err := os.ReadDir(planted); err != nil || len(made) > 0 {
			t.Errorf("values were run as commands: %v, %v", made, err)
		}
	})
}

// serverProcess is the command line and environment of the one server that holds GPU memory.
func serverProcess(t *testing.T, r *rig) (line, environ []string) {
	t.Helper()
	claims, err := r.machine.Root().Claims()
	if err != nil || len(claims) == 0 {
		t.Fatalf("no server holds GPU memory: %v", err)
	}
	read := func(name string) []string {
		data, err := os.ReadFile("/proc/" + itoa(claims[0].PID) + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	}
	return read("cmdline"), read("environ")
}

// No secret is in any process list, and none in a command that is run on the machine; the
// health checks run no command at all.
func TestSecretsOutOfProcessLists(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		status := launch(t, r, request())
		_, environ := serverProcess(t, r)
		if !slices.Contains(environ, "VLLM_API_KEY="+testKey) || !slices.Contains(environ, "HF_TOKEN="+testToken) {
			t.Error("the server doesn't have its secrets")
		}
		noSecrets(t, r)
		if r.starts() == 0 {
			t.Errorf("the server's command was not recorded:\n%q", r.machine.CommandLog())
		}
		// Nor is one in a file, but the engine's own record of a container's environment.
		files := 0
		_ = filepath.WalkDir(string(r.machine.Root()), func(path string, entry os.DirEntry, err error) error {
			if err != nil || !entry.Type().IsRegular() {
				return nil //nolint:nilerr // gone since the directory was read
			}
			files++
			data, err := os.ReadFile(path)
			if err == nil && (strings.Contains(string(data), testKey) || strings.Contains(string(data), testToken)) {
				t.Errorf("a secret is in the file %s", path)
			}
			return nil
		})
		if files < 5 {
			t.Errorf("the machine has %d files", files)
		}
		remove(t, r, status)
	})
}

// See above.
func TestHealthChecksRunNoCommand(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		status := launch(t, r, request())
		for _, line := range r.machine.CommandLog() {
			for _, word := range []string{"curl", "wget", "Authorization", "Bearer", "/v1/"} {
				if strings.Contains(line, word) {
					t.Errorf("a command asks the server: %q", line)
				}
			}
		}
		if r.starts() == 0 {
			t.Errorf("the server's command was not recorded:\n%q", r.machine.CommandLog())
		}
		remove(t, r, status)
	})
}

// A start that fails is explained from its log, and then removed: the container by its id, the
// process with its whole group and its GPU memory.
func TestFailedLaunchIsExplainedAndRemoved(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		// Every row once, in one of the two ways: the log is read by the same code. What an engine reports needs one.
		for i, failure := range vllmserver.Failures() {
			if inContainer := failure.Container || i%2 == 0; inContainer != (r.engine != nil) {
				continue
			}
			r.facts(t, func(f *machinefs.Facts) { f.VLLM.Fail = failure.Name })
			failed := launchFails(t, r, request(), limit)
			if failed.Cause == "" || failed.WayOut == "" {
				t.Errorf("%s isn't explained: %s\n%s", failure.Name, failed, failed.Description())
			}
			if errors.Is(failed, context.DeadlineExceeded) {
				t.Errorf("%s: waited for the timeout although the server had died", failure.Name)
			}
			if failed.LogErr != nil || failed.Remains != "" {
				t.Errorf("%s: log %v, remains %q", failure.Name, failed.LogErr, failed.Remains)
			}
			r.clean(t)
		}
	})
}

// A server that hangs is killed with its whole session, and its GPU memory is back.
func TestHungProcessIsKilledWithItsGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	r.facts(t, func(f *machinefs.Facts) { f.VLLM.Hang = true })
	wanted := processRequest()
	wanted.ReadyTimeout = 8 * time.Second
	failed := launchFails(t, r, wanted, limit)
	if failed.Phase != deploy.PhaseCompletion || !errors.Is(failed, context.DeadlineExceeded) {
		t.Errorf("got %v, want a timeout of the completion", failed)
	}
	contains(t, failed.Description(), "The server is healthy (/health answers 200), but its engine hangs: none came within")
	if strings.Contains(failed.Description(), "context deadline exceeded") {
		t.Error(failed.Description())
	}
	if left := r.machine.Root().Processes(); len(left) > 0 {
		t.Errorf("processes are left: %v", left)
	}
	r.clean(t)
}

// A container is known by its id and restart count, a process by pid and start time.
func TestRestartLoopIsRecognized(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		status := launch(t, r, request())
		// From now on every start fails.
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Fail = "out_of_memory" })
		killServer(t, r)
		var after deploy.Status
		testkit.Eventually(t, "a restart loop", func() bool {
			var err error
			after, err = lifecycle.Inspect(within(t, limit), r, status.Ref)
			if err != nil {
				t.Fatal(err)
			}
			return after.RestartLoop
		})
		if after.ID != status.ID || after.RestartCount < 1 {
			t.Errorf("got id %s after %d restarts, want the same id %s", after.ID, after.RestartCount, status.ID)
		}
		remove(t, r, status)
	})
}

// A pid that was given to another process since isn't taken for the server.
func TestAnotherProcessWithThePIDIsNotTheServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	status := launch(t, r, processRequest())
	other := status.Ref
	pid, _, _ := strings.Cut(other.ID, "-")
	other.ID = pid + "-1"
	seen, err := lifecycle.Inspect(within(t, limit), r, other)
	if err != nil || seen.State != deploy.Gone {
		t.Errorf("another start time: %s, %v; want gone", seen.State, err)
	}
	if _, err := lifecycle.Remove(within(t, limit), r, other, lifecycle.Request{}); err != nil {
		t.Error(err)
	}
	if err := answers(t, r, status, testKey); err != nil {
		t.Errorf("removing another identity ended the server: %v", err)
	}
	remove(t, r, status)
}

func killServer(t *testing.T, r *rig) {
	t.Helper()
	claims, err := r.machine.Root().Claims()
	if err != nil || len(claims) != 1 {
		t.Fatalf("%d servers, %v; want 1", len(claims), err)
	}
	process, err := os.FindProcess(claims[0].PID)
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// deaf is a machine on which some commands can't be run.
type deaf struct {
	deploy.Machine
	refuse func(args []string) bool
}

var errDeaf = errors.New("no such luck")

func (d deaf) Run(ctx context.Context, cmd host.Command) (host.Result, error) {
	if d.refuse(cmd.Args) {
		return host.Result{}, errDeaf
	}
	return d.Machine.Run(ctx, cmd)
}

// The error says that the log could not be read.
func TestUnreadableLogIsSaid(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	r.facts(t, func(f *machinefs.Facts) { f.VLLM.Fail = "out_of_memory" })
	_, err := lifecycle.Launch(within(t, limit), deaf{r, func(args []string) bool { return args[0] == "tail" }}, processRequest())
	failed := wantError(t, r, err)
	if !errors.Is(failed.LogErr, errDeaf) {
		t.Errorf("LogErr is %v", failed.LogErr)
	}
	contains(t, failed.Description(), "log could not be read", "no such luck")
	r.clean(t)
}

// A server that is killed while it loads doesn't log that. The engine reports that the kernel did it because memory was full; for a
// process, only the kernel's counters show it (probe_test.go).
func TestKilledWhileLoading(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load = time.Hour })
		killed := make(chan struct{})
		seen := &events{on: func(e lifecycle.Event) {
			if e.Message != "waiting for the model to load" {
				return
			}
			go func() {
				defer close(killed)
				testkit.Eventually(t, "a server", func() bool { return r.servers(t) == 1 })
				if r.engine == nil {
					killServer(t, r)
				} else if err := r.engine.OutOfMemory("chat"); err != nil {
					t.Error(err)
				}
			}()
		}}
		wanted := request()
		wanted.Progress = seen.add
		failed := launchFails(t, r, wanted, limit)
		<-killed
		if errors.Is(failed, context.DeadlineExceeded) || failed.Phase != deploy.PhaseLoad {
			t.Errorf("%s: %v", failed.Phase, failed)
		}
		contains(t, failed.Description(), "exit code 137")
		if r.engine != nil {
			contains(t, failed.Description(), "The kernel killed a part of vLLM", "RAM, not the GPU's", "more RAM")
		}
		r.clean(t)
	})
}

func TestLoadTimeoutNamesPhaseAndProgress(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load = time.Hour })
		wanted := request()
		wanted.ReadyTimeout = 3 * time.Second
		failed := launchFails(t, r, wanted, limit)
		if failed.Phase != deploy.PhaseLoad || !errors.Is(failed, context.DeadlineExceeded) {
			t.Errorf("got %v, want a timeout of the load", failed)
		}
		contains(t, failed.Description(), "phase load timed out", "Last seen")
		if len(failed.Log) == 0 {
			t.Error("the log's end is missing")
		}
		r.clean(t)
	})
}

func TestKeepFailedLeavesTheServerAndSaysHowToReachIt(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Fail = "out_of_memory" })
		wanted := request()
		wanted.KeepFailed = true
		failed := launchFails(t, r, wanted, limit)
		contains(t, failed.Remains, "log", "debugging")
		// The next launch clears it away.
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Fail = "" })
		status := launch(t, r, request())
		if r.engine != nil && len(r.containers(t)) != 1 {
			t.Errorf("containers: %+v", r.containers(t))
		}
		remove(t, r, status)
		r.clean(t)
	})
}
