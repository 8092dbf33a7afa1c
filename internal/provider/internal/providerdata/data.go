// Package providerdata is what the provider's configuration hands to its
// resources and data sources.
package providerdata

import (
	"context"
	"fmt"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Data is made once for each configured provider and shared by all its objects.
type Data struct {
	// Client and Renter are nil while Unknown names a setting.
	Client *shopper.Client
	Renter *rental.Renter
	// Consumer is the provider's consumer_id.
	Consumer string
	SSH      SSH
	Version  string
	// Journal is where what is under way is written down; nil = nowhere.
	Journal *journal.Journal
	// Unknown are the provider's settings that depend on something not yet known:
	// nothing can be asked of the shopper before apply.
	Unknown []string
}

// SSH are credentials for machines whose key is not in state.
type SSH struct {
	// PrivateKey is PEM, "" for none.
	PrivateKey string
	// AgentSocket is the path of an SSH agent's socket, "" for none.
	AgentSocket string
}

// machines are the connections of this process: one run of Terraform is one
// process, and what it looks at on the same machine goes over one login.
var machines = host.NewPool(0)

// CloseMachines ends all connections. Nothing can be dialled afterwards.
func CloseMachines() error { return machines.Close() }

// Dial logs in to a machine, or shares a login of this run's. The lease's Close
// gives it back.
func (d *Data) Dial(ctx context.Context, cfg host.Config) (*host.Lease, error) {
	return machines.Dial(ctx, cfg)
}

// Credentials are the provider's, none before it is configured.
func (d *Data) Credentials() SSH {
	if d == nil {
		return SSH{}
	}
	return d.SSH
}

// From returns what Configure stored. Before the provider is configured, such as
// while a configuration is validated, that is nil and no error.
func From(stored any, diags *diag.Diagnostics) *Data {
	if stored == nil {
		return nil
	}
	data, ok := stored.(*Data)
	if !ok {
		diags.AddError("The provider has a defect",
			fmt.Sprintf("An object was configured with %T instead of the provider's data. Please report this.", stored))
	}
	return data
}

// CanRead is Ready for the refresh of a resource, where settings that are not known
// are a warning. A destroy refreshes first, in a plan of changes that it never makes:
// what is not known in there is known when it releases.
func (d *Data) CanRead(diags *diag.Diagnostics) bool {
	if d == nil || len(d.Unknown) == 0 {
		return d.Ready(diags)
	}
	diags.AddWarning("Provider settings are not known", fmt.Sprintf("The provider's %s depends on something that is not known yet, so"+
		" nothing was asked. State stays as it is.", strings.Join(d.Unknown, ", ")))
	return false
}

// Ready adds an error when nothing can be asked of the shopper yet.
func (d *Data) Ready(diags *diag.Diagnostics) bool {
	switch {
	case d == nil:
		diags.AddError("Provider is not configured", "The provider has not been configured before it was used. Please report this.")
		return false
	case len(d.Unknown) > 0:
		diags.AddError("Provider settings are not known",
			fmt.Sprintf("The provider's %s depends on something that is not known yet. Apply that first, for example with"+
				" -target, or give a value that is known. If this stands in the way of a destroy, run that with -refresh=false.", strings.Join(d.Unknown, ", ")))
		return false
	}
	return true
}
