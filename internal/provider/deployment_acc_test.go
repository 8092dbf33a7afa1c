package provider_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/compare"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

const reads = `
data "shopper_vllm_endpoint" "test" {
  base_url = shopper_vllm_deployment.test.base_url
  ssh      = shopper_gpu_session.test.ssh
  api_key  = shopper_vllm_deployment.test.api_key
}

data "shopper_vllm_health" "test" {
  base_url = shopper_vllm_deployment.test.base_url
  ssh      = shopper_gpu_session.test.ssh
  api_key  = shopper_vllm_deployment.test.api_key
  server   = shopper_vllm_deployment.test.server
}
`

// The main job: a machine, a server on it, and their results; then changes that start a new server, and changes that don't.
func TestAccDeploymentLife(t *testing.T) {
	w := acceptance(t)
	const endpoint, health = "data.shopper_vllm_endpoint.test", "data.shopper_vllm_health.test"
	session := statecheck.CompareValue(compare.ValuesSame())
	first := statecheck.CompareValue(compare.ValuesDiffer())
	second := statecheck.CompareValue(compare.ValuesSame())
	key := statecheck.CompareValue(compare.ValuesSame())
	some := knownvalue.Float64Func(func(v float64) error {
		if v <= 0 {
			return fmt.Errorf("it is %v", v)
		}
		return nil
	})
	w.run(t,
		resource.TestStep{
			Config: w.session() + deployment() + reads,
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue(deploymentAddress, at("status"), knownvalue.StringExact("running")),
				statecheck.ExpectKnownValue(deploymentAddress, at("base_url"), knownvalue.StringExact("http://127.0.0.1:8000/v1")),
				statecheck.ExpectKnownValue(deploymentAddress, at("tunnel_command"),
					knownvalue.StringRegexp(regexp.MustCompile(`^ssh -N -L 127\.0\.0\.1:8000:127\.0\.0\.1:8000 .* -p \d+ \w+@127\.0\.0\.1$`))),
				statecheck.ExpectKnownValue(deploymentAddress, at("vllm_version"), knownvalue.StringExact("0.33.0")),
				statecheck.ExpectKnownValue(deploymentAddress, at("served_max_model_len"), knownvalue.Int64Exact(32768)),
				statecheck.ExpectKnownValue(deploymentAddress, at("started_at"), knownvalue.StringRegexp(rfc3339)),
				statecheck.ExpectKnownValue(deploymentAddress, at("gpus"), knownvalue.ListSizeExact(1)),
				statecheck.ExpectKnownValue(deploymentAddress, at("image_digest"),
					knownvalue.StringRegexp(regexp.MustCompile(`sha256:[0-9a-f]{64}`))),
				statecheck.ExpectKnownValue(deploymentAddress, at("api_key"),
					knownvalue.StringRegexp(regexp.MustCompile(`^sk-[A-Za-z0-9_-]{43}$`))),
				statecheck.ExpectSensitiveValue(deploymentAddress, at("api_key")),
				statecheck.ExpectKnownValue(endpoint, at("ready"), knownvalue.Bool(true)),
				statecheck.ExpectKnownValue(endpoint, at("message"), knownvalue.StringExact("The model answered.")),
				statecheck.ExpectKnownValue(endpoint, at("model"), knownvalue.StringExact(qwen)),
				statecheck.ExpectKnownValue(endpoint, at("context_length"), knownvalue.Int64Exact(32768)),
				statecheck.ExpectKnownValue(health, at("healthy"), knownvalue.Bool(true)),
				statecheck.ExpectKnownValue(health, at("checks"), checks("passed", "passed", "passed", "passed", "passed")),
				statecheck.ExpectKnownValue(health, at("checks", "health", "prompt_tokens"), some),
				statecheck.ExpectKnownValue(health, at("checks", "health", "generation_tokens"), some),
				session.AddStateValue(sessionAddress, at("id")),
				first.AddStateValue(deploymentAddress, at("id")),
				key.AddStateValue(deploymentAddress, at("api_key")),
			},
		},
		resource.TestStep{ // another server, on the same machine
			Config:           w.session() + deployment("max_model_len = 8192") + reads,
			ConfigPlanChecks: action(deploymentAddress, plancheck.ResourceActionUpdate),
			ConfigStateChecks: []statecheck.StateCheck{
				session.AddStateValue(sessionAddress, at("id")),
				first.AddStateValue(deploymentAddress, at("id")),
				second.AddStateValue(deploymentAddress, at("id")),
				key.AddStateValue(deploymentAddress, at("api_key")),
				statecheck.ExpectKnownValue(deploymentAddress, at("served_max_model_len"), knownvalue.Int64Exact(8192)),
				statecheck.ExpectKnownValue(endpoint, at("context_length"), knownvalue.Int64Exact(8192)),
				statecheck.ExpectKnownValue(health, at("healthy"), knownvalue.Bool(true)),
			},
			Check: w.serves(1),
		},
		resource.TestStep{ // how long to wait, and what to do about a failure, are no reason for another server
			Config: w.session() + deployment("max_model_len = 8192", `on_failure = "keep"`,
				`timeouts = { read = "3m" }`, `ready = { completion = true }`) + reads,
			ConfigPlanChecks:  action(deploymentAddress, plancheck.ResourceActionUpdate),
			ConfigStateChecks: []statecheck.StateCheck{second.AddStateValue(deploymentAddress, at("id"))},
		},
	)
}

