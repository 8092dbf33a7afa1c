// Package sshattr is the ssh attribute that sessions give and everything that
// works on a machine takes.
package sshattr

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	action "github.com/hashicorp/terraform-plugin-framework/action/schema"
	datasource "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	ephemeral "github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	resource "github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/validate"
)

// Keys is the attribute's value where it is a session's result.
type Keys struct {
	Host       types.String `tfsdk:"host"`
	Port       types.Int64  `tfsdk:"port"`
	User       types.String `tfsdk:"user"`
	PrivateKey types.String `tfsdk:"private_key"`
	HostKey    types.String `tfsdk:"host_key"`
}

// Model is the attribute's value where it is an argument.
type Model struct {
	Keys
	Certificate types.String `tfsdk:"certificate"`
	Bastion     types.Object `tfsdk:"bastion"`
}

const (
	hostText    = "Name or address of the machine."
	portText    = "Port of its SSH server."
	defaultPort = " Default 22."
	userText    = "User to log in as. Root, or a user with passwordless sudo."
	keyText     = "Private key in PEM or OpenSSH form, without a passphrase. Kept in memory only."
	hostKeyText = "The machine's public host key, such as `ssh-ed25519 AAAA…`. A machine that presents another one is refused."
	// Text describes the attribute where it is an argument.
	Text = "How to log in to the machine; normally `shopper_gpu_session.NAME.ssh`."
)

// AttributeTypes are the attribute's types, for an object that is not built from
// a Model.
func AttributeTypes(ctx context.Context) basetypes.ObjectType {
	return Computed("").GetType().(basetypes.ObjectType) //nolint:errcheck // a nested attribute has this type
}

// Computed is the attribute as a resource's result.
func Computed(text string) resource.SingleNestedAttribute {
	return resource.SingleNestedAttribute{
		MarkdownDescription: text,
		Computed:            true,
		Attributes: map[string]resource.Attribute{
			"host": resource.StringAttribute{Computed: true, MarkdownDescription: hostText},
			"port": resource.Int64Attribute{Computed: true, MarkdownDescription: portText},
			"user": resource.StringAttribute{Computed: true, MarkdownDescription: userText},
			"private_key": resource.StringAttribute{
				Computed: true, Sensitive: true,
				MarkdownDescription: "The machine's one-time private key in PEM form. The shopper sends it once and keeps no copy.",
			},
			"host_key": resource.StringAttribute{
				Computed:            true,
				MarkdownDescription: "The machine's public host key as seen at the first login, and required from then on.",
			},
		},
	}
}

// field is one argument, for all the schema packages that it is written in.
type field struct {
	name      string
	required  bool
	sensitive bool
	text      string
	strings   []validator.String
}

func fields() []field {
	return []field{
		{name: "host", required: true, text: hostText, strings: hostValidators()},
		{name: "user", required: true, text: userText, strings: []validator.String{validate.NotEmpty()}},
		{
			name: "private_key", sensitive: true, strings: keyValidators(),
			text: keyText + " When left out, the provider's `ssh` credentials are used.",
		},
		{
			name: "certificate", strings: []validator.String{validate.NotEmpty()},
			text: "OpenSSH user certificate for the private key, as `ssh-keygen -s` writes it into `KEY-cert.pub`.",
		},
		{
			name: "host_key", strings: hostKeyValidators(),
			text: hostKeyText + " When left out, the key seen at first contact is trusted, and kept where there is a state to keep it in.",
		},
	}
}

func bastionFields() []field {
	return []field{
		{name: "host", required: true, text: "Name or address of the jump host.", strings: hostValidators()},
		{name: "user", required: true, text: "User to log in as.", strings: []validator.String{validate.NotEmpty()}},
		{
			name: "private_key", sensitive: true, strings: keyValidators(),
			text: keyText + " When left out, the provider's `ssh` credentials are used, else the machine's own key.",
		},
		{
			name: "host_key", strings: hostKeyValidators(),
			text: "The jump host's public host key. When left out, the key seen at first contact is trusted, and kept where there is a" +
				" state to keep it in.",
		},
	}
}

const bastionText = "Jump host through which the machine is reached."

// Argument is the attribute as a resource's argument.
func Argument() resource.SingleNestedAttribute {
	attributes := func(fields []field) map[string]resource.Attribute {
		all := map[string]resource.Attribute{
			"port": resource.Int64Attribute{Optional: true, MarkdownDescription: portText + defaultPort, Validators: portValidators()},
		}
		for _, f := range fields {
			all[f.name] = resource.StringAttribute{
				Required: f.required, Optional: !f.required, Sensitive: f.sensitive, MarkdownDescription: f.text, Validators: f.strings,
			}
		}
		return all
	}
	all := attributes(fields())
	all["bastion"] = resource.SingleNestedAttribute{
		Optional: true, MarkdownDescription: bastionText, Attributes: attributes(bastionFields()),
	}
	return resource.SingleNestedAttribute{MarkdownDescription: Text, Required: true, Attributes: all}
}

// DataSourceArgument is the attribute as a data source's argument.
func DataSourceArgument(text string, required bool) datasource.SingleNestedAttribute {
	attributes := func(fields []field) map[string]datasource.Attribute {
		all := map[string]datasource.Attribute{
			"port": datasource.Int64Attribute{Optional: true, MarkdownDescription: portText + defaultPort, Validators: portValidators()},
		}
		for _, f := range fields {
			all[f.name] = datasource.StringAttribute{
				Required: f.required, Optional: !f.required, Sensitive: f.sensitive, MarkdownDescription: f.text, Validators: f.strings,
			}
		}
		return all
	}
	all := attributes(fields())
	all["bastion"] = datasource.SingleNestedAttribute{
		Optional: true, MarkdownDescription: bastionText, Attributes: attributes(bastionFields()),
	}
	return datasource.SingleNestedAttribute{MarkdownDescription: text, Required: required, Optional: !required, Attributes: all}
}

