package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// A destroy plans first, so nothing that state or the service has to do with may
// fail a plan: each row is a condition under which the machine is still released.
func TestE2EDestroyIsNotRefused(t *testing.T) {
	t.Parallel()
	const id = "shopper_gpu_session.a.id"
	for _, test := range []struct {
		name   string
		flags  []string // the sandbox's
		before []string // what is applied
		after  []string // the configuration that is destroyed
		meet   func(t *testing.T, w *world, s *stack)
		planned,
		applied int // exit codes of a plan and an apply before the destroy
		says []string // what plan or apply say
	}{
		{
			name: "extended from outside", before: []string{session("a", "reservation_hours = 1")},
			meet: func(t *testing.T, w *world, s *stack) {
				t.Helper()
				w.ask(t, http.MethodPost, "/api/v1/sessions/"+s.sessions(t)[0]+"/extend", map[string]int{"additional_hours": 2}, nil)
			},
		},
		{
			name: "fewer hours", before: []string{session("a", "reservation_hours = 3")}, after: []string{session("a", "reservation_hours = 2")},
			planned: 2, says: []string{"Reservation can't be shortened: a", "reserved for 3 hours and costs money until"},
		},
		{
			name: "hours that the service refuses", flags: []string{"-hard-max-hours", "2"},
			before: []string{session("a")}, after: []string{session("a", "reservation_hours = 5")},
			planned: 2, applied: 1, says: []string{"Reservation was not extended", "exceed 2-hour hard max"},
		},
		{
			name: "a public server at Vast.ai", before: []string{session("a")},
			after:   []string{session("a"), deploymentAt(`merge(shopper_gpu_session.a.ssh, { host = "ssh5.vast.ai" })`, `exposure = "public"`)},
			planned: 2, applied: 1, says: []string{"Only SSH is reachable", "Nothing was started"},
		},
		{
			name: "a session of no name", before: []string{session("a")},
			after: []string{session("a"), `data "shopper_gpu_session" "b" { name = "b" }`},
			says:  []string{"Could not find the session", `no session "b"`},
		},
		{
			name: "a session that is not known", before: []string{session("a")},
			after: []string{session("a"), `data "shopper_gpu_session" "b" { id = "6f1c1d0e-0000-4000-8000-000000000000" }`},
			says:  []string{"Could not find the session"},
		},
		{
			name: "a session that can't be read", before: []string{session("a"), session("b")},
			meet: func(t *testing.T, w *world, _ *stack) {
				t.Helper()
				w.faults(t, sandbox.Rule{Route: "GET /api/v1/sessions/{id}", Nth: 1, Times: 20, Fault: sandbox.Status, Value: 500})
			},
			says: []string{"Could not read session"},
		},
		{
			name: "costs that can't be read", before: []string{session("a")},
			after: []string{session("a"), fmt.Sprintf(`data "shopper_costs" "a" { session_id = %s }`, id)},
			meet: func(t *testing.T, w *world, _ *stack) {
				t.Helper()
				w.faults(t, sandbox.Rule{Route: "GET /api/v1/costs", Fault: sandbox.Status, Value: 500})
			},
			says: []string{"Could not read costs"},
		},
		{
			name: "servers without a key", before: []string{session("a")},
			after: []string{
				session("a"), keyless("endpoint"), keyless("health"),
				`output "problems" { value = [data.shopper_vllm_endpoint.a.problem, data.shopper_vllm_health.a.checks.gpus.problem] }`,
			},
			planned: 2, says: []string{`problems = [ + "credentials", + "credentials", ]`},
		},
		{
			name: "a tunnel to a machine that doesn't answer", before: []string{session("a")},
			after: []string{session("a"), `ephemeral "shopper_ssh_tunnel" "a" {
  ssh      = shopper_gpu_session.a.ssh
  timeouts = { open = "2s" }
}`},
			meet: func(t *testing.T, w *world, s *stack) {
				t.Helper()
				w.ask(t, http.MethodPost, "/sandbox/machines/"+s.sessions(t)[0]+"/strike", map[string]string{"fault": "never_boots"}, nil)
			},
			says: []string{"Machine can't be reached", "disconnects its clients at once"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.flags...)
			s := w.newStack(t, "s")
			s.write(t, test.before...)
			s.apply(t)
			if test.meet != nil {
				test.meet(t, w, s)
			}
			if test.after != nil {
				s.write(t, test.after...)
			}
			said := s.must(t, test.planned, planArgs...)
			if test.planned == 0 || test.applied != 0 { // what can be changed doesn't have to be, before it is destroyed
				said += s.must(t, test.applied, applyArgs...)
			}
			says(t, said, test.says...)
			s.destroy(t)
			w.accounted(t, []*stack{s})
		})
	}
}

// deploymentAt is a server on session a, reached in this way.
func deploymentAt(ssh string, arguments ...string) string {
	return fmt.Sprintf(`resource "shopper_vllm_deployment" "a" {
  session_id = shopper_gpu_session.a.id
  ssh        = %s
  model      = "Qwen/Qwen2.5-7B-Instruct"
  process    = {}
  %s
}`, ssh, arguments[0])
}

// keyless is a data source that has nothing to log in with, as after an import.
func keyless(what string) string {
	return fmt.Sprintf(`data "shopper_vllm_%s" "a" {
  ssh = { host = shopper_gpu_session.a.ssh.host, port = shopper_gpu_session.a.ssh.port, user = shopper_gpu_session.a.ssh.user }
}`, what)
}

// A data source that could not be asked is an error, since nothing or null could
// replace machines. The error says how to destroy all the same.
func TestE2EDestroyWithoutRefresh(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t, session("a"), `data "shopper_gpu_offers" "all" {}`)
	s.apply(t)
	w.faults(t, sandbox.Rule{Route: "GET /api/v1/inventory", Fault: sandbox.Status, Value: 500})
	says(t, s.must(t, 1, destroyArgs...), "Could not list offers", "-refresh=false")
	s.destroy(t, "-refresh=false")
	w.accounted(t, []*stack{s})
}

// Provider settings that a plan doesn't know yet, since it replaces what they come
// from, are known when the session is released.
func TestE2EDestroyWithSettingsThatAreReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t, session("a"), fmt.Sprintf(`variable "release" { default = "1" }
resource "terraform_data" "service" {
  input            = %q
  triggers_replace = var.release
}`, w.url))
	override := `provider "shopper" { url = terraform_data.service.output }`
	if err := os.WriteFile(filepath.Join(s.dir, "url_override.tf"), []byte(override), 0o600); err != nil {
		t.Fatal(err)
	}
	s.apply(t, "-target=terraform_data.service")
	s.apply(t)
	w.accounted(t, []*stack{s}, "a")
	says(t, s.must(t, 2, append(planArgs, "-var=release=2")...), "Provider settings are unknown")
	s.destroy(t, "-var=release=2")
	w.accounted(t, []*stack{s})
}
