package vllm

import (
	"errors"
	"strings"
	"testing"
)

// What vLLM's two rules accept, for models that break one or the other.
func TestSharesEvenly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		model    string
		accepted []int
		refused  []int
	}{
		{"Qwen2.5-7B", []int{1, 2, 4, 28}, []int{0, -1, 3, 7, 8, 14}}, // 28 heads, 4 of keys and values
		{"Phi-4", []int{1, 2, 5, 10, 20, 40}, []int{4, 8}},            // 40, 10
		{"Llama-3.2-3B", []int{1, 2, 4, 8, 24}, []int{3, 6, 12}},      // 24, 8
		{"Qwen2.5-14B", []int{1, 2, 4, 8, 40}, []int{5, 6, 10, 20}},   // 40, 8
		{"Qwen2.5-0.5B", []int{1, 2, 14}, []int{4, 7, 8}},             // 14, 2
		{"DeepSeek-V3/R1", []int{1, 2, 8, 16, 128}, []int{3, 6, 7}},   // latent attention: the heads alone count
	} {
		shape, ok := Lookup(test.model)
		if !ok {
			t.Fatalf("%s is not known", test.model)
		}
		for _, size := range test.accepted {
			if !shape.SharesEvenly(size) {
				t.Errorf("%s on %d GPUs is refused", test.model, size)
			}
		}
		for _, size := range test.refused {
			if shape.SharesEvenly(size) {
				t.Errorf("%s on %d GPUs is accepted", test.model, size)
			}
		}
	}
}

func TestLargestTensorParallel(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		model      string // "" = not known
		gpus, want int
	}{
		{"Qwen/Qwen2.5-7B-Instruct", 8, 4},
		{"microsoft/phi-4", 4, 2},
		{"meta-llama/Llama-3.2-3B-Instruct", 3, 2},
		{"Qwen/Qwen2.5-14B-Instruct", 6, 4},
		{"Qwen/Qwen2.5-0.5B-Instruct", 8, 2},
		{"meta-llama/Llama-3.3-70B-Instruct", 8, 8},
		{"deepseek-ai/DeepSeek-R1", 16, 16},
		{"", 1, 1},
		{"", 0, 1},
		{"", 6, 4},
		{"", 8, 8},
	} {
		shape, _ := Lookup(test.model)
		if got := LargestTensorParallel(shape, test.gpus); got != test.want {
			t.Errorf("%q on %d GPUs gets %d, want %d", test.model, test.gpus, got, test.want)
		}
	}
	// Every model of the table starts on whatever number of GPUs a machine has.
	for _, shape := range Models() {
		for gpus := range 17 {
			size := LargestTensorParallel(shape, gpus)
			if _, err := Estimate(shape, MemoryOptions{TensorParallelSize: size}); err != nil || size > max(gpus, 1) {
				t.Errorf("%s on %d GPUs gets %d: %v", shape.Name, gpus, size, err)
			}
		}
	}
}

// A size that a user gives is judged by the same rules, where the model is known.
func TestTensorParallelSizeIsValidated(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		model string
		size  int
		words string // "" = accepted
	}{
		{"Qwen/Qwen2.5-7B-Instruct", 7, "28 attention heads and 4 key-value heads evenly: 1, 2, 4 or 28; got 7"},
		{"Qwen/Qwen2.5-7B-Instruct", 4, ""},
		{"microsoft/phi-4", 4, "1, 2, 5, 10, 20 or 40; got 4"},
		{"deepseek-ai/DeepSeek-R1", 6, "128 attention heads evenly: 1, 2, 4"},
		{"someone/else", 7, ""},
	} {
		err := Spec{Model: test.model, TensorParallelSize: test.size}.Validate()
		if test.words == "" {
			if err != nil {
				t.Errorf("%s on %d GPUs: %v", test.model, test.size, err)
			}
			continue
		}
		problems, ok := errors.AsType[*SpecError](err)
		if !ok || len(problems.Problems) != 1 || problems.Problems[0].Field != "tensor_parallel_size" ||
			!strings.Contains(err.Error(), test.words) {
			t.Errorf("%s on %d GPUs: %v", test.model, test.size, err)
		}
	}
}
