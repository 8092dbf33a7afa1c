package vllm

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

var (
	methodPattern     = regexp.MustCompile(`quantization method (\S+) is not supported for the current GPU`)
	minimumPattern    = regexp.MustCompile(`Minimum capability: (\d+)`)
	capabilityPattern = regexp.MustCompile(`Current capability: (\d+)`)
)

// capability turns 89 into 8.9, as NVIDIA writes compute capabilities.
func capability(digits string) string {
	if len(digits) < 2 {
		return digits
	}
	return digits[:len(digits)-1] + "." + digits[len(digits)-1:]
}

// capabilityExamples name GPUs that people rent, by the compute capability they have (NVIDIA's CUDA GPUs page).
var capabilityExamples = map[string]string{
	"7.0": "V100", "7.5": "T4", "8.0": "A100", "8.6": "A10 or RTX 3090", "8.9": "L4, L40S or RTX 4090", "9.0": "H100", "10.0": "B200",
}

func explainGPUTooOld(message string) (cause, wayOut string) {
	method, minimum := group(methodPattern, message), group(minimumPattern, message)
	if method == "" {
		return "This vLLM build has no kernels for the machine's GPU: the GPU is too old for it, or too new.",
			"Use a GPU of compute capability 7.5 or newer, and for a very new GPU a newer image."
	}
	if minimum == "" {
		return fmt.Sprintf("The GPU is too old for the quantisation method %s.", method),
			"Use a newer GPU, or a model with another quantisation."
	}
	cause = fmt.Sprintf("The GPU is too old for the quantisation method %s: that needs compute capability %s", method, capability(minimum))
	if current := group(capabilityPattern, message); current != "" {
		cause += fmt.Sprintf(", the GPU has %s", capability(current))
	}
	example := ""
	if gpu, ok := capabilityExamples[capability(minimum)]; ok {
		example = fmt.Sprintf(" (such as %s)", gpu)
	}
	return cause + ".", fmt.Sprintf("Use a GPU of compute capability %s or newer%s, or a model with another quantisation.",
		capability(minimum), example)
}

var (
	configMethodPattern   = regexp.MustCompile(`specified in the model config \(([^)]*)\)`)
	argumentMethodPattern = regexp.MustCompile("specified in the `?quantization`? argument \\(([^)]*)\\)")
	unknownMethodPattern  = regexp.MustCompile(`Unknown quantization method: ?(\S+?)\.? `)
)

func explainQuantization(message string) (cause, wayOut string) {
	wayOut = "Leave quantization out: the checkpoint says how it is quantised."
	config, argument := group(configMethodPattern, message), group(argumentMethodPattern, message)
	switch {
	case config != "" && argument != "":
		return fmt.Sprintf("The checkpoint is quantised as %s, but quantization asks for %s.", config, argument), wayOut
	case group(unknownMethodPattern, message+" ") != "":
		return fmt.Sprintf("This vLLM release doesn't know the quantisation method %s.", group(unknownMethodPattern, message+" ")),
			"Leave quantization out: the checkpoint says how it is quantised; if it is the checkpoint's own method, use a newer image."
	}
	return "quantization names another method than the checkpoint, or one that this vLLM release doesn't know.", wayOut
}

var gatedPattern = regexp.MustCompile(`(?:Access to model |https?://[^/\s]+/)([\w.-]+/[\w.-]*\w)`)

func explainGated(message string) (cause, wayOut string) {
	model := group(gatedPattern, message)
	if model == "" || strings.HasPrefix(model, "api/") {
		model = "model"
	}
	return fmt.Sprintf("The hub doesn't give out the %s: it is gated, and the Hugging Face token is missing, wrong, "+
			"or its account hasn't accepted the model's terms.", modelName(model)),
		"Accept the terms on the model's page, and set hf_token (or hf_token_wo) to a token of that account."
}

func modelName(model string) string {
	if model == "model" {
		return model
	}
	return "model " + model
}

var unknownModelPatterns = []*regexp.Regexp{
	regexp.MustCompile(`(\S+) is not a local folder`),
	regexp.MustCompile(`(\S+) does not appear to have a file named`),
	regexp.MustCompile(`local directory specified: (\S+?)[.,]? `),
}

func explainModelNotFound(message string) (cause, wayOut string) {
	for _, pattern := range unknownModelPatterns {
		if model := strings.Trim(group(pattern, message+" "), `'"`); model != "" {
			cause = fmt.Sprintf("There is no model %s that this token may see: the id is wrong, or the repository is private.", model)
			break
		}
	}
	if cause == "" {
		cause = "There is no such model that this token may see: the id is wrong, or the repository is private."
	}
	return cause, "Check model for typing errors; for a private repository set hf_token (or hf_token_wo) to a token that may read it."
}

var (
	headsPattern    = regexp.MustCompile(`attention heads \((\d+)\)`)
	parallelPattern = regexp.MustCompile(`tensor parallel size \((\d+)\)`)
)

// mostHeads bounds attention heads, well above those of any model.
const mostHeads = 1 << 12

func explainTensorParallel(message string) (cause, wayOut string) {
	heads, size := number(group(headsPattern, message)), number(group(parallelPattern, message))
	if heads < 1 || heads > mostHeads {
		return "The model's attention heads can't be shared out evenly among that many GPUs.",
			"Set tensor_parallel_size to a divisor of the model's number of attention heads."
	}
	cause = fmt.Sprintf("The model's %d attention heads can't be shared out evenly", heads)
	if size > 0 {
		cause += fmt.Sprintf(" among %d GPUs", size)
	}
	return cause + ".", fmt.Sprintf("Set tensor_parallel_size to a divisor of %d: %s.", heads, divisors(heads))
}

