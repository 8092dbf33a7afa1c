package provider

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Configure makes the client of the shopper. It makes no request.
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

		Journal: journal.Open(config.journalDirectory(), journal.Run()),
		Unknown: config.unknown(),
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
		MaxPricePerHour: config.budget(ctx, &resp.Diagnostics),
	})
}

// validateEnvironment judges what the environment says in an attribute's place as
// the attribute's validators judge that.
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
	if set := os.Getenv(variable); set != "" {
		return set
	}
	return fallback
}

// unknown names the settings that depend on something not yet known.
func (m model) unknown() []string {
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
		if !whollyKnown(setting.value) {
			names = append(names, setting.name)
		}
	}
	return names
}

func whollyKnown(value attr.Value) bool {
	if value.IsUnknown() {
		return false
	}
	switch value := value.(type) {
	case types.Map:
		for _, element := range value.Elements() {
			if element.IsUnknown() {
				return false
			}
		}
	case types.Object:
		for _, element := range value.Attributes() {
			if element.IsUnknown() {
				return false
			}
		}
	}
	return true
}

func (m model) client(ctx context.Context, version string, diags *diag.Diagnostics) shopper.Config {
	headers := map[string]string{}
	if !m.Headers.IsNull() {
		diags.Append(m.Headers.ElementsAs(ctx, &headers, false)...)
	}
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
		cfg.MaxRetries = -1 // the client's word for none
	}
	return cfg
}

// journalDirectory is where the journal is kept, "" to keep none. Terraform
// starts the provider in the directory that it works in.
func (m model) journalDirectory() string {
	if !m.JournalDirectory.IsNull() {
		return m.JournalDirectory.ValueString()
	}
	data := os.Getenv("TF_DATA_DIR")
	if data == "" {
		data = ".terraform"
	}
	return filepath.Join(data, "shopper")
}

func (m model) budget(ctx context.Context, diags *diag.Diagnostics) float64 {
	var budget budgetModel
	if m.Budget.IsNull() {
		return 0
	}
	diags.Append(m.Budget.As(ctx, &budget, basetypes.ObjectAsOptions{})...)
	return budget.MaxPricePerHour.ValueFloat64()
}

func (m model) sshCredentials(ctx context.Context, diags *diag.Diagnostics) providerdata.SSH {
	var config sshModel
	if !m.SSH.IsNull() && !m.SSH.IsUnknown() {
		diags.Append(m.SSH.As(ctx, &config, basetypes.ObjectAsOptions{})...)
	}
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
