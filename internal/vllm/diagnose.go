package vllm

import (
	"regexp"
	"slices"
	"strings"
)

// Kind names a cause of failure, for code that wants to tell them apart.
type Kind string

// The causes that Diagnose knows.
const (
	KindGPUMemoryBusy        Kind = "gpu_memory_busy"
	KindNoCacheMemory        Kind = "no_cache_memory"
	KindContextTooLong       Kind = "context_too_long"
	KindOutOfMemory          Kind = "out_of_memory"
	KindContextAboveModel    Kind = "context_above_model"
	KindGPUTooOld            Kind = "gpu_too_old"
	KindQuantizationMismatch Kind = "quantization_mismatch"
	KindGatedModel           Kind = "gated_model"
	KindModelNotFound        Kind = "model_not_found"
	KindRevisionNotFound     Kind = "revision_not_found"
	KindHubRefused           Kind = "hub_refused"
	KindHubUnreachable       Kind = "hub_unreachable"
	KindTensorParallel       Kind = "tensor_parallel_size"
	KindTooFewGPUs           Kind = "too_few_gpus"
	KindRemoteCode           Kind = "trust_remote_code"
	KindUnsupportedModel     Kind = "unsupported_model"
	KindDiskFull             Kind = "disk_full"
	KindSharedMemoryFull     Kind = "shared_memory_full"
	KindDriverTooOld         Kind = "driver_too_old"
	KindContainerToolkit     Kind = "container_toolkit_missing"
	KindNoGPU                Kind = "no_gpu"
	KindPortTaken            Kind = "port_taken"
	KindUnknownFlag          Kind = "unknown_flag"
	KindBadFlagValue         Kind = "bad_flag_value"
	KindUnsupportedDType     Kind = "unsupported_dtype"
	KindBatchBelowContext    Kind = "batch_below_context"
	KindTooManySequences     Kind = "too_many_sequences"
	KindBatchBelowSequences  Kind = "batch_below_sequences"
	KindFlagRequired         Kind = "flag_required"
	KindUnknownParser        Kind = "unknown_parser"
	KindChatTemplate         Kind = "chat_template_missing"
	KindLoRANotFound         Kind = "lora_not_found"
	KindLoRARank             Kind = "lora_rank"
	KindNoWeights            Kind = "weights_missing"
	KindWeightsDamaged       Kind = "weights_damaged"
	KindWeightsMismatch      Kind = "weights_mismatch"
	KindTokenizerTooNew      Kind = "tokenizer_too_new" //nolint:gosec // a name, no credential
	KindDependencies         Kind = "dependency_mismatch"
	KindHubOffline           Kind = "hub_offline"
	KindKilled               Kind = "killed"
	KindEngineDied           Kind = "engine_died"
	KindConfigDamaged        Kind = "config_damaged"
	KindAddress              Kind = "address_unavailable"
	KindStopped              Kind = "stopped"
	KindNoCompiler           Kind = "no_compiler"
	KindPythonHeaders        Kind = "python_headers"
	KindCUDALibrary          Kind = "cuda_library"
	KindDriverMismatch       Kind = "driver_mismatch"
	KindNCCL                 Kind = "nccl"
	KindKVHeads              Kind = "kv_heads"
	KindUnknownGPU           Kind = "unknown_gpu"
)

// OfMachine tells whether the cause lies in the machine, so that another one may not have it.
func (k Kind) OfMachine() bool {
	return k == KindDriverTooOld || k == KindNoGPU
}

// Diagnosis is what a log says about a failed start.
type Diagnosis struct {
	Kind     Kind
	Cause    string   // one sentence: what went wrong
	WayOut   string   // one sentence: what to change, with the number to set where the log tells it
	Evidence []string // the log's own lines that show it, cleaned and shortened; secrets known by shape are masked
}

// Limits of what is quoted from a log.
const (
	maxEvidence  = 4 // lines that may be of one message
	maxRelevant  = 20
	maxQuoted    = 500  // bytes of one line
	maxExplained = 1500 // bytes of a cause, and of a way out
	maxBroken    = 512  // bytes of a line's end that may begin a message which the next line goes on with
)

// Diagnose finds out why a start failed or a server crashed, from the log's lines in their order (at least the last 250: the
// last of them usually says no more than "Engine core initialization failed. See root cause above"). Only the last start in
// the log counts. Of several causes the first one counts, because the others follow from it. ok is false when the log holds no
// cause that is known here, or when its server became ready and did not crash; Relevant then gives the lines to show.
func Diagnose(log []string) (diagnosis Diagnosis, ok bool) {
	return diagnose(lastStart(readLog(log)))
}

