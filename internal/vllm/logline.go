package vllm

import (
	"regexp"
	"strings"
)

// Limits of what is read of a log: more than any start writes.
const (
	maxLogLines  = 3000
	maxLineBytes = 4096
	maxLogBytes  = 512 << 10
)

// level is a line's log level. DEBUG counts as INFO, CRITICAL as ERROR.
type level string

const (
	levelNone    level = "" // tracebacks, other programs' output
	levelInfo    level = "INFO"
	levelWarning level = "WARNING"
	levelError   level = "ERROR"
)

// levels maps the words that vLLM, uvicorn and Python's logging use.
var levels = map[string]level{
	"DEBUG": levelInfo, "INFO": levelInfo, "WARNING": levelWarning, "ERROR": levelError, "CRITICAL": levelError,
}

// logLine is a line without the prefixes of its message.
type logLine struct {
	text  string
	level level
}

var (
	// ansiPattern matches terminal control sequences: colors and cursor movement (CSI), titles (OSC), single escapes.
	ansiPattern = oneOf("\x1b\\[[^A-Za-z@~\x1b]{0,32}[A-Za-z@~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x1b.?")

	// prefixPatterns match prefixes of a line in their usual order. Each may occur more than once.
	prefixPatterns = oneOf(
		`^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\s`, // docker logs -t, journald
		`^\[?[A-Za-z0-9][\w.-]*\]?\s*\|\s`,                                      // docker compose
		`^\((?:[\w.-]+ )*(?:[\w-]+=\S+ ?)*(?:pid|rank|ip)=[^)]*\)\s?`,           // (EngineCore_DP0 pid=123)
		`^\[rank\d+\]:\s?`, // torch.distributed
		`^(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[?[^\]\s]*:\d+\]`, // vLLM's own
	)
	levelPattern = oneOf(`^(DEBUG|INFO|WARNING|ERROR|CRITICAL)(?:[ :]|$)`)
)

