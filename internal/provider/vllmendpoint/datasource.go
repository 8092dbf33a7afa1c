// Package vllmendpoint is the data source shopper_vllm_endpoint: what a vLLM
// server serves, and whether it is ready.
package vllmendpoint

import (
	"context"
	"errors"
	"maps"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/reach"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/result"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/source"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// NewDataSource returns the data source shopper_vllm_endpoint.
func NewDataSource() datasource.DataSource {
	return source.New(source.Config[model]{
		Name: "vllm_endpoint", Doing: "querying a server", Timeout: 2 * time.Minute,
		Text: "What a vLLM server serves, and whether it is ready: a deployment of this provider, a server on any" +
			" machine that SSH reaches, or one behind any URL. A server that isn't ready, is unreachable or refuses the credentials is" +
			" a value and not an error.",
		Attributes: attributes, Read: read,
	})
}

type model struct {
	reach.Arguments
	Completion     types.Bool     `tfsdk:"completion"`
	Ready          types.Bool     `tfsdk:"ready"`
	Problem        types.String   `tfsdk:"problem"`
	Message        types.String   `tfsdk:"message"`
	Models         []modelModel   `tfsdk:"models"`
	Model          types.String   `tfsdk:"model"`
	ContextLength  types.Int64    `tfsdk:"context_length"`
	VLLMVersion    types.String   `tfsdk:"vllm_version"`
	LatencySeconds types.Float64  `tfsdk:"latency_seconds"`
	Timeouts       timeouts.Value `tfsdk:"timeouts"`
}

type modelModel struct {
	ID            types.String `tfsdk:"id"`
	Root          types.String `tfsdk:"root"`
	ContextLength types.Int64  `tfsdk:"context_length"`
}

func attributes() map[string]schema.Attribute {
	attributes := reach.Attributes("Connect through this machine. Needed for a server that listens on its loopback address, such as a" +
		" private deployment.")
	maps.Copy(attributes, map[string]schema.Attribute{
		"completion": argument.Flag("Request one token to decide whether the server is ready. Default `true`. Set false for models that" +
			" don't generate text: they are asked for an embedding."),
		"ready":   result.Flag("Whether the model answered."),
		"problem": result.Text("Kind of problem that keeps the server from being ready, null for none: " + diagnostic.ProblemText),
		"message": result.Text("Explanation for people."),
		"models": result.List("Models that are served, including adapters.", map[string]schema.Attribute{
			"id":             result.Text("Name to request."),
			"root":           result.Text("The model's ID or path."),
			"context_length": result.Number("Maximum context length in tokens."),
		}),
		"model":           result.Text("Name of the first model served."),
		"context_length":  result.Number("Its maximum context length in tokens."),
		"vllm_version":    result.Text("vLLM version."),
		"latency_seconds": result.Decimal("Seconds until the first token. Null if there was none." + attrs.Moves),
	})
	return attributes
}

func read(ctx context.Context, data *providerdata.Data, m *model, diags *diag.Diagnostics) {
	target := reach.Read(ctx, data, m.Arguments, diags)
	if diags.HasError() {
		return
	}
	m.BaseURL, m.Models, m.Ready = types.StringValue(target.URL), []modelModel{}, types.BoolValue(false)
	m.Message = types.StringValue("The model answered.")
	err := m.ask(ctx, data, target, diags)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) { // a canceled run says nothing about the server
		diags.Append(diagnostic.Error("Could not query the server", err))
		return
	}
	if err != nil {
		m.Problem, m.Message = types.StringValue(diagnostic.Problem(err)), types.StringValue(err.Error())
	}
}

// ask fills in what the server reports. The error says why it isn't ready.
func (m *model) ask(ctx context.Context, data *providerdata.Data, target reach.Target, diags *diag.Diagnostics) error {
	route, err := target.Open(ctx, data)
	if err != nil {
		return err
	}
	defer route.Close()
	models, err := route.Server.Models(ctx)
	if err != nil {
		return err
	}
	version, err := route.Server.Version(ctx)
	if err != nil && !vllm.IsNotFound(err) { // other servers have no such route
		diags.Append(diagnostic.Warning("vLLM version is unknown", err))
	}
	m.VLLMVersion = attrs.Text(version)
	for _, served := range models {
		m.Models = append(m.Models, modelModel{
			ID: types.StringValue(served.ID), Root: attrs.Text(served.Root), ContextLength: attrs.Number(served.MaxModelLen),
		})
	}
	if len(models) == 0 {
		return errors.New("the server serves no model")
	}
	m.Model, m.ContextLength = m.Models[0].ID, m.Models[0].ContextLength
	proof, err := route.Server.Probe(ctx, models[0].ID, m.Completion.IsNull() || m.Completion.ValueBool())
	if err != nil {
		return err
	}
	m.Ready = types.BoolValue(true)
	m.LatencySeconds = types.Float64Value(proof.Duration.Seconds())
	return nil
}
