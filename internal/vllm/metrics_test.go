package vllm

import (
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.1"} 3.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 4.0
vllm:time_to_first_token_seconds_sum{engine="0"} 1.0
vllm:time_to_first_token_seconds_count{engine="0"} 4.0
vllm:time_to_first_token_seconds_sum{engine="1"} 2.0
vllm:time_to_first_token_seconds_count{engine="1"} 2.0
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
			GenerationTokens: number64(2000), RequestsSucceeded: number64(9), FirstTokenSeconds: number64(0.5),
		}},
		"older name": {"vllm:gpu_cache_usage_perc{model_name=\"m\"} 0.42\n", Metrics{KVCacheUsage: number64(0.42)}},
		"no requests yet": {"# TYPE vllm:time_to_first_token_seconds histogram\nvllm:time_to_first_token_seconds_sum 0\n" +
			"vllm:time_to_first_token_seconds_count 0\n", Metrics{}},
		"not a number": {"vllm:num_requests_running NaN\nvllm:num_requests_waiting +Inf\n", Metrics{}},
		"empty":        {"", Metrics{}},
	} {
		got, err := ParseMetrics(strings.NewReader(test.text))
		if diff := cmp.Diff(test.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s", name, err, diff)
		}
	}
}

// Each text that a real vLLM has answered is read, with all its figures.
func TestParseRecordedMetrics(t *testing.T) {
	t.Parallel()
	var files []string
	for _, pattern := range []string{"*/http.json", "*/runs/*.http.json"} {
		found, err := filepath.Glob(filepath.Join(recordings, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	texts := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var recording any
		if err := json.Unmarshal(data, &recording); err != nil {
			t.Fatal(err)
		}
		eachString(recording, func(text string) {
			if !strings.Contains(text, "\nvllm:num_requests_running{") {
				return
			}
			texts++
			got, err := ParseMetrics(strings.NewReader(text))
			if err != nil || got.RequestsRunning == nil || got.RequestsWaiting == nil || got.KVCacheUsage == nil || got.PromptTokens == nil ||
				got.GenerationTokens == nil || got.RequestsSucceeded == nil {
				t.Errorf("%s: %+v, %v", file, got, err)
			}
			if !strings.HasSuffix(file, "streams.http.json") {
				return
			}
			want := Metrics{
				RequestsRunning: number64(0), RequestsWaiting: number64(0), KVCacheUsage: number64(0), PromptTokens: number64(28),
				GenerationTokens: number64(8), RequestsSucceeded: number64(2), FirstTokenSeconds: number64(0.033604),
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
				t.Errorf("%s (-want +got)\n%s", file, diff)
			}
		})
	}
	if texts < 5 {
		t.Errorf("%d texts in %d recordings", texts, len(files))
	}
}

func eachString(value any, do func(string)) {
	switch value := value.(type) {
	case string:
		do(value)
	case []any:
		for _, element := range value {
			eachString(element, do)
		}
	case map[string]any:
		for _, element := range value {
			eachString(element, do)
		}
	}
}

// What is not in the format says where, and is no server without figures.
func TestParseMetricsRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"<html><body>not metrics</body></html>":                             "line 1: invalid metric name",
		"vllm:num_requests_running 1\nvllm:num_requests_waiting{a=\"b\"}\n": "line 2: expected float",
		"vllm:num_requests_running{a=\"b 1\nvllm:num_requests_waiting 2\n":  "line 1: label value",
		"vllm:num_requests_running 1":                                       "unexpected end of input stream",
	} {
		if got, err := ParseMetrics(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) || got != (Metrics{}) {
			t.Errorf("%q: %+v, %v; want %q", text, got, err, want)
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
			return
		}
		for _, value := range []*float64{metrics.RequestsRunning, metrics.RequestsWaiting, metrics.KVCacheUsage, metrics.PromptTokens, metrics.FirstTokenSeconds} {
			if value != nil && (math.IsNaN(*value) || math.IsInf(*value, 0)) {
				t.Errorf("%+v", metrics)
			}
		}
	})
}
