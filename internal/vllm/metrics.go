package vllm

import (
	"bufio"
	"io"
	"math"
	"strconv"
	"strings"
)

// Metrics are a server's figures, summed over its engines and label values unless said otherwise. nil means that the
// server didn't tell. Names are those of vLLM's metrics page, in the spelling of current and older releases.
type Metrics struct {
	RequestsRunning   *float64 // vllm:num_requests_running
	RequestsWaiting   *float64 // vllm:num_requests_waiting
	KVCacheUsage      *float64 // vllm:kv_cache_usage_perc, formerly vllm:gpu_cache_usage_perc: 0 to 1, the fullest engine
	PromptTokens      *float64 // vllm:prompt_tokens_total, since the server started
	GenerationTokens  *float64 // vllm:generation_tokens_total
	RequestsSucceeded *float64 // vllm:request_success_total
	// FirstTokenSeconds is the mean of vllm:time_to_first_token_seconds since the server started; nil before the first
	// request.
	FirstTokenSeconds *float64
}

const maxMetricLine = 64 << 10

// ParseMetrics reads Prometheus' text format. Lines that it doesn't know or can't read are passed over: a server may
// tell more than we ask. The error is the reader's.
func ParseMetrics(r io.Reader) (Metrics, error) {
	var metrics Metrics
	var firstTokenSum, firstTokenCount *float64
	sums := map[string]**float64{
		"vllm:num_requests_running":              &metrics.RequestsRunning,
		"vllm:num_requests_waiting":              &metrics.RequestsWaiting,
		"vllm:prompt_tokens_total":               &metrics.PromptTokens,
		"vllm:generation_tokens_total":           &metrics.GenerationTokens,
		"vllm:request_success_total":             &metrics.RequestsSucceeded,
		"vllm:time_to_first_token_seconds_sum":   &firstTokenSum,
		"vllm:time_to_first_token_seconds_count": &firstTokenCount,
	}
	lines := bufio.NewReaderSize(r, maxMetricLine)
	for {
		raw, long, err := lines.ReadLine()
		for long && err == nil {
			raw = nil // longer than any line of ours
			_, long, err = lines.ReadLine()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return Metrics{}, err
		}
		name, value, ok := parseSample(string(raw))
		if !ok {
			continue
		}
		if name == "vllm:kv_cache_usage_perc" || name == "vllm:gpu_cache_usage_perc" {
			metrics.KVCacheUsage = highest(metrics.KVCacheUsage, value)
		} else if sum, known := sums[name]; known {
			*sum = added(*sum, value)
		}
	}
	if firstTokenSum != nil && firstTokenCount != nil && *firstTokenCount > 0 {
		mean := *firstTokenSum / *firstTokenCount
		metrics.FirstTokenSeconds = &mean
	}
	return metrics, nil
}

// parseSample reads `name{label="value",…} 1.5 [timestamp]`. Figures that aren't numbers are not ok.
func parseSample(line string) (name string, value float64, ok bool) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", 0, false
	}
	end := strings.IndexAny(line, "{ \t")
	if end <= 0 {
		return "", 0, false
	}
	name, rest := line[:end], line[end:]
	if rest[0] == '{' {
		closing := endOfLabels(rest)
		if closing < 0 {
			return "", 0, false
		}
		rest = rest[closing+1:]
	}
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return "", 0, false
	}
	value, err := strconv.ParseFloat(fields[0], 64)
	if err != nil || math.IsNaN(value) || math.IsInf(value, 0) {
		return "", 0, false
	}
	return name, value, true
}

// endOfLabels is the index of the brace that closes the labels, or -1. Label values may contain braces and, escaped,
// quotes.
func endOfLabels(text string) int {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case quoted && text[i] == '\\':
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == '}' && !quoted:
			return i
		}
	}
	return -1
}

func added(sum *float64, value float64) *float64 {
	if sum != nil {
		value += *sum
	}
	return &value
}

func highest(known *float64, value float64) *float64 {
	if known != nil {
		value = max(value, *known)
	}
	return &value
}
