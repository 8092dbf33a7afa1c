package provider_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	"github.com/hashicorp/terraform-plugin-testing/tfjsonpath"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

const (
	sessionAddress    = "shopper_gpu_session.test"
	deploymentAddress = "shopper_vllm_deployment.test"

	image = "vllm/vllm-openai:v0.33.0"
	qwen  = "Qwen/Qwen2.5-7B-Instruct"
)

// The offers of a world's market.
const (
	a5000      = "bluelobster-1x-a5000"
	a6000      = "bluelobster-1x-a6000"
	docked     = "tensordock-idaho-rtx4090"
	vast       = "vastai-2410055"
	vastSpot   = "vastai-2317702"
	vastDouble = "vastai-2410056"
)

// market is small, and its machines boot at once.
func market() []sandbox.Offer {
	offers := []sandbox.Offer{
		{
			ID: a5000, GPUType: "RTX A5000", GPUCount: 1, VRAMGB: 23, PricePerHour: 0.31, Location: "Wilmington, US-East", Confidence: 0.9,
			Machine: sandbox.MachineSpec{MemoryMiB: 24564, ComputeCapability: "8.6"},
		},
		{ID: a6000, GPUType: "RTX A6000", GPUCount: 1, PricePerHour: 0.56, Location: "Wilmington, US-East", Confidence: 0.9},
		{
			ID: docked, GPUType: "RTX 4090", GPUCount: 8, VRAMGB: 24, PricePerHour: 0.42, Reliability: 1, Confidence: 0.5,
			Location: "Chubbuck, Idaho, United States",
		},
		{
			ID: vast, GPUType: "RTX 4090", GPUCount: 1, PricePerHour: 0.39, Location: "Virginia, US", Reliability: 0.994,
			CUDAVersion: 12.9,
		},
		{
			ID: vastSpot, GPUType: "RTX 4090", GPUCount: 1, PricePerHour: 0.21, Location: "Japan, JP", Reliability: 0.961,
			CUDAVersion: 12.8, Interruptible: true, MinBid: 0.19, Confidence: 0.8,
		},
		{
			ID: vastDouble, GPUType: "RTX 4090", GPUCount: 2, PricePerHour: 0.78, Location: "Virginia, US", Reliability: 0.994,
			CUDAVersion: 12.9,
		},
	}
	for i := range offers {
		offers[i].Machine.Boot = sandbox.Duration(time.Second)
		offers[i].Machine.VLLM.Load = 15 * time.Second
	}
	return offers
}

// world is a test's own sandbox, with what a configuration needs to use it.
type world struct {
	*sandbox.Sandbox
	journal string
}

// acceptance starts a world for a test that runs a CLI, or skips the test if none is requested.
func acceptance(t *testing.T, change ...func(*sandbox.Options)) *world {
	t.Helper()
	if os.Getenv(resource.EnvTfAcc) == "" {
		t.Skip("SKIPPED: TF_ACC is not set, so no CLI is run")
	}
	t.Parallel()
	return newWorld(t, change...)
}

// newWorld starts a sandbox that ends with the test. Nothing may bill then.
func newWorld(t *testing.T, change ...func(*sandbox.Options)) *world {
	t.Helper()
	options := sandbox.Options{
		Offers: market(), Seed: 1, Machines: sandbox.Friendly,
		Speed:       60, // not more: on a busy computer the service gives machines up that boot too slowly
		SSHInterval: time.Second, SSHTimeout: 20 * time.Minute,
		KeyBits: 1024, // the least that SSH takes; tests are about everything else
	}
	for _, f := range change {
		f(&options)
	}
	s, err := sandbox.Start(options)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Sandbox: s, journal: t.TempDir()}
	t.Cleanup(func() {
		if err := errors.Join(w.nothingBills(nil), w.idle()); err != nil && !t.Failed() {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("ending the sandbox: %v", err)
		}
	})
	return w
}

// SetFaults replaces the rules in force, each of which must have struck.
func (w *world) SetFaults(rules ...sandbox.Rule) error {
	return errors.Join(w.idle(), w.Sandbox.SetFaults(rules...))
}

