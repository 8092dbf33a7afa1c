package provider_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/compare"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// A finding stops the apply and names its code; if ignored, it stops nothing. The plan refuses a code that doesn't exist and
// names those that do, and a change of the list starts no new server.
func TestAccFindingIsOverruled(t *testing.T) {
	w := acceptance(t, func(o *sandbox.Options) {
		for i := range o.Offers {
			o.Offers[i].Machine.DriverVersion = "570.124.04"
		}
	})
	server := statecheck.CompareValue(compare.ValuesSame())
	same := func() []statecheck.StateCheck {
		return []statecheck.StateCheck{server.AddStateValue(deploymentAddress, at("id"))}
	}
	config := func(arguments string) string {
		return w.session(fmt.Sprintf("offer_id = %q", docked)) + fmt.Sprintf(`
			resource "shopper_vllm_deployment" "test" {
			  session_id = shopper_gpu_session.test.id
			  ssh        = shopper_gpu_session.test.ssh
			  model      = %q
			  container  = { image = "vllm/vllm-openai:v0.19.1" }
			  %s
			}`, qwen, arguments)
	}
	w.run(t,
		resource.TestStep{
			Config: config(`preflight = { ignore = ["drivers"] }`), PlanOnly: true,
			ExpectError: words("preflight.ignore", `"driver_version"`, `"gpu_memory"`, `got: "drivers"`),
		},
		resource.TestStep{Config: config(""), ExpectError: words("needs 575 or newer", `ignore = ."driver_version".`)},
		resource.TestStep{Config: config(`preflight = { ignore = ["driver_version"] }`), ConfigStateChecks: same()},
		resource.TestStep{
			Config:            config(`preflight = { ignore = ["driver_version", "hub"] }`),
			ConfigPlanChecks:  action(deploymentAddress, plancheck.ResourceActionUpdate),
			ConfigStateChecks: same(),
		},
	)
}
