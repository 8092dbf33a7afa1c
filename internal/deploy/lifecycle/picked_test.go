package lifecycle_test

import (
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// Without a requested version, the newest release that the driver supports is installed, with packages of its day.
func TestReleaseForAnOldDriver(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.DriverVersion, facts.CUDAVersion, facts.VLLM.Installed = "570.124.04", "12.8", ""
	r := newRig(t, facts)
	wanted := processRequest()
	wanted.Process.Version = ""
	status := launch(t, r, wanted)
	if status.VLLMVersion != "0.11.2" {
		t.Errorf("version %q", status.VLLMVersion)
	}
	if len(status.Warnings) != 2 {
		t.Fatalf("warnings %q", status.Warnings)
	}
	contains(t, status.Warnings[0], "0.11.2 of 2025-11-20", "min_cuda_version = 13.0")
	contains(t, status.Warnings[1], "vLLM also listens on port", "could not close it", "firewall", "0.28.0 or newer")
	contains(t, strings.Join(r.machine.CommandLog(), "\n"), "--exclude-newer=2025-11-20T23:59:59Z vllm==0.11.2")
	// What is there is taken again, and judged.
	remove(t, r, status)
	if again := launch(t, r, wanted); again.VLLMVersion != "0.11.2" || len(again.Warnings) != 1 {
		t.Errorf("version %q, warnings %q", again.VLLMVersion, again.Warnings)
	}
}

// An installed vLLM that the machine can't run is found before the start.
func TestInstalledReleaseIsJudged(t *testing.T) {
	t.Parallel()
	facts := pod()
	facts.DriverVersion, facts.CUDAVersion = "570.124.04", "12.8"
	wanted := processRequest()
	wanted.Process.Version = ""
	failed := launchFails(t, newRig(t, facts), wanted, limit)
	if failed.Phase != deploy.PhasePreflight || !hasFinding(failed.Findings, "driver_version", deploy.Blocking) {
		t.Fatalf("got %v with %v", failed, failed.Findings)
	}
	contains(t, failed.Description(), "vLLM 0.33.0 (CUDA 13.0) needs 580 or newer", `set process.version = "0.11.2"`)
}

func TestLaunchUsesAllGPUs(t *testing.T) {
	t.Parallel()
	facts := vm()
	for _, uuid := range []string{"GPU-b", "GPU-c"} {
		gpu := facts.GPUs[0]
		gpu.UUID = uuid
		facts.GPUs = append(facts.GPUs, gpu)
	}
	r := newRig(t, facts)
	status := launch(t, r, request())
	if len(status.Warnings) != 1 || !strings.Contains(status.Warnings[0], "1 of 3 GPUs") {
		t.Errorf("warnings %q", status.Warnings)
	}
	// Three GPUs don't divide the model's 28 attention heads; two do.
	for i, argument := range status.Arguments {
		if argument == "--tensor-parallel-size" && status.Arguments[i+1] == "2" {
			return
		}
	}
	t.Errorf("arguments %q", status.Arguments)
}
