// Package providerdata is what the provider's configuration passes to resources, data sources and the other objects.
package providerdata

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/hashicorp/terraform-plugin-framework/diag"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Data is made once for each provider configuration and shared by all its objects.
type Data struct {
	// Client and Renter are nil while Unknown names a setting.
	Client *shopper.Client
	Renter *rental.Renter
	// Consumer is the provider's consumer_id.
	Consumer string
	SSH      SSH
	Version  string
	// Journal records what is under way, nil for no journal.
	Journal *journal.Journal
	// Unknown are the provider's settings that are unknown until apply. Until then no request can be sent to the shopper.
	Unknown []string
	// Machines are this run's connections. Everything on the same machine shares one login.
	Machines host.Pool
	tunnels  sync.Map // *host.Tunnel by key
}

// SSH are credentials for machines whose key is not in state.
type SSH struct {
	// PrivateKey is PEM, "" for none.
	PrivateKey string
	// AgentSocket is the path of an SSH agent's socket, "" for none.
	AgentSocket string
}

// KeepTunnel stores a tunnel for CloseTunnel, because the framework makes a new instance of an object for each call.
func (d *Data) KeepTunnel(tunnel *host.Tunnel) (key string) {
	key = rand.Text()
	d.tunnels.Store(key, tunnel)
	return key
}

// CloseTunnel closes a tunnel. An unknown key is no error: the process that opened the tunnel may have ended.
func (d *Data) CloseTunnel(key string) error {
	if tunnel, ok := d.tunnels.LoadAndDelete(key); ok {
		return tunnel.(*host.Tunnel).Close() //nolint:forcetypeassert,errcheck // nothing else is stored
	}
	return nil
}

// Close closes all connections to machines, and the tunnels that are still open: Terraform doesn't close them if something
// that used the tunnel failed, or after Ctrl-C. Nothing can be opened afterwards.
func (d *Data) Close() error {
	errs := []error{d.Machines.Close()}
	for key := range d.tunnels.Range {
		errs = append(errs, d.CloseTunnel(key.(string))) //nolint:forcetypeassert,errcheck // the same
	}
	return errors.Join(errs...)
}

// Credentials are the provider's credentials, none before it is configured.
func (d *Data) Credentials() SSH {
	if d == nil {
		return SSH{}
	}
	return d.SSH
}

// From returns what Configure stored. Before that, such as while a configuration is validated, it returns nil without an
// error.
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

// CanRead is Ready for the refresh of a resource, with a warning instead of an error for unknown settings: a destroy
// refreshes first, and knows them when it releases.
func (d *Data) CanRead(diags *diag.Diagnostics) bool {
	if d == nil || len(d.Unknown) == 0 {
		return d.Ready(diags)
	}
	diags.AddWarning("Provider settings are unknown", fmt.Sprintf("The provider's %s is unknown until apply, so no request was sent."+
		" State stays unchanged.", strings.Join(d.Unknown, ", ")))
	return false
}

// Ready adds an error if no request can be sent to the shopper yet.
func (d *Data) Ready(diags *diag.Diagnostics) bool {
	switch {
	case d == nil:
		diags.AddError("Provider is not configured", "The provider was used before it was configured. Please report this.")
		return false
	case len(d.Unknown) > 0:
		diags.AddError("Provider settings are unknown",
			fmt.Sprintf("The provider's %s is unknown until apply. First apply what it depends on, for example with -target, or set a"+
				" known value. If this blocks a destroy, run the destroy with -refresh=false.", strings.Join(d.Unknown, ", ")))
		return false
	}
	return true
}