// idle is an error for a rule in force that has not struck.
func (w *world) idle() error {
	for _, rule := range w.Faults() {
		if rule.Struck == 0 {
			return fmt.Errorf("%s at %s has not struck; it matched %d times", rule.Fault, rule.Route, rule.Matched)
		}
	}
	return nil
}

// nothingBills checks the clouds' ledger, and not the state, for what is still rented.
func (w *world) nothingBills(*terraform.State) error {
	if ledger := w.Ledger(); len(ledger.Billing) > 0 {
		return fmt.Errorf("still billing:\n%s", ledger)
	}
	return nil
}

// provider is the provider block, with additional arguments.
func (w *world) provider(arguments ...string) string {
	return fmt.Sprintf("provider \"shopper\" {\n  url = %q\n  journal_directory = %q\n  %s\n}\n", w.URL(), w.journal,
		strings.Join(arguments, "\n  "))
}

// session is a configuration with one session.
func (w *world) session(arguments ...string) string {
	if len(arguments) == 0 {
		arguments = []string{`requirements = { clouds = ["bluelobster"] }`}
	}
	return w.provider() + fmt.Sprintf("resource \"shopper_gpu_session\" \"test\" {\n  name = \"test\"\n  %s\n}\n",
		strings.Join(arguments, "\n  "))
}

// deployment is a server on the session of the same configuration.
func deployment(arguments ...string) string {
	return fmt.Sprintf(`
resource "shopper_vllm_deployment" "test" {
  session_id = shopper_gpu_session.test.id
  ssh        = shopper_gpu_session.test.ssh
  model      = %q
  container  = { image = %q }
  %s
}
`, qwen, image, strings.Join(arguments, "\n  "))
}

// rented is the one session that bills.
func (w *world) rented() (sandbox.Rental, error) {
	billing := w.Ledger().Billing
	if len(billing) != 1 {
		return sandbox.Rental{}, fmt.Errorf("%d sessions bill, want 1", len(billing))
	}
	return billing[0], nil
}

// machine is the machine of the one session that bills.
func (w *world) machine() (*machine.Machine, error) {
	rental, err := w.rented()
	if err != nil {
		return nil, err
	}
	m := w.Machine(rental.SessionID)
	if m == nil {
		return nil, fmt.Errorf("session %s has no machine", rental.SessionID)
	}
	return m, nil
}

// servers are the processes on the rented machine that hold GPU memory.
func (w *world) servers() ([]machinefs.Claim, error) {
	m, err := w.machine()
	if err != nil {
		return nil, err
	}
	return m.Root().Claims()
}

// nothingServes checks that no server is left on the rented machine, which still bills.
func (w *world) nothingServes(*terraform.State) error {
	claims, err := w.servers()
	if err == nil && len(claims) > 0 {
		err = fmt.Errorf("left on the machine: %v", claims)
	}
	return err
}

// factories serve the provider in this process.
func factories(t *testing.T) map[string]func() (tfprotov6.ProviderServer, error) {
	t.Helper()
	return map[string]func() (tfprotov6.ProviderServer, error){
		"shopper": func() (tfprotov6.ProviderServer, error) { return newProvider(t).Server(), nil },
	}
}

// newProvider is a provider that leaves no connection open.
func newProvider(t *testing.T) *provider.Shopper {
	t.Helper()
	p := provider.New("test")
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// run runs a test case in a world; it ends with an empty plan, and with nothing
// billing after the destroy.
func (w *world) run(t *testing.T, steps ...resource.TestStep) {
	t.Helper()
	resource.Test(t, resource.TestCase{
		ProtoV6ProviderFactories: factories(t),
		CheckDestroy:             w.nothingBills,
		Steps:                    steps,
	})
}

// noChange checks that an applied configuration has nothing left to change.
func noChange() resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectEmptyPlan()}}
}

// action checks that a plan takes this action on that resource.
func action(address string, what plancheck.ResourceActionType) resource.ConfigPlanChecks {
	return resource.ConfigPlanChecks{PreApply: []plancheck.PlanCheck{plancheck.ExpectResourceAction(address, what)}}
}

// at is the path of an attribute.
func at(first string, steps ...string) tfjsonpath.Path {
	path := tfjsonpath.New(first)
	for _, step := range steps {
		path = path.AtMapKey(step)
	}
	return path
}
