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
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// importedKey marks, in private state, a session that was imported and whose
// arguments nobody knows: the configuration's are adopted instead of replacing
// the machine.
const importedKey = "imported"

// pendingKey marks, in private state, a session whose machine's authorized keys
// are not yet what the configuration says: every plan has another try until they
// are.
const pendingKey = "keys_pending"

// replaceKnown replaces the machine when the attribute changes, unless the
// session was imported and the attribute's value is not known.
type replaceKnown struct{}

func (replaceKnown) Description(context.Context) string {
	return "A change replaces the machine."
}
func (m replaceKnown) MarkdownDescription(ctx context.Context) string { return m.Description(ctx) }

func (replaceKnown) PlanModifyString(ctx context.Context, req planmodifier.StringRequest, resp *planmodifier.StringResponse) {
	resp.RequiresReplace = !creating(req.State.Raw.IsNull(), req.Plan.Raw.IsNull()) &&
		replaces(ctx, req.ConfigValue, req.PlanValue, req.StateValue, req.Private)
}

func (replaceKnown) PlanModifyInt64(ctx context.Context, req planmodifier.Int64Request, resp *planmodifier.Int64Response) {
	resp.RequiresReplace = !creating(req.State.Raw.IsNull(), req.Plan.Raw.IsNull()) &&
		replaces(ctx, req.ConfigValue, req.PlanValue, req.StateValue, req.Private)
}

// replaces reports whether going from state to plan takes another machine.
func replaces(ctx context.Context, config, plan, state attr.Value, private privateState) bool {
	if plan.Equal(state) || config.IsNull() && plan.IsUnknown() {
		return false // the same, or nobody asks for anything
	}
	return !state.IsNull() || !marked(ctx, private, importedKey)
}

func creating(noState, noPlan bool) bool { return noState || noPlan }

// privateState is the part of the framework's private state that is used here.
type privateState interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
}

func marked(ctx context.Context, private privateState, key string) bool {
	value, _ := private.GetKey(ctx, key)
	return value != nil
}

// replaceUnmet replaces the machine when it doesn't meet changed requirements.
type replaceUnmet struct{}

func (replaceUnmet) Description(context.Context) string {
	return "A change that the rented machine doesn't meet replaces it."
}
func (m replaceUnmet) MarkdownDescription(ctx context.Context) string { return m.Description(ctx) }

func (replaceUnmet) PlanModifyObject(ctx context.Context, req planmodifier.ObjectRequest, resp *planmodifier.ObjectResponse) {
	if creating(req.State.Raw.IsNull(), req.Plan.Raw.IsNull()) || req.PlanValue.IsNull() || req.PlanValue.Equal(req.StateValue) {
		return
	}
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	reasons, diags := state.unmet(ctx, req.PlanValue)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	if len(reasons) == 0 {
		warnUnknown(ctx, req, state, resp)
		return
	}
	resp.RequiresReplace = true
	resp.Diagnostics.AddAttributeWarning(req.Path, "Machine will be replaced",
		fmt.Sprintf("Session %s does not meet the new requirements. %s.", state.ID.ValueString(), strings.Join(reasons, "; ")))
}

// warnUnknown tells what happens to an update whose requirements turn out to be
// unmet: only the apply knows them, and it can't turn an update into a
// replacement any more.
func warnUnknown(ctx context.Context, req planmodifier.ObjectRequest, state model, resp *planmodifier.ObjectResponse) {
	if value, err := req.PlanValue.ToTerraformValue(ctx); err != nil || value.IsFullyKnown() {
		return
	}
	resp.Diagnostics.AddAttributeWarning(req.Path, about("Requirements are not known yet", state.Name),
		fmt.Sprintf("They depend on something that only the apply will know. Session %s is kept if it meets them. If it doesn't, the apply"+
			" stops with \"Provider produced inconsistent final plan\" and changes nothing about the session; the next plan knows them, and"+
			" replaces it. To have that decided before anything is applied, apply what they depend on first (-target).",
			state.ID.ValueString()))
}

// unmet says which of the requirements the machine in state doesn't meet.
func (m model) unmet(ctx context.Context, needs types.Object) ([]string, diag.Diagnostics) {
	wanted, diags := requirements(ctx, needs)
	return wanted.Unmet(m.session(), int(m.VRAMGB.ValueInt64())), diags
}

