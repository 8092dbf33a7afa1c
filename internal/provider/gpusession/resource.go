// Package gpusession is the resource shopper_gpu_session: a rented machine.
package gpusession

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/orphan"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const (
	createTimeout = 45 * time.Minute
	readTimeout   = 5 * time.Minute
	updateTimeout = 10 * time.Minute
	deleteTimeout = 20 * time.Minute
)

// Resource is shopper_gpu_session.
type Resource struct {
	data *providerdata.Data
}

var (
	_ resource.ResourceWithConfigure      = (*Resource)(nil)
	_ resource.ResourceWithIdentity       = (*Resource)(nil)
	_ resource.ResourceWithImportState    = (*Resource)(nil)
	_ resource.ResourceWithModifyPlan     = (*Resource)(nil)
	_ resource.ResourceWithValidateConfig = (*Resource)(nil)
)

// NewResource returns the resource.
func NewResource() resource.Resource { return &Resource{} }

// Metadata names the resource.
func (r *Resource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_gpu_session"
}

// Configure takes what the provider's configuration made.
func (r *Resource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Read refreshes state. A session leaves state only on proof that its machine is gone.
func (r *Resource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	if done, ok := ctx.Value(readKey{}).(resource.ReadResponse); ok {
		resp.State, resp.Identity, resp.Diagnostics = done.State, done.Identity, done.Diagnostics
		return
	}
	defer orphan.Working()()
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "reading a session")
	var state model
	resp.Diagnostics.Append(attrs.Get(ctx, req.State.Raw, req.State.Schema, &state)...)
	resp.Diagnostics.Append(resp.Identity.Set(ctx, identityModel{ID: state.ID})...)
	if resp.Diagnostics.HasError() || !r.data.CanRead(&resp.Diagnostics) {
		return
	}
	timeout, diags := state.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	id := state.ID.ValueString()
	keys, diags := state.sshOf(ctx)
	resp.Diagnostics.Append(diags...)
	session, ended, err := r.data.Renter.Inspect(ctx, r.known(state, keys))
	if err != nil {
		// An error only after an import: a destroy reads first, and Delete waits longer for the shopper.
		problem := diagnostic.Warning
		if state.Status.IsNull() { // imported just now
			problem = diagnostic.Error
		}
		resp.Diagnostics.Append(problem("Could not read session "+id, err))
		return
	}
	if ended {
		resp.Diagnostics.AddWarning(about("Session has ended", state.names()), ending(state, session))
		resp.State.RemoveResource(ctx)
		if err := r.data.Renter.Seen(state.Mark.ValueString(), ""); err != nil {
			resp.Diagnostics.Append(diagnostic.Warning("Rental journal could not be written", err))
		}
		return
	}
	r.noteSeen(ctx, state, &resp.Diagnostics)
	switch session.Status {
	case shopper.Failed:
		resp.Diagnostics.AddWarning(about("Session has failed", state.names()),
			fmt.Sprintf("Session %s has failed: %s. It is not certain that its machine is gone, so it stays in state and may still cost"+
				" money. Destroy or replace it (-replace=ADDRESS) to release it.", id, session.Error))
	case shopper.Stopped: // but its replacement is alive
		resp.Diagnostics.AddWarning(about("Session has been replaced", state.names()),
			fmt.Sprintf("Session %s has ended. The shopper has rented session %s in its place, which costs money and whose private key"+
				" nobody has. Destroy or replace the resource (-replace=ADDRESS) to release it.", id, session.RetryChildID))
	default:
	}
	before := state
	state.ShopperURL = types.StringValue(r.data.Client.URL()) // which knows the session
	resp.Diagnostics.Append(state.setSession(ctx, session, keys)...)
	if !state.equal(before) { // the response already has the state that was read
		resp.Diagnostics.Append(resp.State.Set(ctx, &state)...)
	}
}

// ending says when and why a session ended.
func ending(state model, session shopper.Session) string {
	id := state.ID.ValueString()
	if session.ID == "" {
		return fmt.Sprintf("The shopper no longer knows session %s, so its machine is gone. It is removed from state; the next apply"+
			" rents a new one.", id)
	}
	why := "It was released outside this configuration"
	switch {
	case session.Error != "":
		why = "The shopper reports the reason: " + session.Error
	case !session.ExpiresAt.IsZero() && time.Now().After(session.ExpiresAt):
		why = fmt.Sprintf("Its reservation of %d hours ended at %s", session.ReservationHours,
			session.ExpiresAt.UTC().Format(time.RFC3339))
	}
	return fmt.Sprintf("The status of session %s is %q. %s. It is removed from state; the next apply rents a new"+
		" one.", id, session.Status, why)
}

