// Package vllmdeployment is the resource shopper_vllm_deployment: a vLLM server
// on a machine that SSH reaches.
package vllmdeployment

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/providerdata"
)

const (
	createTimeout = 60 * time.Minute
	readTimeout   = 2 * time.Minute
	updateTimeout = 60 * time.Minute
	deleteTimeout = 10 * time.Minute
)

// Resource is shopper_vllm_deployment.
type Resource struct {
	data *providerdata.Data
}

var (
	_ resource.ResourceWithConfigure      = (*Resource)(nil)
	_ resource.ResourceWithModifyPlan     = (*Resource)(nil)
	_ resource.ResourceWithValidateConfig = (*Resource)(nil)
)

// NewResource returns the resource.
func NewResource() resource.Resource { return &Resource{} }

// Metadata names the resource.
func (r *Resource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_vllm_deployment"
}

// Configure takes what the provider's configuration made.
func (r *Resource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Create starts a server and proves it.
func (r *Resource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "starting a server")
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	secrets := r.secrets(ctx, &plan, req.Config, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	timeout, diags := plan.Timeouts.Create(ctx, createTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	m, err := r.connect(ctx, plan, resp.Private, nil)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not log in to the machine", err))
		return
	}
	defer m.close()
	request := r.request(ctx, plan, secrets, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	status, err := deploy.Launch(ctx, m.client, request)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Server could not be started", err))
		return
	}
	r.finish(ctx, &plan, status, &resp.Diagnostics)
	resp.Diagnostics.Append(resp.State.Set(ctx, &plan)...)
}

// finish fills in the results of a launch.
func (r *Resource) finish(ctx context.Context, plan *model, status deploy.Status, diags *diag.Diagnostics) {
	ssh, d := plan.sshOf(ctx)
	diags.Append(d...)
	diags.Append(plan.setStatus(ctx, status, ssh)...)
	for _, warning := range status.Warnings {
		diags.AddWarning("Server runs, but", warning)
	}
}

// Update replaces the server where the plan takes another one.
func (r *Resource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "replacing a server")
	var plan, state model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if !plan.ID.IsUnknown() { // the server stays as it is
		resp.Diagnostics.Append(resp.State.Set(ctx, &plan)...)
		return
	}
	secrets := r.secrets(ctx, &plan, req.Config, &resp.Diagnostics)
	old, diags := state.ref(ctx)
	resp.Diagnostics.Append(diags...)
	timeout, diags := plan.Timeouts.Update(ctx, updateTimeout)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request := r.request(ctx, plan, secrets, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	m, err := r.connect(ctx, plan, resp.Private, req.Private)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not log in to the machine", err))
		return
	}
	defer m.close()
	policy := deploy.Policy(plan.OnFailure.ValueString())
	if policy == "" {
		policy = deploy.Rollback
	}
	status, err := deploy.Replace(ctx, m.client, old, request, policy)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Server could not be replaced", err))
		if status.ID != "" { // the old one runs again
			r.finish(ctx, &state, status, &resp.Diagnostics)
			resp.Diagnostics.Append(resp.State.Set(ctx, &state)...)
		}
		return
	}
	r.finish(ctx, &plan, status, &resp.Diagnostics)
	resp.Diagnostics.Append(resp.State.Set(ctx, &plan)...)
}

// Read looks at the server over SSH. A machine that doesn't answer leaves state
// as it is, unless the shopper says that its session has ended.
func (r *Resource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "reading a deployment")
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	timeout, diags := state.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	ref, diags := state.ref(ctx)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	status, err := r.inspect(ctx, state, ref, resp.Private, req.Private)
	if err != nil {
		if r.machineGone(ctx, state, &resp.Diagnostics) {
			resp.State.RemoveResource(ctx)
			return
		}
		resp.Diagnostics.Append(diagnostic.Warning("Could not look at the server", err))
		return
	}
	if status.State == deploy.Gone {
		resp.Diagnostics.AddWarning("Server is gone", fmt.Sprintf("The %s %s is no longer on its machine. The next apply starts it"+
			" again.", ref.Runtime, ref.Name))
		resp.State.RemoveResource(ctx)
		return
	}
	state.setInspected(status)
	resp.Diagnostics.Append(resp.State.Set(ctx, &state)...)
}

