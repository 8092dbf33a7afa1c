package lifecycle_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// A launch that is cut off, as by a provider that was killed, is found by the next one: what is still wanted is taken over.
func TestCutOffLaunchIsTakenOver(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load = 400 * time.Second })
		failed := cutOff(t, r, request(), deploy.PhaseLoad)
		contains(t, failed.Description(), "may still be running", "next apply")
		if n := r.servers(t); n > 1 {
			t.Fatalf("%d servers run after the cut", n)
		}
		r.Client = r.dial(t)
		status := launch(t, r, request())
		if n := r.servers(t); n != 1 {
			t.Errorf("%d servers run, want 1", n)
		}
		if r.engine != nil && len(r.containers(t)) != 1 {
			t.Errorf("containers: %+v", r.containers(t))
		}
		remove(t, r, status)
	})
}

// A server that an interrupted launch left is removed if the settings have changed, such as the key.
func TestCutOffLaunchWithAnotherKeyIsRemoved(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		_ = cutOff(t, r, request(), deploy.PhaseCompletion)
		r.Client = r.dial(t)
		wanted := request()
		wanted.Spec.APIKey = "another-key-entirely"
		status := launch(t, r, wanted)
		if err := answers(t, r, status, "another-key-entirely"); err != nil {
			t.Error(err)
		}
		if n := r.servers(t); n != 1 {
			t.Errorf("%d servers run, want 1", n)
		}
		remove(t, r, status)
		r.clean(t)
	})
}

// A connection lost in any phase ends the launch at once with an error that says so.
func TestConnectionLostInEachPhase(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		for _, phase := range []deploy.Phase{deploy.PhasePreflight, deploy.PhasePull, deploy.PhaseStart, deploy.PhaseLoad, deploy.PhaseCompletion} {
			begun := time.Now()
			_ = cutOff(t, r, request(), phase)
			if took := time.Since(begun); took > limit/2 {
				t.Errorf("%s: took %s", phase, took)
			}
			r.Client = r.dial(t)
		}
		status := launch(t, r, request())
		if n := r.servers(t); n != 1 {
			t.Errorf("%d servers run, want 1", n)
		}
		remove(t, r, status)
		r.clean(t)
	})
}

// cutOff launches and closes the connection at the begin of a phase.
func cutOff(t *testing.T, r *rig, request lifecycle.Request, phase deploy.Phase) *deploy.Error {
	t.Helper()
	seen := &events{on: func(e lifecycle.Event) {
		if e.Phase == phase {
			_ = r.Client.Close()
		}
	}}
	request.Progress = seen.add
	_, err := lifecycle.Launch(within(t, limit), r, request)
	if err == nil {
		t.Fatalf("%s: launched without a connection\n%s", phase, seen.text())
	}
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: waited for the deadline: %v", phase, err)
	}
	return wantError(t, r, err)
}

// A container of the same name that isn't ours is named and not touched.
func TestForeignContainerIsNotTouched(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	r.api(t, http.MethodPost, "/v1.41/images/create?fromImage=vllm/vllm-openai&tag=v0.33.0", "", nil)
	var made struct{ ID string }
	testkit.Eventually(t, "a foreign container", func() bool {
		return r.api(t, http.MethodPost, "/v1.41/containers/create?name=chat", `{"Image":"`+image+`","Cmd":["serve","x"]}`, &made) == http.StatusCreated
	})
	failed := launchFails(t, r, request(), limit)
	contains(t, failed.Description(), "chat", made.ID[:12], "not touched")
	left := r.containers(t)
	if len(left) != 1 || left[0].ID != made.ID {
		t.Errorf("containers: %+v", left)
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		first := launch(t, r, request())
		wanted := request()
		wanted.Spec.MaxModelLen, wanted.Spec.APIKey = 2048, "the-second-key"
		second, err := lifecycle.Replace(within(t, limit), r, first.Ref, wanted, lifecycle.Rollback)
		if err != nil {
			t.Fatalf("%v\n%s", err, describe(err))
		}
		if second.ID == first.ID || second.ServedMaxModelLen != 2048 || second.SpecHash == first.SpecHash {
			t.Errorf("replaced: %+v", second)
		}
		if err := answers(t, r, second, "the-second-key"); err != nil {
			t.Error(err)
		}
		if n := r.servers(t); n != 1 {
			t.Errorf("%d servers run, want 1", n)
		}
		gone, err := lifecycle.Inspect(within(t, limit), r, first.Ref)
		if err != nil || gone.State != deploy.Gone {
			t.Errorf("the old one: %s, %v", gone.State, err)
		}
		remove(t, r, second)
		r.clean(t)
	})
}

