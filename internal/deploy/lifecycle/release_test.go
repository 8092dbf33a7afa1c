package lifecycle

import (
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// machineWith is the survey of a machine with one GPU.
func machineWith(name, driver, capability string) *survey {
	gpus := []deploy.GPU{{UUID: "GPU-1", Name: name, MemoryMiB: 81559, DriverVersion: driver, ComputeCapability: capability}}
	return &survey{gpus: gpus, allGPUs: gpus, request: Request{Runtime: deploy.Process, Spec: vllm.Spec{Model: "m", DType: "half"}}}
}

// Where nobody names a release, the newest that driver and GPU run is picked, and an older one than the newest is told.
func TestReleaseIsPicked(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		gpu, driver, capability string
		want                    string
		severity                deploy.Severity // "" = nothing is found
		words                   []string
	}{
		{"NVIDIA H100", "580.95.05", "9.0", "0.33.0", "", nil},
		{"NVIDIA GeForce RTX 5090", "590.10", "12.0", "0.33.0", "", nil},
		{"NVIDIA H100", "", "", "0.33.0", "", nil}, // not told
		{"NVIDIA GeForce RTX 4090", "575.64", "8.9", "0.19.1", deploy.Warning, []string{"driver 575.64", "0.19.1 of 2026-04-18", "min_cuda_version = 13.0"}},
		{"NVIDIA GeForce RTX 4090", "570.124.04", "8.9", "0.11.2", deploy.Warning, nil},
		{"NVIDIA RTX A5000", "560.35.05", "8.6", "0.8.5.post1", deploy.Warning, []string{"0.33.0 wants driver 580"}},
		{"Tesla V100-SXM2-16GB", "580.95.05", "7.0", "0.19.1", deploy.Warning, []string{"compute capability 7.5"}},
		{"NVIDIA A100", "535.161.08", "8.0", "0.8.5.post1", deploy.Warning, []string{"needs 550 or newer", "unsupported toolchain"}},
		{"NVIDIA A100", "470.256.02", "8.0", "0.33.0", deploy.Blocking, []string{"needs 580 or newer", "install a newer driver"}},
		{"Tesla P100", "580.95.05", "6.0", "0.33.0", deploy.Blocking, []string{"kernels for 7.5 to 12.1", "Rent a newer GPU."}},
	} {
		s := machineWith(test.gpu, test.driver, test.capability)
		got := s.pickRelease().Version
		if got != test.want {
			t.Errorf("%s with %s: %s, want %s", test.gpu, test.driver, got, test.want)
		}
		s.runtime = &process.Host{Program: process.Program{Release: got}}
		s.picked = true
		wantFinding(t, test.gpu+" with "+test.driver, s.judgeRelease(), test.severity, test.words...)
	}
}

func wantFinding(t *testing.T, what string, found []deploy.Finding, severity deploy.Severity, words ...string) {
	t.Helper()
	if severity == "" {
		if len(found) > 0 {
			t.Errorf("%s: found %v", what, found)
		}
		return
	}
	if len(found) != 1 || found[0].Severity != severity || found[0].WayOut == "" {
		t.Errorf("%s: found %+v, want one %s", what, found, severity)
		return
	}
	for _, word := range words {
		if !strings.Contains(found[0].String(), word) {
			t.Errorf("%s: %q is missing in: %s", what, word, found[0])
		}
	}
}

// A named release is judged by the CUDA of what runs, and by the GPUs that it has kernels for.
func TestReleaseIsJudged(t *testing.T) {
	t.Parallel()
	const geForce, dataCenter = "NVIDIA GeForce RTX 4090", "NVIDIA L4"
	for _, test := range []struct {
		gpu, driver, capability string
		process, image          string
		severity                deploy.Severity
		words                   []string
	}{
		{geForce, "575.64", "8.9", "0.19.1", "", "", nil},
		{geForce, "575.64", "8.9", "0.20.0", "", deploy.Blocking, []string{"CUDA 13.0", "580", `set process.version = "0.19.1"`}},
		{geForce, "560.35.05", "8.9", "0.19.1", "", deploy.Warning, []string{"CUDA 12.9", "575", `set process.version = "0.8.5.post1"`}},
		{geForce, "560.35.05", "8.9", "0.33.0+cu126", "", "", nil},
		{geForce, "560.35.05", "8.9", "0.7.0", "", "", nil}, // not known
		{geForce, "575.64", "8.9", "", "vllm/vllm-openai:v0.20.0", deploy.Blocking, []string{"choose the image of v0.19.1"}},
		{dataCenter, "575.64", "8.9", "", "vllm/vllm-openai:v0.20.0", deploy.Blocking, []string{"VLLM_ENABLE_CUDA_COMPATIBILITY"}},
		{geForce, "575.64", "8.9", "", "vllm/vllm-openai:v0.20.0-cu129", "", nil},
		{geForce, "570.124.04", "8.9", "", "vllm/vllm-openai:v0.11.2", deploy.Blocking, []string{"575"}},
		{dataCenter, "570.124.04", "8.9", "", "vllm/vllm-openai:v0.11.2", deploy.Warning, nil},
		{geForce, "570.124.04", "8.9", "0.11.2", "", "", nil},                                 // the wheel is of CUDA 12.8
		{geForce, "535.161.08", "8.9", "", "vllm/vllm-openai:v0.8.5", deploy.Warning, nil},    // its image lets GeForce by
		{"Tesla V100", "550.54.15", "7.0", "", "vllm/vllm-openai:v0.8.5", "", nil},            // capability 7.0
		{"Tesla V100", "580.95.05", "7.0", "0.33.0", "", deploy.Blocking, []string{"0.19.1"}}, //
		{geForce, "470.1", "8.9", "", "acme/llm:v1", "", nil},                                 // counts something else
	} {
		s := machineWith(test.gpu, test.driver, test.capability)
		if test.process != "" {
			s.runtime = &process.Host{Program: process.Program{Release: test.process}}
		} else {
			s.request.Runtime, s.request.Container.Image = deploy.Container, test.image
		}
		wantFinding(t, test.gpu+" with "+test.driver+" and "+test.process+test.image, s.judgeRelease(), test.severity, test.words...)
	}
}
