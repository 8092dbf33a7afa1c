package sandbox

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	cacheLife = time.Minute       // after it an answer is fetched anew
	cacheSoft = cacheLife * 3 / 4 // after it an answer is used once more, and then refreshed
)

// listedOffer is an offer as the service answers it.
type listedOffer struct {
	Offer // without Machine

	Available   bool      `json:"available"`
	MaxDuration int       `json:"max_duration_hours"`
	FetchedAt   time.Time `json:"fetched_at"`
}

// offerFilter selects offers of a listing; zero fields match all.
type offerFilter struct {
	provider, gpuType, location string
	minVRAM, minGPUs            int
	maxPrice, minReliability    float64
	minConfidence, minCUDA      float64
}

func (f offerFilter) matches(o listedOffer) bool {
	return (f.provider == "" || o.Provider == f.provider) &&
		(f.gpuType == "" || o.GPUType == f.gpuType) && // exactly, capitals included
		(f.location == "" || strings.Contains(o.Location, f.location)) &&
		o.VRAMGB >= f.minVRAM && o.GPUCount >= f.minGPUs &&
		(f.maxPrice == 0 || o.PricePerHour <= f.maxPrice) &&
		o.Reliability >= f.minReliability && o.Confidence >= f.minConfidence && o.CUDAVersion >= f.minCUDA
}

// inventory is the service's cached view of the market. The cache's keys are the cloud,
// the GPU type and the location only, a quirk of the real service: the other filters
// are passed on to the cloud, so that for a minute one caller's max_price decides
// what the next caller sees.
type inventory struct {
	clock  *clock
	market *market
	health *offerHealth

	mu    sync.Mutex
	cache map[string]*cached
}

type cached struct {
	offers  []listedOffer
	fetched time.Duration
}

func newInventory(clock *clock, market *market, health *offerHealth) *inventory {
	return &inventory{clock: clock, market: market, health: health, cache: map[string]*cached{}}
}

// List answers a listing; ok is false for a cloud that isn't configured.
func (v *inventory) List(f offerFilter) (offers []listedOffer, ok bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.listLocked(f)
}

func (v *inventory) listLocked(f offerFilter) ([]listedOffer, bool) {
	clouds := v.market.Clouds()
	if f.provider != "" {
		if !slices.Contains(clouds, f.provider) {
			return nil, false
		}
		clouds = []string{f.provider}
	}
	kept := []listedOffer{}
	for _, cloud := range clouds {
		for _, o := range v.cachedLocked(cloud, f) {
			o.Confidence *= v.staleness(o)
			multiplier, suppressed := v.health.Multiplier(o.ID, o.Provider, o.GPUType)
			o.Confidence *= multiplier
			if !suppressed && f.matches(o) {
				kept = append(kept, o)
			}
		}
	}
	slices.SortStableFunc(kept, func(a, b listedOffer) int {
		return cmp.Or(cmp.Compare(b.Confidence, a.Confidence), cmp.Compare(a.PricePerHour, b.PricePerHour))
	})
	return kept, true
}

// cachedLocked returns what the cache has of a cloud, fetching it when it is old.
func (v *inventory) cachedLocked(cloud string, f offerFilter) []listedOffer {
	key := cloud
	if f.gpuType != "" {
		key += ":gpu=" + f.gpuType
	}
	if f.location != "" {
		key += ":loc=" + f.location
	}
	now := v.clock.Elapsed()
	entry, ok := v.cache[key]
	if ok {
		age := now - entry.fetched
		if age < cacheSoft {
			return entry.offers
		}
		if age < cacheLife && len(entry.offers) > 0 {
			v.cache[key] = v.fetch(cloud, f, now) // for the next caller
			return entry.offers
		}
	}
	entry = v.fetch(cloud, f, now)
	v.cache[key] = entry
	return entry.offers
}

// fetch asks the cloud, which applies all filters.
func (v *inventory) fetch(cloud string, f offerFilter, now time.Duration) *cached {
	entry := &cached{fetched: now}
	for _, o := range v.market.List(cloud) {
		listed := listedOffer{Offer: o, Available: true, MaxDuration: o.MaxDurationHours, FetchedAt: v.clock.Now()}
		listed.Machine = MachineSpec{}
		if f.matches(listed) {
			entry.offers = append(entry.offers, listed)
		}
	}
	return entry
}

// staleness is the factor of an old offer's confidence: 1 until it was fetched two
// minutes ago, a half from five minutes on.
func (v *inventory) staleness(o listedOffer) float64 {
	const fresh, stale = 2 * time.Minute, 5 * time.Minute
	age := v.clock.Now().Sub(o.FetchedAt)
	switch {
	case age < fresh:
		return 1
	case age >= stale:
		return 0.5
	default:
		return 1 - 0.5*float64(age-fresh)/float64(stale-fresh)
	}
}

// Get finds one offer: anywhere in the cache, however old, or in an unfiltered listing,
// for which the cache may have the result of another caller's filter.
func (v *inventory) Get(id string) (listedOffer, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, entry := range v.cache {
		if o, ok := findOffer(entry.offers, id); ok {
			o.Confidence *= v.staleness(o)
			return o, true
		}
	}
	offers, _ := v.listLocked(offerFilter{})
	return findOffer(offers, id)
}

func findOffer(offers []listedOffer, id string) (listedOffer, bool) {
	i := slices.IndexFunc(offers, func(o listedOffer) bool { return o.ID == id })
	if i < 0 {
		return listedOffer{}, false
	}
	return offers[i], true
}

// Evict removes an offer that has just failed from the cache.
func (v *inventory) Evict(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, entry := range v.cache {
		entry.offers = slices.DeleteFunc(slices.Clone(entry.offers), func(o listedOffer) bool { return o.ID == id })
	}
}

// Comparable returns up to five offers that auto_retry may rent instead of the
// original, best first. offers and machines have failed already.
func (v *inventory) Comparable(original listedOffer, scope string, offers, machines []string) []listedOffer {
	var f offerFilter
	switch scope {
	case "same_vram":
		f = offerFilter{provider: original.Provider, minVRAM: original.VRAMGB, maxPrice: original.PricePerHour * 1.5}
	case "any":
		f = offerFilter{minVRAM: original.VRAMGB, maxPrice: original.PricePerHour * 2}
	default: // same_gpu
		f = offerFilter{provider: original.Provider, gpuType: original.GPUType, maxPrice: original.PricePerHour * 1.2}
	}
	found, _ := v.List(f)
	found = slices.DeleteFunc(found, func(o listedOffer) bool {
		return o.ID == original.ID || slices.Contains(offers, o.ID) || o.MachineID != "" && slices.Contains(machines, o.MachineID)
	})
	return found[:min(len(found), 5)]
}
