package provider_test

import (
	"fmt"
	"maps"
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/echoprovider"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func TestAccSeeing(t *testing.T) {
	templates := sandbox.BuiltinTemplates()
	w := acceptance(t, func(o *sandbox.Options) { o.Templates = templates })
	const by = "data.shopper_gpu_session."
	w.run(t, resource.TestStep{
		Config: w.session() + `
			data "shopper_gpu_session" "by_id" {
			  id = shopper_gpu_session.test.id
			}
			data "shopper_gpu_session" "by_name" {
			  name       = "test"
			  depends_on = [shopper_gpu_session.test]
			}
			data "shopper_vllm_health" "through_data" {
			  ssh  = merge(data.shopper_gpu_session.by_id.ssh, { private_key = shopper_gpu_session.test.ssh.private_key })
			  skip = ["runtime", "health", "model", "completion"]
			}
			output "tunnel" {
			  value = provider::shopper::format_tunnel_command(data.shopper_gpu_session.by_id.ssh, 8000, 8000)
			}
			data "shopper_gpu_sessions" "strays" {
			  known_ids = [shopper_gpu_session.test.id]
			}
			data "shopper_costs" "session" {
			  session_id = shopper_gpu_session.test.id
			}
			data "shopper_costs" "consumer" {
			  depends_on = [shopper_gpu_session.test]
			}
			data "shopper_templates" "all" {}
			data "shopper_service" "this" {}`,
		ConfigStateChecks: []statecheck.StateCheck{
			statecheck.ExpectKnownValue(by+"by_id", at("name"), knownvalue.StringExact("test")),
			statecheck.ExpectKnownValue(by+"by_id", at("ssh_available"), knownvalue.Bool(true)),
			statecheck.ExpectKnownValue(by+"by_id", at("expires_at"), knownvalue.StringRegexp(rfc3339)),
			statecheck.ExpectKnownValue("data.shopper_vllm_health.through_data", at("healthy"), knownvalue.Bool(true)),
			statecheck.ExpectKnownOutputValue("tunnel", knownvalue.StringRegexp(regexp.MustCompile(`^ssh -N .* -p \d+ \w+@127\.0\.0\.1$`))),
			statecheck.ExpectKnownValue(by+"by_name", at("price_per_hour"), knownvalue.Float64Exact(0.31)),
			statecheck.ExpectKnownValue("data.shopper_gpu_sessions.strays", at("stray_ids"), knownvalue.ListSizeExact(0)),
			statecheck.ExpectKnownValue("data.shopper_gpu_sessions.strays", at("sessions"), knownvalue.ListPartial(map[int]knownvalue.Check{
				0: knownvalue.ObjectPartial(map[string]knownvalue.Check{"stray": knownvalue.Bool(false), "name": knownvalue.StringExact("test")}),
			})),
			statecheck.ExpectKnownValue("data.shopper_costs.session", at("currency"), knownvalue.StringExact("USD")),
			statecheck.ExpectKnownValue("data.shopper_costs.consumer", at("period_start"), knownvalue.StringRegexp(rfc3339)),
			statecheck.ExpectKnownValue("data.shopper_templates.all", at("templates"), knownvalue.ListSizeExact(len(templates))),
			statecheck.ExpectKnownValue("data.shopper_service.this", at("healthy"), knownvalue.Bool(true)),
			statecheck.ExpectKnownValue("data.shopper_service.this", at("ready"), knownvalue.Bool(true)),
			statecheck.ExpectKnownValue("data.shopper_service.this", at("failing_offers"), knownvalue.ListSizeExact(0)),
		},
	})
}

