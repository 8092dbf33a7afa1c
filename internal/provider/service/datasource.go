// Package service is the data source shopper_service: how the shopper itself is.
package service

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"golang.org/x/sync/errgroup"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const readTimeout = time.Minute

// DataSource is shopper_service.
type DataSource struct {
	data *providerdata.Data
}

var _ datasource.DataSourceWithConfigure = (*DataSource)(nil)

// NewDataSource returns the data source.
func NewDataSource() datasource.DataSource { return &DataSource{} }

type model struct {
	URL             types.String   `tfsdk:"url"`
	Reachable       types.Bool     `tfsdk:"reachable"`
	Healthy         types.Bool     `tfsdk:"healthy"`
	Ready           types.Bool     `tfsdk:"ready"`
	Problem         types.String   `tfsdk:"problem"`
	Message         types.String   `tfsdk:"message"`
	Services        types.Map      `tfsdk:"services"`
	FailingOffers   []offerModel   `tfsdk:"failing_offers"`
	FailingGPUTypes []gpuTypeModel `tfsdk:"failing_gpu_types"`
	Timeouts        timeouts.Value `tfsdk:"timeouts"`
}

type offerModel struct {
	OfferID              types.String  `tfsdk:"offer_id"`
	Cloud                types.String  `tfsdk:"cloud"`
	GPUType              types.String  `tfsdk:"gpu_type"`
	RecentFailures       types.Int64   `tfsdk:"recent_failures"`
	Suppressed           types.Bool    `tfsdk:"suppressed"`
	SuppressedUntil      types.String  `tfsdk:"suppressed_until"`
	ConfidenceMultiplier types.Float64 `tfsdk:"confidence_multiplier"`
	LastFailure          types.String  `tfsdk:"last_failure"`
	LastFailureType      types.String  `tfsdk:"last_failure_type"`
	LastFailureReason    types.String  `tfsdk:"last_failure_reason"`
}

type gpuTypeModel struct {
	Cloud              types.String  `tfsdk:"cloud"`
	GPUType            types.String  `tfsdk:"gpu_type"`
	FailedOffers       types.Int64   `tfsdk:"failed_offers"`
	Degraded           types.Bool    `tfsdk:"degraded"`
	DegradationApplied types.Float64 `tfsdk:"degradation_applied"`
}

// Metadata names the data source.
func (d *DataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_service"
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
	decimal := func(s string) schema.Float64Attribute {
		return schema.Float64Attribute{Computed: true, MarkdownDescription: s}
	}
	number := func(s string) schema.Int64Attribute {
		return schema.Int64Attribute{Computed: true, MarkdownDescription: s}
	}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Health of the shopper: whether it answers, is healthy and ready, and which offers have been failing. A" +
			" shopper that is unhealthy, unreachable or refuses the credentials is a value and not an error.",
		Attributes: map[string]schema.Attribute{
			"url":       text("The shopper's address."),
			"reachable": flag("Whether the shopper answered."),
			"healthy":   flag("Whether the shopper reports itself as healthy."),
			"ready": flag("Whether the shopper has finished starting. Until then it looks for machines left over from its earlier run." +
				" Null if it doesn't report that."),
			"problem": text("Kind of problem, null for none: " + diagnostic.ProblemText),
			"message": text("Explanation for people."),
			"services": schema.MapAttribute{
				Computed: true, ElementType: types.StringType, MarkdownDescription: "Status of each component, by name.",
			},
			"failing_offers": schema.ListNestedAttribute{
				Computed: true, MarkdownDescription: "Offers that have failed recently. Null if the shopper doesn't report them.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"offer_id": text("The offer's ID."), "cloud": text("The offer's cloud."), "gpu_type": text("The offer's GPU type."),
					"recent_failures":       number("Number of recent failures."),
					"suppressed":            flag("Whether the shopper hides the offer from its list."),
					"suppressed_until":      text("When the shopper shows it again (RFC 3339, UTC)."),
					"confidence_multiplier": decimal("Factor that is applied to the offer's `availability_confidence`."),
					"last_failure":          text("When the offer last failed (RFC 3339, UTC)."),
					"last_failure_type":     text("Kind of the last failure, as the shopper reports it."),
					"last_failure_reason":   text("Reason for the last failure."),
				}},
			},
			"failing_gpu_types": schema.ListNestedAttribute{
				Computed: true, MarkdownDescription: "GPU types of a cloud whose offers have failed recently. Null if the shopper doesn't report them.",
				NestedObject: schema.NestedAttributeObject{Attributes: map[string]schema.Attribute{
					"cloud":               text("The cloud."),
					"gpu_type":            text("The GPU type."),
					"failed_offers":       number("Number of failing offers of this type."),
					"degraded":            flag("Whether the shopper lowers its confidence in all offers of this type."),
					"degradation_applied": decimal("How much the confidence is lowered."),
				}},
			},
			"timeouts": timeouts.AttributesWithOpts(ctx, timeouts.Opts{ReadDescription: "Default `1m`."}),
		},
	}
}

