// Package reach is how data sources and actions reach a vLLM server: directly, or
// from its machine through SSH.
package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
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
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// defaultURL is where a deployment's server listens on its machine unless told
// otherwise.
func defaultURL() string {
	return "http://" + net.JoinHostPort(vllm.DefaultListen, strconv.Itoa(vllm.DefaultPort)) + "/v1"
}

// Attributes are the arguments that name a server for a data source:
// base_url, ca_certificate, ssh and api_key.
func Attributes(ssh string) map[string]schema.Attribute {
	return map[string]schema.Attribute{
		"base_url": schema.StringAttribute{
			Optional: true, Computed: true,
			Validators: []validator.String{
				validate.String("must be an http or https URL", validate.URL),
				stringvalidator.AtLeastOneOf(path.MatchRoot("base_url"), path.MatchRoot("ssh")),
			},
			MarkdownDescription: "Base URL of the OpenAI API, such as a deployment's `base_url`. With `ssh` it is resolved on the" +
				" machine, and defaults to `" + defaultURL() + "`.",
		},
		"ca_certificate": schema.StringAttribute{
			Optional:            true,
			Validators:          []validator.String{validate.String("must contain certificates in PEM form", checkCertificates)},
			MarkdownDescription: "Certificates in PEM form to trust instead of the system's own, such as a deployment's `ca_certificate`.",
		},
		"ssh": sshattr.DataSourceArgument(ssh, false),
		"api_key": schema.StringAttribute{
			Optional: true, Sensitive: true, MarkdownDescription: "The server's API key.",
			Validators: []validator.String{validate.NotEmpty()},
		},
	}
}

func checkCertificates(text string) error {
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		return errors.New("it contains no certificate in PEM form")
	}
	return nil
}

// Server are those arguments.
type Server struct {
	BaseURL, CACertificate, APIKey types.String
	SSH                            types.Object
}

// Target is what those arguments say.
type Target struct {
	URL string
	// SSH is the machine, nil for a server that is reached directly.
	SSH    *host.Config
	apiKey string
	ca     string // PEM; "" = the system's own
}

// Read turns the arguments into a target.
func Read(ctx context.Context, data *providerdata.Data, server Server) (Target, diag.Diagnostics) {
	t := Target{URL: server.BaseURL.ValueString(), apiKey: server.APIKey.ValueString(), ca: server.CACertificate.ValueString()}
	if t.URL == "" {
		t.URL = defaultURL()
	}
	if server.SSH.IsNull() {
		return t, nil
	}
	var m sshattr.Model
	diags := server.SSH.As(ctx, &m, basetypes.ObjectAsOptions{})
	cfg := m.Config(data.Credentials())
	t.SSH = &cfg
	return t, diags
}

// Route is an open way to a server. Whoever opened it closes it.
type Route struct {
	// Machine is the login to the server's machine, nil where there is none.
	Machine *host.Line
	// Server is the client of the server's API.
	Server    *vllm.Client
	transport *http.Transport
}

// Open opens the way. The error says why the machine can't be logged in to;
// whether the server answers is another question.
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

// serverName is what a certificate is verified for, "" for the URL's own host. Seen
// from its machine a server is at an address of loopback, which is in few
// certificates.
func (t Target) serverName() string {
	at, err := url.Parse(t.URL)
	if err != nil || t.SSH == nil {
		return ""
	}
	return ServerName(t.ca, at.Hostname())
}

// ServerName is the name by which a server at an address is verified, where chain is its
// certificate, or the authority's: the address itself where the certificate is for it, else
// the certificate's own first name.
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
