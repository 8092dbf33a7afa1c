package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

const (
	maxLog      = 64 << 20 // bytes of a container's log after which nothing is added
	maxLogEntry = 16 << 10 // bytes of one entry, as in the engine's json-file driver
)

// containerLog is what a container has written, by lines, as the engine's json-file driver keeps it.
type containerLog struct {
	mu      sync.Mutex
	entries []logEntry
	size    int
	changed chan struct{} // closed and replaced on every entry
}

// logEntry is one line of output, the end of the line included.
type logEntry struct {
	text   string
	stderr bool
	at     time.Time
}

func newLog() *containerLog { return &containerLog{changed: make(chan struct{})} }

func (l *containerLog) add(entry logEntry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > maxLog {
		return
	}
	l.entries, l.size = append(l.entries, entry), l.size+len(entry.text)
	close(l.changed)
	l.changed = make(chan struct{})
}

// from returns the entries after the first n, and a channel that the next entry closes.
func (l *containerLog) from(n int) ([]logEntry, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[n:], l.changed
}

// lineWriter cuts the output of a process into entries.
type lineWriter struct {
	log     *containerLog
	stderr  bool
	pending []byte
}

func (w *lineWriter) Write(data []byte) (int, error) {
	w.pending = append(w.pending, data...)
	for {
		end := bytes.IndexByte(w.pending, '\n') + 1
		if end == 0 && len(w.pending) < maxLogEntry {
			return len(data), nil
		}
		if end == 0 || end > maxLogEntry {
			end = maxLogEntry
		}
		w.add(end)
	}
}

// add adds the first n pending bytes as an entry. The stand-in for vLLM marks lines of standard error.
func (w *lineWriter) add(n int) {
	text, marked := strings.CutPrefix(string(w.pending[:n]), vllmserver.StderrMark)
	w.log.add(logEntry{text, w.stderr || marked, time.Now().UTC()})
	w.pending = w.pending[n:]
}

// flush adds a last line without an end.
func (w *lineWriter) flush() {
	if len(w.pending) > 0 {
		w.add(len(w.pending))
	}
}

// logQuery selects entries of a log.
type logQuery struct {
	stdout, stderr, follow, timestamps bool
	tail                               int // -1 for everything
	since                              time.Time
}

func readLogQuery(req *http.Request) (logQuery, error) {
	query := req.URL.Query()
	q := logQuery{stdout: flag(req, "stdout"), stderr: flag(req, "stderr"), follow: flag(req, "follow"), timestamps: flag(req, "timestamps"), tail: -1}
	if !q.stdout && !q.stderr {
		return q, refusal(http.StatusBadRequest, "Bad parameters: you must choose at least one stream")
	}
	if n, err := strconv.Atoi(query.Get("tail")); err == nil && n >= 0 { // the engine ignores the rest as well
		q.tail = n
	}
	if text := query.Get("since"); text != "" { // seconds since 1970, with a fraction or without
		seconds, fraction, _ := strings.Cut(text, ".")
		s, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil {
			return q, refusal(http.StatusBadRequest, "invalid value for time: %q", text)
		}
		nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		q.since = time.Unix(s, nanos)
	}
	return q, nil
}

func (q logQuery) wants(entry logEntry) bool {
	return (entry.stderr && q.stderr || !entry.stderr && q.stdout) && !entry.at.Before(q.since)
}

// logs sends the last entries of a container's log and, with follow, new ones until the container no longer runs.
func (e *Engine) logs(w http.ResponseWriter, req *http.Request, c *container) error {
	q, err := readLogQuery(req)
	if err != nil {
		return err
	}
	if failure := e.failLogs.Load(); failure != nil && *failure != "" {
		return refusal(http.StatusNotImplemented, "%s", *failure)
	}
	w.Header().Set("Content-Type", "application/vnd.docker.multiplexed-stream")
	w.WriteHeader(http.StatusOK)
	ctrl := http.NewResponseController(w)
	_ = ctrl.Flush()
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(e.life, cancel)() //nolint:contextcheck // what ends first, the request or the engine
	for next := 0; ; {
		running, stateChanged := c.watch() // before the entries, which are complete once a run is over
		entries, changed := c.output.from(next)
		next += len(entries)
		if q.tail >= 0 { // counted over both streams, as the real engine does
			entries = entries[max(0, len(entries)-q.tail):]
			q.tail = -1
		}
		for _, entry := range entries {
			if q.wants(entry) && writeFrame(w, q.timestamps, entry) != nil {
				return nil // nobody reads any more
			}
		}
		_ = ctrl.Flush()
		if !q.follow || !running {
			return nil
		}
		select {
		case <-changed:
		case <-stateChanged:
		case <-ctx.Done():
			return nil
		}
	}
}

// writeFrame writes an entry after a header with its stream and size.
func writeFrame(w io.Writer, timestamps bool, entry logEntry) error {
	line := entry.text
	if timestamps {
		line = entry.at.Format(time.RFC3339Nano) + " " + line
	}
	frame := make([]byte, 8, 8+len(line))
	frame[0] = 1
	if entry.stderr {
		frame[0] = 2
	}
	binary.BigEndian.PutUint32(frame[4:], uint32(len(line)))
	_, err := w.Write(append(frame, line...))
	return err
}
