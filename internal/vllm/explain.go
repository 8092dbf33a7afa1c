package vllm

import (
	"fmt"
	"strconv"
	"strings"
)

var (
	methodPattern     = oneOf(`quantization method (\S+) is not supported for the current GPU`)
	minimumPattern    = oneOf(`Minimum capability: (\d+)`)
	capabilityPattern = oneOf(`Current capability: (\d+)`)
)

// capability turns "89" into "8.9", as NVIDIA writes compute capabilities.
func capability(digits string) string {
	if len(digits) < 2 {
		return digits
	}
	return digits[:len(digits)-1] + "." + digits[len(digits)-1:]
}

// capabilityExamples names common GPUs by compute capability (NVIDIA's CUDA GPUs page).
var capabilityExamples = map[string]string{
	"7.0": "V100", "7.5": "T4", "8.0": "A100", "8.6": "A10 or RTX 3090", "8.9": "L4, L40S or RTX 4090", "9.0": "H100", "10.0": "B200",
}

func explainGPUTooOld(message string) (cause, wayOut string) {
	method, minimum := methodPattern.group(message), minimumPattern.group(message)
	if method == "" {
		newest, _ := NewestRelease(func(Release) bool { return true })
		return "This vLLM build has no kernels for the machine's GPU: the GPU is too old or too new for it.",
			fmt.Sprintf("Use a GPU with compute capability %.1f or newer; for a very new GPU, use a newer release: %s has kernels up to"+
				" %.1f.",
				newest.OldestGPU, newest.Version, newest.NewestGPU)
	}
	if minimum == "" {
		return fmt.Sprintf("The GPU is too old for the quantization method %s.", method),
			"Use a newer GPU, or a model with a different quantization."
	}
	cause = fmt.Sprintf("The GPU is too old for the quantization method %s, which needs compute capability %s", method, capability(minimum))
	if current := capabilityPattern.group(message); current != "" {
		cause += fmt.Sprintf("; the GPU has %s", capability(current))
	}
	example := ""
	if gpu, ok := capabilityExamples[capability(minimum)]; ok {
		example = fmt.Sprintf(" (such as %s)", gpu)
	}
	return cause + ".", fmt.Sprintf("Use a GPU with compute capability %s or newer%s, or a model with a different quantization.",
		capability(minimum), example)
}

var gatedPattern = oneOf(`(?:Access to model |https?://[^/\s]+/)([\w.-]+/[\w.-]*\w)`)

func explainGated(message string) (cause, wayOut string) {
	model := "model"
	if id := gatedPattern.group(message); id != "" && !strings.HasPrefix(id, "api/") {
		model += " " + id
	}
	return fmt.Sprintf("The Hugging Face hub denies access to the %s: it is gated, and the token is missing, wrong, "+
			"or its account hasn't accepted the model's terms.", model),
		"Accept the terms on the model's page, and set hf_token (or hf_token_wo) to a token of that account."
}

var (
	headsPattern    = oneOf(`attention heads \((\d+)\)`)
	parallelPattern = oneOf(`tensor parallel size \((\d+)\)`)
)

// mostHeads bounds the number of attention heads, well above that of any model.
const mostHeads = 1 << 12

func explainTensorParallel(message string) (cause, wayOut string) {
	heads, size := number(headsPattern.group(message)), number(parallelPattern.group(message))
	if heads < 1 || heads > mostHeads {
		return "The model's attention heads can't be divided evenly among that many GPUs.",
			"Set tensor_parallel_size to a divisor of the model's number of attention heads."
	}
	cause = fmt.Sprintf("The model's %d attention heads can't be divided evenly", heads)
	if size > 0 {
		cause += fmt.Sprintf(" among %d GPUs", size)
	}
	divisors := alternatives(heads, func(size int) bool { return heads%size == 0 })
	return cause + ".", fmt.Sprintf("Set tensor_parallel_size to a divisor of %d: %s.", heads, divisors)
}

var (
	cudaPattern       = oneOf(`unsatisfied condition: cuda ?>= ?(\d+)\.(\d+)`)
	driverCUDAPattern = oneOf(`found version (\d{5})\b`)
)

var ptxPattern = oneOf(`cudaErrorUnsupportedPtxVersion`, `PTX was compiled with an unsupported toolchain`)

func explainDriver(message string) (cause, wayOut string) {
	cause = "The machine's NVIDIA driver is older than vLLM needs"
	if ptxPattern.in(message) {
		// Seen on a machine with CUDA 12.8 whose offer reported 12.9: the first completion ended the engine (cloud-gpu-shopper,
		// LIVE_BUG_LOG.md, BUG-004).
		cause = "The machine's NVIDIA driver can't compile vLLM's GPU code: it is older than the code's CUDA version, even if the offer" +
			" reports otherwise"
	}
	newest, _ := NewestRelease(func(Release) bool { return true })
	wanted, most := newest.Image, CUDA{Major: newest.Image.Major} // the driver supports less than most
	if found := cudaPattern.find(message); found != nil {
		wanted = CUDA{Major: number(found[1]), Minor: number(found[2])}
		most = wanted
		cause += fmt.Sprintf(": the image needs CUDA %s", wanted)
	}
	fits := func(r Release) bool { return compareCUDA(r.Image, most) < 0 }
	if version := number(driverCUDAPattern.group(message)); version > 0 {
		supported := CUDA{Major: version / 1000, Minor: version % 1000 / 10}
		cause += fmt.Sprintf(": the driver supports at most CUDA %s", supported)
		fits = func(r Release) bool { return compareCUDA(r.Image, supported) <= 0 }
	}
	wayOut = fmt.Sprintf("Choose a machine with a newer driver (requirements.min_cuda_version = %s, which only Vast.ai reports", wanted)
	if branch := wanted.Driver(); branch > 0 {
		wayOut += fmt.Sprintf("; CUDA %s needs driver %d or newer", wanted, branch)
	}
	wayOut += ")"
	if older, ok := NewestRelease(fits); ok {
		wayOut += fmt.Sprintf(", or an older release: v%s is built with CUDA %s", older.Version, older.Image)
	}
	return cause + ".", wayOut + ". On some datacenter GPUs VLLM_ENABLE_CUDA_COMPATIBILITY=1 in env helps."
}

// portPattern matches the port in uvicorn's and in Docker's messages.
var portPattern = oneOf(`address \('[^']*', (\d{1,5})\)`, `:(\d{1,5})(?::? bind|:? failed|:? address already|\))`)

func explainPort(message string) (cause, wayOut string) {
	cause = "Another process on the machine uses the port."
	for _, found := range portPattern.find(message) {
		if n := number(found); n > 0 && found == strconv.Itoa(n) {
			cause = fmt.Sprintf("Another process on the machine uses port %d.", n)
		}
	}
	return cause, "Set port to a free one, or stop the process that listens on it."
}
