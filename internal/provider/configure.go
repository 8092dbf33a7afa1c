package provider

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Configure makes the shopper's client. It sends no request.
func (p *Shopper) Configure(ctx context.Context, req provider.ConfigureRequest, resp *provider.ConfigureResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "configuring the provider")
	var config model
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	data := &providerdata.Data{
		Version:  p.version,
		Consumer: setting(config.ConsumerID, "SHOPPER_CONSUMER_ID", defaultConsumer),
		Journal:  journal.Open(config.journalDirectory(), journal.Run()),
		Unknown:  config.unknown(ctx),
	}
	resp.DataSourceData, resp.ResourceData, resp.EphemeralResourceData = data, data, data
	resp.ActionData, resp.ListResourceData = data, data
	p.mu.Lock()
	p.data = append(p.data, data)
	p.mu.Unlock()

	data.SSH = config.sshCredentials(ctx, &resp.Diagnostics)
	config.validateEnvironment(&resp.Diagnostics)
	if len(data.Unknown) > 0 || resp.Diagnostics.HasError() {
		return
	}
	client, err := shopper.New(config.client(ctx, p.version, &resp.Diagnostics))
	if err != nil {
		resp.Diagnostics.AddError("Invalid provider configuration", err.Error())
		return
	}
	data.Client = client
	data.Renter = rental.New(client, rental.Config{
		Consumer:        data.Consumer,
		Journal:         data.Journal,
		MaxPricePerHour: attrs.Object[budgetModel](ctx, config.Budget, &resp.Diagnostics).MaxPricePerHour.ValueFloat64(),
	})
}

// validateEnvironment checks environment variables that replace attributes, as the attributes' validators would.
func (m model) validateEnvironment(diags *diag.Diagnostics) {
	for _, s := range []struct {
		attribute types.String
		variable  string
		check     func(string) error
	}{
		{m.URL, "SHOPPER_URL", validate.URL},
		{m.Token, "SHOPPER_TOKEN", checkToken},
		{m.ConsumerID, "SHOPPER_CONSUMER_ID", rental.ValidateName},
	} {
		if set := os.Getenv(s.variable); s.attribute.IsNull() && set != "" {
			if err := s.check(set); err != nil {
				diags.AddError("Invalid "+s.variable, fmt.Sprintf("The environment variable %s can't be used: %v.", s.variable, err))
			}
		}
	}
}

// setting is an attribute's value, else the environment's, else the default.
func setting(value types.String, variable, fallback string) string {
	if !value.IsNull() && !value.IsUnknown() {
		return value.ValueString()
	}
	return cmp.Or(os.Getenv(variable), fallback)
}

// unknown names the settings that are unknown, or contain something unknown.
func (m model) unknown(ctx context.Context) []string {
	var names []string
	for _, setting := range []struct {
		name  string
		value attr.Value
	}{
		{"url", m.URL},
		{"token", m.Token},
		{"headers", m.Headers},
		{"ca_certificate", m.CACertificate},
		{"client_certificate", m.ClientCertificate},
		{"client_key", m.ClientKey},
		{"consumer_id", m.ConsumerID},
		{"journal_directory", m.JournalDirectory},
		{"request_timeout", m.RequestTimeout},
		{"max_retries", m.MaxRetries},
		{"budget", m.Budget},
	} {
		if value, err := setting.value.ToTerraformValue(ctx); err != nil || !value.IsFullyKnown() {
			names = append(names, setting.name)
		}
	}
	return names
}

func (m model) client(ctx context.Context, version string, diags *diag.Diagnostics) shopper.Config {
	var headers map[string]string
	diags.Append(m.Headers.ElementsAs(ctx, &headers, false)...)
	cfg := shopper.Config{
		URL:               setting(m.URL, "SHOPPER_URL", defaultURL),
		Token:             setting(m.Token, "SHOPPER_TOKEN", ""),
		Headers:           headers,
		CACertificate:     m.CACertificate.ValueString(),
		ClientCertificate: m.ClientCertificate.ValueString(),
		ClientKey:         m.ClientKey.ValueString(),
		RequestTimeout:    validate.Span(m.RequestTimeout.ValueString()),
		MaxRetries:        int(m.MaxRetries.ValueInt64()),
		UserAgent:         "terraform-provider-shopper/" + version,
	}
	if !m.MaxRetries.IsNull() && cfg.MaxRetries == 0 {
		cfg.MaxRetries = -1 // means none; 0 is the default
	}
	return cfg
}

// journalDirectory is the journal's directory, "" for no journal. A relative path is relative to Terraform's working
// directory, in which it starts the provider.
func (m model) journalDirectory() string {
	if !m.JournalDirectory.IsNull() {
		return m.JournalDirectory.ValueString()
	}
	return filepath.Join(cmp.Or(os.Getenv("TF_DATA_DIR"), ".terraform"), "shopper")
}

func (m model) sshCredentials(ctx context.Context, diags *diag.Diagnostics) providerdata.SSH {
	config := attrs.Object[sshModel](ctx, m.SSH, diags)
	credentials := providerdata.SSH{PrivateKey: setting(config.PrivateKey, "SHOPPER_SSH_PRIVATE_KEY", "")}
	if credentials.PrivateKey != "" && config.PrivateKey.IsNull() {
		if err := host.ParsePrivateKey(credentials.PrivateKey); err != nil {
			diags.AddError("Invalid SHOPPER_SSH_PRIVATE_KEY", "The environment variable SHOPPER_SSH_PRIVATE_KEY can't be used: "+
				err.Error())
		}
	}
	if !config.Agent.ValueBool() {
		return credentials
	}
	credentials.AgentSocket = os.Getenv("SSH_AUTH_SOCK")
	if credentials.AgentSocket == "" {
		diags.AddAttributeError(path.Root("ssh").AtName("agent"), "No SSH agent",
			"ssh.agent is true, but SSH_AUTH_SOCK is not set. Start an agent, or set ssh.private_key.")
	}
	return credentials
}
