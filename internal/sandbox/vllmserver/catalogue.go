package vllmserver

import (
	"path"
	"regexp"
	"strconv"
	"strings"
)

// shape is what a checkpoint's config.json says of a model, as far as it decides
// whether the model starts.
type shape struct {
	prefix  string  // beginning of the repository's name, lower case
	arch    string  // the class named in config.json
	params  float64 // in 10⁹
	layers  int     // with full attention
	heads   int
	kvHeads int
	headDim int
	context int     // max_position_embeddings
	kvKiB   float64 // bytes a token and layer stack in KiB where heads do not say it (MLA)
	since   string  // first vLLM release that knows the architecture
}

// shapes come from the models' own config.json files. The longest matching
// prefix wins, so that a variant (-Instruct, -AWQ) is its base model.
var shapes = []shape{
	{"tiny", "Qwen2ForCausalLM", 0.001, 2, 4, 2, 16, 2048, 0, ""}, // the model of the recordings
	{"opt-125m", "OPTForCausalLM", 0.125, 12, 12, 12, 64, 2048, 0, ""},
	{"tinyllama-1.1b", "LlamaForCausalLM", 1.10, 22, 32, 4, 64, 2048, 0, ""},
	{"llama-3.2-1b", "LlamaForCausalLM", 1.24, 16, 32, 8, 64, 131072, 0, ""},
	{"llama-3.2-3b", "LlamaForCausalLM", 3.21, 28, 24, 8, 128, 131072, 0, ""},
	{"llama-3.1-8b", "LlamaForCausalLM", 8.03, 32, 32, 8, 128, 131072, 0, ""},
	{"meta-llama-3.1-8b", "LlamaForCausalLM", 8.03, 32, 32, 8, 128, 131072, 0, ""},
	{"llama-3.1-70b", "LlamaForCausalLM", 70.55, 80, 64, 8, 128, 131072, 0, ""},
	{"llama-3.3-70b", "LlamaForCausalLM", 70.55, 80, 64, 8, 128, 131072, 0, ""},
	{"llama-3.1-405b", "LlamaForCausalLM", 405.85, 126, 128, 8, 128, 131072, 0, ""},
	{"qwen2.5-0.5b", "Qwen2ForCausalLM", 0.49, 24, 14, 2, 64, 32768, 0, ""},
	{"qwen2.5-1.5b", "Qwen2ForCausalLM", 1.54, 28, 12, 2, 128, 32768, 0, ""},
	{"qwen2.5-3b", "Qwen2ForCausalLM", 3.09, 36, 16, 2, 128, 32768, 0, ""},
	{"qwen2.5-7b", "Qwen2ForCausalLM", 7.62, 28, 28, 4, 128, 32768, 0, ""},
	{"qwen2.5-14b", "Qwen2ForCausalLM", 14.77, 48, 40, 8, 128, 32768, 0, ""},
	{"qwen2.5-32b", "Qwen2ForCausalLM", 32.76, 64, 40, 8, 128, 32768, 0, ""},
	{"qwen2.5-72b", "Qwen2ForCausalLM", 72.71, 80, 64, 8, 128, 32768, 0, ""},
	{"qwen3-0.6b", "Qwen3ForCausalLM", 0.60, 28, 16, 8, 128, 40960, 0, "0.8.4"},
	{"qwen3-1.7b", "Qwen3ForCausalLM", 1.72, 28, 16, 8, 128, 40960, 0, "0.8.4"},
	{"qwen3-4b", "Qwen3ForCausalLM", 4.02, 36, 32, 8, 128, 40960, 0, "0.8.4"},
	{"qwen3-8b", "Qwen3ForCausalLM", 8.19, 36, 32, 8, 128, 40960, 0, "0.8.4"},
	{"qwen3-14b", "Qwen3ForCausalLM", 14.77, 40, 40, 8, 128, 40960, 0, "0.8.4"},
	{"qwen3-32b", "Qwen3ForCausalLM", 32.76, 64, 64, 8, 128, 40960, 0, "0.8.4"},
	{"qwen3-30b-a3b", "Qwen3MoeForCausalLM", 30.53, 48, 32, 4, 128, 40960, 0, "0.8.4"},
	{"qwen3-235b-a22b", "Qwen3MoeForCausalLM", 235.09, 94, 64, 4, 128, 40960, 0, "0.8.4"},
	{"mistral-7b", "MistralForCausalLM", 7.25, 32, 32, 8, 128, 32768, 0, ""},
	{"mistral-nemo", "MistralForCausalLM", 12.25, 40, 32, 8, 128, 131072, 0, ""},
	{"mistral-small-3.2-24b", "Mistral3ForConditionalGeneration", 24.0, 40, 32, 8, 128, 131072, 0, ""},
	{"mixtral-8x7b", "MixtralForCausalLM", 46.70, 32, 32, 8, 128, 32768, 0, ""},
	{"phi-4", "Phi3ForCausalLM", 14.66, 40, 40, 10, 128, 16384, 0, ""},
	{"gemma-3-1b", "Gemma3ForCausalLM", 1.0, 26, 4, 1, 256, 32768, 4, "0.8.0"},
	{"gemma-3-4b", "Gemma3ForConditionalGeneration", 4.3, 34, 8, 4, 256, 131072, 20, "0.8.0"},
	{"gemma-3-12b", "Gemma3ForConditionalGeneration", 12.2, 48, 16, 8, 256, 131072, 64, "0.8.0"},
	{"gemma-3-27b", "Gemma3ForConditionalGeneration", 27.01, 62, 32, 16, 128, 131072, 80, "0.8.0"},
	{"gpt-oss-20b", "GptOssForCausalLM", 21, 24, 64, 8, 64, 131072, 24, "0.10.1"},
	{"gpt-oss-120b", "GptOssForCausalLM", 117, 36, 64, 8, 64, 131072, 36, "0.10.1"},
	{"deepseek-v3", "DeepseekV3ForCausalLM", 671, 61, 128, 128, 192, 163840, 68.6, "0.6.6"},
	{"deepseek-r1", "DeepseekV3ForCausalLM", 671, 61, 128, 128, 192, 163840, 68.6, "0.6.6"},
	{"flan-t5", "T5ForConditionalGeneration", 0.25, 12, 12, 12, 64, 512, 0, "99"},
	{"bart-large", "BartForConditionalGeneration", 0.4, 12, 16, 16, 64, 1024, 0, "99"},
	{"chatglm3-6b", "ChatGLMModel", 6.24, 28, 32, 2, 128, 8192, 0, ""},
	{"kimi-k2", "DeepseekV3ForCausalLM", 1026, 61, 64, 64, 192, 131072, 68.6, "0.9.2"},
	{"phi-3-small", "Phi3SmallForCausalLM", 7.39, 32, 32, 8, 128, 131072, 0, ""},
}

