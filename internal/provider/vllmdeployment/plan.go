package vllmdeployment

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/serverattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
)

// ModifyPlan decides whether the server has to be restarted, and whether it moves to another machine.
func (r *Resource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "planning a deployment")
	if req.Plan.Raw.IsNull() {
		return
	}
	var plan, config, state model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	creates := req.State.Raw.IsNull()
	if !creates {
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	}
	if resp.Diagnostics.HasError() {
		return
	}
	if ref := state.ref(ctx, &resp.Diagnostics); ref.Owner != "" {
		r.seen(ctx, ref.Owner) // also without a refresh
	}
	plan.planAPIKey(config, state)
	ssh := plan.sshOf(ctx, &resp.Diagnostics)
	plan.planHostKeys(ssh, state)
	was, _ := readLaunched(ctx, req.Private)
	starts := creates || restarts(ctx, state, plan, &resp.Diagnostics) || rekeys(ctx, state, plan, config, was, &resp.Diagnostics)
	if !creates && movesAway(ctx, state, plan, &resp.Diagnostics) {
		resp.RequiresReplace = append(resp.RequiresReplace, sshattr.Path()) // Terraform plans a creation next
	}
	switch {
	case !creates && !starts:
		plan.keepResults(state)
	case !creates:
		plan.forgetResults()
	}
	plan.planReach(ctx, ssh, state, starts, &resp.Diagnostics)
	if starts {
		plan.warnPublic(ctx, state, &resp.Diagnostics)
		plan.warnFlags(ctx, state, &resp.Diagnostics)
	}
	if plan.isPublic() && strings.HasSuffix(ssh.Host.ValueString(), vastDomain) {
		// No error: a destroy plans first, and would keep the machine. The apply refuses it.
		resp.Diagnostics.AddAttributeWarning(exposurePath, plan.about("Only SSH is reachable"), fmt.Sprintf(vastText, "will be"))
	}
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
}

// planAPIKey plans the API key: the configured one, else the one that the provider has made or will make.
func (m *model) planAPIKey(config, state model) {
	switch {
	case !config.APIKeyWO.IsNull():
		m.APIKey = types.StringNull()
	case !config.APIKey.IsNull():
	case !state.APIKey.IsNull():
		m.APIKey = state.APIKey
	default: // none was made, or the server has a different one now
		m.APIKey = types.StringUnknown()
	}
}

// planHostKeys pins the configured host keys, else those that have been seen.
func (m *model) planHostKeys(ssh sshattr.Model, state model) {
	m.HostKey, m.BastionHostKey = types.StringUnknown(), types.StringUnknown()
	if m.SSH.IsUnknown() {
		return
	}
	m.HostKey = pin(ssh.HostKey, state.HostKey)
	switch will, was := ssh.BastionKeys(), bastionOf(state.SSH); {
	case ssh.Bastion.IsNull():
		m.BastionHostKey = types.StringNull()
	case ssh.Bastion.IsUnknown():
	case will.Host.Equal(was.Host) && will.Port.Equal(was.Port):
		m.BastionHostKey = pin(will.HostKey, state.BastionHostKey)
	default: // a different jump host
		m.BastionHostKey = pin(will.HostKey, types.StringNull())
	}
}

// pin is the configured key, else the one that has been seen, else unknown until the next login.
func pin(configured, seen types.String) types.String {
	switch {
	case !configured.IsNull():
		return configured
	case !seen.IsNull():
		return seen
	}
	return types.StringUnknown()
}

// bastionOf is the jump host of an ssh attribute.
func bastionOf(ssh types.Object) sshattr.Keys {
	bastion, _ := ssh.Attributes()["bastion"].(types.Object) // the schema's type
	return sshattr.Model{Bastion: bastion}.BastionKeys()
}

// jumpKnown reports whether the jump host's address and user are known, or that there is none.
func jumpKnown(ssh sshattr.Model) bool {
	jump := ssh.Bastion.Attributes()
	unknown := func(name string) bool { return jump[name] != nil && jump[name].IsUnknown() }
	return !ssh.Bastion.IsUnknown() && !unknown("host") && !unknown("port") && !unknown("user")
}

