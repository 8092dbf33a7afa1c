package lifecycle_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// bare is a machine of a cloud as it is when it was rented.
func bare(t *testing.T, cloud string) machinefs.Facts {
	t.Helper()
	known, ok := facts.FindCloud(cloud)
	if !ok {
		t.Fatal(cloud)
	}
	machine := vm()
	machine.Container, machine.User, machine.Docker = known.Container, known.User, false
	machine.Python, machine.Packages = known.Machine.Python, known.Machine.Packages
	machine.DriverVersion = known.Machine.Driver
	machine.CUDAVersion = facts.CUDA(machine.DriverVersion)
	return machine
}

// A process gets its tools, pip, uv and the newest vLLM that the driver runs, and answers.
func TestLaunchOnBareMachines(t *testing.T) {
	t.Parallel()
	for cloud, test := range map[string]struct {
		version, packages string
		locked            bool
	}{
		facts.VastAI:      {version: "0.11.2", packages: "gcc g++ libc6-dev ca-certificates python3-pip"},
		facts.TensorDock:  {version: "0.33.0", packages: "ca-certificates python3-pip"},
		facts.BlueLobster: {version: "0.8.5.post1", packages: "ca-certificates python3-pip", locked: true},
	} {
		t.Run(cloud, func(t *testing.T) {
			t.Parallel()
			machine := bare(t, cloud)
			if test.locked {
				machine.DpkgLockedUntil = time.Now().Add(time.Hour)
			}
			r := newRig(t, machine)
			if test.locked { // until the second try
				unlocked := r.unlocksAt(t, "apt-get -q install", 2, func() {})
				defer func() { <-unlocked }()
			}
			wanted := processRequest()
			wanted.Process.Version = ""
			status := launch(t, r, wanted)
			if err := answers(t, r, status, testKey); err != nil || status.VLLMVersion != test.version {
				t.Errorf("vLLM %s: %v", status.VLLMVersion, err)
			}
			log := r.machine.CommandLog()
			for _, want := range []string{
				"apt-get -q install -y --no-install-recommends " + test.packages, "python3 -m pip install", "uv venv --managed-python",
			} {
				if !slices.ContainsFunc(log, func(line string) bool { return strings.HasSuffix(line, want) || strings.HasPrefix(line, want) }) {
					t.Errorf("nobody ran %q:\n%s", want, strings.Join(log, "\n"))
				}
			}
			if installs := strings.Count(strings.Join(log, "\n"), "\napt-get -q install"); (installs > 1) != test.locked {
				t.Errorf("apt-get was run %d times", installs)
			}
			remove(t, r, status)
		})
	}
}

// What nobody can install is found before anything heavy.
func TestNoCompilerAndNoWayToOne(t *testing.T) {
	t.Parallel()
	machine := bare(t, facts.VastAI)
	machine.User = "somebody" // and no sudo
	failed := launchFails(t, newRig(t, machine), processRequest(), limit)
	if failed.Phase != deploy.PhasePreflight || !hasFinding(failed.Findings, "tools", deploy.Blocking) {
		t.Fatalf("got %v with %v", failed, failed.Findings)
	}
	contains(t, failed.Description(), "a C compiler", "apt-get install -y --no-install-recommends gcc g++ libc6-dev ca-certificates python3-pip")
}
