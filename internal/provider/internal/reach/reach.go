// Package reach connects data sources and actions to a vLLM server, directly or from its machine through SSH.
package reach

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// defaultURL is the address of a deployment's server on its machine, unless it is configured otherwise.
func defaultURL() string {
	return "http://" + net.JoinHostPort(vllm.DefaultListen, strconv.Itoa(vllm.DefaultPort)) + "/v1"
}

// Arguments name a server for a data source. Embed them in its model.
type Arguments struct {
	BaseURL       types.String `tfsdk:"base_url"`
	CACertificate types.String `tfsdk:"ca_certificate"`
	SSH           types.Object `tfsdk:"ssh"`
	APIKey        types.String `tfsdk:"api_key"`
}

// Attributes describe Arguments.
func Attributes(ssh string) map[string]schema.Attribute {
	address := argument.Text("Base URL of the OpenAI API, such as a deployment's `base_url`. With `ssh` it is resolved on the"+
		" machine, and defaults to `"+defaultURL()+"`.",
		validate.String("must be an http or https URL", validate.URL),
		stringvalidator.AtLeastOneOf(path.MatchRoot("base_url"), path.MatchRoot("ssh")))
	address.Computed = true
	return map[string]schema.Attribute{
		"base_url": address,
		"ca_certificate": argument.Text("Certificates in PEM form to trust instead of the system's own, such as a deployment's"+
			" `ca_certificate`.", validate.Certificates()),
		"ssh":     sshattr.Argument(ssh, false),
		"api_key": argument.Secret("The server's API key.", validate.NotEmpty()),
	}
}

// Target is the server that Arguments name.
type Target struct {
	URL string
	// SSH is the machine, nil for a server that is reached directly.
	SSH    *host.Config
	apiKey string
	ca     string // PEM, "" for the system's own certificates
}

// Read turns the arguments into a target.
func Read(ctx context.Context, data *providerdata.Data, of Arguments, diags *diag.Diagnostics) Target {
	t := Target{
		URL: cmp.Or(of.BaseURL.ValueString(), defaultURL()), apiKey: of.APIKey.ValueString(), ca: of.CACertificate.ValueString(),
	}
	if !of.SSH.IsNull() {
		cfg := attrs.Object[sshattr.Model](ctx, of.SSH, diags).Config(data.Credentials())
		t.SSH = &cfg
	}
	return t
}

// Route is an open way to a server. The caller closes it.
type Route struct {
	// Machine is the connection to the server's machine, nil if the server is reached directly.
	Machine *host.Line
	// Server is the client of the server's API.
	Server    *vllm.Client
	transport *http.Transport
}

// Open logs in to the machine, if there is one. The error says why that failed; whether the server answers is not checked.
func (t Target) Open(ctx context.Context, data *providerdata.Data) (*Route, error) {
	r := &Route{}
	if t.SSH == nil {
		r.transport = &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true}
	} else {
		machine, err := data.Machines.Open(ctx, *t.SSH)
		if err != nil {
			return nil, err
		}
		r.Machine, r.transport = machine, machine.HTTPTransport()
	}
	if t.ca != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(t.ca))
		r.transport.TLSClientConfig = &tls.Config{RootCAs: pool, ServerName: t.serverName(), MinVersion: tls.VersionTLS12}
	}
	r.Server = vllm.NewClient(r.transport, t.URL, t.apiKey)
	return r, nil
}

// serverName is the name that a certificate is verified for, "" for the URL's own host. Through SSH the URL's host is a
// loopback address, which few certificates contain.
func (t Target) serverName() string {
	at, err := url.Parse(t.URL)
	if err != nil || t.SSH == nil {
		return ""
	}
	return ServerName(t.ca, at.Hostname())
}

// ServerName is the name that the certificate of a server at an address is verified for: the address if the first
// certificate of chain is valid for it, else that certificate's first DNS name without a wildcard.
func ServerName(chain, address string) string {
	block, _ := pem.Decode([]byte(chain))
	if block == nil {
		return address
	}
	found, err := x509.ParseCertificate(block.Bytes)
	if err != nil || found.VerifyHostname(address) == nil {
		return address
	}
	for _, name := range found.DNSNames {
		if !strings.Contains(name, "*") {
			return name
		}
	}
	return address
}

// Close closes the route's connections.
func (r *Route) Close() {
	r.transport.CloseIdleConnections()
	if r.Machine != nil {
		_ = r.Machine.Close()
	}
}
