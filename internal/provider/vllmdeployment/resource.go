// Package vllmdeployment is the resource shopper_vllm_deployment: a vLLM server
// on a machine that SSH reaches.
package vllmdeployment

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	createTimeout = 60 * time.Minute
	readTimeout   = 2 * time.Minute
	updateTimeout = 60 * time.Minute
	deleteTimeout = 10 * time.Minute
	// readyMargin is the time for the phases before the start, on top of ready.timeout.
	readyMargin = 30 * time.Minute
)

// Resource is shopper_vllm_deployment.
type Resource struct {
	data *providerdata.Data
}

var (
	_ resource.ResourceWithConfigure      = (*Resource)(nil)
	_ resource.ResourceWithModifyPlan     = (*Resource)(nil)
	_ resource.ResourceWithValidateConfig = (*Resource)(nil)
	_ resource.ResourceWithImportState    = (*Resource)(nil)
	_ resource.ResourceWithIdentity       = (*Resource)(nil)
)

// NewResource returns the resource.
func NewResource() resource.Resource { return &Resource{} }

// Metadata names the resource.
func (r *Resource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_vllm_deployment"
	resp.ResourceBehavior.MutableIdentity = true // a new name or user keeps the deployment
}

// Configure takes what the provider's configuration made.
func (r *Resource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	r.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// Create starts a server and waits until its model has answered.
func (r *Resource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "starting a server")
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	given := r.secrets(ctx, &plan, req.Config, &resp.Diagnostics)
	timeout, diags := plan.Timeouts.Create(ctx, max(createTimeout, plan.readyTimeout(ctx, &resp.Diagnostics)+readyMargin))
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request := r.request(ctx, &plan, given, &resp.Diagnostics)
	release := claim(request, plan.port(), &resp.Diagnostics)
	defer release()
	r.checkPublic(ctx, plan, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	machine, err := r.connect(ctx, &plan)
	if err != nil {
		resp.Diagnostics.Append(plan.stillRented("Could not log in to the machine", err))
		return
	}
	defer machine.Close()
	status, err := r.launch(ctx, machine, request)
	if err != nil {
		resp.Diagnostics.Append(plan.stillRented("Server could not be started", err))
		return
	}
	was := plan.complete(ctx, machine, status, given.apiKey, &resp.Diagnostics)
	r.finish(ctx, &plan, status, was, resp.Private, &resp.Diagnostics)
	plan.store(ctx, &resp.State, resp.Identity, &resp.Diagnostics)
}

// stillRented is the error of a server that doesn't run. It says that the rented machine still costs money, and how to rent
// another one if that helps. The shopper never reports a session's offer, but the session's state has it.
func (m model) stillRented(summary string, err error) diag.Diagnostic {
	d, id := diagnostic.Error(summary, err), m.SessionID.ValueString()
	if id == "" {
		return d
	}
	advice := "apply again, or destroy it."
	if e, ok := deploy.AsError(err); ok && e.OfMachine {
		advice = "another machine may not have this fault. To rent one, add the session's offer_id to exclude_offers in its" +
			" requirements and apply again."
	}
	return diag.NewErrorDiagnostic(d.Summary(), fmt.Sprintf("%s\n\nSession %s is still rented and costs money: %s", d.Detail(), id, advice))
}

// about is the summary of a warning about this server. Terraform shows only the first of several warnings with the same summary.
func (m model) about(summary string) string {
	place := m.Model.ValueString()
	if address, ok := m.SSH.Attributes()["host"].(types.String); ok && address.ValueString() != "" {
		place = fmt.Sprintf("%s, port %d", address.ValueString(), m.port())
	}
	return summary + ": " + place
}

// warning turns an error into a warning about this server.
func (m model) warning(what string, err error) diag.Diagnostic {
	d := diagnostic.Warning(what, err)
	return diag.NewWarningDiagnostic(m.about(d.Summary()), d.Detail())
}

// finish fills in the results of a launch, and keeps what later inspections of the server are compared with.
func (r *Resource) finish(ctx context.Context, plan *model, status deploy.Status, was launched, write privateWriter,
	diags *diag.Diagnostics,
) {
	plan.setStatus(ctx, status, plan.sshOf(ctx, diags), diags)
	diags.Append(was.keep(ctx, write)...)
	if len(status.Warnings) > 0 {
		diags.AddWarning(plan.about("Server is running, with a warning"), strings.Join(status.Warnings, "\n\n"))
	}
}

// Update replaces the server if the plan requires that.
func (r *Resource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "replacing a server")
	var plan, state model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	if resp.Diagnostics.HasError() {
		return
	}
	if !plan.ID.IsUnknown() { // the server stays as it is
		ssh := plan.sshOf(ctx, &resp.Diagnostics)
		plan.planHostKeys(ssh, state)
		for _, key := range []*types.String{&plan.HostKey, &plan.BastionHostKey} {
			if key.IsUnknown() { // no login takes place
				*key = types.StringNull()
			}
		}
		plan.setReach(ctx, ssh, &resp.Diagnostics)
		if !state.LoRAAdapters.Equal(plan.LoRAAdapters) {
			r.reload(ctx, &plan, state, req, resp)
		}
		plan.store(ctx, &resp.State, resp.Identity, &resp.Diagnostics)
		return
	}
	r.replace(ctx, &plan, state, req, resp)
}

