// Package templates is the data source shopper_templates: what a Vast.ai machine
// can be started from.
package templates

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const readTimeout = 2 * time.Minute

// DataSource is shopper_templates.
type DataSource struct {
	data *providerdata.Data
}

var _ datasource.DataSourceWithConfigure = (*DataSource)(nil)

// NewDataSource returns the data source.
func NewDataSource() datasource.DataSource { return &DataSource{} }

type model struct {
	OfferID     types.String    `tfsdk:"offer_id"`
	NameHas     types.String    `tfsdk:"name_contains"`
	Recommended types.Bool      `tfsdk:"recommended"`
	Templates   []templateModel `tfsdk:"templates"`
	Timeouts    timeouts.Value  `tfsdk:"timeouts"`
}

type templateModel struct {
	HashID            types.String `tfsdk:"hash_id"`
	Name              types.String `tfsdk:"name"`
	Image             types.String `tfsdk:"image"`
	Tag               types.String `tfsdk:"tag"`
	Env               types.String `tfsdk:"env"`
	OnStart           types.String `tfsdk:"on_start"`
	RunType           types.String `tfsdk:"run_type"`
	Args              types.String `tfsdk:"args"`
	UseSSH            types.Bool   `tfsdk:"use_ssh"`
	SSHDirect         types.Bool   `tfsdk:"ssh_direct"`
	Recommended       types.Bool   `tfsdk:"recommended"`
	RecommendedDiskGB types.Int64  `tfsdk:"recommended_disk_gb"`
	ExtraFilters      types.String `tfsdk:"extra_filters"`
	CreatedAt         types.String `tfsdk:"created_at"`
	CountCreated      types.Int64  `tfsdk:"count_created"`
}

// Metadata names the data source.
func (d *DataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_templates"
}

// Configure takes what the provider's configuration made.
func (d *DataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the data source.
func (d *DataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	text := func(s string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: s}
	}
	flag := func(s string) schema.BoolAttribute {
		return schema.BoolAttribute{Computed: true, MarkdownDescription: s}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Vast.ai's templates, for a session's `template_hash_id`. Fails if the shopper has no Vast.ai account.",
		Attributes: map[string]schema.Attribute{
			"offer_id": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.String("must be an offer's ID", shopper.ValidateID)},
				MarkdownDescription: "Return only templates that this offer can run. Offers of other clouds have none.",
			},
			"name_contains": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.NotEmpty()},
				MarkdownDescription: "Return only templates whose name contains this text. Case doesn't matter.",
			},
			"recommended": schema.BoolAttribute{
				Optional: true, MarkdownDescription: "Return only templates that Vast.ai recommends (true), or doesn't (false).",
			},
			"templates": schema.ListNestedAttribute{
				Computed: true, MarkdownDescription: "The templates.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"hash_id":     text("Value for `template_hash_id`."),
					"name":        text("The template's name."),
					"image":       text("The container's image."),
					"tag":         text("The image's tag."),
					"env":         text("Docker flags for environment variables and ports."),
					"on_start":    text("Command that runs at the start."),
					"run_type":    text("Launch mode, such as `ssh`."),
					"args":        text("The image's arguments."),
					"use_ssh":     flag("Whether the machine accepts SSH logins."),
					"ssh_direct":  flag("Whether SSH connects directly instead of through Vast.ai's proxy."),
					"recommended": flag("Whether Vast.ai recommends the template."),
					"recommended_disk_gb": schema.Int64Attribute{
						Computed: true, MarkdownDescription: "Recommended disk size in GB.",
					},
					"extra_filters": text("Requirements for the machine, in JSON."),
					"created_at":    text("When the template was created (RFC 3339, UTC)."),
					"count_created": schema.Int64Attribute{
						Computed: true, MarkdownDescription: "How often the template has been used." + attrs.Moves,
					},
				}},
			},
			"timeouts": timeouts.AttributesWithOpts(ctx, timeouts.Opts{ReadDescription: "Default `2m`."}),
		},
	}
}

// Read lists the templates.
func (d *DataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "listing templates")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || !d.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := m.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	all, err := d.data.Client.Templates(ctx)
	var compatible map[string]bool
	if err == nil && !m.OfferID.IsNull() {
		compatible, err = d.compatible(ctx, m.OfferID.ValueString())
	}
	if err != nil {
		resp.Diagnostics.Append(diagnostic.NotRead("Could not list templates", err))
		return
	}
	m.Templates = []templateModel{}
	for _, t := range all {
		if m.wants(t) && (compatible == nil || compatible[t.HashID]) {
			m.Templates = append(m.Templates, toModel(t))
		}
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

func (d *DataSource) compatible(ctx context.Context, offer string) (map[string]bool, error) {
	list, err := d.data.Client.CompatibleTemplates(ctx, offer)
	ids := make(map[string]bool, len(list))
	for _, t := range list {
		ids[t.HashID] = true
	}
	return ids, err
}

func (m model) wants(t shopper.Template) bool {
	return strings.Contains(strings.ToLower(t.Name), strings.ToLower(m.NameHas.ValueString())) &&
		(m.Recommended.IsNull() || m.Recommended.ValueBool() == t.Recommended)
}

func toModel(t shopper.Template) templateModel {
	m := templateModel{
		HashID: types.StringValue(t.HashID), Name: attrs.Text(t.Name), Image: attrs.Text(t.Image), Tag: attrs.Text(t.Tag),
		Env:     attrs.Text(t.Env),
		OnStart: attrs.Text(t.OnStart), RunType: attrs.Text(t.RunType), Args: attrs.Text(t.Args), UseSSH: types.BoolValue(t.UseSSH),
		SSHDirect: types.BoolValue(t.SSHDirect), Recommended: types.BoolValue(t.Recommended), ExtraFilters: attrs.Text(t.ExtraFilters),
		CountCreated: types.Int64Value(int64(t.CountCreated)),
	}
	if t.RecommendedDiskGB > 0 {
		m.RecommendedDiskGB = types.Int64Value(int64(t.RecommendedDiskGB))
	}
	if !t.CreatedAt.IsZero() {
		m.CreatedAt = types.StringValue(t.CreatedAt.UTC().Format(time.RFC3339))
	}
	return m
}