func (r *Resource) inspect(ctx context.Context, state model, ref deploy.Ref, write privateWriter, read privateReader) (deploy.Status, error) {
	m, err := r.connectOnce(ctx, state, write, read)
	if err != nil {
		return deploy.Status{}, err
	}
	defer m.close()
	return deploy.Inspect(ctx, m.client, ref)
}

// machineGone asks the shopper about a machine that doesn't answer.
func (r *Resource) machineGone(ctx context.Context, state model, diags *diag.Diagnostics) bool {
	id := state.SessionID.ValueString()
	if id == "" || r.data == nil || r.data.Renter == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	_, ended, err := r.data.Renter.Look(ctx, id)
	if err != nil {
		diags.Append(diagnostic.Warning("Could not read session "+id, err))
		return false
	}
	if ended {
		diags.AddWarning("Machine is gone", fmt.Sprintf("The machine doesn't answer, and session %s has ended: the server went with"+
			" it.", id))
	}
	return ended
}

// Delete removes the server. A machine that is proved to be gone has taken it
// along.
func (r *Resource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "removing a server")
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	timeout, diags := state.Timeouts.Delete(ctx, deleteTimeout)
	resp.Diagnostics.Append(diags...)
	ref, diags := state.ref(ctx)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() || ref.ID == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	m, err := r.connect(ctx, state, nil, req.Private)
	if err != nil {
		if r.machineGone(ctx, state, &resp.Diagnostics) {
			return
		}
		resp.Diagnostics.Append(diagnostic.Error("Could not log in to the machine", err))
		resp.Diagnostics.AddError("Server may still run", "Whether the server is still there could not be seen, so it stays in state. If"+
			" the machine is gone for good, remove the deployment from state with `terraform state rm`.")
		return
	}
	defer m.close()
	if err := deploy.Remove(ctx, m.client, ref); err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Server could not be removed", err))
	}
}

// request says what is to be brought about.
func (r *Resource) request(ctx context.Context, plan model, s secrets, diags *diag.Diagnostics) deploy.Request {
	spec, d := plan.spec(ctx, s)
	diags.Append(d...)
	options, d := plan.containerOptions(ctx)
	diags.Append(d...)
	completes, d := plan.completes(ctx)
	diags.Append(d...)
	ssh, d := plan.sshOf(ctx)
	diags.Append(d...)
	name := plan.serverName(options)
	place := plan.SessionID.ValueString()
	if place == "" {
		place = fmt.Sprintf("%s:%d", ssh.Host.ValueString(), ssh.Port.ValueInt64())
	}
	return deploy.Request{
		Name:       name,
		Owner:      r.consumer() + "/" + place + "/" + name,
		Provider:   r.version(),
		Spec:       spec,
		Runtime:    deploy.Container,
		Container:  options,
		Embedding:  !completes,
		KeepFailed: plan.OnFailure.ValueString() == string(deploy.Keep),
		Progress: func(event deploy.Event) {
			tflog.Info(ctx, event.Message, map[string]any{"phase": string(event.Phase)})
		},
	}
}

func (r *Resource) consumer() string {
	if r.data == nil {
		return ""
	}
	return r.data.Consumer
}

func (r *Resource) version() string {
	if r.data == nil {
		return ""
	}
	return r.data.Version
}

// secrets collects the secret values, write-only ones from the configuration,
// and makes the API key where none is given.
func (r *Resource) secrets(ctx context.Context, plan *model, config tfsdk.Config, diags *diag.Diagnostics) secrets {
	var written model
	diags.Append(config.Get(ctx, &written)...)
	s := secrets{apiKey: written.APIKeyWO.ValueString(), hfToken: written.HFTokenWO.ValueString()}
	if s.hfToken == "" {
		s.hfToken = plan.HFToken.ValueString()
	}
	if s.apiKey == "" {
		if plan.APIKey.IsUnknown() || plan.APIKey.IsNull() {
			plan.APIKey = types.StringValue(newAPIKey())
		}
		s.apiKey = plan.APIKey.ValueString()
	}
	return s
}

// newAPIKey makes a key of 256 random bits.
func newAPIKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	return "sk-" + base64.RawURLEncoding.EncodeToString(key)
}
