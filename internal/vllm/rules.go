package vllm

import (
	"regexp"
	"slices"
)

// rule recognises one cause. Its pattern is matched against one line, or against two that a terminal or a formatter
// has broken.
type rule struct {
	kind    Kind
	pattern wordings
	// generic rules give way to any other: their message also comes as the consequence of a cause with a rule of its own.
	generic bool
	explain func(message string) (cause, wayOut string)
}

// rules are the causes of failed starts, worded as vLLM (V0 and V1 engines), PyTorch, transformers, huggingface_hub,
// argparse, uvicorn, Docker and the NVIDIA container toolkit word them. Where one message contains another's words, the
// more telling rule stands first.
var rules = slices.Concat(memoryRules, modelRules, machineRules, flagRules, genericRules)

// memoryRules are about GPU memory, as vLLM's worker and KV cache code measure it.
var memoryRules = []rule{
	{
		kind:    KindGPUMemoryBusy,
		pattern: oneOf(`Free memory on device.*less than desired GPU memory utilization`),
		explain: explainGPUMemoryBusy,
	},
	{
		kind:    KindNoCacheMemory,
		pattern: oneOf(`No available memory for the cache blocks`),
		explain: plain("The model's weights fill the GPU: no memory is left for the KV cache.",
			"Use a larger GPU, more GPUs (tensor_parallel_size), or a quantised model; "+
				"raise gpu_memory_utilization only when the weights nearly fit."),
	},
	{
		kind: KindContextTooLong,
		pattern: oneOf(`larger than the available KV cache memory`,
			`maximum number of tokens that can be stored in KV cache \(`),
		explain: explainContextTooLong,
	},
	{
		kind:    KindTooManySequences,
		pattern: oneOf(`exceeds available Mamba cache blocks`, `out of memory occurred when warming up sampler`),
		explain: explainSequences,
	},
}

// modelRules are about the model: its limits, its files, and who may have them.
var modelRules = []rule{
	{
		kind:    KindContextAboveModel,
		pattern: oneOf(`User-specified max_model_len.*greater than the derived`),
		explain: explainContextAboveModel,
	},
	{
		kind:    KindQuantizationMismatch,
		pattern: oneOf(`does not match the quantization method specified`, `Unknown quantization method`),
		explain: explainQuantization,
	},
	{
		kind: KindGatedModel,
		pattern: oneOf(`GatedRepoError`, `Cannot access gated repo`, `trying to access a gated repo\.`,
			`Access to model \S+ is restricted`),
		explain: explainGated,
	},
	{
		kind: KindModelNotFound,
		pattern: oneOf(`not a valid model identifier`, `RepositoryNotFoundError`, `Repository Not Found for url`,
			`Invalid repository ID or local directory`, `Repo id must be`, `Repo id must use`,
			`does not appear to have a file named config\.json`),
		explain: explainModelNotFound,
	},
	{
		kind:    KindRevisionNotFound,
		pattern: oneOf(`not a valid git identifier`, `RevisionNotFoundError`, `Revision Not Found for url`),
		explain: plain("The model has no such revision.",
			"Set revision to a branch, tag or commit that the model's page lists, or leave it out."),
	},
	{
		kind: KindRemoteCode,
		pattern: oneOf(`contains custom code which must be executed`, `requires you to execute the \w+ file`,
			`trust_remote_code=True`),
		explain: plain("The model comes with Python code of its own, which vLLM runs only when told to.",
			"Set trust_remote_code to true after reading that code, and pin revision so that it can't change."),
	},
	{
		kind: KindUnsupportedModel,
		pattern: oneOf(`Model architectures? .*not supported`, `Model architectures? .*failed to be inspected`,
			`has no vLLM implementation`, `Transformers does not recognize this architecture`),
		explain: explainUnsupportedModel,
	},
	{
		kind:    KindTensorParallel,
		pattern: oneOf(`attention heads(?: \(\d+\))? must be divisible by tensor parallel size`),
		explain: explainTensorParallel,
	},
}

