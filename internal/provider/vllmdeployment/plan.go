package vllmdeployment

import (
	"context"
	"errors"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// ValidateConfig judges the arguments together, as vLLM would.
func (r *Resource) ValidateConfig(ctx context.Context, req resource.ValidateConfigRequest, resp *resource.ValidateConfigResponse) {
	var config model
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	spec, diags := config.spec(ctx, secrets{})
	resp.Diagnostics.Append(diags...)
	if config.Model.IsUnknown() {
		spec.Model = "not/known"
	}
	problems, ok := errors.AsType[*vllm.SpecError](spec.Validate())
	if !ok {
		return
	}
	for _, problem := range problems.Problems {
		at := path.Empty()
		if name, ok := fields[problem.Field]; ok {
			at = path.Root(name)
		}
		resp.Diagnostics.AddAttributeError(at, "Invalid "+problem.Field, problem.String()+".")
	}
}

// fields are the attributes that vLLM's arguments come from, by the name that
// package vllm gives them.
var fields = map[string]string{
	"model": "model", "served_model_name": "served_model_name", "revision": "revision", "quantization": "quantization",
	"dtype": "dtype", "max_model_len": "max_model_len", "gpu_memory_utilization": "gpu_memory_utilization",
	"tensor_parallel_size": "tensor_parallel_size", "pipeline_parallel_size": "pipeline_parallel_size", "args": "args",
	"env": "env", "port": "port",
}

// ModifyPlan decides whether the server has to be started again, and whether it
// is on another machine.
func (r *Resource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "planning a deployment")
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan, config model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if !config.APIKeyWO.IsNull() {
		plan.APIKey = types.StringNull() // not the provider's to make
	}
	if req.State.Raw.IsNull() {
		resp.Diagnostics.Append(plan.planReach(ctx)...)
		resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
		return
	}
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if config.APIKeyWO.IsNull() && config.APIKey.IsNull() && !state.APIKey.IsNull() {
		plan.APIKey = state.APIKey
	}
	if movesAway(ctx, state, plan, &resp.Diagnostics) {
		resp.RequiresReplace = append(resp.RequiresReplace, sshattr.Path())
	}
	if restarts(ctx, state, plan, &resp.Diagnostics) {
		plan.forgetResults()
	} else {
		plan.keepResults(state)
	}
	resp.Diagnostics.Append(plan.planReach(ctx)...)
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// planReach fills in how the server will be reached, where that is known.
func (m *model) planReach(ctx context.Context) diag.Diagnostics {
	ssh, diags := m.sshOf(ctx)
	m.BaseURL, m.TunnelCommand = types.StringUnknown(), types.StringUnknown()
	if m.Port.IsUnknown() {
		return diags
	}
	known := !m.SSH.IsUnknown() && !ssh.Host.IsUnknown() && !ssh.Port.IsUnknown() && !ssh.User.IsUnknown()
	m.setReach(ssh)
	if !known {
		m.TunnelCommand = types.StringUnknown()
	}
	return diags
}

// movesAway reports whether the plan is about another machine. A session says so
// by its id: the same session may get a new address.
func movesAway(ctx context.Context, state, plan model, diags *diag.Diagnostics) bool {
	if !plan.SessionID.IsNull() || !state.SessionID.IsNull() {
		return false // session_id decides
	}
	if plan.SSH.IsUnknown() {
		return true
	}
	was, d := state.sshOf(ctx)
	diags.Append(d...)
	will, d := plan.sshOf(ctx)
	diags.Append(d...)
	return !was.Host.Equal(will.Host) || !was.Port.Equal(will.Port)
}

// restarts reports whether going from state to plan takes another server.
func restarts(ctx context.Context, state, plan model, diags *diag.Diagnostics) bool {
	if state.Status.ValueString() != string(deploy.Running) {
		return true
	}
	for _, pair := range [][2]attr.Value{
		{state.Model, plan.Model}, {state.ServedModelName, plan.ServedModelName}, {state.Revision, plan.Revision},
		{state.Quantization, plan.Quantization}, {state.DType, plan.DType}, {state.MaxModelLen, plan.MaxModelLen},
		{state.GPUMemoryUtilization, plan.GPUMemoryUtilization}, {state.TensorParallelSize, plan.TensorParallelSize},
		{state.PipelineParallelSize, plan.PipelineParallelSize}, {state.TrustRemoteCode, plan.TrustRemoteCode},
		{state.Args, plan.Args}, {state.Env, plan.Env}, {state.Port, plan.Port}, {state.APIKey, plan.APIKey},
		{state.APIKeyWOVersion, plan.APIKeyWOVersion}, {state.HFToken, plan.HFToken},
		{state.HFTokenWOVersion, plan.HFTokenWOVersion},
	} {
		if !pair[0].Equal(pair[1]) {
			return true
		}
	}
	if plan.Container.IsUnknown() {
		return true
	}
	was, d := state.containerOptions(ctx)
	diags.Append(d...)
	will, d := plan.containerOptions(ctx)
	diags.Append(d...)
	// How an image is had changes nothing about what runs.
	was.PullPolicy, will.PullPolicy = "", ""
	was.RegistryAuth, will.RegistryAuth = nil, nil
	return was != will
}

// forgetResults marks what another server will tell as not yet known.
func (m *model) forgetResults() {
	m.ID, m.ImageDigest, m.VLLMVersion = types.StringUnknown(), types.StringUnknown(), types.StringUnknown()
	m.Status, m.StartedAt = types.StringUnknown(), types.StringUnknown()
	m.ServedMaxModelLen, m.LoadSeconds = types.Int64Unknown(), types.Float64Unknown()
	m.Server = types.ObjectUnknown(serverTypes)
	m.GPUs = types.ListUnknown(types.ObjectType{AttrTypes: gpuTypes})
}

// keepResults keeps what the same server goes on telling.
func (m *model) keepResults(state model) {
	m.ID, m.ImageDigest, m.VLLMVersion = state.ID, state.ImageDigest, state.VLLMVersion
	m.Status, m.StartedAt = state.Status, state.StartedAt
	m.ServedMaxModelLen, m.LoadSeconds = state.ServedMaxModelLen, state.LoadSeconds
	m.Server, m.GPUs = state.Server, state.GPUs
}
