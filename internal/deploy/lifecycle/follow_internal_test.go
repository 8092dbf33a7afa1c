package lifecycle

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// loading is a server that loads: a runtime and the port, which refuses connections until it is ready.
type loading struct {
	deploy.Runtime
	mu     sync.Mutex
	state  deploy.State
	ready  bool
	mute   bool // its log can't be followed
	brief  bool // its streams end at once
	log    []string
	stream *io.PipeWriter
	looks  []time.Time
}

func (s *loading) State(context.Context, deploy.Ref) (deploy.Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks = append(s.looks, time.Now())
	return deploy.Status{State: s.state}, nil
}

func (s *loading) Follow(ctx context.Context, _ deploy.Ref, lines int) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mute {
		return nil, errors.ErrUnsupported
	}
	reader, writer := io.Pipe()
	s.stream = writer
	tail := slices.Clone(s.log[max(0, len(s.log)-lines):])
	go func() {
		for _, line := range tail {
			_, _ = io.WriteString(writer, line+"\n")
		}
		if s.brief {
			_ = writer.Close()
		}
	}()
	context.AfterFunc(ctx, func() { _ = reader.Close() })
	return reader, nil
}

func (s *loading) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
}

// writes adds to the log, as a terminal's line where it ends with a carriage return.
func (s *loading) writes(text string) {
	s.mu.Lock()
	s.log = append(s.log, strings.TrimSpace(text))
	stream := s.stream
	s.mu.Unlock()
	if stream != nil {
		_, _ = io.WriteString(stream, text)
	}
}

func (s *loading) becomes(state deploy.State, ready bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.ready = state, ready
}

// breaks ends the stream.
func (s *loading) breaks() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.stream.Close()
}

// start is when the server of these tests is ready, or dies, after the beginning.
const start = 137 * time.Second

const readyLine = "INFO:     Application startup complete.\n" // uvicorn's: serve.log of every release recorded

// That a server is ready is known the moment it says so, and its death the moment it dies, with at most thirty looks in a
// minute. A log that says neither, or can't be read, costs no more than a pause.
func TestLoadHearsTheLog(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		begin, happens func(*loading)
		late           time.Duration
		fails          bool
	}{
		"it says that it is ready": {happens: func(s *loading) { s.writes(readyLine) }},
		"it says so too early": {
			begin:   func(s *loading) { time.AfterFunc(start-time.Second, func() { s.writes(readyLine) }) },
			happens: func(*loading) {}, late: 700 * time.Millisecond,
		},
		"it is about to be ready, and says no more": {
			begin: func(s *loading) {
				time.AfterFunc(start-time.Second, func() {
					s.writes("INFO 11-28 13:00:00 [api_server.py:1] Starting vLLM server on http://0.0.0.0:8000\n")
				})
			},
			happens: func(*loading) {}, late: 700 * time.Millisecond,
		},
		"an earlier start has said so": {
			begin: func(s *loading) {
				s.log = []string{strings.TrimSpace(readyLine), deploy.EndLine, vllm.StartLine + "the server"}
			},
			happens: func(s *loading) { s.writes(readyLine) },
		},
		"its log isn't readable": {
			begin: func(s *loading) { s.mute = true }, happens: func(*loading) {}, late: 6 * loadPause / 5,
		},
		"the stream is lost on the way": {
			begin:   func(s *loading) { time.AfterFunc(start/2, s.breaks) },
			happens: func(s *loading) { s.writes(readyLine) },
		},
		"streams end at once": {
			begin:   func(s *loading) { s.brief = true },
			happens: func(*loading) {}, late: 6 * loadPause / 5,
		},
		"a line without an end": {
			begin:   func(s *loading) { time.AfterFunc(time.Second, func() { s.writes(strings.Repeat("x", 1<<20)) }) },
			happens: func(s *loading) { s.writes("\n" + readyLine) },
		},
		"it dies as a container": {happens: func(s *loading) { s.becomes(deploy.Exited, false); s.breaks() }, fails: true},
		"it dies as a process": {
			happens: func(s *loading) { s.becomes(deploy.Exited, false); s.writes(deploy.EndLine + "with exit code 1\n") }, fails: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				s := &loading{state: deploy.Running}
				l := newLaunch(ctx, nil, Request{Spec: vllm.Spec{Model: "m/m"}})
				l.runtime = s
				begun := time.Now()
				time.AfterFunc(start, func() {
					s.becomes(deploy.Running, !test.fails)
					test.happens(s)
				})
				if test.begin != nil {
					test.begin(s)
				}
				problem := l.load(ctx, deploy.Ref{}, vllm.NewClient(s, "http://server", "key"))
				if took := time.Since(begun); took < start || took > start+test.late {
					t.Errorf("known %s after it happened", took-start)
				}
				if (problem != nil) != test.fails {
					t.Errorf("problem: %+v", problem)
				}
				for i := range s.looks {
					if i >= 30 && s.looks[i].Sub(s.looks[i-30]) < time.Minute {
						t.Errorf("looks %d to %d are within %s", i-30, i, s.looks[i].Sub(s.looks[i-30]))
					}
				}
				for _, f := range l.followers {
					f.streams.Wait()
				}
			})
		})
	}
}
