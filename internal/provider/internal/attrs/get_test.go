package attrs

import (
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

type some struct {
	Text   types.String  `tfsdk:"text"`
	Number types.Float64 `tfsdk:"number"`
	On     types.Bool    `tfsdk:"on"`
	Set    types.Set     `tfsdk:"set"`
	Nested types.Object  `tfsdk:"nested"`
}

var someSchema = schema.Schema{Attributes: map[string]schema.Attribute{
	"text":   schema.StringAttribute{Optional: true},
	"number": schema.Float64Attribute{Optional: true},
	"on":     schema.BoolAttribute{Optional: true},
	"set":    schema.SetAttribute{Optional: true, ElementType: types.StringType},
	"nested": schema.SingleNestedAttribute{Optional: true, Attributes: map[string]schema.Attribute{
		"count": schema.Int64Attribute{Optional: true},
	}},
}}

// Get reads what the framework reads.
func TestGet(t *testing.T) {
	t.Parallel()
	whole := someSchema.Type().TerraformType(t.Context())
	set, nested := tftypes.Set{ElementType: tftypes.String}, tftypes.Object{AttributeTypes: map[string]tftypes.Type{"count": tftypes.Number}}
	price, _, err := big.ParseFloat("0.39", 10, 512, big.ToNearestEven)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]any{
		"text": "a", "number": price, "on": true, "set": []tftypes.Value{tftypes.NewValue(tftypes.String, "b")},
		"nested": map[string]tftypes.Value{"count": tftypes.NewValue(tftypes.Number, 3)},
	}
	for name, content := range map[string]func(string) any{
		"known":   func(name string) any { return known[name] },
		"null":    func(string) any { return nil },
		"unknown": func(string) any { return tftypes.UnknownValue },
	} {
		fields := map[string]tftypes.Value{}
		for name, typ := range map[string]tftypes.Type{
			"text": tftypes.String, "number": tftypes.Number, "on": tftypes.Bool, "set": set, "nested": nested,
		} {
			fields[name] = tftypes.NewValue(typ, content(name))
		}
		state := tfsdk.State{Schema: someSchema, Raw: tftypes.NewValue(whole, fields)}
		var got, want some
		if diags := state.Get(t.Context(), &want); diags.HasError() {
			t.Fatal(diags)
		}
		if diags := Get(t.Context(), state.Raw, state.Schema, &got); diags.HasError() {
			t.Fatal(diags)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// A model that doesn't match, and a missing object, are errors.
func TestGetRefuses(t *testing.T) {
	t.Parallel()
	fits := tftypes.NewValue(someSchema.Type().TerraformType(t.Context()), map[string]tftypes.Value{
		"text": tftypes.NewValue(tftypes.String, nil), "number": tftypes.NewValue(tftypes.Number, nil), "on": tftypes.NewValue(tftypes.Bool, nil),
		"set":    tftypes.NewValue(tftypes.Set{ElementType: tftypes.String}, nil),
		"nested": tftypes.NewValue(tftypes.Object{AttributeTypes: map[string]tftypes.Type{"count": tftypes.Number}}, nil),
	})
	for name, test := range map[string]struct {
		raw   tftypes.Value
		model any
	}{
		"null":      {tftypes.NewValue(fits.Type(), nil), new(some)},
		"unknown":   {tftypes.NewValue(fits.Type(), tftypes.UnknownValue), new(some)},
		"no object": {tftypes.NewValue(tftypes.String, "a"), new(some)},
		"too few": {fits, new(struct {
			Text types.String `tfsdk:"text"`
		})},
		"another name": {fits, new(struct {
			Text   types.String  `tfsdk:"word"`
			Number types.Float64 `tfsdk:"number"`
			On     types.Bool    `tfsdk:"on"`
			Set    types.Set     `tfsdk:"set"`
			Nested types.Object  `tfsdk:"nested"`
		})},
		"another type": {fits, new(struct {
			Text   types.Bool    `tfsdk:"text"`
			Number types.Float64 `tfsdk:"number"`
			On     types.Bool    `tfsdk:"on"`
			Set    types.Set     `tfsdk:"set"`
			Nested types.Object  `tfsdk:"nested"`
		})},
	} {
		if diags := Get(t.Context(), test.raw, someSchema, test.model); !diags.HasError() {
			t.Errorf("%s: no error", name)
		}
	}
}