// Delete releases the machine. It succeeds only on proof that the machine is gone.
func (r *Resource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	defer orphan.Working()()
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "releasing a session")
	var state model
	resp.Diagnostics.Append(attrs.Get(ctx, req.State.Raw, req.State.Schema, &state)...)
	if resp.Diagnostics.HasError() || !r.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := state.Timeouts.Delete(ctx, deleteTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	keys, diags := state.sshOf(ctx)
	resp.Diagnostics.Append(diags...)
	warnings, err := r.data.Renter.Release(ctx, r.known(state, keys))
	if len(warnings) > 0 {
		summary := "Machine was released, with a warning"
		if err != nil {
			summary = "Warning while the machine was being released"
		}
		resp.Diagnostics.AddWarning(about(summary, state.names()), strings.Join(warnings, "\n\n"))
	}
	if err != nil {
		if kept, ok := errors.AsType[*rental.NotReleasedError](err); ok && kept.Last.ID == "" && kept.SessionID == state.ID.ValueString() {
			kept.Last = state.session() // it was never read, but its price is known
		}
		resp.Diagnostics.Append(diagnostic.Error("Could not release session "+state.ID.ValueString(), err))
	}
}

// noteSeen notes in the journal that the session is in state, and warns of what a crashed run left under its name. The next
// apply releases that; a plan releases nothing.
func (r *Resource) noteSeen(ctx context.Context, state model, diags *diagnostics) {
	if err := r.data.Renter.Seen(state.Mark.ValueString(), state.NamePrefix.ValueString()); err != nil {
		diags.Append(diagnostic.Warning("Rental journal could not be written", err))
	}
	warnLeftovers(ctx, r.data.Renter, state.names(), "The next apply or destroy releases it", diags)
}

// warnLeftovers warns of what a crashed run left under the names, with what releases it, and reports whether there is anything.
func warnLeftovers(ctx context.Context, renter *rental.Renter, names rental.Names, releases string, diags *diagnostics) bool {
	left, err := renter.Leftovers(ctx, names)
	if err != nil {
		diags.Append(diagnostic.Warning("Rental journal could not be read", err))
	}
	if len(left) > 0 {
		diags.AddWarning("Leftover rental found: "+names.String(), fmt.Sprintf("An earlier run rented, or was renting, %s and ended"+
			" before Terraform recorded it. %s. Releasing takes up to seven minutes if an answer was lost; until then it may cost"+
			" money.", strings.Join(left, " and "), releases))
	}
	return len(left) > 0
}

// releaseLeftovers releases what a crashed run left under the names.
func (r *Resource) releaseLeftovers(ctx context.Context, names rental.Names, diags *diagnostics) {
	settled, err := r.data.Renter.Settle(ctx, names)
	if err != nil {
		diags.Append(diagnostic.Warning("Leftover rental was not released: "+names.String(), err))
	}
	if len(settled.Released) > 0 {
		diags.AddWarning("Leftover rental was released: "+names.String(), fmt.Sprintf("Session %s was released. An earlier run had rented"+
			" it under the name %q and ended before Terraform recorded it.", strings.Join(settled.Released, " and "), names))
	}
	for _, warning := range settled.Warnings {
		diags.AddWarning("Warning while a leftover was being released: "+names.String(), warning)
	}
}

// answerTimeout bounds the check whether a machine still answers.
const answerTimeout = 20 * time.Second

// known is what state contains about the session.
func (r *Resource) known(state model, ssh sshattr.Keys) rental.Known {
	return rental.Known{
		ID: state.ID.ValueString(), ConsumerID: state.Mark.ValueString(), Prefix: state.NamePrefix.ValueString(),
		Service: state.ShopperURL.ValueString(),
		Answers: func(ctx context.Context) bool {
			if ssh.Host.IsNull() || ssh.HostKey.IsNull() {
				return false
			}
			ctx, cancel := context.WithTimeout(ctx, answerTimeout)
			defer cancel()
			machine, err := host.Dial(ctx, ssh.Config(r.data.SSH))
			if err != nil {
				return host.KindOf(err) == host.AuthFailed // its host key was verified before that
			}
			_ = machine.Close()
			return true
		},
	}
}

// keysOf are the parts of ssh that only state contains.
func keysOf(ssh sshattr.Keys) sshattr.Keys {
	return sshattr.Keys{PrivateKey: ssh.PrivateKey, HostKey: ssh.HostKey}
}