func (r *Resource) replace(ctx context.Context, plan *model, state model, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	given := r.secrets(ctx, plan, req.Config, &resp.Diagnostics)
	old := state.ref(ctx, &resp.Diagnostics)
	limit := max(updateTimeout, plan.readyTimeout(ctx, &resp.Diagnostics)+readyMargin) + state.drainTime()
	timeout, diags := plan.Timeouts.Update(ctx, limit)
	resp.Diagnostics.Append(diags...)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	request := r.request(ctx, plan, given, &resp.Diagnostics)
	request.Owner = old.Owner // a new name must not hide the old server
	request.PreviousTLS = state.trusted(ctx, &resp.Diagnostics)
	release := claim(request, plan.port(), &resp.Diagnostics)
	defer release()
	r.checkPublic(ctx, *plan, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	machine, err := r.connect(ctx, plan)
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Could not log in to the machine", err))
		return
	}
	defer machine.Close()
	status, err := lifecycle.Replace(ctx, machine, old, request, lifecycle.Policy(plan.OnFailure.ValueString()))
	if err != nil {
		resp.Diagnostics.Append(diagnostic.Error("Server could not be replaced", err))
		if status.ID != "" { // the old one runs again
			was, _ := readLaunched(ctx, req.Private)
			state.restored(ctx, was, status, &resp.Diagnostics)
			state.store(ctx, &resp.State, resp.Identity, &resp.Diagnostics)
		}
		return
	}
	r.finish(ctx, plan, status, launchedFrom(status), resp.Private, &resp.Diagnostics)
	plan.store(ctx, &resp.State, resp.Identity, &resp.Diagnostics)
}

// restored fills in that the previous server runs again. A process has a new identity then; everything else is as it was
// when the server was launched.
func (m *model) restored(ctx context.Context, was launched, status deploy.Status, diags *diag.Diagnostics) {
	m.setInspected(ctx, status, diags)
	if was.Run != "" {
		m.setAdapters(ctx, vllm.ParseCommandLine(was.Arguments).LoRAAdapters, diags)
	}
}

// Read inspects the server over SSH. If the machine doesn't answer, state stays unchanged, unless the shopper reports that
// the machine's session has ended.
func (r *Resource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "reading a deployment")
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	timeout, diags := state.Timeouts.Read(ctx, readTimeout)
	resp.Diagnostics.Append(diags...)
	ref := state.ref(ctx, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	state.store(ctx, &resp.State, resp.Identity, &resp.Diagnostics) // a CLI without identities sends none
	r.seen(ctx, ref.Owner)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	was, launched := readLaunched(ctx, req.Private)
	status, err := r.inspect(limited, &state, ref, was.Kills, &resp.Diagnostics)
	if err != nil {
		if r.machineGone(ctx, state, &resp.Diagnostics) {
			resp.State.RemoveResource(ctx)
			return
		}
		resp.Diagnostics.Append(state.warning("Could not inspect the server", err))
		return
	}
	if status.State == deploy.Gone {
		resp.Diagnostics.AddWarning(state.about("Server is gone"), fmt.Sprintf("The %s %s is no longer on its machine. The next apply"+
			" starts a new one.", ref.Runtime, ref.Name))
		resp.State.RemoveResource(ctx)
		return
	}
	state.setInspected(ctx, status, &resp.Diagnostics)
	if launched {
		state.showDrift(ctx, was, status, &resp.Diagnostics)
		if was.APIKeyPrint != status.APIKeyPrint || was.HFPrint != status.HFTokenPrint {
			was.APIKeyPrint, was.HFPrint = status.APIKeyPrint, status.HFTokenPrint // what the next plan compares secrets with
			resp.Diagnostics.Append(was.keep(ctx, resp.Private)...)
		}
	}
	state.store(ctx, &resp.State, resp.Identity, &resp.Diagnostics)
}

