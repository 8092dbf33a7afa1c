package provider_test

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
)

func TestAccOffers(t *testing.T) {
	w := acceptance(t)
	ids := func(want ...string) knownvalue.Check {
		var elements []knownvalue.Check
		for _, id := range want {
			elements = append(elements, knownvalue.ObjectPartial(map[string]knownvalue.Check{"id": knownvalue.StringExact(id)}))
		}
		return knownvalue.ListExact(elements)
	}
	w.run(t, resource.TestStep{
		Config: w.provider() + `
			data "shopper_gpu_offers" "all" {
			  allow_interruptible = true
			}
			data "shopper_gpu_offers" "some" {
			  gpu_types          = ["rtx 4090"]
			  gpu_count          = 1
			  max_price_per_hour = 0.4
			}
			data "shopper_gpu_offers" "best" {
			  sort_by = "reliability"
			  limit   = 2
			}
			data "shopper_gpu_offers" "none" {
			  gpu_types = ["no such GPU"]
			}`,
		ConfigStateChecks: []statecheck.StateCheck{
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.all", at("total"), knownvalue.Int64Exact(6)),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.all", at("offers"), ids(vastSpot, a5000, vast, docked, a6000, vastDouble)),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.all", at("excluded"), knownvalue.MapSizeExact(0)),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.some", at("offers"), ids(vast)),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.some", at("cheapest", "id"), knownvalue.StringExact(vast)),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.some", at("cheapest", "machine_id"), knownvalue.Null()),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.some", at("excluded"), knownvalue.MapExact(map[string]knownvalue.Check{
				"gpu_types": knownvalue.Int64Exact(2), "gpu_count": knownvalue.Int64Exact(1), "max_price_per_hour": knownvalue.Int64Exact(3),
				"allow_interruptible": knownvalue.Int64Exact(1),
			})),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.best", at("offers"), ids(docked, vast)),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.best", at("cheapest", "id"), knownvalue.StringExact(a5000)),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.none", at("offers"), knownvalue.ListSizeExact(0)),
			statecheck.ExpectKnownValue("data.shopper_gpu_offers.none", at("cheapest"), knownvalue.Null()),
		},
	})
}

// What is unhealthy, unreachable or refused is a value, for check blocks and
// postconditions to judge.
func TestAccHealthIsAValue(t *testing.T) {
	w := acceptance(t)
	const server = `
		data "shopper_vllm_health" "%[1]s" {
		  base_url = shopper_vllm_deployment.test.base_url
		  server   = shopper_vllm_deployment.test.server
		  %[2]s
		}
		data "shopper_vllm_endpoint" "%[1]s" {
		  base_url = shopper_vllm_deployment.test.base_url
		  %[2]s
		}`
	health := func(name string, arguments string) string {
		return replaceAll(server, "%[1]s", name, "%[2]s", arguments)
	}
	config := w.session() + deployment() +
		health("refused", `
			ssh     = shopper_gpu_session.test.ssh
			api_key = "sk-wrong"`) +
		health("unreachable", `
			ssh = merge(shopper_gpu_session.test.ssh, { port = 1 })`) +
		health("locked", `
			ssh = merge(shopper_gpu_session.test.ssh, { user = "nobody-knows" })`)
	at2 := func(kind, name string) string { return "data.shopper_vllm_" + kind + "." + name }
	w.run(t,
		resource.TestStep{
			Config: config,
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue(at2("health", "refused"), at("healthy"), knownvalue.Bool(false)),
				statecheck.ExpectKnownValue(at2("health", "refused"), at("checks"), checks("passed", "passed", "passed", "failed", "failed")),
				statecheck.ExpectKnownValue(at2("endpoint", "refused"), at("ready"), knownvalue.Bool(false)),
				statecheck.ExpectKnownValue(at2("endpoint", "refused"), at("message"), knownvalue.StringRegexp(words("401 Unauthorized"))),
				statecheck.ExpectKnownValue(at2("health", "unreachable"), at("healthy"), knownvalue.Bool(false)),
				statecheck.ExpectKnownValue(at2("health", "unreachable"), at("checks"),
					checks("failed", "failed", "failed", "failed", "failed")),
				statecheck.ExpectKnownValue(at2("endpoint", "unreachable"), at("problem"), knownvalue.StringExact("unreachable")),
				statecheck.ExpectKnownValue(at2("health", "locked"), at("healthy"), knownvalue.Bool(false)),
				statecheck.ExpectKnownValue(at2("endpoint", "locked"), at("problem"), knownvalue.StringExact("credentials")),
			},
		},
		resource.TestStep{ // the server dies: still no error
			PreConfig: func() {
				m, err := w.machine()
				if err != nil {
					t.Error(err)
					return
				}
				docker(t, m, "POST", "/containers/vllm-8000/stop?t=0")
			},
			RefreshState: true, ExpectNonEmptyPlan: true,
		},
		resource.TestStep{Config: config},
	)
}

