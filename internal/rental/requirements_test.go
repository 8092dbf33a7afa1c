package rental

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

func offer(change func(o *shopper.Offer)) shopper.Offer {
	o := shopper.Offer{
		ID: "o", Cloud: vastAI, GPUType: "RTX 5090", GPUCount: 2, VRAMGB: 31, PricePerHour: 1.25, Location: "Virginia, US",
		Reliability: 0.99, CUDAVersion: 12.9, Available: true, MaxDurationHours: 6,
	}
	if change != nil {
		change(&o)
	}
	return o
}

func TestRequirements(t *testing.T) {
	t.Parallel()
	set := offer
	plain := offer(nil)
	tests := []struct {
		name  string
		needs Requirements
		offer shopper.Offer
		hours int
		fails string // the requirement; "" = it fits
	}{
		{name: "nothing asked for", offer: plain},
		{name: "type in another case", needs: Requirements{GPUTypes: []string{"H100", " rtx 5090 "}}, offer: plain},
		{name: "another type", needs: Requirements{GPUTypes: []string{"RTX 4090", "RTX 509"}}, offer: plain, fails: "gpu_types"},
		{name: "count", needs: Requirements{GPUCount: 2}, offer: plain},
		{name: "more than asked for", needs: Requirements{GPUCount: 1}, offer: plain, fails: "gpu_count"},
		{name: "TensorDock's count is the site's", needs: Requirements{GPUCount: 1}, offer: set(func(o *shopper.Offer) { o.Cloud = tensorDock })},
		{name: "TensorDock gives one", needs: Requirements{GPUCount: 2}, offer: set(func(o *shopper.Offer) { o.Cloud = tensorDock }), fails: "gpu_count"},
		{name: "VRAM with the slack", needs: Requirements{MinVRAMGB: 32}, offer: plain},
		{name: "VRAM beyond the slack", needs: Requirements{MinVRAMGB: 33}, offer: plain, fails: "min_vram_gb"},
		{name: "VRAM is per GPU", needs: Requirements{MinVRAMGB: 62}, offer: plain, fails: "min_vram_gb"},
		{name: "VRAM not reported", needs: Requirements{MinVRAMGB: 1}, offer: set(func(o *shopper.Offer) { o.VRAMGB = 0 }), fails: "min_vram_gb"},
		{name: "price of the machine", needs: Requirements{MaxPricePerHour: 1.25}, offer: plain},
		{name: "price of the machine and not of a GPU", needs: Requirements{MaxPricePerHour: 0.7}, offer: plain, fails: "max_price_per_hour"},
		{name: "cloud in another case", needs: Requirements{Clouds: []string{"VastAI"}}, offer: plain},
		{name: "another cloud", needs: Requirements{Clouds: []string{tensorDock}}, offer: plain, fails: "clouds"},
		{name: "part of a location", needs: Requirements{Locations: []string{"SE", "virginia"}}, offer: plain},
		{name: "another location", needs: Requirements{Locations: []string{"Sweden"}}, offer: plain, fails: "locations"},
		{name: "reliability", needs: Requirements{MinReliability: 0.99}, offer: plain},
		{name: "too unreliable", needs: Requirements{MinReliability: 0.995}, offer: plain, fails: "min_reliability"},
		{name: "reliability unknown", needs: Requirements{MinReliability: 0.1}, offer: set(func(o *shopper.Offer) { o.Reliability = 0 }), fails: "min_reliability"},
		{name: "CUDA", needs: Requirements{MinCUDAVersion: 12.9}, offer: plain},
		{name: "CUDA too old", needs: Requirements{MinCUDAVersion: 13}, offer: plain, fails: "min_cuda_version"},
		{name: "CUDA unknown", needs: Requirements{MinCUDAVersion: 11}, offer: set(func(o *shopper.Offer) { o.CUDAVersion = 0 }), fails: "min_cuda_version"},
		{name: "excluded", needs: Requirements{ExcludeOffers: []string{"x", "o"}}, offer: plain, fails: "exclude_offers"},
		{name: "interruptible", offer: set(func(o *shopper.Offer) { o.Interruptible = true }), fails: "allow_interruptible"},
		{name: "interruptible and allowed", needs: Requirements{AllowInterruptible: true}, offer: set(func(o *shopper.Offer) { o.Interruptible = true })},
		{name: "not available", offer: set(func(o *shopper.Offer) { o.Available = false }), fails: "availability"},
		{name: "reserved longer than it can be", offer: plain, hours: 7, fails: "reservation_hours"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fit, rejected := test.needs.Select([]shopper.Offer{test.offer}, max(test.hours, 1))
			switch {
			case test.fails == "" && len(fit) != 1:
				t.Errorf("it is rejected: %+v", rejected)
			case test.fails != "" && (len(rejected) != 1 || !slices.Equal(rejected[0].Requirements, []string{test.fails})):
				t.Errorf("it should fail %s: %v, %+v", test.fails, fit, rejected)
			}
		})
	}
}

