package vllmdeployment

import (
	"context"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/action/timeouts"
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/action"
	"github.com/hashicorp/terraform-plugin-framework/action/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/reach"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// restartTimeout bounds a restart: the model is loaded again, and not downloaded.
const restartTimeout = 30 * time.Minute

// RestartAction is the action shopper_restart_vllm.
type RestartAction struct {
	data *providerdata.Data
}

var _ action.ActionWithConfigure = (*RestartAction)(nil)

// NewRestartAction returns the action.
func NewRestartAction() action.Action { return &RestartAction{} }

type restartModel struct {
	SSH           types.Object   `tfsdk:"ssh"`
	Server        types.Object   `tfsdk:"server"`
	APIKey        types.String   `tfsdk:"api_key"`
	CACertificate types.String   `tfsdk:"ca_certificate"`
	Model         types.String   `tfsdk:"model"`
	Completion    types.Bool     `tfsdk:"completion"`
	Timeouts      timeouts.Value `tfsdk:"timeouts"`
}

// Metadata names the action.
func (a *RestartAction) Metadata(_ context.Context, req action.MetadataRequest, resp *action.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_restart_vllm"
}

// Configure takes what the provider's configuration made.
func (a *RestartAction) Configure(_ context.Context, req action.ConfigureRequest, resp *action.ConfigureResponse) {
	a.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Schema describes the action.
func (a *RestartAction) Schema(ctx context.Context, _ action.SchemaRequest, resp *action.SchemaResponse) {
	part := func(required bool, text string) schema.StringAttribute {
		return schema.StringAttribute{
			Required: required, Optional: !required, MarkdownDescription: text, Validators: []validator.String{validate.NotEmpty()},
		}
	}
	runtime := part(true, "How it is run.")
	runtime.Validators = []validator.String{stringvalidator.OneOf(string(deploy.Container), string(deploy.Process))}
	resp.Schema = schema.Schema{
		MarkdownDescription: "Starts a deployment's server again as it is, and is done when its model has answered. A server that doesn't" +
			" come back is left for the next apply to see, and its log is in the error.\n\n" +
			"Actions need Terraform 1.14. An older Terraform, and OpenTofu, start a new server by `-replace` of its deployment.",
		Attributes: map[string]schema.Attribute{
			"ssh": sshattr.ActionArgument(),
			"server": schema.SingleNestedAttribute{
				Required: true, MarkdownDescription: "What the server is found by on its machine: a deployment's `server`.",
				Attributes: map[string]schema.Attribute{
					"runtime":   runtime,
					"id":        part(true, "The container's id."),
					"name":      part(false, "Its name."),
					"owner":     part(false, "The deployment that it belongs to."),
					"listen":    part(false, "Its address on the machine."),
					"directory": part(false, "Where it keeps its files."),
					"port": schema.Int64Attribute{
						Required: true, MarkdownDescription: "Its port.", Validators: []validator.Int64{int64validator.Between(1, 65535)},
					},
				},
			},
			"api_key":        part(false, "The server's API key."),
			"ca_certificate": part(false, "What is trusted of a server with TLS, in PEM form: a deployment's `ca_certificate`."),
			"model":          part(true, "The model's name as it is served, which is asked: a deployment's `served_model_name`, else its `model`."),
			"completion": schema.BoolAttribute{
				Optional:            true,
				MarkdownDescription: "Default true; false for models that don't complete, which are asked for an embedding.",
			},
			"timeouts": timeouts.AttributesWithOpts(ctx, timeouts.Opts{InvokeDescription: "Until the first answer. Default `30m`."}),
		},
	}
}

// Invoke restarts the server.
func (a *RestartAction) Invoke(ctx context.Context, req action.InvokeRequest, resp *action.InvokeResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "restarting a server")
	var m restartModel
	resp.Diagnostics.Append(req.Config.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	var ssh sshattr.Model
	resp.Diagnostics.Append(m.SSH.As(ctx, &ssh, basetypes.ObjectAsOptions{})...)
	server, diags := model{Server: m.Server}.ref(ctx)
	resp.Diagnostics.Append(diags...)
	timeout, diags := m.Timeouts.Invoke(ctx, restartTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	say := func(text string) { resp.SendProgress(action.InvokeProgressEvent{Message: text}) }

	say("Logging in to the machine")
	login := ssh.Config(a.data.Credentials())
	client, err := host.Dial(ctx, login)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not log in to the machine", err))
		return
	}
	machine := host.NewLine(client, login)
	defer closeMachine(machine)
	status, err := lifecycle.Restart(ctx, machine, server, lifecycle.Request{
		Name:      server.Name,
		Spec:      vllm.Spec{Model: m.Model.ValueString(), ServedModelName: m.Model.ValueString(), APIKey: m.APIKey.ValueString()},
		TLS:       restartTLS(m.CACertificate.ValueString()),
		Embedding: !m.Completion.IsNull() && !m.Completion.ValueBool(),
		Progress:  func(event lifecycle.Event) { say(event.Message) },
	})
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Server could not be restarted", err))
		return
	}
	if len(status.Warnings) > 0 {
		resp.Diagnostics.AddWarning("Server runs, with a warning: "+server.Name, strings.Join(status.Warnings, "\n\n"))
	}
	say("The model has answered")
}

// restartTLS is how a server is verified, nil for one without TLS.
func restartTLS(ca string) *lifecycle.TLS {
	if ca == "" {
		return nil
	}
	return &lifecycle.TLS{CA: ca, ServerName: reach.ServerName(ca, vllm.DefaultListen)}
}