// EphemeralArgument is the attribute as an ephemeral resource's argument.
func EphemeralArgument() ephemeral.SingleNestedAttribute {
	attributes := func(fields []field) map[string]ephemeral.Attribute {
		all := map[string]ephemeral.Attribute{
			"port": ephemeral.Int64Attribute{Optional: true, MarkdownDescription: portText + defaultPort, Validators: portValidators()},
		}
		for _, f := range fields {
			all[f.name] = ephemeral.StringAttribute{
				Required: f.required, Optional: !f.required, Sensitive: f.sensitive, MarkdownDescription: f.text, Validators: f.strings,
			}
		}
		return all
	}
	all := attributes(fields())
	all["bastion"] = ephemeral.SingleNestedAttribute{
		Optional: true, MarkdownDescription: bastionText, Attributes: attributes(bastionFields()),
	}
	return ephemeral.SingleNestedAttribute{MarkdownDescription: Text, Required: true, Attributes: all}
}

// ActionArgument is the attribute as an action's argument. Actions have no
// sensitive attributes, and the framework refuses values of write-only ones;
// Terraform shows none of their arguments.
func ActionArgument() action.SingleNestedAttribute {
	attributes := func(fields []field) map[string]action.Attribute {
		all := map[string]action.Attribute{
			"port": action.Int64Attribute{Optional: true, MarkdownDescription: portText + defaultPort, Validators: portValidators()},
		}
		for _, f := range fields {
			all[f.name] = action.StringAttribute{
				Required: f.required, Optional: !f.required, MarkdownDescription: f.text, Validators: f.strings,
			}
		}
		return all
	}
	all := attributes(fields())
	all["bastion"] = action.SingleNestedAttribute{
		Optional: true, MarkdownDescription: bastionText, Attributes: attributes(bastionFields()),
	}
	return action.SingleNestedAttribute{MarkdownDescription: Text, Required: true, Attributes: all}
}

func portValidators() []validator.Int64 {
	return []validator.Int64{int64validator.Between(1, 65535)}
}

func hostValidators() []validator.String {
	return []validator.String{validate.NotEmpty(), validate.String("must be a name or an address", checkHost)}
}

// checkHost says what is wrong with s as the name or the address of a machine.
// What can be a name is let through.
func checkHost(s string) error {
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return nil
	}
	switch {
	case strings.Contains(s, "://"):
		return errors.New("it is a URL; give the name or the address alone")
	case strings.Contains(s, "@"):
		return errors.New("it holds an @; the user to log in as goes into user")
	case strings.Contains(s, ":"):
		return errors.New("it holds a colon and is no IPv6 address; the port goes into port")
	case strings.ContainsAny(s, "/ \t\r\n"):
		return errors.New("it is neither a name nor an address")
	}
	return nil
}

func keyValidators() []validator.String {
	return []validator.String{validate.String("must be an unencrypted private key", host.ParsePrivateKey)}
}

func hostKeyValidators() []validator.String {
	return []validator.String{validate.String("must be a public host key", host.ParseHostKey)}
}

// Known reports whether everything that it takes to log in is known.
func (m Model) Known() bool {
	if m.Bastion.IsUnknown() || m.Certificate.IsUnknown() {
		return false
	}
	for _, value := range m.Bastion.Attributes() {
		if value.IsUnknown() {
			return false
		}
	}
	return !m.Host.IsUnknown() && !m.Port.IsUnknown() && !m.User.IsUnknown() && !m.PrivateKey.IsUnknown() && !m.HostKey.IsUnknown()
}

// Config says how to log in. Where the attribute has no key the provider's
// credentials are offered.
func (k Keys) Config(provider providerdata.SSH) host.Config {
	cfg := host.Config{
		Host:    k.Host.ValueString(),
		Port:    int(k.Port.ValueInt64()),
		User:    k.User.ValueString(),
		HostKey: k.HostKey.ValueString(),
	}
	if key := k.PrivateKey.ValueString(); key != "" {
		cfg.PrivateKeys = []string{key}
		return cfg
	}
	if provider.PrivateKey != "" {
		cfg.PrivateKeys = []string{provider.PrivateKey}
	}
	cfg.AgentSocket = provider.AgentSocket
	return cfg
}

// Config says how to log in, through the jump host where there is one.
func (m Model) Config(provider providerdata.SSH) host.Config {
	cfg := m.Keys.Config(provider)
	if certificate := m.Certificate.ValueString(); certificate != "" {
		cfg.Certificates = []string{certificate}
	}
	if m.Bastion.IsNull() || m.Bastion.IsUnknown() {
		return cfg
	}
	bastion := m.BastionKeys().Config(provider)
	if len(bastion.PrivateKeys) == 0 && bastion.AgentSocket == "" {
		bastion.PrivateKeys = cfg.PrivateKeys
	}
	cfg.Bastion = &bastion
	return cfg
}

// BastionKeys are the jump host's address and keys, all null without one.
func (m Model) BastionKeys() Keys { return keysOf(m.Bastion) }

// keysOf reads an object that has the attributes of Keys.
func keysOf(object types.Object) Keys {
	var k Keys
	text := func(name string) types.String {
		value, _ := object.Attributes()[name].(types.String) // the schema's type
		return value
	}
	k.Host, k.User, k.PrivateKey, k.HostKey = text("host"), text("user"), text("private_key"), text("host_key")
	k.Port, _ = object.Attributes()["port"].(types.Int64) // the same
	return k
}

// Path is where the attribute stands.
func Path() path.Path { return path.Root("ssh") }
