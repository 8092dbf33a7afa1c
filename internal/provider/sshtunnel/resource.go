// Package sshtunnel is the ephemeral resource shopper_ssh_tunnel: a local port that leads to a port on a machine for the
// duration of a run.
package sshtunnel

import (
	"context"
	"encoding/json"
	"net"
	"strconv"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/ephemeral/timeouts"
	data "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/forms"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/result"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	// loopback is the address on which tunnels listen, on this computer only.
	loopback = "127.0.0.1"
	// openTimeout bounds the login if timeouts.open is not configured.
	openTimeout = 2 * time.Minute
	// probeLimit bounds the check whether anything listens at the other end.
	probeLimit = 10 * time.Second
	// tunnelKey is where private data keeps the tunnel's key.
	tunnelKey = "tunnel"
)

// Resource is shopper_ssh_tunnel.
type Resource struct {
	data *providerdata.Data
}

var (
	_ ephemeral.EphemeralResourceWithClose     = (*Resource)(nil)
	_ ephemeral.EphemeralResourceWithConfigure = (*Resource)(nil)
)

// NewResource returns the ephemeral resource.
func NewResource() ephemeral.EphemeralResource { return &Resource{} }

type model struct {
	SSH        types.Object   `tfsdk:"ssh"`
	RemoteHost types.String   `tfsdk:"remote_host"`
	RemotePort types.Int64    `tfsdk:"remote_port"`
	LocalPort  types.Int64    `tfsdk:"local_port"`
	Host       types.String   `tfsdk:"host"`
	Port       types.Int64    `tfsdk:"port"`
	Address    types.String   `tfsdk:"address"`
	URL        types.String   `tfsdk:"url"`
	Timeouts   timeouts.Value `tfsdk:"timeouts"`
}

// Metadata names the ephemeral resource.
func (r *Resource) Metadata(_ context.Context, req ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_ssh_tunnel"
}

// Configure takes what the provider's configuration made.
func (r *Resource) Configure(_ context.Context, req ephemeral.ConfigureRequest, resp *ephemeral.ConfigureResponse) {
	r.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the ephemeral resource.
func (r *Resource) Schema(ctx context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	attributes := forms.Ephemerals(map[string]data.Attribute{
		"ssh": sshattr.Argument(sshattr.Text, true),
		"remote_port": argument.Port("Port on the machine. Default " + strconv.Itoa(vllm.DefaultPort) + ", the default port of a" +
			" deployment."),
		"remote_host": argument.Text("Address to connect to from the machine. Default `"+vllm.DefaultListen+"`, the machine itself.",
			validate.NotEmpty()),
		"local_port": argument.Port("Port on your computer. Default: any free port. Parallel runs can't use the same fixed port."),
		"host":       result.Text("Address on your computer, `" + loopback + "`."),
		"port":       result.Number("Port on your computer."),
		"address":    result.Text("`host:port`."),
		"url":        result.Text("`http://host:port`. For a server with TLS use `https://` and `address`."),
	})
	attributes["timeouts"] = timeouts.AttributesWithOpts(ctx, timeouts.Opts{OpenDescription: "Login to the machine. Default `2m`."})
	resp.Schema = schema.Schema{
		MarkdownDescription: "Forwards a local port through SSH to a port on a machine for the duration of a run. The address changes" +
			" with every run, so Terraform accepts it only where nothing is stored: in other providers' configuration, in provisioners," +
			" in write-only arguments. A data source stores its arguments: set the same fixed `local_port` in the tunnel and in the" +
			" data source, and `depends_on` in the data source. A lost connection to the machine is restored for the next" +
			" client; open connections through the tunnel break. If the arguments are unknown before apply, the tunnel" +
			" opens during apply. A failed login is a warning, so that the machine can be destroyed; clients of the" +
			" tunnel are then disconnected. A port on which nothing listens when the tunnel opens is a warning too;" +
			" later refusals are logged. Requires Terraform 1.10 or OpenTofu 1.11.",
		Attributes: attributes,
	}
}

// Open opens the tunnel.
func (r *Resource) Open(ctx context.Context, req ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "opening a tunnel")
	var m model
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	ssh := attrs.Object[sshattr.Model](ctx, m.SSH, &resp.Diagnostics)
	timeout, diags := m.Timeouts.Open(ctx, openTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	line, lost := r.data.Machines.OpenUntil(limited, ssh.Config(r.data.Credentials()))
	if lost != nil && ctx.Err() != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not open the tunnel", lost))
		return
	}
	resp.Diagnostics.Append(warnings(limited, line, lost, m.remote())...)
	tunnel, err := host.OpenTunnel(ctx, line, int(m.LocalPort.ValueInt64()), m.remote(), func(err error) {
		tflog.Warn(ctx, "a connection through a tunnel was refused", map[string]any{"remote": m.remote(), "error": err.Error()})
	})
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not open the tunnel", err))
		return
	}
	key := r.data.KeepTunnel(tunnel)
	m.setReach(tunnel.Port())
	resp.Diagnostics.Append(resp.Result.Set(ctx, &m)...)
	private, err := json.Marshal(key)
	if err == nil {
		resp.Diagnostics.Append(resp.Private.SetKey(ctx, tunnelKey, private)...)
	}
	if err != nil || resp.Diagnostics.HasError() { // Terraform closes only what was opened without an error
		_ = r.data.CloseTunnel(key)
		return
	}
	tflog.Info(ctx, "a tunnel is open", map[string]any{"address": m.Address.ValueString(), "remote": m.remote()})
}

