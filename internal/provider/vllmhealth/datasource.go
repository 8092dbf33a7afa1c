// Package vllmhealth is the data source shopper_vllm_health: checks on
// a vLLM server and its machine, for check blocks and postconditions to judge.
package vllmhealth

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/reach"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/serverattr"
)

const readTimeout = 2 * time.Minute

// DataSource is shopper_vllm_health.
type DataSource struct {
	data *providerdata.Data
}

var _ datasource.DataSourceWithConfigure = (*DataSource)(nil)

// NewDataSource returns the data source.
func NewDataSource() datasource.DataSource { return &DataSource{} }

// Metadata names the data source.
func (d *DataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_vllm_health"
}

// Configure takes what the provider's configuration made.
func (d *DataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the data source.
func (d *DataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	optional := func(s string) schema.StringAttribute {
		return schema.StringAttribute{Optional: true, MarkdownDescription: s}
	}
	attributes := reach.Attributes("The machine. Without it the checks `gpus` and `runtime` are skipped, and the server is reached" +
		" directly.")
	for name, attribute := range map[string]schema.Attribute{
		"server": serverattr.DataSourceArgument("Identifies the server on its machine: a deployment's `server`. Without it, the check"+
			" `runtime` is skipped.", false),
		"model": optional("Model to check. Default: the first one that is served."),
		"completion": schema.BoolAttribute{
			Optional: true, MarkdownDescription: "Default true. Set false for models that don't generate text: they are asked for an" +
				" embedding.",
		},
		"skip": schema.SetAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "Checks to skip: `gpus`, `runtime`, `health`, `model`, `completion`.",
			Validators:          []validator.Set{setvalidator.ValueStringsAre(stringvalidator.OneOf(names...))},
		},
		"healthy": schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether no check failed."},
		"failures": schema.ListAttribute{
			Computed: true, ElementType: types.StringType, MarkdownDescription: "The failed checks with their results, for error messages.",
		},
		"checks":   checksAttribute(),
		"timeouts": timeouts.AttributesWithOpts(ctx, timeouts.Opts{ReadDescription: "Default `2m`."}),
	} {
		attributes[name] = attribute
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Checks on a vLLM server and its machine. A server that is unhealthy, unreachable or refuses the" +
			" credentials is a value and never an error, so that `check` blocks and postconditions can judge it. The checks run in" +
			" parallel, within `timeouts.read`. Terraform reads ten objects at a time: if many machines may not answer, raise" +
			" `-parallelism`.",
		Attributes: attributes,
	}
}

// Read runs the checks.
func (d *DataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "checking a server")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	p := d.patient(ctx, &m, resp)
	if resp.Diagnostics.HasError() {
		return
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m.Checks = p.examine(limited, d.data)
	if err := ctx.Err(); err != nil { // a canceled run says nothing about the server
		resp.Diagnostics.Append(diagnostic.Error("Could not check the server", err))
		return
	}
	m.Failures = m.Checks.failures()
	m.Healthy = types.BoolValue(len(m.Failures) == 0)
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// patient turns the arguments into what is examined.
func (d *DataSource) patient(ctx context.Context, m *model, resp *datasource.ReadResponse) patient {
	target, diags := reach.Read(ctx, d.data, reach.Server{
		BaseURL: m.BaseURL, CACertificate: m.CACertificate, APIKey: m.APIKey, SSH: m.SSH,
	})
	resp.Diagnostics.Append(diags...)
	m.BaseURL = types.StringValue(target.URL)
	p := patient{
		target: target, model: m.Model.ValueString(),
		completion: m.Completion.IsNull() || m.Completion.ValueBool(), skip: attrs.Strings(ctx, m.Skip, &resp.Diagnostics),
	}
	if !m.Server.IsNull() {
		server, d := serverattr.Ref(ctx, m.Server)
		resp.Diagnostics.Append(d...)
		p.server = &server
	}
	return p
}
