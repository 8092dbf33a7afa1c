package vllmhealth

import (
	"maps"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/reach"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/result"
)

type model struct {
	reach.Arguments
	Server     types.Object   `tfsdk:"server"`
	Model      types.String   `tfsdk:"model"`
	Completion types.Bool     `tfsdk:"completion"`
	Skip       types.Set      `tfsdk:"skip"`
	Healthy    types.Bool     `tfsdk:"healthy"`
	Failures   []string       `tfsdk:"failures"`
	Checks     *checksModel   `tfsdk:"checks"`
	Timeouts   timeouts.Value `tfsdk:"timeouts"`
}

type checksModel struct {
	GPUs       gpusCheck       `tfsdk:"gpus"`
	Runtime    runtimeCheck    `tfsdk:"runtime"`
	Health     healthCheck     `tfsdk:"health"`
	Model      modelCheck      `tfsdk:"model"`
	Completion completionCheck `tfsdk:"completion"`
}

// outcomes are the outcomes of all checks, in the order of names.
func (c *checksModel) outcomes() []*outcome {
	return []*outcome{&c.GPUs.outcome, &c.Runtime.outcome, &c.Health.outcome, &c.Model.outcome, &c.Completion.outcome}
}

// outcome is common to all checks.
type outcome struct {
	Status          types.String  `tfsdk:"status"`
	Problem         types.String  `tfsdk:"problem"`
	Message         types.String  `tfsdk:"message"`
	DurationSeconds types.Float64 `tfsdk:"duration_seconds"`
}

type gpusCheck struct {
	outcome
	Devices []deviceModel `tfsdk:"devices"`
}

type deviceModel struct {
	Index         types.Int64  `tfsdk:"index"`
	Name          types.String `tfsdk:"name"`
	MemoryMiB     types.Int64  `tfsdk:"memory_mib"`
	MemoryUsedMiB types.Int64  `tfsdk:"memory_used_mib"`
	TemperatureC  types.Int64  `tfsdk:"temperature_c"`
}

type runtimeCheck struct {
	outcome
	State    types.String `tfsdk:"state"`
	Restarts types.Int64  `tfsdk:"restarts"`
	ExitCode types.Int64  `tfsdk:"exit_code"`
}

type healthCheck struct {
	outcome
	RequestsRunning   types.Float64 `tfsdk:"requests_running"`
	RequestsWaiting   types.Float64 `tfsdk:"requests_waiting"`
	RequestsSucceeded types.Float64 `tfsdk:"requests_succeeded"`
	PromptTokens      types.Float64 `tfsdk:"prompt_tokens"`
	GenerationTokens  types.Float64 `tfsdk:"generation_tokens"`
	KVCacheUsage      types.Float64 `tfsdk:"kv_cache_usage"`
	FirstTokenSeconds types.Float64 `tfsdk:"first_token_seconds"`
}

type modelCheck struct {
	outcome
	ID            types.String `tfsdk:"id"`
	Root          types.String `tfsdk:"root"`
	ContextLength types.Int64  `tfsdk:"context_length"`
}

type completionCheck struct {
	outcome
	Call           types.String  `tfsdk:"call"`
	LatencySeconds types.Float64 `tfsdk:"latency_seconds"`
}

// checksAttribute describes the checks.
func checksAttribute() schema.SingleNestedAttribute {
	of := func(text string, figures map[string]schema.Attribute) schema.SingleNestedAttribute {
		attributes := map[string]schema.Attribute{
			"status":           result.Text("`passed`, `failed` or `skipped`."),
			"problem":          result.Text("Kind of problem that made the check fail, null for none: " + diagnostic.ProblemText),
			"message":          result.Text("Result in words."),
			"duration_seconds": result.Decimal("How long the check took."),
		}
		maps.Copy(attributes, figures)
		return result.Object(text, attributes)
	}
	return result.Object("The checks. A value is null if it isn't reported."+attrs.Moves, map[string]schema.Attribute{
		"gpus": of("Whether the machine's driver works and lists GPUs.", map[string]schema.Attribute{
			"devices": result.List("The GPUs.", map[string]schema.Attribute{
				"index": result.Number("The GPU's index."), "name": result.Text("Its name."), "memory_mib": result.Number("Its memory in MiB."),
				"memory_used_mib": result.Number("Memory in use, in MiB."), "temperature_c": result.Number("Its temperature in degrees Celsius."),
			}),
		}),
		"runtime": of("Whether the container or process runs.", map[string]schema.Attribute{
			"state": result.Text("Its state."), "restarts": result.Number("Number of automatic restarts."),
			"exit_code": result.Number("Exit code of its last exit, unless that was 0."),
		}),
		"health": of("Whether the engine is alive, with values from its `/metrics`.", map[string]schema.Attribute{
			"requests_running": result.Decimal("Requests in progress."), "requests_waiting": result.Decimal("Requests in the queue."),
			"requests_succeeded":  result.Decimal("Requests answered since the server started."),
			"prompt_tokens":       result.Decimal("Prompt tokens since the server started."),
			"generation_tokens":   result.Decimal("Tokens generated since the server started."),
			"kv_cache_usage":      result.Decimal("Fraction of the key-value cache in use, from 0 to 1, of the engine with the least free."),
			"first_token_seconds": result.Decimal("Mean time to the first token since the server started."),
		}),
		"model": of("Whether the model is served.", map[string]schema.Attribute{
			"id": result.Text("The name that clients request."), "root": result.Text("ID or path of the loaded model."),
			"context_length": result.Number("Its maximum context length in tokens."),
		}),
		"completion": of("Whether the model answers.", map[string]schema.Attribute{
			"call": result.Text("API call that was sent."), "latency_seconds": result.Decimal("Seconds until the answer."),
		}),
	})
}
