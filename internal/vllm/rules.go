package vllm

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// rules are the causes of failed starts, worded as vLLM (V0 and V1 engines), PyTorch, transformers, huggingface_hub,
// argparse, uvicorn, Docker and the NVIDIA container toolkit word them. Where one message contains another's words, the
// more telling rule stands first.
var rules = []rule{
	{kind: KindGPUMemoryBusy, pattern: regexp.MustCompile(`Free memory on device.*less than desired GPU memory utilization`), explain: explainGPUMemoryBusy},
	{kind: KindNoCacheMemory, pattern: regexp.MustCompile(`No available memory for the cache blocks`), explain: plain(
		"The model's weights fill the GPU: no memory is left for the KV cache.",
		"Use a larger GPU, more GPUs (tensor_parallel_size), or a quantised model; raise gpu_memory_utilization only when the weights nearly fit.")},
	{kind: KindContextTooLong, pattern: regexp.MustCompile(`larger than the available KV cache memory|larger than the maximum number of tokens that can be stored in KV cache|maximum number of tokens that can be stored in KV cache \(`), explain: explainContextTooLong},
	{kind: KindContextAboveModel, pattern: regexp.MustCompile(`User-specified max_model_len.*greater than the derived`), explain: explainContextAboveModel},
	{kind: KindGPUTooOld, pattern: regexp.MustCompile(`quantization method \S+ is not supported for the current GPU|no kernel image is available for execution`), explain: explainGPUTooOld},
	{kind: KindQuantizationMismatch, pattern: regexp.MustCompile(`does not match the quantization method specified|Unknown quantization method`), explain: explainQuantization},
	{kind: KindGatedModel, pattern: regexp.MustCompile(`GatedRepoError|Cannot access gated repo|trying to access a gated repo\.|is restricted and you are not in the authorized list|Access to model \S+ is restricted`), explain: explainGated},
	{kind: KindModelNotFound, pattern: regexp.MustCompile(`not a valid model identifier|RepositoryNotFoundError|Repository Not Found for url|Invalid repository ID or local directory|Repo id must (?:be|use)|does not appear to have a file named config\.json`), explain: explainModelNotFound},
	{kind: KindRevisionNotFound, pattern: regexp.MustCompile(`not a valid git identifier|RevisionNotFoundError|Revision Not Found for url`), explain: plain(
		"The model has no such revision.",
		"Set revision to a branch, tag or commit that the model's page lists, or leave it out.")},
	{kind: KindTensorParallel, pattern: regexp.MustCompile(`attention heads(?: \(\d+\))? must be divisible by tensor parallel size`), explain: explainTensorParallel},
	{kind: KindTooFewGPUs, pattern: regexp.MustCompile(`(?:[Ww]orld|[Tt]ensor parallel) size \(\d+\) (?:is|cannot be) larger than the number of available GPUs`), explain: explainTooFewGPUs},
	{kind: KindRemoteCode, pattern: regexp.MustCompile("contains custom code which must be executed|requires you to execute the \\w+ file|trust_remote_code=True"), explain: plain(
		"The model comes with Python code of its own, which vLLM runs only when told to.",
		"Set trust_remote_code to true after reading that code, and pin revision so that it can't change.")},
	{kind: KindUnsupportedModel, pattern: regexp.MustCompile(`Model architectures? .*not supported|Model architectures? .*failed to be inspected|has no vLLM implementation|Transformers does not recognize this architecture`), explain: explainUnsupportedModel},
	{kind: KindSharedMemoryFull, pattern: regexp.MustCompile(`No space left on device.*/dev/shm|/dev/shm.*No space left on device|Error while creating shared memory segment|insufficient shared memory`), explain: plain(
		"The container's shared memory is full.",
		"Raise the container's shm_size (16g is plenty), or share the host's memory namespace.")},
	{kind: KindDiskFull, pattern: regexp.MustCompile(`No space left on device|Disk quota exceeded|Not enough free disk space to download`), explain: plain(
		"The machine's disk is full.",
		"Rent with a larger disk_gb (the image takes about 20 GB, the weights once their size), or remove what else lies there.")},
	{kind: KindDriverTooOld, pattern: regexp.MustCompile(`unsatisfied condition: cuda|driver.*too old|Error 804: forward compatibility|forward compatibility was attempted on non supported HW|cudaErrorUnsupportedPtxVersion|PTX was compiled with an unsupported toolchain|CUDA driver version is insufficient`), explain: explainDriver},
	{kind: KindContainerToolkit, pattern: regexp.MustCompile(`could not select device driver|unresolvable CDI devices|nvidia-container-cli: initialization error|exec: "nvidia-container-runtime`), explain: plain(
		"Docker on the machine can't hand GPUs to containers: the NVIDIA container toolkit is missing or not set up.",
		"Install the NVIDIA container toolkit and restart Docker, choose a machine that has it, or set runtime to process.")},
	{kind: KindPortTaken, pattern: regexp.MustCompile(`(?i)address already in use|port is already allocated|EADDRINUSE`), explain: explainPort},
	{kind: KindUnknownFlag, pattern: regexp.MustCompile(`unrecognized arguments`), explain: explainUnknownFlag},
	{kind: KindBadFlagValue, pattern: regexp.MustCompile(`error: argument \S+.*: (?:invalid|expected)`), explain: explainBadFlagValue},
	{kind: KindUnsupportedDType, pattern: regexp.MustCompile(`(?i)bfloat16 is only supported on GPUs with compute capability|dtype \S+ is not supported for quantization|model type \S+ does not support float16`), explain: explainDType},
	{kind: KindBatchBelowContext, pattern: regexp.MustCompile(`max_num_batched_tokens \(\d+\) is smaller than max_model_len`), explain: explainBatch},
	{kind: KindTooManySequences, pattern: regexp.MustCompile(`exceeds available Mamba cache blocks|out of memory occurred when warming up sampler`), explain: explainSequences},
	{kind: KindNoGPU, pattern: regexp.MustCompile(`No CUDA GPUs are available|Failed to infer device type|Found no NVIDIA driver on your system|libcuda\.so\.1: cannot open|invalid device ordinal`), generic: true, explain: plain(
		"vLLM sees no GPU, or fewer than it is to use.",
		"Check that nvidia-smi works on the machine and that the container is given its GPUs (gpus), and that CUDA_VISIBLE_DEVICES in env names only GPUs that exist.")},
	{kind: KindOutOfMemory, pattern: regexp.MustCompile(`OutOfMemoryError|(?:CUDA|HIP) out of memory|CUDA error: out of memory|not enough GPU memory`), generic: true, explain: explainOutOfMemory},
	{kind: KindHubRefused, pattern: regexp.MustCompile(`40[13] Client Error|40[13],? (?:message=)?['"]?(?:Unauthorized|Forbidden)|Invalid user token|Invalid credentials in Authorization header|Invalid username or password`), generic: true, explain: plain(
		"The Hugging Face hub refused the download: the token is missing, wrong or not allowed to read this model.",
		"Set hf_token (or hf_token_wo) to a token that may read the model, and accept the model's terms on its page with that account.")},
	{kind: KindHubUnreachable, pattern: regexp.MustCompile(`couldn't connect to 'https?://|LocalEntryNotFoundError|Temporary failure in name resolution|Name or service not known|Network is unreachable|outgoing traffic has been disabled|429 Client Error|Too Many Requests for url`), generic: true, explain: plain(
		"The machine could not download from the Hugging Face hub.",
		"Check the machine's way to the internet (DNS, proxy; HF_ENDPOINT in env names a mirror); set hf_token when the hub limits anonymous downloads.")},
}

