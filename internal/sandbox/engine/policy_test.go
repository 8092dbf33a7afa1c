package engine_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// quick is a machine whose images need no pull and whose starts take no time.
func quick(cfg *engine.Config, facts *machinefs.Facts) {
	cfg.Images = append(cfg.Images, engine.Image{Ref: testImage, Local: true})
	facts.Speed = 3000
}

// TestARestartLoopIsCounted: a container that dies on every start is seen
// by its restart count, and a stop ends the loop.
func TestARestartLoopIsCounted(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	r.setFacts(func(f *machinefs.Facts) { f.VLLM.Fail = "out_of_memory" })
	host := published("8000")
	host.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyUnlessStopped}
	id := r.create("loop", host)
	r.start(id)
	testkit.Eventually(r.t, "three restarts", func() bool { return r.inspect(id).RestartCount >= 3 })
	if _, err := r.docker.ContainerStop(r.ctx(), id, client.ContainerStopOptions{}); err != nil {
		t.Fatal(err)
	}
	got := r.inspect(id)
	if got.State.Running || got.State.Restarting || got.State.Status != container.StateExited || got.State.ExitCode == 0 {
		t.Errorf("after stop: %+v", got.State)
	}
	if again := r.inspect(id); again.RestartCount != got.RestartCount {
		t.Errorf("restarted after a stop: %d, then %d", got.RestartCount, again.RestartCount)
	}
	stdout, _ := r.logs(id, everything)
	if n := strings.Count(stdout, "CUDA out of memory"); n < 3 {
		t.Errorf("the log has %d failures, want one for every run that ended", n)
	}
}

func TestOnFailureStopsCounting(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	host := &container.HostConfig{RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 2}}
	id := r.create("bad", host, testModel, "--no-such-flag")
	r.start(id)
	wait := r.docker.ContainerWait(r.ctx(), id, client.ContainerWaitOptions{})
	select {
	case result := <-wait.Result:
		if result.StatusCode != 2 {
			t.Errorf("exit code %d, want argparse's 2", result.StatusCode)
		}
	case err := <-wait.Error:
		t.Fatal(err)
	}
	// That was the first end: waiting for a container that restarts ends with its run.
	testkit.Eventually(r.t, "the last end", func() bool { return !r.inspect(id).State.Running })
	if got := r.inspect(id); got.RestartCount != 2 || got.State.ExitCode != 2 {
		t.Errorf("RestartCount = %d, want 2: %+v", got.RestartCount, got.State)
	}
	_, stderr := r.logs(id, everything)
	if !strings.Contains(stderr, "vllm: error: unrecognized arguments: --no-such-flag") {
		t.Errorf("stderr: %s", stderr)
	}
}

func TestAPolicySetLaterRestartsACrash(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	id := r.create("vllm", published("8000"))
	r.start(id)
	r.awaitReady(8000)
	policy := container.RestartPolicy{Name: container.RestartPolicyUnlessStopped}
	if _, err := r.docker.ContainerUpdate(r.ctx(), id, client.ContainerUpdateOptions{RestartPolicy: &policy}); err != nil {
		t.Fatal(err)
	}
	first := r.inspect(id)
	if first.HostConfig.RestartPolicy.Name != container.RestartPolicyUnlessStopped {
		t.Errorf("policy: %+v", first.HostConfig.RestartPolicy)
	}
	if err := r.engine.KillContainer("vllm"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(r.t, "the restart", func() bool {
		got := r.inspect(id)
		return got.RestartCount == 1 && got.State.Status == container.StateRunning && got.State.Pid != first.State.Pid
	})
	r.awaitReady(8000)
}

func TestACrashWithoutAPolicyIsTheEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	for name, crash := range map[string]func(string) error{"killed": r.engine.KillContainer, "oom": r.engine.OutOfMemory} {
		id := r.create(name, withGPUs())
		r.start(id)
		if err := crash(id); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(r.t, "the end", func() bool { return !r.inspect(id).State.Running })
		if s := r.inspect(id).State; s.ExitCode != 137 || s.OOMKilled != (name == "oom") || s.FinishedAt == "" {
			t.Errorf("%s: %+v", name, s)
		}
		if err := crash(id); err == nil {
			t.Errorf("%s: a container that does not run was killed", name)
		}
	}
}

