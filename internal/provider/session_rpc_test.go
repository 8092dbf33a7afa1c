package provider_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// A session that something else rented has no name: it takes the configuration's, and the machine stays.
func TestSessionImportWithoutMark(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	session := w.rentByHand(t, a5000, "somebody-else")
	imported, diags := c.importID(sessionType, session.ID)
	expect(t, diags, "Private key is unknown")
	p := c.plan(sessionType, imported, values{
		"name": "adopted", "reservation_hours": 2, "disk_gb": 100, "requirements": values{"min_vram_gb": 24},
	})
	if len(p.replaced()) > 0 {
		t.Errorf("the plan replaces it for %v", p.replaced())
	}
	updated, diags := c.apply(sessionType, p)
	expect(t, diags)
	if name := text(t, updated.state, "name"); name != "adopted" {
		t.Errorf("its name is %q", name)
	}
	p = c.plan(sessionType, updated, values{"name": "another", "reservation_hours": 2, "requirements": values{}})
	if len(p.replaced()) == 0 {
		t.Error("from then on it is as any other: a new name must replace it")
	}
	left, diags := c.destroy(sessionType, updated)
	expect(t, diags)
	if !left.state.IsNull() {
		t.Error("it is still in state")
	}
}

// A configuration without reservation_hours asks for nothing: an import of a longer
// reservation warns of no shorter one.
func TestSessionImportWithoutHours(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	session := w.rentByHand(t, a5000, "somebody-else")
	_, diags := c.invoke(extendType, values{"session_id": session.ID, "reservation_hours": 5})
	expect(t, diags)
	imported, diags := c.importID(sessionType, session.ID)
	expect(t, diags, "Private key is unknown")
	for hours, want := range map[any][]string{nil: nil, 1: {"Reservation can't be shortened"}} {
		p := c.plan(sessionType, imported, values{"name": "adopted", "reservation_hours": hours, "requirements": values{"min_vram_gb": 24}})
		expect(t, p.Diagnostics, want...)
	}
	updated := c.change(sessionType, imported, values{"name": "adopted", "requirements": values{"min_vram_gb": 24}})
	_, diags = c.destroy(sessionType, updated)
	expect(t, diags)
}

// reservation_hours is a minimum: any longer reservation meets it, whoever extended it, and a shorter one is extended in
// place.
func TestSessionHoursAreAFloor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	order := func(hours any) values { return values{"name": "test", "offer_id": a5000, "reservation_hours": hours} }
	made := c.create(sessionType, order(nil))
	defer tidy(t, c, made)
	reserved := func(want float64) {
		t.Helper()
		if got := number(t, made.state, "reserved_hours"); got != want {
			t.Errorf("reserved for %v hours, want %v", got, want)
		}
	}
	// change applies hours, and checks whether the plan extends the reservation.
	change := func(hours any, extends bool, said ...string) {
		t.Helper()
		p := c.plan(sessionType, made, order(hours))
		expect(t, p.Diagnostics, said...)
		for _, name := range []string{"expires_at", "reserved_hours"} {
			if get(t, p.value, name).IsKnown() == extends {
				t.Errorf("%v hours: %s was planned as %s", hours, name, get(t, p.value, name))
			}
		}
		if len(p.replaced()) > 0 {
			t.Errorf("%v hours: the plan replaces it for %v", hours, p.replaced())
		}
		var diags []*tfprotov6.Diagnostic
		made, diags = c.apply(sessionType, p)
		expect(t, diags)
	}
	reserved(1)
	change(2, true)
	reserved(2)
	_, diags := c.invoke(extendType, values{"session_id": text(t, made.state, "id"), "reservation_hours": 5})
	expect(t, diags)
	made, diags = c.read(sessionType, made)
	expect(t, diags)
	reserved(5)
	if p := c.plan(sessionType, made, order(2)); len(p.Diagnostics) > 0 || !p.value.Equal(made.state) {
		t.Errorf("an extension makes a difference: %s", list(p.Diagnostics))
	}
	change(4, false)
	change(3, false, "WARNING: Reservation can't be shortened: test", "reserved for 5 hours and costs money until",
		text(t, made.state, "expires_at"))
	change(nil, false, "WARNING: Reservation can't be shortened: test")
	reserved(5)
	change(1, false)
	change(6, true)
	reserved(6)
	if p := c.plan(sessionType, made, order(unknown)); get(t, p.value, "expires_at").IsKnown() || len(p.replaced()) > 0 {
		t.Errorf("hours that are not known yet: %s", p.value)
	}
}

// A refresh without known provider settings keeps state: a destroy refreshes like that, and knows the settings when it
// releases.
func TestSessionReadWithSettingsThatAreNotKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	made := w.configured(t, nil).create(sessionType, values{"name": "test", "offer_id": a5000})
	blind := newCore(t)
	expect(t, blind.configure(values{"url": unknown, "journal_directory": w.journal}))
	kept, diags := blind.read(sessionType, made)
	expect(t, diags, "WARNING: Provider settings are unknown", "provider's url")
	if !kept.state.Equal(made.state) {
		t.Error("the refresh changed the state")
	}
	tidy(t, w.configured(t, nil), kept)
}

