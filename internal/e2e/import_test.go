package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A session can be taken over by its id, on the command line or in the
// configuration, and by its identity where the CLI knows that. What an import
// can't know is no reason to replace the machine.
func TestE2EImport(t *testing.T) {
	t.Parallel()
	const address = "shopper_gpu_session.a"
	adopt := func(how string) string { return fmt.Sprintf("import {\n  to = %s\n  %s\n}\n", address, how) }
	for _, test := range []struct {
		name     string
		command  bool
		block    func(id string) string
		identity bool
	}{
		{name: "command", command: true},
		{name: "id", block: func(id string) string { return adopt(fmt.Sprintf("id = %q", id)) }},
		{name: "identity", identity: true, block: func(id string) string { return adopt(fmt.Sprintf("identity = { id = %q }", id)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.newStack(t, "s")
			id := w.rent(t, "terraform/a/0123456789abcdef0123456789abcdef", "vastai-1003")
			config := session("a", `workload_type = "llm_vllm"`, "on_start_cmd = \"true\"")
			blocks := []string{config}
			if test.block != nil {
				blocks = append(blocks, test.block(id))
			}
			s.write(t, blocks...)
			if test.command {
				says(t, s.must(t, 0, "import", "-input=false", "-no-color", address, id), "Private key is unknown")
			}
			code, text := s.run(t, planArgs...)
			if test.identity && code == 1 && !knowsIdentity(text) {
				s.dropped(t, w, id)
				t.Skipf("SKIPPED: %s can't import by identity", built.version)
			}
			if code != 2 {
				t.Fatalf("the plan ended with exit code %d:\n%s", code, text)
			}
			says(t, text, "0 to add", "0 to destroy")
			text = s.apply(t)
			if test.block != nil {
				says(t, text, "1 imported")
			}
			w.accounted(t, []*stack{s}, "a")
			if w.billing(t, "a") != id || s.oneTimeKey(t, "a") != "" {
				t.Error("the machine was replaced")
			}
			s.write(t, config)
			s.unchanged(t)
			s.destroy(t)
			w.accounted(t, []*stack{s})
		})
	}
}

// The configuration that a CLI writes for an import block changes nothing, whoever
// rented the session.
func TestE2EImportGenerated(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	ours, theirs := w.rent(t, "terraform/a/0123456789abcdef0123456789abcdef", "vastai-1003"), w.rent(t, "somebody-else", "vastai-1004")
	write := func(provider string) {
		block := "import {\n  to = shopper_gpu_session.%s\n  id = %q\n  %s\n}\n"
		s.write(t, fmt.Sprintf(block, "ours", ours, provider), fmt.Sprintf(block, "theirs", theirs, provider))
	}
	write("provider = shopper") // Terraform 1.16 looks for hashicorp/shopper without it
	s.must(t, 2, append(planArgs[:len(planArgs):len(planArgs)], "-generate-config-out=generated.tf")...)
	write("") // and every CLI refuses it once there is a resource
	s.adopts(t, 2)
	w.accounted(t, []*stack{s})
}

// adopts imports what generated.tf says, which changes nothing, and destroys it.
func (s *stack) adopts(t *testing.T, sessions int) {
	t.Helper()
	_, text := s.run(t, planArgs...)
	says(t, text, fmt.Sprintf("%d to import, 0 to add, 0 to change, 0 to destroy", sessions))
	says(t, s.apply(t), fmt.Sprintf("%d imported, 0 added, 0 changed, 0 destroyed", sessions))
	s.unchanged(t)
	s.destroy(t)
	if t.Failed() {
		generated, err := os.ReadFile(filepath.Join(s.dir, "generated.tf"))
		t.Logf("generated: %s %v", generated, err)
	}
}

// A deployment whose state was lost is taken over from its machine, without a start of its server: by a string id with its own
// configuration, and with one that the CLI writes.
func TestE2EImportDeployment(t *testing.T) {
	t.Parallel()
	const address = "shopper_vllm_deployment.m"
	w := servingWorld(t, 0)
	s := w.newStack(t, "s")
	own := s.newPair(t, "own")
	s.settings = fmt.Sprintf("ssh = { private_key = file(%q) }", own.file)
	rented := session("m", `offer_id = "bluelobster-1x-a5000"`, fmt.Sprintf("authorized_keys = [%q]", own.public))
	server := fmt.Sprintf(`
resource "shopper_vllm_deployment" "m" {
  session_id = shopper_gpu_session.m.id
  ssh = {
    host = shopper_gpu_session.m.ssh.host
    port = shopper_gpu_session.m.ssh.port
    user = shopper_gpu_session.m.ssh.user
  }
  model                  = %q
  gpu_memory_utilization = 0.8
  env                    = { NOTE = "it's mine" }
  container              = { image = %q }
}`, servedModel, servedImage)
	s.write(t, rented, server)
	s.apply(t)
	id := s.deploymentID(t)
	sessionID := s.attributes(t, "m")["id"]
	for _, test := range []struct{ name, config, block string }{
		{"written", server, "import {\n to = %s\n id = \"%s/vllm-8000\"\n}\n"},
		{"generated", "", "import {\n to = %s\n provider = shopper\n id = \"%s/vllm-8000\"\n}\n"},
	} {
		s.must(t, 0, "state", "rm", address)
		block := fmt.Sprintf(test.block, address, sessionID)
		if test.config == "" {
			s.write(t, rented, block)
			s.must(t, 2, append(planArgs[:len(planArgs):len(planArgs)], "-generate-config-out=generated.tf")...)
			block = strings.Replace(block, "provider = shopper", "", 1)
		}
		s.write(t, rented, test.config, block)
		says(t, s.apply(t), "1 imported, 0 added, 0 changed, 0 destroyed")
		s.unchanged(t)
		if s.deploymentID(t) != id {
			t.Errorf("%s: the server was started again", test.name)
		}
	}
	s.destroy(t)
	w.accounted(t, []*stack{s})
}

// deploymentID is the id of the one deployment in state.
func (s *stack) deploymentID(t *testing.T) any {
	t.Helper()
	for _, r := range s.state(t).Resources {
		if r.Type == "shopper_vllm_deployment" && len(r.Instances) == 1 {
			return r.Instances[0].Attributes["id"]
		}
	}
	t.Fatal("there is no deployment in state")
	return nil
}

// knowsIdentity tells a CLI that refuses the attribute from one that takes it.
func knowsIdentity(text string) bool {
	return !strings.Contains(text, "Unsupported argument") && !strings.Contains(text, `argument "id" is required`)
}

// dropped releases a session past Terraform.
func (s *stack) dropped(t *testing.T, w *world, id string) {
	t.Helper()
	w.ask(t, http.MethodDelete, "/api/v1/sessions/"+id, nil, nil)
	w.accounted(t, []*stack{s})
}
