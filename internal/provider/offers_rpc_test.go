package provider_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// short is an offer that can't be rented for long.
const short = "vastai-short"

// shortOffer adds it to the market.
func shortOffer(o *sandbox.Options) {
	o.Offers = append(o.Offers, sandbox.Offer{
		ID: short, GPUType: "H100 SXM5", GPUCount: 1, VRAMGB: 79, PricePerHour: 1.1, Location: "Quebec, CA", Reliability: 0.9, CUDAVersion: 13,
		MaxDurationHours: 2, Machine: o.Offers[0].Machine,
	})
}

// offered are the IDs of the offers in a result.
func offered(t *testing.T, read tftypes.Value) []string {
	t.Helper()
	ids := []string{}
	for _, offer := range elements(t, read, "offers") {
		ids = append(ids, text(t, offer, "id"))
	}
	return ids
}

// Every filter, every order and the limit, with what each filter excludes.
func TestOffersFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shortOffer)
	c := w.configured(t, nil)
	for _, test := range []struct {
		name      string
		arguments values
		want      []string
		excluded  map[string]int
	}{
		{"nothing", values{}, []string{a5000, vast, docked, a6000, vastDouble, short}, map[string]int{"allow_interruptible": 1}},
		{
			"allow_interruptible",
			values{"allow_interruptible": true},
			[]string{vastSpot, a5000, vast, docked, a6000, vastDouble, short},
			map[string]int{},
		},
		{"gpu_types", values{"gpu_types": []any{"rtx a5000", "H100 SXM5"}}, []string{a5000, short}, map[string]int{"gpu_types": 5, "allow_interruptible": 1}},
		{"gpu_count", values{"gpu_count": 2}, []string{vastDouble}, map[string]int{"gpu_count": 6, "allow_interruptible": 1}},
		{"min_vram_gb", values{"min_vram_gb": 48}, []string{a6000, short}, map[string]int{"min_vram_gb": 5, "allow_interruptible": 1}},
		{"one GB less", values{"min_vram_gb": 24, "gpu_types": []any{"RTX A5000"}}, []string{a5000}, map[string]int{"gpu_types": 6, "allow_interruptible": 1}},
		{"max_price_per_hour", values{"max_price_per_hour": 0.39}, []string{a5000, vast}, map[string]int{"max_price_per_hour": 4, "allow_interruptible": 1}},
		{"clouds", values{"clouds": []any{"tensordock", "bluelobster"}}, []string{a5000, docked, a6000}, map[string]int{"clouds": 4, "allow_interruptible": 1}},
		{"locations", values{"locations": []any{"idaho", "QUEBEC"}}, []string{docked, short}, map[string]int{"locations": 5, "allow_interruptible": 1}},
		{"min_reliability", values{"min_reliability": 0.99}, []string{vast, docked, vastDouble}, map[string]int{"min_reliability": 4, "allow_interruptible": 1}},
		{"min_cuda_version", values{"min_cuda_version": 12.9}, []string{vast, vastDouble, short}, map[string]int{"min_cuda_version": 4, "allow_interruptible": 1}},
		{
			"exclude_offers",
			values{"exclude_offers": []any{a5000, vast}},
			[]string{docked, a6000, vastDouble, short},
			map[string]int{"exclude_offers": 2, "allow_interruptible": 1},
		},
		{
			"reservation_hours",
			values{"reservation_hours": 3},
			[]string{a5000, vast, docked, a6000, vastDouble},
			map[string]int{"reservation_hours": 1, "allow_interruptible": 1},
		},
		{"limit", values{"limit": 2}, []string{a5000, vast}, map[string]int{"allow_interruptible": 1}},
		{"price", values{"sort_by": "price", "limit": 3}, []string{a5000, vast, docked}, map[string]int{"allow_interruptible": 1}},
		// 0.56/47, 0.31/23, 1.1/79; and 0.39/23 beside 0.78/46; memory that isn't reported is the card's.
		{"price_per_vram_gb", values{"sort_by": "price_per_vram_gb", "clouds": []any{"bluelobster"}}, []string{a6000, a5000}, map[string]int{
			"clouds": 5, "allow_interruptible": 1,
		}},
		{"reliability", values{"sort_by": "reliability", "limit": 3}, []string{docked, vast, vastDouble}, map[string]int{"allow_interruptible": 1}},
		{"vram", values{"sort_by": "vram", "limit": 3}, []string{short, a6000, vastDouble}, map[string]int{"allow_interruptible": 1}},
	} {
		read, diags := c.readData(offersType, test.arguments)
		expect(t, diags)
		if got := offered(t, read); !slices.Equal(got, test.want) {
			t.Errorf("%s: offers %v, want %v", test.name, got, test.want)
		}
		excluded := map[string]int{}
		for name := range members(t, get(t, read, "excluded")) {
			excluded[name] = int(number(t, get(t, read, "excluded"), name))
		}
		if !maps.Equal(excluded, test.excluded) {
			t.Errorf("%s: excluded %v, want %v", test.name, excluded, test.excluded)
		}
		if got := number(t, read, "total"); got != 7 {
			t.Errorf("%s: %v offers before filtering", test.name, got)
		}
		// The cheapest is that of all that fit, whatever the order and the limit.
		plain := maps.Clone(test.arguments)
		delete(plain, "sort_by")
		delete(plain, "limit")
		all, diags := c.readData(offersType, plain)
		expect(t, diags)
		if got, want := text(t, read, "cheapest.id"), offered(t, all)[0]; got != want {
			t.Errorf("%s: cheapest is %s, want %s", test.name, got, want)
		}
	}
}

