// Package gpuoffers is the data source shopper_gpu_offers: the offers that can be rented now, and the one that a session
// with the same requirements would rent.
package gpuoffers

import (
	"cmp"
	"context"
	"math"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/datasource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/float64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/needs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/result"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/source"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// NewDataSource returns the data source shopper_gpu_offers.
func NewDataSource() datasource.DataSource {
	return source.New(source.Config[model]{
		Name: "gpu_offers", Doing: "listing offers", Timeout: 5 * time.Minute, AsksShopper: true,
		Text: "Offers that can be rented now. The filters are the `requirements` of `shopper_gpu_session` and work the" +
			" same way. The market changes, and with it every output of a result. Don't use a result as a session's `offer_id`, because" +
			" every change would replace the machine.",
		Attributes: attributes, Read: read,
	})
}

type model struct {
	needs.Model

	ReservationHours types.Int64    `tfsdk:"reservation_hours"`
	SortBy           types.String   `tfsdk:"sort_by"`
	Limit            types.Int64    `tfsdk:"limit"`
	Offers           []offerModel   `tfsdk:"offers"`
	Cheapest         *offerModel    `tfsdk:"cheapest"`
	Total            types.Int64    `tfsdk:"total"`
	Excluded         types.Map      `tfsdk:"excluded"`
	FetchedAt        types.String   `tfsdk:"fetched_at"`
	Timeouts         timeouts.Value `tfsdk:"timeouts"`
}

type offerModel struct {
	ID                     types.String  `tfsdk:"id"`
	Cloud                  types.String  `tfsdk:"cloud"`
	CloudOfferID           types.String  `tfsdk:"cloud_offer_id"`
	MachineID              types.String  `tfsdk:"machine_id"`
	GPUType                types.String  `tfsdk:"gpu_type"`
	GPUCount               types.Int64   `tfsdk:"gpu_count"`
	VRAMGB                 types.Int64   `tfsdk:"vram_gb"`
	PricePerHour           types.Float64 `tfsdk:"price_per_hour"`
	PricePerVRAMGB         types.Float64 `tfsdk:"price_per_vram_gb"`
	Location               types.String  `tfsdk:"location"`
	Reliability            types.Float64 `tfsdk:"reliability"`
	CUDAVersion            types.Float64 `tfsdk:"cuda_version"`
	MaxDurationHours       types.Int64   `tfsdk:"max_duration_hours"`
	AvailabilityConfidence types.Float64 `tfsdk:"availability_confidence"`
	Interruptible          types.Bool    `tfsdk:"interruptible"`
	MinBid                 types.Float64 `tfsdk:"min_bid"`
	Available              types.Bool    `tfsdk:"available"`
}

func attributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"gpu_types":          argument.Texts("GPU types, such as `RTX 4090`. Case doesn't matter.", validate.NotEmpty()),
		"gpu_count":          argument.Number("Exact number of GPUs.", int64validator.Between(1, 64)),
		"min_vram_gb":        argument.Number("Minimum memory of each GPU, in GB. One GB less is accepted.", int64validator.Between(1, 1024)),
		"max_price_per_hour": argument.Decimal("Ceiling in USD per hour for the whole machine.", float64validator.AtLeast(0.0001)),
		"clouds":             argument.Texts("Clouds: `vastai`, `tensordock`, `bluelobster`.", validate.Cloud()),
		"locations":          argument.Texts("Parts of a location's name. Case doesn't matter.", validate.NotEmpty()),
		"min_reliability":    argument.Decimal("Minimum reliability, from 0 to 1.", float64validator.Between(0, 1)),
		"min_cuda_version": argument.Decimal("Minimum CUDA version. Only Vast.ai reports one.",
			float64validator.Between(0, 100)),
		"exclude_offers":      argument.Texts("IDs of offers to exclude.", validate.NotEmpty()),
		"allow_interruptible": argument.Flag("Include interruptible (spot) offers. Default `false`."),
		"reservation_hours": argument.Number("Exclude offers that can't be rented for this many hours.",
			int64validator.Between(1, shopper.MaxReservationHours)),
		"sort_by": argument.Text("`price` (default; the order in which a session tries offers), `price_per_vram_gb`, `reliability`"+
			" (highest first) or `vram` (most first).", stringvalidator.OneOf("price", "price_per_vram_gb", "reliability", "vram")),
		"limit": argument.Number("Maximum number of offers to return.", int64validator.AtLeast(1)),

		"offers": result.List("The offers that meet every filter, in the requested order.", offerAttributes()),
		"cheapest": result.Object("The offer that a session with these requirements would rent now. Null if none fits. Sessions that"+
			" are created in parallel rent different offers.", offerAttributes()),
		"total": result.Number("Number of offers before filtering."),
		"excluded": schema.MapAttribute{
			Computed: true, ElementType: types.Int64Type,
			MarkdownDescription: "How many offers each filter excludes. An offer counts for every filter that it fails.",
		},
		"fetched_at": result.Text("When the shopper fetched the oldest of `offers` from its cloud (RFC 3339, UTC). Null if there are" +
			" none." + attrs.Moves),
	}
}

