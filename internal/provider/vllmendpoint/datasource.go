// Package vllmendpoint is the data source shopper_vllm_endpoint: what a vLLM
// server serves, and whether it is ready.
package vllmendpoint

import (
	"context"
	"net/http"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/validate"
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
	Completion     types.Bool     `tfsdk:"completion"`
	Ready          types.Bool     `tfsdk:"ready"`
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
	resp.Schema = schema.Schema{
		MarkdownDescription: "What a vLLM server serves, and whether it is ready, for a deployment of this provider or any other. A server" +
			" that isn't ready, or can't be reached, is a value and not an error.",
		Attributes: map[string]schema.Attribute{
			"base_url": schema.StringAttribute{
				Required: true, Validators: []validator.String{validate.String("must be an http or https URL", validate.URL)},
				MarkdownDescription: "Base URL of the OpenAI API, such as a deployment's `base_url`. With `ssh` it is seen from the machine.",
			},
			"ssh": sshattr.DataSourceArgument("Go through this machine; for a server that listens on its loopback.", false),
			"api_key": schema.StringAttribute{
				Optional: true, Sensitive: true, MarkdownDescription: "The server's API key.",
				Validators: []validator.String{validate.NotEmpty()},
			},
			"completion": schema.BoolAttribute{
				Optional: true,
				MarkdownDescription: "Ask for one token to decide whether the server is ready. Default true; false for models that don't" +
					" complete, which are asked for an embedding.",
			},
			"ready":   schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether the model gave an answer."},
			"message": schema.StringAttribute{Computed: true, MarkdownDescription: "Why it is not ready. Null when it is."},
			"models": schema.ListNestedAttribute{
				Computed: true, MarkdownDescription: "What is served, adapters included.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"id":             schema.StringAttribute{Computed: true, MarkdownDescription: "Name to ask for."},
					"root":           schema.StringAttribute{Computed: true, MarkdownDescription: "The model's id or path."},
					"context_length": schema.Int64Attribute{Computed: true, MarkdownDescription: "Longest context in tokens."},
				}},
			},
			"model":          schema.StringAttribute{Computed: true, MarkdownDescription: "Name of the first model served."},
			"context_length": schema.Int64Attribute{Computed: true, MarkdownDescription: "Its longest context in tokens."},
			"vllm_version":   schema.StringAttribute{Computed: true, MarkdownDescription: "vLLM's version."},
			"latency_seconds": schema.Float64Attribute{
				Computed: true, MarkdownDescription: "How long the one token took. Null when there was none.",
			},
			"timeouts": timeouts.Attributes(ctx),
		},
	}
}

// Read asks the server.
func (d *DataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "asking a server what it serves")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	var ssh *sshattr.Model
	if !m.SSH.IsNull() {
		ssh = &sshattr.Model{}
		resp.Diagnostics.Append(m.SSH.As(ctx, ssh, basetypes.ObjectAsOptions{})...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m.Models = []modelModel{}
	m.Ready = types.BoolValue(false)
	if err := d.ask(ctx, &m, ssh); err != nil {
		m.Message = types.StringValue(err.Error())
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// ask fills in what the server says; the error is why it isn't ready.
func (d *DataSource) ask(ctx context.Context, m *model, ssh *sshattr.Model) error {
	var transport http.RoundTripper
	if ssh != nil {
		machine, err := host.Dial(ctx, ssh.Config(d.credentials()))
		if err != nil {
			return err
		}
		defer func() { _ = machine.Close() }()
		transport = machine.HTTPTransport()
	}
	client := vllm.NewClient(transport, m.BaseURL.ValueString(), m.APIKey.ValueString())
	if version, err := client.Version(ctx); err == nil {
		m.VLLMVersion = types.StringValue(version)
	}
	models, err := client.Models(ctx)
	if err != nil {
		return err
	}
	for _, served := range models {
		m.Models = append(m.Models, modelModel{ID: types.StringValue(served.ID), Root: text(served.Root), ContextLength: number(served.MaxModelLen)})
	}
	if len(models) == 0 {
		return vllm.ErrNoTokens
	}
	m.Model, m.ContextLength = m.Models[0].ID, m.Models[0].ContextLength
	proof, err := client.Probe(ctx, models[0].ID, m.Completion.IsNull() || m.Completion.ValueBool())
	if err != nil {
		return err
	}
	m.Ready = types.BoolValue(true)
	m.LatencySeconds = types.Float64Value(proof.Duration.Seconds())
	return nil
}

func (d *DataSource) credentials() providerdata.SSH {
	if d.data == nil {
		return providerdata.SSH{}
	}
	return d.data.SSH
}

func text(s string) types.String {
	if s == "" {
		return types.StringNull()
	}
	return types.StringValue(s)
}

func number(n int) types.Int64 {
	if n == 0 {
		return types.Int64Null()
	}
	return types.Int64Value(int64(n))
}
