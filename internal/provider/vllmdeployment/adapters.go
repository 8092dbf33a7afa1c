package vllmdeployment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// changesAdapters reports whether env lets LoRA adapters be loaded and unloaded while the server runs.
func (m model) changesAdapters() bool {
	set, _ := m.Env.Elements()[vllm.EnvRuntimeLoRA].(types.String) // the schema's type
	return slices.Contains([]string{"1", "true"}, strings.ToLower(set.ValueString()))
}

// reloads reports whether the plan's LoRA adapters can be loaded without a restart.
func (m model) reloads(ctx context.Context, state model) bool {
	adapters, err := m.LoRAAdapters.ToTerraformValue(ctx)
	return m.changesAdapters() && err == nil && adapters.IsFullyKnown() &&
		!m.LoRAAdapters.IsNull() && !state.LoRAAdapters.IsNull() && deploy.State(state.Status.ValueString()) == deploy.Running
}

// setAdapters fills in which LoRA adapters are served, nil if LoRA is off.
func (m *model) setAdapters(ctx context.Context, served map[string]string, diags *diag.Diagnostics) {
	adapters, d := types.MapValueFrom(ctx, types.StringType, served)
	diags.Append(d...)
	m.LoRAAdapters = adapters
}

// runOf identifies a server's run. Adapters that were loaded in one run are gone in the next.
func runOf(status deploy.Status) string {
	started := ""
	if status.Runtime != deploy.Process { // a process's ID contains its start
		started = fmt.Sprint(status.StartedAt.UnixNano())
	}
	return fmt.Sprint(status.ID, started, status.RestartCount)
}

// reload loads and unloads LoRA adapters without a restart. Afterwards plan has those that the server serves, even if others were
// planned.
func (r *Resource) reload(ctx context.Context, plan *model, state model, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	diags := &resp.Diagnostics
	before, after := map[string]string{}, map[string]string{}
	diags.Append(state.LoRAAdapters.ElementsAs(ctx, &before, false)...)
	diags.Append(plan.LoRAAdapters.ElementsAs(ctx, &after, false)...)
	plan.LoRAAdapters = state.LoRAAdapters
	given := r.secrets(ctx, plan, req.Config, diags)
	ref := state.ref(ctx, diags)
	timeout, d := plan.Timeouts.Update(ctx, updateTimeout)
	diags.Append(d...)
	if diags.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	machine, err := r.connect(ctx, plan)
	if err != nil {
		diags.Append(diagnostic.Error("Could not log in to the machine", err))
		return
	}
	defer machine.Close()
	status, err := lifecycle.Inspect(ctx, machine, ref) // before the change, so that a restart meanwhile is noticed later
	if err != nil {
		diags.Append(diagnostic.Error("Could not inspect the server", err))
		return
	}
	served, err := changeAdapters(ctx, lifecycle.Client(machine, state.trusted(ctx, diags), status.Ref, given.apiKey), before, after)
	if err != nil {
		diags.Append(adaptersProblem(served, err, "The next apply tries again."))
	}
	if served == nil { // the server doesn't list them
		return
	}
	plan.setAdapters(ctx, served, diags)
	was, ok := readLaunched(ctx, req.Private)
	if !ok {
		was = launchedFrom(status)
	}
	was.Adapters, was.Run = served, runOf(status)
	diags.Append(was.keep(ctx, resp.Private)...)
}

// complete loads those of the plan's LoRA adapters that an adopted server doesn't serve: adapters may have been unloaded, or loaded
// from elsewhere, since its start. It returns how the server was launched.
func (m *model) complete(ctx context.Context, machine deploy.Machine, status deploy.Status, key string, diags *diag.Diagnostics) launched {
	was := launchedFrom(status)
	wanted := texts(ctx, m.LoRAAdapters, "", diags)
	if !status.Adopted || len(wanted) == 0 || !m.changesAdapters() {
		return was
	}
	served, err := changeAdapters(ctx, lifecycle.Client(machine, m.trusted(ctx, diags), status.Ref, key), nil, wanted)
	if err != nil {
		diags.Append(adaptersProblem(served, err, "The resource is tainted, so the next apply starts the server again with its adapters;"+
			" `terraform untaint` keeps it."))
	}
	if served != nil {
		m.setAdapters(ctx, served, diags)
		was.Adapters, was.Run = served, runOf(status)
	}
	return was
}

func adaptersProblem(served map[string]string, err error, next string) diag.Diagnostic {
	d := diagnostic.Error("LoRA adapters were not changed", err)
	what := "It is unknown which adapters it serves now."
	if served != nil {
		what = "It now serves the adapters " + cmp.Or(strings.Join(slices.Sorted(maps.Keys(served)), ", "), "none") + "."
	}
	return diag.NewErrorDiagnostic(d.Summary(), d.Detail()+"\n\nThe server keeps running. "+what+" "+next)
}

// changeAdapters unloads and loads adapters until the server serves after in place of before. It returns which of both it serves
// then, also with an error; nil if the server doesn't list them. Adapters that are in neither stay loaded.
func changeAdapters(ctx context.Context, api *vllm.Client, before, after map[string]string) (map[string]string, error) {
	has, err := adapters(ctx, api)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(has)) {
		_, ours := before[name]
		path, wanted := after[name]
		if (ours || wanted) && path != has[name] {
			errs = append(errs, api.UnloadAdapter(ctx, name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if has[name] != after[name] {
			errs = append(errs, api.LoadAdapter(ctx, name, after[name]))
		}
	}
	has, err = adapters(ctx, api)
	if err != nil {
		return nil, errors.Join(append(errs, err)...)
	}
	served := map[string]string{}
	for name, path := range has {
		if _, ours := before[name]; ours || after[name] != "" {
			served[name] = path
		}
	}
	err = errors.Join(errs...)
	if err == nil && !maps.Equal(served, after) {
		err = fmt.Errorf("the server has accepted the change, but serves %v", served)
	}
	return served, err
}

// adapters are the paths of the LoRA adapters that a server serves, by name.
func adapters(ctx context.Context, api *vllm.Client) (map[string]string, error) {
	models, err := api.Models(ctx)
	if err != nil {
		return nil, err
	}
	return adaptersOf(models), nil
}

// adaptersOf are the paths of the LoRA adapters among a server's models, by name.
func adaptersOf(models []vllm.Model) map[string]string {
	found := map[string]string{}
	for _, served := range models {
		if served.Parent != "" {
			found[served.ID] = served.Root
		}
	}
	return found
}
