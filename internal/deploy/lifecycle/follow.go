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
	// followedLines is how many lines of a log are kept, and lineBytes how long one may be: a longer one is split.
	followedLines = 60
	lineBytes     = 4 << 10
	// resumePause is the time between the starts of two streams.
	resumePause = 5 * time.Second
)

// follower follows a server's log, and sends to news when it is time to look at the server: vLLM logs when it is ready (Application
// startup complete, in the recorded serve.log of each release), and its end ends the log. A stream that fails is no error, because
// the waiting caller also looks at intervals.
type follower struct {
	open func(context.Context) (io.ReadCloser, error)
	news chan struct{}
	stop context.CancelFunc
	ctx  context.Context //nolint:containedctx // of the wait that it is part of

	streams sync.WaitGroup
	begun   time.Time // of the last stream

	mu      sync.Mutex
	running bool // a stream is open
	lines   []string
	heard   nearness // the last of the current start
	near    bool     // heard has grown since the last call of isNear
}

// follow returns a follower of a server's log, which ends with its stop or with ctx.
func (l *launch) follow(ctx context.Context, ref deploy.Ref) *follower {
	ctx, stop := context.WithCancel(ctx)
	f := &follower{
		open: func(ctx context.Context) (io.ReadCloser, error) { return l.runtime.Follow(ctx, ref, followedLines) },
		news: make(chan struct{}, 1), ctx: ctx, stop: stop,
	}
	l.followers = append(l.followers, f)
	return f
}

// resume opens a stream if there is none.
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
	f.wake() // the server has ended, or the connection was lost
}

// splitLog splits a log at newlines, at carriage returns (of progress bars), and at lineBytes.
func splitLog(data []byte, atEOF bool) (advance int, line []byte, err error) {
	if end := bytes.IndexAny(data, "\r\n"); end >= 0 {
		return end + 1, data[:end], nil
	}
	if len(data) == lineBytes || atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// hear handles a line.
func (f *follower) hear(line string) {
	says := nearnesses[vllm.Progress([]string{line})]
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines = append(f.lines[max(0, len(f.lines)-followedLines+1):], line)
	switch {
	case says == startsAnew: // the lines before are an earlier start's
		f.heard = startsAnew
	case says > f.heard:
		f.heard, f.near = says, true
		f.wake()
	case strings.HasPrefix(line, deploy.EndLine):
		f.wake()
	}
}

// nearness is how close to being ready the server is, according to a line of its log.
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

// wake sends to news.
func (f *follower) wake() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// isNear reports, once, that the server is ready or about to be.
func (f *follower) isNear() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	near := f.near
	f.near = false
	return near
}

// progress is the phase of the start, according to its last lines.
func (f *follower) progress() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return cmp.Or(vllm.Progress(f.lines), vllm.PhaseImporting)
}
