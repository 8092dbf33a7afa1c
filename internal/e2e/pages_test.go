package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// page is an example of one of the provider's pages, which says neither where the
// provider comes from nor what its variables are.
func (w *world) page(t *testing.T, variables map[string]any, folder ...string) *stack {
	t.Helper()
	s := w.example(t, strings.Join(folder, "-"), folder...)
	write(t, filepath.Join(s.dir, "origin.tf"), origin)
	imports, err := filepath.Glob(filepath.Join(s.dir, "import-*.tf")) // of a session that is there already
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range imports {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if variables == nil {
		variables = map[string]any{}
	}
	values, err := json.Marshal(variables)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "terraform.tfvars.json"), values, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// resource are the attributes of the one resource of a type.
func (s *stack) resource(t *testing.T, typ string) map[string]any {
	t.Helper()
	for _, r := range s.state(t).Resources {
		if r.Type == typ && len(r.Instances) == 1 {
			return r.Instances[0].Attributes
		}
	}
	t.Fatalf("no %s is in state", typ)
	return nil
}

// The pages' own examples leave nothing to do, outputs included, however much time
// passes.
func TestE2EPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "-offers", "", "-speed", "60")
	session := w.page(t, nil, "resources", "shopper_gpu_session")
	server := w.page(t, nil, "data-sources", "shopper_vllm_endpoint")
	session.apply(t)
	defer session.destroy(t)
	server.apply(t)
	defer server.destroy(t)
	llama := server.resource(t, "shopper_vllm_deployment")
	key := llama["api_key"]
	stacks := []*stack{session, server}
	for name, variables := range map[string]map[string]any{
		"data-sources/shopper_costs": nil, "data-sources/shopper_gpu_offers": nil, "data-sources/shopper_gpu_session": nil,
		"data-sources/shopper_gpu_sessions": nil, "data-sources/shopper_service": nil,
		"data-sources/shopper_vllm_health": {"llama": llama}, "data-sources/shopper_vllm_logs": {"llama": llama},
		"ephemeral-resources/shopper_vllm_endpoint": {"llama": llama, "api_key": key},
		"ephemeral-resources/shopper_vllm_health":   {"llama": llama, "api_key": key},
		"functions/estimate_vram":                   nil,
		"functions/format_tunnel_command":           {"machine": map[string]any{"host": "192.0.2.1", "user": "ubuntu"}},
	} {
		s := w.page(t, variables, filepath.Dir(name), filepath.Base(name))
		s.apply(t)
		stacks = append(stacks, s)
	}
	w.advance(t, 20*time.Minute)
	for _, s := range stacks {
		s.unchanged(t)
	}
}

// The first example that people see.
func TestE2EQuickstart(t *testing.T) {
	t.Parallel()
	w, s := example(t, "quickstart")
	s.applied(t, func(said string) {
		says(t, said, "healthy = true")
		w.advance(t, 20*time.Minute)
		s.unchanged(t)
	})
}
