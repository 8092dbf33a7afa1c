package vllm

import (
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

const metricsText = `# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="chat"} 3.0
vllm:num_requests_running{engine="1",model_name="chat"} 1.0
vllm:num_requests_waiting{engine="0",model_name="a}b\"c{d"} 5.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
vllm:prompt_tokens_total{engine="0"} 1.5e+03
vllm:generation_tokens_total{engine="0"} 2000.0 1732442400000
vllm:request_success_total{engine="0",finished_reason="stop"} 7.0
vllm:request_success_total{engine="0",finished_reason="length"} 2.0
vllm:time_to_first_token_seconds_bucket{le="0.1"} 3.0
vllm:time_to_first_token_seconds_bucket{le="+Inf"} 4.0
vllm:time_to_first_token_seconds_sum 1.0
vllm:time_to_first_token_seconds_count 4.0
vllm:num_requests_running_other 99
python_info{version="3.12"} 1.0
`

func number64(value float64) *float64 { return &value }

func TestParseMetrics(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		text string
		want Metrics
	}{
		"current": {metricsText, Metrics{
			RequestsRunning: number64(4), RequestsWaiting: number64(5), KVCacheUsage: number64(0.5), PromptTokens: number64(1500),
			GenerationTokens: number64(2000), RequestsSucceeded: number64(9), FirstTokenSeconds: number64(0.25),
		}},
		"older name":        {"vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.42\n", Metrics{KVCacheUsage: number64(0.42)}},
		"CRLF":              {"vllm:num_requests_running 1\r\n", Metrics{RequestsRunning: number64(1)}},
		"no requests yet":   {"vllm:time_to_first_token_seconds_sum 0\nvllm:time_to_first_token_seconds_count 0\n", Metrics{}},
		"not a number":      {"vllm:num_requests_running NaN\nvllm:num_requests_waiting +Inf\n", Metrics{}},
		"no value":          {"vllm:num_requests_running\nvllm:num_requests_waiting{a=\"b\"}\n", Metrics{}},
		"unfinished labels": {"vllm:num_requests_running{a=\"b 1\nvllm:num_requests_waiting 2", Metrics{RequestsWaiting: number64(2)}},
		"HTML":              {"<html><body>not metrics</body></html>", Metrics{}},
		"long line":         {"x{" + strings.Repeat("a", 3*maxMetricLine) + "} 1\nvllm:num_requests_running 1\n", Metrics{RequestsRunning: number64(1)}},
		"long line at end":  {strings.Repeat("vllm:num_requests_running 1 ", maxMetricLine), Metrics{}},
		"empty":             {"", Metrics{}},
	} {
		got, err := ParseMetrics(strings.NewReader(test.text))
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", name, err, diff)
		}
	}
}

func TestParseMetricsReaderFails(t *testing.T) {
	t.Parallel()
	_, err := ParseMetrics(io.MultiReader(strings.NewReader(metricsText), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
}

func FuzzParseMetrics(f *testing.F) {
	f.Add(metricsText)
	f.Add("vllm:num_requests_running{a=\"\\\"}\"} 1e309\nvllm:kv_cache_usage_perc -0x1p-2 ")
	f.Fuzz(func(t *testing.T, text string) {
		metrics, err := ParseMetrics(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []*float64{metrics.RequestsRunning, metrics.RequestsWaiting, metrics.KVCacheUsage, metrics.PromptTokens, metrics.FirstTokenSeconds} {
			if value != nil && math.IsNaN(*value) {
				t.Errorf("%+v", metrics)
			}
		}
	})
}
