package vllm

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
)

// ModelShape holds the figures of a model that decide how much memory it needs, from its config.json.
type ModelShape struct {
	Name           string  // in the table; "" for a model that is only described by its figures
	Parameters     float64 // 10⁹
	Layers         int
	SlidingLayers  int // those of Layers whose attention is limited to Window
	Window         int // tokens
	AttentionHeads int // 0 = unknown: tensor_parallel_size isn't checked
	KVHeads        int // heads of keys and values; not used with LatentDim
	HeadDim        int // not used with LatentDim
	// LatentDim is kv_lora_rank + qk_rope_head_dim of multi-head latent attention (MLA); 0 = none.
	LatentDim     int
	ContextLength int // the model's own limit, tokens
	// Unquantized are those of Parameters that keep 2 bytes in quantized checkpoints: embeddings and output head. 10⁹.
	Unquantized  float64
	Quantization string // how the checkpoint stores its weights, one of Quantizations; "" = 2 bytes
}

// MemoryOptions are the settings of the server. Zero values mean the defaults named.
type MemoryOptions struct {
	Quantization         string  // one of Quantizations; "" = as the checkpoint
	KVCacheDType         string  // "" or "auto" = 2 bytes; "fp8", "fp8_e4m3", "fp8_e5m2" = 1
	ContextLength        int     // tokens; 0 = the model's limit
	Sequences            int     // that fit at once at full length; 0 = 1
	TensorParallelSize   int     // 0 = 1
	PipelineParallelSize int     // 0 = 1
	GPUMemoryUtilization float64 // (0,1]; 0 = DefaultGPUMemoryUtilization
	BatchedTokens        int     // --max-num-batched-tokens; 0 = DefaultBatchedTokens(0)
	NoGraphs             bool    // leaves CUDA graphs out: with --enforce-eager, and where CountsGraphs is false
}

// MemoryNeed is the estimate. Memory is in GiB per GPU.
type MemoryNeed struct {
	TotalGiB        float64 // memory that the GPU must have: the sum of the parts below over the utilization
	WeightsGiB      float64
	KVCacheGiB      float64
	AllowanceGiB    float64 // activations, CUDA graphs (0.5 GiB), the runtime itself: 2 GiB + 3 % of all weights
	KVBytesPerToken float64 // per token, of layers with full attention
	ContextLength   int     // tokens, defaults applied
	GPUs            int     // tensor times pipeline parallel size
}

// Fits reports whether a GPU with that much memory, in GiB, is large enough.
func (n MemoryNeed) Fits(gpuGiB float64) bool { return n.TotalGiB <= gpuGiB }

const gib = 1 << 30

// graphsGiB is the allowance for CUDA graphs. A typical line of a log is "Estimated CUDA graph memory: 0.44 GiB total".
const graphsGiB = 0.5

// CountsGraphs reports whether a release, "" for a new one, counts the memory of CUDA graphs within gpu_memory_utilization ("default
// since v0.21.0": vllm/v1/worker/gpu_worker.py of 0.32.0). In earlier ones they need memory beyond it.
func CountsGraphs(release string) bool {
	return release == "" || compareReleases(release, "0.21.0") >= 0
}

// blockTokens is the default size of a block of vLLM's KV cache, in tokens.
const blockTokens = 16

// DefaultBatchedTokens is the default of --max-num-batched-tokens on a GPU with that much memory in GiB, 0 if that isn't known
// (get_batch_defaults in vllm/engine/arg_utils.py of 0.32.0, which gives an A100 the lowest).
func DefaultBatchedTokens(gpuGiB float64) int {
	switch {
	case gpuGiB >= 160:
		return 16384
	case gpuGiB >= 70:
		return 8192
	}
	return 2048
}

// bytesPerWeight is the size of one weight by quantization, scales included: int4 has one scale per 128 weights, mxfp4 per
// 32, nvfp4 per 16.
var bytesPerWeight = map[string]float64{
	"": 2, "auto": 2, "none": 2, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2, "half": 2,
	"fp32": 4, "float32": 4, "float": 4,
	"fp8": 1, "int8": 1, "w8a8": 1, "w8a16": 1, "modelopt": 1,
	"int4": 0.52, "w4a16": 0.52, "awq": 0.52, "gptq": 0.52, "awq_marlin": 0.52, "gptq_marlin": 0.52, "bitsandbytes": 0.52,
	"mxfp4": 0.531, "nvfp4": 0.5625, "modelopt_fp4": 0.5625,
}

