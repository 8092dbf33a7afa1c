// Package costs is the data source shopper_costs: what has been spent, by the shopper's accounting.
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
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/result"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/source"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// NewDataSource returns the data source shopper_costs.
func NewDataSource() datasource.DataSource {
	return source.New(source.Config[model]{
		Name: "costs", Doing: "reading costs", Timeout: 2 * time.Minute, AsksShopper: true,
		Text: "Costs, by the shopper's accounting: in whole hours, and not from the clouds' invoices. By default those" +
			" of this provider's `consumer_id` in a period. If the shopper can't report them, the data source warns and its results are" +
			" null.",
		Attributes: attributes, Read: read,
	})
}

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

func attributes() map[string]schema.Attribute {
	amounts := func(by string) schema.MapAttribute {
		return schema.MapAttribute{
			Computed: true, ElementType: types.Float64Type,
			MarkdownDescription: "Total cost by " + by + ". Null for a single session." + attrs.Moves,
		}
	}
	return map[string]schema.Attribute{
		"session_id": argument.Text("Session whose costs to return, from its start.",
			validate.String("must be a session's ID", shopper.ValidateID),
			stringvalidator.ConflictsWith(path.MatchRoot("consumer_id"), path.MatchRoot("period"), path.MatchRoot("all_consumers"))),
		"consumer_id": argument.Text("Consumer whose sessions' costs are added up, or the mark of a single session. Default: the"+
			" provider's `consumer_id`.", validate.NotEmpty()),
		"all_consumers": argument.Flag("Return the costs of all consumers in the current month. Default `false`.",
			boolvalidator.ConflictsWith(path.MatchRoot("consumer_id"), path.MatchRoot("period"))),
		"period": argument.Text("`daily` (today) or `monthly` (default: the current month).",
			stringvalidator.OneOf(string(shopper.PeriodDaily), string(shopper.PeriodMonthly))),
		"total_cost":    result.Decimal("Total cost." + attrs.Moves),
		"currency":      result.Text("Currency of the costs."),
		"session_count": result.Number("Number of sessions."),
		"hours_used":    result.Decimal("Hours used. Null for a single session." + attrs.Moves),
		"by_cloud":      amounts("cloud"),
		"by_gpu_type":   amounts("GPU type"),
		"period_start":  result.Text("When the period begins (RFC 3339, UTC). Null for a single session."),
		"period_end":    result.Text("When the period ends."),
	}
}

func read(ctx context.Context, data *providerdata.Data, m *model, diags *diag.Diagnostics) {
	if err := m.fill(ctx, data.Client, data.Consumer, diags); err != nil { // an error would stand in the way of a destroy
		diags.Append(diagnostic.Warning("Could not read costs", err))
	}
}

const usd = "USD" // the service's only currency

func (m *model) fill(ctx context.Context, client *shopper.Client, consumer string, diags *diag.Diagnostics) error {
	m.ByCloud, m.ByGPUType = types.MapNull(types.Float64Type), types.MapNull(types.Float64Type)
	if id := m.SessionID.ValueString(); id != "" {
		cost, err := client.SessionCost(ctx, id)
		if err != nil {
			return err
		}
		m.TotalCost, m.SessionCount = attrs.Exact(cost.TotalCost), types.Int64Value(1)
		m.Currency = types.StringValue(cmp.Or(cost.Currency, usd))
		return nil
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
		return err
	}
	m.TotalCost, m.Currency = attrs.Exact(sum.TotalCost), types.StringValue(usd)
	m.SessionCount, m.HoursUsed = types.Int64Value(int64(sum.SessionCount)), attrs.Exact(sum.HoursUsed)
	m.PeriodStart, m.PeriodEnd = attrs.Moment(sum.PeriodStart), attrs.Moment(sum.PeriodEnd)
	m.ByCloud = amounts(ctx, sum.ByCloud, diags)
	m.ByGPUType = amounts(ctx, sum.ByGPUType, diags)
	return nil
}

// amounts converts costs to a map. The shopper omits an empty one.
func amounts(ctx context.Context, by map[string]float64, diags *diag.Diagnostics) types.Map {
	if by == nil {
		by = map[string]float64{}
	}
	value, d := types.MapValueFrom(ctx, types.Float64Type, by)
	diags.Append(d...)
	return value
}
