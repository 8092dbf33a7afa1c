// Package estimatevram is the function estimate_vram: how much GPU memory a model needs.
package estimatevram

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Function is estimate_vram.
type Function struct{}

var _ function.Function = (*Function)(nil)

// New returns the function.
func New() function.Function { return &Function{} }

// Metadata names the function.
func (f *Function) Metadata(_ context.Context, _ function.MetadataRequest, resp *function.MetadataResponse) {
	resp.Name = "estimate_vram"
}

var resultTypes = map[string]attr.Type{
	"per_gpu_gib": types.Float64Type, "min_vram_gb": types.Int64Type, "weights_gib": types.Float64Type, "kv_cache_gib": types.Float64Type,
	"overhead_gib": types.Float64Type, "gpus": types.Int64Type, "context_length": types.Int64Type, "fits": types.BoolType,
	"largest_context": types.Int64Type,
}

// Definition describes the function.
func (f *Function) Definition(_ context.Context, _ function.DefinitionRequest, resp *function.DefinitionResponse) {
	resp.Definition = function.Definition{
		Summary: "GPU memory that a model needs",
		MarkdownDescription: "Estimates the memory that a model needs on each GPU: weights, key-value cache for one sequence (or more)" +
			" of full length, and an allowance. Well-known models are identified by their Hugging Face ID; describe any other in the" +
			" options. vLLM measures the memory itself when it starts, so leave some room.\n\nThe result is an object, in GiB for" +
			" each GPU: `per_gpu_gib`, the memory that a GPU must have, and the same rounded up as `min_vram_gb`; its parts" +
			" `weights_gib`, `kv_cache_gib` and `overhead_gib`; `gpus`, the number of GPUs; `context_length`, in tokens." +
			" With `gpu_vram_gib` also `fits`, and `largest_context`, the longest context that fits; without it both" +
			" are null.\n\nWell-known, under any organization and with the usual suffixes for instruction tuning" +
			" and quantization, are " + known() + ".\n\nGPUs and drivers that vLLM's releases support:\n\n" +
			vllm.ReleaseTable() + "\nThe driver is the oldest branch with full support. Slightly older ones run CUDA 12 with limits," +
			" but not in a container on a GeForce.",
		Parameters: []function.Parameter{
			function.StringParameter{
				Name: "model",
				MarkdownDescription: "The model's Hugging Face ID, such as `Qwen/Qwen2.5-7B-Instruct`; `\"\"` for a model that the" +
					" options describe.",
			},
			function.DynamicParameter{
				Name: "options", AllowNullValue: true,
				MarkdownDescription: "Object with any of: `quantization`, `kv_cache_dtype`, `context_length` (default: the model's" +
					" limit), `sequences` (default 1), `tensor_parallel_size`, `pipeline_parallel_size`, `gpu_memory_utilization`;" +
					" `gpu_vram_gib`, the memory of the GPUs to check; and for a model that is not well-known `parameters` (in" +
					" billions), `layers`, `kv_heads`, `head_dim`, `attention_heads`, `sliding_layers`, `window`, `latent_dim`." +
					" Pass `{}` for none; in OpenTofu, null returns null.",
			},
		},
		Return: function.ObjectReturn{AttributeTypes: resultTypes},
	}
}

// known lists the well-known models.
func known() string {
	var names []string
	for _, shape := range vllm.Models() {
		names = append(names, shape.Name)
	}
	return strings.Join(names, ", ")
}

type result struct {
	PerGPUGiB      float64 `tfsdk:"per_gpu_gib"`
	MinVRAMGB      int64   `tfsdk:"min_vram_gb"`
	WeightsGiB     float64 `tfsdk:"weights_gib"`
	KVCacheGiB     float64 `tfsdk:"kv_cache_gib"`
	OverheadGiB    float64 `tfsdk:"overhead_gib"`
	GPUs           int64   `tfsdk:"gpus"`
	ContextLength  int64   `tfsdk:"context_length"`
	Fits           *bool   `tfsdk:"fits"`
	LargestContext *int64  `tfsdk:"largest_context"`
}