// What has changed since the refresh must not differ from the plan.
func TestSessionUpdateAfterItMoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	needs := values{"clouds": []any{"bluelobster"}}
	made := c.create(sessionType, values{"name": "test", "requirements": needs})
	p := c.plan(sessionType, made, values{"name": "test", "requirements": needs, "reservation_hours": 3})
	if err := w.Strike(text(t, made.state, "id"), sandbox.ChangeAddress, nil); err != nil {
		t.Fatal(err)
	}
	updated, diags := c.apply(sessionType, p)
	expect(t, diags)
	read, diags := c.read(sessionType, updated)
	expect(t, diags)
	if get(t, read.state, "ssh.port").Equal(get(t, updated.state, "ssh.port")) {
		t.Error("the refresh doesn't tell the new port")
	}
	// A tainted resource is destroyed without private state.
	left, diags := c.destroy(sessionType, object{state: read.state})
	expect(t, diags)
	if !left.state.IsNull() {
		t.Error("it is still in state")
	}
}

// A refresh says why a session has ended, and removes it from state only on proof.
func TestSessionLeavesStateOnProofOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, values{"max_retries": 0})
	made := c.create(sessionType, values{"name": "test", "offer_id": a5000})
	const reads = "GET /api/v1/sessions/{id}"
	for _, fault := range []sandbox.Rule{
		{Route: reads, Nth: 1, Fault: sandbox.Status, Value: 503},
		{Route: reads, Nth: 1, Fault: sandbox.HTML, Value: map[string]any{"status": 404}},
		{Route: reads, Fault: sandbox.LoseAnswerAfter}, // once is repeated by net/http: the connection had served before
		{Route: reads, Nth: 1, Fault: sandbox.InvalidJSON},
	} {
		if err := w.SetFaults(fault); err != nil {
			t.Fatal(err)
		}
		kept, diags := c.read(sessionType, made)
		expect(t, diags, "WARNING: ")
		if !kept.state.Equal(made.state) {
			t.Errorf("%s: the refresh changed the state", fault.Fault)
		}
	}
	if err := w.SetFaults(); err != nil {
		t.Fatal(err)
	}
	kept, diags := c.read(sessionType, made)
	expect(t, diags)
	if !kept.state.Equal(made.state) {
		t.Error("the state is another after a refresh that found nothing new")
	}
	w.releaseByHand(t)
	gone, diags := c.read(sessionType, made)
	expect(t, diags, "WARNING: Session has ended", "released outside this configuration")
	if !gone.state.IsNull() {
		t.Error("a session that has ended is still in state")
	}
}

// A client without resource identities sends none and needs none.
func TestSessionWithoutIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	made := c.create(sessionType, values{"name": "test", "offer_id": a5000})
	w.releaseByHand(t)
	gone, diags := c.read(sessionType, made) // sends no identity
	if failed(diags) || !gone.state.IsNull() {
		t.Errorf("reading without an identity: %s", list(diags))
	}
	_, diags = c.destroy(sessionType, made) // of what is gone already
	expect(t, diags)
}

// A machine that can't be released is an error that names it and what
// it costs, and stays in state.
func TestSessionNotReleased(t *testing.T) {
	t.Parallel()
	const deletes = "DELETE /api/v1/sessions/{id}"
	for _, fault := range []sandbox.Rule{
		{Route: deletes, Fault: sandbox.Status, Value: 500},
		{Route: deletes, Fault: sandbox.Delay, Value: "10m"}, // no answer, and no time to read the session
	} {
		t.Run(string(fault.Fault), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.configured(t, nil)
			made := c.create(sessionType, values{"name": "test", "offer_id": a5000, "timeouts": values{"delete": "4s"}})
			id := text(t, made.state, "id")
			if err := w.SetFaults(fault); err != nil {
				t.Fatal(err)
			}
			kept, diags := c.destroy(sessionType, made)
			expect(t, diags, "ERROR: Session was not released", id, `its last status was "running"`, `\$0.31 an hour until`, "Run destroy again")
			if kept.state.IsNull() {
				t.Fatal("it has left state")
			}
			if err := w.SetFaults(); err != nil {
				t.Fatal(err)
			}
			left, diags := c.destroy(sessionType, kept)
			expect(t, diags)
			if !left.state.IsNull() {
				t.Error("it is still in state")
			}
		})
	}
}

