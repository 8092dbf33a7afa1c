package vllm

// ModelShape are the figures of a model that decide how much memory it needs, as its config.json tells them.
type ModelShape struct {
	Name           string  // the table's name
	Parameters     float64 // 10⁹
	Layers         int
	SlidingLayers  int // of Layers, those whose attention stops at Window
	Window         int // tokens
	AttentionHeads int // 0 = unknown: divisibility isn't checked
	KVHeads        int // of attention's keys and values; not used with LatentDim
	HeadDim        int
	LatentDim      int     // kv_lora_rank + qk_rope_head_dim of multi-head latent attention (MLA); 0 = none
	ContextLength  int     // the model's own limit, tokens
	Unquantized    float64 // 10⁹ parameters that stay at 2 bytes in quantised checkpoints: embeddings, head
	Quantization   string  // how the checkpoint stores its weights, as in MemoryOptions; "" = bf16
}

// MemoryOptions say how the model is to be run. Zero values have the defaults named.
type MemoryOptions struct {
	Quantization         string  // "" = as the checkpoint
	KVCacheDType         string  // "" or "auto" = 2 bytes; "fp8…" = 1
	ContextLength        int     // tokens; 0 = the model's limit
	Sequences            int     // that fit at once at full length; 0 = 1
	TensorParallelSize   int     // 0 = 1
	PipelineParallelSize int     // 0 = 1
	GPUMemoryUtilization float64 // 0 = DefaultGPUMemoryUtilization
}

// MemoryNeed is the estimate, in GiB per GPU.
type MemoryNeed struct {
	TotalGiB        float64 // memory each GPU must have
	WeightsGiB      float64
	KVCacheGiB      float64
	AllowanceGiB    float64 // activations, CUDA graphs, the runtime itself
	KVBytesPerToken float64 // per token and GPU, full-attention layers
	ContextLength   int     // tokens, defaults applied
	BytesPerWeight  float64
	GPUs            int // tensor times pipeline parallel size
}

// Estimate returns the memory that a model needs on each GPU, or a *SpecError when the figures can't be used.
func Estimate(shape ModelShape, options MemoryOptions) (MemoryNeed, error) { return MemoryNeed{}, nil }

// Lookup finds a model's shape.
func Lookup(modelID string) (ModelShape, bool) { return ModelShape{}, false }