// A plan over many machines, one of which accepts connections and stays silent.
func TestAccManyMachinesOneSilent(t *testing.T) {
	w := acceptance(t)
	logins, _ := fleet(t, 11)
	logins = append(logins, with(logins[0], values{"port": silent(t, 3*time.Second+atMost)}))
	text, err := json.Marshal(logins)
	if err != nil {
		t.Fatal(err)
	}
	var healthy []knownvalue.Check
	for i := range logins {
		healthy = append(healthy, knownvalue.Bool(i < 11))
	}
	w.run(t, resource.TestStep{
		Config: w.provider() + `
			locals {
			  machines = jsondecode(` + strconv.Quote(string(text)) + `)
			}
			data "shopper_vllm_health" "each" {
			  count    = length(local.machines)
			  ssh      = local.machines[count.index]
			  skip     = ["runtime", "health", "model", "completion"]
			  timeouts = { read = "3s" }
			}
			output "healthy" {
			  value = data.shopper_vllm_health.each[*].healthy
			}
			output "problem" {
			  value = data.shopper_vllm_health.each[11].checks.gpus.problem
			}`,
		ConfigStateChecks: []statecheck.StateCheck{
			statecheck.ExpectKnownOutputValue("healthy", knownvalue.ListExact(healthy)),
			statecheck.ExpectKnownOutputValue("problem", knownvalue.StringExact("timeout")),
		},
	})
}

// An unhealthy server is a warning of a check block, which stops nothing, and an
// error of a postcondition.
func TestAccHealthIsJudged(t *testing.T) {
	w := acceptance(t)
	logins, _ := fleet(t, 1) // no server is there
	text, err := json.Marshal(logins[0])
	if err != nil {
		t.Fatal(err)
	}
	health := func(judged string) string {
		return w.provider() + `
			locals {
			  ssh = jsondecode(` + strconv.Quote(string(text)) + `)
			}
			` + judged
	}
	w.run(t,
		resource.TestStep{
			Config: health(`
				check "server" {
				  data "shopper_vllm_health" "server" {
				    ssh = local.ssh
				  }
				  assert {
				    condition     = data.shopper_vllm_health.server.healthy
				    error_message = "Unhealthy."
				  }
				}
				resource "terraform_data" "after" {}`),
			Check:              resource.TestCheckResourceAttrSet("terraform_data.after", "id"),
			ExpectNonEmptyPlan: true, // of a check block that fails the data source is read again
		},
		resource.TestStep{
			Config: health(`
				data "shopper_vllm_health" "server" {
				  ssh = local.ssh
				  lifecycle {
				    postcondition {
				      condition     = self.healthy
				      error_message = "Unhealthy: ${join("; ", self.failures)}"
				    }
				  }
				}`),
			ExpectError: words("Unhealthy: health: .* refused by"),
		},
	)
}
