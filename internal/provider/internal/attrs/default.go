package attrs

import (
	"context"
	"math/big"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema/defaults"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// DefaultDecimal is a default that is the same number as its text in a configuration, which no float64 is: the framework's own
// default of 0.9 would differ from the 0.9 that state brings back, in every plan.
type DefaultDecimal string

var _ defaults.Float64 = DefaultDecimal("")

// Description tells the default.
func (d DefaultDecimal) Description(context.Context) string { return "value defaults to " + string(d) }

// MarkdownDescription tells the default.
func (d DefaultDecimal) MarkdownDescription(ctx context.Context) string { return d.Description(ctx) }

// DefaultFloat64 sets the default.
func (d DefaultDecimal) DefaultFloat64(ctx context.Context, _ defaults.Float64Request, resp *defaults.Float64Response) {
	const precision = 512 // as Terraform reads numbers (go-cty, cty.ParseNumberVal)
	number, _, err := big.ParseFloat(string(d), 10, precision, big.ToNearestEven)
	if err != nil {
		resp.Diagnostics.AddError("The provider has a defect", err.Error())
		return
	}
	value, err := types.Float64Type.ValueFromTerraform(ctx, tftypes.NewValue(tftypes.Number, number))
	if err != nil {
		resp.Diagnostics.AddError("The provider has a defect", err.Error())
		return
	}
	if decimal, ok := value.(types.Float64); ok { // always: what the type makes
		resp.PlanValue = decimal
	}
}
