package gpusession

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// importedKey marks, in private state, an imported session. The shopper doesn't report some of its arguments: those of the
// configuration are adopted instead of replacing the machine.
const importedKey = "imported"

// pendingKey marks, in private state, a session whose machine's authorized keys differ from the configuration. Every apply
// tries again until they match.
const pendingKey = "keys_pending"

// privateState is the part of the framework's private state that this package reads.
type privateState interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
}

func marked(ctx context.Context, private privateState, key string) bool {
	value, _ := private.GetKey(ctx, key)
	return value != nil
}

// replacing returns the attributes whose change replaces the machine. No other code decides that.
func replacing(ctx context.Context, private privateState, config, state, plan model, diags *diag.Diagnostics) path.Paths {
	var at path.Paths
	imported := marked(ctx, private, importedKey)
	for _, a := range []struct {
		name                string
		config, plan, state attr.Value
	}{
		{"name", config.Name, plan.Name, state.Name},
		{"name_prefix", config.NamePrefix, plan.NamePrefix, state.prefixAfter(plan.NamePrefix)},
		{"offer_id", config.OfferID, plan.OfferID, state.OfferID},
		{"workload_type", config.WorkloadType, plan.WorkloadType, state.WorkloadType},
		{"disk_gb", config.DiskGB, plan.DiskGB, state.DiskGB},
		{"template_hash_id", config.TemplateHashID, plan.TemplateHashID, state.TemplateHashID},
		{"on_start_cmd", config.OnStartCmd, plan.OnStartCmd, state.OnStartCmd},
	} {
		switch {
		case a.plan.Equal(a.state), a.config.IsNull() && a.plan.IsUnknown(): // unchanged, or not configured
		case imported && (a.state.IsNull() || a.state.Equal(state.ID)): // unknown to the import, so the configuration is adopted
		default:
			at.Append(path.Root(a.name))
		}
	}
	if !plan.Requirements.IsNull() && !plan.Requirements.Equal(state.Requirements) && unmet(ctx, state, plan.Requirements, diags) {
		at.Append(path.Root("requirements"))
	}
	return at
}

// unmet reports whether the machine in state doesn't meet new requirements, and warns that it will be replaced, or that only
// the apply can decide.
func unmet(ctx context.Context, state model, needs types.Object, diags *diag.Diagnostics) bool {
	at := path.Root("requirements")
	wanted, d := requirements(ctx, needs)
	diags.Append(d...)
	if reasons := wanted.Unmet(state.session(), int(state.VRAMGB.ValueInt64())); len(reasons) > 0 {
		diags.AddAttributeWarning(at, "Machine will be replaced",
			fmt.Sprintf("Session %s does not meet the new requirements. %s.", state.ID.ValueString(), strings.Join(reasons, "; ")))
		return true
	}
	// Only the apply knows the rest, and it can't turn an update into a replacement.
	if value, err := needs.ToTerraformValue(ctx); err == nil && !value.IsFullyKnown() {
		diags.AddAttributeWarning(at, about("Requirements are unknown until apply", state.names()),
			fmt.Sprintf("They depend on values that are known only during apply. Session %s is kept if it meets them. If not, the apply"+
				" fails with \"Provider produced inconsistent final plan\" and leaves the session unchanged; the next plan replaces it."+
				" To decide this before applying, first apply what they depend on (-target).",
				state.ID.ValueString()))
	}
	return false
}

// session is the session in state.
func (m model) session() shopper.Session {
	expires, _ := time.Parse(time.RFC3339, m.ExpiresAt.ValueString())
	return shopper.Session{
		ID:           m.ID.ValueString(),
		Status:       shopper.Status(m.Status.ValueString()),
		ExpiresAt:    expires,
		Cloud:        m.Cloud.ValueString(),
		GPUType:      m.GPUType.ValueString(),
		GPUCount:     int(m.GPUCount.ValueInt64()),
		PricePerHour: m.PricePerHour.ValueFloat64(),
	}
}

// ModifyPlan decides what can be decided before anything is rented or extended. Problems of state or of the shopper are no
// errors here: a destroy plans first, and an error would keep the machine.
func (r *Resource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "planning a session")
	if req.Plan.Raw.IsNull() {
		return
	}
	var state, plan model
	resp.Diagnostics.Append(attrs.Get(ctx, req.Plan.Raw, req.Plan.Schema, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if req.State.Raw.IsNull() {
		r.planCreate(ctx, plan, resp)
		return
	}
	if req.Plan.Raw.Equal(req.State.Raw) {
		state = plan // nothing to replace
	} else {
		var config model
		resp.Diagnostics.Append(attrs.Get(ctx, req.Config.Raw, req.Config.Schema, &config)...)
		resp.Diagnostics.Append(attrs.Get(ctx, req.State.Raw, req.State.Schema, &state)...)
		if resp.Diagnostics.HasError() {
			return
		}
		resp.RequiresReplace = replacing(ctx, req.Private, config, state, plan, &resp.Diagnostics)
		if len(resp.RequiresReplace) > 0 {
			r.warnUnoffered(ctx, plan, resp)
			return
		}
	}
	planHours(ctx, state, plan, marked(ctx, req.Private, importedKey), resp)
	if r.data != nil && r.data.Renter != nil && warnLeftovers(ctx, r.data.Renter, state.names(), "", new(diag.Diagnostics)) {
		// Read has warned of it. The change makes Terraform call the apply, which releases the leftover.
		resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("status"), types.StringUnknown())...)
	}
	if marked(ctx, req.Private, pendingKey) || !plan.retains() && state.retains() {
		// The apply settles the keys, and the one-time key may leave state.
		resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, sshattr.Path(), types.ObjectUnknown(sshattr.AttributeTypes(ctx).AttrTypes))...)
	}
}

