// Package attrs converts plain values to attribute values and back.
package attrs

import (
	"context"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"
)

// Moves ends the description of a value that is measured with every read.
const Moves = " Changes with every read, so an output of it changes in every plan."

// Text is null for "", which the shopper and vLLM send for no value.
func Text(s string) types.String {
	if s == "" {
		return types.StringNull()
	}
	return types.StringValue(s)
}

// Number is null for 0.
func Number(n int) types.Int64 {
	if n == 0 {
		return types.Int64Null()
	}
	return types.Int64Value(int64(n))
}

// Decimal is null for 0.
func Decimal(f float64) types.Float64 {
	if f == 0 {
		return types.Float64Null()
	}
	return Exact(f)
}

// Moment is a time in RFC 3339 and UTC, null for the zero time.
func Moment(t time.Time) types.String {
	if t.IsZero() {
		return types.StringNull()
	}
	return types.StringValue(t.UTC().Format(time.RFC3339))
}

// Object converts an object to a struct, the zero value for one that is null or unknown.
func Object[T any](ctx context.Context, object types.Object, diags *diag.Diagnostics) T {
	var value T
	if !object.IsNull() && !object.IsUnknown() {
		diags.Append(object.As(ctx, &value, basetypes.ObjectAsOptions{})...)
	}
	return value
}

// Strings are the known elements of a set, nil for a set that is null or unknown.
func Strings(ctx context.Context, set types.Set, diags *diag.Diagnostics) []string {
	if set.IsNull() || set.IsUnknown() {
		return nil
	}
	var all []types.String
	diags.Append(set.ElementsAs(ctx, &all, false)...)
	known := make([]string, 0, len(all))
	for _, s := range all {
		if !s.IsUnknown() {
			known = append(known, s.ValueString())
		}
	}
	return known
}