func TestAccFunctions(t *testing.T) {
	w := acceptance(t)
	output := statecheck.ExpectKnownOutputValue
	w.run(t,
		resource.TestStep{
			Config: w.provider() + `
				output "llama" {
				  value = provider::shopper::estimate_vram("meta-llama/Llama-3.1-8B-Instruct", {}).per_gpu_gib
				}
				output "fits" {
				  value = provider::shopper::estimate_vram("Qwen/Qwen2.5-7B-Instruct", { context_length = 8192, gpu_vram_gib = 24 }).fits
				}
				locals {
				  ssh = {
				    host = "h", port = 2222, user = "root", private_key = sensitive("unused"), bastion = { host = "jump", port = 22, user = "me" }
				  }
				  none = null
				}
				output "tunnel" {
				  value = provider::shopper::format_tunnel_command(local.ssh, 8000, 8000)
				}
				output "jump" {
				  value = provider::shopper::format_tunnel_command(local.ssh, 8000, 8000, local.ssh.bastion[*]...)
				}
				output "no_jump" {
				  value = provider::shopper::format_tunnel_command(local.ssh, 8000, 8000, local.none[*]...)
				}`,
			ConfigStateChecks: []statecheck.StateCheck{
				output("llama", knownvalue.Float64Exact(37.12)), // worked out in estimatevram's tests
				output("fits", knownvalue.Bool(true)),
				output("tunnel", knownvalue.StringExact("ssh -N -L 127.0.0.1:8000:127.0.0.1:8000 -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -p 2222 root@h")),
				output("jump", knownvalue.StringExact("ssh -N -L 127.0.0.1:8000:127.0.0.1:8000 -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -J me@jump -p 2222 root@h")),
				output("no_jump", knownvalue.StringExact("ssh -N -L 127.0.0.1:8000:127.0.0.1:8000 -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -p 2222 root@h")),
			},
		},
		resource.TestStep{
			Config:      w.provider() + `output "x" { value = provider::shopper::estimate_vram("acme/x", {}) }`,
			ExpectError: words("not a well-known model"),
		},
		resource.TestStep{ // with parts that are not known when it is planned
			Config: w.provider() + `
				resource "terraform_data" "later" {
				  input = { length = 8192, host = "h", jump = "jump" }
				}
				output "needs" {
				  value = provider::shopper::estimate_vram("Qwen/Qwen2.5-7B-Instruct", { context_length = terraform_data.later.output.length }).per_gpu_gib
				}
				output "tunnel" {
				  value = provider::shopper::format_tunnel_command({ host = terraform_data.later.output.host, port = 22, user = "root" }, 8000, 8000,
				    { host = terraform_data.later.output.jump, port = 22, user = "me" })
				}`,
			ConfigStateChecks: []statecheck.StateCheck{
				output("needs", knownvalue.Float64Exact(18.95)),
				output("tunnel", knownvalue.StringExact("ssh -N -L 127.0.0.1:8000:127.0.0.1:8000 -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -J me@jump root@h")),
			},
		},
	)
}

// A tunnel to a machine that isn't rented yet when Terraform plans: it opens during the apply, its address reaches another
// provider, and the server answers through it.
func TestAccTunnel(t *testing.T) {
	w := acceptance(t)
	port := testkit.FreePort(t)
	all := factories(t)
	maps.Copy(all, map[string]func() (tfprotov6.ProviderServer, error){"echo": echoprovider.NewProviderServer()})
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: all,
		CheckDestroy:             w.nothingBills,
		Steps: []resource.TestStep{{
			Config: w.session() + deployment() + fmt.Sprintf(`
				ephemeral "shopper_ssh_tunnel" "test" {
				  ssh        = shopper_gpu_session.test.ssh
				  local_port = %[1]d
				  depends_on = [shopper_vllm_deployment.test]
				}
				data "shopper_vllm_endpoint" "test" {
				  base_url   = "http://127.0.0.1:%[1]d/v1"
				  api_key    = shopper_vllm_deployment.test.api_key
				  depends_on = [ephemeral.shopper_ssh_tunnel.test]
				}
				provider "echo" {
				  data = ephemeral.shopper_ssh_tunnel.test.url
				}
				resource "echo" "test" {}`, port),
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue("echo.test", at("data"), knownvalue.StringExact(fmt.Sprintf("http://127.0.0.1:%d", port))),
				statecheck.ExpectKnownValue("data.shopper_vllm_endpoint.test", at("message"), knownvalue.StringExact("The model answered.")),
			},
		}},
	})
}
