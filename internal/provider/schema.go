package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/terraform-plugin-framework-validators/float64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/mapvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
)

// model is the provider's configuration.
type model struct {
	URL               types.String `tfsdk:"url"`
	Token             types.String `tfsdk:"token"`
	Headers           types.Map    `tfsdk:"headers"`
	CACertificate     types.String `tfsdk:"ca_certificate"`
	ClientCertificate types.String `tfsdk:"client_certificate"`
	ClientKey         types.String `tfsdk:"client_key"`
	ConsumerID        types.String `tfsdk:"consumer_id"`
	JournalDirectory  types.String `tfsdk:"journal_directory"`
	RequestTimeout    types.String `tfsdk:"request_timeout"`
	MaxRetries        types.Int64  `tfsdk:"max_retries"`
	Budget            types.Object `tfsdk:"budget"`
	SSH               types.Object `tfsdk:"ssh"`
}

type budgetModel struct {
	MaxPricePerHour types.Float64 `tfsdk:"max_price_per_hour"`
}

type sshModel struct {
	PrivateKey types.String `tfsdk:"private_key"`
	Agent      types.Bool   `tfsdk:"agent"`
}

const (
	defaultURL      = "http://localhost:8080"
	defaultConsumer = "terraform"
)

var headerPattern = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

// Schema describes the provider's configuration.
func (p *Shopper) Schema(_ context.Context, _ provider.SchemaRequest, resp *provider.SchemaResponse) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Rents GPU machines through the shopper (cloud-gpu-shopper), serves open models on them with vLLM," +
			" verifies that they answer, and releases everything on destroy.",
		Attributes: map[string]schema.Attribute{
			"url": optional("The shopper's address. Default: the environment variable `SHOPPER_URL`, else `"+defaultURL+"`.",
				validate.String("must be an http or https URL", validate.URL)),
			"token": secret("Bearer token for a proxy in front of the shopper. Default: the environment variable `SHOPPER_TOKEN`.",
				validate.NotEmpty(), validate.String("must be a token", checkToken)),
			"headers": schema.MapAttribute{
				Optional: true, Sensitive: true, ElementType: types.StringType,
				Validators: []validator.Map{
					mapvalidator.KeysAre(stringvalidator.RegexMatches(headerPattern, "must be the name of an HTTP header")),
				},
				MarkdownDescription: "Additional HTTP headers for every request to the shopper.",
			},
			"ca_certificate": optional("Certificates in PEM form to trust for the shopper, in addition to the system's own.",
				validate.Certificates()),
			"client_certificate": optional("Client certificate in PEM form to present to the shopper.",
				stringvalidator.AlsoRequires(path.MatchRoot("client_key"))),
			"client_key": secret("Private key of `client_certificate` in PEM form.",
				stringvalidator.AlsoRequires(path.MatchRoot("client_certificate"))),
			"consumer_id": optional("Who rents. It is the first part of the mark that every rental carries and that finds a machine"+
				" again after a crash. Use a separate one for each stack. Default: the environment variable `SHOPPER_CONSUMER_ID`,"+
				" else `"+defaultConsumer+"`.", validate.String("must be a name without a slash", rental.ValidateName)),
			"journal_directory": optional("Directory for the journal of rentals. After a crash, the journal shows which machines are" +
				" leftovers of this configuration. Default: `shopper` in Terraform's data directory (`.terraform`, or" +
				" `TF_DATA_DIR`). `\"\"` turns it off."),
			"request_timeout": optional("Timeout for each attempt of a read request. Default `30s`. Requests that rent or release have"+
				" their own, longer timeouts, because the shopper waits for the cloud before it answers.",
				validate.Duration(time.Second, 5*time.Minute, 1)),
			"max_retries": schema.Int64Attribute{
				Optional: true, Validators: []validator.Int64{int64validator.Between(0, 20)},
				MarkdownDescription: "How often a failed read request is retried. Default 4. Requests that rent are never retried.",
			},
			"budget": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Spending limit.",
				Attributes: map[string]schema.Attribute{
					"max_price_per_hour": schema.Float64Attribute{
						Required: true, Validators: []validator.Float64{float64validator.AtLeast(0.0001)},
						MarkdownDescription: "Ceiling in USD per hour on the total price of all live sessions of this consumer. A" +
							" session that would exceed it is refused before anything is rented.",
					},
				},
			},
			"ssh": schema.SingleNestedAttribute{
				Optional:            true,
				MarkdownDescription: "Credentials for machines that are configured without a private key.",
				Attributes: map[string]schema.Attribute{
					"private_key": secret("Private key in PEM or OpenSSH form, without a passphrase. Default: the environment variable"+
						" `SHOPPER_SSH_PRIVATE_KEY`.", validate.String("must be an unencrypted private key", host.ParsePrivateKey)),
					"agent": schema.BoolAttribute{
						Optional:            true,
						MarkdownDescription: "Offer the keys of the SSH agent at `SSH_AUTH_SOCK` too. Default `false`.",
					},
				},
			},
		},
	}
}

// optional is an argument that is a string.
func optional(text string, validators ...validator.String) schema.StringAttribute {
	return schema.StringAttribute{Optional: true, MarkdownDescription: text, Validators: validators}
}

// secret is a sensitive argument.
func secret(text string, validators ...validator.String) schema.StringAttribute {
	attribute := optional(text, validators...)
	attribute.Sensitive = true
	return attribute
}

// checkToken says why s can't be sent in an HTTP header. Its error doesn't contain s.
func checkToken(s string) error {
	if strings.TrimSpace(s) != s {
		return errors.New("it begins or ends with white space, such as the line break at a file's end; trimspace(file(\"PATH\"))" +
			" removes it")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("it contains characters that are not allowed in an HTTP header")
	}
	return nil
}

// ValidateConfig checks that the client certificate and its key belong together.
func (p *Shopper) ValidateConfig(ctx context.Context, req provider.ValidateConfigRequest, resp *provider.ValidateConfigResponse) {
	var config model
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	certificate, key := config.ClientCertificate, config.ClientKey
	if resp.Diagnostics.HasError() || certificate.ValueString() == "" || key.ValueString() == "" {
		return
	}
	if _, err := tls.X509KeyPair([]byte(certificate.ValueString()), []byte(key.ValueString())); err != nil {
		resp.Diagnostics.AddAttributeError(path.Root("client_certificate"), "Invalid client certificate",
			"client_certificate and client_key are not a certificate in PEM form and its private key.")
	}
}
