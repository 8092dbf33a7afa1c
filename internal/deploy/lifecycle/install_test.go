package lifecycle_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// noEngine is a virtual machine without an engine, whose first upgrade goes on.
func noEngine() machinefs.Facts {
	facts := vm()
	facts.Docker, facts.Packages, facts.DpkgLockedUntil = false, []string{"ca-certificates", "curl"}, time.Now().Add(2*time.Second)
	return facts
}

func installing() lifecycle.Request {
	wanted := request()
	wanted.Container.InstallEngine = true
	return wanted
}

// A machine without an engine gets one, once, with NVIDIA's toolkit, after what else is being installed.
func TestInstallEngine(t *testing.T) {
	t.Parallel()
	r := newRig(t, noEngine())
	status := launch(t, r, installing())
	if status.Runtime != deploy.Container || len(status.Warnings) > 0 {
		t.Errorf("status %+v", status)
	}
	log := strings.Join(r.machine.CommandLog(), "\n")
	contains(t, log, "install --no-install-recommends docker.io", "install --no-install-recommends nvidia-container-toolkit",
		"nvidia-ctk runtime configure --runtime=docker", "systemctl restart docker")
	remove(t, r, status)

	before := len(r.machine.CommandLog())
	remove(t, r, launch(t, r, installing()))
	if again := strings.Join(r.machine.CommandLog()[before:], "\n"); strings.Contains(again, "apt-get") {
		t.Errorf("installed twice:\n%s", again)
	}
}

// Missing parts are installed, whatever an interrupted installation has left.
func TestInstallEngineGoesOn(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*machinefs.Facts){
		"Docker without NVIDIA's toolkit": func(f *machinefs.Facts) { f.Docker, f.NoGPURuntime = true, true },
		"the choice left to us":           func(*machinefs.Facts) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := noEngine()
			change(&facts)
			r := newRig(t, facts)
			wanted := installing()
			if !facts.Docker {
				wanted.Runtime = deploy.Auto
			}
			status := launch(t, r, wanted)
			log := strings.Join(r.machine.CommandLog(), "\n")
			if installed := strings.Contains(log, "docker.io"); status.Runtime != deploy.Container || installed == facts.Docker {
				t.Errorf("status %+v, %s", status, log)
			}
			remove(t, r, status)
		})
	}
}

// An installation survives a lost connection.
func TestInstallEngineBearsALostConnection(t *testing.T) {
	t.Parallel()
	facts := noEngine()
	facts.DpkgLockedUntil = time.Now().Add(time.Hour)
	r := newRig(t, facts)
	line, wanted, seen := r.line(t), installing(), &events{}
	wanted.Progress = seen.add
	unlocked := r.unlocksAt(t, "apt-get", 1, r.machine.DropConnections)
	status, err := lifecycle.Launch(within(t, limit), line, wanted)
	<-unlocked
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, describe(err), seen.text())
	}
	contains(t, seen.text(), "logging in again")
	r.Client = r.dial(t)
	remove(t, r, status)
}

// unlocksAt ends the wait for dpkg's lock once a command has been run so many times, and does something before that.
func (r *rig) unlocksAt(t *testing.T, command string, times int, before func()) (done <-chan struct{}) {
	t.Helper()
	unlocked := make(chan struct{})
	go func() {
		defer close(unlocked)
		testkit.Eventually(t, command, func() bool { return strings.Count(strings.Join(r.machine.CommandLog(), "\n"), command) >= times })
		before()
		if err := r.machine.SetFacts(func(f *machinefs.Facts) { f.DpkgLockedUntil = time.Time{} }); err != nil {
			t.Error(err)
		}
	}()
	return unlocked
}

// Nothing is installed if that is impossible, or if another finding blocks.
func TestInstallEngineIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		facts  func() machinefs.Facts
		change func(*lifecycle.Request)
		says   []string
	}{
		"a container": {pod, func(*lifecycle.Request) {}, []string{"no Docker and no Podman", "a container itself", `runtime = "process"`}},
		"not asked for": {
			noEngine, func(r *lifecycle.Request) { r.Container.InstallEngine = false },
			[]string{"no Docker and no Podman", "container.install_engine = true", `runtime = "process"`},
		},
		"no toolkit, not asked for": {
			func() machinefs.Facts { f := vm(); f.NoGPURuntime = true; return f },
			func(r *lifecycle.Request) { r.Container.InstallEngine = false },
			[]string{"neither NVIDIA's runtime", "container.install_engine = true"},
		},
		"an old driver": {
			func() machinefs.Facts { f := noEngine(); f.DriverVersion = "470.10.1"; return f },
			func(*lifecycle.Request) {},
			[]string{"driver is 470.10.1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, test.facts())
			wanted := installing()
			test.change(&wanted)
			failed := launchFails(t, r, wanted, limit)
			contains(t, failed.Description(), test.says...)
			if log := strings.Join(r.machine.CommandLog(), "\n"); failed.Phase != deploy.PhasePreflight || strings.Contains(log, "apt-get") {
				t.Errorf("%s:\n%s", failed.Phase, log)
			}
		})
	}
}

// An installation that times out says why.
func TestInstallEngineInVain(t *testing.T) {
	t.Parallel()
	facts := noEngine()
	facts.DpkgLockedUntil = time.Now().Add(time.Hour)
	r := newRig(t, facts)
	failed := launchFails(t, r, installing(), 16*time.Second)
	if failed.Phase != deploy.PhasePull {
		t.Errorf("phase %s", failed.Phase)
	}
	contains(t, failed.Description(), "kept dpkg locked", "Apply again to continue", "The phase pull timed out")
}