// DiagnoseLoop is Diagnose for a server that keeps dying and is started again each time: while its last start is still under way
// and has told nothing, the one before it counts.
func DiagnoseLoop(log []string) (diagnosis Diagnosis, ok bool) {
	lines := readLog(log)
	last := lastStart(lines)
	if diagnosis, ok = diagnose(last); ok || len(last) == len(lines) {
		return diagnosis, ok
	}
	return diagnose(lastStart(lines[:len(lines)-len(last)]))
}

// DiagnoseMachine finds out what is wrong with the machine from the text of an error, such as a container engine's.
// ok is false when it tells of no such cause.
func DiagnoseMachine(text string) (diagnosis Diagnosis, ok bool) {
	lines := readLog([]string{text})
	for i := range lines {
		if diagnosis, ok = causeOf(machineRules, lines, i, specific); ok {
			return diagnosis, true
		}
	}
	return Diagnosis{}, false
}

func diagnose(lines []logLine) (diagnosis Diagnosis, ok bool) {
	// A log without any sign of a new start may still hold several: what follows the end of one is told first.
	for end := len(lines); end > 0; {
		begin := lastIndex(lines[:end-1], endWords) + 1
		if ready := begin + lastIndex(lines[begin:end], readyWords); ready >= begin {
			// From then on errors are those of requests, until the engine dies of one.
			if begin = ready; !contains(lines[begin:end], crashWords) || contains(lines[begin:end], stoppedWords) {
				return Diagnosis{}, false
			}
		}
		if diagnosis, ok = firstCause(lines, begin, end); ok {
			return diagnosis, true
		}
		end = begin
	}
	return Diagnosis{}, false
}

var (
	readyWords = oneOf(`Application startup complete`)
	// crashWords are signs of a server's end that nobody asked for: vllm/v1/executor/multiproc_executor.py, vllm/v1/engine/core.py
	// and core_client.py (0.10.2 to 0.32.0), and uvicorn, which says that it is ready before it binds a port.
	crashWords = oneOf(`died unexpectedly`, `exited unexpectedly`, `EngineCore encountered a fatal error`,
		`EngineCore hit an exception`, `address already in use`)
	// stoppedWords are what a server logs that is told to stop (runs/sigterm-with-request.log, 0.19.1/serve.log).
	stoppedWords = oneOf(`shutdown triggered`, `Shutdown initiated`)
	// endWords are a server's last: what comes after them is of another start, or of no weight.
	endWords = oneOf(`Engine core initialization failed`, `Application shutdown complete`, `Finished server process`,
		`: error: unrecognized arguments`, `: error: argument `, `For further information visit https://errors.pydantic.dev`)
)

// firstCause returns the first cause between two lines, of the causes with the lowest rank.
func firstCause(lines []logLine, begin, end int) (Diagnosis, bool) {
	for _, rank := range []rank{specific, generic, refusal, silent} {
		if rank == silent && slices.ContainsFunc(lines, logLine.isTrouble) {
			break // the engine did not die without a word
		}
		for i := begin; i < end; i++ {
			if lines[i].level == levelInfo || lines[i].level == levelWarning && rank != silent || lines[i].isDump() {
				continue // settings are repeated there, with the very words that an error would use
			}
			if diagnosis, ok := causeOf(rules, lines, i, rank); ok {
				return diagnosis, true
			}
		}
	}
	return Diagnosis{}, false
}

// causeOf returns the cause of that rank which line i shows, of those that the rules know.
func causeOf(rules []rule, lines []logLine, i int, rank rank) (Diagnosis, bool) {
	for _, r := range rules {
		if r.rank != rank {
			continue
		}
		if pattern := r.matches(lines, i); pattern != nil {
			cause, wayOut := r.words(pattern, message(lines, i))
			return Diagnosis{Kind: r.kind, Cause: cause, WayOut: wayOut, Evidence: evidence(lines, i)}, true
		}
	}
	return Diagnosis{}, false
}

// matches returns the pattern that begins in line i, nil for none.
func (r rule) matches(lines []logLine, i int) *regexp.Regexp {
	text := lines[i].text
	pattern := r.pattern.beginIn(text, len(text))
	if pattern == nil && i+1 < len(lines) && lines[i+1].level == lines[i].level {
		if len(text) > maxBroken {
			text = text[len(text)-maxBroken:]
		}
		pattern = r.pattern.beginIn(text+" "+strings.TrimSpace(lines[i+1].text), len(text))
	}
	if pattern == nil || r.within != nil && !inTraceback(lines[:i], r.within) {
		return nil
	}
	return pattern
}

