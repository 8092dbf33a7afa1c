package vllmdeployment

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
)

const (
	// loginLimit bounds the wait for a machine that doesn't answer at first.
	loginLimit = 5 * time.Minute
	// rentedLimit does so before a removal from a rented machine: its session is released next, and bills until then.
	rentedLimit = time.Minute
)

// removalLimit is how long a removal waits for the machine.
func (m model) removalLimit() time.Duration {
	if m.SessionID.ValueString() != "" {
		return rentedLimit
	}
	return loginLimit
}

// connect logs in, waiting for a while for a machine that doesn't answer yet, and
// notes the host key that was seen. A machine that is known to be gone is not
// waited for.
func (r *Resource) connect(ctx context.Context, m *model) (*host.Line, error) {
	tflog.Info(ctx, "logging in to the machine", map[string]any{"phase": "ssh"})
	ctx, cancel := context.WithTimeout(ctx, loginLimit)
	defer cancel()
	return r.login(ctx, m, r.data.Machines.OpenUntil)
}

// connectOnce logs in without waiting.
func (r *Resource) connectOnce(ctx context.Context, m *model) (*host.Line, error) {
	return r.login(ctx, m, r.data.Machines.Open)
}

func (r *Resource) login(ctx context.Context, m *model, open func(context.Context, host.Config) (*host.Line, error)) (*host.Line, error) {
	ssh, diags := m.sshOf(ctx)
	if diags.HasError() {
		return nil, fmt.Errorf("the ssh attribute can't be read: %v", diags)
	}
	cfg := ssh.Config(r.data.Credentials())
	if cfg.HostKey == "" {
		cfg.HostKey = m.HostKey.ValueString()
	}
	if cfg.Bastion != nil && cfg.Bastion.HostKey == "" {
		cfg.Bastion.HostKey = m.BastionHostKey.ValueString()
	}
	machine, err := open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	m.HostKey = ssh.HostKey
	if ssh.HostKey.ValueString() == "" {
		m.HostKey = types.StringValue(machine.HostKey())
	}
	m.BastionHostKey = ssh.BastionKeys().HostKey
	if cfg.Bastion != nil && m.BastionHostKey.ValueString() == "" {
		m.BastionHostKey = types.StringValue(machine.BastionHostKey())
	}
	return machine, nil
}

// machineGone asks the shopper about a machine that doesn't answer.
func (r *Resource) machineGone(ctx context.Context, state model, diags *diag.Diagnostics) bool {
	id := state.SessionID.ValueString()
	if id == "" || r.data == nil || r.data.Renter == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_, ended, err := r.data.Renter.Inspect(ctx, rental.Known{ID: id})
	if err != nil {
		diags.Append(diagnostic.Warning("Could not read session "+id, err))
		return false
	}
	if ended {
		diags.AddWarning("Machine is gone", fmt.Sprintf("The machine doesn't answer, and session %s has ended: the server is gone.", id))
	}
	return ended
}

// whileRented is ctx until the connection is lost and the machine's session has ended. Where no reference in the configuration makes
// the deployment depend on its session, Terraform destroys both at once.
func (r *Resource) whileRented(ctx context.Context, state model, machine *host.Line) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if state.SessionID.ValueString() == "" || r.data == nil || r.data.Renter == nil {
		return ctx, cancel
	}
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-tick.C:
				if machine.Err() == nil {
					continue
				}
				if _, ended, _ := r.data.Renter.Inspect(ctx, rental.Known{ID: state.SessionID.ValueString()}); ended {
					cancel() // an error says nothing, and is asked about again
				}
			}
		}
	}()
	return ctx, cancel
}

// starts are the owners of the servers that are being started in this process, and
// of those that have been.
var starts = struct {
	mu    sync.Mutex
	under map[string]bool
	made  map[string]bool
}{under: map[string]bool{}, made: map[string]bool{}}

// claim keeps two deployments of one run from taking each other's server for a
// leftover of their own. The second one gets an error.
func claim(request lifecycle.Request, port int, diags *diag.Diagnostics) (release func()) {
	starts.mu.Lock()
	defer starts.mu.Unlock()
	if starts.under[request.Owner] {
		diags.AddAttributeError(portPath, "Port is used by another deployment", fmt.Sprintf("Two deployments are being started on port"+
			" %d of the same machine. Set a unique port for each.", port))
		return func() {}
	}
	starts.under[request.Owner] = true
	return func() {
		starts.mu.Lock()
		defer starts.mu.Unlock()
		delete(starts.under, request.Owner)
	}
}

// madeHere tells whether this run has made the owner's server, and setMade notes it.
func madeHere(owner string) bool {
	starts.mu.Lock()
	defer starts.mu.Unlock()
	return starts.made[owner]
}

func setMade(owner string, made bool) {
	starts.mu.Lock()
	defer starts.mu.Unlock()
	if made {
		starts.made[owner] = true
	} else {
		delete(starts.made, owner)
	}
}

// launch is lifecycle.Launch, with an entry in the journal.
func (r *Resource) launch(ctx context.Context, machine deploy.Machine, request lifecycle.Request) (deploy.Status, error) {
	left, err := r.begin(request.Owner)
	if err != nil {
		tflog.Warn(ctx, "a launch could not be added to the journal", map[string]any{"error": err.Error()})
	}
	request.Takeover = left && !madeHere(request.Owner)
	status, err := lifecycle.Launch(ctx, machine, request)
	failed, ok := deploy.AsError(err)
	switch {
	case err == nil:
		setMade(request.Owner, true)
	case !ok || failed.Remains == "": // what remains, the next launch may take over
		if !madeHere(request.Owner) {
			r.seen(ctx, request.Owner)
		}
	}
	return status, err
}

// seen ends the journal's entry of a deployment that is in state, or gone.
func (r *Resource) seen(ctx context.Context, owner string) {
	if err := r.end(owner); err != nil {
		tflog.Warn(ctx, "a launch could not be removed from the journal", map[string]any{"error": err.Error()})
	}
}
