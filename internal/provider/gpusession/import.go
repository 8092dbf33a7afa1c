package gpusession

import (
	"cmp"
	"context"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sessionview"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// ImportState takes over a session by its ID, without its private key, which the shopper doesn't keep.
func (r *Resource) ImportState(ctx context.Context, req resource.ImportStateRequest, resp *resource.ImportStateResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "importing a session")
	resource.ImportStatePassthroughWithIdentity(ctx, path.Root("id"), path.Root("id"), req, resp)
	if resp.Diagnostics.HasError() || !r.data.Ready(&resp.Diagnostics) {
		return
	}
	id := req.ID
	if id == "" {
		var identity identityModel
		resp.Diagnostics.Append(req.Identity.Get(ctx, &identity)...)
		id = identity.ID.ValueString()
	}
	if err := shopper.ValidateID(id); err != nil {
		resp.Diagnostics.AddError("Invalid session ID", err.Error())
		return
	}
	session, err := r.data.Client.Session(ctx, id)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not read session "+id, err))
		return
	}
	if session.Status.Terminal() {
		resp.Diagnostics.AddError("Session has ended", fmt.Sprintf("The status of session %s is %q: there is no machine to import.", id,
			session.Status))
		return
	}
	resp.Diagnostics.Append(describe(ctx, &resp.State, session)...)
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, importedKey, []byte("true"))...)
	resp.Diagnostics.AddWarning("Private key is unknown",
		"The shopper returns a session's private key only once, to the rental, and keeps no copy: after an import ssh.private_key is"+
			" null. Deployments and data sources log in with the provider's ssh credentials instead, if the machine accepts them.")
}

// described is the state of an import, or the resource in a list's result.
type described interface {
	SetAttribute(ctx context.Context, at path.Path, value any) diag.Diagnostics
}

// describe sets the arguments of a session, so that a configuration that Terraform generates from an import or a list
// changes nothing.
func describe(ctx context.Context, into described, s shopper.Session) diag.Diagnostics {
	var diags diag.Diagnostics
	requirements := path.Root("requirements")
	for _, argument := range []struct {
		at    path.Path
		value any
	}{
		{path.Root("name"), nameOf(s)},
		{path.Root("reservation_hours"), hoursOf(s)},
		{path.Root("workload_type"), attrs.Text(string(s.WorkloadType))},
		{path.Root("template_hash_id"), attrs.Text(s.TemplateHashID)},
		{path.Root("max_attempts"), types.Int64Value(rental.DefaultAttempts)},
		{path.Root("on_conflict"), conflictError},
		{path.Root("retain_private_key"), true},
		// The fewest requirements that describe the machine.
		{requirements.AtName("gpu_types"), []string{s.GPUType}},
		{requirements.AtName("gpu_count"), int64(rental.GPUs(s.Cloud, s.GPUCount))},
		{requirements.AtName("clouds"), []string{s.Cloud}},
		{requirements.AtName("allow_interruptible"), false},
	} {
		diags.Append(into.SetAttribute(ctx, argument.at, argument.value)...)
	}
	return diags
}

// nameOf is the name in a session's mark, or its ID if it has none.
func nameOf(s shopper.Session) string { return cmp.Or(sessionview.Name(s), s.ID) }

// hoursOf are the hours that a session is reserved for, null if the shopper doesn't report them.
func hoursOf(s shopper.Session) types.Int64 { return attrs.Number(s.ReservationHours) }