func TestReplaceRollsBack(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		first := launch(t, r, request())
		wanted := request()
		wanted.Spec.APIKey = "the-second-key"
		wanted.Spec.ExtraArgs = []string{"--no-such-flag"}
		back, err := lifecycle.Replace(within(t, limit), r, first.Ref, wanted, lifecycle.Rollback)
		failed := wantError(t, r, err)
		contains(t, failed.Description(), "The old server is running again and has answered", "no-such-flag",
			"The server that was started has been removed from the machine.")
		if back.State != deploy.Running || back.SpecHash != first.SpecHash || back.Name != first.Name || !back.RestartsItself {
			t.Errorf("brought back: %+v\nfirst: %+v", back, first)
		}
		if err := answers(t, r, back, testKey); err != nil {
			t.Error(err)
		}
		if n := r.servers(t); n != 1 {
			t.Errorf("%d servers run, want 1", n)
		}
		remove(t, r, back)
		r.clean(t)
	})
}

func TestReplaceKeeps(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		first := launch(t, r, request())
		wanted := request()
		wanted.Spec.ExtraArgs = []string{"--no-such-flag"}
		_, err := lifecycle.Replace(within(t, limit), r, first.Ref, wanted, lifecycle.Keep)
		failed := wantError(t, r, err)
		contains(t, failed.Description(), "old server is stopped", "debugging")
		// A plain replacement clears up.
		wanted = request()
		status, err := lifecycle.Replace(within(t, limit), r, first.Ref, wanted, lifecycle.Rollback)
		if err != nil {
			t.Fatalf("%v\n%s", err, describe(err))
		}
		remove(t, r, status)
		r.clean(t)
	})
}

// Removing a deployment whose failed update was kept removes both servers, whatever their state.
func TestRemoveTakesWhatAnUpdateLeft(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		first := launch(t, r, request())
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Hang = true })
		wanted := request()
		wanted.Spec.MaxModelLen, wanted.ReadyTimeout = 2048, 3*time.Second
		_, err := lifecycle.Replace(within(t, limit), r, first.Ref, wanted, lifecycle.Keep)
		contains(t, wantError(t, r, err).Description(), "left for debugging")
		if n := r.servers(t); n != 1 {
			t.Fatalf("%d servers run, want the one that was left", n)
		}
		remove(t, r, first)
		r.clean(t)
	})
}

// A failure of preflight doesn't touch the old server.
func TestReplaceLeavesTheOldOneWhenPreflightFails(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		first := launch(t, r, request())
		wanted := request()
		wanted.Spec.TensorParallelSize = 2
		_, err := lifecycle.Replace(within(t, limit), r, first.Ref, wanted, lifecycle.Rollback)
		failed := wantError(t, r, err)
		contains(t, failed.Description(), "not touched")
		if err := answers(t, r, first, testKey); err != nil {
			t.Error(err)
		}
		remove(t, r, first)
	})
}

// An old server that has died, or is gone, is no obstacle to a new one.
func TestReplaceOfADeadServer(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		first := launch(t, r, request())
		remove(t, r, first)
		second, err := lifecycle.Replace(within(t, limit), r, first.Ref, request(), lifecycle.Rollback)
		if err != nil {
			t.Fatalf("%v\n%s", err, describe(err))
		}
		remove(t, r, second)
	})
}

func TestRestart(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		first := launch(t, r, request())
		again, err := lifecycle.Restart(within(t, limit), r, first.Ref, request())
		if err != nil {
			t.Fatalf("%v\n%s", err, describe(err))
		}
		if again.SpecHash != first.SpecHash || again.State != deploy.Running || !again.RestartsItself {
			t.Errorf("restarted: %+v", again)
		}
		log, err := lifecycle.LogTail(within(t, limit), r, again.Ref, 400)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(log, "\n")
		if r.engine == nil { // what the process's log holds is told apart by the launcher's line
			_, text, _ = strings.Cut(text, vllm.StartLine)
		}
		if n := strings.Count(text, "Application startup complete"); n != 1 {
			t.Errorf("the log of the last start holds %d starts:\n%s", n, text)
		}
		if err := answers(t, r, again, testKey); err != nil {
			t.Error(err)
		}
		remove(t, r, again)
		r.clean(t)
	})
}

