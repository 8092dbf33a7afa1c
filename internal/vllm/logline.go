package vllm

import (
	"regexp"
	"strings"
)

// Bounds of what is read of a log: more than any start writes that matters, little enough to be read in one go.
const (
	maxLogLines  = 3000
	maxLineBytes = 4096
	maxLogBytes  = 512 << 10
)

// level is how loud a line is, as vLLM, uvicorn and Python's logging write it.
type level string

const (
	levelNone    level = "" // tracebacks, other programs' output
	levelInfo    level = "INFO"
	levelWarning level = "WARNING"
	levelError   level = "ERROR"
)

// logLine is a line without what surrounds its message.
type logLine struct {
	text  string
	level level
}

var (
	// ansiPattern matches terminal control sequences: colors and cursor movement (CSI), titles (OSC), single escapes.
	ansiPattern = oneOf("\x1b\\[[^A-Za-z@~\x1b]{0,32}[A-Za-z@~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x1b.?")

	// Prefixes, in the order in which they may stand, each more than once.
	prefixPatterns = oneOf(
		`^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\s`, // docker logs -t, journald
		`^\[?[A-Za-z0-9][\w.-]*\]?\s*\|\s`,                                      // docker compose
		`^\((?:[\w.-]+ )*(?:[\w-]+=\S+ ?)*(?:pid|rank|ip)=[^)]*\)\s?`,           // (EngineCore_DP0 pid=123)
		`^\[rank\d+\]:\s?`, // torch.distributed
		`^(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[?[^\]\s]*:\d+\]`, // vLLM's own
	)
	levelPattern = oneOf(`^(DEBUG|INFO|WARNING|ERROR|CRITICAL)(?:[ :]|$)`)
)

// readLog returns the last lines of a log, cleaned: terminal sequences, carriage returns (progress bars), what stands
// before the message, and invalid UTF-8 are gone; overlong lines keep their head and tail.
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

// shorten keeps the head and the tail of an overlong line: the exception's name is in one, its figures may be in the
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
				if word := levelPattern.find(text); word != nil {
					line.level = levelOf(word[1])
				}
				text = text[len(found):]
			}
		}
		if text == before {
			break
		}
	}
	line.text = strings.TrimRight(text, " \t")
	if word := levelPattern.find(strings.TrimSpace(text)); word != nil && line.level == levelNone {
		line.level = levelOf(word[1]) // uvicorn's "INFO:     …"
	}
	if strings.TrimSpace(line.text) == "" {
		line.text = ""
	}
	return line
}

func levelOf(word string) level {
	switch word {
	case "DEBUG", "INFO":
		return levelInfo
	case "WARNING":
		return levelWarning
	case "ERROR", "CRITICAL":
		return levelError
	}
	return levelNone
}

// startWords are what a start says first: the launcher's own lines, of which the first is written before vLLM runs, and vLLM's.
// 0.10.2 logs its version, 0.19.1 and 0.32.0 print a banner of blocks with it (serve.log of each), and a refused command
// line brings argparse's usage instead.
var startWords = oneOf(`^`+regexp.QuoteMeta(StartLine), `^(?:\[launcher\] )?the server ended with exit code \d+; starting it again`,
	`vLLM API server version`, `[█▄▀] +version \d`, `^usage: vllm`)

// StartLine is how a line of a log begins after which nothing is of an earlier start. Whoever starts vLLM once more writes it
// (internal/deploy/process/launcher.sh).
const StartLine = "[launcher] starting "

// lastStart cuts a log to its last start. What vLLM prints while it is imported, before its first line, is not missed.
func lastStart(lines []logLine) []logLine {
	return lines[max(0, lastIndex(lines, startWords)):]
}

// lastIndex is where one of the words stands last, -1 where none does.
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
	// vllm/v1/executor/multiproc_executor.py (0.32.0's recordings).
	wrapperWords = oneOf(`See root cause above`, `See stack trace`, `please check the stack trace above`, `EngineCore failed to start`,
		`Engine process failed to start`, `WorkerProc failed to start`, `WorkerProc initialization failed`, `WorkerProc hit an exception`,
		`output_handler failed`, `EngineCore encountered a fatal error`, `Invocation of \w+ method failed`, `Executor failed\.`,
		`died unexpectedly`, `EngineDeadError`,
		// What Python says to those who talked with a process that has died.
		`EOFError`, `BrokenPipeError`, `ConnectionResetError`, `RuntimeError: cancelled`)
	troublePattern = oneOf(`(?i)\b(?:[\w.]*(?:error|exception|interrupt)\b|` +
		`fatal|failed|cannot|killed|denied|refused|no such|core dumped|segmentation fault)`)
)

// isNoise tells whether a line carries nothing but a traceback's frames, a progress bar, a banner, usage text, or a warning.
func (l logLine) isNoise() bool { return l.level == levelWarning || noisePattern.in(l.text) }

// isDump tells whether a line is of an engine's last words, which repeat all its settings (vllm/logging_utils/dump_input.py).
func (l logLine) isDump() bool { return strings.HasPrefix(strings.TrimSpace(l.text), "Dumping ") }

// isWrapper tells whether a line only says that something else failed.
func (l logLine) isWrapper() bool { return wrapperWords.in(l.text) }

// isTrouble tells whether a line says what is wrong.
func (l logLine) isTrouble() bool {
	return l.level != levelInfo && (l.level == levelError || troublePattern.in(l.text)) && !l.isNoise() && !l.isWrapper()
}

// isEnd tells whether a line says that a server or a part of it came to an end, without saying why.
func (l logLine) isEnd() bool {
	return l.level != levelInfo && (crashWords.in(l.text) || endWords.in(l.text))
}

// isSpoken tells whether a line says anything.
func (l logLine) isSpoken() bool { return !l.isNoise() }
