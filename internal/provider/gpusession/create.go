package gpusession

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

type diagnostics = diag.Diagnostics

// loginTimeout bounds the wait for a login to a machine that the shopper has
// logged in to already.
const loginTimeout = 5 * time.Minute

// Create rents a machine. From the moment a session's id is known it is in
// state, so that whatever happens next can't make it forgotten.
func (r *Resource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "renting a machine")
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() || !r.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := plan.Timeouts.Create(ctx, createTimeout)
	resp.Diagnostics.Append(diags...)
	order, diags := plan.order(ctx)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	c := &creation{resp: resp, plan: plan}
	order.Login = c.login
	order.Rented = func(rented *rental.Rental) { c.save(ctx, rented) }
	order.Dropped = func() { resp.State.RemoveResource(ctx) }
	order.Progress = func(format string, args ...any) { tflog.Info(ctx, fmt.Sprintf(format, args...)) }
	rented, err := r.data.Renter.Rent(limited, order)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not rent a machine", err))
	}
	if rented == nil {
		return
	}
	c.save(ctx, rented)
	if err == nil {
		r.settleNewKeys(limited, c, rented)
	}
	for _, warning := range rented.Warnings {
		resp.Diagnostics.AddWarning("Machine is fine, but", warning)
	}
	if err := rented.HandOver(); err != nil {
		resp.Diagnostics.Append(diagnostic.Warning("Rental journal can't be written", err))
	}
}

// settleNewKeys installs the user's keys on a machine that has just been rented.
// What goes wrong with them is no reason to give the machine up.
func (r *Resource) settleNewKeys(ctx context.Context, c *creation, rented *rental.Rental) {
	if c.plan.AuthorizedKeys.IsNull() {
		return
	}
	s := rented.Session
	key, err := r.settleKeys(ctx, model{}, c.plan, sshattr.Keys{
		Host: text(s.SSHHost), Port: types.Int64Value(int64(s.SSHPort)), User: text(s.SSHUser), PrivateKey: text(rented.PrivateKey),
		HostKey: text(c.hostKey),
	})
	if err != nil {
		c.resp.Diagnostics.Append(diagnostic.Warning("Machine is fine, its keys are not", err))
		c.resp.Diagnostics.Append(c.resp.Private.SetKey(ctx, pendingKey, []byte("true"))...)
	}
	rented.PrivateKey = key.ValueString()
	c.save(context.WithoutCancel(ctx), rented)
}

// creation is one call of Create.
type creation struct {
	resp    *resource.CreateResponse
	plan    model
	hostKey string
}

// save puts what is known of the rental into state.
func (c *creation) save(ctx context.Context, rented *rental.Rental) {
	state := c.plan
	c.resp.Diagnostics.Append(state.setRental(ctx, rented, c.hostKey)...)
	c.resp.Diagnostics.Append(c.resp.State.Set(ctx, &state)...)
	c.resp.Diagnostics.Append(c.resp.Identity.Set(ctx, identityModel{ID: state.ID})...)
}

// login logs in once, to prove that the key works and to learn the host key.
func (c *creation) login(ctx context.Context, s shopper.Session, privateKey string) error {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	c.hostKey = ""
	machine, err := host.DialUntil(ctx, host.Config{
		Host: s.SSHHost, Port: s.SSHPort, User: s.SSHUser, PrivateKeys: []string{privateKey},
	})
	if err != nil {
		return err
	}
	defer func() { _ = machine.Close() }()
	result, err := machine.Run(ctx, host.Command{Args: []string{"true"}})
	if err != nil {
		return err
	}
	if result.ExitCode != 0 {
		return fmt.Errorf("the login works, and the command `true` ended with exit code %d", result.ExitCode)
	}
	c.hostKey = machine.HostKey()
	return nil
}

// Update extends the reservation. Everything else that changes in place changes
// nothing on the machine.
func (r *Resource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "updating a session")
	var plan, state model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() || !r.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := plan.Timeouts.Update(ctx, updateTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	session, err := r.data.Renter.Extend(ctx, state.ID.ValueString(), plan.hours())
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not extend session "+state.ID.ValueString(), err))
		return
	}
	keys, diags := state.sshOf(ctx)
	resp.Diagnostics.Append(diags...)
	pending := []byte(nil)
	if marked(ctx, req.Private, pendingKey) {
		state.AuthorizedKeys = types.ListNull(types.StringType) // which of them are installed is not known
	}
	keys.PrivateKey, err = r.settleKeys(ctx, state, plan, keys)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Warning("Machine is fine, its keys are not", err))
		pending = []byte("true")
	}
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, pendingKey, pending)...)
	resp.Diagnostics.Append(plan.setUpdated(ctx, session, keysOf(keys))...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &plan)...)
	resp.Diagnostics.Append(resp.Identity.Set(ctx, identityModel{ID: state.ID})...)
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, importedKey, nil)...)
}
