package vllmserver_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// replayed asks a server what was asked of a recorded one, and does to it what was done to that.
type replayed struct {
	*server
	name      string
	exchanges []facts.Exchange
	deviating map[string]bool
}

// TestEveryRequestToEveryRun: as TestEveryRecordedRequest, of servers to which something was done.
func TestEveryRequestToEveryRun(t *testing.T) {
	t.Parallel()
	folders := models(t)
	for _, release := range facts.Releases() {
		for _, name := range facts.Runs(release) {
			t.Run(release+"/"+name, func(t *testing.T) {
				t.Parallel()
				run, _ := facts.Ended(release, name)
				r := &replayed{started(t, run, vllmserver.FilesEnv+"="+folders), name, facts.Asked(release, name), map[string]bool{}}
				r.t = t
				switch name {
				case "hung-engine", "hung-worker":
					r.hung()
				case "queue-full":
					r.full()
				case "draining", "sigterm-with-request":
					r.stopped(run.Exit)
				default:
					r.all(r.exchanges)
				}
				for at, reason := range deviations {
					if strings.HasPrefix(at, name+" ") && !r.deviating[at] {
						t.Errorf("%s deviates no more: %s", at, reason)
					}
				}
			})
		}
	}
}

func (r *replayed) all(exchanges []facts.Exchange) {
	r.t.Helper()
	for _, e := range exchanges {
		a, err := r.ask(e)
		if err != nil {
			r.t.Fatal(err)
		}
		r.compare(a, e)
	}
}

func (r *replayed) compare(a answered, e facts.Exchange) {
	r.t.Helper()
	at := e.Request.Method + " " + e.Request.Path
	for _, problem := range a.differences(r.t, e) {
		r.deviating[r.name+" "+at] = true
		if deviations[r.name+" "+at] == "" && deviations[at] == "" {
			r.t.Errorf("%s: %s", at, problem)
		}
	}
}

func (r *replayed) hang(hangs bool) {
	r.t.Helper()
	setFacts(r.t, r.root, func(f *machinefs.Facts) { f.VLLM.Hang = hangs })
}

// later asks without waiting for the answer.
func (r *replayed) later(e facts.Exchange) <-chan answered {
	answer := make(chan answered, 1)
	go func() {
		defer close(answer)
		if a, err := r.ask(e); err == nil {
			answer <- a
		}
	}()
	return answer
}

// running waits until the engine has a request.
func (r *replayed) running() {
	r.t.Helper()
	var metrics facts.Exchange
	metrics.Request.Method, metrics.Request.Path = http.MethodGet, "/metrics"
	r.eventually("a running request", func() bool {
		a, err := r.ask(metrics)
		return err == nil && strings.Contains(a.body, `vllm:num_requests_running{engine="0",model_name="tiny"} 1.0`)
	})
}

// hung: what got no answer gets none until the engine goes on, before the last request.
func (r *replayed) hung() {
	r.hang(true)
	last := len(r.exchanges) - 1
	for i, e := range r.exchanges {
		if e.Answer.Status != 0 {
			if i == last {
				r.hang(false)
			}
			r.all([]facts.Exchange{e})
			continue
		}
		silent := r.later(e)
		r.running()
		r.t.Cleanup(func() { <-silent }) // which comes when the server ends, at the latest
		select {
		case a := <-silent:
			r.t.Errorf("a hung engine answered: %s", a.body)
		default:
		}
	}
}

// full: of twelve requests at once all but those that the queue takes are refused; the others are answered in the end.
func (r *replayed) full() {
	r.hang(true)
	rest := slices.IndexFunc(r.exchanges, func(e facts.Exchange) bool { return e.Request.Path == "/load" })
	answers := make(chan answered, rest)
	for _, e := range r.exchanges[:rest] {
		go func() {
			a, err := r.ask(e)
			if err != nil {
				r.t.Error(err)
			}
			answers <- a
		}()
	}
	for i, e := range r.exchanges[:rest] {
		if e.Answer.Status == http.StatusOK {
			r.hang(false)
		}
		a := <-answers
		if a.Response == nil {
			return
		}
		r.compare(a, r.exchanges[i])
	}
	r.all(r.exchanges[rest:])
}

// stopped: TERM comes while the first request runs, the others after it.
func (r *replayed) stopped(exit int) {
	r.hang(true)
	first := r.later(r.exchanges[0])
	r.running()
	r.cancel()
	if len(r.exchanges) > 1 {
		r.eventually("draining", func() bool { return strings.Contains(r.log.String(), "draining in-flight requests") })
		r.all(r.exchanges[1:])
		r.hang(false)
	}
	if a, ok := <-first; ok {
		r.compare(a, r.exchanges[0])
	}
	if code := r.wait(); code != exit {
		r.t.Errorf("exit code %d, want %d", code, exit)
	}
}