// inspect inspects the server, or its successor if its own ID is gone. It warns of a server that isn't running, with the
// cause from its log and from what the kernel has killed since before its start.
func (r *Resource) inspect(ctx context.Context, state *model, ref deploy.Ref, before deploy.Kills,
	diags *diag.Diagnostics,
) (deploy.Status, error) {
	machine, err := r.connectOnce(ctx, state)
	if err != nil {
		return deploy.Status{}, err
	}
	defer machine.Close()
	status, err := lifecycle.Inspect(ctx, machine, ref)
	if err == nil && status.State == deploy.Gone {
		status, err = successor(ctx, machine, ref)
	}
	if err != nil || status.State == deploy.Gone || condition(status) == string(deploy.Running) {
		return status, err
	}
	text := ending(status)
	if status.State == deploy.Unknown {
		diags.AddWarning(state.about("State of the server is unknown"), text+" This version of the provider doesn't know that status,"+
			" and leaves the server alone.")
		return status, nil
	}
	if status.State == deploy.Orphaned {
		diags.AddWarning(state.about("Server has lost its supervisor"), text+" The next apply restarts it.")
		return status, nil
	}
	diagnose := vllm.Diagnose
	if status.RestartLoop {
		diagnose = vllm.DiagnoseLoop
	}
	if log, err := lifecycle.LogTail(ctx, machine, status.Ref, logLines); err != nil {
		text += " Its log could not be read: " + err.Error() + "."
	} else if diagnosis, ok := diagnose(log); ok {
		diagnosis = lifecycle.ExplainDeath(diagnosis, status, before, lifecycle.CountKills(ctx, machine))
		text += " " + diagnosis.Cause + " " + diagnosis.WayOut
	}
	diags.AddWarning(state.about("Server is not running"), text+" The next apply restarts it.")
	return status, nil
}

// logLines is how many of the last log lines of a server that isn't running are read.
const logLines = 400

// successor is the server with the deployment's mark that has replaced one whose ID is gone: a process that was restarted,
// or a container that some tool recreated.
func successor(ctx context.Context, machine deploy.Machine, ref deploy.Ref) (deploy.Status, error) {
	found, err := lifecycle.Find(ctx, machine, ref)
	if err != nil {
		return deploy.Status{}, err
	}
	best := deploy.Status{Ref: ref, State: deploy.Gone}
	for _, status := range found {
		if best.State == deploy.Gone || (status.State == deploy.Running && best.State != deploy.Running) {
			best = status
		}
	}
	if best.State == deploy.Gone {
		return best, nil
	}
	return lifecycle.Inspect(ctx, machine, best.Ref)
}

