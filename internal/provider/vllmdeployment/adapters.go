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

// reloads reports whether the server can take the plan's LoRA adapters while it runs.
func (m model) reloads(ctx context.Context, state model) bool {
	adapters, err := m.LoRAAdapters.ToTerraformValue(ctx)
	return m.changesAdapters() && err == nil && adapters.IsFullyKnown() &&
		!m.LoRAAdapters.IsNull() && !state.LoRAAdapters.IsNull() && deploy.State(state.Status.ValueString()) == deploy.Running
}

// setAdapters notes which LoRA adapters are served; nil = LoRA is off.
func (m *model) setAdapters(ctx context.Context, served map[string]string) (diags diag.Diagnostics) {
	m.LoRAAdapters, diags = types.MapValueFrom(ctx, types.StringType, served)
	return diags
}

// runOf names a server's run: what is loaded while it runs is gone in the next.
func runOf(status deploy.Status) string {
	started := ""
	if status.Runtime != deploy.Process { // whose id has the start, and is computed from the machine's clock
		started = fmt.Sprint(status.StartedAt.UnixNano())
	}
	return fmt.Sprint(status.ID, started, status.RestartCount)
}

// reload brings the plan's LoRA adapters about without a restart. Afterwards the plan has those that the server serves, also where
// that is not what was planned.
func (r *Resource) reload(ctx context.Context, plan *model, state model, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	diags := &resp.Diagnostics
	before, after := map[string]string{}, map[string]string{}
	diags.Append(state.LoRAAdapters.ElementsAs(ctx, &before, false)...)
	diags.Append(plan.LoRAAdapters.ElementsAs(ctx, &after, false)...)
	plan.LoRAAdapters = state.LoRAAdapters
	given := r.secrets(ctx, plan, req.Config, diags)
	ref, d := state.ref(ctx)
	diags.Append(d...)
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
	status, err := lifecycle.Inspect(ctx, machine, ref) // before the change: a restart meanwhile is seen later
	if err != nil {
		diags.Append(diagnostic.Error("Could not inspect the server", err))
		return
	}
	served, err := changeAdapters(ctx, lifecycle.Client(machine, state.trusted(ctx, diags), status.Ref, given.apiKey), before, after)
	if err != nil {
		diags.Append(adaptersProblem(served, err))
	}
	if served == nil { // it doesn't say
		return
	}
	diags.Append(plan.setAdapters(ctx, served)...)
	was, ok := readLaunched(ctx, req.Private)
	if !ok {
		was = launchedFrom(status)
	}
	was.Adapters, was.Run = served, runOf(status)
	diags.Append(was.keep(ctx, resp.Private)...)
}

// complete loads those of the plan's LoRA adapters that an adopted server lacks: they may have been unloaded, or loaded from elsewhere,
// since its start. It returns how the server was launched.
func (m *model) complete(ctx context.Context, machine deploy.Machine, status deploy.Status, key string, diags *diag.Diagnostics) launched {
	was := launchedFrom(status)
	wanted := texts(ctx, m.LoRAAdapters, "", diags)
	if !status.Adopted || len(wanted) == 0 || !m.changesAdapters() {
		return was
	}
	served, err := changeAdapters(ctx, lifecycle.Client(machine, m.trusted(ctx, diags), status.Ref, key), nil, wanted)
	if err != nil {
		diags.Append(adaptersProblem(served, err))
	}
	if served != nil {
		diags.Append(m.setAdapters(ctx, served)...)
		was.Adapters, was.Run = served, runOf(status)
	}
	return was
}

func adaptersProblem(served map[string]string, err error) diag.Diagnostic {
	d := diagnostic.Error("LoRA adapters were not changed", err)
	what := "It is unknown which adapters it serves now."
	if served != nil {
		what = "It now serves the adapters " + cmp.Or(strings.Join(slices.Sorted(maps.Keys(served)), ", "), "none") + "."
	}
	return diag.NewErrorDiagnostic(d.Summary(), d.Detail()+"\n\nThe server keeps running. "+what+" The next apply tries again.")
}

// changeAdapters unloads and loads what it takes to get from before to after. It returns which of both are served in the end, also
// with an error; nil where the server doesn't say. Adapters that are in neither stay.
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

// adaptersOf are the LoRA adapters among the models that a server lists.
func adaptersOf(models []vllm.Model) map[string]string {
	found := map[string]string{}
	for _, served := range models {
		if served.Parent != "" {
			found[served.ID] = served.Root
		}
	}
	return found
}
