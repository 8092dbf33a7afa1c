package lifecycle

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	// followedLines are kept of a log, for the progress; more bytes of a line than lineBytes are another line.
	followedLines = 60
	lineBytes     = 4 << 10
	// resumePause is how far apart streams of a log are begun.
	resumePause = 5 * time.Second
)

// follower reads a server's log as it is written, and says when it is time to look at the server: vLLM writes that it is ready
// the moment it is (Application startup complete: serve.log of each release recorded), and its end ends the log. A stream that
// can't be opened, or that is lost, is no failure: whoever waits also looks at intervals.
type follower struct {
	open func(context.Context) (io.ReadCloser, error)
	news chan struct{}
	stop context.CancelFunc
	ctx  context.Context //nolint:containedctx // the wait that it is part of

	streams sync.WaitGroup
	begun   time.Time // when the last stream was begun

	mu      sync.Mutex
	running bool // a stream is
	lines   []string
	heard   nearness // what the present start has said last
	near    bool     // it has said that since isNear was asked
}

// follow follows a server's log until the follower is stopped or ctx ends.
func (l *launch) follow(ctx context.Context, ref deploy.Ref) *follower {
	ctx, stop := context.WithCancel(ctx)
	f := &follower{
		open: func(ctx context.Context) (io.ReadCloser, error) { return l.runtime.Follow(ctx, ref, followedLines) },
		news: make(chan struct{}, 1), ctx: ctx, stop: stop,
	}
	l.followers = append(l.followers, f)
	return f
}

// resume begins a stream where none is.
func (f *follower) resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running || time.Since(f.begun) < resumePause {
		return
	}
	f.running, f.begun = true, time.Now()
	f.streams.Go(f.read)
}

// read reads one stream to its end.
func (f *follower) read() {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.running = false
	}()
	stream, err := f.open(f.ctx)
	if err != nil {
		return
	}
	defer func() { _ = stream.Close() }()
	lines := bufio.NewScanner(stream)
	lines.Buffer(make([]byte, lineBytes), lineBytes)
	lines.Split(splitLog)
	for lines.Scan() {
		if line := lines.Text(); line != "" {
			f.hear(line)
		}
	}
	f.tell() // a server's end, or a lost connection
}

// splitLog ends a line where a progress bar is drawn anew, too, and where it is too long.
func splitLog(data []byte, atEOF bool) (advance int, line []byte, err error) {
	if end := bytes.IndexAny(data, "\r\n"); end >= 0 {
		return end + 1, data[:end], nil
	}
	if len(data) == lineBytes || atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// hear takes a line in.
func (f *follower) hear(line string) {
	says := nearnesses[vllm.Progress([]string{line})]
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines[max(0, len(f.lines)-followedLines+1):], line)
	switch {
	case says == startsAnew: // what came before is of an earlier start
		f.heard = startsAnew
	case says > f.heard:
		f.heard, f.near = says, true
		f.tell()
	case strings.HasPrefix(line, deploy.EndLine):
		f.tell()
	}
}

// nearness is how near a line of a log says that the server is to being ready.
type nearness int

const (
	saysNothing nearness = iota
	startsAnew
	isAboutToBeReady
	isReady
)

var nearnesses = map[string]nearness{
	vllm.PhaseImporting: startsAnew, vllm.PhaseServer: isAboutToBeReady, vllm.PhaseReady: isReady,
}

// tell says that it is time to look.
func (f *follower) tell() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// isNear reports, once, that the server is or is about to be ready.
func (f *follower) isNear() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	near := f.near
	f.near = false
	return near
}

// progress is how far the start has come, by its last lines.
func (f *follower) progress() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return cmp.Or(vllm.Progress(f.lines), vllm.PhaseImporting)
}