func TestKillAndStopWithoutGrace(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	host := withGPUs()
	host.RestartPolicy.Name = container.RestartPolicyAlways
	id := r.create("vllm", host)
	r.start(id)
	if _, err := r.docker.ContainerKill(r.ctx(), id, client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(r.t, "the end", func() bool { return !r.inspect(id).State.Running })
	if s := r.inspect(id).State; s.ExitCode != 137 {
		t.Errorf("after KILL: %+v", s)
	}
	_, err := r.docker.ContainerKill(r.ctx(), id, client.ContainerKillOptions{Signal: "KILL"})
	wantError(t, err, "is not running")

	// A process that ignores TERM is killed when its time is up.
	stubborn := r.createRaw("stubborn", &container.Config{Image: testImage, Entrypoint: []string{"sh"}, Cmd: []string{"-c", "trap '' TERM; echo up; while :; do sleep 1; done"}}, nil)
	r.start(stubborn)
	testkit.Eventually(r.t, "the trap", func() bool { out, _ := r.logs(stubborn, everything); return out == "up\n" })
	zero := 0
	if _, err := r.docker.ContainerStop(r.ctx(), stubborn, client.ContainerStopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	if s := r.inspect(stubborn).State; s.ExitCode != 137 || s.Running {
		t.Errorf("stubborn: %+v", s)
	}
}

func TestRestartKeepsTheContainer(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	id := r.create("vllm", published("8000"))
	r.start(id)
	r.awaitReady(8000)
	before := r.inspect(id)
	if _, err := r.docker.ContainerRestart(r.ctx(), id, client.ContainerRestartOptions{}); err != nil {
		t.Fatal(err)
	}
	after := r.inspect(id)
	if !after.State.Running || after.State.Pid == before.State.Pid || after.State.StartedAt == before.State.StartedAt || after.RestartCount != 0 {
		t.Errorf("before %+v, after %+v", before.State, after.State)
	}
	r.awaitReady(8000)
}

func TestRemoveNeedsForceWhileRunning(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	id := r.create("vllm", published("8000"))
	r.start(id)
	pid := r.inspect(id).State.Pid
	_, err := r.docker.ContainerRemove(r.ctx(), id, client.ContainerRemoveOptions{})
	wantError(t, err, "or force remove")
	waiting := r.docker.ContainerWait(r.ctx(), id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	if _, err := r.docker.ContainerRemove(r.ctx(), id, client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-waiting.Result:
	case err := <-waiting.Error:
		t.Error(err)
	}
	if !gone(pid) {
		t.Error("the process is still there")
	}
	_, err = r.docker.ContainerRemove(r.ctx(), id, client.ContainerRemoveOptions{Force: true})
	wantError(t, err, "No such container")
	if claims, err := r.root.Claims(); err != nil || len(claims) != 0 {
		t.Errorf("GPU memory is still held: %v, %v", claims, err)
	}
}

// TestCloseLeavesNoProcess: whatever containers do, none survives the engine.
func TestCloseLeavesNoProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	var pids []int
	for i := range 3 {
		host := &container.HostConfig{RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyAlways}}
		id := r.createRaw(fmt.Sprintf("c%d", i), &container.Config{Image: testImage, Entrypoint: []string{"sh"}, Cmd: []string{"-c", "trap '' TERM; sleep 300 & echo $!; wait; sleep 300"}}, host)
		r.start(id)
		testkit.Eventually(r.t, "the child", func() bool { out, _ := r.logs(id, everything); return out != "" })
		out, _ := r.logs(id, everything)
		var child int
		if _, err := fmt.Sscan(out, &child); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, child, r.inspect(id).State.Pid)
	}
	follow, err := r.docker.ContainerLogs(context.WithoutCancel(r.ctx()), "c0", client.ContainerLogsOptions{ShowStdout: true, Follow: true})
	if err != nil {
		t.Fatal(err)
	}
	defer follow.Close()
	closed := make(chan struct{})
	go func() { defer close(closed); r.engine.Close() }()
	select {
	case <-closed:
	case <-time.After(30 * time.Second):
		t.Fatal("Close does not return")
	}
	for _, pid := range pids {
		testkit.Eventually(r.t, "the end of every process", func() bool { return gone(pid) })
	}
	_, err = r.docker.ContainerInspect(r.ctx(), "c0", client.ContainerInspectOptions{})
	wantError(t, err, "shutting down")
}

// createRaw creates a container from its own configuration.
func (r *rig) createRaw(name string, config *container.Config, host *container.HostConfig) string {
	r.t.Helper()
	created, err := r.docker.ContainerCreate(r.ctx(), client.ContainerCreateOptions{Name: name, Config: config, HostConfig: host})
	if err != nil {
		r.t.Fatalf("creating %s: %v", name, err)
	}
	return created.ID
}