// Run estimates the memory.
func (f *Function) Run(ctx context.Context, req function.RunRequest, resp *function.RunResponse) {
	var model string
	var given types.Dynamic
	resp.Error = req.Arguments.Get(ctx, &model, &given)
	if resp.Error != nil {
		return
	}
	o, err := readOptions(given)
	if err != nil {
		resp.Error = function.NewArgumentFuncError(1, err.Error())
		return
	}
	shape, found := vllm.Lookup(model)
	if !found && o.shape.Parameters == 0 {
		resp.Error = function.NewArgumentFuncError(0, fmt.Sprintf("%q is not a well-known model: set parameters, layers, kv_heads and"+
			" head_dim in the options, from the model's config.json. Well-known, also with the usual suffixes, are %s", model,
			known()))
		return
	}
	if o.shape.Parameters == 0 && o.shape != (vllm.ModelShape{}) {
		resp.Error = function.NewArgumentFuncError(1, fmt.Sprintf("set parameters, layers, kv_heads and head_dim together, or none of"+
			" them for the well-known model %q", model))
		return
	}
	if o.shape.Parameters > 0 { // the options describe the model
		shape = o.shape
		shape.ContextLength = o.memory.ContextLength
	}
	need, err := vllm.Estimate(shape, o.memory)
	if err != nil {
		resp.Error = function.NewFuncError(err.Error())
		return
	}
	r := result{
		PerGPUGiB: round(need.TotalGiB), MinVRAMGB: int64(math.Ceil(need.TotalGiB)), WeightsGiB: round(need.WeightsGiB),
		KVCacheGiB: round(need.KVCacheGiB), OverheadGiB: round(need.AllowanceGiB), GPUs: int64(need.GPUs),
		ContextLength: int64(need.ContextLength),
	}
	if o.gpuGiB > 0 {
		fits := need.Fits(o.gpuGiB)
		r.Fits = &fits
		if longest, err := vllm.LargestContext(shape, o.memory, o.gpuGiB); err == nil {
			n := int64(longest)
			r.LargestContext = &n
		}
	}
	resp.Error = resp.Result.Set(ctx, r)
}

func round(gib float64) float64 { return math.Round(gib*100) / 100 }

// options are the options of a call.
type options struct {
	memory vllm.MemoryOptions
	shape  vllm.ModelShape
	gpuGiB float64
}

func readOptions(given types.Dynamic) (options, error) {
	var o options
	if given.IsNull() || given.IsUnderlyingValueNull() {
		return o, nil
	}
	object, ok := given.UnderlyingValue().(basetypes.ObjectValue)
	if !ok {
		return o, errors.New("options must be an object, or null")
	}
	targets := map[string]any{
		"quantization": &o.memory.Quantization, "kv_cache_dtype": &o.memory.KVCacheDType,
		"context_length": &o.memory.ContextLength, "sequences": &o.memory.Sequences, "tensor_parallel_size": &o.memory.TensorParallelSize,
		"pipeline_parallel_size": &o.memory.PipelineParallelSize, "layers": &o.shape.Layers, "kv_heads": &o.shape.KVHeads,
		"head_dim": &o.shape.HeadDim, "attention_heads": &o.shape.AttentionHeads, "sliding_layers": &o.shape.SlidingLayers,
		"window": &o.shape.Window, "latent_dim": &o.shape.LatentDim, "parameters": &o.shape.Parameters,
		"gpu_memory_utilization": &o.memory.GPUMemoryUtilization, "gpu_vram_gib": &o.gpuGiB,
	}
	attributes := object.Attributes()
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		if attributes[name].IsNull() {
			continue
		}
		err := fmt.Errorf("unknown option; the options are %s", strings.Join(slices.Sorted(maps.Keys(targets)), ", "))
		if target, ok := targets[name]; ok {
			err = set(target, attributes[name])
		}
		if err != nil {
			return o, fmt.Errorf("options.%s: %w", name, err)
		}
	}
	return o, nil
}

// set stores an option in a *string, a *float64 or an *int.
func set(target any, value attr.Value) error {
	if text, ok := target.(*string); ok {
		s, ok := value.(basetypes.StringValue)
		if !ok {
			return errors.New("it must be a string")
		}
		*text = s.ValueString()
		return nil
	}
	n, ok := value.(basetypes.NumberValue)
	if !ok {
		return errors.New("it must be a number")
	}
	f, _ := n.ValueBigFloat().Float64()
	if f <= 0 || math.IsInf(f, 0) {
		return errors.New("it must be greater than zero")
	}
	switch target := target.(type) {
	case *float64:
		*target = f
	case *int:
		if f != math.Trunc(f) || f > math.MaxInt32 {
			return errors.New("it must be a whole number")
		}
		*target = int(f)
	}
	return nil
}