// serves checks how many servers hold the machine's GPUs.
func (w *world) serves(want int) resource.TestCheckFunc {
	return func(*terraform.State) error {
		claims, err := w.servers()
		if err == nil && len(claims) != want {
			err = fmt.Errorf("%d servers hold GPU memory, want %d: %v", len(claims), want, claims)
		}
		return err
	}
}

// checks are the five health checks with these results.
func checks(status ...string) knownvalue.Check {
	all := map[string]knownvalue.Check{}
	for i, name := range []string{"gpus", "runtime", "health", "model", "completion"} {
		all[name] = knownvalue.ObjectPartial(map[string]knownvalue.Check{"status": knownvalue.StringExact(status[i])})
	}
	return knownvalue.ObjectPartial(all)
}

// A server that was stopped or removed by hand is noticed by the next plan and restarted by the next apply; the machine
// stays.
func TestAccDeploymentRepair(t *testing.T) {
	w := acceptance(t)
	session := statecheck.CompareValue(compare.ValuesSame())
	config := w.session() + deployment()
	byHand := func(method, path string) func() {
		return func() {
			m, err := w.machine()
			if err != nil {
				t.Error(err)
				return
			}
			docker(t, m, method, fmt.Sprintf(path, "vllm-8000"))
		}
	}
	repaired := func() []statecheck.StateCheck {
		return []statecheck.StateCheck{
			session.AddStateValue(sessionAddress, at("id")),
			statecheck.ExpectKnownValue(deploymentAddress, at("status"), knownvalue.StringExact("running")),
		}
	}
	w.run(t,
		resource.TestStep{Config: config, ConfigStateChecks: repaired()},
		resource.TestStep{
			PreConfig: byHand("POST", "/containers/%s/stop?t=0"), Config: config,
			ConfigPlanChecks:  action(deploymentAddress, plancheck.ResourceActionUpdate),
			ConfigStateChecks: repaired(), Check: w.serves(1),
		},
		resource.TestStep{
			PreConfig: byHand("DELETE", "/containers/%s?force=1"), Config: config,
			ConfigPlanChecks:  action(deploymentAddress, plancheck.ResourceActionCreate),
			ConfigStateChecks: repaired(), Check: w.serves(1),
		},
	)
}

// The key is in no process list and, when it is write-only, in
// no state.
func TestAccDeploymentSecrets(t *testing.T) {
	w := acceptance(t)
	const key, token, newKey = "sk-planted-api-key-4711", "hf_plantedTokenAbcdefgh1234567890", "sk-planted-api-key-0815"
	written := func(key, version string) string {
		return w.session() + deployment(`api_key_wo = "`+key+`"`, `api_key_wo_version = `+version,
			`hf_token_wo = "`+token+`"`, `hf_token_wo_version = 1`) + `
			data "shopper_vllm_endpoint" "test" {
			  base_url = shopper_vllm_deployment.test.base_url
			  ssh      = shopper_gpu_session.test.ssh
			  api_key  = ` + fmt.Sprintf("%q", "sk-wrong-for-the-key-is-secret") + `
			  depends_on = [shopper_vllm_deployment.test]
			}`
	}
	id := statecheck.CompareValue(compare.ValuesDiffer())
	secret := func(s *terraform.State) error {
		for address, r := range s.RootModule().Resources {
			for name, value := range r.Primary.Attributes {
				if strings.Contains(value, key) || strings.Contains(value, newKey) || strings.Contains(value, token) {
					return fmt.Errorf("%s.%s is %q", address, name, value)
				}
			}
		}
		m, err := w.machine()
		if err != nil {
			return err
		}
		served := false
		for _, line := range m.CommandLog() {
			served = served || strings.Contains(line, "serve "+qwen)
			if strings.Contains(line, "planted") {
				return fmt.Errorf("a command line on the machine: %s", line)
			}
		}
		if !served {
			return fmt.Errorf("the server's own command line was not recorded:\n%s", strings.Join(m.CommandLog(), "\n"))
		}
		return nil
	}
	w.run(t,
		resource.TestStep{
			Config: written(key, "1"), Check: secret,
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue(deploymentAddress, at("api_key"), knownvalue.Null()),
				statecheck.ExpectKnownValue("data.shopper_vllm_endpoint.test", at("ready"), knownvalue.Bool(false)),
				id.AddStateValue(deploymentAddress, at("id")),
			},
		},
		resource.TestStep{ // a changed value counts when its version changes
			Config: written(newKey, "2"), Check: secret,
			ConfigPlanChecks:  action(deploymentAddress, plancheck.ResourceActionUpdate),
			ConfigStateChecks: []statecheck.StateCheck{id.AddStateValue(deploymentAddress, at("id"))},
		},
		resource.TestStep{Config: written(newKey, "2"), ConfigPlanChecks: noChange()},
	)
}

