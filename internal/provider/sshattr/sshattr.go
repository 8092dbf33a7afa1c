// Package sshattr is the ssh attribute that sessions give and everything that
// works on a machine takes.
package sshattr

import (
	"context"

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

// Model is the attribute's value.
type Model struct {
	Host       types.String `tfsdk:"host"`
	Port       types.Int64  `tfsdk:"port"`
	User       types.String `tfsdk:"user"`
	PrivateKey types.String `tfsdk:"private_key"`
	HostKey    types.String `tfsdk:"host_key"`
}

const (
	hostText    = "Name or address of the machine."
	portText    = "Port of its SSH server."
	userText    = "User to log in as. Root, or a user with passwordless sudo."
	keyText     = "Private key in PEM or OpenSSH form, without a passphrase. Kept in memory only."
	hostKeyText = "The machine's public host key, such as `ssh-ed25519 AAAA…`. A machine that presents another one is refused."
	// Text describes the attribute where it is an argument.
	Text = "How to log in to the machine; normally `shopper_gpu_session.NAME.ssh`."
)

// AttributeTypes are the attribute's types, for an object that is not built from
// a Model.
func AttributeTypes(ctx context.Context) basetypes.ObjectType {
	return Computed("").GetType().(basetypes.ObjectType) //nolint:forcetypeassert // a nested attribute's type
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

// Argument is the attribute as a resource's argument.
func Argument() resource.SingleNestedAttribute {
	return resource.SingleNestedAttribute{
		MarkdownDescription: Text,
		Required:            true,
		Attributes: map[string]resource.Attribute{
			"host": resource.StringAttribute{
				Required: true, MarkdownDescription: hostText, Validators: []validator.String{validate.NotEmpty()},
			},
			"port": resource.Int64Attribute{
				Optional: true, MarkdownDescription: portText + " Default 22.", Validators: portValidators(),
			},
			"user": resource.StringAttribute{
				Required: true, MarkdownDescription: userText, Validators: []validator.String{validate.NotEmpty()},
			},
			"private_key": resource.StringAttribute{
				Optional: true, Sensitive: true, Validators: keyValidators(),
				MarkdownDescription: keyText + " When left out, the provider's `ssh` credentials are used.",
			},
			"host_key": resource.StringAttribute{
				Optional: true, Validators: hostKeyValidators(),
				MarkdownDescription: hostKeyText + " When left out, the key seen at first contact is trusted and kept.",
			},
		},
	}
}

// DataSourceArgument is the attribute as a data source's argument.
func DataSourceArgument(text string, required bool) datasource.SingleNestedAttribute {
	return datasource.SingleNestedAttribute{
		MarkdownDescription: text,
		Required:            required,
		Optional:            !required,
		Attributes: map[string]datasource.Attribute{
			"host": datasource.StringAttribute{
				Required: true, MarkdownDescription: hostText, Validators: []validator.String{validate.NotEmpty()},
			},
			"port": datasource.Int64Attribute{
				Optional: true, MarkdownDescription: portText + " Default 22.", Validators: portValidators(),
			},
			"user": datasource.StringAttribute{
				Required: true, MarkdownDescription: userText, Validators: []validator.String{validate.NotEmpty()},
			},
			"private_key": datasource.StringAttribute{
				Optional: true, Sensitive: true, Validators: keyValidators(),
				MarkdownDescription: keyText + " When left out, the provider's `ssh` credentials are used.",
			},
			"host_key": datasource.StringAttribute{
				Optional: true, Validators: hostKeyValidators(), MarkdownDescription: hostKeyText,
			},
		},
	}
}

// EphemeralArgument is the attribute as an ephemeral resource's argument.
func EphemeralArgument() ephemeral.SingleNestedAttribute {
	return ephemeral.SingleNestedAttribute{
		MarkdownDescription: Text,
		Required:            true,
		Attributes: map[string]ephemeral.Attribute{
			"host": ephemeral.StringAttribute{
				Required: true, MarkdownDescription: hostText, Validators: []validator.String{validate.NotEmpty()},
			},
			"port": ephemeral.Int64Attribute{
				Optional: true, MarkdownDescription: portText + " Default 22.", Validators: portValidators(),
			},
			"user": ephemeral.StringAttribute{
				Required: true, MarkdownDescription: userText, Validators: []validator.String{validate.NotEmpty()},
			},
			"private_key": ephemeral.StringAttribute{
				Optional: true, Sensitive: true, Validators: keyValidators(),
				MarkdownDescription: keyText + " When left out, the provider's `ssh` credentials are used.",
			},
			"host_key": ephemeral.StringAttribute{
				Optional: true, Validators: hostKeyValidators(), MarkdownDescription: hostKeyText,
			},
		},
	}
}

// ActionArgument is the attribute as an action's argument. Actions have no
// sensitive attributes: Terraform shows none of their arguments.
func ActionArgument() action.SingleNestedAttribute {
	return action.SingleNestedAttribute{
		MarkdownDescription: Text,
		Required:            true,
		Attributes: map[string]action.Attribute{
			"host": action.StringAttribute{
				Required: true, MarkdownDescription: hostText, Validators: []validator.String{validate.NotEmpty()},
			},
			"port": action.Int64Attribute{
				Optional: true, MarkdownDescription: portText + " Default 22.", Validators: portValidators(),
			},
			"user": action.StringAttribute{
				Required: true, MarkdownDescription: userText, Validators: []validator.String{validate.NotEmpty()},
			},
			"private_key": action.StringAttribute{
				Optional: true, WriteOnly: true, Validators: keyValidators(),
				MarkdownDescription: keyText + " When left out, the provider's `ssh` credentials are used.",
			},
			"host_key": action.StringAttribute{
				Optional: true, Validators: hostKeyValidators(), MarkdownDescription: hostKeyText,
			},
		},
	}
}

func portValidators() []validator.Int64 {
	return []validator.Int64{int64validator.Between(1, 65535)}
}

func keyValidators() []validator.String {
	return []validator.String{validate.String("must be an unencrypted private key", host.ParsePrivateKey)}
}

func hostKeyValidators() []validator.String {
	return []validator.String{validate.String("must be a public host key", host.ParseHostKey)}
}

// Known reports whether everything that it takes to log in is known.
func (m Model) Known() bool {
	return !m.Host.IsUnknown() && !m.Port.IsUnknown() && !m.User.IsUnknown() && !m.PrivateKey.IsUnknown() && !m.HostKey.IsUnknown()
}

// Config says how to log in. Where the attribute has no key the provider's
// credentials are offered.
func (m Model) Config(provider providerdata.SSH) host.Config {
	cfg := host.Config{
		Host:    m.Host.ValueString(),
		Port:    int(m.Port.ValueInt64()),
		User:    m.User.ValueString(),
		HostKey: m.HostKey.ValueString(),
	}
	if key := m.PrivateKey.ValueString(); key != "" {
		cfg.PrivateKeys = []string{key}
		return cfg
	}
	if provider.PrivateKey != "" {
		cfg.PrivateKeys = []string{provider.PrivateKey}
	}
	cfg.AgentSocket = provider.AgentSocket
	return cfg
}

// Path is where the attribute stands.
func Path() path.Path { return path.Root("ssh") }
