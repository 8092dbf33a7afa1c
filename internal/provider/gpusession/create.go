package gpusession

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/orphan"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

type diagnostics = diag.Diagnostics

// loginTimeout bounds the login to a machine that the shopper has already logged in to.
const loginTimeout = 5 * time.Minute

// Create rents a machine. As soon as a session's ID is known it is in state, so that no later failure can lose it.
func (r *Resource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	defer orphan.Working()()
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "renting a machine")
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	if resp.Diagnostics.HasError() || !r.data.Ready(&resp.Diagnostics) {
		return
	}
	timeout, diags := plan.Timeouts.Create(ctx, createTimeout)
	resp.Diagnostics.Append(diags...)
	if plan.Name.IsUnknown() {
		plan.Name = types.StringValue(rental.NewName(plan.NamePrefix.ValueString()))
	}
	order, diags := plan.order(ctx)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	c := &creation{machines: &r.data.Machines, resp: resp, plan: plan}
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
	if len(rented.Warnings) > 0 {
		summary := "Machine was rented, with a warning"
		if err != nil {
			summary = "Warning before the machine was released"
		}
		resp.Diagnostics.AddWarning(about(summary, plan.names()), strings.Join(rented.Warnings, "\n\n"))
	}
	if err := rented.HandOver(); err != nil {
		resp.Diagnostics.Append(diagnostic.Warning("Rental journal could not be written", err))
	}
}

// settleNewKeys installs the user's keys on a machine that has just been rented. A failure is a warning: the machine is
// kept.
func (r *Resource) settleNewKeys(ctx context.Context, c *creation, rented *rental.Rental) {
	if c.plan.AuthorizedKeys.IsNull() {
		return
	}
	s := rented.Session
	key, err := r.settleKeys(ctx, installed{}, c.plan, sshattr.Keys{
		Host: attrs.Text(s.SSHHost), Port: types.Int64Value(int64(s.SSHPort)), User: attrs.Text(s.SSHUser),
		PrivateKey: attrs.Text(rented.PrivateKey),
		HostKey:    attrs.Text(c.hostKey),
	})
	if err != nil {
		wanted, _ := c.plan.authorizedKeys(ctx)
		c.resp.Diagnostics.Append(keysProblem(c.plan.names(), err))
		c.resp.Diagnostics.Append(c.resp.Private.SetKey(ctx, pendingKey, installed{}.after(wanted).note())...)
	}
	rented.PrivateKey = key.ValueString()
	c.save(context.WithoutCancel(ctx), rented)
}

// creation is one call of Create.
type creation struct {
	machines *host.Pool
	resp     *resource.CreateResponse
	plan     model
	hostKey  string
}

// save stores what is known of the rental in state.
func (c *creation) save(ctx context.Context, rented *rental.Rental) {
	state := c.plan
	c.resp.Diagnostics.Append(state.setRental(ctx, rented, c.hostKey)...)
	c.resp.Diagnostics.Append(c.resp.State.Set(ctx, &state)...)
	c.resp.Diagnostics.Append(c.resp.Identity.Set(ctx, identityModel{ID: state.ID})...)
}

// login logs in once, to verify the key and to learn the host key.
func (c *creation) login(ctx context.Context, s shopper.Session, privateKey string) error {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	c.hostKey = ""
	machine, err := c.machines.OpenUntil(ctx, host.Config{
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
		return fmt.Errorf("the login works, but the command `true` exited with code %d", result.ExitCode)
	}
	c.hostKey = machine.HostKey()
	return nil
}

// Update extends the reservation, releases what a crashed run left under the name, and settles the authorized keys. All
// other changes in place only change state.
func (r *Resource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	defer orphan.Working()()
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

	r.releaseLeftovers(ctx, state.names(), &resp.Diagnostics)
	keys, diags := state.sshOf(ctx)
	resp.Diagnostics.Append(diags...)
	session, err := r.data.Renter.Extend(ctx, r.known(state, keys), plan.hours())
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not extend session "+state.ID.ValueString(), err))
		return
	}
	before, failed := pending(ctx, req.Private)
	if !failed {
		before.keys, _ = state.authorizedKeys(ctx)
	}
	left := []byte(nil)
	keys.PrivateKey, err = r.settleKeys(ctx, before, plan, keys)
	if err != nil {
		wanted, _ := plan.authorizedKeys(ctx)
		resp.Diagnostics.Append(keysProblem(plan.names(), err))
		left = before.after(wanted).note()
	}
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, pendingKey, left)...)
	resp.Diagnostics.Append(plan.setUpdated(ctx, session, keysOf(keys))...)
	resp.Diagnostics.Append(resp.State.Set(ctx, &plan)...)
	resp.Diagnostics.Append(resp.Identity.Set(ctx, identityModel{ID: state.ID})...)
	resp.Diagnostics.Append(resp.Private.SetKey(ctx, importedKey, nil)...)
}

// about is the summary of a warning about the session of these names. Terraform
// shows only the first of several warnings with the same summary.
func about(summary string, names rental.Names) string {
	return summary + ": " + cmp.Or(names.Name, names.Prefix)
}
