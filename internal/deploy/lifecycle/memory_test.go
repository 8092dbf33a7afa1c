package lifecycle_test

import (
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// A process has stopped when its GPU memory is released, which the next server needs.
func TestStopWaitsForGPUMemory(t *testing.T) {
	t.Parallel()
	stops := map[string]func(*testing.T, *rig, deploy.Status) error{
		"removed": func(t *testing.T, r *rig, status deploy.Status) error {
			t.Helper()
			warning, err := lifecycle.Remove(within(t, limit), r, status.Ref, lifecycle.Request{})
			if warning != "" {
				t.Errorf("warned: %s", warning)
			}
			return err
		},
		"restarted": func(t *testing.T, r *rig, status deploy.Status) error {
			t.Helper()
			_, err := lifecycle.Restart(within(t, limit), r, status.Ref, processRequest())
			return err
		},
	}
	for name, stop := range stops {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, pod())
			status := launch(t, r, processRequest())
			hold := func(mib int) { r.facts(t, func(f *machinefs.Facts) { f.GPUs[0].HeldMiB = mib }) }
			looks := func() int {
				n := 0
				for _, line := range r.machine.CommandLog() {
					if strings.HasPrefix(line, "nvidia-smi --query-gpu") {
						n++
					}
				}
				return n
			}
			hold(6000) // as if the driver took its time
			before := looks()
			done := make(chan error, 1)
			go func() { done <- stop(t, r, status) }()
			testkit.Eventually(t, "three looks at the memory", func() bool { return looks() >= before+3 })
			select {
			case err := <-done:
				t.Fatalf("it didn't wait for the memory: %v", err)
			default:
			}
			hold(0)
			if err := <-done; err != nil {
				t.Fatalf("%v\n%s", err, describe(err))
			}
		})
	}
}

// Memory that another program has taken since doesn't delay the stop.
func TestStopDoesNotWaitForOthersMemory(t *testing.T) {
	t.Parallel()
	facts := vm()
	facts.VLLM.Installed = "0.33.0"
	r := newRig(t, facts)
	status := launch(t, r, processRequest())
	r.facts(t, func(f *machinefs.Facts) { f.GPUs[0].HeldMiB = 2000 }) // nvidia-smi shows its process
	remove(t, r, status)
}
