package lifecycle_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// What takes long and needs no driver is got while a driver is being built: here the driver is done only once the image is
// there, or vLLM is being installed.
func TestPullWhileADriverIsBuilt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		facts   machinefs.Facts
		request lifecycle.Request
	}{
		"container": {vm(), request()},
		"process":   {bare(t, facts.TensorDock), processRequest()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.facts.Driver, test.facts.DriverReadyAt = machinefs.DriverBuilding, time.Now().Add(time.Hour)
			r := newRig(t, test.facts)
			there := func() bool {
				if test.request.Runtime == deploy.Container {
					var images []struct{ RepoTags []string }
					r.api(t, "GET", "/v1.41/images/json", "", &images)
					return slices.ContainsFunc(images, func(i struct{ RepoTags []string }) bool { return slices.Contains(i.RepoTags, image) })
				}
				return strings.Contains(strings.Join(r.machine.CommandLog(), "\n"), "uv pip install")
			}
			if there() {
				t.Fatal("it is there from the beginning")
			}
			built := make(chan struct{})
			go func() {
				defer close(built)
				testkit.Eventually(t, "what the server needs is there", there)
				r.facts(t, func(f *machinefs.Facts) { f.DriverReadyAt = time.Now() })
			}()
			status := launch(t, r, test.request)
			<-built
			remove(t, r, status)
		})
	}
}

// A launch that fails because of the driver cancels its early pull.
func TestNothingGoesOnAfterADriverThatIsNeverReady(t *testing.T) {
	t.Parallel()
	machine := vm()
	machine.Driver, machine.DriverReadyAt = machinefs.DriverBuilding, time.Now().Add(time.Hour)
	r := newRig(t, machine)
	r.engine.SlowPull(time.Hour)
	wanted := request()
	wanted.Phases = lifecycle.Phases{deploy.PhasePreflight: 0.3, deploy.PhasePull: 0.7}
	failed := launchFails(t, r, wanted, 20*time.Second)
	if failed.Phase != deploy.PhasePreflight || !hasFinding(failed.Findings, "driver", deploy.Blocking) {
		t.Errorf("got %v with %v", failed, failed.Findings)
	}
}
