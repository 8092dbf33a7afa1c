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
	levelNone  level = "" // tracebacks, other programs' output
	levelInfo  level = "INFO"
	levelError level = "ERROR"
)

// logLine is a line without what surrounds its message.
type logLine struct {
	text  string
	level level
}

var (
	// ansiPattern matches terminal control sequences: colours and cursor movement (CSI), titles (OSC), single escapes.
	ansiPattern = regexp.MustCompile("\x1b\\[[^A-Za-z@~\x1b]{0,32}[A-Za-z@~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|\x1b.?")

	// Prefixes, in the order in which they may stand, each more than once.
	prefixPatterns = []*regexp.Regexp{
		regexp.MustCompile(`^\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\s`),             // docker logs -t, journald
		regexp.MustCompile(`^\[?[A-Za-z0-9][\w.-]*\]?\s*\|\s`),                                                  // docker compose
		regexp.MustCompile(`^\((?:[\w.-]+ )*(?:[\w-]+=\S+ ?)*(?:pid|rank|ip)=[^)]*\)\s?`),                       // (EngineCore_DP0 pid=123)
		regexp.MustCompile(`^\[rank\d+\]:\s?`),                                                                  // torch.distributed
		regexp.MustCompile(`^(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[?[^\]\s]*:\d+\]`), // vLLM's own
	}
	levelPattern = regexp.MustCompile(`^(DEBUG|INFO|WARNING|ERROR|CRITICAL)(?:[ :]|$)`)
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
	text := ansiPattern.ReplaceAllString(strings.ToValidUTF8(raw, "\uFFFD"), "")
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
		for _, prefix := range prefixPatterns {
			if found := prefix.FindString(text); found != "" {
				if word := levelPattern.FindStringSubmatch(text); word != nil {
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
	if word := levelPattern.FindStringSubmatch(strings.TrimSpace(text)); word != nil && line.level == levelNone {
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
	case "ERROR", "CRITICAL":
		return levelError
	}
	return levelNone
}

// startPattern is what a server says first; after a restart it is in the log once more.
var startPattern = regexp.MustCompile(`vLLM API server version`)

// lastAttempt cuts a log to its last start. Lines just before the start line, which vLLM writes while it is
// imported, are not missed: the start line itself is the cut. Docker's or argparse's errors, with no start line after
// an earlier start, stay in.
func lastAttempt(lines []logLine) []logLine {
	for i := len(lines) - 1; i > 0; i-- {
		if startPattern.MatchString(lines[i].text) {
			return lines[i:]
		}
	}
	return lines
}
