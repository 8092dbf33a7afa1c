package provider_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// Three GPUs, among which vLLM can't divide the model: two are used, or those that the user makes visible. The plan refuses
// a size that vLLM would refuse, before anything is rented.
func TestAccParallelism(t *testing.T) {
	w := acceptance(t, func(o *sandbox.Options) {
		for i := range o.Offers {
			if o.Offers[i].ID == vastDouble {
				o.Offers[i].GPUCount, o.Offers[i].Machine.VLLM.Installed = 3, "0.33.0"
			}
		}
	})
	config := func(arguments ...string) string {
		return w.session(fmt.Sprintf("offer_id = %q", vastDouble)) + deployment(append(arguments, "process = {}")...)
	}
	started := func(want string) resource.TestCheckFunc {
		return func(*terraform.State) error {
			m, err := w.machine()
			if err != nil {
				return err
			}
			if log := strings.Join(m.CommandLog(), "\n"); !strings.Contains(log, want) {
				return fmt.Errorf("no command with %q:\n%s", want, log)
			}
			return nil
		}
	}
	gpus := func(count int) []statecheck.StateCheck {
		return []statecheck.StateCheck{statecheck.ExpectKnownValue(deploymentAddress, at("gpus"), knownvalue.ListSizeExact(count))}
	}
	w.run(t,
		resource.TestStep{
			Config: config("tensor_parallel_size = 7"), PlanOnly: true,
			ExpectError: words("Invalid tensor_parallel_size", "28 attention heads and 4 key-value heads", "1, 2, 4 or 28"),
		},
		resource.TestStep{Config: config(), ConfigStateChecks: gpus(3), Check: started("--tensor-parallel-size 2")},
		resource.TestStep{
			Config: config(`env = { CUDA_VISIBLE_DEVICES = "2" }`), ConfigStateChecks: gpus(1), Check: w.serves(1),
		},
	)
}
