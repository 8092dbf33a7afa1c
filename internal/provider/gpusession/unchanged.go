package gpusession

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// readKey is the context's key for what WithRead adds.
type readKey struct{}

// WithRead returns a context in which Read answers with resp instead of asking the service again.
func WithRead(ctx context.Context, resp resource.ReadResponse) context.Context {
	return context.WithValue(ctx, readKey{}, resp)
}

// Keeps reports whether the plan for a session is its state, where that is what Terraform proposes: arguments that the
// configuration leaves out have their defaults, and ModifyPlan changes and reports nothing.
func (r *Resource) Keeps(ctx context.Context, of schema.Schema, config, state tftypes.Value) bool {
	var written, kept model
	diags := attrs.Get(ctx, config, of, &written)
	diags.Append(attrs.Get(ctx, state, of, &kept)...)
	if diags.HasError() || !config.IsFullyKnown() || !kept.hasDefaults(written) {
		return false
	}
	plan := tfsdk.Plan{Schema: of, Raw: state}
	resp := resource.ModifyPlanResponse{Plan: plan}
	r.ModifyPlan(ctx, resource.ModifyPlanRequest{Plan: plan, State: tfsdk.State(plan)}, &resp)
	return len(resp.Diagnostics) == 0 && len(resp.RequiresReplace) == 0 && resp.Plan.Raw.Equal(state)
}

// hasDefaults reports whether the arguments that config leaves out have their defaults.
func (m model) hasDefaults(config model) bool {
	for _, a := range []struct{ config, value, standard attr.Value }{
		{config.MaxAttempts, m.MaxAttempts, types.Int64Value(rental.DefaultAttempts)},
		{config.WorkloadType, m.WorkloadType, types.StringValue(string(shopper.WorkloadLLMVLLM))},
		{config.OnConflict, m.OnConflict, types.StringValue(conflictError)},
		{config.RetainPrivateKey, m.RetainPrivateKey, types.BoolValue(true)},
	} {
		if a.config.IsNull() && !a.value.Equal(a.standard) {
			return false
		}
	}
	// The default within requirements counts where there are some.
	const within = "allow_interruptible"
	written := !config.Requirements.IsNull() && !config.Requirements.Attributes()[within].IsNull()
	return written || m.Requirements.IsNull() || m.Requirements.Attributes()[within].Equal(types.BoolValue(false))
}