// A server that fails says why, with vLLM's own figures, and leaves
// nothing on the machine, which stays rented.
func TestAccDeploymentFails(t *testing.T) {
	w := acceptance(t)
	session := statecheck.CompareValue(compare.ValuesSame())
	w.run(t,
		resource.TestStep{Config: w.session(), ConfigStateChecks: []statecheck.StateCheck{session.AddStateValue(sessionAddress, at("id"))}},
		resource.TestStep{
			Config:      w.session() + deployment("max_model_len = 200000"),
			ExpectError: words("max_model_len", "32768"),
		},
		resource.TestStep{
			PreConfig: func() {
				if err := w.nothingServes(nil); err != nil {
					t.Error(err)
				}
			},
			Config: w.session() + deployment("max_model_len = 32768"),
			ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
				plancheck.ExpectResourceAction(sessionAddress, plancheck.ResourceActionNoop),
				plancheck.ExpectResourceAction(deploymentAddress, plancheck.ResourceActionCreate),
			}},
			ConfigStateChecks: []statecheck.StateCheck{session.AddStateValue(sessionAddress, at("id"))},
		},
		resource.TestStep{ // an update that fails brings the old server back
			Config:      w.session() + deployment("max_model_len = 200000"),
			ExpectError: words("32768"),
		},
		resource.TestStep{Config: w.session() + deployment("max_model_len = 32768"), Check: w.serves(1)},
	)
}

func TestAccDeploymentRefused(t *testing.T) {
	w := acceptance(t, func(o *sandbox.Options) {
		for i := range o.Offers {
			o.Offers[i].Machine.VLLM.Load *= 2
		}
	})
	otherKey := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
	onMachine := func(hostKey string) string {
		return `
			resource "shopper_vllm_deployment" "test" {
			  session_id = shopper_gpu_session.test.id
			  ssh        = merge(shopper_gpu_session.test.ssh, { host_key = ` + hostKey + ` })
			  model      = "` + qwen + `"
			  container  = { image = "` + image + `" }
			}`
	}
	vastai := w.session(`offer_id = "` + vast + `"`)
	w.run(t,
		resource.TestStep{
			Config:      vastai + deployment(), // a container has no Docker in it
			ExpectError: words("has no Docker and no Podman", `Use runtime = "process"`, "still rented"),
		},
		resource.TestStep{
			Config:      vastai + onMachine(`"`+otherKey+`"`),
			ExpectError: words("Host key has changed", "Nothing was sent to it"),
		},
		resource.TestStep{Config: vastai},
	)
}

// Whatever a user writes stays data, all the way to the server.
func TestAccDeploymentHostileModel(t *testing.T) {
	w := acceptance(t, func(o *sandbox.Options) {
		for i := range o.Offers {
			o.Offers[i].Machine.VLLM.AnyModel = true
		}
	})
	planted := filepath.Join(t.TempDir(), "planted")
	hostile := "a/b; touch " + planted + " $(touch " + planted + ") `touch " + planted + "` ' | & > " + planted
	config := w.session() + fmt.Sprintf(`
		resource "shopper_vllm_deployment" "test" {
		  session_id        = shopper_gpu_session.test.id
		  ssh               = shopper_gpu_session.test.ssh
		  model             = %q
		  served_model_name = "it's; $(touch %s)"
		  container         = { image = %q }
		  env               = { NOTE = "$(touch %s)" }
		}
		data "shopper_vllm_endpoint" "test" {
		  base_url = shopper_vllm_deployment.test.base_url
		  ssh      = shopper_gpu_session.test.ssh
		  api_key  = shopper_vllm_deployment.test.api_key
		}`, hostile, planted, image, planted)
	w.run(t, resource.TestStep{
		Config: config,
		ConfigStateChecks: []statecheck.StateCheck{
			statecheck.ExpectKnownValue("data.shopper_vllm_endpoint.test", at("models"), knownvalue.ListPartial(map[int]knownvalue.Check{
				0: knownvalue.ObjectPartial(map[string]knownvalue.Check{
					"id": knownvalue.StringExact("it's; $(touch " + planted + ")"), "root": knownvalue.StringExact(hostile),
				}),
			})),
		},
		Check: func(*terraform.State) error {
			if _, err := os.Stat(planted); err == nil {
				return fmt.Errorf("%s was made: a value reached a shell", planted)
			}
			m, err := w.machine()
			if err != nil {
				return err
			}
			asData := 0
			for _, line := range m.CommandLog() {
				if strings.Contains(line, "touch") {
					asData++
					if !strings.Contains(line, "serve "+hostile) {
						return fmt.Errorf("a command with a value in it: %s", line)
					}
				}
			}
			if asData == 0 {
				return fmt.Errorf("the server's own command line was not recorded:\n%s", strings.Join(m.CommandLog(), "\n"))
			}
			return nil
		},
	})
}
