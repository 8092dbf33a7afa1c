// Package gpuoffers is the data source shopper_gpu_offers: what can be rented
// now, and what a session with these requirements would take.
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
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const readTimeout = 5 * time.Minute

// DataSource is shopper_gpu_offers.
type DataSource struct {
	data *providerdata.Data
}

var _ datasource.DataSourceWithConfigure = (*DataSource)(nil)

// NewDataSource returns the data source.
func NewDataSource() datasource.DataSource { return &DataSource{} }

type model struct {
	GPUTypes           types.Set      `tfsdk:"gpu_types"`
	GPUCount           types.Int64    `tfsdk:"gpu_count"`
	MinVRAMGB          types.Int64    `tfsdk:"min_vram_gb"`
	MaxPricePerHour    types.Float64  `tfsdk:"max_price_per_hour"`
	Clouds             types.Set      `tfsdk:"clouds"`
	Locations          types.Set      `tfsdk:"locations"`
	MinReliability     types.Float64  `tfsdk:"min_reliability"`
	MinCUDAVersion     types.Float64  `tfsdk:"min_cuda_version"`
	ExcludeOffers      types.Set      `tfsdk:"exclude_offers"`
	AllowInterruptible types.Bool     `tfsdk:"allow_interruptible"`
	ReservationHours   types.Int64    `tfsdk:"reservation_hours"`
	SortBy             types.String   `tfsdk:"sort_by"`
	Limit              types.Int64    `tfsdk:"limit"`
	Offers             []offerModel   `tfsdk:"offers"`
	Cheapest           *offerModel    `tfsdk:"cheapest"`
	Total              types.Int64    `tfsdk:"total"`
	Excluded           types.Map      `tfsdk:"excluded"`
	FetchedAt          types.String   `tfsdk:"fetched_at"`
	Timeouts           timeouts.Value `tfsdk:"timeouts"`
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

// Metadata names the data source.
func (d *DataSource) Metadata(_ context.Context, req datasource.MetadataRequest, resp *datasource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_gpu_offers"
}

// Configure takes what the provider's configuration made.
func (d *DataSource) Configure(_ context.Context, req datasource.ConfigureRequest, resp *datasource.ConfigureResponse) {
	d.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the data source.
func (d *DataSource) Schema(ctx context.Context, _ datasource.SchemaRequest, resp *datasource.SchemaResponse) {
	attributes := filters()
	attributes["offers"] = schema.ListNestedAttribute{
		Computed:            true,
		MarkdownDescription: "The offers that meet every filter, in the requested order.",
		NestedObject:        schema.NestedAttributeObject{Attributes: offerAttributes()},
	}
	attributes["cheapest"] = schema.SingleNestedAttribute{
		Computed: true, Attributes: offerAttributes(),
		MarkdownDescription: "The offer that a session with these requirements would rent now. Null if none fits. Sessions that are" +
			" created in parallel rent different offers.",
	}
	attributes["total"] = schema.Int64Attribute{Computed: true, MarkdownDescription: "Number of offers before filtering."}
	attributes["excluded"] = schema.MapAttribute{
		Computed: true, ElementType: types.Int64Type,
		MarkdownDescription: "How many offers each filter excludes. An offer counts for every filter that it fails.",
	}
	attributes["fetched_at"] = schema.StringAttribute{
		Computed: true,
		MarkdownDescription: "When the shopper fetched the oldest of `offers` from its cloud (RFC 3339, UTC). Null if there are none." +
			attrs.Moves,
	}
	attributes["timeouts"] = timeouts.AttributesWithOpts(ctx, timeouts.Opts{ReadDescription: "Default `5m`."})
	resp.Schema = schema.Schema{
		MarkdownDescription: "Offers that can be rented now. The filters are the `requirements` of `shopper_gpu_session` and work the" +
			" same way. The market changes, and with it every output of a result. Don't use a result as a session's `offer_id`, because every" +
			" change would replace the machine.",
		Attributes: attributes,
	}
}

func filters() map[string]schema.Attribute {
	strings := func(text string, of validator.String) schema.SetAttribute {
		return schema.SetAttribute{
			Optional: true, ElementType: types.StringType, MarkdownDescription: text,
			Validators: []validator.Set{setvalidator.ValueStringsAre(of)},
		}
	}
	return map[string]schema.Attribute{
		"gpu_types": strings("GPU types, such as `RTX 4090`. Case doesn't matter.", validate.NotEmpty()),
		"gpu_count": schema.Int64Attribute{
			Optional: true, Validators: []validator.Int64{int64validator.Between(1, 64)},
			MarkdownDescription: "Exact number of GPUs.",
		},
		"min_vram_gb": schema.Int64Attribute{
			Optional: true, Validators: []validator.Int64{int64validator.Between(1, 1024)},
			MarkdownDescription: "Minimum memory of each GPU, in GB. One GB less is accepted.",
		},
		"max_price_per_hour": schema.Float64Attribute{
			Optional: true, Validators: []validator.Float64{float64validator.AtLeast(0.0001)},
			MarkdownDescription: "Ceiling in USD per hour for the whole machine.",
		},
		"clouds":    strings("Clouds: `vastai`, `tensordock`, `bluelobster`.", validate.Cloud()),
		"locations": strings("Parts of a location's name. Case doesn't matter.", validate.NotEmpty()),
		"min_reliability": schema.Float64Attribute{
			Optional: true, Validators: []validator.Float64{float64validator.Between(0, 1)},
			MarkdownDescription: "Minimum reliability, from 0 to 1.",
		},
		"min_cuda_version": schema.Float64Attribute{
			Optional: true, Validators: []validator.Float64{float64validator.Between(0, 100)},
			MarkdownDescription: "Minimum CUDA version. Only Vast.ai reports one.",
		},
		"exclude_offers": strings("IDs of offers to exclude.", validate.NotEmpty()),
		"allow_interruptible": schema.BoolAttribute{
			Optional: true, MarkdownDescription: "Include interruptible (spot) offers. Default false.",
		},
		"reservation_hours": schema.Int64Attribute{
			Optional: true, Validators: []validator.Int64{int64validator.Between(1, shopper.MaxReservationHours)},
			MarkdownDescription: "Exclude offers that can't be rented for this many hours.",
		},
		"sort_by": schema.StringAttribute{
			Optional: true, Validators: []validator.String{stringvalidator.OneOf("price", "price_per_vram_gb", "reliability", "vram")},
			MarkdownDescription: "`price` (default; the order in which a session tries offers), `price_per_vram_gb`, `reliability`" +
				" (highest first) or `vram` (most first).",
		},
		"limit": schema.Int64Attribute{
			Optional: true, Validators: []validator.Int64{int64validator.AtLeast(1)},
			MarkdownDescription: "Maximum number of offers to return.",
		},
	}
}

func offerAttributes() map[string]schema.Attribute {
	text := func(s string) schema.StringAttribute {
		return schema.StringAttribute{Computed: true, MarkdownDescription: s}
	}
	number := func(s string) schema.Int64Attribute {
		return schema.Int64Attribute{Computed: true, MarkdownDescription: s}
	}
	decimal := func(s string) schema.Float64Attribute {
		return schema.Float64Attribute{Computed: true, MarkdownDescription: s}
	}
	return map[string]schema.Attribute{
		"id":             text("The offer's ID."),
		"cloud":          text("The cloud that makes the offer."),
		"cloud_offer_id": text("The cloud's ID for the offer."),
		"machine_id":     text("ID of the physical machine, if the cloud reports one."),
		"gpu_type":       text("Type of the GPUs."),
		"gpu_count":      number("Number of GPUs that a rental gets."),
		"vram_gb":        number("Memory of each GPU in GB, fractions truncated."),
		"price_per_hour": decimal("USD per hour for the whole machine."),
		"min_bid":        decimal("Minimum bid for an interruptible offer, in USD per hour. Null if there is none."),
		"available": schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether the shopper reports that the" +
			" offer can be rented."},
		"price_per_vram_gb":       decimal("USD per hour for each GB of GPU memory."),
		"location":                text("Where the machine is."),
		"reliability":             decimal("Reliability from 0 to 1. Null if the cloud reports none."),
		"cuda_version":            decimal("CUDA version that the driver supports. Null if the cloud reports none."),
		"max_duration_hours":      number("Maximum length of a rental. Null for no limit."),
		"availability_confidence": decimal("The shopper's confidence, from 0 to 1, that the offer can actually be rented."),
		"interruptible": schema.BoolAttribute{Computed: true, MarkdownDescription: "Whether the cloud may reclaim the machine" +
			" at any time."},
	}
}

// Read lists the offers.
func (d *DataSource) Read(ctx context.Context, req datasource.ReadRequest, resp *datasource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "listing offers")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() || !d.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := m.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	offers, err := d.data.Client.Offers(ctx, "")
	if err != nil {
		resp.Diagnostics.Append(diagnostic.NotRead("Could not list offers", err))
		return
	}
	fit, rejected := m.requirements(ctx, resp).Select(offers, int(m.ReservationHours.ValueInt64()))
	m.Total = types.Int64Value(int64(len(offers)))
	excluded, diags := types.MapValueFrom(ctx, types.Int64Type, rental.Excluded(rejected))
	resp.Diagnostics.Append(diags...)
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
	resp.Diagnostics.Append(resp.State.Set(ctx, &m)...)
}

