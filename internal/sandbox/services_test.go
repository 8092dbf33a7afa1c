package sandbox

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func TestTwoServicesShareOneLedger(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	first := c.run("c", "vastai-100")
	r := <-c.send(t.Context(), http.MethodPost, "/sandbox/services", nil)
	if r.status != http.StatusCreated || r.str("url") == "" || r.str("url") == c.s.URL() {
		t.Fatalf("%d %s", r.status, r.text)
	}
	other := client{t, c.s.all()[1], c.f}
	if other.s.URL() != r.str("url") {
		t.Fatalf("%s answers as %s", other.s.URL(), r.str("url"))
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if r := other.do(method, "/api/v1/sessions/"+first, nil); r.status != http.StatusNotFound {
			t.Errorf("%s of the first one's session: %d %s", method, r.status, r.text)
		}
	}
	second := other.run("c", "vastai-101")
	if r := c.get("/api/v1/sessions/" + second); r.status != http.StatusNotFound {
		t.Errorf("the second one's session: %d %s", r.status, r.text)
	}
	c.wantBilling(first, second)
	other.wantBilling(first, second)
	for _, rental := range c.s.Ledger().Billing {
		if rental.Status != statusRunning {
			t.Errorf("%s has status %q", rental.SessionID, rental.Status)
		}
	}
	if r := c.do(http.MethodDelete, "/api/v1/sessions/"+first, nil); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.text)
	}
	c.wantBilling(second)
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	if r := <-other.send(t.Context(), http.MethodGet, "/health", nil); r.err == nil {
		t.Error("the second service outlives the first")
	}
	if _, err := c.s.AnotherService(); err == nil {
		t.Error("a sandbox that has ended starts a service")
	}
}

func TestAWipedServiceKnowsNoSessionAndTheMachineBills(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	id := c.run("c", "vastai-100")
	if r := <-c.send(t.Context(), http.MethodPost, "/sandbox/wipe", nil); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.text)
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		if r := c.do(method, "/api/v1/sessions/"+id, nil); r.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", method, r.status, r.text)
		}
	}
	if r := c.get("/api/v1/sessions"); r.size("sessions") != 0 {
		t.Errorf("%s", r.text)
	}
	c.s.Advance(stuckAfter + 12*time.Hour)
	c.advance(checkInterval)
	c.wantBilling(id)
	if m := c.f.last(); !m.up || m.closed {
		t.Error("the machine answers no more")
	}
	if rental := c.s.Ledger().Billing[0]; rental.Status != "" {
		t.Errorf("status %q of a session that no service knows", rental.Status)
	}
}

func TestAServiceKilledWhileItRentsLosesTheMachine(t *testing.T) {
	t.Parallel()
	for _, reconciler := range []bool{false, true} {
		t.Run(fmt.Sprintf("reconciler=%v", reconciler), func(t *testing.T) {
			t.Parallel()
			c := frozen(t, Options{Reconciler: reconciler, Faults: []Rule{{Route: EventCreate, Nth: 1, Fault: ServiceKilled, Value: "10ms"}}})
			if r := c.do(http.MethodPost, "/api/v1/sessions", order("c", "vastai-100")); r.err == nil {
				t.Fatalf("answered: %d %s", r.status, r.text)
			}
			var id string
			testkit.Eventually(t, "the service to be back", func() bool {
				r := <-c.send(t.Context(), http.MethodGet, "/api/v1/sessions?consumer_id=c", nil)
				id, _ = r.at("sessions", 0, "id").(string)
				return r.err == nil
			})
			r := c.get("/api/v1/sessions/" + id)
			for _, name := range []string{"ssh_host", "ssh_port", "ssh_user"} {
				if r.at(name) != nil {
					t.Errorf("a session without a machine has %s: %s", name, r.text)
				}
			}
			if r.str("status") != statusFailed || r.str("error") != "no provider instance ID" {
				t.Errorf("%s", r.text)
			}
			c.advanceUntil("the cloud to make the machine", func() bool { return len(c.s.Ledger().Billing) == 1 })
			if r := c.do(http.MethodDelete, "/api/v1/sessions/"+id, nil); r.status != http.StatusOK {
				t.Errorf("%d %s", r.status, r.text)
			}
			c.advance(4 * time.Minute)
			c.wantBilling(id)
			if got := c.status(id); got != statusFailed {
				t.Errorf("status %s", got)
			}
			c.advance(3 * time.Minute)
			if !reconciler {
				c.wantBilling(id)
				return
			}
			c.wantBilling()
			if by := c.s.Ledger().Rentals[0].ReleasedBy; by != "reconciler" {
				t.Errorf("released by %q", by)
			}
		})
	}
}

func TestTheReconcilerLeavesSessionsAlone(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Reconciler: true})
	id := c.run("c", "vastai-100")
	c.advance(2 * reconcileInterval)
	c.wantBilling(id)
	c.s.Wipe()
	c.advance(2 * checkInterval)
	c.wantBilling()
}
