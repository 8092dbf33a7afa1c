package estimatevram

import (
	"math/big"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/function"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
)

// call runs the function with the options, nil for null.
func call(t *testing.T, model string, options map[string]any) (map[string]attr.Value, *function.FuncError) {
	t.Helper()
	dynamic := types.DynamicNull()
	if options != nil {
		names, values := map[string]attr.Type{}, map[string]attr.Value{}
		for name, value := range options {
			switch value := value.(type) {
			case string:
				names[name], values[name] = types.StringType, types.StringValue(value)
			case float64:
				names[name], values[name] = types.NumberType, types.NumberValue(big.NewFloat(value))
			case bool:
				names[name], values[name] = types.BoolType, types.BoolValue(value)
			case nil:
				names[name], values[name] = types.StringType, types.StringNull()
			default:
				t.Fatalf("%s is a %T", name, value)
			}
		}
		dynamic = types.DynamicValue(types.ObjectValueMust(names, values))
	}
	resp := function.RunResponse{Result: function.NewResultData(types.ObjectUnknown(resultTypes))}
	New().Run(t.Context(), function.RunRequest{
		Arguments: function.NewArgumentsData([]attr.Value{types.StringValue(model), dynamic}),
	}, &resp)
	if resp.Error != nil {
		return nil, resp.Error
	}
	return resp.Result.Value().(basetypes.ObjectValue).Attributes(), nil //nolint:forcetypeassert // by the definition
}

