package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// alias is a second configuration of the provider, which the CLI runs in a process
// of its own.
func (s *stack) alias() string {
	return fmt.Sprintf("provider \"shopper\" {\n  alias = \"b\"\n  url   = %q\n  %s\n}\n", s.url, s.settings)
}

// Two resources with one name, one at each alias: one machine, and at once an error
// for the other, which destroys nothing.
func TestE2EAliasesWithOneName(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.faults(t, sandbox.Rule{Route: sandbox.EventBoot, Fault: sandbox.BootsLate, Value: "2m"})
	s := w.newStack(t, "s")
	second := `resource "shopper_gpu_session" "second" {
  provider     = shopper.b
  name         = "a"
  on_conflict  = "replace"
  requirements = {}
}
`
	s.write(t, s.alias(), session("a", `on_conflict = "replace"`), second)
	begun := time.Now()
	says(t, s.must(t, 1, applyArgs...), "Name is already in use", "Another resource of this configuration")
	if took := time.Since(begun); took > patience {
		t.Errorf("one waited for the other: %s", took)
	}
	w.accounted(t, []*stack{s}, "a")
	s.destroy(t)
	w.accounted(t, []*stack{s})
}

// A budget with room for one of two machines holds over both aliases.
func TestE2EBudgetHoldsOverAliases(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.settings = "budget = { max_price_per_hour = 0.5 }"
	s.write(t, s.alias(), session("a"), session("b", "provider = shopper.b"))
	says(t, s.must(t, 1, applyArgs...), "Budget would be exceeded")
	if billing := w.ledger(t).Billing; len(billing) != 1 || billing[0].PricePerHour > 0.5 {
		t.Errorf("these bill: %v", billing)
	}
	w.neverTwice(t)
	s.destroy(t)
	w.accounted(t, []*stack{s})
}
