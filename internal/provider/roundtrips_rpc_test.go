package provider_test

import (
	"sync"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// traffic counts what is sent to a machine: logins, and exchanges after them, including those with its container engine.
type traffic struct{ logins, exchanges int }

func (w *world) traffic(t *testing.T) traffic {
	t.Helper()
	rental, err := w.rented()
	if err != nil {
		t.Fatal(err)
	}
	m := w.Machine(rental.SessionID)
	seen := traffic{m.Logins(), m.Exchanges()}
	if engine := w.Engine(rental.SessionID); engine != nil {
		seen.exchanges += engine.Requests()
	}
	return seen
}

// during returns the traffic that something causes.
func (w *world) during(t *testing.T, do func()) traffic {
	t.Helper()
	before := w.traffic(t)
	do()
	after := w.traffic(t)
	return traffic{after.logins - before.logins, after.exchanges - before.exchanges}
}

// A refresh of a running deployment logs in once and then has at most five exchanges with its machine, whatever else has
// been done on it.
func TestRefreshRoundTrips(t *testing.T) {
	t.Parallel()
	inBothRuntimes(t, func(t *testing.T, w *world, c *core, _ object, wanted values) {
		t.Helper()
		if err := w.theMachine(t).SetFacts(func(f *machinefs.Facts) { f.DockerNeedsRoot = true }); err != nil { // as where it was installed
			t.Fatal(err)
		}
		var server object
		made := w.during(t, func() { server = c.create(deploymentType, wanted) })
		took := w.during(t, func() {
			_, diags := w.configured(t, nil).read(deploymentType, server) // another run
			expect(t, diags)
		})
		t.Logf("create: %+v, refresh: %+v", made, took)
		if took.logins != 1 || took.exchanges > 5 {
			t.Errorf("a refresh takes %+v", took)
		}
	})
}

// Ten refreshes on one machine share a login, in parallel and one after another.
func TestTenRefreshesLogInOnce(t *testing.T) {
	t.Parallel()
	inBothRuntimes(t, func(t *testing.T, w *world, c *core, _ object, wanted values) {
		t.Helper()
		server, another := c.create(deploymentType, wanted), w.configured(t, nil)
		for range 2 {
			took := w.during(t, func() {
				var reads sync.WaitGroup
				for range 10 {
					reads.Go(func() {
						if _, diags := another.read(deploymentType, server); len(diags) > 0 {
							t.Error(list(diags))
						}
					})
				}
				reads.Wait()
			})
			t.Logf("%+v", took)
			if took.logins > 1 {
				t.Errorf("ten refreshes take %+v", took)
			}
			if _, diags := another.read(deploymentType, server); len(diags) > 0 {
				t.Error(list(diags))
			}
		}
	})
}