func TestChoiceIsDeterministic(t *testing.T) {
	t.Parallel()
	ranked := []shopper.Offer{
		offer(func(o *shopper.Offer) { o.ID, o.PricePerHour, o.Reliability = "z", 0.5, 0.1 }),
		offer(func(o *shopper.Offer) { o.ID, o.PricePerHour, o.Reliability = "y", 1, 0.99 }),
		offer(func(o *shopper.Offer) { o.ID, o.PricePerHour, o.Reliability = "a", 1, 0.9 }),
		offer(func(o *shopper.Offer) { o.ID, o.PricePerHour, o.Reliability = "b", 1, 0.9 }),
	}
	for range 50 {
		shuffled := slices.Clone(ranked)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		fit, _ := Requirements{}.Select(shuffled, 1)
		for i := range ranked {
			if fit[i].ID != ranked[i].ID {
				t.Fatalf("in place %d is %s, want %s", i, fit[i].ID, ranked[i].ID)
			}
		}
	}
}

func TestUnmetIgnoresTheMarket(t *testing.T) {
	t.Parallel()
	s := shopper.Session{Cloud: tensorDock, GPUType: "H100", GPUCount: 8, PricePerHour: 2}
	keep := Requirements{
		GPUTypes: []string{"h100"}, GPUCount: 1, MinVRAMGB: 80, MaxPricePerHour: 2, Clouds: []string{"TensorDock"},
		Locations: []string{"moon"}, MinReliability: 1, MinCUDAVersion: 99, ExcludeOffers: []string{"it"},
	}
	if reasons := keep.Unmet(s, 79); len(reasons) > 0 {
		t.Errorf("it can't be kept because of %q", reasons)
	}
	if reasons := keep.Unmet(s, 0); len(reasons) > 0 { // unknown after an import
		t.Errorf("unknown memory counts: %q", reasons)
	}
	change := Requirements{GPUTypes: []string{"H200"}, GPUCount: 2, MinVRAMGB: 141, MaxPricePerHour: 1.9, Clouds: []string{vastAI}}
	text := strings.Join(change.Unmet(s, 79), "\n")
	for _, word := range []string{"gpu_types", "gpu_count", "min_vram_gb", "max_price_per_hour", "clouds"} {
		if !strings.Contains(text, word) {
			t.Errorf("%s is met: %s", word, text)
		}
	}
}

func TestExplanation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		o := order("box")
		o.Requirements = Requirements{GPUTypes: []string{"RTX 4090"}, MinVRAMGB: 80, MaxPricePerHour: 0.42}
		fails[*NoOfferError](t, w.apply(t.Context(), w.process(), o), "None of the 40 offers", "min_vram_gb: 40 of 40",
			"max_price_per_hour: 37 of 40", "Closest:", "vastai-00", "each GPU has 24 GB")
		o.Requirements = Requirements{GPUTypes: []string{"RTX4090"}}
		fails[*NoOfferError](t, w.apply(t.Context(), w.process(), o), "gpu_types: 40 of 40", "GPU types on offer: RTX 4090\n")
		o.Requirements = Requirements{MaxPricePerHour: 0.405}
		w.f.boots = []lot{{refuse: "stale"}}
		fails[*AttemptsError](t, w.apply(t.Context(), w.process(), o), "1 offer was tried", "The only offer that meets the requirements"+
			" has been tried")
		o.Requirements = Requirements{Clouds: []string{" TensorDock"}}
		fails[*NoOfferError](t, w.apply(t.Context(), w.process(), o), "no offers from tensordock")
		w.f.offers = nil
		fails[*NoOfferError](t, w.apply(t.Context(), w.process(), order("box")), "no offers at the moment")
		o.OfferID = "vastai-99"
		fails[*NoOfferError](t, w.apply(t.Context(), w.process(), o), "no offer vastai-99")
	})
}

// Doubts are about what no offer can meet, and about nothing else.
func TestDoubts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		needs Requirements
		want  []string // the beginnings
	}{
		{Requirements{}, nil},
		{Requirements{Clouds: []string{"vastai", " BlueLobster"}, MinCUDAVersion: 12.8, MinReliability: 0.9, GPUCount: 8}, nil},
		{Requirements{MinCUDAVersion: 12.8, MinReliability: 0.9, GPUCount: 8}, nil},
		{Requirements{Clouds: []string{"tensordock", "bluelobster"}, MinCUDAVersion: 12.8}, []string{"min_cuda_version"}},
		{Requirements{Clouds: []string{"bluelobster"}, MinCUDAVersion: 12.8, MinReliability: 0.9}, []string{"min_cuda_version", "min_reliability"}},
		{Requirements{Clouds: []string{"TensorDock"}, GPUCount: 2}, []string{"gpu_count"}},
		{Requirements{Clouds: []string{"TensorDock"}, GPUCount: 1}, nil},
	}
	for _, test := range tests {
		got := test.needs.Doubts()
		if len(got) != len(test.want) {
			t.Errorf("%+v: %q, want %q", test.needs, got, test.want)
			continue
		}
		for i, want := range test.want {
			if !strings.HasPrefix(got[i], want) {
				t.Errorf("%+v: %q, want %q", test.needs, got[i], want)
			}
		}
	}
}

func TestDollars(t *testing.T) {
	t.Parallel()
	for price, want := range map[Dollars]string{0.4: "$0.40", 0.1825: "$0.1825", 0.189: "$0.189", 2: "$2.00", 12345.678: "$12345.678", 0: "$0.00", 0.00004: "$0.00"} {
		if got := price.String(); got != want {
			t.Errorf("%v is %s, want %s", float64(price), got, want)
		}
	}
}
