package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

const (
	maxLogFile  = 64 << 20 // bytes of a container's log after which nothing is added
	maxLogEntry = 16 << 10 // bytes of one entry, as in the engine's json-file driver
)

// logFile is a container's log in the json-file driver's format: one JSON object
// for each line of output.
type logFile struct {
	path string

	mu      sync.Mutex
	file    *os.File
	size    int64
	changed chan struct{} // closed and replaced on every entry
	closed  bool
}

// logEntry is one line of output, the end of the line included.
type logEntry struct {
	Log    string    `json:"log"`
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

func openLog(path string) (*logFile, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &logFile{path: path, file: file, changed: make(chan struct{})}, nil
}

func (l *logFile) append(entry logEntry) {
	data, err := json.Marshal(entry)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.size > maxLogFile {
		return
	}
	n, _ := l.file.Write(append(data, '\n')) // the machine's disk is the tester's affair
	l.size += int64(n)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	close(l.changed)
	_ = l.file.Close()
}

// watch returns what is closed at the next entry, or when the log is closed.
func (l *logFile) watch() (changed <-chan struct{}, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed, l.closed
}

// writer returns the end that a process's stream is written to.
func (l *logFile) writer(stream string) io.Writer { return &lineWriter{log: l, stream: stream} }

// lineWriter cuts output into lines.
type lineWriter struct {
	log     *logFile
	stream  string
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
		w.append(w.pending[:end])
		w.pending = w.pending[end:]
	}
}

// append adds a line, which the stand-in for vLLM marks where it is of the other
// stream.
func (w *lineWriter) append(line []byte) {
	entry := logEntry{string(line), w.stream, time.Now().UTC()}
	if rest, ok := strings.CutPrefix(entry.Log, vllmserver.StderrMark); ok {
		entry.Log, entry.Stream = rest, "stderr"
	}
	w.log.append(entry)
}

// flush writes out a last line that has no end.
func (w *lineWriter) flush() {
	if len(w.pending) > 0 {
		w.append(w.pending)
		w.pending = nil
	}
}

// logQuery is what a request wants of a log.
type logQuery struct {
	stdout, stderr, follow, timestamps bool
	tail                               int // -1 for everything
	since, until                       time.Time
}

func readLogQuery(req *http.Request) (logQuery, error) {
	query := req.URL.Query()
	q := logQuery{stdout: flag(req, "stdout"), stderr: flag(req, "stderr"), follow: flag(req, "follow"), timestamps: flag(req, "timestamps"), tail: -1}
	if !q.stdout && !q.stderr {
		return q, refusal(http.StatusBadRequest, "Bad parameters: you must choose at least one stream")
	}
	if text := query.Get("tail"); text != "" && text != "all" {
		if n, err := strconv.Atoi(text); err == nil && n >= 0 { // the engine ignores the rest as well
			q.tail = n
		}
	}
	var err error
	if q.since, err = readTime(query.Get("since")); err != nil {
		return q, err
	}
	q.until, err = readTime(query.Get("until"))
	return q, err
}

// readTime reads seconds since 1970, with a fraction or without.
func readTime(text string) (time.Time, error) {
	if text == "" || text == "0" {
		return time.Time{}, nil
	}
	seconds, fraction, _ := strings.Cut(text, ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, refusal(http.StatusBadRequest, "invalid value for time: %q", text)
	}
	nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	return time.Unix(s, nanos), nil
}

func (q logQuery) wants(entry logEntry) bool {
	switch {
	case entry.Stream == "stdout" && !q.stdout, entry.Stream == "stderr" && !q.stderr:
		return false
	case !q.since.IsZero() && entry.Time.Before(q.since), !q.until.IsZero() && entry.Time.After(q.until):
		return false
	}
	return true
}

