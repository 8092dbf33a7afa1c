package vllmserver

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// metrics counts what the server has done, under the names of
// vllm/v1/metrics/loggers.py.
type metrics struct {
	running    atomic.Int64
	mu         sync.Mutex
	prompt     int
	generation int
	success    map[string]int // by finish reason
	inCache    int            // tokens of running requests
	firstToken histogram
	endToEnd   histogram
}

type histogram struct {
	bounds []float64
	counts []int
	sum    float64
	n      int
}

func (m *metrics) init() {
	m.success = map[string]int{"stop": 0, "length": 0, "abort": 0, "error": 0}
	m.firstToken.bounds = []float64{0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	m.endToEnd.bounds = []float64{0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60}
	m.firstToken.counts = make([]int, len(m.firstToken.bounds))
	m.endToEnd.counts = make([]int, len(m.endToEnd.bounds))
}

func (h *histogram) observe(v float64) {
	h.n++
	h.sum += v
	for i, bound := range h.bounds {
		if v <= bound {
			h.counts[i]++
		}
	}
}

// begin counts a request in; the returned function counts it out.
func (m *metrics) begin(tokens int) (end func(reason string, generated int)) {
	started := time.Now()
	m.running.Add(1)
	m.mu.Lock()
	m.inCache += tokens
	m.mu.Unlock()
	return func(reason string, generated int) {
		m.running.Add(-1)
		took := time.Since(started).Seconds()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.inCache -= tokens
		m.success[reason]++
		if reason == "abort" || reason == "error" {
			return
		}
		m.prompt += tokens
		m.generation += generated
		m.firstToken.observe(took)
		m.endToEnd.observe(took)
	}
}

func (s *server) writeMetrics(w http.ResponseWriter, _ *http.Request) {
	m := &s.metrics
	model := fmt.Sprintf("engine=\"0\",model_name=%q", s.run.opts.servedNames()[0])
	var b strings.Builder
	one := func(name, kind, help, labels string, value float64) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
		if labels != "" {
			fmt.Fprintf(&b, "%s{%s} %v\n", name, labels, value)
		}
	}
	m.mu.Lock()
	one("vllm:num_requests_running", "gauge", "Number of requests in model execution batches.", model, float64(m.running.Load()))
	one("vllm:num_requests_waiting", "gauge", "Number of requests waiting to be processed.", model, 0)
	usage := min(1, float64(m.inCache)/float64(max(1, s.run.cacheTokens())))
	one("vllm:kv_cache_usage_perc", "gauge", "KV-cache usage. 1 means 100 percent usage.", model, usage)
	if !s.run.place.atLeast("0.10") {
		one("vllm:gpu_cache_usage_perc", "gauge", "GPU KV-cache usage. 1 means 100 percent usage.", model, usage)
	}
	one("vllm:prompt_tokens_total", "counter", "Number of prefill tokens processed.", model, float64(m.prompt))
	one("vllm:generation_tokens_total", "counter", "Number of generation tokens processed.", model, float64(m.generation))
	one("vllm:request_success_total", "counter", "Count of successfully processed requests.", "", 0)
	for _, reason := range []string{"stop", "length", "abort", "error"} {
		fmt.Fprintf(&b, "vllm:request_success_total{engine=\"0\",finished_reason=%q,model_name=%q} %d\n", reason, s.run.opts.servedNames()[0], m.success[reason])
	}
	m.firstToken.write(&b, "vllm:time_to_first_token_seconds", "Histogram of time to first token in seconds.", model)
	m.endToEnd.write(&b, "vllm:e2e_request_latency_seconds", "Histogram of e2e request latency in seconds.", model)
	m.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=1.0.0; charset=utf-8")
	_, _ = w.Write([]byte(b.String()))
}

func (h *histogram) write(b *strings.Builder, name, help, labels string) {
	fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name)
	for i, bound := range h.bounds {
		fmt.Fprintf(b, "%s_bucket{%s,le=\"%g\"} %d\n", name, labels, bound, h.counts[i])
	}
	fmt.Fprintf(b, "%s_bucket{%s,le=\"+Inf\"} %d\n%s_count{%s} %d\n%s_sum{%s} %g\n", name, labels, h.n, name, labels, h.n, name, labels, h.sum)
}
