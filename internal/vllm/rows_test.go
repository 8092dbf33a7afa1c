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
	{"ValueError: Quantization method specified in the model config (awq) does not match the quantization method specified in the" +
		" `quantization` argument (gptq).", KindQuantizationMismatch, "Remove quantization"},
	{"ValueError: Unknown quantization method: awqq. Must be one of ['awq']", KindQuantizationMismatch, "Remove quantization"},
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
	{"vllm: error: unrecognized arguments: true", KindUnknownFlag, "a switch stands alone"},
	{"vllm serve: error: ambiguous option: --max-num could match --max-num-batched-tokens, --max-num-seqs", KindUnknownFlag, "Write out the one"},
	{"vllm serve: error: the following arguments are required: --spec", KindFlagRequired, "Add it to args"},
	{"vllm serve: error: argument --enable-lora/--no-enable-lora: ignored explicit argument 'true'", KindBadFlagValue, "switch alone"},
	{"vllm serve: error: argument --max-num-seqs: expected one argument", KindBadFlagValue, "Add its value"},
	{"vllm serve: error: argument --hf-overrides: Value {a cannot be converted to <function loads at 0x7f31>.", KindBadFlagValue, "jsonencode"},
	{"vllm serve: error: argument --compilation-config/-cc: 1 validation error for CompilationConfig   Invalid JSON: key must be a string at line 1 column 2", KindBadFlagValue, "jsonencode"},
	{"vllm serve: error: argument --max-model-len: Value ten cannot be converted to <function human_readable_int at 0x7f31>.", KindBadFlagValue, "remove the flag"},
	{"vllm serve: error: argument --seed: invalid int value: 'x'", KindBadFlagValue, "remove the flag"},
	{"pydantic_core._pydantic_core.ValidationError: 1 validation error for CacheConfig gpu_memory_utilization   Input should be less than or equal to 1 [type=less_than_equal, input_value=1.5, input_type=float]", KindBadFlagValue, "setting that the message names"},
	{"TypeError: Error: --enable-log-outputs requires --enable-log-requests", KindFlagRequired, "Add --enable-log-requests to args"},
	{"KeyError: 'invalid reasoning parser: frob (chose from { deepseek_r1,qwen3 })'", KindUnknownParser, "deepseek_r1,qwen3"},
	{"ValueError: The supplied chat template string (/none.jinja) appears path-like, but doesn't exist!", KindChatTemplate, "--chat-template"},
	{"ValueError: The supplied chat template (/none.jinja) looks like a file path, but it failed to be opened. Reason: [Errno 2] No such file or directory: '/none.jinja'", KindChatTemplate, "--chat-template"},
	{"ValueError: LoRA rank 64 is greater than max_lora_rank 16.", KindLoRARank, `"--max-lora-rank", "64"`},
	{"RuntimeError: Cannot find any model weights with `/models/empty`", KindNoWeights, "checkpoint with weights"},
	{`RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set triton.knobs.build.impl.`, KindNoCompiler, "gcc g++ libc6-dev"},
	{"torch._inductor.exc.InductorError: InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, 'g++')", KindNoCompiler, "g++"},
	{"/tmp/tmp5v/cuda_utils.c:6:10: fatal error: Python.h: No such file or directory", KindPythonHeaders, "python3-dev"},
	{"ImportError: libcudart.so.12: cannot open shared object file: No such file or directory", KindCUDALibrary, "process.directory"},
	{"Failed to initialize NVML: Driver/library version mismatch", KindDriverMismatch, "Reboot"},
	{"pynvml.NVMLError_LibRmVersionMismatch: RM has detected an NVML/RM version mismatch.", KindDriverMismatch, "wait"},
	{"RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 803: system has unsupported display driver / cuda driver combination", KindDriverMismatch, "Reboot"},
	{"nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown", KindDriverMismatch, "Reboot"},
	{"RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)", KindNCCL, "shm_size"},
	{"torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:77, unhandled cuda error (run with NCCL_DEBUG=INFO for details), NCCL version 2.27.5", KindNCCL, "NCCL_P2P_DISABLE"},
	{"[rank1]:[E1127 20:45:36.1 ProcessGroupNCCL.cpp:629] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=2, OpType=ALLREDUCE)", KindNCCL, "shm_size"},
	{"    assert tp_size % self.total_num_kv_heads == 0", KindKVHeads, "power of two"},
	{"AssertionError: 10 is not divisible by 4", KindKVHeads, "tensor_parallel_size"},
	{"nvidia-container-cli: device error: 7: unknown device: unknown", KindUnknownGPU, "container.gpus"},
	{"torch.AcceleratorError: CUDA error: invalid device ordinal", KindUnknownGPU, "CUDA_VISIBLE_DEVICES"},
	{"safetensors_rust.SafetensorError: Error while deserializing header: HeaderTooLarge", KindWeightsDamaged, "download it again"},
	{"RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory", KindWeightsDamaged, "download it again"},
	{"AssertionError: Attempted to load weight (torch.Size([512])) into parameter (torch.Size([256]))", KindWeightsMismatch, "same checkpoint"},
	{"ValueError: Following weights were not initialized from checkpoint: {'model.layers.2.mlp.down_proj.weight'}", KindWeightsMismatch, "same checkpoint"},
	{"ValueError: There is no module or parameter named 'visual' in Qwen2Model", KindWeightsMismatch, "same checkpoint"},
	{"ValueError: Tokenizer class TokenizersBackend does not exist or is not currently imported.", KindTokenizerTooNew, "newer vLLM"},
	{"RuntimeError: Failed to load the tokenizer. If the tokenizer is a custom tokenizer not yet available in the HuggingFace transformers library, consider setting `trust_remote_code=True` in LLM or using the `--trust-remote-code` flag in the CLI.", KindTokenizerTooNew, "newer vLLM"},
	{"ImportError: cannot import name 'AutoModelForVision2Seq' from 'transformers' (/opt/x/transformers/__init__.py)", KindDependencies, "process.version"},
	{"huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and outgoing traffic has been disabled.", KindHubOffline, "HF_HUB_OFFLINE"},
	{"huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co/api/models/org/model: offline mode is enabled. To disable it, please unset the `HF_HUB_OFFLINE` environment variable.", KindHubOffline, "HF_HUB_OFFLINE"},
	{"huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/models/none'. Use `repo_type` argument if needed.", KindModelNotFound, "Put the whole model there"},
	{"  Value error, Invalid repository ID or local directory specified: '/models/none'.", KindModelNotFound, "Put the whole model there"},
	{"  Value error, Invalid repository ID or local directory specified: 'org/nonesuch'.", KindModelNotFound, "private repository"},
	{"(EngineCore pid=9) ERROR 11-27 20:45:36 [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.", KindEngineDied, "more RAM"},
	{"ERROR 11-27 20:45:36 [core_client.py:600] Engine core proc EngineCore_DP0 died unexpectedly, shutting down client.", KindEngineDied, "more RAM"},
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
			beside(t, []string{row.line}, got)
			if !ok || got.Kind != row.kind || !strings.Contains(got.WayOut, row.wayOut) || got.Cause == "" {
				t.Errorf("%t: %s: %s %s; want %s with %q", ok, got.Kind, got.Cause, got.WayOut, row.kind, row.wayOut)
			}
			if !slices.ContainsFunc(Relevant(log), func(line string) bool { return strings.Contains(row.line, strings.TrimSuffix(line, "…")) }) {
				t.Errorf("what shows it is not among the relevant lines: %q", Relevant(log))
			}
		})
	}
}

