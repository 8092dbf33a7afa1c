package vllmserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
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
	latencies  []float64      // seconds to the first token, and to the last
}

func (m *metrics) init() { m.success = map[string]int{} }

// begin counts a request, and returns how many are running; end is called at its end.
func (m *metrics) begin(tokens int) (end func(reason string, generated int), running int) {
	started := time.Now()
	running = int(m.running.Add(1))
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
		m.latencies = append(m.latencies, took)
	}, running
}

// writeMetrics writes the recorded metrics with this server's name, and its figures of those
// that it counts.
func (s *server) writeMetrics(w http.ResponseWriter, _ *http.Request) {
	e := s.like("/metrics", "")
	var text string
	_ = json.Unmarshal(e.Answer.Body, &text) // recorded JSON
	text = strings.ReplaceAll(text, `model_name="demo"`, fmt.Sprintf("model_name=%q", s.run.opts.servedNames()[0]))
	m := &s.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	var helps string
	_ = json.Unmarshal(s.like("/metrics", "# HELP vllm:").Answer.Body, &helps) // recorded JSON
	var out strings.Builder
	for line := range strings.Lines(text) {
		if typed, ok := strings.CutPrefix(line, "# TYPE "); ok { // most recorded answers have no help
			name, _, _ := strings.Cut(typed, " ")
			if _, help, known := strings.Cut(helps, "# HELP "+name+" "); known {
				help, _, _ = strings.Cut(help, "\n")
				out.WriteString("# HELP " + name + " " + help + "\n")
			}
		}
		sample, _, found := strings.Cut(strings.TrimSuffix(line, "\n"), "} ")
		name, labels, _ := strings.Cut(sample, "{")
		if value, counted := s.figure(name, labels); found && counted {
			line = sample + "} " + pyFloat(value) + "\n"
		}
		out.WriteString(line)
	}
	if !s.run.place.atLeast("0.10") {
		fmt.Fprintf(&out, "# TYPE vllm:gpu_cache_usage_perc gauge\nvllm:gpu_cache_usage_perc{engine=\"0\",model_name=%q} %s\n", s.run.opts.servedNames()[0], pyFloat(s.cacheUsage()))
	}
	s.answer(w, e, out.String())
}

func (s *server) cacheUsage() float64 {
	return min(1, float64(s.metrics.inCache)/float64(max(1, s.run.cacheTokens())))
}

// figure is the value of a metric that this server counts.
func (s *server) figure(name, labels string) (value float64, counted bool) {
	m := &s.metrics
	switch name {
	case "vllm:num_requests_running":
		return float64(m.running.Load()), true
	case "vllm:kv_cache_usage_perc":
		return s.cacheUsage(), true
	case "vllm:prompt_tokens_total":
		return float64(m.prompt), true
	case "vllm:generation_tokens_total":
		return float64(m.generation), true
	case "vllm:request_success_total":
		return float64(m.success[label("finished_reason", labels)]), true
	}
	histogram, ok := strings.CutPrefix(name, "vllm:time_to_first_token_seconds")
	if !ok {
		if histogram, ok = strings.CutPrefix(name, "vllm:e2e_request_latency_seconds"); !ok {
			return 0, false
		}
	}
	switch histogram {
	case "_count":
		return float64(len(m.latencies)), true
	case "_sum":
		for _, latency := range m.latencies {
			value += latency
		}
		return value, true
	case "_bucket":
		bound, _ := strconv.ParseFloat(label("le", labels), 64) // +Inf too
		for _, latency := range m.latencies {
			if latency <= bound {
				value++
			}
		}
		return value, true
	}
	return 0, false
}

// label returns the value of one of a sample's labels.
func label(name, labels string) string {
	_, after, _ := strings.Cut(labels, name+`="`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}
