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
	KindKilled               Kind = "killed"
)

// Diagnosis is what a log says about a failed start.
type Diagnosis struct {
	Kind     Kind
	Cause    string   // one sentence: what went wrong
	WayOut   string   // one sentence: what to change, with the number to set where the log tells it
	Evidence []string // the log's own lines that show it, cleaned and shortened; secrets known by shape are masked
}

// Limits of what is quoted from a log.
const (
	maxEvidence      = 4
	maxRelevant      = 20
	maxQuoted        = 500 // bytes of one line
	maxBroken        = 512 // bytes of a line's end that may begin a message which the next line goes on with
	evidenceDistance = 3   // lines after the one that matched
)

// Diagnose finds out why a start failed, from the log's lines in their order (at least the last 250: the last of them
// usually says no more than "Engine core initialization failed. See root cause above"). Of several causes the first
// one counts, because the others follow from it; earlier starts in the same log don't count. ok is false when the log
// holds no cause that is known here; Relevant then gives the lines to show.
func Diagnose(log []string) (diagnosis Diagnosis, ok bool) {
	lines := readLog(log)
	if last := lastAttempt(lines); len(last) < len(lines) {
		if diagnosis, ok = firstCause(last); ok {
			return diagnosis, true
		}
	}
	return firstCause(lines)
}

func firstCause(lines []logLine) (Diagnosis, bool) {
	for _, generic := range []bool{false, true} {
		for i, line := range lines {
			if line.level == levelInfo {
				continue // settings are repeated there, with the very words that an error would use
			}
			for _, r := range rules {
				if r.generic == generic && r.matches(lines, i) {
					cause, wayOut := r.explain(message(lines, i))
					return Diagnosis{Kind: r.kind, Cause: cause, WayOut: wayOut, Evidence: evidence(lines, i)}, true
				}
			}
		}
	}
	return Diagnosis{}, false
}

// matches tells whether the rule's pattern begins in line i.
func (r rule) matches(lines []logLine, i int) bool {
	text := lines[i].text
	if r.pattern.beginIn(text, len(text)) {
		return true
	}
	if i+1 == len(lines) || lines[i+1].level == levelInfo {
		return false
	}
	if len(text) > maxBroken {
		text = text[len(text)-maxBroken:]
	}
	return r.pattern.beginIn(text+" "+strings.TrimSpace(lines[i+1].text), len(text))
}

// message is line i with the lines after it, on one line: figures may stand in any of them. What is merely told ends it.
func message(lines []logLine, i int) string {
	end := min(i+1+evidenceDistance, len(lines))
	parts := make([]string, 0, end-i)
	for n, line := range lines[i:end] {
		if n > 0 && line.level == levelInfo {
			break
		}
		parts = append(parts, strings.TrimSpace(line.text))
	}
	return strings.Join(parts, " ")
}

// evidence is line i, what follows of the same message, and nothing that only says that something failed.
func evidence(lines []logLine, i int) []string {
	quotes := []string{quote(lines[i].text)}
	for _, line := range lines[i+1 : min(i+1+evidenceDistance, len(lines))] {
		if isNoise(line.text) || isWrapper(line.text) || line.level == levelInfo {
			break
		}
		if q := quote(line.text); !slices.Contains(quotes, q) && len(quotes) < maxEvidence {
			quotes = append(quotes, q)
		}
	}
	return quotes
}

func quote(text string) string {
	return clip(MaskSecrets(strings.TrimSpace(text)), maxQuoted)
}

var (
	noisePattern = regexp.MustCompile(`^\s*(?:` +
		`File ".*", line \d+|~*\^+~*|Traceback \(most recent call last\):|` +
		`During handling of the above exception|The above exception was the direct cause|` +
		`raise \w|return \w|await \w|self\.|with \w|` +
		`usage: |\[?--?[a-z]|Route: |` +
		`.*[█▄▀▌▐▏▎▍▋▊▉]|.*\d+%(?:\||\s+Completed))`)
	framePattern   = regexp.MustCompile(`^\s*File ".*", line \d+`)
	wrapperPattern = oneOf(`See root cause above`, `EngineCore failed to start`, `Engine process failed to start`,
		`WorkerProc failed to start`, `WorkerProc initialization failed`)
	troublePattern = regexp.MustCompile(`(?i)\b(?:[\w.]*(?:error|exception)\b|` +
		`fatal|failed|cannot|killed|denied|refused|no such|core dumped|segmentation fault)`)
)

// isNoise tells whether a line carries nothing but a traceback's frames, a progress bar, a banner, or usage text.
func isNoise(text string) bool { return noisePattern.MatchString(text) }

// isWrapper tells whether a line only says that something else failed.
func isWrapper(text string) bool { return wrapperPattern.find(text) != nil }

// Relevant returns what of a log to show when its cause is unknown, or beside a diagnosis: the first lines that speak of
// trouble in the last start, and the last lines that say anything, in order, cleaned and shortened, at most 20.
// Secrets known by shape are masked; mask the others before showing it (MaskSecrets).
func Relevant(log []string) []string {
	lines := lastAttempt(readLog(log))
	var spoken, trouble []int
	for i, line := range lines {
		// The line under a traceback's frame is its source code.
		isCode := i > 0 && framePattern.MatchString(lines[i-1].text) && strings.HasPrefix(line.text, "  ")
		if isCode || isNoise(line.text) {
			continue
		}
		spoken = append(spoken, i)
		if line.level != levelInfo && !isWrapper(line.text) && (line.level == levelError || troublePattern.MatchString(line.text)) {
			trouble = append(trouble, i)
		}
	}
	const first = maxRelevant / 2
	chosen := slices.Clone(trouble[:min(first, len(trouble))])
	chosen = append(chosen, spoken[max(0, len(spoken)-(maxRelevant-len(chosen))):]...)
	slices.Sort(chosen)
	var quotes []string
	for _, i := range slices.Compact(chosen) {
		if q := quote(lines[i].text); len(quotes) == 0 || quotes[len(quotes)-1] != q {
			quotes = append(quotes, q)
		}
	}
	return quotes
}