// An engine's last words repeat its settings, which are no cause (0.22.0, github.com/vllm-project/vllm/issues: dump_input.py).
func TestDiagnoseDump(t *testing.T) {
	t.Parallel()
	const dump = "(EngineCore pid=101) ERROR 06-03 03:39:03 [dump_input.py:72] Dumping input data for V1 LLM engine (v0.22.0) with config: " +
		"model='org/m', trust_remote_code=True, Please pass the argument `trust_remote_code=True`, No space left on device, quantization=awq, "
	log := []string{dump, "(EngineCore pid=101) ERROR 06-03 03:39:03 [dump_input.py:79] Dumping scheduler output for model execution: CUDA out of memory"}
	if got, ok := Diagnose(log); ok {
		t.Errorf("%+v", got)
	}
	log = append(log, "torch.AcceleratorError: CUDA error: the provided PTX was compiled with an unsupported toolchain.")
	if got, ok := Diagnose(log); !ok || got.Kind != KindDriverTooOld {
		t.Errorf("%+v", got)
	}
	if shown := strings.Join(Relevant(log), "\n"); strings.Contains(shown, "Dumping") {
		t.Errorf("shown: %s", shown)
	}
}

// A loader's assertion has no words: where it fails says what it means, and elsewhere it means nothing.
func TestDiagnoseAssertionOfALoader(t *testing.T) {
	t.Parallel()
	traceback := func(function, last string) []string {
		return []string{
			"(Worker pid=7) ERROR 11-27 20:37:45 [multiproc_executor.py:953] Traceback (most recent call last):",
			`(Worker pid=7) ERROR 11-27 20:37:45 [multiproc_executor.py:953]   File "/x/linear.py", line 455, in ` + function,
			"(Worker pid=7) ERROR 11-27 20:37:45 [multiproc_executor.py:953]     ...",
			"(Worker pid=7) ERROR 11-27 20:37:45 [multiproc_executor.py:953] " + last,
			"RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
		}
	}
	for _, last := range []string{
		"AssertionError", "KeyError: 'layers.2.input_layernorm.weight'",
		"RuntimeError: start (0) + length (128) exceeds dimension size (64).",
		"RuntimeError: The size of tensor a (64) must match the size of tensor b (128) at non-singleton dimension 1",
	} {
		for _, function := range []string{"weight_loader", "weight_loader_v2", "default_weight_loader", "load_weights", "load_column_parallel_weight"} {
			if got, ok := Diagnose(traceback(function, last)); !ok || got.Kind != KindWeightsMismatch || got.Evidence[0] != last {
				t.Errorf("%s in %s: %+v", last, function, got)
			}
		}
		if got, ok := Diagnose(traceback("forward", last)); ok {
			t.Errorf("%s in forward: %+v", last, got)
		}
	}
}

