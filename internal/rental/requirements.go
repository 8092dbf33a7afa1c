package rental

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Requirements are what a machine must meet. A zero field requires nothing. This package matches them and not the service, whose
// cache returns one caller's filtered list to another caller.
type Requirements struct {
	// GPUTypes are names such as "RTX 4090"; case and surrounding space don't matter.
	GPUTypes []string
	// GPUCount is exactly how many GPUs.
	GPUCount int
	// MinVRAMGB is GB per GPU. The service truncates (a card of 32607 MiB has 31), so one GB less is accepted.
	MinVRAMGB int
	// MaxPricePerHour is in USD for the whole machine.
	MaxPricePerHour float64
	Clouds          []string
	// Locations match anywhere in an offer's location, case-insensitively.
	Locations      []string
	MinReliability float64 // 0 to 1
	MinCUDAVersion float64
	ExcludeOffers  []string
	// AllowInterruptible accepts offers that their cloud may reclaim at any time.
	AllowInterruptible bool
}

// Doubts warns of requirements that no offer can meet with the clouds that the shopper supports today. They are no errors, because
// a later shopper may report more.
func (r Requirements) Doubts() []string {
	var doubts []string
	none := func(meets func(cloud string) bool) bool {
		return len(r.Clouds) > 0 && !slices.ContainsFunc(r.Clouds, func(cloud string) bool {
			return meets(strings.ToLower(strings.TrimSpace(cloud)))
		})
	}
	if r.MinCUDAVersion > 0 && none(func(cloud string) bool { return cloud == vastAI }) {
		doubts = append(doubts, "min_cuda_version: only vastai reports a CUDA version, but clouds doesn't include it.")
	}
	if r.MinReliability > 0 && none(func(cloud string) bool { return cloud != blueLobster }) {
		doubts = append(doubts, "min_reliability: bluelobster, the only cloud in clouds, reports none.")
	}
	if r.GPUCount > 1 && none(func(cloud string) bool { return cloud != tensorDock }) {
		doubts = append(doubts, "gpu_count: tensordock, the only cloud in clouds, provides one GPU.")
	}
	return doubts
}

// vramSlackGB is how much the service's truncation can take away.
const vramSlackGB = 1

// Clouds besides vastAI. TensorDock's offers, and the sessions rented from them, have the number of GPUs of the whole site; a
// rental gets one.
const (
	tensorDock  = "tensordock"
	blueLobster = "bluelobster"
)

// Clouds are the shopper's names of the clouds that it rents from.
func Clouds() []string { return []string{vastAI, tensorDock, blueLobster} }

// A Rejection says why an offer was not selected.
type Rejection struct {
	Offer shopper.Offer
	// Requirements are the attributes that the offer doesn't meet, such as "min_vram_gb".
	Requirements []string
	// Reasons say why in words, one for each of Requirements.
	Reasons []string
}

func (r *Rejection) fail(requirement, format string, args ...any) {
	r.Requirements = append(r.Requirements, requirement)
	r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...))
}

// Select divides the offers into those that fit, best first, and the others, closest first. The order is price, then
// reliability, then ID, so that the same offers give the same choice. An offer that can't be rented for that many hours doesn't fit.
func (r Requirements) Select(offers []shopper.Offer, hours int) ([]shopper.Offer, []Rejection) {
	var fit []shopper.Offer
	var rejected []Rejection
	for _, offer := range offers {
		if rejection := r.reject(offer, hours); len(rejection.Reasons) > 0 {
			rejected = append(rejected, rejection)
		} else {
			fit = append(fit, offer)
		}
	}
	slices.SortFunc(fit, bestFirst)
	slices.SortFunc(rejected, func(a, b Rejection) int {
		return cmp.Or(len(a.Requirements)-len(b.Requirements), bestFirst(a.Offer, b.Offer))
	})
	return fit, rejected
}

func bestFirst(a, b shopper.Offer) int {
	return cmp.Or(cmp.Compare(a.PricePerHour, b.PricePerHour), cmp.Compare(b.Reliability, a.Reliability), cmp.Compare(a.ID, b.ID))
}

// GPUs returns how many GPUs a machine of the cloud has, where an offer or a session says count.
func GPUs(cloud string, count int) int {
	if cloud == tensorDock {
		return 1
	}
	return count
}

// reject returns the rejection of an offer, without reasons where it fits.
func (r Requirements) reject(offer shopper.Offer, hours int) Rejection {
	rejection := Rejection{Offer: offer}
	fail := rejection.fail
	if !offer.Available {
		fail("availability", "it is currently unavailable")
	}
	if slices.Contains(r.ExcludeOffers, offer.ID) {
		fail("exclude_offers", "it is excluded by name")
	}
	if offer.Interruptible && !r.AllowInterruptible {
		fail("allow_interruptible", "its cloud may reclaim it at any time")
	}
	if offer.MaxDurationHours > 0 && hours > offer.MaxDurationHours {
		fail("reservation_hours", "it can be rented for %d hours at most", offer.MaxDurationHours)
	}
	if len(r.Clouds) > 0 && !containsFold(r.Clouds, offer.Cloud) {
		fail("clouds", "it is on %s", offer.Cloud)
	}
	if len(r.Locations) > 0 && !within(offer.Location, r.Locations) {
		fail("locations", "it is in %q", offer.Location)
	}
	if r.MinReliability > 0 && offer.Reliability < r.MinReliability {
		fail("min_reliability", "%s", reported("its reliability", offer.Reliability))
	}
	if r.MinCUDAVersion > 0 && offer.CUDAVersion < r.MinCUDAVersion {
		fail("min_cuda_version", "%s", reported("its CUDA version", offer.CUDAVersion))
	}
	if r.MinVRAMGB > 0 && offer.VRAMGB <= 0 {
		fail("min_vram_gb", "its memory is not reported")
	}
	r.checkMachine(&rejection)
	return rejection
}

