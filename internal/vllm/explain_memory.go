package vllm

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// number parses a whole number as logs write it, such as 40960, 40,960 or 32768.0; 0 when it is none or out of range.
func number(text string) int {
	value, err := strconv.ParseFloat(strings.ReplaceAll(text, ",", ""), 64)
	if err != nil || value < 0 || value > 1<<40 {
		return 0
	}
	return int(value)
}

var freeMemoryPattern = oneOf(`\(([\d.]+)/([\d.]+) GiB\).*?\(([\d.]+), ([\d.]+) GiB\)`)

func explainGPUMemoryBusy(message string) (cause, wayOut string) {
	cause = "Another process holds GPU memory, or gpu_memory_utilization is too high."
	wayOut = "Stop the other processes that use the GPU (nvidia-smi lists them), or lower gpu_memory_utilization."
	found := freeMemoryPattern.find(message)
	if found == nil {
		return cause, wayOut
	}
	cause = fmt.Sprintf("Only %s of the GPU's %s GiB are free, but gpu_memory_utilization = %s requires %s GiB: "+
		"another process holds GPU memory, or gpu_memory_utilization is too high.", found[1], found[2], found[3], found[4])
	free, errFree := strconv.ParseFloat(found[1], 64)
	total, errTotal := strconv.ParseFloat(found[2], 64)
	if errFree != nil || errTotal != nil || total <= 0 {
		return cause, wayOut
	}
	if share := math.Floor(100*free/total) / 100; share > 0 && share <= 1 {
		wayOut = fmt.Sprintf("Stop the other processes that use the GPU (nvidia-smi lists them), or set gpu_memory_utilization to %.2f"+
			" or less.", share)
	}
	return cause, wayOut
}

var (
	estimatePattern  = oneOf(`estimated maximum model length is ([\d,]+)`)
	storablePattern  = oneOf(`that can be stored in KV cache \(([\d,]+)\)`)
	wantedPattern    = oneOf(`max(?:imum)? seq(?:uence)? len(?:gth)? \(([\d,]+)\)`)
	neededPattern    = oneOf(`([\d.]+) GiB KV cache is needed`)
	availablePattern = oneOf(`available KV cache memory \(([\d.]+) GiB\)`)
)

func explainContextTooLong(message string) (cause, wayOut string) {
	wanted := number(wantedPattern.group(message))
	needed, available := neededPattern.group(message), availablePattern.group(message)
	cause = "The KV cache for one sequence of full length doesn't fit into the GPU memory that the weights leave free."
	if wanted > 0 && needed != "" && available != "" {
		cause = fmt.Sprintf("One sequence of %d tokens needs %s GiB of KV cache, but the weights leave only %s GiB free.",
			wanted, needed, available)
	}
	fits := number(estimatePattern.group(message))
	if fits == 0 {
		fits = number(storablePattern.group(message))
	}
	if fits > 0 {
		return cause, fmt.Sprintf("Set max_model_len to %d or less, or use a larger GPU, more GPUs or a quantized model.", fits)
	}
	need, errNeed := strconv.ParseFloat(needed, 64)
	have, errHave := strconv.ParseFloat(available, 64)
	if errNeed == nil && errHave == nil && need > 0 && have > 0 && wanted > 0 {
		if about := int(float64(wanted) * have / need); about > 0 {
			return cause, fmt.Sprintf("Set max_model_len to about %d, or use a larger GPU, more GPUs or a quantized model.", about)
		}
	}
	return cause, "Lower max_model_len, or use a larger GPU, more GPUs or a quantized model."
}

var (
	specifiedPattern = oneOf(`User-specified max_model_len \(([\d,]+)\)`)
	derivedPattern   = oneOf(`derived max_model_len \((?:\w+=)?([\d,]+)`)
)

func explainContextAboveModel(message string) (cause, wayOut string) {
	limit := number(derivedPattern.group(message))
	cause = "max_model_len exceeds the model's limit."
	if specified := number(specifiedPattern.group(message)); specified > 0 && limit > 0 {
		cause = fmt.Sprintf("max_model_len = %d exceeds the model's limit of %d tokens.", specified, limit)
	}
	if limit == 0 {
		return cause, "Remove max_model_len to use the model's limit, or lower it."
	}
	return cause, fmt.Sprintf("Set max_model_len to %d or less, or remove it.", limit)
}

// Kill is what is known about the end of a process of vLLM that died without logging an error.
type Kill int

// Whether the kernel killed it, because the machine's memory was full.
const (
	KilledUnknown Kill = iota
	KilledByKernel
	KilledPerhaps // the kernel killed some process for that reason
	KilledByOther // the kernel killed none for that reason
)

// ExplainKilled says what killed a process of vLLM. line is the kernel's log line about it, "" for none.
func ExplainKilled(by Kill, line string) (cause, wayOut string) {
	const died, full = "A part of vLLM died without logging an error", "because the machine's memory (RAM, not the GPU's) was full"
	if line = clip(MaskSecrets(oneLine(line)), maxQuoted); line != "" {
		line = " The kernel's log: " + line
	}
	switch by {
	case KilledByKernel:
		return "The kernel killed a part of vLLM " + full + "." + line, moreRAM
	case KilledPerhaps:
		return died + ". At that time the kernel killed a process " + full + ": most likely this one." + line, moreRAM
	case KilledByOther:
		return died + ". The kernel killed nothing for lack of memory at that time: it crashed, or something else killed it.",
			"Find out what kills or crashes processes on the machine (`dmesg`: segfault, Xid), and apply again."
	case KilledUnknown:
	}
	return engineDied, "Look for \"Out of memory\" in the machine's kernel log (dmesg). " + moreRAM
}

// partPattern matches vLLM's processes in the kernel's "Killed process 123 (NAME)", which has at most 15 bytes of a name.
var partPattern = oneOf(`Killed process \d+ \((?:VLLM|vllm|python|pt_main_thread)`)

// IsPartOf reports whether a line of the kernel's log is about a process of vLLM.
func IsPartOf(line string) bool { return partPattern.in(line) }

var (
	allocatePattern = oneOf(`Tried to allocate ([\d.]+ [KMGT]iB)`)
	capacityPattern = oneOf(`total capacity of ([\d.]+ [KMGT]iB)`)
)

func explainOutOfMemory(message string) (cause, wayOut string) {
	cause = "The GPU has too little memory"
	if capacity := capacityPattern.group(message); capacity != "" {
		cause = fmt.Sprintf("The GPU's %s of memory are not enough", capacity)
	}
	if wanted := allocatePattern.group(message); wanted != "" {
		cause += fmt.Sprintf(": vLLM requested another %s", wanted)
	}
	return cause + ".", "Use a larger GPU, more GPUs (tensor_parallel_size), a quantized model, or a smaller max_model_len."
}
