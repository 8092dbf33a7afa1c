package vllmserver_test

import (
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// TestEveryFailureOnDemand: each row by its name, with its message in the log,
// root cause before vLLM's general last line.
func TestEveryFailureOnDemand(t *testing.T) {
	t.Parallel()
	for _, failure := range vllmserver.Failures() {
		t.Run(failure.Name, func(t *testing.T) {
			t.Parallel()
			root := newMachine(t, func(f *machinefs.Facts) { f.VLLM.Fail = failure.Name })
			s := launch(t, root, nil, "serve", testModel)
			if code := s.wait(); code == 0 {
				t.Error("exit code 0")
			}
			log := s.log.String()
			first := strings.SplitN(failure.Message, "\n", 2)[0]
			at := strings.Index(log, first)
			if at < 0 {
				t.Fatalf("no %q in\n%s", first, log)
			}
			if last := strings.Index(log, "Engine core initialization failed. See root cause above"); last >= 0 && last < at {
				t.Errorf("the cause comes after the last line:\n%s", log)
			}
			if strings.Contains(log, "Application startup complete.") {
				t.Error("it started")
			}
			if claims, err := root.Claims(); err != nil || len(claims) != 0 {
				t.Errorf("claims: %+v, %v", claims, err)
			}
		})
	}
	if _, ok := vllmserver.FindFailure("nonsense"); ok {
		t.Error("found a failure that is not there")
	}
	s := launch(t, newMachine(t, func(f *machinefs.Facts) { f.VLLM.Fail = "nonsense" }), nil, "serve", testModel)
	if code := s.wait(); code == 0 || !strings.Contains(s.log.String(), `no failure named "nonsense"`) {
		t.Errorf("an unknown name: %d\n%s", code, s.log)
	}
}

// TestPatternsOfTheFailureTable: what a reader of logs looks for is really there.
func TestPatternsOfTheFailureTable(t *testing.T) {
	t.Parallel()
	for name, patterns := range map[string][]string{
		"gpu_memory_held":         {"Free memory on device", "less than desired GPU memory utilization"},
		"no_cache_memory":         {"No available memory for the cache blocks"},
		"cache_too_small":         {"larger than the available KV cache memory", "estimated maximum model length is 17280"},
		"cache_too_small_old":     {"maximum number of tokens that can be stored in KV cache (17280)"},
		"out_of_memory":           {"OutOfMemoryError", "CUDA out of memory"},
		"max_model_len":           {"User-specified max_model_len", "greater than the derived"},
		"quantization_capability": {"is not supported for the current GPU. Minimum capability"},
		"quantization_mismatch":   {"does not match the quantization method specified"},
		"quantization_unknown":    {"Unknown quantization method"},
		"gated_model":             {"GatedRepoError", "Cannot access gated repo", "401"},
		"hub_forbidden":           {"GatedRepoError", "403"},
		"hub_unauthorized":        {"401"},
		"model_unknown":           {"not a valid model identifier"},
		"heads_not_divisible":     {"attention heads (28) must be divisible by tensor parallel size"},
		"trust_remote_code":       {"trust_remote_code=True"},
		"architecture":            {"Model architectures [", "not supported"},
		"disk_full":               {"No space left on device"},
		"shm_full":                {"No space left on device", "/dev/shm"},
		"cuda_requirement":        {"unsatisfied condition: cuda>="},
		"driver_too_old":          {"driver on your system is too old"},
		"forward_compatibility":   {"Error 804: forward compatibility"},
		"unsupported_ptx":         {"cudaErrorUnsupportedPtxVersion"},
		"no_compiler":             {"Failed to find C compiler"},
		"python_headers":          {"fatal error: Python.h"},
		"cuda_library":            {"libcudart.so.12: cannot open shared object file"},
		"driver_mismatch":         {"Error 803"},
		"nccl":                    {"NCCL error: unhandled system error"},
		"kv_heads":                {"assert tp_size % self.total_num_kv_heads == 0"},
		"unknown_gpu":             {"unknown device"},
		"gpu_runtime":             {"could not select device driver", "[[gpu]]"},
		"port_in_use":             {"ddress already in use"},
		"port_allocated":          {"port is already allocated"},
		"unrecognized_arguments":  {"unrecognized arguments"},
	} {
		s := launch(t, newMachine(t, func(f *machinefs.Facts) { f.VLLM.Fail = name }), nil, "serve", testModel)
		s.wait()
		for _, pattern := range patterns {
			if !strings.Contains(s.log.String(), pattern) {
				t.Errorf("%s: no %q in\n%s", name, pattern, s.log)
			}
		}
	}
}

// TestFailuresThatComeByThemselves: arguments and facts bring them about, without
// being asked for.
func TestFailuresThatComeByThemselves(t *testing.T) {
	t.Parallel()
	gpu := func(name string, mib int, capability string, count int) func(*machinefs.Facts) {
		return func(f *machinefs.Facts) {
			f.GPUs = nil
			for range count {
				f.GPUs = append(f.GPUs, machinefs.GPU{Name: name, MemoryMiB: mib, ComputeCapability: capability})
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*machinefs.Facts)
		env    string
		args   string
		want   string // "" for a start that succeeds
	}{
		{name: "max_model_len above the model's", args: testModel + " --max-model-len 65536", want: "User-specified max_model_len (65536) is greater than the derived max_model_len (max_position_embeddings=32768"},
		{name: "the same, allowed", env: "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1", args: testModel + " --max-model-len 65536"},
		{name: "cache too small", args: "Qwen/Qwen3-8B --gpu-memory-utilization 0.75 --max-model-len 40960", want: "the estimated maximum model length is "},
		{name: "the cache takes auto", args: "Qwen/Qwen3-8B --gpu-memory-utilization 0.75 --max-model-len auto"},
		{name: "no cache", args: "Qwen/Qwen3-8B --gpu-memory-utilization 0.65", want: "No available memory for the cache blocks"},
		{name: "weights too large", args: "Qwen/Qwen2.5-32B-Instruct", want: "CUDA out of memory"},
		{name: "weights too large, quantized", args: "Qwen/Qwen2.5-32B-Instruct-AWQ --max-model-len 4096"},
		{name: "memory held", change: func(f *machinefs.Facts) { f.GPUs[0].HeldMiB = 8000 }, args: testModel, want: "(16.18/23.99 GiB) on startup is less than desired GPU memory utilization (0.92, 22.07 GiB)"},
		{name: "memory held, modest", change: func(f *machinefs.Facts) { f.GPUs[0].HeldMiB = 8000 }, args: testModel + " --gpu-memory-utilization 0.6"},
		{name: "utilization above 1", args: testModel + " --gpu-memory-utilization 1.5", want: "Input should be less than or equal to 1"},
		{name: "TP does not divide the heads", change: gpu("NVIDIA L4", 23034, "8.9", 8), args: testModel + " --tensor-parallel-size 8", want: "Total number of attention heads (14) must be divisible by tensor parallel size (8)"},
		{name: "more GPUs than there are", args: testModel + " -tp 2", want: "World size (2) is larger than the number of available GPUs (1)"},
		{name: "more GPUs than are visible", change: gpu("NVIDIA L4", 23034, "8.9", 2), env: "CUDA_VISIBLE_DEVICES=1", args: testModel + " -tp 2", want: "World size (2) is larger"},
		{name: "two GPUs", change: gpu("NVIDIA L4", 23034, "8.9", 2), args: "Qwen/Qwen3-14B --tensor_parallel_size=2 --max-model-len 8k"},
		{name: "no compiler", change: func(f *machinefs.Facts) { f.Packages = []string{"python3"} }, args: testModel, want: "Failed to find C compiler"},
		{name: "no GPU", change: func(f *machinefs.Facts) { f.GPUs = nil }, args: testModel, want: "Failed to infer device type"},
		{name: "gated, no token", args: "meta-llama/Llama-3.2-1B-Instruct", want: "Cannot access gated repo"},
		{name: "gated, bad token", env: "HF_TOKEN=hf_bad", args: "google/gemma-3-1b-it", want: "Invalid credentials in Authorization header"},
		{name: "gated, terms not accepted", env: "HF_TOKEN=hf_noaccess", args: "google/gemma-3-1b-it", want: "you are not in the authorized list"},
		{name: "gated, good token", env: "HF_TOKEN=hf_good", args: "meta-llama/Llama-3.2-1B-Instruct --max-model-len 8192"},
		{name: "unknown model", args: "org/nosuch-model", want: "org/nosuch-model is not a local folder and is not a valid model identifier"},
		{name: "unknown revision", args: testModel + " --revision nosuch", want: "is not a valid git identifier"},
		{name: "remote code", args: "THUDM/chatglm3-6b", want: "trust_remote_code=True"},
		{name: "remote code, trusted", args: "THUDM/chatglm3-6b --trust-remote-code"},
		{name: "architecture", args: "google/flan-t5-base", want: "Model architectures ['T5ForConditionalGeneration'] are not supported"},
		{name: "architecture of a later release", env: vllmserver.VersionEnv + "=v0.9.2", args: "openai/gpt-oss-20b", want: "Model architectures ['GptOssForCausalLM'] are not supported"},
		{name: "quantization unknown", args: testModel + " --quantization awqq", want: "Unknown quantization method: awqq"},
		{name: "quantization mismatch", args: "Qwen/Qwen2.5-7B-Instruct-AWQ -q gptq", want: "specified in the model config (awq) does not match"},
		{name: "quantization and an old GPU", change: gpu("Tesla V100", 32768, "7.0", 1), args: "Qwen/Qwen2.5-7B-Instruct-AWQ", want: "The quantization method awq is not supported for the current GPU. Minimum capability: 75. Current capability: 70."},
		{name: "driver too old", change: func(f *machinefs.Facts) { f.DriverVersion, f.CUDAVersion = "550.54.15", "12.4" }, args: testModel, want: "driver on your system is too old (found version 12040)"},
		{name: "driver for an older release", change: func(f *machinefs.Facts) { f.DriverVersion, f.CUDAVersion = "550.54.15", "12.4" }, env: vllmserver.VersionEnv + "=v0.11.0", args: testModel},
		{name: "compatibility on a consumer's GPU", change: func(f *machinefs.Facts) { f.DriverVersion = "550.54.15" }, env: "VLLM_ENABLE_CUDA_COMPATIBILITY=1", args: testModel, want: "Error 804: forward compatibility"},
		{name: "bfloat16 on an old GPU", change: gpu("Tesla T4", 15360, "7.5", 1), args: testModel + " --dtype bfloat16", want: "Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5"},
		{name: "half on an old GPU", change: gpu("Tesla T4", 15360, "7.5", 1), args: testModel + " --dtype half"},
		{name: "an address of somebody else", args: testModel + " --host 10.1.2.3", want: "[Errno 99] Cannot assign requested address"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root := newMachine(t)
			if test.change != nil {
				setFacts(t, root, test.change)
			}
			s := launch(t, root, []string{test.env}, append([]string{"serve"}, strings.Fields(test.args)...)...)
			s.eventually("the end of the start", func() bool {
				return s.ended() || strings.Contains(s.log.String(), "Application startup complete.")
			})
			switch {
			case test.want == "" && s.ended():
				t.Errorf("exit code %d:\n%s", s.code, s.log)
			case test.want != "" && (!s.ended() || s.code != 1 || !strings.Contains(s.log.String(), test.want)):
				t.Errorf("no failure with %q in\n%s", test.want, s.log)
			}
		})
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	root := newMachine(t)
	listener, err := root.Listen(8000)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := launch(t, root, nil, "serve", testModel)
	if code := s.wait(); code != 1 || !strings.Contains(s.log.String(), "OSError: [Errno 98] Address already in use") {
		t.Errorf("exit code %d:\n%s", code, s.log)
	}
}
