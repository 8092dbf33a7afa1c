package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What follows is tested on Terraform alone, from 1.16 on: no OpenTofu has actions
// and queries, and no older Terraform before_destroy and caller.

// newTerraform skips a test that another CLI is to run.
func newTerraform(t *testing.T) {
	t.Helper()
	if os.Getenv("TF_ACC") == "" {
		t.Skip("SKIPPED: TF_ACC is not set, so no CLI is run")
	}
	var major, minor int
	if _, err := fmt.Sscanf(built.version, "Terraform v%d.%d", &major, &minor); err != nil || major == 1 && minor < 16 {
		t.Skipf("SKIPPED: %s has no actions and queries, or not all of them", built.version)
	}
}

// action is one with this configuration.
func action(typ, name string, config ...string) string {
	return fmt.Sprintf("action %q %q {\n  config {\n    %s\n  }\n}\n", typ, name, strings.Join(config, "\n    "))
}

// trigger invokes an action at an event in the life of the resource that holds it.
func trigger(event, action string) string {
	return fmt.Sprintf("action_trigger {\n    events  = [%s]\n    actions = [action.%s]\n  }", event, action)
}

// hours are those that the service has a session reserved for.
func (w *world) hours(t *testing.T, id string) int {
	t.Helper()
	var session struct {
		Hours int `json:"reservation_hours"`
	}
	w.ask(t, http.MethodGet, "/api/v1/sessions/"+id, nil, &session)
	return session.Hours
}

// A session's reservation is extended after it was made, on demand, and before it is
// destroyed; none of it is something for a plan to undo.
func TestTerraformExtendSession(t *testing.T) {
	t.Parallel()
	newTerraform(t)
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t,
		session("a", "reservation_hours = 1", "lifecycle {",
			trigger("after_create", "shopper_extend_session.to_three"),
			trigger("before_destroy", "shopper_extend_session.one_more"), "}"),
		action("shopper_extend_session", "to_three", "session_id = caller.id", "reservation_hours = 3"),
		action("shopper_extend_session", "one_more", "session_id = caller.id", "additional_hours = 1"),
	)
	says(t, s.apply(t), "Extending the reservation from 1 to 3 hours", "The session is now reserved for 3 hours")
	s.unchanged(t)
	id := w.billing(t, "a")
	invoke := func(name string) string { return s.apply(t, "-invoke=action.shopper_extend_session."+name) }
	says(t, invoke("to_three"), "The session is already reserved for 3 hours")
	says(t, invoke("one_more"), "Extending the reservation from 3 to 4 hours")
	if hours := w.hours(t, id); hours != 4 {
		t.Errorf("it is reserved for %d hours, want 4", hours)
	}
	s.unchanged(t)
	says(t, s.destroy(t), "The session is now reserved for 5 hours", "1 destroyed")
	w.accounted(t, []*stack{s})
}

// An action that fails stops a replacement before the machine is released, and no
// destroy.
func TestTerraformBeforeDestroyFails(t *testing.T) {
	t.Parallel()
	newTerraform(t)
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t,
		session("a", "lifecycle {", trigger("before_destroy", "shopper_extend_session.too_long"), "}"),
		action("shopper_extend_session", "too_long", "session_id = caller.id", "additional_hours = 12"),
	)
	s.apply(t)
	id := w.billing(t, "a")
	says(t, s.must(t, 1, append(applyArgs[:len(applyArgs):len(applyArgs)], "-replace=shopper_gpu_session.a")...), "Reservation was not extended")
	w.accounted(t, []*stack{s}, "a")
	if w.billing(t, "a") != id {
		t.Error("the machine was replaced")
	}
	says(t, s.destroy(t), "Reservation was not extended", "1 destroyed")
	w.accounted(t, []*stack{s})
}

// A deployment's server is started again on demand, and after an update of something
// that it depends on.
func TestTerraformRestartVLLM(t *testing.T) {
	t.Parallel()
	newTerraform(t)
	w := servingWorld(t, 0)
	s := w.newStack(t, "s")
	write := func(input string) {
		s.write(t, session("m", `offer_id = "vastai-7"`), deployment(`process = { install = "never" }`),
			`resource "terraform_data" "weights" {`, "  input = "+input, "  lifecycle {",
			trigger("after_update", "shopper_restart_vllm.m"), "}", "}",
			action("shopper_restart_vllm", "m", "ssh = shopper_gpu_session.m.ssh", "server = shopper_vllm_deployment.m.server",
				"api_key = shopper_vllm_deployment.m.api_key", "model = shopper_vllm_deployment.m.model"))
	}
	process := func() int {
		t.Helper()
		claims := w.serving(t)
		if len(claims) != 1 {
			t.Fatalf("these serve: %+v", claims)
		}
		return claims[0].PID
	}
	write("1")
	s.apply(t)
	first := process()
	says(t, s.apply(t, "-invoke=action.shopper_restart_vllm.m"), "Logging in to the machine", "The model has answered")
	second := process()
	write("2")
	says(t, s.apply(t), "The model has answered", "1 changed")
	if third := process(); second == first || third == second {
		t.Errorf("it was not started again: processes %d, %d, %d", first, second, third)
	}
	s.destroy(t)
	w.accounted(t, []*stack{s})
}

// What a query finds becomes configuration whose import changes nothing, whoever
// rented the session.
func TestTerraformQuery(t *testing.T) {
	t.Parallel()
	newTerraform(t)
	w := newWorld(t)
	s := w.newStack(t, "s")
	ours := w.rent(t, "terraform/a/0123456789abcdef0123456789abcdef", "vastai-1003")
	theirs := w.rent(t, "somebody-else", "vastai-1004")
	s.write(t)
	query := "list \"shopper_gpu_session\" \"all\" {\n  provider         = shopper\n  config {\n    all_consumers = true\n  }\n}\n"
	if err := os.WriteFile(filepath.Join(s.dir, "all.tfquery.hcl"), []byte(query), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, s.must(t, 0, "query", "-no-color"), "id="+ours, "id="+theirs, "a (1 × RTX 4090 at vastai, $0.33 an hour, until ")
	s.must(t, 0, "query", "-no-color", "-generate-config-out=generated.tf")
	s.adopts(t, 2)
	w.accounted(t, []*stack{s})
}
