package provider_test

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// On a machine with an older driver `process = {}` installs the newest vLLM that the driver supports, and state says which.
// The first release with CUDA 13 is refused, and the error names one to use instead.
func TestAccReleaseForAnOldDriver(t *testing.T) {
	w := acceptance(t, func(o *sandbox.Options) {
		for i := range o.Offers {
			o.Offers[i].Machine.DriverVersion = "570.124.04"
		}
	})
	config := func(process string) string {
		return w.session(fmt.Sprintf("offer_id = %q", vast)) + deployment("runtime = \"process\"", process)
	}
	w.run(t,
		resource.TestStep{
			Config:      config(`process = { version = "0.20.0" }`),
			ExpectError: regexp.MustCompile(`(?s)vLLM\s+0\.20\.0\s+\(CUDA\s+13\.0\)\s+needs\s+580\s+or\s+newer.*process\.version\s+=\s+"0\.11\.2"`),
		},
		resource.TestStep{
			Config: config("process = {}"),
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue(deploymentAddress, at("vllm_version"), knownvalue.StringExact("0.11.2")),
			},
		},
	)
}
