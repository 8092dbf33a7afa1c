package lifecycle_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

func TestProcessIsInstalledOnce(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.VLLM.Installed = ""
	r := newRig(t, facts)
	status := launch(t, r, processRequest())
	if status.VLLMVersion != "0.33.0" {
		t.Errorf("version %q", status.VLLMVersion)
	}
	remove(t, r, status)
	remove(t, r, launch(t, r, processRequest()))
	if n := r.installs(); n != 1 {
		t.Errorf("installed %d times", n)
	}
}

func TestCanceledInstallIsResumed(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.VLLM.Installed, facts.Speed = "", 10 // four seconds to install
	r := newRig(t, facts)
	ctx, cancel := context.WithCancel(within(t, limit))
	wanted := processRequest()
	seen := &events{}
	seen.on = func(e lifecycle.Event) {
		if e.Phase == deploy.PhasePull && e.Message != "preparing the image or installation" {
			cancel()
		}
	}
	wanted.Progress = seen.add
	_, err := lifecycle.Launch(ctx, r, wanted)
	_ = wantError(t, r, err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want a cancellation\n%s", err, seen.text())
	}
	if left := r.machine.Root().Processes(); len(left) > 0 {
		t.Errorf("the installation goes on: %v", left)
	}
	r.facts(t, func(f *machinefs.Facts) { f.Speed = 300 })
	remove(t, r, launch(t, r, processRequest()))
}

// An installation that takes too long is ended, and the error says how far it was.
func TestInstallThatTakesTooLong(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.VLLM.Installed, facts.Speed = "", 0.1 // minutes to install
	r := newRig(t, facts)
	wanted := processRequest()
	wanted.Phases = lifecycle.Phases{deploy.PhasePreflight: 0.3, deploy.PhasePull: 0.1, deploy.PhaseStart: 0.2, deploy.PhaseLoad: 0.2, deploy.PhaseCompletion: 0.2}
	failed := launchFails(t, r, wanted, limit/2)
	if failed.Phase != deploy.PhasePull || !errors.Is(failed, context.DeadlineExceeded) || len(failed.Log) == 0 {
		t.Errorf("failed in %s with %v and the log %q", failed.Phase, failed.Err, failed.Log)
	}
	contains(t, failed.Description(), "The phase pull timed out after", "Last seen", "The log's last relevant lines", "Creating virtual environment")
	if left := r.machine.Root().Processes(); len(left) > 0 {
		t.Errorf("the installation goes on: %v", left)
	}
}

// An installation survives the connection, and the next launch waits for it instead of starting another.
func TestInstallOutlivesTheConnection(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.VLLM.Installed, facts.Speed = "", 10 // four seconds to install
	r := newRig(t, facts)
	wanted := processRequest()
	seen := &events{}
	seen.on = func(e lifecycle.Event) {
		if e.Phase == deploy.PhasePull && strings.Contains(strings.Join(r.machine.CommandLog(), "\n"), "uv pip install") {
			_ = r.Client.Close()
		}
	}
	wanted.Progress = seen.add
	_, err := lifecycle.Launch(within(t, limit), r, wanted)
	if failed := wantError(t, r, err); failed.Phase != deploy.PhasePull {
		t.Fatalf("failed in %s: %v\n%s", failed.Phase, err, seen.text())
	}
	if left := r.machine.Root().Processes(); len(left) == 0 {
		t.Error("the installation ended with the connection")
	}
	r.Client = r.dial(t)
	remove(t, r, launch(t, r, processRequest()))
	if n := r.installs(); n != 1 {
		t.Errorf("installed %d times", n)
	}
}

// installs counts how often vLLM was installed on the machine.
func (r *rig) installs() int {
	count := 0
	for _, line := range r.machine.CommandLog() {
		if strings.HasPrefix(line, "uv pip install") {
			count++
		}
	}
	return count
}

func TestInstallNever(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	wanted := processRequest()
	wanted.Process.Version, wanted.Process.Install = "0.32.0", "never"
	failed := launchFails(t, r, wanted, limit)
	contains(t, failed.Description(), "0.32.0", "0.33.0", "process.install")
}

func TestInstallOfAReleaseThatDoesNotExist(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	wanted := processRequest()
	wanted.Process.Version = "99.0.0"
	failed := launchFails(t, r, wanted, limit)
	contains(t, failed.Description(), "release vllm==99.0.0 doesn't exist", "process.version")
	if len(failed.Log) == 0 {
		t.Error("the installation's log is missing")
	}
}

func TestPullFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	r.engine.FailPull("write /var/lib/docker/tmp/x: no space left on device")
	failed := launchFails(t, r, request(), limit)
	if failed.Phase != deploy.PhasePull {
		t.Errorf("failed in %s", failed.Phase)
	}
	contains(t, failed.Description(), "disk is full", "disk_gb")
	r.engine.FailPull("")
	wanted := request()
	wanted.Container.PullPolicy = "never"
	contains(t, launchFails(t, r, wanted, limit).Description(), "pull_policy")
	wanted = request()
	wanted.Container.Image = "example/nothing:v1"
	failed = launchFails(t, r, wanted, limit)
	if failed.Cause == "" {
		t.Errorf("a tag that doesn't exist isn't explained: %s", failed.Description())
	}
}

// A pull that takes too long says how far it was, and so does the log while it runs.
func TestPullThatTakesTooLong(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	r.engine.SlowPull(30 * time.Second)
	wanted := request()
	wanted.Phases = lifecycle.Phases{deploy.PhasePreflight: 0.2, deploy.PhasePull: 0.1, deploy.PhaseStart: 0.3, deploy.PhaseLoad: 0.2, deploy.PhaseCompletion: 0.2}
	seen := &events{}
	wanted.Progress = seen.add
	failed := launchFails(t, r, wanted, limit/2)
	if failed.Phase != deploy.PhasePull || !errors.Is(failed, context.DeadlineExceeded) {
		t.Errorf("failed in %s with %v", failed.Phase, failed.Err)
	}
	contains(t, failed.Description(), "The phase pull timed out after", "Last seen: ", "layers ready")
	contains(t, seen.text(), "pull: ", " GB downloaded, ", "layers ready")
	r.clean(t)
}

// An engine that hangs when it is to start the container uses up that phase, and no other.
func TestStartThatTakesTooLong(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	seen := &events{on: func(e lifecycle.Event) {
		switch e.Message {
		case "starting the server":
			r.engine.Hang(true)
		case "removing what was started":
			r.engine.Hang(false)
		}
	}}
	wanted := request()
	wanted.Phases = lifecycle.Phases{deploy.PhasePreflight: 0.2, deploy.PhasePull: 0.1, deploy.PhaseStart: 0.05, deploy.PhaseLoad: 0.4, deploy.PhaseCompletion: 0.25}
	wanted.Progress = seen.add
	begun := time.Now()
	failed := launchFails(t, r, wanted, limit/3)
	if failed.Phase != deploy.PhaseStart || !errors.Is(failed, context.DeadlineExceeded) || time.Since(begun) > limit/4 {
		t.Errorf("failed in %s after %s with %v", failed.Phase, time.Since(begun), failed.Err)
	}
	contains(t, failed.Description(), "The phase start timed out after", "Last seen: starting the server")
	r.clean(t)
}

func TestEngineThatHangs(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	var once sync.Once
	seen := &events{on: func(e lifecycle.Event) {
		if e.Phase == deploy.PhaseLoad {
			once.Do(func() { r.engine.Hang(true) })
		}
	}}
	r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load = time.Hour })
	wanted := request()
	wanted.Progress = seen.add
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := lifecycle.Launch(ctx, r, wanted)
		done <- err
	}()
	<-ctx.Done()
	r.engine.Hang(false)
	failed := wantError(t, r, <-done)
	if !errors.Is(failed, context.DeadlineExceeded) {
		t.Errorf("got %v", failed)
	}
	r.clean(t)
}

// Registry credentials reach the registry and nothing else.
func TestRegistryCredentials(t *testing.T) {
	t.Parallel()
	const password = "planted-registry-password"
	r := newRig(t, vm(), engine.Image{Ref: "registry.example/team/vllm:v0.33.0", Username: "me", Password: password})
	wanted := request()
	wanted.Container.Image = "registry.example/team/vllm:v0.33.0"
	wanted.Container.RegistryAuth = &container.RegistryAuth{Username: "me", Password: "wrong-" + password}
	failed := launchFails(t, r, wanted, limit)
	contains(t, failed.Description(), "registry_auth")
	wanted.Container.RegistryAuth.Password = password
	status := launch(t, r, wanted)
	for _, text := range append(r.machine.CommandLog(), failed.Description()) {
		if strings.Contains(text, password) {
			t.Errorf("the password is in %q", text)
		}
	}
	remove(t, r, status)
	// The image is there: the registry, which would refuse, is asked again only when that is wanted.
	wanted.Container.RegistryAuth.Password = "wrong"
	wanted.Container.PullPolicy = "missing"
	remove(t, r, launch(t, r, wanted))
	wanted.Container.PullPolicy = "always"
	contains(t, launchFails(t, r, wanted, limit).Description(), "registry_auth")
}
