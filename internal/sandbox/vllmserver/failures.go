package vllmserver

import (
	"fmt"
	"slices"
)

// stage is where in a start a failure comes up, and so how it is logged.
type stage int

const (
	stageArguments stage = iota // argparse, before anything else
	stageConfig                 // the API server reads the model's configuration
	stageBind                   // the API server binds its port
	stageDevice                 // the engine opens the GPUs
	stageWeights                // the engine loads the weights
	stageCache                  // the engine sizes the KV cache
)

// Failure is a way for a start to fail, for machinefs.VLLM.Fail.
type Failure struct {
	// Name is the row's name, such as "out_of_memory".
	Name string
	// Message is the line that says what was wrong, as it appears in the log.
	Message string
	// Container is true for a failure that a container engine reports when it
	// starts the container, before vLLM runs. A server that is started without an
	// engine prints it and exits.
	Container bool

	stage stage
	// before are lines above Message that belong to it.
	before []string
}

// Failures returns every failure that can be asked for by name, in a fixed
// order: each row of what a failed start can mean, with the wording of each of
// vLLM's releases where it changed. The figures in the messages are examples.
func Failures() []Failure { return slices.Clone(failures) }

// FindFailure returns the failure of that name.
func FindFailure(name string) (Failure, bool) {
	for _, f := range failures {
		if f.Name == name {
			return f, true
		}
	}
	return Failure{}, false
}

const hubURL = "https://huggingface.co/"

var failures = []Failure{
	{Name: "gpu_memory_held", stage: stageDevice, Message: freeMemoryMessage(0, 3.22, 23.53, 0.9)},
	{Name: "no_cache_memory", stage: stageCache, Message: noCacheMessage},
	{Name: "cache_too_small", stage: stageCache, Message: cacheTooSmallMessage(32768, 4.0, 2.11, 17280)},
	{Name: "cache_too_small_old", stage: stageCache, Message: "ValueError: The model's max seq len (32768) is larger than the maximum number of tokens that can be stored in KV cache (17280). Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine."},
	{Name: "out_of_memory", stage: stageWeights, Message: outOfMemoryMessage(0, 23.53, 0.31)},
	{Name: "max_model_len", stage: stageConfig, Message: maxLenMessage(65536, 32768)},
	{Name: "quantization_capability", stage: stageConfig, Message: quantCapabilityMessage("modelopt", 89, 80)},
	{Name: "quantization_mismatch", stage: stageConfig, Message: quantMismatchMessage("awq", "gptq")},
	{Name: "quantization_unknown", stage: stageConfig, Message: quantUnknownMessage("awqq")},
	{Name: "gated_model", stage: stageConfig, before: gatedLines("meta-llama/Llama-3.1-8B-Instruct", ""), Message: gatedMessage("meta-llama/Llama-3.1-8B-Instruct")},
	{Name: "hub_unauthorized", stage: stageConfig, before: []string{"huggingface_hub.errors.HfHubHTTPError: 401 Client Error: Unauthorized for url: " + hubURL + "api/models/org/model"}, Message: "OSError: There was a specific connection error when trying to load org/model: 401 Client Error: Unauthorized"},
	{Name: "hub_forbidden", stage: stageConfig, before: gatedLines("meta-llama/Llama-3.1-8B-Instruct", "noaccess"), Message: gatedMessage("meta-llama/Llama-3.1-8B-Instruct")},
	{Name: "model_unknown", stage: stageConfig, Message: unknownModelMessage("org/nosuch-model")},
	{Name: "heads_not_divisible", stage: stageConfig, Message: headsMessage(28, 8)},
	{Name: "trust_remote_code", stage: stageConfig, Message: remoteCodeMessage("THUDM/chatglm3-6b")},
	{Name: "architecture", stage: stageConfig, Message: architectureMessage("GptOssForCausalLM")},
	{Name: "disk_full", stage: stageWeights, Message: "OSError: [Errno 28] No space left on device: '/root/.cache/huggingface/hub/models--org--model/blobs/0a1b2c.incomplete'"},
	{Name: "shm_full", stage: stageDevice, Message: "OSError: [Errno 28] No space left on device: '/dev/shm/psm_5e1f0a2b'"},
	{Name: "cuda_requirement", Container: true, Message: ociError("nvidia-container-cli: requirement error: unsatisfied condition: cuda>=13.0, please update your driver to a newer version, or use an earlier cuda container: unknown")},
	{Name: "driver_too_old", stage: stageDevice, Message: driverTooOldMessage(12040)},
	{Name: "forward_compatibility", stage: stageDevice, Message: forwardCompatMessage},
	{Name: "unsupported_ptx", stage: stageCache, Message: "torch.AcceleratorError: CUDA error: the provided PTX was compiled with an unsupported toolchain. (cudaErrorUnsupportedPtxVersion)"},
	{Name: "gpu_runtime", Container: true, Message: `could not select device driver "" with capabilities: [[gpu]]`},
	{Name: "port_in_use", stage: stageBind, Message: portInUseMessage},
	{Name: "port_allocated", Container: true, Message: "driver failed programming external connectivity on endpoint vllm (5b1e0c7a2d): Bind for 127.0.0.1:8000 failed: port is already allocated"},
	{Name: "unrecognized_arguments", stage: stageArguments, Message: "vllm: error: unrecognized arguments: --flag-of-another-release"},
	{Name: "world_size", stage: stageConfig, Message: worldSizeMessage(8, 1)},
	{Name: "bfloat16", stage: stageDevice, Message: bfloat16Message("Tesla T4", "7.5")},
	{Name: "no_gpu", stage: stageConfig, Message: noGPUMessage},
}

// startError is a start that failed.
type startError struct {
	stage   stage
	before  []string
	message string
	// container is set for what a container engine would have reported.
	container bool
}

func (e *startError) Error() string { return e.message }

func fail(at stage, message string, before ...string) error {
	return &startError{stage: at, message: message, before: before}
}

func (e *startError) exitCode() int {
	switch {
	case e.container:
		return 128 // as the engine records a container that it could not start
	case e.stage == stageArguments:
		return exitUsage
	}
	return exitFailure
}

func (e *startError) write(log *logger) {
	lines := append(slices.Clone(e.before), e.message)
	switch {
	case e.container:
		log.plainError("Error response from daemon: " + e.message)
	case e.stage == stageArguments:
		log.plainError(append([]string{usage}, lines...)...)
	case e.stage >= stageDevice:
		log.coreFailed(lines...)
	default:
		log.traceback(lines...)
	}
}

// demanded returns the failure that the machine's facts ask for at a stage.
func (r *run) demanded(at stage) error {
	name := r.place.latest().VLLM.Fail
	if name == "" {
		return nil
	}
	f, ok := FindFailure(name)
	switch {
	case !ok && at == stageArguments:
		return fail(stageConfig, fmt.Sprintf("the sandbox knows no failure named %q", name))
	case ok && f.Container && at == stageArguments:
		return &startError{container: true, message: f.Message}
	case ok && !f.Container && f.stage == at:
		return fail(at, f.Message, f.before...)
	}
	return nil
}
