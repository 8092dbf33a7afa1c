// Package restartvllm is the action shopper_restart_vllm.
package restartvllm

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/action/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/action"
	"github.com/hashicorp/terraform-plugin-framework/action/schema"
	data "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/forms"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/reach"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/serverattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// defaultTimeout bounds a restart, which loads the model without downloading it.
const defaultTimeout = 30 * time.Minute

// Action is the action shopper_restart_vllm.
type Action struct {
	data *providerdata.Data
}

var _ action.ActionWithConfigure = (*Action)(nil)

// New returns the action.
func New() action.Action { return &Action{} }

type model struct {
	SSH           types.Object   `tfsdk:"ssh"`
	Server        types.Object   `tfsdk:"server"`
	APIKey        types.String   `tfsdk:"api_key"`
	CACertificate types.String   `tfsdk:"ca_certificate"`
	Model         types.String   `tfsdk:"model"`
	Completion    types.Bool     `tfsdk:"completion"`
	Timeouts      timeouts.Value `tfsdk:"timeouts"`
}

// Metadata names the action.
func (a *Action) Metadata(_ context.Context, req action.MetadataRequest, resp *action.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_restart_vllm"
}

// Configure takes what the provider's configuration made.
func (a *Action) Configure(_ context.Context, req action.ConfigureRequest, resp *action.ConfigureResponse) {
	a.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the action.
func (a *Action) Schema(ctx context.Context, _ action.SchemaRequest, resp *action.SchemaResponse) {
	attributes := forms.Actions(map[string]data.Attribute{
		"ssh":     sshattr.Argument(sshattr.Text, true),
		"server":  serverattr.Argument("Identifies the server on its machine: a deployment's `server`.", true),
		"api_key": argument.Text("The server's API key.", validate.NotEmpty()),
		"ca_certificate": argument.Text("Certificates in PEM form to trust for a server with TLS: a deployment's `ca_certificate`.",
			validate.Certificates()),
		"model": argument.Required(argument.Text("Served name of the model to ask: a deployment's `served_model_name`, else its `model`.",
			validate.NotEmpty())),
		"completion": argument.Flag("Default `true`. Set false for models that don't generate text: they are asked for an embedding."),
	})
	attributes["timeouts"] = timeouts.AttributesWithOpts(ctx, timeouts.Opts{InvokeDescription: "Until the first answer. Default `30m`."})
	resp.Schema = schema.Schema{
		MarkdownDescription: "Restarts a deployment's server unchanged and finishes when its model has answered. A server that doesn't" +
			" come back is left for the next apply to detect, and the error quotes its log.\n\nActions require Terraform 1.14. With" +
			" older Terraform versions and OpenTofu, start a new server with `-replace` of its deployment.",
		Attributes: attributes,
	}
}

// Invoke restarts the server.
func (a *Action) Invoke(ctx context.Context, req action.InvokeRequest, resp *action.InvokeResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "restarting a server")
	diags := &resp.Diagnostics
	var m model
	diags.Append(req.Config.Get(ctx, &m)...)
	ssh, server := attrs.Object[sshattr.Model](ctx, m.SSH, diags), serverattr.Ref(ctx, m.Server, diags)
	timeout, d := m.Timeouts.Invoke(ctx, defaultTimeout)
	diags.Append(d...)
	if diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	say := func(text string) { resp.SendProgress(action.InvokeProgressEvent{Message: text}) }

	say("Logging in to the machine")
	machine, err := a.data.Machines.Open(ctx, ssh.Config(a.data.Credentials()))
	if err != nil {
		diags.Append(diagnostic.Error("Could not log in to the machine", err))
		return
	}
	defer machine.Close()
	status, err := lifecycle.Restart(ctx, machine, server, lifecycle.Request{
		Name:      server.Name,
		Spec:      vllm.Spec{Model: m.Model.ValueString(), ServedModelName: m.Model.ValueString(), APIKey: m.APIKey.ValueString()},
		TLS:       verification(m.CACertificate.ValueString()),
		Embedding: !m.Completion.IsNull() && !m.Completion.ValueBool(),
		Progress:  func(event lifecycle.Event) { say(event.Message) },
	})
	if err != nil {
		diags.Append(diagnostic.Error("Server could not be restarted", err))
		return
	}
	if len(status.Warnings) > 0 {
		diags.AddWarning("Server was restarted, with a warning: "+server.Name, strings.Join(status.Warnings, "\n\n"))
	}
	say("The model has answered")
}

// verification says how a server's certificate is verified, nil for a server without TLS.
func verification(ca string) *lifecycle.TLS {
	if ca == "" {
		return nil
	}
	return &lifecycle.TLS{CA: ca, ServerName: reach.ServerName(ca, vllm.DefaultListen)}
}
