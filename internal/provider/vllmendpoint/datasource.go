// Package vllmendpoint is the data source shopper_vllm_endpoint: what a vLLM
// server serves, and whether it is ready.
package vllmendpoint

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/reach"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const readTimeout = 2 * time.Minute

// DataSource is shopper_vllm_endpoint.
type DataSource struct {
	data *providerdata.Data
}

var _ datasource.DataSourceWithConfigure = (*DataSource)(nil)

// NewDataSource returns the data source.
func NewDataSource() datasource.DataSource { return &DataSource{} }

type model struct {
	BaseURL        types.String   `tfsdk:"base_url"`
	SSH            types.Object   `tfsdk:"ssh"`
	APIKey         types.String   `tfsdk:"api_key"`
	CACertificate  types.String   `tfsdk:"ca_certificate"`
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

// Metadata names the data source.
func (d *DataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_vllm_endpoint"
}

// Configure takes what the provider's configuration made.
func (d *DataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the data source.
func (d *DataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	attributes := reach.Attributes("Connect through this machine. Needed for a server that listens on its loopback address, such as a" +
		" private deployment.")
	for name, attribute := range results() {
		attributes[name] = attribute
	}
	attributes["completion"] = schema.BoolAttribute{
		Optional: true,
		MarkdownDescription: "Request one token to decide whether the server is ready. Default true. Set false for models that don't" +
			" generate text: they are asked for an embedding.",
	}
	attributes["timeouts"] = timeouts.AttributesWithOpts(ctx, timeouts.Opts{ReadDescription: "Default `2m`."})
	resp.Schema = schema.Schema{
		MarkdownDescription: "What a vLLM server serves, and whether it is ready: a deployment of this provider, a server on any" +
			" machine that SSH reaches, or one behind any URL. A server that isn't ready, is unreachable or refuses the credentials is" +
			" a value and not an error.",
		Attributes: attributes,
	}
}

func results() map[string]schema.Attribute {
	text := func(s string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: s}
	}
	return map[string]schema.Attribute{
		"ready":   schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether the model answered."},
		"problem": text("Kind of problem that keeps the server from being ready, null for none: " + diagnostic.ProblemText),
		"message": text("Explanation for people."),
		"models": schema.ListNestedAttribute{
			Computed: true, MarkdownDescription: "Models that are served, including adapters.",
			NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
				"id":             text("Name to request."),
				"root":           text("The model's ID or path."),
				"context_length": schema.Int64Attribute{Computed: true, MarkdownDescription: "Maximum context length in tokens."},
			}},
		},
		"model":          text("Name of the first model served."),
		"context_length": schema.Int64Attribute{Computed: true, MarkdownDescription: "Its maximum context length in tokens."},
		"vllm_version":   text("vLLM version."),
		"latency_seconds": schema.Float64Attribute{
			Computed: true, MarkdownDescription: "Seconds until the first token. Null if there was none." + attrs.Moves,
		},
	}
}

// Read asks the server.
func (d *DataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "querying a server")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	target, diags := reach.Read(ctx, d.data, reach.Server{
		BaseURL: m.BaseURL, CACertificate: m.CACertificate, APIKey: m.APIKey, SSH: m.SSH,
	})
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	m.BaseURL, m.Models, m.Ready = types.StringValue(target.URL), []modelModel{}, types.BoolValue(false)
	m.Message = types.StringValue("The model answered.")
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := d.ask(limited, &m, target, &resp.Diagnostics)
	if err != nil && ctx.Err() != nil { // a canceled run says nothing about the server
		resp.Diagnostics.Append(diagnostic.Error("Could not query the server", err))
		return
	}
	if err != nil {
		m.Problem, m.Message = types.StringValue(diagnostic.Problem(err)), types.StringValue(err.Error())
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// ask fills in what the server says; the error is why it isn't ready.
func (d *DataSource) ask(ctx context.Context, m *model, target reach.Target, diags *diag.Diagnostics) error {
	route, err := target.Open(ctx, d.data)
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