// The wanted values are computed by hand, beside each case. GiB are 2^30 bytes.
func TestRun(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		model   string
		options map[string]any
		want    map[string]attr.Value
	}{
		{
			// Weights 8.03e9 · 2 = 16.06e9 bytes = 14.957 GiB; cache 131072 tokens · 128 KiB = 16 GiB; allowance
			// 2 + 3 % of 14.957 = 2.449; (14.957 + 16 + 2.449) / 0.9 = 37.118.
			"a known model, to its limit", "meta-llama/Llama-3.1-8B-Instruct", nil,
			map[string]attr.Value{
				"per_gpu_gib": types.Float64Value(37.12), "min_vram_gb": types.Int64Value(38), "weights_gib": types.Float64Value(14.96),
				"kv_cache_gib": types.Float64Value(16), "overhead_gib": types.Float64Value(2.45), "gpus": types.Int64Value(1),
				"context_length": types.Int64Value(131072), "fits": types.BoolNull(), "largest_context": types.Int64Null(),
			},
		},
		{
			// Weights 7.62e9 · 2 = 14.193 GiB; cache 8192 · 56 KiB = 0.4375 GiB; allowance 2.426; sum 17.057 / 0.9 = 18.952.
			"with a context that is given, on a GPU that fits", "Qwen/Qwen2.5-7B-Instruct",
			map[string]any{"context_length": 8192.0, "gpu_vram_gib": 24.0, "quantization": nil},
			map[string]attr.Value{
				"per_gpu_gib": types.Float64Value(18.95), "min_vram_gb": types.Int64Value(19), "fits": types.BoolValue(true),
				"largest_context": types.Int64Value(8192),
			},
		},
		{
			// 24 · 0.9 = 21.6 GiB less 14.957 and 2.449 leave 4.19425 GiB: 34359 tokens of 128 KiB.
			"on a GPU that doesn't fit", "meta-llama/Llama-3.1-8B-Instruct",
			map[string]any{"gpu_vram_gib": 24.0},
			map[string]attr.Value{"fits": types.BoolValue(false), "largest_context": types.Int64Value(34359)},
		},
		{
			// Two GPUs halve the weights, 70.55e9 · 2 / 2 = 65.705 GiB, and the cache, 8192 · 320 KiB / 2 = 1.25 GiB; the
			// allowance is 2 + 3 % of all 131.41 = 5.942; (65.705 + 1.25 + 5.942) / 0.9 = 80.997.
			"shared by two GPUs", "meta-llama/Llama-3.3-70B-Instruct",
			map[string]any{"context_length": 8192.0, "tensor_parallel_size": 2.0},
			map[string]attr.Value{
				"per_gpu_gib": types.Float64Value(81), "kv_cache_gib": types.Float64Value(1.25), "gpus": types.Int64Value(2),
			},
		},
		{
			// Four sequences of 1024 tokens and 2 · 10 · 2 · 64 · 2 = 5120 bytes each: 20 MiB = 0.0195 GiB; weights 1e9 · 2 =
			// 1.863 GiB; allowance 2.056; sum 3.938 / 0.5 = 7.876.
			"a model by its figures", "",
			map[string]any{
				"parameters": 1.0, "layers": 10.0, "kv_heads": 2.0, "head_dim": 64.0, "context_length": 1024.0, "sequences": 4.0,
				"gpu_memory_utilization": 0.5,
			},
			map[string]attr.Value{"per_gpu_gib": types.Float64Value(7.88), "kv_cache_gib": types.Float64Value(0.02), "weights_gib": types.Float64Value(1.86)},
		},
		{
			// The cache of one byte is half of 0.4375 GiB.
			"a smaller cache", "Qwen/Qwen2.5-7B-Instruct",
			map[string]any{"context_length": 8192.0, "kv_cache_dtype": "fp8"},
			map[string]attr.Value{"kv_cache_gib": types.Float64Value(0.22)},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := call(t, test.model, test.options)
			if err != nil {
				t.Fatal(err)
			}
			for name, want := range test.want {
				if !got[name].Equal(want) {
					t.Errorf("%s is %s, want %s", name, got[name], want)
				}
			}
		})
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		model    string
		options  map[string]any
		argument int64 // -1 for none in particular
		want     string
	}{
		{"a model that is not known", "acme/unheard-of", nil, 0, "parameters"},
		{"a model whose name is wrong", "Qwen/Qwen2.5-8B-Instruct", nil, 0, "Qwen2.5-7B, "}, // what is known
		{"half of the figures", "Qwen/Qwen2.5-7B-Instruct", map[string]any{"layers": 10.0}, 1, "together"},
		{"a model without a name", "", map[string]any{}, 0, "parameters"},
		{
			"an option that doesn't exist", "Qwen/Qwen2.5-7B-Instruct",
			map[string]any{"contxt": 1.0},
			1,
			"contxt: unknown option; the options are attention_heads, context_length, ",
		},
		{"a text for a number", "Qwen/Qwen2.5-7B-Instruct", map[string]any{"context_length": "8k"}, 1, "context_length"},
		{"a number for a text", "Qwen/Qwen2.5-7B-Instruct", map[string]any{"quantization": 4.0}, 1, "quantization"},
		{"half a token", "Qwen/Qwen2.5-7B-Instruct", map[string]any{"context_length": 0.5}, 1, "whole number"},
		{"nothing of something", "Qwen/Qwen2.5-7B-Instruct", map[string]any{"gpu_vram_gib": 0.0}, 1, "greater than zero"},
		{"a truth for a number", "Qwen/Qwen2.5-7B-Instruct", map[string]any{"sequences": true}, 1, "number"},
		{"a quantization that is not known", "Qwen/Qwen2.5-7B-Instruct", map[string]any{"quantization": "zip"}, -1, "quantization: is not one"},
		{"heads that can't be shared", "Qwen/Qwen2.5-7B-Instruct", map[string]any{"tensor_parallel_size": 3.0}, -1, "28"},
		{"heads of keys and values that can't be shared", "microsoft/phi-4", map[string]any{"tensor_parallel_size": 4.0}, -1, "1, 2, 5, 10, 20 or 40"},
		{"more memory than there is", "Qwen/Qwen2.5-7B-Instruct", map[string]any{"gpu_memory_utilization": 1.5}, -1, "utilization"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := call(t, test.model, test.options)
			if err == nil {
				t.Fatalf("got %v", got)
			}
			argument := int64(-1)
			if err.FunctionArgument != nil {
				argument = *err.FunctionArgument
			}
			if argument != test.argument || !strings.Contains(err.Text, test.want) {
				t.Errorf("argument %d: %s\nwant argument %d: …%s…", argument, err.Text, test.argument, test.want)
			}
		})
	}
}

// Anything unknown makes the result unknown. The framework does that as long as no parameter allows unknown values.
func TestUnknownIsLeftToTheFramework(t *testing.T) {
	t.Parallel()
	var resp function.DefinitionResponse
	New().Definition(t.Context(), function.DefinitionRequest{}, &resp)
	for _, p := range resp.Definition.Parameters {
		if p.GetAllowUnknownValues() {
			t.Errorf("%s allows unknown values", p.GetName())
		}
	}
}
