// Package vllmhealth is the data source shopper_vllm_health: a list of checks on
// a vLLM server and its machine, for check blocks and postconditions to judge.
package vllmhealth

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/reach"
)

const readTimeout = 2 * time.Minute

// DataSource is shopper_vllm_health.
type DataSource struct {
	data *providerdata.Data
}

var _ datasource.DataSourceWithConfigure = (*DataSource)(nil)

// NewDataSource returns the data source.
func NewDataSource() datasource.DataSource { return &DataSource{} }

type model struct {
	SSH           types.Object   `tfsdk:"ssh"`
	BaseURL       types.String   `tfsdk:"base_url"`
	APIKey        types.String   `tfsdk:"api_key"`
	CACertificate types.String   `tfsdk:"ca_certificate"`
	Server        types.Object   `tfsdk:"server"`
	Model         types.String   `tfsdk:"model"`
	Completion    types.Bool     `tfsdk:"completion"`
	Skip          types.List     `tfsdk:"skip"`
	Healthy       types.Bool     `tfsdk:"healthy"`
	Checks        []checkModel   `tfsdk:"checks"`
	Timeouts      timeouts.Value `tfsdk:"timeouts"`
}

type checkModel struct {
	Name            types.String  `tfsdk:"name"`
	Status          types.String  `tfsdk:"status"`
	Problem         types.String  `tfsdk:"problem"`
	Message         types.String  `tfsdk:"message"`
	DurationSeconds types.Float64 `tfsdk:"duration_seconds"`
	Facts           types.Map     `tfsdk:"facts"`
}

type serverModel struct {
	Runtime   types.String `tfsdk:"runtime"`
	ID        types.String `tfsdk:"id"`
	Name      types.String `tfsdk:"name"`
	Owner     types.String `tfsdk:"owner"`
	Port      types.Int64  `tfsdk:"port"`
	Listen    types.String `tfsdk:"listen"`
	Directory types.String `tfsdk:"directory"`
}

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
	computed := func(s string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: s}
	}
	attributes := reach.Attributes("The machine. Without it the checks `gpus` and `runtime` are skipped, and the server is reached" +
		" directly.")
	for name, attribute := range map[string]schema.Attribute{
		"server": schema.SingleNestedAttribute{
			Optional: true,
			MarkdownDescription: "What the server is found by on its machine: a deployment's `server`. Without it the check `runtime`" +
				" is skipped.",
			Attributes: map[string]schema.Attribute{
				"runtime": schema.StringAttribute{
					Required: true, MarkdownDescription: "How it is run: `container` or `process`.",
					Validators: []validator.String{stringvalidator.OneOf(string(deploy.Container), string(deploy.Process))},
				},
				"id":   schema.StringAttribute{Required: true, MarkdownDescription: "The container's id."},
				"name": optional("Its name."), "owner": optional("The deployment that it belongs to."),
				"port":   schema.Int64Attribute{Optional: true, MarkdownDescription: "Its port."},
				"listen": optional("Its address on the machine."), "directory": optional("Where it keeps its files."),
			},
		},
		"model": optional("The model to check. Default: the first one that is served."),
		"completion": schema.BoolAttribute{
			Optional: true, MarkdownDescription: "Default true; false for models that don't complete, which are asked for an embedding.",
		},
		"skip": schema.ListAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "Checks to leave out: `gpus`, `runtime`, `health`, `model`, `completion`.",
			Validators:          []validator.List{listvalidator.ValueStringsAre(stringvalidator.OneOf(names...))},
		},
		"healthy": schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether no check failed."},
		"checks": schema.ListNestedAttribute{
			Computed: true, MarkdownDescription: "The checks, always all five, in the order `gpus`, `runtime`, `health`, `model`," +
				" `completion`.",
			NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
				"name":             computed("The check."),
				"status":           computed("`passed`, `failed` or `skipped`."),
				"problem":          computed("Which kind of trouble made it fail, null for none: " + diagnostic.ProblemText),
				"message":          computed("What was found, in words."),
				"duration_seconds": schema.Float64Attribute{Computed: true, MarkdownDescription: "How long it took."},
				"facts": schema.MapAttribute{
					Computed: true, ElementType: types.StringType,
					MarkdownDescription: "Figures, each only where it is told. `gpus`: `count`, and for each GPU such as `gpu_0_`: `name`," +
						" `memory_mib`, `memory_used_mib`, `temperature_c`. `runtime`: `state`, `restarts`, `exit_code`. `health`:" +
						" `requests_running`, `requests_waiting`, `requests_succeeded`, `kv_cache_usage` (0 to 1)," +
						" `first_token_seconds` (mean since the start). `model`: `id`, `root`, `context_length`. `completion`: `call`," +
						" `latency_seconds`.",
				},
			}},
		},
		"timeouts": timeouts.AttributesWithOpts(ctx, timeouts.Opts{ReadDescription: "How long it may take. Default `2m`."}),
	} {
		attributes[name] = attribute
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Checks on a vLLM server and its machine. What is unhealthy, can't be reached, or refuses the credentials is" +
			" a value and never an error, so that `check` blocks and postconditions can judge. The checks run at the same time, within" +
			" `timeouts.read`. Terraform looks at ten objects at a time: where many machines may not answer, raise `-parallelism`.",
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
	results := p.examine(limited, d.data)
	if err := ctx.Err(); err != nil { // a canceled run says nothing about the server
		resp.Diagnostics.Append(diagnostic.Error("Could not check the server", err))
		return
	}
	m.Healthy = types.BoolValue(true)
	for _, result := range results {
		facts, diags := types.MapValueFrom(ctx, types.StringType, result.facts)
		resp.Diagnostics.Append(diags...)
		m.Checks = append(m.Checks, checkModel{
			Name: types.StringValue(result.name), Status: types.StringValue(string(result.status)), Problem: text(result.problem),
			Message: types.StringValue(result.message), DurationSeconds: types.Float64Value(result.took.Seconds()), Facts: facts,
		})
		if result.status == failed {
			m.Healthy = types.BoolValue(false)
		}
	}
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
		completion: m.Completion.IsNull() || m.Completion.ValueBool(), skip: map[string]bool{},
	}
	if !m.Skip.IsNull() {
		var skip []string
		resp.Diagnostics.Append(m.Skip.ElementsAs(ctx, &skip, false)...)
		for _, name := range skip {
			p.skip[name] = true
		}
	}
	if !m.Server.IsNull() {
		var s serverModel
		resp.Diagnostics.Append(m.Server.As(ctx, &s, basetypes.ObjectAsOptions{})...)
		p.server = &deploy.Ref{
			Runtime: deploy.Kind(s.Runtime.ValueString()), ID: s.ID.ValueString(), Name: s.Name.ValueString(),
			Owner: s.Owner.ValueString(), Port: int(s.Port.ValueInt64()), Listen: s.Listen.ValueString(),
			Directory: s.Directory.ValueString(),
		}
	}
	return p
}

func text(s string) types.String {
	if s == "" {
		return types.StringNull()
	}
	return types.StringValue(s)
}
