package provider_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
)

// Everything may be another resource's result, and unknown until that exists: the provider's own settings, what to rent, and
// what to serve.
func TestAccUnknownWhenPlanned(t *testing.T) {
	w := acceptance(t)
	w.run(t, resource.TestStep{
		Config: fmt.Sprintf(`
			resource "terraform_data" "later" {
			  input = {
			    url      = %[1]q
			    journal  = %[2]q
			    consumer = "later"
			    clouds   = ["bluelobster"]
			    price    = 1.5
			    hours    = 2
			    model    = %[3]q
			    image    = %[4]q
			    length   = 4096
			    port     = 8100
			  }
			}
			locals {
			  later = terraform_data.later.output
			}
			provider "shopper" {
			  url               = local.later.url
			  journal_directory = local.later.journal
			  consumer_id       = local.later.consumer
			  budget            = { max_price_per_hour = local.later.price }
			}
			resource "shopper_gpu_session" "test" {
			  name              = "test-${terraform_data.later.id}"
			  reservation_hours = local.later.hours
			  requirements      = { clouds = local.later.clouds, max_price_per_hour = local.later.price }
			}
			resource "shopper_vllm_deployment" "test" {
			  session_id    = shopper_gpu_session.test.id
			  ssh           = shopper_gpu_session.test.ssh
			  model         = local.later.model
			  max_model_len = local.later.length
			  port          = local.later.port
			  container     = { image = local.later.image }
			}
			data "shopper_gpu_offers" "test" {
			  clouds = local.later.clouds
			}`, w.URL(), w.journal, qwen, image),
		ConfigPlanChecks: resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{
			plancheck.ExpectUnknownValue(sessionAddress, at("name")),
			plancheck.ExpectUnknownValue(deploymentAddress, at("base_url")),
		}},
		ConfigStateChecks: []statecheck.StateCheck{
			statecheck.ExpectKnownValue(sessionAddress, at("reservation_hours"), knownvalue.Int64Exact(2)),
			statecheck.ExpectKnownValue(deploymentAddress, at("base_url"), knownvalue.StringExact("http://127.0.0.1:8100/v1")),
			statecheck.ExpectKnownValue(deploymentAddress, at("served_max_model_len"), knownvalue.Int64Exact(4096)),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.test", at("cheapest", "cloud"), knownvalue.StringExact("bluelobster")),
		},
	})
}

// Errors of wrong input as the CLI prints them. (The messages about every argument are tested without a CLI.)
func TestAccBadInput(t *testing.T) {
	w := acceptance(t)
	session := func(arguments string) string {
		return w.provider() + `
			resource "shopper_gpu_session" "test" {
			  name = "test"
			  ` + arguments + `
			}`
	}
	server := func(arguments string) string {
		return w.provider() + `
			resource "shopper_vllm_deployment" "test" {
			  ssh = { host = "192.0.2.1", user = "ubuntu" }
			  ` + arguments + `
			}`
	}
	offers := func(url string) string {
		return fmt.Sprintf("provider \"shopper\" {\n  url = %q\n  max_retries = 0\n}\ndata \"shopper_gpu_offers\" \"test\" {}\n", url)
	}
	refused := func(config string, what ...string) resource.TestStep {
		return resource.TestStep{Config: config, PlanOnly: true, ExpectError: words(what...)}
	}
	w.run(t,
		refused(offers("localhost:8080"), "url: it must begin with http:// or https://"),
		refused(offers("http://127.0.0.1:1"), "Shopper can't be reached", "http://127.0.0.1:1", "Check"),
		refused(session(`requirements = {}
			reservation_hours = 13`), "Initial reservation is too long", "at most 12 hours"),
		refused(server(`model = "a/b"
			container = { image = "vllm/vllm-openai" }`), "container.image", "tag"),
		refused(server(`model = "a/b"
			container = { image = "vllm/vllm-openai:v0.32.0" }
			args = ["--device-memory-utilization=0.5"]`), "Invalid args", "attribute gpu_memory_utilization"),
		resource.TestStep{Config: w.provider() + `data "shopper_gpu_offers" "test" {}`},
	)
}
