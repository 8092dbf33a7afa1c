package vllm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// rows are what a failed start can mean, by the words that stand for it: every wording, with the figure to set.
var rows = []struct {
	line   string
	kind   Kind
	wayOut string
}{
	{"ValueError: Free memory on device (3.25/23.43 GiB) on startup is less than desired GPU memory utilization (0.9, 21.09 GiB).", KindGPUMemoryBusy, "gpu_memory_utilization to 0.13"},
	{"ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`.", KindNoCacheMemory, "larger GPU"},
	{"ValueError: To serve at least one request with the models's max seq len (32768), (4.00 GiB KV cache is needed, which is larger than the available KV cache memory (2.11 GiB). Based on the available memory, the estimated maximum model length is 17280.", KindContextTooLong, "max_model_len to 17280 or less"},
	{"ValueError: The model's max seq len (32768) is larger than the maximum number of tokens that can be stored in KV cache (17280).", KindContextTooLong, "max_model_len to 17280 or less"},
	{"torch.OutOfMemoryError: out of memory", KindOutOfMemory, "larger GPU"},
	{"RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.", KindOutOfMemory, "max_model_len"},
	{"ValueError: User-specified max_model_len (65536) is greater than the derived max_model_len (max_position_embeddings=32768)", KindContextAboveModel, "max_model_len to 32768"},
	{"ValueError: The quantization method modelopt is not supported for the current GPU. Minimum capability: 89. Current capability: 80.", KindGPUTooOld, "compute capability 8.9"},
	{"ValueError: Quantization method specified in the model config (awq) does not match the quantization method specified in the `quantization` argument (gptq).", KindQuantizationMismatch, "Leave quantization out"},
	{"ValueError: Unknown quantization method: awqq. Must be one of ['awq']", KindQuantizationMismatch, "Leave quantization out"},
	{"huggingface_hub.errors.GatedRepoError: 403 Client Error.", KindGatedModel, "hf_token"},
	{"Cannot access gated repo for url https://huggingface.co/org/model/resolve/main/config.json.", KindGatedModel, "Accept the terms"},
	{"requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url: https://huggingface.co/api/models/org/model", KindHubRefused, "hf_token"},
	{"requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: https://huggingface.co/api/models/org/model", KindHubRefused, "hf_token"},
	{"OSError: org/model is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'", KindModelNotFound, "Check model"},
	{"ValueError: Total number of attention heads (28) must be divisible by tensor parallel size (8).", KindTensorParallel, "1, 2, 4, 7, 14 or 28"},
	{"ValueError: Please pass the argument `trust_remote_code=True` to allow custom code to be run.", KindRemoteCode, "trust_remote_code to true"},
	{"ValueError: Model architectures ['Qwen9ForCausalLM'] are not supported for now.", KindUnsupportedModel, "newer vLLM image"},
	{"OSError: [Errno 28] No space left on device: '/root/.cache/huggingface/hub'", KindDiskFull, "disk_gb"},
	{"OSError: [Errno 28] No space left on device: '/dev/shm/psm_5e1f0a2b'", KindSharedMemoryFull, "shm_size"},
	{"nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver", KindDriverTooOld, "min_cuda_version = 13.0"},
	{"RuntimeError: The NVIDIA driver on your system is too old (found version 12040).", KindDriverTooOld, "min_cuda_version"},
	{"RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 804: forward compatibility was attempted on non supported HW", KindDriverTooOld, "driver"},
	{"torch.AcceleratorError: CUDA error: (cudaErrorUnsupportedPtxVersion)", KindDriverTooOld, "driver"},
	{`docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].`, KindContainerToolkit, "NVIDIA container toolkit"},
	{"OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use", KindPortTaken, "Set port"},
	{"Bind for 127.0.0.1:8000 failed: port is already allocated", KindPortTaken, "Set port"},
	{"vllm: error: unrecognized arguments: --flag-of-another-release", KindUnknownFlag, "Remove it from args"},
}

// The root cause stands well before the last line, which usually only says that there was one.
func TestEveryRowOfTheFailureTable(t *testing.T) {
	t.Parallel()
	for _, row := range rows {
		t.Run(row.line[:min(40, len(row.line))], func(t *testing.T) {
			t.Parallel()
			var log []string
			for i := range 60 {
				log = append(log, fmt.Sprintf("INFO 11-24 10:00:%02d [core.py:58] step %d", i%60, i))
			}
			log = append(log, row.line)
			for i := range 240 {
				log = append(log, fmt.Sprintf("(EngineCore_DP0 pid=1)   File \"/usr/lib/python3/x.py\", line %d, in run", i))
			}
			log = append(log, "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")
			got, ok := Diagnose(log)
			if !ok || got.Kind != row.kind || !strings.Contains(got.WayOut, row.wayOut) || got.Cause == "" {
				t.Errorf("%t: %s: %s %s; want %s with %q", ok, got.Kind, got.Cause, got.WayOut, row.kind, row.wayOut)
			}
			if !slices.ContainsFunc(Relevant(log), func(line string) bool { return strings.HasPrefix(row.line, line) }) {
				t.Errorf("what shows it is not among the relevant lines: %q", Relevant(log))
			}
		})
	}
}