// plain explains with fixed words.
func plain(cause, wayOut string) func(string) (string, string) {
	return func(string) (string, string) { return cause, wayOut }
}

// group returns a pattern's first group in the text, "" when it isn't there.
func group(pattern *regexp.Regexp, text string) string {
	found := pattern.FindStringSubmatch(text)
	if found == nil {
		return ""
	}
	return found[1]
}

// number reads a whole number as logs write it, such as 40960, 40,960 or 32768.0; 0 when it is none that makes sense here.
func number(text string) int {
	value, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	if err != nil || value < 0 || value > 1<<40 {
		return 0
	}
	return int(value)
}

var freeMemoryPattern = regexp.MustCompile(`\(([\d.]+)/([\d.]+) GiB\).*?\(([\d.]+), ([\d.]+) GiB\)`)

func explainGPUMemoryBusy(message string) (cause, wayOut string) {
	cause = "Another process holds GPU memory, or gpu_memory_utilization is too high."
	wayOut = "End what else uses the GPU (nvidia-smi lists it), or lower gpu_memory_utilization."
	found := freeMemoryPattern.FindStringSubmatch(message)
	if found == nil {
		return cause, wayOut
	}
	cause = fmt.Sprintf("Only %s of the GPU's %s GiB are free, but gpu_memory_utilization = %s wants %s GiB: another process holds GPU memory, or the share is too high.", found[1], found[2], found[3], found[4])
	free, errFree := strconv.ParseFloat(found[1], 64)
	total, errTotal := strconv.ParseFloat(found[2], 64)
	if errFree != nil || errTotal != nil || total <= 0 {
		return cause, wayOut
	}
	if share := math.Floor(100*free/total) / 100; share > 0 && share <= 1 {
		wayOut = fmt.Sprintf("End what else uses the GPU (nvidia-smi lists it), or set gpu_memory_utilization to %.2f or less.", share)
	}
	return cause, wayOut
}

