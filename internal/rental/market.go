package rental

import (
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// vastAI's offers are one machine each; the other clouds can rent one more from
// the same offer.
const vastAI = "vastai"

// market keeps rentals that are made side by side from all taking the same
// offer: all but one of them would come too late.
type market struct {
	mu    sync.Mutex
	taken map[string]bool // by offer
}

// take returns the first offer that is neither tried nor taken by another
// rental, or else the first that is not tried.
func (m *market) take(fit []shopper.Offer, tried map[string]bool) (shopper.Offer, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var second *shopper.Offer
	for i, offer := range fit {
		switch {
		case tried[offer.ID]:
		case !m.taken[offer.ID]:
			m.taken[offer.ID] = true
			return offer, true
		case second == nil:
			second = &fit[i]
		}
	}
	if second == nil {
		return shopper.Offer{}, false
	}
	return *second, true
}

// rented says that an offer could be rented. One that could not stays taken: it
// would fail the next rental too.
func (m *market) rented(offer shopper.Offer) {
	if offer.Cloud == vastAI {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.taken, offer.ID)
}
