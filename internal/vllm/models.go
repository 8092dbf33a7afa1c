package vllm

import (
	"regexp"
	"slices"
	"strings"
)

// dense returns the shape of a model whose layers all have full attention.
func dense(name string, parameters float64, layers, heads, kvHeads, headDim, context int, unquantized float64) ModelShape {
	return ModelShape{
		Name: name, Parameters: parameters, Layers: layers, AttentionHeads: heads, KVHeads: kvHeads, HeadDim: headDim,
		ContextLength: context, Unquantized: unquantized,
	}
}

// sliding sets how many layers have attention that is limited to a window, in tokens.
func (s ModelShape) sliding(layers, window int) ModelShape {
	s.SlidingLayers, s.Window = layers, window
	return s
}

// stored sets how the published checkpoint stores its weights.
func (s ModelShape) stored(quantization string) ModelShape {
	s.Quantization = quantization
	return s
}

// models are well-known models, from their config.json. The last figure of a row is vocabulary size times
// hidden size, in 10⁹, doubled where embedding and output head are two matrices.
var models = []ModelShape{
	dense("TinyLlama-1.1B", 1.10, 22, 32, 4, 64, 2048, 0.131),
	dense("Llama-3.2-3B", 3.21, 28, 24, 8, 128, 131072, 0.394),
	dense("Llama-3.1-8B", 8.03, 32, 32, 8, 128, 131072, 1.051),
	dense("Llama-3.3-70B", 70.55, 80, 64, 8, 128, 131072, 2.101),
	dense("Llama-3.1-405B", 405.85, 126, 128, 8, 128, 131072, 4.203),
	dense("Qwen2.5-0.5B", 0.49, 24, 14, 2, 64, 32768, 0.136),
	dense("Qwen2.5-7B", 7.62, 28, 28, 4, 128, 32768, 1.090),
	dense("Qwen2.5-14B", 14.77, 48, 40, 8, 128, 32768, 1.557),
	dense("Qwen2.5-32B", 32.76, 64, 40, 8, 128, 32768, 1.557),
	dense("Qwen2.5-72B", 72.71, 80, 64, 8, 128, 32768, 2.491),
	dense("Qwen3-0.6B", 0.60, 28, 16, 8, 128, 40960, 0.156),
	dense("Qwen3-4B", 4.02, 36, 32, 8, 128, 40960, 0.389),
	dense("Qwen3-8B", 8.19, 36, 32, 8, 128, 40960, 1.245),
	dense("Qwen3-14B", 14.77, 40, 40, 8, 128, 40960, 1.556),
	dense("Qwen3-32B", 32.76, 64, 64, 8, 128, 40960, 1.556),
	dense("Qwen3-30B-A3B", 30.53, 48, 32, 4, 128, 40960, 0.622),
	dense("Qwen3-235B-A22B", 235.09, 94, 64, 4, 128, 40960, 1.245),
	dense("Mistral-7B-v0.3", 7.25, 32, 32, 8, 128, 32768, 0.268),
	dense("Mistral-Nemo-12B", 12.25, 40, 32, 8, 128, 131072, 1.342),
	dense("Mistral-Small-3.2-24B", 24.0, 40, 32, 8, 128, 131072, 1.342),
	dense("Mixtral-8x7B", 46.70, 32, 32, 8, 128, 32768, 0.262),
	dense("Phi-4", 14.66, 40, 40, 10, 128, 16384, 1.028),
	dense("Gemma-3-27B", 27.01, 62, 32, 16, 128, 131072, 1.410).sliding(52, 1024),
	dense("gpt-oss-20b", 21, 24, 64, 8, 64, 131072, 1.158).sliding(12, 128).stored("mxfp4"),
	dense("gpt-oss-120b", 117, 36, 64, 8, 64, 131072, 1.158).sliding(18, 128).stored("mxfp4"),
	{
		Name: "DeepSeek-V3/R1", Parameters: 671, Layers: 61, AttentionHeads: 128, LatentDim: 576, ContextLength: 163840,
		Unquantized: 1.853, Quantization: "fp8",
	},
}

// Models lists the models whose shape is known, in the table's order. The slice is the caller's.
func Models() []ModelShape { return slices.Clone(models) }

// variant is a model of the table that is published under another name too, with what differs.
type variant struct {
	name    string
	context int // tokens; 0 = as the model
}

