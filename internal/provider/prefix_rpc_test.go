package provider_test

import (
	"regexp"
	"testing"
)

var madeOfWeb = regexp.MustCompile(`^web-[0-9a-f]{12}$`)

// A name with a prefix is made once, and a new machine needs a new name.
func TestSessionNamePrefix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	order := values{"name_prefix": "web-", "offer_id": a5000}
	p := c.plan(sessionType, object{}, order)
	expect(t, p.Diagnostics)
	if get(t, p.value, "name").IsKnown() {
		t.Errorf("the name of a new session is planned: %s", p.value)
	}
	old, diags := c.apply(sessionType, p)
	expect(t, diags)
	name := text(t, old.state, "name")
	if !madeOfWeb.MatchString(name) {
		t.Errorf("its name is %q", name)
	}
	old, diags = c.read(sessionType, old)
	expect(t, diags)

	for _, test := range []struct {
		what     string
		change   values
		replaces bool
	}{
		{"nothing", order, false},
		{"the name that it has", values{"name": name, "offer_id": a5000}, false},
		{"another prefix", with(order, values{"name_prefix": "api-"}), true},
		{"a shorter prefix", with(order, values{"name_prefix": "web"}), true},
		{"a prefix that is not known", with(order, values{"name_prefix": unknown}), true},
		{"another name", values{"name": "web-fixed", "offer_id": a5000}, true},
		{"another offer", with(order, values{"offer_id": a6000}), true},
	} {
		if p := c.plan(sessionType, old, test.change); len(p.replaced()) > 0 != test.replaces || failed(p.Diagnostics) {
			t.Errorf("%s: the plan replaces it for %v: %s", test.what, p.replaced(), list(p.Diagnostics))
		}
	}

	// As create_before_destroy does.
	made := c.create(sessionType, with(order, values{"offer_id": a6000}))
	if again := text(t, made.state, "name"); again == name || !madeOfWeb.MatchString(again) {
		t.Errorf("the names are %q and %q", name, again)
	}
	if billing := w.Ledger().Billing; len(billing) != 2 {
		t.Errorf("these bill: %v", billing)
	}
	for _, session := range []object{old, made} {
		_, diags = c.destroy(sessionType, session)
		expect(t, diags)
	}
}

// An imported session keeps its name, whatever the prefix.
func TestSessionNamePrefixAfterImport(t *testing.T) {
	t.Parallel()
	for _, consumer := range []string{"terraform/web-0123456789ab/" + token, "terraform/fixed/" + token, "somebody-else"} {
		w := newWorld(t)
		c := w.configured(t, nil)
		session := w.rentByHand(t, a5000, consumer)
		imported, diags := c.importID(sessionType, session.ID)
		expect(t, diags, "Private key is unknown")
		name := text(t, imported.state, "name")
		order := values{"name_prefix": "web-", "requirements": values{"min_vram_gb": 23}}
		for range 2 { // the first adopts it
			p := c.plan(sessionType, imported, order)
			if len(p.replaced()) > 0 {
				t.Errorf("%s: the plan replaces it for %v", consumer, p.replaced())
			}
			imported, diags = c.apply(sessionType, p)
			expect(t, diags)
		}
		if got := text(t, imported.state, "name"); got != name || text(t, imported.state, "name_prefix") != "web-" {
			t.Errorf("%s: the name was %q and is %q", consumer, name, got)
		}
		_, diags = c.destroy(sessionType, imported)
		expect(t, diags)
	}
}
