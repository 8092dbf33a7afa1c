// Package sshattr is the attribute ssh, a result of sessions and an argument of everything that works on a machine.
package sshattr

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	datasource "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	resource "github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/forms"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
)

// Keys is the attribute's value as a session's result.
type Keys struct {
	Host       types.String `tfsdk:"host"`
	Port       types.Int64  `tfsdk:"port"`
	User       types.String `tfsdk:"user"`
	PrivateKey types.String `tfsdk:"private_key"`
	HostKey    types.String `tfsdk:"host_key"`
}

// Model is the attribute's value as an argument.
type Model struct {
	Keys
	Certificate types.String `tfsdk:"certificate"`
	Bastion     types.Object `tfsdk:"bastion"`
}

const (
	hostText    = "Name or address of the machine."
	portText    = "Port of its SSH server."
	userText    = "User to log in as. Root, or a user with passwordless sudo."
	hostKeyText = "The machine's public host key, such as `ssh-ed25519 AAAA…`. A machine that presents a different one is refused."
	// Text describes the attribute as an argument.
	Text = "How to log in to the machine; normally `shopper_gpu_session.NAME.ssh`."
)

// AttributeTypes are the types of the attribute's parts as a result.
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

// Argument is the attribute as an argument.
func Argument(text string, required bool) datasource.SingleNestedAttribute {
	const keyText = "Private key in PEM or OpenSSH form, without a passphrase. Kept in memory only. When omitted, the provider's `ssh`" +
		" credentials are used"
	all := login(hostText, userText, keyText+".", hostKeyText)
	all["certificate"] = argument.Text("OpenSSH user certificate for the private key, as `ssh-keygen -s` writes it into `KEY-cert.pub`.",
		validate.NotEmpty())
	all["bastion"] = datasource.SingleNestedAttribute{
		Optional: true, MarkdownDescription: "Jump host through which the machine is reached.",
		Attributes: login("Name or address of the jump host.", "User to log in as.", keyText+", else the machine's own key.",
			"The jump host's public host key."),
	}
	return datasource.SingleNestedAttribute{MarkdownDescription: text, Required: required, Optional: !required, Attributes: all}
}

// login describes the arguments of a login.
func login(address, user, key, hostKey string) map[string]datasource.Attribute {
	return map[string]datasource.Attribute{
		"host":        argument.Required(argument.Text(address, validate.NotEmpty(), validate.String("must be a name or an address", checkHost))),
		"port":        argument.Port(portText + " Default 22."),
		"user":        argument.Required(argument.Text(user, validate.NotEmpty())),
		"private_key": argument.Secret(key, validate.String("must be an unencrypted private key", host.ParsePrivateKey)),
		"host_key": argument.Text(hostKey+" When omitted, the key seen at first contact is trusted and, in resources, stored in state.",
			validate.String("must be a public host key", host.ParseHostKey)),
	}
}

// ResourceArgument is the attribute as a resource's argument. Its ports have their default in the plan, so that an omitted port
// equals the configured default.
func ResourceArgument() resource.Attribute {
	all, _ := forms.Resource(Argument(Text, true)).(resource.SingleNestedAttribute) // as all objects are
	all.Attributes["port"] = portArgument()
	if bastion, ok := all.Attributes["bastion"].(resource.SingleNestedAttribute); ok {
		bastion.Attributes["port"] = portArgument()
	}
	return all
}

func portArgument() resource.Int64Attribute {
	return resource.Int64Attribute{
		Optional: true, Computed: true, Default: int64default.StaticInt64(host.DefaultPort),
		MarkdownDescription: portText + " Default `22`.",
		Validators:          []validator.Int64{int64validator.Between(1, 65535)},
	}
}

// checkHost says what is wrong with s as the name or the address of a machine. It accepts anything that may be a name.
func checkHost(s string) error {
	if _, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")); err == nil {
		return nil
	}
	switch {
	case strings.Contains(s, "://"):
		return errors.New("it is a URL; set only the name or the address")
	case strings.Contains(s, "@"):
		return errors.New("it contains an @; set the user in user")
	case strings.Contains(s, ":"):
		return errors.New("it contains a colon and is not an IPv6 address; set the port in port")
	case strings.ContainsAny(s, "/ \t\r\n"):
		return errors.New("it is neither a name nor an address")
	}
	return nil
}

// Config says how to log in: with the attribute's key, else with the provider's credentials.
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

// Config says how to log in, through the jump host if there is one.
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

// keysOf reads an object with the attributes of Keys.
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

// Path is the attribute's path.
func Path() path.Path { return path.Root("ssh") }