// planReach fills in how the server will be reached, as far as that is known.
func (m *model) planReach(ctx context.Context, ssh sshattr.Model, state model, starts bool, diags *diag.Diagnostics) {
	t := m.tlsOf(ctx, diags)
	known := !m.SSH.IsUnknown() && !ssh.Host.IsUnknown() && !ssh.Port.IsUnknown() && !ssh.User.IsUnknown() && !m.Port.IsUnknown()
	certain := !m.TLS.IsUnknown() && !t.Certificate.IsUnknown() && !m.Exposure.IsUnknown() && !m.Port.IsUnknown()
	m.setReach(ctx, ssh, diags)
	if !known || m.LocalPort.IsUnknown() || ssh.HostKey.IsUnknown() || !jumpKnown(ssh) {
		m.TunnelCommand = types.StringUnknown()
	}
	if !certain || (m.isPublic() && !known) {
		m.BaseURL = types.StringUnknown()
	}
	switch {
	case m.TLS.IsUnknown():
		m.CACertificate = types.StringUnknown()
	case m.TLS.IsNull():
		m.CACertificate = types.StringNull()
	case !t.generated():
		m.CACertificate = t.Certificate
	case starts:
		m.CACertificate = types.StringUnknown()
	default:
		m.CACertificate = state.CACertificate
	}
}

// movesAway reports whether the plan is for a different machine. With a session its ID decides, because the address of a
// session may change.
func movesAway(ctx context.Context, state, plan model, diags *diag.Diagnostics) bool {
	if !plan.SessionID.IsNull() || !state.SessionID.IsNull() {
		return false // session_id decides
	}
	if plan.SSH.IsUnknown() {
		return true
	}
	was, will := state.sshOf(ctx, diags), plan.sshOf(ctx, diags)
	return !was.Host.Equal(will.Host) || !was.Port.Equal(will.Port)
}

// restarts reports whether the change from state to plan requires a restart.
func restarts(ctx context.Context, state, plan model, diags *diag.Diagnostics) bool {
	switch deploy.State(state.Status.ValueString()) {
	case deploy.Running, deploy.Unknown: // a server of unknown status is left alone
	default:
		return true
	}
	for _, pair := range [][2]attr.Value{
		{state.Model, plan.Model},
		{state.ServedModelName, plan.ServedModelName},
		{state.Revision, plan.Revision},
		{state.Quantization, plan.Quantization},
		{state.DType, plan.DType},
		{state.MaxModelLen, plan.MaxModelLen},
		{state.GPUMemoryUtilization, plan.GPUMemoryUtilization},
		{state.TensorParallelSize, plan.TensorParallelSize},
		{state.PipelineParallelSize, plan.PipelineParallelSize},
		{state.KVCacheDType, plan.KVCacheDType},
		{state.PrefixCaching, plan.PrefixCaching},
		{state.ToolCallParser, plan.ToolCallParser},
		{state.ReasoningParser, plan.ReasoningParser},
		{state.Args, plan.Args},
		{state.Env, plan.Env},
		{state.TrustRemoteCode, plan.TrustRemoteCode},
		{state.Port, plan.Port},
		{state.Exposure, plan.Exposure},
	} {
		if !pair[0].Equal(pair[1]) {
			return true
		}
	}
	if !state.LoRAAdapters.Equal(plan.LoRAAdapters) && !plan.reloads(ctx, state) {
		return true
	}
	return runsOtherwise(ctx, state, plan, diags) || certifiesOtherwise(ctx, state, plan, diags)
}

// rekeys reports whether the plan gives the server a different secret. A secret that isn't in state, as after an import, is
// compared by its fingerprint.
func rekeys(ctx context.Context, state, plan, config model, was launched, diags *diag.Diagnostics) bool {
	ref := state.ref(ctx, diags)
	same := func(before, after types.String, version, next types.Int64, written types.String, fingerprint string) bool {
		given := after
		if !written.IsNull() {
			given = written
		}
		return (before.Equal(after) && version.Equal(next)) ||
			(!given.IsUnknown() && deploy.SameSecret(fingerprint, ref.Owner, given.ValueString()))
	}
	return !same(state.APIKey, plan.APIKey, state.APIKeyWOVersion, plan.APIKeyWOVersion, config.APIKeyWO, was.APIKeyPrint) ||
		!same(state.HFToken, plan.HFToken, state.HFTokenWOVersion, plan.HFTokenWOVersion, config.HFTokenWO, was.HFPrint)
}