func (m model) requirements(ctx context.Context, resp *datasource.ReadResponse) rental.Requirements {
	list := func(set types.Set) []string { return attrs.Strings(ctx, set, &resp.Diagnostics) }
	return rental.Requirements{
		GPUTypes:           list(m.GPUTypes),
		GPUCount:           int(m.GPUCount.ValueInt64()),
		MinVRAMGB:          int(m.MinVRAMGB.ValueInt64()),
		MaxPricePerHour:    m.MaxPricePerHour.ValueFloat64(),
		Clouds:             list(m.Clouds),
		Locations:          list(m.Locations),
		MinReliability:     m.MinReliability.ValueFloat64(),
		MinCUDAVersion:     m.MinCUDAVersion.ValueFloat64(),
		ExcludeOffers:      list(m.ExcludeOffers),
		AllowInterruptible: m.AllowInterruptible.ValueBool(),
	}
}

// order sorts offers that are in the order of their price.
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

// perGB is the price for each GB of GPU memory; an offer that tells none is last.
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
		PricePerHour:           types.Float64Value(o.PricePerHour),
		Location:               attrs.Text(o.Location),
		Reliability:            attrs.Decimal(o.Reliability),
		CUDAVersion:            attrs.Decimal(o.CUDAVersion),
		AvailabilityConfidence: types.Float64Value(o.AvailabilityConfidence),
		Interruptible:          types.BoolValue(o.Interruptible),
		MinBid:                 attrs.Decimal(o.MinBid),
		Available:              types.BoolValue(o.Available),
	}
	if price := perGB(o); !math.IsInf(price, 0) {
		m.PricePerVRAMGB = types.Float64Value(price)
	}
	if o.MaxDurationHours > 0 {
		m.MaxDurationHours = types.Int64Value(int64(o.MaxDurationHours))
	}
	return m
}