func offerAttributes() map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"id":                      result.Text("The offer's ID."),
		"cloud":                   result.Text("The cloud that makes the offer."),
		"cloud_offer_id":          result.Text("The cloud's ID for the offer."),
		"machine_id":              result.Text("ID of the physical machine, if the cloud reports one."),
		"gpu_type":                result.Text("Type of the GPUs."),
		"gpu_count":               result.Number("Number of GPUs that a rental gets."),
		"vram_gb":                 result.Number("Memory of each GPU in GB, fractions truncated."),
		"price_per_hour":          result.Decimal("USD per hour for the whole machine."),
		"min_bid":                 result.Decimal("Minimum bid for an interruptible offer, in USD per hour. Null if there is none."),
		"available":               result.Flag("Whether the shopper reports that the offer can be rented."),
		"price_per_vram_gb":       result.Decimal("USD per hour for each GB of GPU memory."),
		"location":                result.Text("Where the machine is."),
		"reliability":             result.Decimal("Reliability from 0 to 1. Null if the cloud reports none."),
		"cuda_version":            result.Decimal("CUDA version that the driver supports. Null if the cloud reports none."),
		"max_duration_hours":      result.Number("Maximum length of a rental. Null for no limit."),
		"availability_confidence": result.Decimal("The shopper's confidence, from 0 to 1, that the offer can actually be rented."),
		"interruptible":           result.Flag("Whether the cloud may reclaim the machine at any time."),
	}
}

func read(ctx context.Context, data *providerdata.Data, m *model, diags *diag.Diagnostics) {
	offers, err := data.Client.Offers(ctx, "")
	if err != nil {
		diags.Append(diagnostic.NotRead("Could not list offers", err))
		return
	}
	fit, rejected := m.Requirements(ctx, diags).Select(offers, int(m.ReservationHours.ValueInt64()))
	m.Total = types.Int64Value(int64(len(offers)))
	excluded, d := types.MapValueFrom(ctx, types.Int64Type, rental.Excluded(rejected))
	diags.Append(d...)
	m.Excluded = excluded
	if len(fit) > 0 {
		cheapest := toModel(fit[0])
		m.Cheapest = &cheapest
	}
	order(fit, m.SortBy.ValueString())
	if limit := int(m.Limit.ValueInt64()); limit > 0 && limit < len(fit) {
		fit = fit[:limit]
	}
	m.Offers = make([]offerModel, 0, len(fit))
	var oldest time.Time
	for _, offer := range fit {
		m.Offers = append(m.Offers, toModel(offer))
		if oldest.IsZero() || offer.FetchedAt.Before(oldest) {
			oldest = offer.FetchedAt
		}
	}
	m.FetchedAt = attrs.Moment(oldest)
}

// order sorts offers, which are sorted by price already.
func order(offers []shopper.Offer, by string) {
	switch by {
	case "price_per_vram_gb":
		slices.SortStableFunc(offers, func(a, b shopper.Offer) int { return cmp.Compare(perGB(a), perGB(b)) })
	case "reliability":
		slices.SortStableFunc(offers, func(a, b shopper.Offer) int { return cmp.Compare(b.Reliability, a.Reliability) })
	case "vram":
		slices.SortStableFunc(offers, func(a, b shopper.Offer) int { return totalVRAM(b) - totalVRAM(a) })
	}
}

func totalVRAM(o shopper.Offer) int { return rental.GPUs(o.Cloud, o.GPUCount) * o.VRAMGB }

// perGB is the price for each GB of GPU memory, infinite for an offer without a size, which sorts last.
func perGB(o shopper.Offer) float64 {
	if totalVRAM(o) == 0 {
		return math.Inf(1)
	}
	return o.PricePerHour / float64(totalVRAM(o))
}

func toModel(o shopper.Offer) offerModel {
	m := offerModel{
		ID:                     types.StringValue(o.ID),
		Cloud:                  types.StringValue(o.Cloud),
		CloudOfferID:           attrs.Text(o.CloudID),
		MachineID:              attrs.Text(o.MachineID),
		GPUType:                types.StringValue(o.GPUType),
		GPUCount:               types.Int64Value(int64(rental.GPUs(o.Cloud, o.GPUCount))),
		VRAMGB:                 types.Int64Value(int64(o.VRAMGB)),
		PricePerHour:           attrs.Exact(o.PricePerHour),
		MaxDurationHours:       attrs.Number(max(o.MaxDurationHours, 0)),
		Location:               attrs.Text(o.Location),
		Reliability:            attrs.Decimal(o.Reliability),
		CUDAVersion:            attrs.Decimal(o.CUDAVersion),
		AvailabilityConfidence: attrs.Exact(o.AvailabilityConfidence),
		Interruptible:          types.BoolValue(o.Interruptible),
		MinBid:                 attrs.Decimal(o.MinBid),
		Available:              types.BoolValue(o.Available),
	}
	if price := perGB(o); !math.IsInf(price, 0) {
		m.PricePerVRAMGB = attrs.Exact(price)
	}
	return m
}