// Quantizations lists the names that Estimate knows, sorted.
func Quantizations() []string {
	return slices.Sorted(maps.Keys(bytesPerWeight))[1:] // without ""
}

func weightBytes(quantization string) (float64, bool) {
	size, ok := bytesPerWeight[strings.ReplaceAll(strings.ToLower(quantization), "-", "_")]
	return size, ok
}

func kvBytes(dtype string) (float64, bool) {
	switch name := strings.ToLower(dtype); {
	case name == "" || name == "auto" || name == "bfloat16" || name == "float16":
		return 2, true
	case strings.HasPrefix(name, "fp8") || name == "int8":
		return 1, true
	}
	return 0, false
}

// Estimate returns the memory that a model needs on each GPU,
//
//	(W/(TP·PP) + KV·context·sequences + A) / utilization
//
// where the context of a layer with a window is what vLLM reserves: the window, and the tokens of all batches in flight.
// Its error is a *SpecError that lists what is wrong with the figures. The estimate is for planning: vLLM itself measures, and
// refuses to start unless one sequence of full length fits.
func Estimate(shape ModelShape, options MemoryOptions) (MemoryNeed, error) {
	options = options.withDefaults(shape)
	if err := checkFigures(shape, options); err != nil {
		return MemoryNeed{}, err
	}
	perWeight, _ := weightBytes(options.Quantization)
	weights := shape.Parameters * 1e9 * perWeight
	if perWeight < 2 {
		weights = ((shape.Parameters-shape.Unquantized)*perWeight + shape.Unquantized*2) * 1e9
	}
	gpus := options.TensorParallelSize * options.PipelineParallelSize
	perToken, perSlidingToken := kvPerToken(shape, options)
	cache := perToken*float64(options.ContextLength) + perSlidingToken*slidingTokens(shape, options)
	allowance := 2 + 0.03*weights/gib
	if options.NoGraphs {
		allowance -= graphsGiB
	}
	need := MemoryNeed{
		WeightsGiB:      weights / float64(gpus) / gib,
		KVCacheGiB:      cache * float64(options.Sequences) / gib,
		AllowanceGiB:    allowance,
		KVBytesPerToken: perToken,
		ContextLength:   options.ContextLength,
		GPUs:            gpus,
	}
	need.TotalGiB = (need.WeightsGiB + need.KVCacheGiB + need.AllowanceGiB) / options.GPUMemoryUtilization
	return need, nil
}

// kvPerToken returns the size of one token in a GPU's KV cache, in bytes: in layers with full attention (or MLA), and in
// layers with a window.
func kvPerToken(shape ModelShape, options MemoryOptions) (full, sliding float64) {
	size, _ := kvBytes(options.KVCacheDType)
	size /= float64(options.PipelineParallelSize)
	if shape.LatentDim > 0 {
		return float64(shape.Layers*shape.LatentDim) * size, 0
	}
	heads := math.Max(1, float64(shape.KVHeads)/float64(options.TensorParallelSize))
	perLayer := 2 * heads * float64(shape.HeadDim) * size
	fullLayers, slidingLayers := paddedLayers(shape)
	return float64(fullLayers) * perLayer, float64(slidingLayers) * perLayer
}

// paddedLayers returns how many layers of each kind the cache has room for: vLLM divides them into groups of one size, mostly the
// number of the rarer kind (_get_kv_cache_groups_uniform_page_size in vllm/v1/core/kv_cache_utils.py of 0.32.0).
func paddedLayers(shape ModelShape) (full, sliding int) {
	full, sliding = shape.Layers-shape.SlidingLayers, shape.SlidingLayers
	if full == 0 || sliding == 0 {
		return full, sliding
	}
	group := min(full, sliding)
	if most := max(full, sliding); 2*most < 3*group {
		group = most
	}
	pad := func(layers int) int { return (layers + group - 1) / group * group }
	return pad(full), pad(sliding)
}

// slidingTokens returns how many tokens vLLM reserves per sequence in a layer with a window (SlidingWindowSpec in
// vllm/v1/kv_cache_interface.py, max_in_flight_tokens in vllm/config/vllm.py, both of 0.32.0).
func slidingTokens(shape ModelShape, options MemoryOptions) float64 {
	inFlight := options.BatchedTokens * (options.PipelineParallelSize + 1)
	return float64(min(shape.Window-1+inFlight, options.ContextLength) + blockTokens)
}

