// Package needs holds what a machine must provide, as a session's requirements and the filters of offers have it.
package needs

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
)

// Model has an attribute for each requirement.
type Model struct {
	GPUTypes           types.Set     `tfsdk:"gpu_types"`
	GPUCount           types.Int64   `tfsdk:"gpu_count"`
	MinVRAMGB          types.Int64   `tfsdk:"min_vram_gb"`
	MaxPricePerHour    types.Float64 `tfsdk:"max_price_per_hour"`
	Clouds             types.Set     `tfsdk:"clouds"`
	Locations          types.Set     `tfsdk:"locations"`
	MinReliability     types.Float64 `tfsdk:"min_reliability"`
	MinCUDAVersion     types.Float64 `tfsdk:"min_cuda_version"`
	ExcludeOffers      types.Set     `tfsdk:"exclude_offers"`
	AllowInterruptible types.Bool    `tfsdk:"allow_interruptible"`
}

// Requirements converts the attributes. Null and unknown ones require nothing.
func (m Model) Requirements(ctx context.Context, diags *diag.Diagnostics) rental.Requirements {
	list := func(set types.Set) []string { return attrs.Strings(ctx, set, diags) }
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
