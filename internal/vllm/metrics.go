package vllm

import (
	"cmp"
	"io"
	"math"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics are a server's metrics, summed over its engines and label values unless said otherwise. nil means that the
// server didn't report it. Names are those of vLLM's metrics page, in the spelling of current and older releases.
type Metrics struct {
	RequestsRunning   *float64 // vllm:num_requests_running
	RequestsWaiting   *float64 // vllm:num_requests_waiting
	KVCacheUsage      *float64 // vllm:kv_cache_usage_perc, formerly vllm:gpu_cache_usage_perc: 0 to 1, of the fullest engine
	PromptTokens      *float64 // vllm:prompt_tokens_total, since the server started
	GenerationTokens  *float64 // vllm:generation_tokens_total
	RequestsSucceeded *float64 // vllm:request_success_total
	// FirstTokenSeconds is the mean of vllm:time_to_first_token_seconds since the server started; nil before the first
	// request.
	FirstTokenSeconds *float64
}

// ParseMetrics parses Prometheus' text format. The error is the reader's, or names the line that is not in the format.
func ParseMetrics(r io.Reader) (Metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return Metrics{}, err
	}
	fold := func(name string, by func(a, b float64) float64) *float64 {
		var result *float64
		for _, m := range families[name].GetMetric() {
			value := m.GetGauge().GetValue() + m.GetCounter().GetValue() + m.GetUntyped().GetValue() // it is one of them
			if result != nil {
				value = by(*result, value)
			}
			result = &value
		}
		return finite(result)
	}
	sum := func(name string) *float64 { return fold(name, func(a, b float64) float64 { return a + b }) }
	highest := func(name string) *float64 { return fold(name, func(a, b float64) float64 { return max(a, b) }) }
	return Metrics{
		RequestsRunning:   sum("vllm:num_requests_running"),
		RequestsWaiting:   sum("vllm:num_requests_waiting"),
		KVCacheUsage:      cmp.Or(highest("vllm:kv_cache_usage_perc"), highest("vllm:gpu_cache_usage_perc")),
		PromptTokens:      sum("vllm:prompt_tokens_total"),
		GenerationTokens:  sum("vllm:generation_tokens_total"),
		RequestsSucceeded: sum("vllm:request_success_total"),
		FirstTokenSeconds: mean(families["vllm:time_to_first_token_seconds"]),
	}, nil
}

// mean returns the mean of all observations in a histogram, nil before the first one.
func mean(histogram *dto.MetricFamily) *float64 {
	var sum, count float64
	for _, m := range histogram.GetMetric() {
		sum += m.GetHistogram().GetSampleSum()
		count += float64(m.GetHistogram().GetSampleCount())
	}
	of := sum / count
	return finite(&of)
}

// finite returns nil for NaN and infinities, which Terraform's numbers don't have.
func finite(value *float64) *float64 {
	if value == nil || math.IsNaN(*value) || math.IsInf(*value, 0) {
		return nil
	}
	return value
}
