package lifecycle_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// An ignored finding is a warning; any other still blocks.
func TestFindingIsOverruled(t *testing.T) {
	t.Parallel()
	facts := vm()
	facts.DriverVersion, facts.CUDAVersion = "570.124.06", "12.8"
	r := newRig(t, facts)
	wanted := request()
	wanted.Container.Image = "vllm/vllm-openai:v0.19.1"
	failed := launchFails(t, r, wanted, limit)
	contains(t, failed.Description(), `preflight = { ignore = ["driver_version"] }`, "needs 575 or newer")
	wanted.Ignore = []string{"port", "disk"}
	if other := launchFails(t, r, wanted, limit); !hasFinding(other.Findings, "driver_version", deploy.Blocking) {
		t.Errorf("with other codes: %v", other.Findings)
	}
	wanted.Ignore = []string{"driver_version"}
	status := launch(t, r, wanted)
	if len(status.Warnings) != 0 { // it has answered
		t.Errorf("warnings %q", status.Warnings)
	}
	_, findings := preflight(t, r, wanted)
	if !hasFinding(findings, "driver_version", deploy.Warning) {
		t.Errorf("found %v", findings)
	}
	remove(t, r, status)
}

// Where nvidia-smi is missing and that is ignored, nobody waits for it, and the rest of the machine is looked at.
func TestMissingDriverIsOverruled(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.Driver = machinefs.DriverMissing
	wanted := processRequest()
	wanted.Ignore = []string{"driver"}
	seen, findings := preflight(t, newRig(t, facts), wanted)
	if seen.Runtime != deploy.Process || !hasFinding(findings, "driver", deploy.Warning) || len(findings) != 1 {
		t.Errorf("%+v, found %v", seen, findings)
	}
}

// A missing engine can't be ignored.
func TestMissingEngineIsNotOverruled(t *testing.T) {
	t.Parallel()
	facts := vm()
	facts.Docker = false
	failed := launchFails(t, newRig(t, facts), request(), limit)
	if !hasFinding(failed.Findings, "docker", deploy.Blocking) || strings.Contains(failed.Description(), "preflight = ") {
		t.Errorf("got %s with %v", failed.Description(), failed.Findings)
	}
	wanted := request()
	wanted.Ignore = []string{"docker"}
	err := wanted.Validate()
	if slices.Contains(lifecycle.Codes(), "docker") || err == nil {
		t.Fatalf("docker is a code that can be ignored: %v", err)
	}
	contains(t, err.Error(), `"docker" is not one of the codes docker_gpu, `, "driver_version", "hub")
}

// If nothing was started, the error claims no removal; a kept server comes with the command that removes it.
func TestWhatIsLeftIsTold(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		wanted := request()
		wanted.KeepFailed = true
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Fail = "architecture" })
		kept := launchFails(t, r, wanted, limit)
		if contains(t, kept.Remains, "left for debugging"); !strings.Contains(kept.Remains, "docker rm -f ") &&
			!strings.Contains(kept.Remains, "/launcher.sh stop ") {
			t.Errorf("no way to remove it: %s", kept.Remains)
		}
		if wanted.Runtime == deploy.Container {
			wanted.Owner, wanted.Spec.Port = "test/other", 8001 // the name stays
			if taken := launchFails(t, r, wanted, limit).Description(); strings.Contains(taken, "has been removed") {
				t.Errorf("nothing was started: %s", taken)
			}
		}
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Fail = "" })
		status := launch(t, r, request()) // which removes what was kept
		remove(t, r, status)
	})
}