// variants are keyed by the other name, in lower case and without organization.
var variants = map[string]variant{
	"llama-3.1-70b":                 {name: "Llama-3.3-70B"},
	"mistral-7b-instruct-v0.3":      {name: "Mistral-7B-v0.3"},
	"mistral-nemo":                  {name: "Mistral-Nemo-12B"},
	"deepseek-v3":                   {name: "DeepSeek-V3/R1"},
	"deepseek-v3.1":                 {name: "DeepSeek-V3/R1"},
	"deepseek-r1":                   {name: "DeepSeek-V3/R1"},
	"qwen2.5-coder-0.5b":            {name: "Qwen2.5-0.5B"},
	"qwen2.5-coder-7b":              {name: "Qwen2.5-7B"},
	"qwen2.5-coder-14b":             {name: "Qwen2.5-14B"},
	"qwen2.5-coder-32b":             {name: "Qwen2.5-32B"},
	"qwen3-coder-30b-a3b":           {name: "Qwen3-30B-A3B", context: 262144},
	"qwen3-4b-instruct-2507":        {name: "Qwen3-4B", context: 262144},
	"qwen3-4b-thinking-2507":        {name: "Qwen3-4B", context: 262144},
	"qwen3-30b-a3b-instruct-2507":   {name: "Qwen3-30B-A3B", context: 262144},
	"qwen3-30b-a3b-thinking-2507":   {name: "Qwen3-30B-A3B", context: 262144},
	"qwen3-235b-a22b-instruct-2507": {name: "Qwen3-235B-A22B", context: 262144},
	"qwen3-235b-a22b-thinking-2507": {name: "Qwen3-235B-A22B", context: 262144},
}

// plainSuffixes match parts of a published name that change nothing about the shape. With a part that is neither here nor a
// quantization it is another model: "-distill-llama-8b", "-1m", "-mini".
var plainSuffixes = regexp.MustCompile(`^(?:instruct|chat|it|pt|base|hf|zero|dynamic|v\d+\.\d+|0324|0528|2407|2506|g128|128g)$`)

// quantizedSuffixes are parts of a published name that say how its weights are stored.
var quantizedSuffixes = map[string]string{
	"awq": "int4", "gptq": "int4", "int4": "int4", "4bit": "int4", "bnb": "int4", "w4a16": "int4", "quantized.w4a16": "int4",
	"bf16": "bf16", "fp8": "fp8", "int8": "int8", "w8a8": "int8", "w8a16": "int8", "quantized.w8a8": "int8", "quantized.w8a16": "int8",
	"fp4": "nvfp4", "nvfp4": "nvfp4", "mxfp4": "mxfp4",
}

// Lookup finds a model's shape by its Hugging Face ID (of any organization, with the usual endings for instruction
// tuning and quantization) or by its name in the table. The shape has the quantization that the name says. It returns false
// for a name that isn't surely one of these models.
func Lookup(modelID string) (ModelShape, bool) {
	id := strings.ToLower(strings.TrimSpace(modelID))
	if shape, ok := tableModel(id); ok {
		return shape, true
	}
	id = id[strings.LastIndexByte(id, '/')+1:]
	id = strings.TrimPrefix(id, "meta-")
	parts := strings.Split(id, "-")
	quantization := ""
	for end := len(parts); end > 0; end-- {
		if shape, ok := named(strings.Join(parts[:end], "-")); ok {
			if quantization != "" {
				shape.Quantization = quantization
			}
			return shape, true
		}
		part := parts[end-1]
		if stored, ok := quantizedSuffixes[part]; ok {
			if quantization == "" || part == "int8" {
				quantization = stored // "GPTQ-Int8" is int8; "AWQ-INT4" and "bnb-4bit" say the same twice
			}
		} else if !plainSuffixes.MatchString(part) {
			return ModelShape{}, false
		}
	}
	return ModelShape{}, false
}

// named finds a model by a name without organization and endings, in lower case.
func named(name string) (ModelShape, bool) {
	if other, ok := variants[name]; ok {
		shape, found := tableModel(other.name)
		if other.context > 0 {
			shape.ContextLength = other.context
		}
		return shape, found
	}
	return tableModel(name)
}

func tableModel(name string) (ModelShape, bool) {
	for _, shape := range models {
		if strings.EqualFold(shape.Name, name) {
			return shape, true
		}
	}
	return ModelShape{}, false
}