// Requirements that are unknown until apply are checked as far as they are known, and the plan says what the apply can't do
// about the rest.
func TestSessionUnknownRequirements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	made := c.create(sessionType, values{"name": "test", "requirements": values{"clouds": []any{"bluelobster"}}})
	for name, needs := range map[string]any{
		"one":     values{"clouds": []any{"bluelobster"}, "min_vram_gb": unknown},
		"element": values{"clouds": []any{"bluelobster", unknown}},
		"all":     unknown,
	} {
		p := c.plan(sessionType, made, values{"name": "test", "requirements": needs})
		expect(t, p.Diagnostics, "WARNING: Requirements are unknown until apply: test", "kept if it meets them", "-target")
		if len(p.replaced()) > 0 {
			t.Errorf("%s: the plan replaces it for %v", name, p.replaced())
		}
	}
	known := values{"clouds": []any{"bluelobster"}, "min_vram_gb": 16}
	expect(t, c.plan(sessionType, made, values{"name": "test", "requirements": known}).Diagnostics)
	p := c.plan(sessionType, made, values{"name": "test", "requirements": values{"max_price_per_hour": 0.01, "min_vram_gb": unknown}})
	if len(p.replaced()) == 0 {
		t.Error("a machine that doesn't meet what is known is kept")
	}
	_, diags := c.destroy(sessionType, made)
	expect(t, diags)
}

// A plan that replaces a machine by what nobody offers says so, while the machine still runs. It says nothing where that can't be
// found out.
func TestSessionReplacedByNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	made := c.create(sessionType, values{"name": "test", "requirements": values{"clouds": []any{"bluelobster"}}})
	const nothing = "WARNING: No offer fits at the moment: test"
	unknownType := values{"requirements": values{"gpu_types": []any{"RTX4090"}}}
	check := func(change values, want ...string) {
		t.Helper()
		p := c.plan(sessionType, made, with(values{"name": "test"}, change))
		if said := list(p.Diagnostics); len(p.replaced()) == 0 || strings.Contains(said, nothing) != slices.Contains(want, nothing) {
			t.Errorf("%v replaces it for %v: %s", change, p.replaced(), said)
		}
		expect(t, p.Diagnostics, want...)
	}
	check(unknownType, nothing, "GPU types on offer: RTX 4090, RTX A6000", "is released")
	check(values{"offer_id": "vastai-0"}, nothing, "no offer vastai-0")
	check(values{"requirements": values{"gpu_types": []any{"RTX 4090"}}}, "WARNING: Machine will be replaced")
	check(values{"offer_id": vast})
	check(values{"name": "other", "requirements": values{"clouds": []any{"bluelobster"}}})
	if err := w.SetFaults(sandbox.Rule{Route: "GET /api/v1/inventory", Nth: 1, Fault: sandbox.Status, Value: 403}); err != nil {
		t.Fatal(err)
	}
	check(unknownType, "WARNING: Machine will be replaced")
	_, diags := c.destroy(sessionType, made)
	expect(t, diags)
}

// A session that was rented with auto_retry ends, and another machine bills in its place: it stays in state, a warning names
// it, and destroy releases it.
func TestSessionReplacedByTheShopper(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	if err := w.SetFaults(sandbox.Rule{Route: "machine boot", Nth: 1, Fault: sandbox.NeverBoots}); err != nil {
		t.Fatal(err)
	}
	body := `{"consumer_id": "somebody", "offer_id": "` + a5000 + `", "workload_type": "llm_vllm", "reservation_hours": 1,
		"auto_retry": true, "retry_scope": "any", "ssh_timeout_minutes": 2}`
	resp, err := http.Post(w.URL()+"/api/v1/sessions", "application/json", strings.NewReader(body))
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("renting with auto_retry: %v %v", resp, err)
	}
	_ = resp.Body.Close()
	parent := w.Ledger().Rentals[0].SessionID
	imported, diags := c.importID(sessionType, parent)
	expect(t, diags, "Private key is unknown")
	var s shopper.Session
	client := w.client(t)
	testkit.Eventually(t, "the session to be stopped and replaced", func() bool {
		s, err = client.Session(t.Context(), parent)
		return err == nil && s.Status == shopper.Stopped && s.RetryChildID != ""
	})
	read, diags := c.read(sessionType, imported)
	expect(t, diags, "WARNING: Session has been replaced", parent, s.RetryChildID, "costs money", "-replace")
	if read.state.IsNull() {
		t.Fatal("it left state, and its replacement bills")
	}
	_, diags = c.destroy(sessionType, read)
	expect(t, diags)
	testkit.Eventually(t, "the replacement to be released", func() bool { return w.nothingBills(nil) == nil })
}

// A service that gives up on a release reports the session as stopped, and that somebody should look: so does the destroy.
func TestSessionThatMayNotBeGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	made := c.create(sessionType, values{"name": "test", "offer_id": a5000})
	if err := w.SetFaults(sandbox.Rule{Route: "machine destroy", Nth: 0, Fault: sandbox.DestroyFails}); err != nil {
		t.Fatal(err)
	}
	left, diags := c.destroy(sessionType, made)
	expect(t, diags, "WARNING: Machine was released, with a warning: test", text(t, made.state, "id"), "manual cleanup", `\$0.31 an hour`, "console")
	if !left.state.IsNull() {
		t.Error("it reads stopped, and is in state")
	}
	if err := w.Strike(text(t, made.state, "id"), sandbox.Vanish, nil); err != nil { // somebody looks, and ends it
		t.Fatal(err)
	}
}