// warnings say why connections through the tunnel get no answer. They are no errors: a destroy plans first, which opens
// tunnels, and an error would keep the machine. Besides, a server may be started later.
func warnings(ctx context.Context, line *host.Line, lost error, remote string) diag.Diagnostics {
	what, err, then := "Could not open the tunnel", lost, "The local port disconnects its clients at once."
	if lost == nil {
		limited, cancel := context.WithTimeout(ctx, probeLimit)
		defer cancel()
		var far net.Conn
		if far, err = line.DialContext(limited, "tcp", remote); err == nil {
			_ = far.Close() // nothing was sent
			return nil
		}
		what = "Nothing answers at " + remote
		then = "The tunnel is open. It disconnects clients until a server listens at " + remote + " on the machine."
	}
	d := diagnostic.Warning(what, err)
	return diag.Diagnostics{diag.NewWarningDiagnostic(d.Summary(), d.Detail()+"\n\n"+then)}
}

func (m model) remote() string {
	address, port := m.RemoteHost.ValueString(), int(m.RemotePort.ValueInt64())
	if address == "" {
		address = vllm.DefaultListen
	}
	if port == 0 {
		port = vllm.DefaultPort
	}
	return net.JoinHostPort(address, strconv.Itoa(port))
}

func (m *model) setReach(port int) {
	address := net.JoinHostPort(loopback, strconv.Itoa(port))
	m.Host, m.Port = types.StringValue(loopback), types.Int64Value(int64(port))
	m.Address, m.URL = types.StringValue(address), types.StringValue("http://"+address)
}

// Close closes the tunnel. If its machine is gone, as on destroy, that is no error.
func (r *Resource) Close(ctx context.Context, req ephemeral.CloseRequest, resp *ephemeral.CloseResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "closing a tunnel")
	private, diags := req.Private.GetKey(ctx, tunnelKey)
	resp.Diagnostics.Append(diags...)
	var key string
	if resp.Diagnostics.HasError() || json.Unmarshal(private, &key) != nil {
		return // nothing was opened
	}
	if err := r.data.CloseTunnel(key); err != nil {
		resp.Diagnostics.Append(diagnostic.Warning("Tunnel did not close in time", err))
	}
}
