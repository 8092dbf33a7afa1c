package sandbox

import (
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"
)

// How the service treats offers that fail.
const (
	suppressAfter    = 3                // failures within the window hide an offer
	suppressWindow   = 30 * time.Minute // in which failures count
	suppressFor      = 30 * time.Minute
	failureMemory    = time.Hour
	degradeTypeAfter = 3 // failed offers of a GPU type lower all of its offers
	typeDegradation  = 0.3
)

// offerHealth remembers failed rentals, as GET /api/v1/offer-health shows them.
// Its windows are service time.
type offerHealth struct {
	clock *clock

	mu     sync.Mutex
	order  []string                // offers in the order of their first failure
	offers map[string]*offerRecord // with at least one failure
}

type offerRecord struct {
	provider, gpuType string
	failures          []failure
	suppressed        bool
	suppressedAt      time.Duration
	suppressedOn      time.Time
}

type failure struct {
	kind, reason string
	at           time.Duration
	on           time.Time
}

func newOfferHealth(clock *clock) *offerHealth {
	return &offerHealth{clock: clock, offers: map[string]*offerRecord{}}
}

// Record notes a failed rental.
func (h *offerHealth) Record(offer, provider, gpuType, kind, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock.Elapsed()
	r, ok := h.offers[offer]
	if !ok {
		r = &offerRecord{provider: provider, gpuType: gpuType}
		h.offers[offer] = r
		h.order = append(h.order, offer)
	}
	r.failures = slices.DeleteFunc(r.failures, func(f failure) bool { return now-f.at > failureMemory })
	r.failures = append(r.failures, failure{kind: kind, reason: reason, at: now, on: h.clock.Now()})
	if r.recent(now) >= suppressAfter && !r.hidden(now) {
		r.suppressed, r.suppressedAt, r.suppressedOn = true, now, h.clock.Now()
	}
}

func (r *offerRecord) recent(now time.Duration) int {
	n := 0
	for _, f := range r.failures {
		if now-f.at < suppressWindow {
			n++
		}
	}
	return n
}

func (r *offerRecord) hidden(now time.Duration) bool {
	return r.suppressed && now-r.suppressedAt < suppressFor
}

// Multiplier returns the factor of an offer's confidence, and whether the offer is
// hidden.
func (h *offerHealth) Multiplier(offer, provider, gpuType string) (multiplier float64, suppressed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.multiplierLocked(offer, provider, gpuType, h.clock.Elapsed())
}

func (h *offerHealth) multiplierLocked(offer, provider, gpuType string, now time.Duration) (float64, bool) {
	multiplier := 1.0
	if r, ok := h.offers[offer]; ok {
		if r.hidden(now) {
			return 0, true
		}
		multiplier = math.Pow(0.7, float64(r.recent(now)))
	}
	if h.failedOfTypeLocked(provider, gpuType, now) >= degradeTypeAfter {
		multiplier *= typeDegradation
	}
	return max(multiplier, 0.05), false
}

func (h *offerHealth) failedOfTypeLocked(provider, gpuType string, now time.Duration) int {
	n := 0
	for _, r := range h.offers {
		if r.provider == provider && r.gpuType == gpuType && now-r.failures[len(r.failures)-1].at < failureMemory {
			n++
		}
	}
	return n
}

// offerHealthAnswer is one offer of GET /api/v1/offer-health.
type offerHealthAnswer struct {
	OfferID         string     `json:"offer_id"`
	Provider        string     `json:"provider"`
	GPUType         string     `json:"gpu_type"`
	Recent          int        `json:"recent_failures"`
	Suppressed      bool       `json:"is_suppressed"`
	SuppressedAt    *time.Time `json:"suppressed_at,omitempty"`
	SuppressedUntil *time.Time `json:"suppressed_until,omitempty"`
	Multiplier      float64    `json:"confidence_multiplier"`
	Last            time.Time  `json:"last_failure,omitzero"`
	LastType        string     `json:"last_failure_type,omitempty"`
	LastReason      string     `json:"last_failure_reason,omitempty"`
}

// gpuTypeAnswer is one GPU type of the same.
type gpuTypeAnswer struct {
	Key         string  `json:"gpu_type_key"`
	Failed      int     `json:"failed_offer_count"`
	Degraded    bool    `json:"is_degraded"`
	Degradation float64 `json:"degradation_applied,omitempty"`
}

// Answer lists the offers and GPU types that failed, in the order of their first failures.
func (h *offerHealth) Answer(provider, gpuType string) ([]offerHealthAnswer, []gpuTypeAnswer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock.Elapsed()
	offers, types := []offerHealthAnswer{}, map[string]gpuTypeAnswer{}
	for _, id := range h.order {
		r := h.offers[id]
		if n := h.failedOfTypeLocked(r.provider, r.gpuType, now); n > 0 {
			answer := gpuTypeAnswer{Key: r.provider + ":" + r.gpuType, Failed: n, Degraded: n >= degradeTypeAfter}
			if answer.Degraded {
				answer.Degradation = typeDegradation
			}
			types[answer.Key] = answer
		}
		if provider != "" && r.provider != provider || gpuType != "" && r.gpuType != gpuType {
			continue
		}
		if recent := r.recent(now); recent > 0 || r.hidden(now) {
			offers = append(offers, h.answerLocked(id, r, recent, now))
		}
	}
	sorted := slices.SortedFunc(maps.Values(types), func(a, b gpuTypeAnswer) int { return strings.Compare(a.Key, b.Key) })
	return offers, append([]gpuTypeAnswer{}, sorted...) // never null
}

func (h *offerHealth) answerLocked(id string, r *offerRecord, recent int, now time.Duration) offerHealthAnswer {
	last := r.failures[len(r.failures)-1]
	answer := offerHealthAnswer{
		OfferID: id, Provider: r.provider, GPUType: r.gpuType, Recent: recent, Suppressed: r.hidden(now),
		Last: last.on, LastType: last.kind, LastReason: last.reason,
	}
	answer.Multiplier, _ = h.multiplierLocked(id, r.provider, r.gpuType, now)
	if answer.Suppressed {
		on, until := r.suppressedOn, r.suppressedOn.Add(suppressFor)
		answer.SuppressedAt, answer.SuppressedUntil = &on, &until
	}
	return answer
}
