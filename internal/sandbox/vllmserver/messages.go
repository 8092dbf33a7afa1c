package vllmserver

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The messages below are vLLM's, transformers' and PyTorch's own; the comment at
// each says whose and where.

// vllm/v1/core/kv_cache_utils.py, _check_enough_kv_cache_memory
const noCacheMessage = "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine. See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."

// The same place. A maximum of 0 leaves the estimate out.
func cacheTooSmallMessage(maxLen int, needGiB, haveGiB float64, maximum int) string {
	estimate := ""
	if maximum > 0 {
		estimate = fmt.Sprintf("Based on the available memory, the estimated maximum model length is %d. ", maximum)
	}
	return fmt.Sprintf("ValueError: To serve at least one request with the models's max seq len (%d), (%.2f GiB KV cache is needed, which is larger than the available KV cache memory (%.2f GiB). %sTry increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine. See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details.",
		maxLen, needGiB, haveGiB, estimate)
}

// vllm/v1/worker/gpu_worker.py, init_device
func freeMemoryMessage(gpu int, freeGiB, totalGiB, utilization float64) string {
	return fmt.Sprintf("ValueError: Free memory on device cuda:%d (%.2f/%.2f GiB) on startup is less than desired GPU memory utilization (%g, %.2f GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
		gpu, freeGiB, totalGiB, utilization, utilization*totalGiB)
}

// PyTorch, c10/cuda/CUDACachingAllocator.cpp
func outOfMemoryMessage(gpu int, totalGiB, freeGiB float64) string {
	return fmt.Sprintf("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.25 GiB. GPU %d has a total capacity of %.2f GiB of which %.2f GiB is free. Including non-PyTorch memory, this process has %.2f GiB memory in use. See documentation for Memory Management (https://pytorch.org/docs/stable/notes/cuda.html#environment-variables)",
		gpu, totalGiB, freeGiB, totalGiB-freeGiB)
}

// validation wraps a message as pydantic reports it, headed by the class that
// refused its arguments.
func validation(class, message string) (before, text string) {
	before = "pydantic_core._pydantic_core.ValidationError: 1 validation error for " + class
	return before, "  Value error, " + message + " [type=value_error, input_value=ArgsKwargs((), {'model': ...nderer_num_workers': 1}), input_type=ArgsKwargs]"
}

// vllm/config/model.py, _get_and_verify_max_len
func maxLenMessage(asked, derived int) string {
	_, text := validation("ModelConfig", fmt.Sprintf("User-specified max_model_len (%d) is greater than the derived max_model_len (max_position_embeddings=%d or model_max_length=None in model's config.json). To allow overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1. VLLM_ALLOW_LONG_MAX_MODEL_LEN must be used with extreme caution. If the model uses relative position encoding (RoPE), positions exceeding derived_max_model_len lead to nan. If the model uses absolute position encoding, positions exceeding derived_max_model_len will cause a CUDA array out-of-bounds error.", asked, derived))
	return text
}

// vllm/config/vllm.py, _get_quantization_config
func quantCapabilityMessage(method string, minimum, have int) string {
	_, text := validation("VllmConfig", fmt.Sprintf("The quantization method %s is not supported for the current GPU. Minimum capability: %d. Current capability: %d.", method, minimum, have))
	return text
}

// vllm/config/model.py, _verify_quantization
func quantMismatchMessage(checkpoint, asked string) string {
	_, text := validation("ModelConfig", fmt.Sprintf("Quantization method specified in the model config (%s) does not match the quantization method specified in the `quantization` argument (%s).", checkpoint, asked))
	return text
}

func quantUnknownMessage(asked string) string {
	known := slices.Sorted(maps.Keys(quantisations))
	_, text := validation("ModelConfig", fmt.Sprintf("Unknown quantization method: %s. Must be one of ['%s'].", asked, strings.Join(known, "', '")))
	return text
}

// vllm/config/model.py, verify_with_parallel_config
func headsMessage(heads, tp int) string {
	_, text := validation("VllmConfig", fmt.Sprintf("Total number of attention heads (%d) must be divisible by tensor parallel size (%d).", heads, tp))
	return text
}