// runsOtherwise reports whether the plan runs the server differently: its runtime, container or process settings.
func runsOtherwise(ctx context.Context, state, plan model, diags *diag.Diagnostics) bool {
	if plan.Runtime.IsUnknown() || plan.Container.IsUnknown() || plan.Process.IsUnknown() {
		return true
	}
	ref := state.ref(ctx, diags)
	if kind := plan.kind(); kind != deploy.Auto && kind != ref.Runtime {
		return true
	}
	if ref.Runtime == deploy.Process {
		return installsOtherwise(ctx, state, plan, diags)
	}
	was, will := state.containerOptions(ctx, diags), plan.containerOptions(ctx, diags)
	// How the image and the engine get onto the machine changes nothing about what runs.
	was.PullPolicy, will.PullPolicy = "", ""
	was.InstallEngine, will.InstallEngine = false, false
	was.RegistryAuth, will.RegistryAuth = nil, nil
	return was != will
}

// installsOtherwise reports whether the plan needs a different installation of vLLM.
func installsOtherwise(ctx context.Context, state, plan model, diags *diag.Diagnostics) bool {
	was, will := state.processOptions(ctx, diags), plan.processOptions(ctx, diags)
	// Without a version any release will do, and so does the running one if the plan names it.
	version := will.Version == "" || will.Version == was.Version || will.Version == state.VLLMVersion.ValueString()
	return !version || was.Directory != will.Directory
}

// certifiesOtherwise reports whether the plan needs a different certificate, or a generated one must be renewed.
func certifiesOtherwise(ctx context.Context, state, plan model, diags *diag.Diagnostics) bool {
	if plan.TLS.IsUnknown() || state.TLS.IsNull() != plan.TLS.IsNull() {
		return true
	}
	if plan.TLS.IsNull() {
		return false
	}
	was, will := state.tlsOf(ctx, diags), plan.tlsOf(ctx, diags)
	if !was.Certificate.Equal(will.Certificate) { // the key goes with it
		return true
	}
	if !will.generated() {
		return false
	}
	before, after := state.sshOf(ctx, diags), plan.sshOf(ctx, diags)
	return ends(state.CACertificate.ValueString(), time.Now()) || (plan.isPublic() && !before.Host.Equal(after.Host))
}

// forgetResults marks the results of a new server as unknown.
func (m *model) forgetResults() {
	m.ID, m.ImageDigest, m.VLLMVersion = types.StringUnknown(), types.StringUnknown(), types.StringUnknown()
	m.Status, m.StartedAt = types.StringUnknown(), types.StringUnknown()
	m.ServedMaxModelLen, m.LoadSeconds = types.Int64Unknown(), types.Float64Unknown()
	m.Server = types.ObjectUnknown(serverattr.Types)
	m.GPUs = types.ListUnknown(types.ObjectType{AttrTypes: gpuTypes})
}

// keepResults keeps the results of a server that stays as it is.
func (m *model) keepResults(state model) {
	m.ID, m.ImageDigest, m.VLLMVersion = state.ID, state.ImageDigest, state.VLLMVersion
	m.Status, m.StartedAt = state.Status, state.StartedAt
	m.ServedMaxModelLen, m.LoadSeconds = state.ServedMaxModelLen, state.LoadSeconds
	m.Server, m.GPUs = state.Server, state.GPUs
}

// condition is the server's status as the attribute status shows it.
func condition(status deploy.Status) string {
	if status.RestartLoop {
		return "restart loop"
	}
	return string(status.State)
}

// ending says how a server that isn't running ended.
func ending(status deploy.Status) string {
	if status.State == deploy.Orphaned {
		return fmt.Sprintf("The %s %s is still running, but its supervisor was killed: if it dies, nothing restarts"+
			" it.", status.Runtime, status.Name)
	}
	text := fmt.Sprintf("The status of the %s %s is %q", status.Runtime, status.Name, condition(status))
	if status.RestartLoop {
		text = fmt.Sprintf("The %s %s keeps dying: it has been restarted %d times", status.Runtime, status.Name, status.RestartCount)
	}
	// 0 is no success: the API server exits with 0 when its engine has died.
	if (status.State == deploy.Exited || status.State == deploy.Restarting) && status.ExitCode != 0 {
		text += fmt.Sprintf(", with exit code %d", status.ExitCode)
	}
	if status.Reason != "" {
		text += " (" + status.Reason + ")"
	}
	return text + "."
}
