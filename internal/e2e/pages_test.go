package e2e

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
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
	w := newWorld(t, "-offers", "", "-speed", "60", "-templates")
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
		"data-sources/shopper_gpu_sessions": nil, "data-sources/shopper_service": nil, "data-sources/shopper_templates": nil,
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

// The resource page's first deployment. The others are on a machine that doesn't exist, and on a port that may be taken here.
func TestE2EPageOfDeployment(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "-offers", "", "-machines", "", "-speed", "60")
	own := w.newStack(t, "own").newPair(t, "own")
	secrets := []string{"sk-ofThePage", "hf_notARealToken"}
	s := w.page(t, map[string]any{"public_key": own.public, "api_key": secrets[0], "hf_token": secrets[1]},
		"resources", "shopper_vllm_deployment")
	s.env = append(s.env, "SHOPPER_SSH_PRIVATE_KEY="+own.private)
	first := []string{"-target=check.llama", "-target=shopper_vllm_deployment.llama", "-target=ephemeral.shopper_vllm_health.llama"}
	file := filepath.Join(s.dir, "page.plan")
	s.must(t, 0, append([]string{"plan", "-input=false", "-no-color", "-out=" + file}, first...)...)
	planned := planText(t, file)
	said := s.apply(t, first...)
	says(t, said, "2 added")
	for where, text := range map[string]string{"a plan": planned, "what was said": said, "state": s.stateText(t)} {
		for _, secret := range append(secrets, "PRIVATE KEY") {
			if strings.Contains(text, secret) {
				t.Errorf("%s holds %s", where, secret)
			}
		}
	}
	s.destroy(t)
}

// The tunnel's page, with a rented machine as the jump host: the service is on its loopback address.
func TestE2EPageOfTunnel(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "-offers", "", "-speed", "60")
	machine := w.byScript(t, "vastai", func(sandbox.Offer) bool { return true })
	service, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := w.roots(t)[0].Listen(8080)
	if err != nil {
		t.Fatal(err)
	}
	var passed atomic.Int64
	proxy := httputil.NewSingleHostReverseProxy(service)
	jump := http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		passed.Add(1)
		proxy.ServeHTTP(rw, r)
	})}
	served := make(chan error, 1)
	go func() { served <- jump.Serve(listener) }()
	t.Cleanup(func() {
		if err := errors.Join(jump.Close(), <-served); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	s := w.page(t, map[string]any{"jump_host": map[string]any{
		"host": machine.Host, "port": machine.Port, "user": machine.User, "host_key": nil,
	}}, "ephemeral-resources", "shopper_ssh_tunnel")
	write(t, filepath.Join(s.dir, "use.tf"), `output "service" { value = data.shopper_service.s.ready }
data "shopper_service" "s" {}
`)
	s.env = append(s.env, "SHOPPER_URL=http://127.0.0.1:9", "SSH_AUTH_SOCK="+testkit.SSHAgent(t, machine.Key))
	says(t, s.apply(t), "service = true")
	if passed.Load() == 0 {
		t.Error("no request went through the tunnel")
	}
	w.ask(t, http.MethodDelete, "/api/v1/sessions/"+machine.ID, nil, nil)
}

// The pages of what no other CLI has.
func TestTerraformPages(t *testing.T) {
	t.Parallel()
	newTerraform(t)
	w := newWorld(t, "-offers", "", "-speed", "60")
	extend := w.page(t, nil, "actions", "shopper_extend_session")
	extend.apply(t)
	says(t, extend.apply(t, "-invoke=action.shopper_extend_session.two_more"), "from 2 to 4 hours")
	extend.unchanged(t)
	list := w.page(t, nil, "list-resources", "shopper_gpu_session")
	says(t, list.must(t, 0, "query", "-no-color", "-generate-config-out=imported.tf"), "llama (")
	extend.destroy(t)

	machine := w.byScript(t, "bluelobster", func(o sandbox.Offer) bool { return o.VRAMGB >= 24 })
	restart := w.page(t, map[string]any{"ssh": map[string]any{
		"host": machine.Host, "port": machine.Port, "user": machine.User, "private_key": machine.Key, "host_key": nil,
	}}, "actions", "shopper_restart_vllm")
	restart.apply(t)
	says(t, restart.apply(t, "-invoke=action.shopper_restart_vllm.llama"), "The model has answered")
	restart.unchanged(t)
	restart.destroy(t)
	w.ask(t, http.MethodDelete, "/api/v1/sessions/"+machine.ID, nil, nil)
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
