package vllmdeployment

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/reach"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/tunnelcommand"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// The values of exposure.
const (
	private = "private"
	public  = "public"
)

const (
	// vastDomain is the domain of the proxies in front of Vast.ai's machines.
	vastDomain = ".vast.ai"
	// vastCloud is the shopper's name for Vast.ai.
	vastCloud = "vastai"
)

type tlsModel struct {
	Certificate         types.String `tfsdk:"certificate"`
	PrivateKey          types.String `tfsdk:"private_key"`
	PrivateKeyWO        types.String `tfsdk:"private_key_wo"`
	PrivateKeyWOVersion types.Int64  `tfsdk:"private_key_wo_version"`
}

func (m model) isPublic() bool { return m.Exposure.ValueString() == public }

// isTLS reports whether the server has TLS; false if that isn't known.
func (m model) isTLS() bool { return !m.TLS.IsNull() && !m.TLS.IsUnknown() }

func (m model) tlsOf(ctx context.Context, diags *diag.Diagnostics) tlsModel {
	return attrs.Object[tlsModel](ctx, m.TLS, diags)
}

// generated reports whether the provider makes the certificate.
func (t tlsModel) generated() bool { return t.Certificate.IsNull() }

// listen is the address on which the server listens, "" for loopback.
func (m model) listen(host string) string {
	if !m.isPublic() {
		return ""
	}
	if address, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && address.Is6() {
		return "::"
	}
	return "0.0.0.0"
}

// name is the host in the URL of the server's clients.
func (m model) name(ssh sshattr.Model, t tlsModel) string {
	if !m.isPublic() {
		return vllm.DefaultListen
	}
	host := strings.Trim(ssh.Host.ValueString(), "[]")
	if m.isTLS() && !t.generated() {
		return reach.ServerName(t.Certificate.ValueString(), host)
	}
	return host
}

// url is the server's base URL, without a path.
func (m model) url(ssh sshattr.Model, t tlsModel) string {
	scheme := "http"
	if m.isTLS() {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(m.name(ssh, t), strconv.Itoa(m.port()))
}

// certifiedName is the name that the server's certificate is verified for.
func (m model) certifiedName(ssh sshattr.Model, t tlsModel) string {
	if name := m.name(ssh, t); m.isPublic() || t.generated() {
		return name
	}
	return reach.ServerName(t.Certificate.ValueString(), vllm.DefaultListen)
}

// setReach fills in how a client reaches the server.
func (m *model) setReach(ctx context.Context, ssh sshattr.Model, diags *diag.Diagnostics) {
	m.BaseURL = types.StringValue(m.url(ssh, m.tlsOf(ctx, diags)) + "/v1")
	m.TunnelCommand = types.StringValue(tunnelcommand.Command(ssh.Config(providerdata.SSH{}), m.port(), m.localPort()))
}

// certify returns the server's certificate, nil without TLS, and sets what clients trust. It makes the certificate if
// none is configured.
func (m *model) certify(ctx context.Context, ssh sshattr.Model, key string, diags *diag.Diagnostics) *lifecycle.TLS {
	m.CACertificate = types.StringNull()
	if !m.isTLS() {
		return nil
	}
	t := m.tlsOf(ctx, diags)
	settings := &lifecycle.TLS{Certificate: t.Certificate.ValueString(), Key: key, ServerName: m.certifiedName(ssh, t)}
	if t.generated() {
		made, err := newCertificate(time.Now(), strings.Trim(ssh.Host.ValueString(), "[]"), vllm.DefaultListen, "::1", "localhost")
		if err != nil {
			diags.AddError("Certificate could not be created", err.Error())
			return nil
		}
		settings.Certificate, settings.Key, settings.CA = made.chain, made.key, made.authority
		m.CACertificate = types.StringValue(made.authority)
		return settings
	}
	m.CACertificate = t.Certificate
	if err := checkPair(settings.Certificate, settings.Key); err != nil {
		diags.AddAttributeError(tlsPath, "Invalid tls", "The server's certificate can't be used: "+err.Error()+".")
	}
	return settings
}

// trusted says how the certificate of the server in state is verified, nil without TLS.
func (m model) trusted(ctx context.Context, diags *diag.Diagnostics) *lifecycle.TLS {
	if m.CACertificate.IsNull() {
		return nil
	}
	name := m.certifiedName(m.sshOf(ctx, diags), m.tlsOf(ctx, diags))
	return &lifecycle.TLS{CA: m.CACertificate.ValueString(), ServerName: name}
}

// checkPublic refuses a public server on a machine whose ports the cloud keeps closed, before anything is started. If the
// shopper can't report the machine's cloud, the check at the public address decides later.
func (r *Resource) checkPublic(ctx context.Context, plan model, diags *diag.Diagnostics) {
	if !plan.isPublic() {
		return
	}
	id := plan.SessionID.ValueString()
	onVast := strings.HasSuffix(plan.sshOf(ctx, diags).Host.ValueString(), vastDomain)
	if !onVast && id != "" && r.data != nil && r.data.Client != nil {
		session, err := r.data.Client.Session(ctx, id)
		if err != nil {
			diags.Append(diagnostic.Warning("Could not read session "+id, err))
			return
		}
		onVast = session.Cloud == vastCloud
	}
	if onVast {
		diags.AddAttributeError(exposurePath, "Only SSH is reachable", fmt.Sprintf(vastText, "was"))
	}
}

const vastText = "On a Vast.ai machine only SSH is reachable from outside, so clients could not reach a public server. Nothing %s" +
	" started. Set exposure = \"private\" and connect through SSH (tunnel_command), or rent a machine from another cloud."

// warnPublic warns of the routes that stay open on a public server of the release that will run.
func (m model) warnPublic(ctx context.Context, state model, diags *diag.Diagnostics) {
	if !m.isPublic() {
		return
	}
	spec := m.spec(ctx, secrets{}, diags)
	text := vllm.Exposure(m.release(ctx, state), spec.Env[vllm.EnvDevelopment] == "1")
	if m.TLS.IsNull() {
		text += " Without tls the key is sent unencrypted."
	}
	diags.AddAttributeWarning(exposurePath, m.about("Routes stay open to everyone"), text+" Use a firewall that admits only your"+
		" clients, or keep the server private and connect through SSH.")
}