// checkMachine checks what both offers and sessions have. 0 GB of memory means unknown.
func (r Requirements) checkMachine(rejection *Rejection) {
	m, fail := rejection.Offer, rejection.fail
	if len(r.GPUTypes) > 0 && !containsFold(r.GPUTypes, m.GPUType) {
		fail("gpu_types", "its GPU is %q", m.GPUType)
	}
	if count := GPUs(m.Cloud, m.GPUCount); r.GPUCount > 0 && count != r.GPUCount {
		fail("gpu_count", "its GPU count is %d", count)
	}
	if r.MinVRAMGB > 0 && m.VRAMGB > 0 && m.VRAMGB+vramSlackGB < r.MinVRAMGB {
		fail("min_vram_gb", "each GPU has %d GB", m.VRAMGB)
	}
	if r.MaxPricePerHour > 0 && m.PricePerHour > r.MaxPricePerHour+priceTolerance {
		fail("max_price_per_hour", "it costs %s an hour", Dollars(m.PricePerHour))
	}
}

// priceTolerance keeps rounding errors from making a sum exceed a ceiling that it only reaches.
const priceTolerance = 1e-6

// Unmet returns in words which requirements a rented machine doesn't meet. What only an offer has, such as location and
// reliability, is checked once, by Select: a changed market is no reason to replace a machine.
func (r Requirements) Unmet(s shopper.Session, vramGB int) []string {
	rejection := Rejection{Offer: shopper.Offer{
		Cloud: s.Cloud, GPUType: s.GPUType, GPUCount: s.GPUCount, VRAMGB: vramGB, PricePerHour: s.PricePerHour,
	}}
	if len(r.Clouds) > 0 && !containsFold(r.Clouds, s.Cloud) {
		rejection.fail("clouds", "it is on %s", s.Cloud)
	}
	r.checkMachine(&rejection)
	for i, requirement := range rejection.Requirements {
		rejection.Reasons[i] = requirement + ": " + rejection.Reasons[i]
	}
	return rejection.Reasons
}

func reported(what string, value float64) string {
	if value == 0 {
		return what + " is not reported"
	}
	return fmt.Sprintf("%s is %.4g", what, value)
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(accepted string) bool {
		return strings.EqualFold(strings.TrimSpace(accepted), strings.TrimSpace(s))
	})
}

func within(location string, list []string) bool {
	location = strings.ToLower(location)
	return slices.ContainsFunc(list, func(accepted string) bool {
		return strings.Contains(location, strings.ToLower(strings.TrimSpace(accepted)))
	})
}

// Excluded returns how many offers don't meet each requirement.
func Excluded(rejected []Rejection) map[string]int {
	counts := make(map[string]int)
	for _, r := range rejected {
		for _, requirement := range r.Requirements {
			counts[requirement]++
		}
	}
	return counts
}

// explain returns the message for a market in which no offer fits: how many offers each requirement excludes, and the closest ones.
func explain(cloud string, total int, rejected []Rejection) string {
	switch {
	case total == 0 && cloud != "":
		return fmt.Sprintf("The shopper has no offers from %s at the moment; it was not asked for other clouds.", cloud)
	case total == 0:
		return "The shopper has no offers at the moment."
	}
	var b strings.Builder
	fmt.Fprintf(&b, "None of the %d offers meets every requirement.\n\nExcluded by:\n", total)
	counts := Excluded(rejected)
	mostFirst := func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) }
	for _, name := range slices.SortedFunc(maps.Keys(counts), mostFirst) {
		fmt.Fprintf(&b, "  %s: %d of %d\n", name, counts[name], total)
	}
	if counts["gpu_types"] == total {
		types := map[string]bool{}
		for _, r := range rejected {
			types[r.Offer.GPUType] = true
		}
		fmt.Fprintf(&b, "\nGPU types on offer: %s\n", strings.Join(slices.Sorted(maps.Keys(types)), ", "))
	}
	b.WriteString("\nClosest:\n")
	for _, r := range rejected[:min(3, len(rejected))] {
		fmt.Fprintf(&b, "  %s (%d × %s, %d GB, %s, %s/h): %s\n", r.Offer.ID, GPUs(r.Offer.Cloud, r.Offer.GPUCount), r.Offer.GPUType,
			r.Offer.VRAMGB, r.Offer.Cloud, Dollars(r.Offer.PricePerHour), strings.Join(r.Reasons, "; "))
	}
	return strings.TrimRight(b.String(), "\n")
}