// A server that dies after it has answered is restarted.
func TestServerThatDiesComesBack(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		status := launch(t, r, request())
		killServer(t, r)
		testkit.Eventually(t, "an answer after the restart", func() bool { return answers(t, r, status, testKey) == nil })
		after, err := lifecycle.Inspect(within(t, limit), r, status.Ref)
		if err != nil || after.ID != status.ID || after.RestartCount != 1 || after.RestartLoop {
			t.Errorf("after one restart: %+v, %v", after, err)
		}
		remove(t, r, status)
	})
}

// After a reboot a process is seen to have ended, for its secrets are on no disk; a replacement starts it again, and what
// has its numbers by now is left alone.
func TestProcessAfterAReboot(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	status := launch(t, r, processRequest())
	pid, _, _ := strings.Cut(status.ID, "-")
	supervisor, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(-supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the end of all that ran", func() bool { return r.servers(t) == 0 })
	if err := os.WriteFile(filepath.Join(status.Directory, "boot"), []byte("another one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen, err := lifecycle.Inspect(within(t, limit), r, status.Ref)
	if err != nil || seen.State != deploy.Exited || seen.SpecHash != status.SpecHash {
		t.Errorf("after the reboot: %+v, %v", seen, err)
	}
	again, err := lifecycle.Replace(within(t, limit), r, status.Ref, processRequest(), lifecycle.Rollback)
	if err != nil {
		t.Fatalf("%v\n%s", err, describe(err))
	}
	if err := answers(t, r, again, testKey); err != nil || r.servers(t) != 1 {
		t.Errorf("%d servers, %v", r.servers(t), err)
	}
	if _, err := os.Stat(status.Directory); !os.IsNotExist(err) {
		t.Errorf("the old server's directory is left: %v", err)
	}
	remove(t, r, again)
}

// Several deployments' launches on one machine don't disturb each other.
func TestTwoDeploymentsOnOneMachine(t *testing.T) {
	t.Parallel()
	facts := vm()
	facts.GPUs = append(facts.GPUs, machinefs.GPU{
		Name: facts.GPUs[0].Name, UUID: "GPU-second", MemoryMiB: 24564, ComputeCapability: "8.9",
	})
	r := newRig(t, facts)
	results := make(chan error, 2)
	for i, name := range []string{"one", "two"} {
		wanted := request()
		wanted.Name, wanted.Owner, wanted.Container.GPUs = name, "test/"+name, "device="+itoa(i)
		wanted.Spec.Port = 8000 + i
		go func() {
			_, err := lifecycle.Launch(within(t, limit), r, wanted)
			results <- err
		}()
	}
	for range 2 {
		if err := <-results; err != nil {
			t.Errorf("%v\n%s", err, describe(err))
		}
	}
	if n := r.servers(t); n != 2 {
		t.Errorf("%d servers, want 2", n)
	}
}

// A deployment whose runtime changes doesn't run twice: neither after a launch that was cut off, nor after a replacement.
func TestLeftoverOfTheOtherRuntimeIsRemoved(t *testing.T) {
	t.Parallel()
	facts := vm()
	facts.VLLM.Installed = "0.33.0"
	r := newRig(t, facts)
	_ = cutOff(t, r, processRequest(), deploy.PhaseLoad)
	r.Client = r.dial(t)
	status := launch(t, r, request())
	if n := r.servers(t); n != 1 {
		t.Errorf("%d servers run, want 1", n)
	}
	moved, err := lifecycle.Replace(within(t, limit), r, status.Ref, processRequest(), lifecycle.Rollback)
	if err != nil {
		t.Fatalf("%v\n%s", err, describe(err))
	}
	if moved.Runtime != deploy.Process || r.servers(t) != 1 || len(r.containers(t)) != 0 {
		t.Errorf("moved to %s; %d servers, containers %v", moved.Runtime, r.servers(t), r.containers(t))
	}
	remove(t, r, moved)
	r.clean(t)
}
