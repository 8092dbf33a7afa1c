package rental

import (
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// vastAI's offers are one machine each; the other clouds can rent one more from
// the same offer.
const vastAI = "vastai"

// market keeps rentals that are made side by side from all taking the same
// machine: all but one of them would come too late.
type market struct {
	mu    sync.Mutex
	taken map[string]bool // Vast.ai's offers
}

// take returns the first offer that is neither tried nor taken by a sibling, or
// else the first that is not tried; taken tells that a sibling has it.
func (m *market) take(fit []shopper.Offer, tried map[string]bool) (offer shopper.Offer, taken, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, candidate := range fit {
		switch {
		case tried[candidate.ID]:
		case !m.taken[candidate.ID]:
			m.taken[candidate.ID] = candidate.Cloud == vastAI
			return candidate, false, true
		case !ok:
			offer, taken, ok = candidate, true, true
		}
	}
	return offer, taken, ok
}