// exactlyOne refuses a configuration with both attributes or neither. The framework's own validator walks through the whole
// configuration for each attribute, which took a tenth of a plan over many sessions.
func exactlyOne(diags *diag.Diagnostics, first string, a attr.Value, second string, b attr.Value) {
	has := func(value attr.Value) bool { return !value.IsNull() && !value.IsUnknown() }
	switch {
	case has(a) && has(b):
		diags.AddAttributeError(path.Root(second), "Invalid Attribute Combination",
			fmt.Sprintf("Both %s and %s are configured. Remove one of them.", first, second))
	case a.IsNull() && b.IsNull():
		diags.AddError("Missing Attribute Configuration", fmt.Sprintf("Neither %s nor %s is configured. Give one of them.", first, second))
	}
}

// ValidateConfig refuses a machine that nobody could log in to, and warns of requirements that are empty or that no offer
// may meet.
func (r *Resource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config model
	resp.Diagnostics.Append(attrs.Get(ctx, req.Config.Raw, req.Config.Schema, &config)...)
	exactlyOne(&resp.Diagnostics, "name", config.Name, "name_prefix", config.NamePrefix)
	exactlyOne(&resp.Diagnostics, "offer_id", config.OfferID, "requirements", config.Requirements)
	if config.RetainPrivateKey.Equal(types.BoolValue(false)) && config.AuthorizedKeys.IsNull() {
		resp.Diagnostics.AddAttributeError(path.Root("retain_private_key"), "Missing authorized_keys",
			"Without the one-time key nobody could log in to the machine. Set authorized_keys, or remove retain_private_key.")
	}
	if !config.NamePrefix.IsNull() && config.OnConflict.ValueString() == conflictReplace {
		resp.Diagnostics.AddAttributeError(path.Root("on_conflict"), "Conflict with name_prefix",
			"Other machines with this prefix may be in use, so none is released for a new one. Remove on_conflict, or set name instead.")
	}
	if resp.Diagnostics.HasError() || config.Requirements.IsNull() || config.Requirements.IsUnknown() {
		return
	}
	needs, diags := requirements(ctx, config.Requirements)
	resp.Diagnostics.Append(diags...)
	at := path.Root("requirements")
	if doubts := needs.Doubts(); len(doubts) > 0 {
		resp.Diagnostics.AddAttributeWarning(at, about("Requirements that no offer may meet", config.names()),
			strings.Join(doubts, "\n")+"\n\nNothing is rented without an offer that meets all of them.")
	}
	asked := func(value attr.Value) bool { return !value.IsNull() }
	if !slices.ContainsFunc(slices.Collect(maps.Values(config.Requirements.Attributes())), asked) {
		resp.Diagnostics.AddAttributeWarning(at, about("Requirements are empty", config.names()),
			"The cheapest machine of any kind will be rented. Terraform silently ignores misspelled names in requirements: check them.")
	}
}

// planCreate refuses a reservation that no shopper accepts, and warns of what a crashed run left behind, which the apply
// releases.
func (r *Resource) planCreate(ctx context.Context, plan model, resp *resource.ModifyPlanResponse) {
	if plan.hours() > shopper.MaxReservationHours {
		resp.Diagnostics.AddAttributeError(path.Root("reservation_hours"), "Initial reservation is too long",
			fmt.Sprintf("The shopper rents a machine for at most %d hours, and may extend that later. Start with %d, and raise"+
				" reservation_hours after the rental.", shopper.MaxReservationHours, shopper.MaxReservationHours))
	}
	if r.data != nil && r.data.Renter != nil {
		// An unknown name is "", which has no leftovers.
		warnLeftovers(ctx, r.data.Renter, plan.names(), "The next apply releases it; a destroy only releases what is in state", &resp.Diagnostics)
	}
}

// warnUnoffered warns if there is nothing on offer for what replaces the machine because of its offer or its requirements.
func (r *Resource) warnUnoffered(ctx context.Context, plan model, resp *resource.ModifyPlanResponse) {
	at := resp.RequiresReplace
	wanted, err := plan.Requirements.ToTerraformValue(ctx)
	if r.data == nil || r.data.Renter == nil || err != nil || !wanted.IsFullyKnown() ||
		!at.Contains(path.Root("requirements")) && !at.Contains(path.Root("offer_id")) {
		return
	}
	order, diags := plan.order(ctx)
	resp.Diagnostics.Append(diags...)
	if err := r.data.Renter.Unoffered(ctx, order); err != nil {
		resp.Diagnostics.AddWarning(about("No offer fits at the moment", plan.names()), err.Error()+"\n\nOffers change. If this"+
			" plan is applied now, the old machine is released (unless create_before_destroy is set) and no new one is rented.")
	}
}

// planHours plans an extension if more hours are requested than are reserved. Whether the shopper grants it is known only
// during apply.
func planHours(ctx context.Context, state, plan model, imported bool, resp *resource.ModifyPlanResponse) {
	switch {
	case plan.ReservationHours.IsUnknown(), plan.hours() > state.reserved():
		resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("expires_at"), types.StringUnknown())...)
		resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("reserved_hours"), types.Int64Unknown())...)
	case imported && plan.ReservationHours.IsNull(): // nobody has asked for fewer hours
	case max(plan.hours(), defaultHours) < state.hours():
		resp.Diagnostics.AddAttributeWarning(path.Root("reservation_hours"), about("Reservation can't be shortened", state.names()),
			fmt.Sprintf("The shopper can't shorten a reservation. Session %s stays reserved for %d hours and costs money until %s. To"+
				" stop paying earlier, destroy it.", state.ID.ValueString(), state.reserved(), state.ExpiresAt.ValueString()))
	}
}