// inTraceback tells whether the traceback that ends with these lines has one of the words.
func inTraceback(lines []logLine, words wordings) bool {
	const deepest = 120 // lines
	for n := len(lines) - 1; n >= max(0, len(lines)-deepest); n-- {
		if words.in(lines[n].text) {
			return true
		}
		if strings.Contains(lines[n].text, "Traceback (most recent call last)") {
			return false
		}
	}
	return false
}

// words are the cause and the way out, with what the message tells. A template's ${1} is the pattern's first group.
func (r rule) words(pattern *regexp.Regexp, message string) (cause, wayOut string) {
	if r.explain != nil {
		cause, wayOut = r.explain(message)
	} else {
		found := pattern.FindStringSubmatchIndex(message)
		cause = sentence(string(pattern.ExpandString(nil, r.cause, message, found)))
		wayOut = string(pattern.ExpandString(nil, r.wayOut, message, found))
	}
	return clip(MaskSecrets(cause), maxExplained), clip(MaskSecrets(wayOut), maxExplained)
}

// tail is what pydantic adds to its messages.
var tail = oneOf(` (?:\[type=\w+, input_value=|For further information visit ).*`)

// sentence ends a cause, of which the log's own words may be the last, with one period.
func sentence(cause string) string {
	return strings.TrimRight(oneLine(tail.cut(cause)), ".: ") + "."
}

// message is line i with the lines after it, on one line: figures may stand in any of them. What is merely told ends it.
func message(lines []logLine, i int) string {
	end := min(i+maxEvidence, len(lines))
	parts := make([]string, 0, end-i)
	for n, line := range lines[i:end] {
		if n > 0 && (line.level == levelInfo || line.level == levelWarning) {
			break
		}
		parts = append(parts, strings.TrimSpace(line.text))
	}
	return strings.Join(parts, " ")
}

// evidence is line i, what follows of the same message, and nothing that only says that something failed.
func evidence(lines []logLine, i int) []string {
	quotes := []string{quote(lines[i].text)}
	for _, line := range lines[i+1 : min(i+maxEvidence, len(lines))] {
		if line.isNoise() || line.isWrapper() || line.level != lines[i].level || repeats(quotes, line.text) {
			break
		}
		quotes = append(quotes, quote(line.text))
	}
	return quotes
}

func quote(text string) string {
	return clip(MaskSecrets(strings.TrimSpace(text)), maxQuoted)
}

var (
	// prologue is what stands before an exception's own words, and in a copy of it something else may.
	prologuePattern = oneOf(`^(?:\s*(?:[\w.]*(?:Error|Exception)|Value error|Error parsing config for \S+)[:,] ?)+|\s*\[type=\w+, input_value=.*`)
	copiedBytes     = 80
)

// repeats tells whether a line says again what one of the quotes says.
func repeats(quotes []string, text string) bool {
	core := prologuePattern.cut(quote(text))
	core = core[:min(len(core), copiedBytes)]
	return core != "" && slices.ContainsFunc(quotes, func(q string) bool { return strings.Contains(q, core) })
}

// Relevant returns what of a log to show: the lines that the diagnosis is from, then those of the last start that speak of
// trouble, each thing once; where none does, the last lines that say anything. They are in order, cleaned and shortened, at most 20.
// Secrets known by shape are masked; mask the others before showing it (MaskSecrets).
func Relevant(log []string) []string {
	const half = maxRelevant / 2
	lines := lastStart(readLog(log))
	diagnosis, _ := Diagnose(log)
	for _, telling := range []func(logLine) bool{logLine.isTrouble, logLine.isEnd, logLine.isSpoken} {
		quotes := slices.Clone(diagnosis.Evidence)
		for i, line := range lines {
			// The line under a traceback's frame is its source code.
			isCode := i > 0 && framePattern.in(lines[i-1].text) && strings.HasPrefix(line.text, "  ")
			if !isCode && telling(line) && !repeats(quotes, line.text) {
				quotes = append(quotes, quote(line.text))
			}
		}
		if len(quotes) > maxRelevant {
			quotes = slices.Concat(quotes[:half], quotes[len(quotes)-half:])
		}
		if len(quotes) > 0 {
			return quotes
		}
	}
	return nil
}