// replaced reports whether going from state to plan takes another machine. The
// attributes' own modifiers have decided the same, and nobody tells ModifyPlan.
func replaced(ctx context.Context, config, state, plan model, private privateState) (bool, diag.Diagnostics) {
	for _, values := range [][3]attr.Value{
		{config.Name, plan.Name, state.Name},
		{config.OfferID, plan.OfferID, state.OfferID},
		{config.WorkloadType, plan.WorkloadType, state.WorkloadType},
		{config.DiskGB, plan.DiskGB, state.DiskGB},
		{config.TemplateHashID, plan.TemplateHashID, state.TemplateHashID},
		{config.OnStartCmd, plan.OnStartCmd, state.OnStartCmd},
		{config.StoragePolicy, plan.StoragePolicy, state.StoragePolicy},
	} {
		if replaces(ctx, values[0], values[1], values[2], private) {
			return true, nil
		}
	}
	if plan.Requirements.IsNull() || plan.Requirements.Equal(state.Requirements) {
		return false, nil
	}
	reasons, diags := state.unmet(ctx, plan.Requirements)
	return len(reasons) > 0, diags
}

// session is what state tells of the session.
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

// ModifyPlan decides what can be decided before anything is rented or extended.
func (r *Resource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "planning a session")
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if req.State.Raw.IsNull() {
		r.planCreate(plan, resp)
		return
	}
	var config, state model
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	another, diags := replaced(ctx, config, state, plan, req.Private)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() || another {
		return
	}
	planHours(ctx, state, plan, resp)
	if marked(ctx, req.Private, pendingKey) || !plan.retains() && state.retains() {
		// The keys are yet to be settled, and the one-time key may leave state.
		resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, sshattr.Path(), types.ObjectUnknown(sshattr.AttributeTypes(ctx).AttrTypes))...)
	}
}

// ValidateConfig warns of requirements that nothing may meet, and of none at all.
func (r *Resource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config model
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() || config.Requirements.IsNull() || config.Requirements.IsUnknown() {
		return
	}
	needs, diags := requirements(ctx, config.Requirements)
	resp.Diagnostics.Append(diags...)
	at := path.Root("requirements")
	if doubts := needs.Doubts(); len(doubts) > 0 {
		resp.Diagnostics.AddAttributeWarning(at, about("Requirements that nothing may meet", config.Name),
			strings.Join(doubts, "\n")+"\n\nWithout an offer that meets all of them nothing is rented.")
	}
	asked := func(value attr.Value) bool { return !value.IsNull() }
	if !slices.ContainsFunc(slices.Collect(maps.Values(config.Requirements.Attributes())), asked) {
		resp.Diagnostics.AddAttributeWarning(at, about("Requirements ask for nothing", config.Name),
			"The cheapest machine of any kind will be rented. Terraform ignores a misspelt name in requirements without a word: is there one?")
	}
}

// planCreate tells what a crashed run left behind, which the apply releases.
func (r *Resource) planCreate(plan model, resp *resource.ModifyPlanResponse) {
	if r.data == nil || r.data.Renter == nil || plan.Name.IsUnknown() {
		return
	}
	warnLeftovers(r.data.Renter, plan.Name.ValueString(), &resp.Diagnostics)
}

// planHours judges a changed reservation.
func planHours(ctx context.Context, state, plan model, resp *resource.ModifyPlanResponse) {
	from, to := state.hours(), plan.hours()
	at := path.Root("reservation_hours")
	switch {
	case plan.ReservationHours.IsUnknown():
		resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("expires_at"), types.StringUnknown())...)
		return
	case to == from:
		return
	case to < from:
		resp.Diagnostics.AddAttributeError(at, "Reservation can't be shortened",
			fmt.Sprintf("The machine is reserved for %d hours, until %s, and the shopper can't shorten that. Keep reservation_hours = %d;"+
				" to stop paying earlier, destroy the session. To have a shorter reservation, destroy it first, or taint it.", from,
				state.ExpiresAt.ValueString(), from))
		return
	}
	resp.Diagnostics.Append(resp.Plan.SetAttribute(ctx, path.Root("expires_at"), types.StringUnknown())...)
}