func (e *Engine) logs(w http.ResponseWriter, req *http.Request, c *container) error {
	q, err := readLogQuery(req)
	if err != nil {
		return err
	}
	e.mu.Lock()
	failure := e.faults.failLogs
	e.mu.Unlock()
	if failure != "" {
		return refusal(http.StatusNotImplemented, "%s", failure)
	}
	file, err := os.Open(c.output.path)
	if err != nil {
		return err // the container has just been removed
	}
	defer file.Close()
	w.Header().Set("Content-Type", "application/vnd.docker.multiplexed-stream")
	if c.config.Tty {
		w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
	}
	w.WriteHeader(http.StatusOK)
	ctrl := http.NewResponseController(w)
	_ = ctrl.Flush()
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(e.life, cancel)() //nolint:contextcheck // what ends first, the request or the engine
	return c.copyLog(ctx, file, q, func(entry logEntry) error {
		if err := writeFrame(w, c.config.Tty, q.timestamps, entry); err != nil {
			return err
		}
		return ctrl.Flush()
	})
}

// writeFrame writes an entry as the engine frames it: a header with the stream
// and the size, unless the container has a terminal.
func writeFrame(w io.Writer, tty, timestamps bool, entry logEntry) error {
	line := entry.Log
	if timestamps {
		line = entry.Time.UTC().Format(time.RFC3339Nano) + " " + line
	}
	frame := make([]byte, 8, 8+len(line))
	frame[0] = 1
	if entry.Stream == "stderr" {
		frame[0] = 2
	}
	binary.BigEndian.PutUint32(frame[4:], uint32(len(line)))
	frame = append(frame, line...)
	if tty {
		frame = frame[8:]
	}
	_, err := w.Write(frame)
	return err
}

// copyLog hands out the entries of the log, which file is: the last ones first, and
// with follow those that come, until the container no longer runs. It also ends,
// without an error, when out fails: then nobody reads any more.
func (c *container) copyLog(ctx context.Context, file io.Reader, q logQuery, out func(logEntry) error) error {
	feed := &logFeed{reader: logReader{r: bufio.NewReader(file)}, q: q, out: out}
	for {
		// Looked at before reading: what is written later closes these channels.
		changed, closed := c.output.watch()
		stateChanged := c.watchState() // before the state: a change after it closes this channel
		running := c.snapshot().Running
		if feed.drain() != nil || !q.follow || !running || closed {
			return nil //nolint:nilerr // nobody reads any more
		}
		select {
		case <-changed:
		case <-stateChanged:
		case <-ctx.Done():
			return nil
		}
	}
}

// logFeed passes on what a query wants of a log.
type logFeed struct {
	reader logReader
	q      logQuery
	out    func(logEntry) error
	tail   []logEntry // kept back until the log's present end is known
}

// drain reads to the log's present end.
func (f *logFeed) drain() error {
	if err := f.reader.each(f.take); err != nil {
		return err
	}
	kept := f.tail
	f.tail, f.q.tail = nil, -1 // what comes from now on is all wanted
	for _, entry := range kept {
		if err := f.pass(entry); err != nil {
			return err
		}
	}
	return nil
}

func (f *logFeed) pass(entry logEntry) error {
	if !f.q.wants(entry) {
		return nil
	}
	return f.out(entry)
}

// take counts the last entries of both streams, and only then leaves out what isn't
// wanted of them, as the real engine does.
func (f *logFeed) take(entry logEntry) error {
	if f.q.tail < 0 {
		return f.pass(entry)
	}
	f.tail = append(f.tail, entry)
	if len(f.tail) > f.q.tail {
		f.tail = f.tail[1:]
	}
	return nil
}

// watchState returns what is closed at the next change of state.
func (c *container) watchState() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// logReader reads whole entries and keeps the beginning of one for later.
type logReader struct {
	r       *bufio.Reader
	partial []byte
}

func (l *logReader) each(f func(logEntry) error) error {
	for {
		line, err := l.r.ReadBytes('\n')
		l.partial = append(l.partial, line...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var entry logEntry
		if err := json.Unmarshal(l.partial, &entry); err != nil {
			return fmt.Errorf("reading a container's log: %w", err)
		}
		l.partial = l.partial[:0]
		if err := f(entry); err != nil {
			return err
		}
	}
}