// machineRules are about the machine: its GPUs, driver, disk and ports.
var machineRules = []rule{
	{
		kind: KindGPUTooOld,
		pattern: oneOf(`quantization method \S+ is not supported for the current GPU`,
			`no kernel image is available for execution`),
		explain: explainGPUTooOld,
	},
	{
		kind: KindUnsupportedDType,
		pattern: oneOf(`float16 is only supported on GPUs with compute capability`,
			`is not supported for quantization method \S+ Supported dtypes`, `model type \S+ does not support float16`),
		explain: explainDType,
	},
	{
		kind:    KindTooFewGPUs,
		pattern: oneOf(`larger than the number of available GPUs`),
		explain: explainTooFewGPUs,
	},
	{
		kind: KindSharedMemoryFull,
		pattern: oneOf(`No space left on device.*/dev/shm`, `/dev/shm.*No space left on device`,
			`Error while creating shared memory segment`, `insufficient shared memory`),
		explain: plain("The container's shared memory is full.",
			"Raise the container's shm_size (16g is plenty), or share the host's memory namespace."),
	},
	{
		kind:    KindDiskFull,
		pattern: oneOf(`No space left on device`, `Disk quota exceeded`),
		explain: plain("The machine's disk is full.",
			"Rent with a larger disk_gb (room for the image and, once more, for the weights), or remove what else lies there."),
	},
	{
		kind: KindDriverTooOld,
		pattern: oneOf(`unsatisfied condition: cuda`, `driver.{0,100} too old`, `Error 804: forward compatibility`,
			`forward compatibility was attempted on non supported HW`, `cudaErrorUnsupportedPtxVersion`,
			`PTX was compiled with an unsupported toolchain`, `CUDA driver version is insufficient`),
		explain: explainDriver,
	},
	{
		kind: KindContainerToolkit,
		pattern: oneOf(`could not select device driver`, `unresolvable CDI devices`,
			`nvidia-container-cli: initialization error`, `exec: "nvidia-container-runtime`),
		explain: plain("Docker on the machine can't hand GPUs to containers: the NVIDIA container toolkit is missing or not set up.",
			"Install the NVIDIA container toolkit and restart Docker, choose a machine that has it, or set runtime to process."),
	},
	{
		kind:    KindPortTaken,
		pattern: oneOf(`address already in use`, `Address already in use`, `port is already allocated`, `EADDRINUSE`),
		explain: explainPort,
	},
}

// flagRules are about the command line.
var flagRules = []rule{
	{kind: KindUnknownFlag, pattern: oneOf(`unrecognized arguments`), explain: explainUnknownFlag},
	{kind: KindBadFlagValue, pattern: oneOf(`error: argument \S+.*: (?:invalid|expected)`), explain: explainBadFlagValue},
	{
		kind:    KindBatchBelowContext,
		pattern: oneOf(`max_num_batched_tokens \(\d+\) is smaller than max_model_len`),
		explain: explainBatch,
	},
}

// genericRules come last: most of their messages also follow from a cause above.
var genericRules = []rule{
	{
		kind: KindNoGPU, generic: true,
		pattern: oneOf(`No CUDA GPUs are available`, `Failed to infer device type`,
			`Found no NVIDIA driver on your system`, `libcuda\.so\.1: cannot open`, `invalid device ordinal`),
		explain: plain("vLLM sees no GPU, or fewer than it is to use.",
			"Check that nvidia-smi works on the machine, that the container is given its GPUs (gpus), "+
				"and that CUDA_VISIBLE_DEVICES in env names only GPUs that exist."),
	},
	{
		kind: KindOutOfMemory, generic: true,
		pattern: oneOf(`OutOfMemoryError`, `CUDA out of memory`, `HIP out of memory`, `CUDA error: out of memory`, `not enough GPU memory`),
		explain: explainOutOfMemory,
	},
	{
		kind: KindKilled, generic: true,
		pattern: oneOf(`Failed core proc\(s\): \{[^}]*: -9\b`),
		explain: func(string) (string, string) { return ExplainKilled() },
	},
	{
		kind: KindHubRefused, generic: true,
		pattern: oneOf(`401 Client Error`, `403 Client Error`, `401 Unauthorized`, `403 Forbidden`,
			`401, message='Unauthorized`, `403, message='Forbidden`, `Invalid user token`,
			`Invalid credentials in Authorization header`, `Invalid username or password`),
		explain: plain("The Hugging Face hub refused the download: the token is missing, wrong or not allowed to read this model.",
			"Set hf_token (or hf_token_wo) to a token that may read the model, and accept the model's terms with that account."),
	},
	{
		kind: KindHubUnreachable, generic: true,
		pattern: oneOf(`couldn't connect to 'https?://`, `LocalEntryNotFoundError`, `Temporary failure in name resolution`,
			`Name or service not known`, `Network is unreachable`, `outgoing traffic has been disabled`,
			`429 Client Error`, `Too Many Requests for url`),
		explain: plain("The machine could not download from the Hugging Face hub.",
			"Check the machine's way to the internet (DNS, proxy; HF_ENDPOINT in env names a mirror); "+
				"set hf_token when the hub limits anonymous downloads."),
	},
}

// wordings are the ways in which one thing is said. Each pattern is compiled for itself and begins with plain text: so a
// search skips to that text, and a long log is read quickly.
type wordings []*regexp.Regexp

// oneOf compiles wordings.
func oneOf(alternatives ...string) wordings {
	patterns := make(wordings, len(alternatives))
	for i, alternative := range alternatives {
		patterns[i] = regexp.MustCompile(alternative)
	}
	return patterns
}

// find returns the first wording's match in the text and its groups, nil when there is none.
func (w wordings) find(text string) []string {
	for _, pattern := range w {
		if found := pattern.FindStringSubmatch(text); found != nil {
			return found
		}
	}
	return nil
}

// beginIn tells whether some wording begins within the first bytes of the text.
func (w wordings) beginIn(text string, bytes int) bool {
	for _, pattern := range w {
		if found := pattern.FindStringIndex(text); len(found) > 0 && found[0] < bytes {
			return true
		}
	}
	return false
}

// plain explains with fixed words.
func plain(cause, wayOut string) func(string) (string, string) {
	return func(string) (string, string) { return cause, wayOut }
}