// Delete removes the server. If its machine is proved to be gone, so is the server. A failed login to a rented machine is no
// error, so that its session can be released next, which removes the server.
func (r *Resource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	defer diagnostic.Recover(ctx, &resp.Diagnostics, "removing a server")
	var state model
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	timeout, diags := state.Timeouts.Delete(ctx, deleteTimeout+state.drainTime())
	resp.Diagnostics.Append(diags...)
	ref := state.ref(ctx, &resp.Diagnostics)
	if resp.Diagnostics.HasError() || ref.ID == "" {
		return
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	waiting, end := context.WithTimeout(limited, state.removalLimit())
	defer end()
	machine, err := r.connectOnce(waiting, &state)
	if host.KindOf(err) == host.Unreachable && !r.machineGone(waiting, state, &resp.Diagnostics) {
		machine, err = r.connect(waiting, &state)
	}
	if err != nil {
		r.leave(ctx, state, ref, err, &resp.Diagnostics)
		return
	}
	defer machine.Close()
	tflog.Info(ctx, "removing the server "+ref.Name, map[string]any{"phase": string(deploy.PhaseRemove)})
	rented, stop := r.whileRented(limited, state, machine)
	defer stop()
	warning, err := lifecycle.Remove(rented, machine, ref, lifecycle.Request{
		DrainTimeout: state.drainTimeout(), TLS: state.trusted(ctx, &resp.Diagnostics), Progress: progress(ctx),
	})
	if err != nil && !r.machineGone(ctx, state, &resp.Diagnostics) {
		resp.Diagnostics.Append(diagnostic.Error("Server could not be removed", err))
		return
	}
	if warning != "" {
		resp.Diagnostics.AddWarning(state.about("Server was removed, with a warning"), warning)
	}
	r.seen(ctx, ref.Owner)
	setMade(ref.Owner, false)
}

// machinesFault reports whether a login failed for a reason that nothing on this computer can fix.
func machinesFault(err error) bool {
	switch host.KindOf(err) {
	case host.Unreachable, host.HostKeyChanged, host.AuthFailed, host.Refused, host.Prohibited, host.Lost, host.Interrupted:
		return true
	default:
		return false
	}
}

// leave handles a server whose machine can't be logged in to. If the session has ended, the server is gone. Otherwise its
// status is unknown. On a rented machine that is a warning, because an error would keep the session from being released; the
// journal lets a later deployment on that machine take the server over. The server stays in state, with an error, on any other
// machine, after an interruption, and if the fault is on this computer, such as a missing key.
func (r *Resource) leave(ctx context.Context, state model, ref deploy.Ref, err error, diags *diag.Diagnostics) {
	if r.machineGone(ctx, state, new(diag.Diagnostics)) {
		return
	}
	id := state.SessionID.ValueString()
	if id == "" || ctx.Err() != nil || !machinesFault(err) {
		diags.Append(diagnostic.Error("Could not log in to the machine", err))
		diags.AddError("Server may still be running", "The provider could not check whether the server is still there, so it stays in"+
			" state. If the machine is gone for good, remove the deployment from state with `terraform state rm`.")
		return
	}
	diags.Append(state.warning("Could not log in to the machine", err))
	diags.AddWarning(state.about("Server may still be running"), fmt.Sprintf("The provider could not check whether the %s %s is still"+
		" there. It was removed from state anyway, so that session %[3]s can be released: that removes the server too. Until then the"+
		" session costs money. If you keep the session, the next deployment on it finds the server. With this run's journal, it"+
		" adopts or removes the server.", ref.Runtime, ref.Name, id))
	if _, err := r.begin(ref.Owner); err != nil {
		tflog.Warn(ctx, "a server could not be added to the journal", map[string]any{"error": err.Error()})
	}
	setMade(ref.Owner, false)
}

// request turns the plan into what is to be launched, and sets the plan's CA certificate.
func (r *Resource) request(ctx context.Context, plan *model, s secrets, diags *diag.Diagnostics) lifecycle.Request {
	spec, container, ssh := plan.spec(ctx, s, diags), plan.containerOptions(ctx, diags), plan.sshOf(ctx, diags)
	spec.Listen, container.RegistryAuth = plan.listen(ssh.Host.ValueString()), s.registryAuth
	name := plan.serverName(container)
	place := cmp.Or(plan.SessionID.ValueString(), fmt.Sprintf("%s:%d", ssh.Host.ValueString(), ssh.Port.ValueInt64()))
	request := lifecycle.Request{
		Name:         name,
		Owner:        r.data.Consumer + "/" + place + "/" + name,
		Provider:     r.data.Version,
		Spec:         spec,
		MinVRAMGiB:   plan.MinVRAMGiB.ValueFloat64Pointer(),
		Ignore:       plan.ignored(ctx, diags),
		Runtime:      plan.kind(),
		Container:    container,
		Process:      plan.processOptions(ctx, diags),
		TLS:          plan.certify(ctx, ssh, s.tlsKey, diags),
		Embedding:    attrs.Object[readyModel](ctx, plan.Ready, diags).Completion.Equal(types.BoolValue(false)),
		ReadyTimeout: plan.readyTimeout(ctx, diags),
		KeepFailed:   plan.OnFailure.ValueString() == string(lifecycle.Keep),
		DrainTimeout: plan.drainTimeout(),
		Progress:     progress(ctx),
	}
	request.Note = r.note(ctx, *plan, s.keyMade, diags)
	if plan.isPublic() {
		request.Public = plan.url(ssh, plan.tlsOf(ctx, diags))
	}
	return request
}

// progress returns a function that writes events to Terraform's log.
func progress(ctx context.Context) func(lifecycle.Event) {
	return func(event lifecycle.Event) {
		tflog.Info(ctx, event.Message, map[string]any{"phase": string(event.Phase)})
	}
}
