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
	// loginLimit bounds the wait for a machine that doesn't answer yet.
	loginLimit = 5 * time.Minute
	// rentedLimit bounds it before a removal from a rented machine, which costs money until its session is released next.
	rentedLimit = time.Minute
)

// removalLimit is how long a removal waits for the machine.
func (m model) removalLimit() time.Duration {
	if m.SessionID.ValueString() != "" {
		return rentedLimit
	}
	return loginLimit
}

// connect logs in, waits up to loginLimit for a machine that doesn't answer yet, and sets the host keys that were seen.
// The caller closes the connection.
func (r *Resource) connect(ctx context.Context, m *model) (*host.Line, error) {
	tflog.Info(ctx, "logging in to the machine", map[string]any{"phase": "ssh"})
	ctx, cancel := context.WithTimeout(ctx, loginLimit)
	defer cancel()
	return r.login(ctx, m, r.data.Machines.OpenUntil)
}

// connectOnce is connect without the wait.
func (r *Resource) connectOnce(ctx context.Context, m *model) (*host.Line, error) {
	return r.login(ctx, m, r.data.Machines.Open)
}

func (r *Resource) login(ctx context.Context, m *model, open func(context.Context, host.Config) (*host.Line, error)) (*host.Line, error) {
	var diags diag.Diagnostics
	ssh := m.sshOf(ctx, &diags)
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

// machineGone asks the shopper whether the session of a machine that doesn't answer has ended.
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

// whileRented returns a context that is canceled once the connection is lost and the machine's session has ended. Terraform
// destroys a deployment and its session at the same time if no reference in the configuration connects them.
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
					cancel() // on an error the next tick asks again
				}
			}
		}
	}()
	return ctx, cancel
}

// starts holds the owners of the servers that this process is starting (under) and has started (made).
var starts = struct {
	mu    sync.Mutex
	under map[string]bool
	made  map[string]bool
}{under: map[string]bool{}, made: map[string]bool{}}

// claim keeps two deployments of one run from taking each other's server for a leftover. The second one gets an error.
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

// madeHere reports whether this run has started the owner's server.
func madeHere(owner string) bool {
	starts.mu.Lock()
	defer starts.mu.Unlock()
	return starts.made[owner]
}

// setMade remembers or forgets that this run has started the owner's server.
func setMade(owner string, made bool) {
	starts.mu.Lock()
	defer starts.mu.Unlock()
	if made {
		starts.made[owner] = true
	} else {
		delete(starts.made, owner)
	}
}

// launch is lifecycle.Launch with an entry in the journal.
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
	case !ok || failed.Remains == "": // else the next launch may take over what remains
		if !madeHere(request.Owner) {
			r.seen(ctx, request.Owner)
		}
	}
	return status, err
}

// seen removes the journal's entry of a deployment that is in state or gone.
func (r *Resource) seen(ctx context.Context, owner string) {
	if err := r.end(owner); err != nil {
		tflog.Warn(ctx, "a launch could not be removed from the journal", map[string]any{"error": err.Error()})
	}
}