var (
	estimatePattern  = regexp.MustCompile(`estimated maximum model length is ([\d,]+)`)
	storablePattern  = regexp.MustCompile(`that can be stored in KV cache \(([\d,]+)\)`)
	wantedPattern    = regexp.MustCompile(`max(?:imum)? seq(?:uence)? len(?:gth)? \(([\d,]+)\)`)
	neededPattern    = regexp.MustCompile(`([\d.]+) GiB KV cache is needed`)
	availablePattern = regexp.MustCompile(`available KV cache memory \(([\d.]+) GiB\)`)
)

func explainContextTooLong(message string) (cause, wayOut string) {
	wanted := number(group(wantedPattern, message))
	needed, available := group(neededPattern, message), group(availablePattern, message)
	cause = "The KV cache of one sequence of full length doesn't fit into the GPU memory that the weights leave."
	if wanted > 0 && needed != "" && available != "" {
		cause = fmt.Sprintf("One sequence of %d tokens needs %s GiB of KV cache, but the weights leave only %s GiB.", wanted, needed, available)
	}
	fits := number(group(estimatePattern, message))
	if fits == 0 {
		fits = number(group(storablePattern, message))
	}
	if fits > 0 {
		return cause, fmt.Sprintf("Set max_model_len to %d or less, or use a larger GPU, more GPUs or a quantised model.", fits)
	}
	need, errNeed := strconv.ParseFloat(needed, 64)
	have, errHave := strconv.ParseFloat(available, 64)
	if errNeed == nil && errHave == nil && need > 0 && have > 0 && wanted > 0 {
		if about := int(float64(wanted) * have / need); about > 0 {
			return cause, fmt.Sprintf("Set max_model_len to about %d, or use a larger GPU, more GPUs or a quantised model.", about)
		}
	}
	return cause, "Lower max_model_len, or use a larger GPU, more GPUs or a quantised model."
}

var (
	specifiedPattern = regexp.MustCompile(`User-specified max_model_len \(([\d,]+)\)`)
	derivedPattern   = regexp.MustCompile(`derived max_model_len \((?:\w+=)?([\d,]+)`)
)

func explainContextAboveModel(message string) (cause, wayOut string) {
	limit := number(group(derivedPattern, message))
	cause = "max_model_len is above the model's own limit."
	if specified := number(group(specifiedPattern, message)); specified > 0 && limit > 0 {
		cause = fmt.Sprintf("max_model_len = %d is above the model's own limit of %d tokens.", specified, limit)
	}
	if limit == 0 {
		return cause, "Leave max_model_len out to use the model's own limit, or lower it."
	}
	return cause, fmt.Sprintf("Set max_model_len to %d or less, or leave it out.", limit)
}