// seen is what the three questions found.
type seen struct {
	health                        shopper.Health
	ready                         shopper.Readiness
	failures                      shopper.FailureReport
	healthErr, readyErr, failsErr error
}

// Read asks the shopper.
func (d *DataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "checking the shopper's health")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || !d.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := m.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s := ask(limited, d.data.Client)
	if err := ctx.Err(); err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not reach the shopper", err))
		return
	}
	m.URL = types.StringValue(d.data.Client.URL())
	m.fill(s)
	services, diags := types.MapValueFrom(ctx, types.StringType, s.health.Services)
	resp.Diagnostics.Append(diags...)
	m.Services = services
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

// ask asks everything at the same time; one part's failure is not another's.
func ask(ctx context.Context, client *shopper.Client) seen {
	var s seen
	var group errgroup.Group
	group.Go(func() error { s.health, s.healthErr = client.Health(ctx); return nil })
	group.Go(func() error { s.ready, s.readyErr = client.Ready(ctx); return nil })
	group.Go(func() error { s.failures, s.failsErr = client.OfferHealth(ctx); return nil })
	_ = group.Wait() // the errors are in s
	return s
}

func (m *model) fill(s seen) {
	m.Reachable = types.BoolValue(s.healthErr == nil || answered(s.healthErr))
	m.Healthy = types.BoolValue(s.healthErr == nil && s.health.Status == "ok")
	m.Message = types.StringValue("The shopper is ready.")
	switch {
	case s.healthErr != nil:
		m.Problem, m.Message = types.StringValue(diagnostic.Problem(s.healthErr)), types.StringValue(s.healthErr.Error())
	case s.readyErr == nil && !s.ready.Ready:
		m.Problem, m.Message = types.StringValue(diagnostic.Unhealthy), types.StringValue("The shopper is starting up.")
	case !m.Healthy.ValueBool():
		m.Problem = types.StringValue(diagnostic.Unhealthy)
		m.Message = types.StringValue("The shopper reports its status as " + s.health.Status + ".")
	}
	if missing := errors.Join(s.readyErr, s.failsErr); missing != nil && s.healthErr == nil {
		m.Message = types.StringValue(m.Message.ValueString() + " Some values are unknown: " + missing.Error())
	}
	if s.readyErr == nil {
		m.Ready = types.BoolValue(s.ready.Ready)
	}
	if s.failsErr != nil {
		return
	}
	m.FailingOffers, m.FailingGPUTypes = []offerModel{}, []gpuTypeModel{}
	for _, o := range s.failures.Offers {
		m.FailingOffers = append(m.FailingOffers, offerModel{
			OfferID: types.StringValue(o.OfferID), Cloud: attrs.Text(o.Cloud), GPUType: attrs.Text(o.GPUType),
			RecentFailures: types.Int64Value(int64(o.RecentFailures)), Suppressed: types.BoolValue(o.Suppressed),
			SuppressedUntil:      attrs.Moment(*cmp.Or(o.SuppressedUntil, new(time.Time))),
			ConfidenceMultiplier: types.Float64Value(o.ConfidenceMultiplier),
			LastFailure:          attrs.Moment(*cmp.Or(o.LastFailure, new(time.Time))),
			LastFailureType:      attrs.Text(o.LastFailureType), LastFailureReason: attrs.Text(o.LastFailureReason),
		})
	}
	for _, g := range s.failures.GPUTypes {
		cloud, gpuType, _ := strings.Cut(g.Key, ":")
		m.FailingGPUTypes = append(m.FailingGPUTypes, gpuTypeModel{
			Cloud: attrs.Text(cloud), GPUType: attrs.Text(gpuType), FailedOffers: types.Int64Value(int64(g.FailedOfferCount)),
			Degraded: types.BoolValue(g.Degraded), DegradationApplied: types.Float64Value(g.DegradationApplied),
		})
	}
}

// answered reports that something answered, if not what was hoped for.
func answered(err error) bool {
	answer, ok := errors.AsType[*shopper.Error](err)
	return ok && answer.Status != 0
}
