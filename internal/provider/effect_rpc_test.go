package provider_test

import (
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/gpusession"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/effect"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/vllmdeployment"
)

// A change of each argument does what the resource's page says, and no argument is missing there.
func TestEffectsAreAsThePagesSay(t *testing.T) {
	t.Parallel()
	_, c, session := staged(t)
	base := onSession(t, session, values{"port": 8123, "process": values{"version": "0.33.0"}, "api_key": "sk-first-key"})
	server := c.create(deploymentType, base)
	_, key := sshKey(t)
	for _, resource := range []struct {
		typ     string
		prior   object
		base    values
		table   effect.Table
		changes values
	}{
		{deploymentType, server, base, vllmdeployment.Effects(), values{
			"session_id": "another", "ssh": with(login(t, session), values{"host": "192.0.2.9"}), "model": "Qwen/Qwen2.5-0.5B-Instruct",
			"served_model_name": "chat", "revision": "main", "quantization": "fp8", "dtype": "half", "max_model_len": 4096,
			"gpu_memory_utilization": 0.8, "min_vram_gib": 8, "tensor_parallel_size": 1, "pipeline_parallel_size": 2,
			"trust_remote_code": true, "kv_cache_dtype": "fp8", "enable_prefix_caching": false, "tool_call_parser": "hermes",
			"reasoning_parser": "qwen3", "lora_adapters": values{}, "args": []any{"--seed", "1"}, "env": values{"A": "b"}, "port": 8124, "local_port": 9000,
			"api_key": "sk-second-key", "api_key_wo_version": 1, "hf_token": "hf_x", "hf_token_wo_version": 1, "runtime": "process",
			"container": values{"image": "vllm/vllm-openai:v0.32.0"}, "process": values{"directory": "/srv/vllm"}, "exposure": "public",
			"tls": values{}, "preflight": values{"ignore": []any{"disk"}}, "ready": values{"timeout": "20m"}, "on_failure": "keep",
			"drain_timeout": "5m", "timeouts": values{"read": "1m"},
		}},
		{sessionType, session, values{"name": "test", "offer_id": text(t, session.state, "offer_id")}, gpusession.Effects(), values{
			"name": "other", "name_prefix": "other-", "offer_id": a6000, "requirements": values{"min_vram_gb": 1}, "max_attempts": 5, "reservation_hours": 2,
			"workload_type": "llm", "disk_gb": 10, "template_hash_id": "ab12", "on_start_cmd": "true", "ssh_timeout": "9m",
			"on_conflict": "replace", "authorized_keys": []any{key}, "retain_private_key": true, "timeouts": values{"read": "1m"},
		}},
	} {
		for _, argument := range c.schema.ResourceSchemas[resource.typ].Block.Attributes {
			if argument.WriteOnly || !argument.Optional && !argument.Required {
				continue
			}
			name := argument.Name
			change, ok := resource.changes[name]
			if !ok {
				t.Errorf("nobody says what a change of %s.%s is", resource.typ, name)
				continue
			}
			changed := with(resource.base, values{name: change})
			switch name {
			case "api_key_wo_version":
				changed["api_key"], changed["api_key_wo"] = nil, "sk-second-key"
			case "hf_token_wo_version":
				changed["hf_token_wo"] = "hf_x"
			case "process": // of a server that a container runs it says nothing
				changed["container"] = nil
			case "requirements":
				changed["offer_id"] = nil
			}
			p := c.plan(resource.typ, resource.prior, changed)
			if failed(p.Diagnostics) {
				t.Errorf("%s.%s: %s", resource.typ, name, list(p.Diagnostics))
				continue
			}
			got := effect.InPlace
			switch {
			case len(p.replaced()) > 0:
				got = effect.Replaces
			case !get(t, p.value, "id").IsKnown():
				got = effect.Restarts
			}
			if want := resource.table.Of(name); got != want {
				t.Errorf("a change of %s.%s: %s, the page says %q", resource.typ, name, got, want)
			}
		}
	}
	tidy(t, c, session)
}

// A change of any argument is applied without a warning, and the next refresh and plan find nothing to change.
func TestEveryChangeIsApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	session := c.create(sessionType, values{"name": "test", "offer_id": docked})
	base := onSession(t, session, nil)
	server := c.create(deploymentType, base)
	container := func(v values) values { return values{"container": with(values{"image": image}, v)} }
	process := func(v values) values { return values{"container": nil, "process": v} }
	for _, change := range []values{
		container(values{"name": "other"}), container(values{"cache": "weights"}), container(values{"gpus": "1"}),
		container(values{"shm_size": "8g"}), container(values{"user": "2000:0"}), container(values{"pull_policy": "always"}),
		{"port": 9000},
		{"port": 9000, "tls": values{}},
		{"exposure": "public"},
		{"exposure": "public", "tls": values{}, "port": 8443},
		{"env": values{"A": "b"}},
		{"args": []any{"--seed", "3"}},
		{"dtype": "bfloat16"},
		{"served_model_name": "x"},
		process(values{}), process(values{"version": "0.32.0"}), with(process(values{}), values{"port": 9001}),
		{"process": values{}, "runtime": "container"},
		{"process": values{}, "runtime": "process"},
		{},
		{"api_key": "sk-another-key"},
		{"hf_token": "hf_another_token"},
		{"drain_timeout": "1m"},
		{"on_failure": "keep"},
		{"min_vram_gib": 10},
		{"local_port": 9999},
	} {
		wanted := with(base, change)
		made, diags := c.apply(deploymentType, c.plan(deploymentType, server, wanted))
		seen, more := c.read(deploymentType, made)
		if len(diags) > 0 || len(more) > 0 || !seen.state.Equal(made.state) {
			t.Fatalf("%v: %s, and a refresh: %s", change, list(diags), list(more))
		}
		if p := c.plan(deploymentType, seen, wanted); !p.value.Equal(seen.state) {
			t.Errorf("%v: the next plan changes\n%s\nto\n%s", change, seen.state, p.value)
		}
		server = seen
	}
	_, diags := c.destroy(deploymentType, server)
	expect(t, diags)
	tidy(t, c, session)
}
