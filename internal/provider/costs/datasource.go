// Package costs is the data source shopper_costs: what has been spent, as the
// shopper keeps account.
package costs

import (
	"cmp"
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/boolvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const readTimeout = 2 * time.Minute

// DataSource is shopper_costs.
type DataSource struct {
	data *providerdata.Data
}

var _ datasource.DataSourceWithConfigure = (*DataSource)(nil)

// NewDataSource returns the data source.
func NewDataSource() datasource.DataSource { return &DataSource{} }

type model struct {
	SessionID    types.String   `tfsdk:"session_id"`
	ConsumerID   types.String   `tfsdk:"consumer_id"`
	AllConsumers types.Bool     `tfsdk:"all_consumers"`
	Period       types.String   `tfsdk:"period"`
	TotalCost    types.Float64  `tfsdk:"total_cost"`
	Currency     types.String   `tfsdk:"currency"`
	SessionCount types.Int64    `tfsdk:"session_count"`
	HoursUsed    types.Float64  `tfsdk:"hours_used"`
	ByCloud      types.Map      `tfsdk:"by_cloud"`
	ByGPUType    types.Map      `tfsdk:"by_gpu_type"`
	PeriodStart  types.String   `tfsdk:"period_start"`
	PeriodEnd    types.String   `tfsdk:"period_end"`
	Timeouts     timeouts.Value `tfsdk:"timeouts"`
}

// Metadata names the data source.
func (d *DataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_costs"
}

// Configure takes what the provider's configuration made.
func (d *DataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the data source.
func (d *DataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	amounts := func(by string) schema.MapAttribute {
		return schema.MapAttribute{
			Computed: true, ElementType: types.Float64Type,
			MarkdownDescription: "Total cost by " + by + ". Null for a single session." + attrs.Moves,
		}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Costs, by the shopper's accounting: in whole hours, and not from the clouds' invoices. By default those" +
			" of this provider's `consumer_id` in a period. If the shopper can't report them, the data source warns and its results are" +
			" null.",
		Attributes: map[string]schema.Attribute{
			"session_id": schema.StringAttribute{
				Optional: true,
				Validators: []validator.String{
					validate.String("must be a session's ID", shopper.ValidateID),
					stringvalidator.ConflictsWith(path.MatchRoot("consumer_id"), path.MatchRoot("period"), path.MatchRoot("all_consumers")),
				},
				MarkdownDescription: "Session whose costs to return, from its start.",
			},
			"consumer_id": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.NotEmpty()},
				MarkdownDescription: "Consumer whose sessions' costs are added up, or the mark of a single session. Default: the" +
					" provider's `consumer_id`.",
			},
			"all_consumers": schema.BoolAttribute{
				Optional: true, MarkdownDescription: "Return the costs of all consumers in the current month. Default false.",
				Validators: []validator.Bool{boolvalidator.ConflictsWith(path.MatchRoot("consumer_id"), path.MatchRoot("period"))},
			},
			"period": schema.StringAttribute{
				Optional: true,
				Validators: []validator.String{
					stringvalidator.OneOf(string(shopper.PeriodDaily), string(shopper.PeriodMonthly)),
				},
				MarkdownDescription: "`daily` (today) or `monthly` (default: the current month).",
			},
			"total_cost":    schema.Float64Attribute{Computed: true, MarkdownDescription: "Total cost." + attrs.Moves},
			"currency":      schema.StringAttribute{Computed: true, MarkdownDescription: "Currency of the costs."},
			"session_count": schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of sessions."},
			"hours_used":    schema.Float64Attribute{Computed: true, MarkdownDescription: "Hours used. Null for a single session." + attrs.Moves},
			"by_cloud":      amounts("cloud"),
			"by_gpu_type":   amounts("GPU type"),
			"period_start": schema.StringAttribute{
				Computed: true, MarkdownDescription: "When the period begins (RFC 3339, UTC). Null for a single session.",
			},
			"period_end": schema.StringAttribute{Computed: true, MarkdownDescription: "When the period ends."},
			"timeouts":   timeouts.AttributesWithOpts(ctx, timeouts.Opts{ReadDescription: "Default `2m`."}),
		},
	}
}

// Read asks for the costs.
func (d *DataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "reading costs")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || !d.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := m.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	diags, err := m.read(ctx, d.data.Client, d.data.Consumer)
	resp.Diagnostics.Append(diags...)
	if err != nil { // no error, which would stand in the way of a destroy
		resp.Diagnostics.Append(diagnostic.Warning("Could not read costs", err))
	}
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

const usd = "USD" // the service's only currency

func (m *model) read(ctx context.Context, client *shopper.Client, consumer string) (diag.Diagnostics, error) {
	m.ByCloud, m.ByGPUType = types.MapNull(types.Float64Type), types.MapNull(types.Float64Type)
	if id := m.SessionID.ValueString(); id != "" {
		cost, err := client.SessionCost(ctx, id)
		if err != nil {
			return nil, err
		}
		m.TotalCost, m.SessionCount = types.Float64Value(cost.TotalCost), types.Int64Value(1)
		m.Currency = types.StringValue(usd)
		if cost.Currency != "" {
			m.Currency = types.StringValue(cost.Currency)
		}
		return nil, nil
	}
	var sum shopper.CostSummary
	var err error
	if m.AllConsumers.ValueBool() {
		sum, err = client.CostSummary(ctx)
	} else {
		consumer = cmp.Or(m.ConsumerID.ValueString(), consumer)
		sum, err = consumerCost(ctx, client, consumer, shopper.Period(m.Period.ValueString()))
	}
	if err != nil {
		return nil, err
	}
	m.TotalCost, m.Currency = types.Float64Value(sum.TotalCost), types.StringValue(usd)
	m.SessionCount, m.HoursUsed = types.Int64Value(int64(sum.SessionCount)), types.Float64Value(sum.HoursUsed)
	m.PeriodStart, m.PeriodEnd = attrs.Moment(sum.PeriodStart), attrs.Moment(sum.PeriodEnd)
	var diags diag.Diagnostics
	m.ByCloud = amounts(ctx, sum.ByCloud, &diags)
	m.ByGPUType = amounts(ctx, sum.ByGPUType, &diags)
	return diags, nil
}

// amounts makes a map; the service leaves an empty one out.
func amounts(ctx context.Context, by map[string]float64, diags *diag.Diagnostics) types.Map {
	if by == nil {
		by = map[string]float64{}
	}
	value, d := types.MapValueFrom(ctx, types.Float64Type, by)
	diags.Append(d...)
	return value
}
