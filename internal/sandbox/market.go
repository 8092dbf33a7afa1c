package sandbox

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// moveInterval is how often a moving market changes, in service time.
const moveInterval = time.Minute

// market is what the clouds offer now. An offer can be rented by one session at a time.
type market struct {
	clock  *clock
	seed   int64
	moving bool

	mu     sync.Mutex
	offers []*listing
}

type listing struct {
	Offer
	rentedBy string // instance id
	gone     bool
}

func newMarket(clock *clock, offers []Offer, seed int64, moving bool) *market {
	m := &market{clock: clock, seed: seed, moving: moving}
	for _, o := range offers {
		m.offers = append(m.offers, &listing{Offer: o})
	}
	return m
}

// List returns what a cloud offers now, in the order that was given at the start.
func (m *market) List(cloud string) []Offer {
	m.mu.Lock()
	defer m.mu.Unlock()
	var offers []Offer
	for _, l := range m.offers {
		if l.Provider == cloud && m.availableLocked(l) {
			offers = append(offers, m.pricedLocked(l))
		}
	}
	return offers
}

// Clouds are the clouds that the market's offers come from, in a fixed order.
func (m *market) Clouds() []string {
	var clouds []string
	for _, cloud := range facts.Clouds() {
		if slices.ContainsFunc(m.offers, func(l *listing) bool { return l.Provider == cloud.Name }) {
			clouds = append(clouds, cloud.Name)
		}
	}
	return clouds
}

// Take rents an offer out to an instance, if it is still available, and returns it at
// its present price.
func (m *market) Take(offerID, instance string) (Offer, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.findLocked(offerID)
	if l == nil || !m.availableLocked(l) {
		return Offer{}, false
	}
	l.rentedBy = instance
	return m.pricedLocked(l), true
}

// Return makes an offer available again that the instance had.
func (m *market) Return(offerID, instance string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.findLocked(offerID); l != nil && l.rentedBy == instance {
		l.rentedBy = ""
	}
}

// SetGone takes an offer off the market, or puts it back. The service notices once its
// cache is a minute old.
func (m *market) SetGone(offerID string, gone bool) error {
	return m.change(offerID, func(l *listing) { l.gone = gone })
}

// SetPrice changes an offer's price. The service notices as late.
func (m *market) SetPrice(offerID string, price float64) error {
	return m.change(offerID, func(l *listing) { l.PricePerHour = price })
}

func (m *market) change(offerID string, do func(*listing)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.findLocked(offerID)
	if l == nil {
		return fmt.Errorf("no offer %q on the market", offerID)
	}
	do(l)
	return nil
}

func (m *market) findLocked(offerID string) *listing {
	for _, l := range m.offers {
		if l.ID == offerID {
			return l
		}
	}
	return nil
}

func (m *market) availableLocked(l *listing) bool {
	if l.gone || l.rentedBy != "" {
		return false
	}
	const onePart = 0.06 // of a moving market is unavailable at any time
	return !m.moving || m.noiseLocked(l.ID, "away") >= onePart
}

func (m *market) pricedLocked(l *listing) Offer {
	o := l.Offer
	if m.moving {
		const swing = 0.1
		o.PricePerHour = round4(o.PricePerHour * (1 + swing*(2*m.noiseLocked(o.ID, "price")-1)))
	}
	return o
}

// noiseLocked is a number in [0,1) that depends only on the seed, the parts and the
// minute, so that markets of the same seed move alike.
func (m *market) noiseLocked(parts ...string) float64 {
	minute := int64(m.clock.Elapsed() / moveInterval)
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%d/%s", m.seed, minute, strings.Join(parts, "/")))
	return float64(binary.BigEndian.Uint64(sum[:8])>>11) / (1 << 53)
}

func round4(f float64) float64 { return math.Round(f*1e4) / 1e4 }

// gpuUUID is the UUID of an offer's i-th GPU. It is always the same, as hardware's is.
func gpuUUID(offerID string, i int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "gpu/%s/%d", offerID, i))
	return fmt.Sprintf("GPU-%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}
