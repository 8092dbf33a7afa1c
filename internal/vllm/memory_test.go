package vllm

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// kibPerToken is the check column of the table of models: KiB of KV cache a token takes in layers with full attention, on one GPU.
var kibPerToken = map[string]float64{
	"TinyLlama-1.1B": 22, "Llama-3.2-3B": 112, "Llama-3.1-8B": 128, "Llama-3.3-70B": 320, "Llama-3.1-405B": 504,
	"Qwen2.5-0.5B": 12, "Qwen2.5-7B": 56, "Qwen2.5-14B": 192, "Qwen2.5-32B": 256, "Qwen2.5-72B": 320,
	"Qwen3-0.6B": 112, "Qwen3-4B": 144, "Qwen3-8B": 144, "Qwen3-14B": 160, "Qwen3-32B": 256, "Qwen3-30B-A3B": 96, "Qwen3-235B-A22B": 188,
	"Mistral-7B-v0.3": 128, "Mistral-Nemo-12B": 160, "Mistral-Small-3.2-24B": 160, "Mixtral-8x7B": 128, "Phi-4": 200,
	"Gemma-3-27B": 80, "gpt-oss-20b": 24, "gpt-oss-120b": 36, "DeepSeek-V3/R1": 68.6,
}

func TestModelsTable(t *testing.T) {
	t.Parallel()
	if len(Models()) != len(kibPerToken) {
		t.Errorf("%d models, %d figures", len(Models()), len(kibPerToken))
	}
	for _, shape := range Models() {
		need, err := Estimate(shape, MemoryOptions{})
		if err != nil {
			t.Errorf("%s: %v", shape.Name, err)
			continue
		}
		if got, want := need.KVBytesPerToken/1024, kibPerToken[shape.Name]; math.Abs(got-want) > 0.05 {
			t.Errorf("%s: %.2f KiB/token, want %.2f", shape.Name, got, want)
		}
		if shape.Unquantized <= 0 || shape.Unquantized > shape.Parameters/3 || shape.AttentionHeads == 0 || need.ContextLength != shape.ContextLength {
			t.Errorf("%s: %+v", shape.Name, shape)
		}
	}
}