// Each offer has everything that the service reports, and what follows from it.
func TestOffersTellEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	read, diags := c.readData(offersType, values{"allow_interruptible": true})
	expect(t, diags)
	of := map[string]tftypes.Value{}
	for _, offer := range elements(t, read, "offers") {
		of[text(t, offer, "id")] = offer
	}
	spot := of[vastSpot]
	for name, want := range map[string]string{"cloud": "vastai", "gpu_type": "RTX 4090", "location": "Japan, JP"} {
		if got := text(t, spot, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for name, want := range map[string]float64{
		"gpu_count": 1, "price_per_hour": 0.21, "reliability": 0.961, "cuda_version": 12.8, "availability_confidence": 0.8, "min_bid": 0.19,
	} {
		if got := number(t, spot, name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if !truth(t, spot, "interruptible") || !truth(t, spot, "available") || text(t, read, "fetched_at") == "" || text(t, spot, "cloud_offer_id") == "" {
		t.Errorf("offer is %s", spot)
	}
	// What a cloud doesn't report is null and not 0; a site's maximum isn't what a rental gets.
	lobster := of[a5000]
	for _, name := range []string{"reliability", "cuda_version", "min_bid", "max_duration_hours"} {
		if !get(t, lobster, name).IsNull() {
			t.Errorf("%s is %s", name, get(t, lobster, name))
		}
	}
	for id, want := range map[string]float64{a5000: 0.31 / 23, docked: 0.42 / 24, vastDouble: 0.78 / (2 * number(t, of[vastDouble], "vram_gb"))} {
		if got := number(t, of[id], "price_per_vram_gb"); got < want-1e-9 || got > want+1e-9 {
			t.Errorf("%s: %v USD for each GB, want %v", id, got, want)
		}
	}
	if got := number(t, of[docked], "gpu_count"); got != 1 {
		t.Errorf("TensorDock rents %v GPUs", got)
	}
}

// The preview takes the same filters as the resource.
func TestOffersHaveTheRequirements(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	of := func(attributes []*tfprotov6.SchemaAttribute, name string) *tfprotov6.SchemaAttribute {
		at := slices.IndexFunc(attributes, func(a *tfprotov6.SchemaAttribute) bool { return a.Name == name })
		if at < 0 {
			return nil
		}
		return attributes[at]
	}
	session, offers := c.schema.ResourceSchemas[sessionType].Block.Attributes, c.schema.DataSourceSchemas[offersType].Block.Attributes
	requirements := of(session, "requirements").NestedType.Attributes
	if len(requirements) != 10 {
		t.Errorf("%d requirements", len(requirements))
	}
	for _, want := range append(slices.Clone(requirements), of(session, "reservation_hours")) {
		if got := of(offers, want.Name); got == nil || !got.Type.Equal(want.Type) || !got.Optional {
			t.Errorf("%s is %v in %s", want.Name, got, offersType)
		}
	}
}

// The cheapest offer is the one that a session with these requirements rents.
func TestOffersPreviewWhatASessionTakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, shortOffer)
	seen := map[string]bool{}
	for _, test := range []struct {
		requirements values
		hours        int
	}{
		{values{}, 1},
		{values{"allow_interruptible": true}, 1},
		{values{"clouds": []any{"tensordock"}}, 1},
		{values{"clouds": []any{"VastAI", "tensordock"}, "min_reliability": 0.99}, 1},
		{values{"gpu_count": 2}, 1},
		{values{"min_vram_gb": 40, "max_price_per_hour": 0.6}, 1},
		{values{"min_vram_gb": 60}, 2},
		{values{"min_vram_gb": 60}, 3}, // not for that long
		{values{"locations": []any{"virginia"}, "gpu_types": []any{"RTX 4090"}, "min_cuda_version": 12.8}, 1},
		{values{"exclude_offers": []any{a5000, vast}}, 1},
	} {
		c := w.configured(t, nil) // another run each: in one, an offer is taken once
		preview, diags := c.readData(offersType, with(test.requirements, values{"reservation_hours": test.hours}))
		expect(t, diags)
		made, diags := c.apply(sessionType, c.plan(sessionType, object{}, values{
			"name": "preview", "requirements": test.requirements, "reservation_hours": test.hours,
		}))
		if get(t, preview, "cheapest").IsNull() {
			expect(t, diags, "ERROR: ", "meets every requirement")
			seen["none"] = true
			continue
		}
		expect(t, diags)
		want, got := text(t, preview, "cheapest.id"), text(t, made.state, "offer_id")
		if got != want || number(t, preview, "cheapest.price_per_hour") != number(t, made.state, "price_per_hour") {
			t.Errorf("%v for %d hours: %s was shown, and %s is rented", test.requirements, test.hours, want, got)
		}
		seen[got] = true
		w.releaseAll(t, c, made)
	}
	if len(seen) < 7 {
		t.Errorf("too much alike to tell anything: %v", seen)
	}
}
