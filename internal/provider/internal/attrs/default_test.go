package attrs

import (
	"math"
	"math/big"
	"testing"
)

// A number has the digits that it is written with, in what is computed from it as well.
func TestExact(t *testing.T) {
	t.Parallel()
	value, err := Exact(0.39).ToTerraformValue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var price big.Float
	if err := value.As(&price); err != nil {
		t.Fatal(err)
	}
	hours := new(big.Float).SetPrec(512).SetInt64(24)
	if day := hours.Mul(hours, &price).Text('f', -1); day != "9.36" {
		t.Errorf("24 hours at 0.39 are %s", day)
	}
	for _, f := range []float64{0, 1, -2.5, 1e-9, 1e21, math.MaxFloat64} {
		if got := Exact(f).ValueFloat64(); got != f {
			t.Errorf("%g is %g", f, got)
		}
	}
	if !Exact(math.NaN()).IsNull() {
		t.Error("what is not a number is one")
	}
}
