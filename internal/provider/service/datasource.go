// Package service is the data source shopper_service: the health of the shopper.
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
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"golang.org/x/sync/errgroup"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/result"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/source"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// NewDataSource returns the data source shopper_service.
func NewDataSource() datasource.DataSource {
	return source.New(source.Config[model]{
		Name: "service", Doing: "checking the shopper's health", Timeout: time.Minute, AsksShopper: true,
		Text: "Health of the shopper: whether it answers, is healthy and ready, and which offers have been failing. A" +
			" shopper that is unhealthy, unreachable or refuses the credentials is a value and not an error.",
		Attributes: attributes, Read: read,
	})
}

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

func attributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"url":       result.Text("The shopper's address."),
		"reachable": result.Flag("Whether the shopper answered."),
		"healthy":   result.Flag("Whether the shopper reports itself as healthy."),
		"ready": result.Flag("Whether the shopper has finished starting. Until then it looks for machines left over from its earlier run." +
			" Null if it doesn't report that."),
		"problem": result.Text("Kind of problem, null for none: " + diagnostic.ProblemText),
		"message": result.Text("Explanation for people."),
		"services": schema.MapAttribute{
			Computed: true, ElementType: types.StringType, MarkdownDescription: "Status of each component, by name.",
		},
		"failing_offers": result.List("Offers that have failed recently. Null if the shopper doesn't report them.",
			map[string]schema.Attribute{
				"offer_id":              result.Text("The offer's ID."),
				"cloud":                 result.Text("The offer's cloud."),
				"gpu_type":              result.Text("The offer's GPU type."),
				"recent_failures":       result.Number("Number of recent failures."),
				"suppressed":            result.Flag("Whether the shopper hides the offer from its list."),
				"suppressed_until":      result.Text("When the shopper shows it again (RFC 3339, UTC)."),
				"confidence_multiplier": result.Decimal("Factor that is applied to the offer's `availability_confidence`."),
				"last_failure":          result.Text("When the offer last failed (RFC 3339, UTC)."),
				"last_failure_type":     result.Text("Kind of the last failure, as the shopper reports it."),
				"last_failure_reason":   result.Text("Reason for the last failure."),
			}),
		"failing_gpu_types": result.List("GPU types of a cloud whose offers have failed recently. Null if the shopper doesn't report them.",
			map[string]schema.Attribute{
				"cloud":               result.Text("The cloud."),
				"gpu_type":            result.Text("The GPU type."),
				"failed_offers":       result.Number("Number of failing offers of this type."),
				"degraded":            result.Flag("Whether the shopper lowers its confidence in all offers of this type."),
				"degradation_applied": result.Decimal("How much the confidence is lowered."),
			}),
	}
}

// answers are the shopper's three reports, each with the error that stands in its place.
type answers struct {
	health                        shopper.Health
	ready                         bool
	failures                      shopper.FailureReport
	healthErr, readyErr, failsErr error
}

func read(ctx context.Context, data *providerdata.Data, m *model, diags *diag.Diagnostics) {
	var a answers
	var group errgroup.Group
	group.Go(func() error { a.health, a.healthErr = data.Client.Health(ctx); return nil })
	group.Go(func() error { a.ready, a.readyErr = data.Client.Ready(ctx); return nil })
	group.Go(func() error { a.failures, a.failsErr = data.Client.OfferHealth(ctx); return nil })
	_ = group.Wait() // the errors are in a
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		diags.Append(diagnostic.Error("Could not reach the shopper", err))
		return
	}
	m.URL = types.StringValue(data.Client.URL())
	m.fill(a)
	services, d := types.MapValueFrom(ctx, types.StringType, a.health.Services)
	diags.Append(d...)
	m.Services = services
}

func (m *model) fill(a answers) {
	m.Reachable = types.BoolValue(a.healthErr == nil || answered(a.healthErr))
	m.Healthy = types.BoolValue(a.healthErr == nil && a.health.Status == "ok")
	m.Message = types.StringValue("The shopper is ready.")
	switch {
	case a.healthErr != nil:
		m.Problem, m.Message = types.StringValue(diagnostic.Problem(a.healthErr)), types.StringValue(a.healthErr.Error())
	case a.readyErr == nil && !a.ready:
		m.Problem, m.Message = types.StringValue(diagnostic.Unhealthy), types.StringValue("The shopper is starting up.")
	case !m.Healthy.ValueBool():
		m.Problem = types.StringValue(diagnostic.Unhealthy)
		m.Message = types.StringValue("The shopper reports its status as " + a.health.Status + ".")
	}
	if missing := errors.Join(a.readyErr, a.failsErr); missing != nil && a.healthErr == nil {
		m.Message = types.StringValue(m.Message.ValueString() + " Some values are unknown: " + missing.Error())
	}
	if a.readyErr == nil {
		m.Ready = types.BoolValue(a.ready)
	}
	if a.failsErr != nil {
		return
	}
	m.FailingOffers, m.FailingGPUTypes = []offerModel{}, []gpuTypeModel{}
	for _, o := range a.failures.Offers {
		m.FailingOffers = append(m.FailingOffers, offerModel{
			OfferID: types.StringValue(o.OfferID), Cloud: attrs.Text(o.Cloud), GPUType: attrs.Text(o.GPUType),
			RecentFailures: types.Int64Value(int64(o.RecentFailures)), Suppressed: types.BoolValue(o.Suppressed),
			SuppressedUntil:      attrs.Moment(*cmp.Or(o.SuppressedUntil, new(time.Time))),
			ConfidenceMultiplier: attrs.Exact(o.ConfidenceMultiplier),
			LastFailure:          attrs.Moment(*cmp.Or(o.LastFailure, new(time.Time))),
			LastFailureType:      attrs.Text(o.LastFailureType), LastFailureReason: attrs.Text(o.LastFailureReason),
		})
	}
	for _, g := range a.failures.GPUTypes {
		cloud, gpuType, _ := strings.Cut(g.Key, ":")
		m.FailingGPUTypes = append(m.FailingGPUTypes, gpuTypeModel{
			Cloud: attrs.Text(cloud), GPUType: attrs.Text(gpuType), FailedOffers: types.Int64Value(int64(g.FailedOfferCount)),
			Degraded: types.BoolValue(g.Degraded), DegradationApplied: attrs.Exact(g.DegradationApplied),
		})
	}
}

// answered reports whether an error is an HTTP answer.
func answered(err error) bool {
	answer, ok := errors.AsType[*shopper.Error](err)
	return ok && answer.Status != 0
}
