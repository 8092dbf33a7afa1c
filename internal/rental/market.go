package rental

import (
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// vastAI is Vast.ai, where an offer is one machine. An offer of the other clouds can be rented more than once.
const vastAI = "vastai"

// market keeps concurrent rentals from choosing the same machine, which only one of them could get.
type market struct {
	mu    sync.Mutex
	taken map[string]bool // Vast.ai's offers
}

// take returns the first offer that was neither tried nor taken by a concurrent rental. Without one, it returns the first that was
// not tried, with taken set. ok is false where all were tried.
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
