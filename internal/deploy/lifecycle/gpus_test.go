package lifecycle

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// machineWith is the survey of a machine with one GPU.
func machineWith(name, driver, capability string) *survey {
	gpus := []deploy.GPU{{UUID: "GPU-1", Name: name, MemoryMiB: 81559, DriverVersion: driver, ComputeCapability: capability}}
	return &survey{gpus: gpus, allGPUs: gpus, request: Request{Runtime: deploy.Process, Spec: vllm.Spec{Model: "m", DType: "half"}}}
}

// Without a requested release, the newest that driver and GPU support is picked, with a warning if a newer one exists.
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
		{"NVIDIA RTX A5000", "560.35.05", "8.6", "0.8.5.post1", deploy.Warning, []string{"Release 0.33.0 needs driver 580"}},
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

// listed are that many GPUs, with UUIDs GPU-a0…, GPU-b1…, GPU-c2…
func listed(count int) []deploy.GPU {
	gpus := make([]deploy.GPU, count)
	for i := range gpus {
		gpus[i] = deploy.GPU{
			Index: i, UUID: fmt.Sprintf("GPU-%c%d000000-0000", 'a'+i, i), Name: "NVIDIA H100", MemoryMiB: 81559,
			DriverVersion: "580.95.05", ComputeCapability: "9.0",
		}
	}
	return gpus
}

func indices(gpus []deploy.GPU) []int {
	var found []int
	for _, gpu := range gpus {
		found = append(found, gpu.Index)
	}
	return found
}

// A server sees the container's GPUs without those that CUDA_VISIBLE_DEVICES hides.
func TestUsableGPUs(t *testing.T) {
	t.Parallel()
	const unset = "unset"
	for _, test := range []struct {
		runtime       deploy.Kind
		gpus, visible string
		want          []int
	}{
		{deploy.Container, "", unset, []int{0, 1, 2, 3}},
		{deploy.Container, "all", unset, []int{0, 1, 2, 3}},
		{deploy.Container, "2", unset, []int{0, 1}},
		{deploy.Container, "device=1,3", unset, []int{1, 3}},
		{deploy.Container, "GPU-b1000000-0000", unset, []int{1}},
		{deploy.Container, "all", "2,0", []int{2, 0}},
		{deploy.Container, "device=1,3", "1", []int{3}}, // counted within the container
		{deploy.Container, "device=1,3", "2", nil},
		{deploy.Process, "device=1", "3", []int{3}}, // there is no container
		{deploy.Process, "", "GPU-c2,GPU-a0000000-0000", []int{2, 0}},
		{deploy.Process, "", " 0 , 1 ", []int{0, 1}},
		{deploy.Process, "", "0,9,1", []int{0}}, // the first that is none ends the list
		{deploy.Process, "", "GPU-x", nil},
		{deploy.Process, "", "-1", nil},
		{deploy.Process, "", "", nil},
		{deploy.Process, "", "MIG-1234", []int{0, 1, 2, 3}},
	} {
		request := Request{Runtime: test.runtime, Container: container.Options{GPUs: test.gpus}}
		if test.visible != unset {
			request.Spec.Env = map[string]string{visibleDevices: test.visible}
		}
		s := &survey{request: request}
		if got := indices(s.usable(listed(4))); !slices.Equal(got, test.want) {
			t.Errorf("%s, gpus %q, visible %q: %v, want %v", test.runtime, test.gpus, test.visible, got, test.want)
		}
	}
}

// The model is spread over as many GPUs as vLLM can share it among; a warning names those left over, with what would use them.
func TestAllGPUsAreUsedOrTold(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		model      string
		gpus       int
		change     func(*vllm.Spec)
		size, idle int
		words      []string
	}{
		{"Qwen/Qwen2.5-7B-Instruct", 8, nil, 4, 4, []string{"4 of 8 GPUs", "tensor_parallel_size = 4 with pipeline_parallel_size = 2", `"--data-parallel-size", "2"`}},
		{"microsoft/phi-4", 4, nil, 2, 2, []string{"tensor_parallel_size = 2 with pipeline_parallel_size = 2", visibleDevices}},
		{"meta-llama/Llama-3.2-3B-Instruct", 3, nil, 2, 1, []string{"1 of 3 GPUs", "tensor_parallel_size = 1 with pipeline_parallel_size = 3"}},
		{"Qwen/Qwen2.5-14B-Instruct", 6, nil, 4, 2, []string{"tensor_parallel_size = 2 with pipeline_parallel_size = 3"}},
		{"Qwen/Qwen2.5-0.5B-Instruct", 8, nil, 2, 6, []string{"6 of 8 GPUs"}},
		{"someone/else", 6, nil, 4, 2, []string{"2 of 6 GPUs"}},
		{"meta-llama/Llama-3.3-70B-Instruct", 8, nil, 8, 0, nil},
		{"Qwen/Qwen2.5-7B-Instruct", 1, nil, 0, 0, nil},
		{"Qwen/Qwen2.5-7B-Instruct", 8, func(s *vllm.Spec) { s.PipelineParallelSize = 2 }, 4, 0, nil},
		{"Qwen/Qwen2.5-7B-Instruct", 4, func(s *vllm.Spec) { s.TensorParallelSize = 2 }, 2, 2, []string{"set tensor_parallel_size = 4"}},
		{"Qwen/Qwen2.5-7B-Instruct", 8, func(s *vllm.Spec) { s.ExtraArgs = []string{"--data-parallel-size=2"} }, 0, 0, nil},
		{"Qwen/Qwen2.5-7B-Instruct", 8, func(s *vllm.Spec) { s.Env = map[string]string{visibleDevices: "0,1,2"} }, 2, 1, []string{"1 of 3 GPUs"}},
	} {
		s := &survey{request: Request{Spec: vllm.Spec{Model: test.model}}}
		if test.change != nil {
			test.change(&s.request.Spec)
		}
		s.gpus = s.usable(listed(test.gpus))
		s.useAllGPUs()
		found := s.judgeIdle()
		if got := s.request.Spec.TensorParallelSize; got != test.size || (test.idle > 0) != (len(found) == 1) {
			t.Errorf("%s on %d GPUs: tensor parallel size %d, want %d; found %v", test.model, test.gpus, got, test.size, found)
			continue
		}
		for _, finding := range found {
			for _, word := range append(test.words, fmt.Sprintf("%d of ", test.idle)) {
				if finding.Severity != deploy.Warning || !strings.Contains(finding.String(), word) {
					t.Errorf("%s on %d GPUs: %q is missing in %s", test.model, test.gpus, word, finding)
				}
			}
		}
		if err := s.request.Spec.Validate(); err != nil {
			t.Errorf("%s on %d GPUs: %v", test.model, test.gpus, err)
		}
	}
}

// One GPU is no "1 GPUs".
func TestNumberOfGPUsInWords(t *testing.T) {
	t.Parallel()
	for count, want := range map[int]string{1: "1 GPU", 2: "2 GPUs"} {
		s := &survey{gpus: listed(count), allGPUs: listed(count), runtime: &process.Host{}}
		if said := s.String(); !strings.HasPrefix(said, "the machine has "+want+" (NVIDIA H100") {
			t.Error(said)
		}
		s.gpus = nil
		wantFinding(t, want, s.judgeGPUs(), deploy.Blocking, "The machine has "+want+", but container.gpus")
	}
}
