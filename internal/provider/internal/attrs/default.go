package attrs

import (
	"context"
	"math/big"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/defaults"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// DefaultDecimal is a default with exactly the value that its text has in a configuration. A float64 of 0.9, as the
// framework's own default takes it, differs from the 0.9 in a configuration and would show in every plan.
type DefaultDecimal string

var _ defaults.Float64 = DefaultDecimal("")

// Description names the default.
func (d DefaultDecimal) Description(context.Context) string { return "value defaults to " + string(d) }

// MarkdownDescription names the default.
func (d DefaultDecimal) MarkdownDescription(ctx context.Context) string { return d.Description(ctx) }

// DefaultFloat64 sets the default.
func (d DefaultDecimal) DefaultFloat64(ctx context.Context, _ defaults.Float64Request, resp *defaults.Float64Response) {
	const precision = 512 // as Terraform reads numbers (go-cty, cty.ParseNumberVal)
	number, _, err := big.ParseFloat(string(d), 10, precision, big.ToNearestEven)
	var value attr.Value
	if err == nil {
		value, err = types.Float64Type.ValueFromTerraform(ctx, tftypes.NewValue(tftypes.Number, number))
	}
	if err != nil {
		resp.Diagnostics.AddError("The provider has a defect", err.Error())
	}
	if decimal, ok := value.(types.Float64); ok { // always, unless there is an error
		resp.PlanValue = decimal
	}
}
