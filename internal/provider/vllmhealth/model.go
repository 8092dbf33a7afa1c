package vllmhealth

import (
	"maps"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
)

type model struct {
	SSH           types.Object   `tfsdk:"ssh"`
	BaseURL       types.String   `tfsdk:"base_url"`
	APIKey        types.String   `tfsdk:"api_key"`
	CACertificate types.String   `tfsdk:"ca_certificate"`
	Server        types.Object   `tfsdk:"server"`
	Model         types.String   `tfsdk:"model"`
	Completion    types.Bool     `tfsdk:"completion"`
	Skip          types.Set      `tfsdk:"skip"`
	Healthy       types.Bool     `tfsdk:"healthy"`
	Failures      []string       `tfsdk:"failures"`
	Checks        *checksModel   `tfsdk:"checks"`
	Timeouts      timeouts.Value `tfsdk:"timeouts"`
}

type checksModel struct {
	GPUs       gpusCheck       `tfsdk:"gpus"`
	Runtime    runtimeCheck    `tfsdk:"runtime"`
	Health     healthCheck     `tfsdk:"health"`
	Model      modelCheck      `tfsdk:"model"`
	Completion completionCheck `tfsdk:"completion"`
}

// outcomes are in the order of names.
func (c *checksModel) outcomes() []*outcome {
	return []*outcome{&c.GPUs.outcome, &c.Runtime.outcome, &c.Health.outcome, &c.Model.outcome, &c.Completion.outcome}
}

// outcome is what all checks have.
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

func computed(text string) schema.StringAttribute {
	return schema.StringAttribute{Computed: true, MarkdownDescription: text}
}

func number(text string) schema.Int64Attribute {
	return schema.Int64Attribute{Computed: true, MarkdownDescription: text}
}

func decimal(text string) schema.Float64Attribute {
	return schema.Float64Attribute{Computed: true, MarkdownDescription: text}
}

// checksAttribute describes the checks.
func checksAttribute() schema.SingleNestedAttribute {
	of := func(text string, figures map[string]schema.Attribute) schema.SingleNestedAttribute {
		attributes := map[string]schema.Attribute{
			"status":           computed("`passed`, `failed` or `skipped`."),
			"problem":          computed("Which kind of trouble made it fail, null for none: " + diagnostic.ProblemText),
			"message":          computed("What was found, in words."),
			"duration_seconds": decimal("How long it took."),
		}
		maps.Copy(attributes, figures)
		return schema.SingleNestedAttribute{Computed: true, MarkdownDescription: text, Attributes: attributes}
	}
	return schema.SingleNestedAttribute{
		Computed: true, MarkdownDescription: "The checks. A figure is null where nobody reports it." + attrs.Moves,
		Attributes: map[string]schema.Attribute{
			"gpus": of("Whether the machine's driver works and lists GPUs.", map[string]schema.Attribute{
				"devices": schema.ListNestedAttribute{
					Computed: true, MarkdownDescription: "The GPUs.",
					NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
						"index": number("Its number."), "name": computed("Its name."), "memory_mib": number("Its memory in MiB."),
						"memory_used_mib": number("What of it is in use."), "temperature_c": number("Its temperature in degrees Celsius."),
					}},
				},
			}),
			"runtime": of("Whether the container or process runs.", map[string]schema.Attribute{
				"state": computed("Its state."), "restarts": number("How often it was started again by itself."),
				"exit_code": number("The exit code of its last end, unless that was 0."),
			}),
			"health": of("Whether the engine is alive, with the figures of its `/metrics`.", map[string]schema.Attribute{
				"requests_running": decimal("Requests that are being answered."), "requests_waiting": decimal("Requests that wait for their turn."),
				"requests_succeeded":  decimal("Requests answered since the server started."),
				"prompt_tokens":       decimal("Tokens of prompts since the server started."),
				"generation_tokens":   decimal("Tokens generated since the server started."),
				"kv_cache_usage":      decimal("Share of the key-value cache in use, from 0 to 1, of the engine that has the least left."),
				"first_token_seconds": decimal("Mean time to the first token since the server started."),
			}),
			"model": of("Whether the model is served.", map[string]schema.Attribute{
				"id": computed("The name that clients use."), "root": computed("What was loaded."), "context_length": number("Its context in tokens."),
			}),
			"completion": of("Whether the model answers.", map[string]schema.Attribute{
				"call": computed("What it was asked by."), "latency_seconds": decimal("How long the answer took."),
			}),
		},
	}
}
