package rental

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Requirements say what a machine must be. A zero field asks for nothing. They
// are matched here and never by the service, whose cache forgets that a filter
// was applied and hands one caller's selection to another.
type Requirements struct {
	// GPUTypes are names such as "RTX 4090"; case and surrounding space don't matter.
	GPUTypes []string
	// GPUCount is exactly how many GPUs.
	GPUCount int
	// MinVRAMGB is GB for each GPU. The service cuts off fractions (a card of 32607
	// MiB reads 31), so one GB less is let through.
	MinVRAMGB int
	// MaxPricePerHour is in USD for the whole machine.
	MaxPricePerHour float64
	Clouds          []string
	// Locations are matched anywhere in an offer's location, case-insensitively.
	Locations      []string
	MinReliability float64 // 0 to 1
	MinCUDAVersion float64
	ExcludeOffers  []string
	// AllowInterruptible lets in offers that their cloud may take back at any time.
	AllowInterruptible bool
}

// Doubts says in words which requirements no offer meets as the shopper is today,
// whatever the market: one that later reports more is not refused.
func (r Requirements) Doubts() []string {
	var doubts []string
	none := func(wanted func(cloud string) bool) bool {
		return len(r.Clouds) > 0 && !slices.ContainsFunc(r.Clouds, func(cloud string) bool {
			return wanted(strings.ToLower(strings.TrimSpace(cloud)))
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

// vramSlackGB is what the service's truncation can take away.
const vramSlackGB = 1

// tensorDock offers, and the sessions made of them, say how many GPUs a site has
// at most; a rental gets one.
const tensorDock = "tensordock"

const blueLobster = "bluelobster"

// Clouds are the shopper's names of the clouds that it rents from.
func Clouds() []string { return []string{vastAI, tensorDock, blueLobster} }

// A Rejection says why an offer was not taken.
type Rejection struct {
	Offer shopper.Offer
	// Requirements are the attributes that the offer fails, such as "min_vram_gb".
	Requirements []string
	// Reasons say the same in words, one for each requirement.
	Reasons []string
}

// Select divides the offers into those that fit, best first, and the others. The
// order is price, then reliability, then id, so that the same market gives the
// same choice. A reservation longer than an offer allows excludes it.
func (r Requirements) Select(offers []shopper.Offer, hours int) ([]shopper.Offer, []Rejection) {
	var fit []shopper.Offer
	var rejected []Rejection
	for _, offer := range offers {
		unmet := r.unmet(offer, hours)
		if len(unmet) == 0 {
			fit = append(fit, offer)
			continue
		}
		rejection := Rejection{Offer: offer}
		for _, u := range unmet {
			rejection.Requirements = append(rejection.Requirements, u.requirement)
			rejection.Reasons = append(rejection.Reasons, u.reason)
		}
		rejected = append(rejected, rejection)
	}
	sort.Slice(fit, func(i, j int) bool { return better(fit[i], fit[j]) })
	sort.Slice(rejected, func(i, j int) bool {
		if a, b := len(rejected[i].Requirements), len(rejected[j].Requirements); a != b {
			return a < b
		}
		return better(rejected[i].Offer, rejected[j].Offer)
	})
	return fit, rejected
}

func better(a, b shopper.Offer) bool {
	if a.PricePerHour != b.PricePerHour {
		return a.PricePerHour < b.PricePerHour
	}
	if a.Reliability != b.Reliability {
		return a.Reliability > b.Reliability
	}
	return a.ID < b.ID
}

// GPUs is how many GPUs a machine of the cloud really has, where an offer or a
// session says count.
func GPUs(cloud string, count int) int {
	if cloud == tensorDock {
		return 1
	}
	return count
}

type unmet struct {
	requirement, reason string
}

func (r Requirements) unmet(offer shopper.Offer, hours int) []unmet {
	var all []unmet
	fail := func(requirement, format string, args ...any) {
		all = append(all, unmet{requirement, fmt.Sprintf(format, args...)})
	}
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
	return append(all, r.unmetHardware(machine{
		gpuType: offer.GPUType, gpuCount: GPUs(offer.Cloud, offer.GPUCount), vramGB: offer.VRAMGB, price: offer.PricePerHour,
	})...)
}

// machine is what offers and sessions both tell.
type machine struct {
	gpuType  string
	gpuCount int
	vramGB   int // 0 = not told
	price    float64
}

func (r Requirements) unmetHardware(m machine) []unmet {
	var all []unmet
	fail := func(requirement, format string, args ...any) {
		all = append(all, unmet{requirement, fmt.Sprintf(format, args...)})
	}
	if len(r.GPUTypes) > 0 && !containsFold(r.GPUTypes, m.gpuType) {
		fail("gpu_types", "its GPU is %q", m.gpuType)
	}
	if r.GPUCount > 0 && m.gpuCount != r.GPUCount {
		fail("gpu_count", "its GPU count is %d", m.gpuCount)
	}
	if r.MinVRAMGB > 0 && m.vramGB > 0 && m.vramGB+vramSlackGB < r.MinVRAMGB {
		fail("min_vram_gb", "each GPU has %d GB", m.vramGB)
	}
	if r.MaxPricePerHour > 0 && m.price > r.MaxPricePerHour+priceTolerance {
		fail("max_price_per_hour", "it costs $%.4g an hour", m.price)
	}
	return all
}

// priceTolerance keeps sums of decimal fractions from exceeding a ceiling that
// they only reach.
const priceTolerance = 1e-6

// Unmet says which requirements a machine already rented does not meet, in
// words; none when it can be kept. What a session doesn't tell (its location,
// its reliability) is judged by the offer it was rented from, at renting, and
// never again: a market that moves is no reason to replace a machine.
func (r Requirements) Unmet(s shopper.Session, vramGB int) []string {
	var reasons []string
	if len(r.Clouds) > 0 && !containsFold(r.Clouds, s.Cloud) {
		reasons = append(reasons, fmt.Sprintf("clouds: it is on %s", s.Cloud))
	}
	for _, u := range r.unmetHardware(machine{s.GPUType, GPUs(s.Cloud, s.GPUCount), vramGB, s.PricePerHour}) {
		reasons = append(reasons, u.requirement+": "+u.reason)
	}
	return reasons
}

func reported(what string, value float64) string {
	if value == 0 {
		return what + " is not reported"
	}
	return fmt.Sprintf("%s is %.4g", what, value)
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(want string) bool {
		return strings.EqualFold(strings.TrimSpace(want), strings.TrimSpace(s))
	})
}

func within(location string, wanted []string) bool {
	location = strings.ToLower(location)
	return slices.ContainsFunc(wanted, func(want string) bool {
		return strings.Contains(location, strings.ToLower(strings.TrimSpace(want)))
	})
}

// Excluded counts, for each requirement, the offers that fail it.
func Excluded(rejected []Rejection) map[string]int {
	counts := make(map[string]int)
	for _, r := range rejected {
		for _, requirement := range r.Requirements {
			counts[requirement]++
		}
	}
	return counts
}

// explain says what came closest and which requirement excluded how many.
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
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	sort.Slice(names, func(i, j int) bool {
		if counts[names[i]] != counts[names[j]] {
			return counts[names[i]] > counts[names[j]]
		}
		return names[i] < names[j]
	})
	for _, name := range names {
		fmt.Fprintf(&b, "  %s: %d of %d\n", name, counts[name], total)
	}
	b.WriteString("\nClosest:\n")
	for _, r := range rejected[:min(3, len(rejected))] {
		fmt.Fprintf(&b, "  %s (%d × %s, %d GB, %s, $%.4g/h): %s\n", r.Offer.ID, GPUs(r.Offer.Cloud, r.Offer.GPUCount), r.Offer.GPUType,
			r.Offer.VRAMGB, r.Offer.Cloud, r.Offer.PricePerHour, strings.Join(r.Reasons, "; "))
	}
	return strings.TrimRight(b.String(), "\n")
}