// Figures worked out by hand.
func TestEstimate(t *testing.T) {
	t.Parallel()
	shape := func(id string) ModelShape {
		found, ok := Lookup(id)
		if !ok {
			t.Fatalf("no model %s", id)
		}
		return found
	}
	const g = 1 << 30
	for name, test := range map[string]struct {
		shape                            ModelShape
		options                          MemoryOptions
		weights, cache, allowance, total float64 // GiB
		gpus                             int
	}{
		"8B in bf16, one sequence of 8192": {
			// 8.03e9 · 2 / GiB = 14.957; 131072 B · 8192 = 1 GiB; 2 + 0.03 · 14.957 = 2.4487; sum 18.4057 / 0.9
			shape("Llama-3.1-8B"), MemoryOptions{ContextLength: 8192}, 14.957, 1, 2.4487, 20.4508, 1,
		},
		"7B, four sequences at 0.5": {
			// 15.24e9 B; 57344 B · 32768 = 1.75 GiB, four times
			shape("Qwen2.5-7B"), MemoryOptions{Sequences: 4, GPUMemoryUtilization: 0.5}, 15.24e9 / g, 7, 2 + 0.03*15.24e9/g, (15.24e9/g*1.03 + 9) / 0.5, 1,
		},
		"70B over four GPUs, fp8 cache": {
			// 141.1e9 B / 4; 2·80·2·128·1 B = 40960 B · 32768 = 1.25 GiB; the allowance is of all weights
			shape("Llama-3.3-70B"),
			MemoryOptions{ContextLength: 32768, TensorParallelSize: 4, KVCacheDType: "fp8"},
			141.1e9 / 4 / g, 1.25, 2 + 0.03*141.1e9/g, (141.1e9/4/g + 1.25 + 2 + 0.03*141.1e9/g) / 0.9, 4,
		},
		"int4 keeps the embeddings": {
			// (7.62 − 1.09)e9 · 0.52 + 1.09e9 · 2 = 5.5756e9 B
			shape("Qwen/Qwen2.5-7B-Instruct-AWQ"), MemoryOptions{ContextLength: 32768}, 5.5756e9 / g, 1.75, 2 + 0.03*5.5756e9/g, (5.5756e9/g*1.03 + 3.75) / 0.9, 1,
		},
		"layers with a window": {
			// 10 layers: 81920 B · 131072 = 10 GiB; 52 layers in groups of 10 are 60: 491520 B · (1023 + 2·2048 + 16)
			shape("Gemma-3-27B"), MemoryOptions{}, 54.02e9 / g, 10 + 491520.0*5135/g, 2 + 0.03*54.02e9/g, (54.02e9/g*1.03 + 12 + 491520.0*5135/g) / 0.9, 1,
		},
		"layers with a window, larger batches, no graphs": {
			// 18 and 18 layers of 2·8·64·2 = 2048 B: 36864 B · 131072 = 4.5 GiB, 36864 B · (127 + 2·8192 + 16)
			shape("gpt-oss-120b"),
			MemoryOptions{Quantization: "bf16", BatchedTokens: 8192, NoGraphs: true},
			234e9 / g, 4.5 + 36864.0*16527/g, 1.5 + 0.03*234e9/g, (234e9/g*1.03 + 6 + 36864.0*16527/g) / 0.9, 1,
		},
		"sorts of layers that are nearly as many": {
			// 5 and 6 layers are 6 and 6 of 2·2·64·2 = 512 B: 3072 B · 1024, 3072 B · (1024 + 16)
			ModelShape{Parameters: 1, Layers: 11, SlidingLayers: 6, Window: 128, KVHeads: 2, HeadDim: 64},
			MemoryOptions{ContextLength: 1024},
			2e9 / g, 3072.0 * 2064 / g, 2 + 0.03*2e9/g, (2e9/g*1.03 + 2 + 3072.0*2064/g) / 0.9, 1,
		},
		"a context below the window": {
			// 10 layers · 8192 B · 512, 60 · 8192 B · (512 + 16)
			shape("Gemma-3-27B"),
			MemoryOptions{ContextLength: 512},
			54.02e9 / g, 8192.0 * (10*512 + 60*528) / g, 2 + 0.03*54.02e9/g, (54.02e9/g*1.03 + 8192.0*(10*512+60*528)/g + 2) / 0.9, 1,
		},
		"MLA isn't split by tensor parallelism": {
			// (671 − 1.853)e9 · 1 + 1.853e9 · 2 = 672.853e9 B; 61·576·2 = 70272 B · 16384
			shape("deepseek-ai/DeepSeek-R1"),
			MemoryOptions{ContextLength: 16384, TensorParallelSize: 8},
			672.853e9 / 8 / g, 70272.0 * 16384 / g, 2 + 0.03*672.853e9/g, (672.853e9/8/g + 70272.0*16384/g + 2 + 0.03*672.853e9/g) / 0.9, 8,
		},
		"more GPUs than KV heads, and a pipeline": {
			// 2·28·max(1, 4/28 → 1)·128·2 / 2 = 7168 B · 32768 = 0.21875 GiB
			shape("Qwen2.5-7B"),
			MemoryOptions{TensorParallelSize: 28, PipelineParallelSize: 2},
			15.24e9 / 56 / g, 0.21875, 2 + 0.03*15.24e9/g, (15.24e9/56/g + 0.21875 + 2 + 0.03*15.24e9/g) / 0.9, 56,
		},
		"a model by its figures": {
			ModelShape{Parameters: 1, Layers: 10, KVHeads: 2, HeadDim: 64},
			MemoryOptions{ContextLength: 1024, Quantization: "fp8"},
			1e9 / g, 5120.0 * 1024 / g, 2 + 0.03*1e9/g, (1e9/g*1.03 + 5120.0*1024/g + 2) / 0.9, 1,
		},
		"float32": {
			ModelShape{Parameters: 1, Layers: 10, KVHeads: 2, HeadDim: 64, Unquantized: 0.5},
			MemoryOptions{ContextLength: 1, Quantization: "float32"},
			4e9 / g, 5120.0 / g, 2 + 0.03*4e9/g, (4e9/g*1.03 + 5120.0/g + 2) / 0.9, 1,
		},
	} {
		need, err := Estimate(test.shape, test.options)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for what, pair := range map[string][2]float64{
			"weights": {need.WeightsGiB, test.weights}, "cache": {need.KVCacheGiB, test.cache},
			"allowance": {need.AllowanceGiB, test.allowance}, "total": {need.TotalGiB, test.total},
		} {
			if math.Abs(pair[0]-pair[1]) > 0.001 {
				t.Errorf("%s: %s = %.4f GiB, want %.4f", name, what, pair[0], pair[1])
			}
		}
		if need.GPUs != test.gpus {
			t.Errorf("%s: %d GPUs", name, need.GPUs)
		}
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	need := MemoryNeed{TotalGiB: 20.45}
	if need.Fits(20.4) || !need.Fits(20.45) || !need.Fits(24) {
		t.Error("wrong side of the border")
	}
}

func TestEstimateRefusesFigures(t *testing.T) {
	t.Parallel()
	good := ModelShape{Parameters: 7, Layers: 28, AttentionHeads: 28, KVHeads: 4, HeadDim: 128, ContextLength: 1024}
	for name, test := range map[string]struct {
		change func(*ModelShape, *MemoryOptions)
		field  string
	}{
		"no parameters":         {func(s *ModelShape, _ *MemoryOptions) { s.Parameters = 0 }, "parameters"},
		"parameters NaN":        {func(s *ModelShape, _ *MemoryOptions) { s.Parameters = math.NaN() }, "parameters"},
		"parameters infinite":   {func(s *ModelShape, _ *MemoryOptions) { s.Parameters = math.Inf(1) }, "parameters"},
		"more kept than there":  {func(s *ModelShape, _ *MemoryOptions) { s.Unquantized = 8 }, "unquantized"},
		"no layers":             {func(s *ModelShape, _ *MemoryOptions) { s.Layers = 0 }, "layers"},
		"no kv heads":           {func(s *ModelShape, _ *MemoryOptions) { s.KVHeads = 0 }, "kv_heads"},
		"no head dim":           {func(s *ModelShape, _ *MemoryOptions) { s.HeadDim = -1 }, "head_dim"},
		"latent dim":            {func(s *ModelShape, _ *MemoryOptions) { s.LatentDim = -1 }, "latent_dim"},
		"heads":                 {func(s *ModelShape, _ *MemoryOptions) { s.AttentionHeads = 1 << 40 }, "attention_heads"},
		"sliding layers":        {func(s *ModelShape, _ *MemoryOptions) { s.SlidingLayers, s.Window = 29, 1 }, "sliding_layers"},
		"no window":             {func(s *ModelShape, _ *MemoryOptions) { s.SlidingLayers = 2 }, "window"},
		"no context":            {func(s *ModelShape, _ *MemoryOptions) { s.ContextLength = 0 }, "context_length"},
		"context negative":      {func(_ *ModelShape, o *MemoryOptions) { o.ContextLength = -1 }, "context_length"},
		"sequences":             {func(_ *ModelShape, o *MemoryOptions) { o.Sequences = -1 }, "sequences"},
		"tensor parallel":       {func(_ *ModelShape, o *MemoryOptions) { o.TensorParallelSize = 3 }, "tensor_parallel_size"},
		"tensor parallel below": {func(_ *ModelShape, o *MemoryOptions) { o.TensorParallelSize = -4 }, "tensor_parallel_size"},
		"pipeline parallel":     {func(_ *ModelShape, o *MemoryOptions) { o.PipelineParallelSize = -4 }, "pipeline_parallel_size"},
		"utilization":           {func(_ *ModelShape, o *MemoryOptions) { o.GPUMemoryUtilization = 1.5 }, "gpu_memory_utilization"},
		"utilization NaN":       {func(_ *ModelShape, o *MemoryOptions) { o.GPUMemoryUtilization = math.NaN() }, "gpu_memory_utilization"},
		"quantization":          {func(_ *ModelShape, o *MemoryOptions) { o.Quantization = "tiny" }, "quantization"},
		"cache":                 {func(_ *ModelShape, o *MemoryOptions) { o.KVCacheDType = "int3" }, "kv_cache_dtype"},
	} {
		shape, options := good, MemoryOptions{}
		test.change(&shape, &options)
		_, err := Estimate(shape, options)
		if got := fieldsOf(t, err); !slices.Equal(got, []string{test.field}) {
			t.Errorf("%s: %q, want %q", name, got, test.field)
		}
		if _, err := LargestContext(shape, options, 24); err == nil {
			t.Errorf("%s: LargestContext accepts it", name)
		}
	}
	_, err := Estimate(good, MemoryOptions{TensorParallelSize: 3})
	if err == nil || !strings.Contains(err.Error(), "1, 2, 4 or 28") {
		t.Error(err)
	}
	var spec *SpecError
	if !errors.As(err, &spec) {
		t.Errorf("%#v", err)
	}
}

func TestLargestContext(t *testing.T) {
	t.Parallel()
	shape, _ := Lookup("Llama-3.1-8B")
	// (24 · 0.9 − 14.957 − 2.4487) GiB / 128 KiB
	got, err := LargestContext(shape, MemoryOptions{}, 24)
	if err != nil || got < 34350 || got > 34360 {
		t.Error(got, err)
	}
	need, err := Estimate(shape, MemoryOptions{ContextLength: got})
	if err != nil || !need.Fits(24) {
		t.Error(need, err)
	}
	if need, err = Estimate(shape, MemoryOptions{ContextLength: got + 1}); err != nil || need.Fits(24) {
		t.Error(need, err)
	}
	if got, err := LargestContext(shape, MemoryOptions{}, 80); err != nil || got != 131072 {
		t.Error(got, err)
	}
	if got, err := LargestContext(shape, MemoryOptions{}, 16); err != nil || got != 0 {
		t.Error(got, err)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]struct {
		name         string // "" = unknown
		quantization string
		context      int // 0 = the table's
	}{
		"meta-llama/Llama-3.1-8B-Instruct":              {"Llama-3.1-8B", "", 0},
		"meta-llama/Meta-Llama-3.1-8B":                  {"Llama-3.1-8B", "", 0},
		"llama-3.1-8b":                                  {"Llama-3.1-8B", "", 0},
		"meta-llama/Llama-3.1-70B-Instruct":             {"Llama-3.3-70B", "", 0},
		"meta-llama/Llama-3.1-405B-Instruct-FP8":        {"Llama-3.1-405B", "fp8", 0},
		"RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic":   {"Llama-3.3-70B", "fp8", 0},
		"RedHatAI/Llama-3.1-8B-Instruct-quantized.w8a8": {"Llama-3.1-8B", "int8", 0},
		"TinyLlama/TinyLlama-1.1B-Chat-v1.0":            {"TinyLlama-1.1B", "", 0},
		"Qwen/Qwen2.5-0.5B-Instruct":                    {"Qwen2.5-0.5B", "", 0},
		"Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8":            {"Qwen2.5-7B", "int8", 0},
		"Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4":            {"Qwen2.5-7B", "int4", 0},
		"Qwen/Qwen2.5-Coder-32B-Instruct-AWQ":           {"Qwen2.5-32B", "int4", 0},
		"Qwen/Qwen3-8B-FP8":                             {"Qwen3-8B", "fp8", 0},
		"Qwen/Qwen3-30B-A3B-Instruct-2507-FP8":          {"Qwen3-30B-A3B", "fp8", 262144},
		"Qwen/Qwen3-235B-A22B-Thinking-2507":            {"Qwen3-235B-A22B", "", 262144},
		"mistralai/Mistral-7B-Instruct-v0.3":            {"Mistral-7B-v0.3", "", 0},
		"mistralai/Mistral-Nemo-Instruct-2407":          {"Mistral-Nemo-12B", "", 0},
		"mistralai/Mistral-Small-3.2-24B-Instruct-2506": {"Mistral-Small-3.2-24B", "", 0},
		"mistralai/Mixtral-8x7B-Instruct-v0.1":          {"Mixtral-8x7B", "", 0},
		"microsoft/phi-4":                               {"Phi-4", "", 0},
		"google/gemma-3-27b-it":                         {"Gemma-3-27B", "", 0},
		"openai/gpt-oss-20b":                            {"gpt-oss-20b", "mxfp4", 0},
		"unsloth/gpt-oss-120b-BF16":                     {"gpt-oss-120b", "bf16", 0},
		"deepseek-ai/DeepSeek-V3-0324":                  {"DeepSeek-V3/R1", "fp8", 0},
		"deepseek-ai/DeepSeek-R1":                       {"DeepSeek-V3/R1", "fp8", 0},
		"DeepSeek-V3/R1":                                {"DeepSeek-V3/R1", "fp8", 0},
		"nvidia/DeepSeek-R1-NVFP4":                      {"DeepSeek-V3/R1", "nvfp4", 0},

		"":         {},
		"/":        {},
		"-":        {},
		"gpt2":     {},
		"Instruct": {},
		"deepseek-ai/DeepSeek-R1-Distill-Llama-8B": {},
		"microsoft/phi-4-mini-instruct":            {},
		"Qwen/Qwen2.5-7B-Instruct-1M":              {},
		"meta-llama/Llama-3-8B":                    {},
		"Qwen/Qwen3-8B-Base-Extra":                 {},
		"acme/My-Llama-3.1-8B":                     {},
		"mistralai/Mistral-7B-v0.1":                {},
	} {
		got, ok := Lookup(id)
		if ok != (want.name != "") || got.Name != want.name || got.Quantization != want.quantization {
			t.Errorf("%q: %q %q %v, want %q %q", id, got.Name, got.Quantization, ok, want.name, want.quantization)
		}
		if want.context != 0 && got.ContextLength != want.context {
			t.Errorf("%q: context %d", id, got.ContextLength)
		}
	}
}

func TestModelsIsACopy(t *testing.T) {
	t.Parallel()
	Models()[0].Parameters = 99
	if Models()[0].Parameters == 99 {
		t.Error("the table can be changed from outside")
	}
	for _, name := range Quantizations() {
		if _, ok := weightBytes(strings.ToUpper(name)); !ok {
			t.Errorf("%s isn't found in capitals", name)
		}
	}
}