func (o MemoryOptions) withDefaults(shape ModelShape) MemoryOptions {
	o.Quantization = cmp.Or(o.Quantization, shape.Quantization)
	o.ContextLength = cmp.Or(o.ContextLength, shape.ContextLength)
	o.Sequences = cmp.Or(o.Sequences, 1)
	o.TensorParallelSize = cmp.Or(o.TensorParallelSize, 1)
	o.PipelineParallelSize = cmp.Or(o.PipelineParallelSize, 1)
	o.BatchedTokens = cmp.Or(o.BatchedTokens, DefaultBatchedTokens(0))
	o.GPUMemoryUtilization = cmp.Or(o.GPUMemoryUtilization, DefaultGPUMemoryUtilization)
	return o
}

// checkFigures lists what is wrong with the figures, defaults applied.
func checkFigures(shape ModelShape, options MemoryOptions) error {
	var found problems
	found.shape(shape)
	found.positive("context_length", options.ContextLength)
	found.positive("sequences", options.Sequences)
	found.positive("max_num_batched_tokens", options.BatchedTokens)
	found.positive("tensor_parallel_size", options.TensorParallelSize)
	found.positive("pipeline_parallel_size", options.PipelineParallelSize)
	found.checkTensorParallel(shape, options.TensorParallelSize)
	if u := options.GPUMemoryUtilization; !(u > 0 && u <= 1) {
		found.addf("gpu_memory_utilization", "must be above 0 and at most 1, such as 0.9; got %v", u)
	}
	if _, ok := weightBytes(options.Quantization); !ok {
		found.addf("quantization", "is not one of the known methods: %s", strings.Join(Quantizations(), ", "))
	}
	if _, ok := kvBytes(options.KVCacheDType); !ok {
		found.addf("kv_cache_dtype", "must be auto, fp8, fp8_e4m3 or fp8_e5m2")
	}
	return found.err()
}

func (p *problems) shape(shape ModelShape) {
	if !(shape.Parameters > 0 && shape.Parameters < 1e6) {
		p.addf("parameters", "must be above 0, in billions; got %v", shape.Parameters)
	}
	if u := shape.Unquantized; math.IsNaN(u) || u < 0 || u > math.Max(shape.Parameters, 0) {
		p.addf("unquantized", "must be between 0 and the parameters, in billions; got %v", shape.Unquantized)
	}
	p.positive("layers", shape.Layers)
	if shape.AttentionHeads < 0 || shape.AttentionHeads > mostHeads {
		p.addf("attention_heads", "must be between 1 and %d, or omitted; got %d", mostHeads, shape.AttentionHeads)
	}
	if shape.LatentDim == 0 {
		p.positive("kv_heads", shape.KVHeads)
		p.positive("head_dim", shape.HeadDim)
	} else if shape.LatentDim < 0 {
		p.addf("latent_dim", "must be at least 1; got %d", shape.LatentDim)
	}
	if shape.SlidingLayers < 0 || shape.SlidingLayers > max(shape.Layers, 0) {
		p.addf("sliding_layers", "must be between 0 and the number of layers; got %d", shape.SlidingLayers)
	}
	if shape.SlidingLayers > 0 {
		p.positive("window", shape.Window)
	}
}

// positive checks a count. Its upper bound, far above that of any model, keeps sums finite.
func (p *problems) positive(field string, value int) {
	const most = 1 << 30
	if value < 1 || value > most {
		p.addf(field, "must be between 1 and %d; got %d", most, value)
	}
}

// LargestContext returns the longest context, in tokens, up to that of the options or the model, with which the
// model fits GPUs with that much memory, in GiB; 0 when no context does. The error is Estimate's.
func LargestContext(shape ModelShape, options MemoryOptions, gpuGiB float64) (int, error) {
	need, err := Estimate(shape, options)
	if err != nil {
		return 0, err
	}
	low, high := 0, need.ContextLength
	for low < high {
		options.ContextLength = low + (high-low+1)/2
		if need, err = Estimate(shape, options); err != nil {
			return 0, err
		}
		if need.Fits(gpuGiB) {
			low = options.ContextLength
		} else {
			high = options.ContextLength - 1
		}
	}
	return low, nil
}
