package vllm

import (
	"regexp"
	"slices"
	"strings"
)

// Kind names a cause of failure, for code that has to distinguish them.
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

// OfMachine reports whether the cause lies in the machine, so that another one may not have it.
func (k Kind) OfMachine() bool {
	return k == KindDriverTooOld || k == KindNoGPU
}

// Diagnosis is why a start failed, according to its log.
type Diagnosis struct {
	Kind     Kind
	Cause    string   // one sentence: what went wrong
	WayOut   string   // one sentence: what to change, with the number to set where the log has it
	Evidence []string // the log's lines that show it, cleaned and shortened; secrets known by shape are masked
}

// Limits of what is quoted from a log.
const (
	maxEvidence  = 4 // lines of one message
	maxRelevant  = 20
	maxQuoted    = 500  // bytes of one line
	maxExplained = 1500 // bytes of a cause, and of a way out
	maxBroken    = 512  // bytes at a line's end that may begin a message that continues on the next line
)

// Diagnose finds out why a start failed or a server crashed, from the log's lines in order (at least the last 250: the very
// last usually says no more than "Engine core initialization failed. See root cause above"). Only the last start in
// the log counts. Of several causes the first one counts, because the others follow from it. ok is false when the log has no
// known cause, or when its server became ready and did not crash; Relevant then returns the lines to show.
func Diagnose(log []string) (diagnosis Diagnosis, ok bool) {
	return diagnose(lastStart(readLog(log)))
}

// DiagnoseLoop is Diagnose for a server that is restarted whenever it dies: while its last start has no known cause, the one before
// it counts.
func DiagnoseLoop(log []string) (diagnosis Diagnosis, ok bool) {
	lines := readLog(log)
	last := lastStart(lines)
	if diagnosis, ok = diagnose(last); ok || len(last) == len(lines) {
		return diagnosis, ok
	}
	return diagnose(lastStart(lines[:len(lines)-len(last)]))
}

// DiagnoseMachine finds out what is wrong with the machine from the text of an error, such as a container engine's.
// ok is false when the text has no known cause.
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
	// A log without any sign of a new start may still have several: what follows the end of the last one counts first.
	for end := len(lines); end > 0; {
		begin := lastIndex(lines[:end-1], endWords) + 1
		if ready := begin + lastIndex(lines[begin:end], readyWords); ready >= begin {
			// Later errors belong to requests, until the engine dies of one.
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
	// crashWords are signs of a crash: vllm/v1/executor/multiproc_executor.py, vllm/v1/engine/core.py and core_client.py (0.10.2 to
	// 0.32.0), and uvicorn, which logs that it is ready before it binds a port.
	crashWords = oneOf(`died unexpectedly`, `exited unexpectedly`, `EngineCore encountered a fatal error`,
		`EngineCore hit an exception`, `address already in use`)
	// stoppedWords are what a server logs when it receives SIGTERM (runs/sigterm-with-request.log, 0.19.1/serve.log).
	stoppedWords = oneOf(`shutdown triggered`, `Shutdown initiated`)
	// endWords are the last that a server logs: what follows belongs to another start, or doesn't matter.
	endWords = oneOf(`Engine core initialization failed`, `Application shutdown complete`, `Finished server process`,
		`: error: unrecognized arguments`, `: error: argument `, `For further information visit https://errors.pydantic.dev`)
)

// firstCause returns the first cause from line begin up to line end, of those with the lowest rank.
func firstCause(lines []logLine, begin, end int) (Diagnosis, bool) {
	for _, rank := range []rank{specific, generic, refusal, silent} {
		if rank == silent && slices.ContainsFunc(lines, logLine.isTrouble) {
			break // the engine did not die silently
		}
		for i := begin; i < end; i++ {
			if lines[i].level == levelInfo || lines[i].level == levelWarning && rank != silent || lines[i].isDump() {
				continue // these lines repeat settings, in the same words as an error
			}
			if diagnosis, ok := causeOf(rules, lines, i, rank); ok {
				return diagnosis, true
			}
		}
	}
	return Diagnosis{}, false
}

// causeOf returns the cause that line i shows, by the rules of the rank.
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

// matches returns the pattern of the rule that begins in line i, nil for none.
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

// inTraceback reports whether the traceback at the end of the lines contains one of the words.
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

// words returns the cause and the way out. In templates, ${1} is the pattern's first group in the message.
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

// tail matches what pydantic adds to its messages.
var tail = oneOf(` (?:\[type=\w+, input_value=|For further information visit ).*`)

// sentence ends a cause with exactly one period: it may end with words from the log.
func sentence(cause string) string {
	return strings.TrimRight(oneLine(tail.cut(cause)), ".: ") + "."
}

// message joins line i and the lines after it: numbers may be in any of them. An INFO or WARNING line ends it.
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

// evidence returns line i and what follows of the same message, without lines that only say that something failed.
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

// prologuePattern matches what is before an exception's message, which differs between copies of it.
var prologuePattern = oneOf(`^(?:\s*(?:[\w.]*(?:Error|Exception)|Value error|Error parsing config for \S+)[:,] ?)+|\s*\[type=\w+, input_value=.*`)

// repeats reports whether one of the quotes contains the message of a line.
func repeats(quotes []string, text string) bool {
	const copiedBytes = 80 // that two copies have in common
	core := prologuePattern.cut(quote(text))
	core = core[:min(len(core), copiedBytes)]
	return core != "" && slices.ContainsFunc(quotes, func(q string) bool { return strings.Contains(q, core) })
}

// Relevant returns the lines of a log to show: the diagnosis's evidence, then the lines of the last start that report trouble,
// each message once. Where none does, they are the last lines that say anything. They are in order, cleaned and shortened, 20 at
// most. Secrets known by shape are masked; mask others with MaskSecrets before you show them.
func Relevant(log []string) []string {
	const half = maxRelevant / 2
	lines := lastStart(readLog(log))
	diagnosis, _ := Diagnose(log)
	for _, telling := range []func(logLine) bool{logLine.isTrouble, logLine.isEnd, logLine.isSpoken} {
		quotes := slices.Clone(diagnosis.Evidence)
		for i, line := range lines {
			// The line below a traceback's frame is its source code.
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