// vllm/config/parallel.py
func worldSizeMessage(world, gpus int) string {
	_, text := validation("ParallelConfig", fmt.Sprintf("World size (%d) is larger than the number of available GPUs (%d) in this node. If this is intentional and you are using:\n- ray, set '--distributed-executor-backend ray'.\n- multiprocessing, set '--nnodes' appropriately.", world, gpus))
	return text
}

// vllm/model_executor/models/registry.py
func architectureMessage(arch string) string {
	_, text := validation("ModelConfig", fmt.Sprintf("Model architectures ['%s'] are not supported for now. Supported architectures: dict_keys(['LlamaForCausalLM', 'MistralForCausalLM', 'Qwen2ForCausalLM'])", arch))
	return text
}

// transformers, dynamic_module_utils.py, as vLLM passes it on
func remoteCodeMessage(model string) string {
	_, text := validation("ModelConfig", fmt.Sprintf("The repository %s contains custom code which must be executed to correctly load the model. You can inspect the repository content at https://hf.co/%s .\n You can inspect the repository content at https://hf.co/%s.\nPlease pass the argument `trust_remote_code=True` to allow custom code to be run.", model, model, model))
	return text
}

// transformers, utils/hub.py, cached_files
func unknownModelMessage(model string) string {
	return fmt.Sprintf("OSError: %s is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'\nIf this is a private repository, make sure to pass a token having permission to this repo either by logging in with `hf auth login` or by passing `token=<your_token>`", model)
}

func unknownRevisionMessage(revision, model string) string {
	return fmt.Sprintf("OSError: %s is not a valid git identifier (branch name, tag name or commit id) that exists for this model name. Check the model page at '%s%s' for available revisions.", revision, hubURL, model)
}

// transformers, utils/hub.py, over huggingface_hub's GatedRepoError
func gatedMessage(model string) string {
	return fmt.Sprintf("OSError: You are trying to access a gated repo.\nMake sure to have access to it at %s%s.", hubURL, model)
}

// gatedLines are what huggingface_hub says, depending on the token: none, one
// that the hub does not know, or one whose owner has not accepted the terms.
func gatedLines(model, token string) []string {
	code, why := "401", fmt.Sprintf("Access to model %s is restricted. You must have access to it and be authenticated to access it. Please log in.", model)
	switch {
	case strings.Contains(token, "noaccess"):
		code, why = "403", fmt.Sprintf("Access to model %s is restricted and you are not in the authorized list. Visit %s%s to ask for access.", model, hubURL, model)
	case token != "":
		why = "Invalid credentials in Authorization header"
	}
	return []string{
		"huggingface_hub.errors.GatedRepoError: " + code + " Client Error. (Request ID: Root=1-6924f0a1-0c1d2e3f)",
		fmt.Sprintf("Cannot access gated repo for url %s%s/resolve/main/config.json.", hubURL, model),
		why,
	}
}

// PyTorch, torch/cuda/__init__.py
func driverTooOldMessage(found int) string {
	return fmt.Sprintf("RuntimeError: The NVIDIA driver on your system is too old (found version %d). Please update your GPU driver by downloading and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx Alternatively, go to: https://pytorch.org to install a PyTorch version that has been compiled with your version of the CUDA driver.", found)
}

const forwardCompatMessage = "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() that might have already set an error? Error 804: forward compatibility was attempted on non supported HW"

// vllm/v1/worker/gpu_worker.py, _check_if_gpu_supports_dtype
func bfloat16Message(gpu, capability string) string {
	return fmt.Sprintf("ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your %s GPU has compute capability %s. You can use float16 instead by explicitly setting the `dtype` flag in CLI, for example: --dtype=half.", gpu, capability)
}

// vllm/config/device.py
const noGPUMessage = "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue."

// CPython, socket.bind
const portInUseMessage = "OSError: [Errno 98] Address already in use"

// ociError is how a container engine words a failure of the NVIDIA runtime hook.
func ociError(message string) string {
	return "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\n" + message
}