// readLog returns the last lines of a log, cleaned: without terminal sequences, carriage returns (progress bars), prefixes and
// invalid UTF-8. Overlong lines keep their head and tail.
func readLog(log []string) []logLine {
	first, size := len(log), 0
	for first > 0 && len(log)-first < maxLogLines && size < maxLogBytes {
		first--
		size += min(len(log[first]), maxLineBytes)
	}
	log = log[first:]
	lines := make([]logLine, 0, len(log))
	for _, raw := range log {
		for part := range strings.FieldsFuncSeq(shorten(raw), func(r rune) bool { return r == '\r' || r == '\n' }) {
			if line := cleanLine(part); line.text != "" {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) > maxLogLines {
		lines = lines[len(lines)-maxLogLines:]
	}
	return lines
}

// shorten keeps the head and the tail of an overlong line: an exception's name is in the one, its numbers may be in the
// other.
func shorten(raw string) string {
	if len(raw) <= maxLineBytes {
		return raw
	}
	const tail = maxLineBytes / 4
	return raw[:maxLineBytes-tail] + " … " + raw[len(raw)-tail:]
}

func cleanLine(raw string) logLine {
	text := ansiPattern.cut(strings.ToValidUTF8(raw, "\uFFFD"))
	text = strings.Map(func(r rune) rune {
		if r != '\t' && (r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0)) {
			return -1
		}
		return r
	}, text)
	line := logLine{}
	const rounds = 4 // a prefix within a prefix within …
	for range rounds {
		before := text
		for _, prefix := range prefixPatterns() {
			if found := prefix.FindString(text); found != "" {
				if word := levelPattern.group(text); word != "" {
					line.level = levels[word]
				}
				text = text[len(found):]
			}
		}
		if text == before {
			break
		}
	}
	line.text = strings.TrimRight(text, " \t")
	if line.level == levelNone {
		line.level = levels[levelPattern.group(strings.TrimSpace(text))] // uvicorn's "INFO:     …"
	}
	if strings.TrimSpace(line.text) == "" {
		line.text = ""
	}
	return line
}

// startWords are what a start logs first: the launcher's own lines, of which the first is written before vLLM runs, and vLLM's.
// 0.10.2 logs its version, 0.19.1 and 0.32.0 print it in a banner of blocks (serve.log of each). For a refused command line it is
// argparse's usage.
var startWords = oneOf(`^`+regexp.QuoteMeta(StartLine), `^(?:\[launcher\] )?the server ended with exit code \d+; starting it again`,
	`vLLM API server version`, `[█▄▀] +version \d`, `^usage: vllm`)

// StartLine is the beginning of a log line that separates a start from earlier ones. Whoever starts vLLM writes it
// (internal/deploy/process/launcher.sh).
const StartLine = "[launcher] starting "

// lastStart returns the lines of the last start. After a StartLine they include what vLLM prints while it is imported.
func lastStart(lines []logLine) []logLine {
	return lines[max(0, lastIndex(lines, startWords)):]
}

// lastIndex returns the last line that has one of the words, -1 for none.
func lastIndex(lines []logLine, words wordings) int {
	for i := len(lines) - 1; i >= 0; i-- {
		if words.in(lines[i].text) {
			return i
		}
	}
	return -1
}

func contains(lines []logLine, words wordings) bool { return lastIndex(lines, words) >= 0 }

var (
	noisePattern = oneOf(`^\s*(?:` +
		`File ".*", line \d+|[~^ ]+$|\.\.\.$|Traceback \(most recent call last\):|` +
		`During handling of the above exception|The above exception was the direct cause|` +
		`raise \w|return \w|await \w|self\.|with \w|warnings\.warn\(|` +
		`usage: |\[launcher\] |\[?--?[a-z]|Route: |For further information visit |\[type=\w+, input_value=|` +
		`\[?[WI]\d{4} |Dumping (?:input data|scheduler) |.*\b(?:User|Future|Deprecation|Runtime)Warning: |.*\[shutdown\] |` +
		`.*[█▄▀▌▐▏▎▍▋▊▉]|.*\d+%(?:\||\s+Completed))`)
	framePattern = oneOf(`^\s*File ".*", line \d+`)
	// wrapperWords only say that something else failed: vllm/v1/engine/core.py, core_client.py, async_llm.py and
	// vllm/v1/executor/multiproc_executor.py (recordings of 0.32.0).
	wrapperWords = oneOf(`See root cause above`, `See stack trace`, `please check the stack trace above`, `EngineCore failed to start`,
		`Engine process failed to start`, `WorkerProc failed to start`, `WorkerProc initialization failed`, `WorkerProc hit an exception`,
		`output_handler failed`, `EngineCore encountered a fatal error`, `Invocation of \w+ method failed`, `Executor failed\.`,
		`died unexpectedly`, `EngineDeadError`,
		// Python's errors in the peers of a process that died.
		`EOFError`, `BrokenPipeError`, `ConnectionResetError`, `RuntimeError: cancelled`)
	troublePattern = oneOf(`(?i)\b(?:[\w.]*(?:error|exception|interrupt)\b|` +
		`fatal|failed|cannot|killed|denied|refused|no such|core dumped|segmentation fault)`)
)

// isNoise reports whether a line is only a part of a traceback, a progress bar, a banner, usage text, or a warning.
func (l logLine) isNoise() bool { return l.level == levelWarning || noisePattern.in(l.text) }

// isDump reports whether a line belongs to a failed engine's dump of all its settings (vllm/logging_utils/dump_input.py).
func (l logLine) isDump() bool { return strings.HasPrefix(strings.TrimSpace(l.text), "Dumping ") }

// isWrapper reports whether a line only says that something else failed.
func (l logLine) isWrapper() bool { return wrapperWords.in(l.text) }

// isTrouble reports whether a line says what is wrong.
func (l logLine) isTrouble() bool {
	return l.level != levelInfo && (l.level == levelError || troublePattern.in(l.text)) && !l.isNoise() && !l.isWrapper()
}

// isEnd reports whether a line says that a server or a part of it ended, but not why.
func (l logLine) isEnd() bool {
	return l.level != levelInfo && (crashWords.in(l.text) || endWords.in(l.text))
}

// isSpoken reports whether a line says anything.
func (l logLine) isSpoken() bool { return !l.isNoise() }