// divisors lists all divisors of n: "1, 2, 4, 7, 14 or 28".
func divisors(n int) string {
	var found []string
	for d := 1; d <= n; d++ {
		if n%d == 0 {
			found = append(found, strconv.Itoa(d))
		}
	}
	if len(found) < 2 {
		return strings.Join(found, "")
	}
	return strings.Join(found[:len(found)-1], ", ") + " or " + found[len(found)-1]
}

var gpuCountPattern = regexp.MustCompile(`number of available GPUs \((\d+)\)`)

func explainTooFewGPUs(message string) (cause, wayOut string) {
	count := number(group(gpuCountPattern, message))
	if count < 1 {
		return "The server is to use more GPUs than it sees.",
			"Lower tensor_parallel_size or pipeline_parallel_size to the machine's GPUs, or rent a machine with more."
	}
	return fmt.Sprintf("The server is to use more GPUs than the %d it sees.", count),
		fmt.Sprintf("Choose tensor_parallel_size and pipeline_parallel_size so that their product is %d, "+
			"or rent a machine with more GPUs.", count)
}

var architecturePattern = regexp.MustCompile(`Model architectures? (\[[^\]]*\])|(\w+) has no vLLM implementation|model type .?([\w-]+)`)

func explainUnsupportedModel(message string) (cause, wayOut string) {
	name := "this model's architecture"
	for _, found := range architecturePattern.FindStringSubmatch(message) {
		if found != "" {
			name = "the architecture " + found
		}
	}
	return fmt.Sprintf("This vLLM release doesn't support %s.", name),
		"Use a newer vLLM image or version; vLLM's list of supported models says which models it runs."
}

var (
	cudaPattern        = regexp.MustCompile(`unsatisfied condition: cuda ?>= ?(\d+\.\d+)`)
	driverCUDAPattern  = regexp.MustCompile(`found version (\d{5})\b`)
	driverWayOutFormat = "Choose a machine with a newer driver (requirements.min_cuda_version = %s, which Vast.ai alone reports; " +
		"CUDA 13 images want driver 580 or newer), or an older image: the default builds up to v0.20.0 are CUDA 12. " +
		"On some datacenter GPUs VLLM_ENABLE_CUDA_COMPATIBILITY=1 in env helps."
)

func explainDriver(message string) (cause, wayOut string) {
	cause = "The machine's NVIDIA driver is older than the image needs"
	wanted := group(cudaPattern, message)
	if wanted != "" {
		cause += fmt.Sprintf(": the image wants CUDA %s", wanted)
	}
	if version := number(group(driverCUDAPattern, message)); version > 0 {
		cause += fmt.Sprintf(": the driver supports CUDA %d.%d at most", version/1000, version%1000/10)
	}
	if wanted == "" {
		wanted = "13.0"
	}
	return cause + ".", fmt.Sprintf(driverWayOutFormat, wanted)
}

// portPattern finds the port in uvicorn's and in Docker's words.
var portPattern = oneOf(`address \('[^']*', (\d{1,5})\)`, `:(\d{1,5})(?::? bind|:? failed|:? address already|\))`)

func explainPort(message string) (cause, wayOut string) {
	cause = "The port is taken by another process on the machine."
	for _, found := range portPattern.find(message) {
		if n := number(found); n > 0 && found == strconv.Itoa(n) {
			cause = fmt.Sprintf("Port %d is taken by another process on the machine.", n)
		}
	}
	return cause, "Set port to a free one, or end what listens there."
}

var (
	unknownFlagsPattern = regexp.MustCompile(`unrecognized arguments: (.*)`)
	badFlagPattern      = regexp.MustCompile(`error: argument (\S+?):? (.*)`)
)

func explainUnknownFlag(message string) (cause, wayOut string) {
	cause = "This vLLM release doesn't know one of the flags in args."
	if flags := group(unknownFlagsPattern, message); flags != "" {
		cause = fmt.Sprintf("This vLLM release doesn't know: %s", clip(MaskSecrets(flags), maxQuoted))
	}
	return cause, "Remove it from args, spell it as this release's `vllm serve --help` does, or use an image that knows it."
}

func explainBadFlagValue(message string) (cause, wayOut string) {
	cause = "A flag has a value that this vLLM release doesn't take."
	if found := badFlagPattern.FindStringSubmatch(message); found != nil {
		cause = fmt.Sprintf("The flag %s has a value that this vLLM release doesn't take: %s",
			found[1], clip(MaskSecrets(found[2]), maxQuoted))
	}
	return cause, "Correct it, or leave it out for vLLM's default."
}

func explainDType(message string) (cause, wayOut string) {
	if strings.Contains(strings.ToLower(message), "bfloat16 is only supported") {
		return "The GPU has no bfloat16: that needs compute capability 8.0.",
			`Set dtype to "half", or use a GPU of compute capability 8.0 or newer (such as A100, L4 or RTX 3090).`
	}
	return "The model doesn't work with this dtype.", "Leave dtype out, or set it to one that the log's message names."
}

var batchPattern = regexp.MustCompile(`smaller than max_model_len \((\d+)\)`)

func explainBatch(message string) (cause, wayOut string) {
	cause = "--max-num-batched-tokens in args is smaller than max_model_len."
	if length := number(group(batchPattern, message)); length > 0 {
		return cause, fmt.Sprintf("Set --max-num-batched-tokens to %d or more, or remove it.", length)
	}
	return cause, "Raise --max-num-batched-tokens, or remove it."
}