// A worker killed while loading leaves only what the others say of it (vllm/v1/executor/multiproc_executor.py, wait_for_ready).
func TestDiagnoseWorkerKilledWhileLoading(t *testing.T) {
	t.Parallel()
	log := []string{
		"(Worker pid=12693) INFO 11-27 20:37:45 [cpu_model_runner.py:68] Starting to load model tiny...",
		"(EngineCore pid=12680) ERROR 11-27 20:37:47 [core.py:1510] EngineCore failed to start.",
		"(EngineCore pid=12680) ERROR 11-27 20:37:47 [core.py:1510] Traceback (most recent call last):",
		"(EngineCore pid=12680) ERROR 11-27 20:37:47 [core.py:1510] EOFError",
		"(EngineCore pid=12680) ERROR 11-27 20:37:47 [core.py:1510] Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.",
		"Process EngineCore:",
		"Traceback (most recent call last):",
		"Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.",
		"RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}",
	}
	if got, ok := Diagnose(log); !ok || got.Kind != KindEngineDied {
		t.Errorf("%+v", got)
	}
	// With another error in the log, the engine did not die silently, even where no rule knows that error.
	if got, ok := Diagnose(append(log[:2:2], append([]string{"RuntimeError: something new"}, log[2:]...)...)); ok {
		t.Errorf("%+v", got)
	}
}