// remoteCode are the models whose repositories bring code of their own.
var remoteCode = []string{"chatglm3-6b", "kimi-k2", "phi-3-small"}

// shapeOf returns the shape of a model; one that is not listed gets a shape after
// the size in its name.
func shapeOf(id string) shape {
	name := strings.ToLower(path.Base(id))
	var best shape
	for _, s := range shapes {
		if strings.HasPrefix(name, s.prefix) && len(s.prefix) > len(best.prefix) {
			best = s
		}
	}
	if best.prefix != "" {
		return best
	}
	guess := shape{prefix: name, arch: "LlamaForCausalLM", params: 1, layers: 32, heads: 32, kvHeads: 8, headDim: 64, context: 32768}
	if m := sizeInName.FindStringSubmatch(name); m != nil {
		if size, err := strconv.ParseFloat(m[1], 64); err == nil && size > 0 {
			guess.params = size
		}
	}
	return guess
}

var sizeInName = regexp.MustCompile(`(?:^|[-_])(\d{1,4}(?:\.\d{1,3})?)b(?:$|[-_.])`)

// needsRemoteCode says whether the model wants --trust-remote-code.
func needsRemoteCode(id string) bool {
	name := strings.ToLower(path.Base(id))
	for _, prefix := range remoteCode {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// isGated says whether the model's terms have to be accepted on the hub.
func isGated(id string) bool {
	lower := strings.ToLower(id)
	return strings.HasPrefix(lower, "meta-llama/") || strings.HasPrefix(lower, "google/gemma-")
}

// repoID is huggingface_hub's own rule (utils/_validators.py).
var repoID = regexp.MustCompile(`^(\b[\w\-.]+\b/)?\b[\w\-.]{1,96}\b$`)

// exists says whether the hub has the model: everything well-formed is there,
// except what is named as missing.
func exists(id string) bool {
	if !repoID.MatchString(id) || strings.Contains(id, "--") || strings.Contains(id, "..") || strings.HasSuffix(id, ".git") {
		return false
	}
	return !strings.Contains(strings.ToLower(id), "nosuch")
}

// quantMethod is what the checkpoint's config.json gives as quant_method, "" for
// weights in bf16.
func quantMethod(id string) string {
	name := strings.ToLower(path.Base(id))
	switch {
	case strings.HasPrefix(name, "gpt-oss"):
		return "mxfp4"
	case strings.Contains(name, "awq"):
		return "awq"
	case strings.Contains(name, "gptq"):
		return "gptq"
	case strings.Contains(name, "nvfp4"):
		return "modelopt_fp4"
	case strings.Contains(name, "quantized"), strings.Contains(name, "w4a16"), strings.Contains(name, "w8a8"), strings.Contains(name, "fp8-dynamic"):
		return "compressed-tensors"
	case strings.Contains(name, "fp8"), strings.HasPrefix(name, "deepseek-v3"), strings.HasPrefix(name, "deepseek-r1"), strings.HasPrefix(name, "kimi-k2"):
		return "fp8"
	case strings.Contains(name, "bnb"):
		return "bitsandbytes"
	}
	return ""
}

// quantisation is what vLLM knows of a method: bytes a parameter and the lowest
// compute capability that it runs on, times ten.
type quantisation struct {
	bytes      float64
	capability int
}

var quantisations = map[string]quantisation{
	"awq": {0.56, 75}, "awq_marlin": {0.56, 80}, "gptq": {0.56, 60}, "gptq_marlin": {0.56, 80},
	"fp8": {1.03, 75}, "ptpc_fp8": {1.03, 89}, "fbgemm_fp8": {1.03, 80}, "compressed-tensors": {0.8, 70},
	"modelopt": {1.03, 89}, "modelopt_fp4": {0.5625, 100}, "mxfp4": {0.55, 80}, "bitsandbytes": {0.56, 70},
	"gguf": {0.56, 60}, "moe_wna16": {0.56, 70}, "experts_int8": {1.03, 80}, "quark": {1.03, 70},
	"torchao": {1.03, 75}, "auto-round": {0.56, 60}, "inc": {1.03, 75}, "tpu_int8": {1.03, 75},
}
