package provider_test

import (
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

const (
	sessionsType  = "shopper_gpu_sessions"
	costsType     = "shopper_costs"
	templatesType = "shopper_templates"
	serviceType   = "shopper_service"
	tunnelType    = "shopper_ssh_tunnel"
	extendType    = "shopper_extend_session"
	restartType   = "shopper_restart_vllm"
)

var blueLobster = values{"clouds": []any{"bluelobster"}}

// number is a number attribute; it fails the test for null.
func number(t *testing.T, v tftypes.Value, name string) float64 {
	t.Helper()
	var n big.Float
	if err := get(t, v, name).As(&n); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	f, _ := n.Float64()
	return f
}

func truth(t *testing.T, v tftypes.Value, name string) bool {
	t.Helper()
	var b bool
	if err := get(t, v, name).As(&b); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return b
}

func elements(t *testing.T, v tftypes.Value, name string) []tftypes.Value {
	t.Helper()
	var all []tftypes.Value
	if err := get(t, v, name).As(&all); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return all
}

// checksOf are a health data source's checks by name.
func checksOf(t *testing.T, health tftypes.Value) map[string]tftypes.Value {
	t.Helper()
	return members(t, get(t, health, "checks"))
}

func TestSessionsTellStrays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	made := c.create(sessionType, values{"name": "known", "requirements": blueLobster})
	known := text(t, made.state, "id")
	stray := w.rentByHand(t, a6000, "terraform/left/0123456789abcdef0123456789abcdef")
	other := w.rentByHand(t, vast, "somebody-else")

	all, diags := c.readData(sessionsType, values{"known_ids": []any{known}, "all_consumers": true})
	expect(t, diags)
	strays := map[string]bool{}
	for _, s := range elements(t, all, "sessions") {
		strays[text(t, s, "id")] = truth(t, s, "stray")
		if !truth(t, s, "ssh_available") || number(t, s, "hours_left") <= 0 || number(t, s, "cost") < 0 {
			t.Errorf("session is %s", s)
		}
	}
	if len(strays) != 3 || strays[known] || !strays[stray.ID] || strays[other.ID] {
		t.Errorf("strays are %v", strays)
	}
	ids := elements(t, all, "stray_ids")
	if len(ids) != 1 || !ids[0].Equal(tftypes.NewValue(tftypes.String, stray.ID)) {
		t.Errorf("stray_ids are %v", ids)
	}
	if got := number(t, all, "price_per_hour"); got < 1.25 || got > 1.27 { // 0.31 + 0.56 + 0.39
		t.Errorf("they cost %v an hour", got)
	}

	count := func(arguments values, want int) {
		t.Helper()
		got, said := c.readData(sessionsType, arguments)
		expect(t, said)
		if n := len(elements(t, got, "sessions")); n != want {
			t.Errorf("%v: %d sessions, want %d", arguments, n, want)
		}
		if !get(t, got, "stray_ids").IsNull() {
			t.Error("strays without known_ids")
		}
	}
	count(values{}, 2)
	count(values{"name_prefix": "le"}, 1)
	count(values{"clouds": []any{"vastai"}}, 0)
	count(values{"clouds": []any{"vastai"}, "all_consumers": true}, 1)
	count(values{"older_than": "5h"}, 0)
	count(values{"statuses": []any{"stopped"}}, 0)

	one, diags := c.readData(sessionType, values{"name": "left"})
	expect(t, diags)
	if text(t, one, "id") != stray.ID || number(t, one, "reserved_hours") != 2 {
		t.Errorf("by its name it is %s", one)
	}
	one, diags = c.readData(sessionType, values{"id": other.ID})
	expect(t, diags)
	if !get(t, one, "name").IsNull() || text(t, one, "mark") != "somebody-else" {
		t.Errorf("by its id it is %s", one)
	}
	// One that isn't found is no error, which would stand in the way of a destroy.
	for name, value := range map[string]string{"name": "nobody", "id": "6f1c1d0e-0000-4000-8000-000000000000"} {
		one, diags = c.readData(sessionType, values{name: value})
		expect(t, diags, "WARNING: Could not find the session", "(?i)not found")
		if text(t, one, name) != value || !get(t, one, "status").IsNull() {
			t.Errorf("by the %s of none it is %s", name, one)
		}
	}
	expect(t, c.validateData(sessionType, values{}), "Missing")
	expect(t, c.validateData(sessionType, values{"id": known, "name": "known"}), "Invalid Attribute Combination")

	again := w.rentByHand(t, vastDouble, "terraform/left/fedcba9876543210fedcba9876543210")
	one, diags = c.readData(sessionType, values{"name": "left"})
	expect(t, diags, "WARNING: Could not find the session", "several sessions", again.ID)
	if !get(t, one, "id").IsNull() {
		t.Errorf("one of two: %s", one)
	}
	w.releaseByHand(t)
	ended, diags := c.readData(sessionType, values{"id": known})
	expect(t, diags)
	if number(t, ended, "hours_left") != 0 || !get(t, ended, "ssh_available").IsNull() || text(t, ended, "status") != "stopped" {
		t.Errorf("after its end it is %s", ended)
	}
}

// If a part of the answer is missing, the message says which.
func TestSessionsSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, values{"max_retries": 0})
	w.rentByHand(t, a5000, "terraform/test/0123456789abcdef0123456789abcdef")
	if err := w.SetFaults(sandbox.Rule{Route: "GET /api/v1/costs", Fault: sandbox.Status, Value: 500}); err != nil {
		t.Fatal(err)
	}
	w.theMachine(t).Unresponsive(true) // for longer than the data source has time
	got, diags := c.readData(sessionsType, values{"timeouts": values{"read": "2s"}})
	w.theMachine(t).Unresponsive(false)
	said := list(diags)
	if failed(diags) || len(diags) != 2 || !strings.Contains(said, "Cost of session") || !strings.Contains(said, "SSH state of session") {
		t.Errorf("said: %s", said)
	}
	s := elements(t, got, "sessions")[0]
	if !get(t, s, "cost").IsNull() || !get(t, s, "ssh_available").IsNull() {
		t.Errorf("made up: %s", s)
	}
	// A sum that lacks a part is no sum.
	_, diags = c.readData(costsType, nil)
	expect(t, diags, "Could not read costs", "500")
	if err := w.SetFaults(); err != nil {
		t.Fatal(err)
	}
	w.releaseByHand(t)
}

// Whether SSH is up is checked from this computer, and not taken from the service.
func TestSessionsTellWhetherSSHIsUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	silent := w.rentByHand(t, a6000, "terraform/silent/"+token)
	w.theMachine(t).Unresponsive(true)
	deaf := w.rentByHand(t, a5000, "terraform/deaf/"+token)
	if err := w.Machine(deaf.ID).StopListening(); err != nil {
		t.Fatal(err)
	}
	fine := w.rentByHand(t, vast, "terraform/fine/"+token)
	read, diags := c.readData(sessionsType, nil)
	expect(t, diags)
	up := map[string]bool{}
	for _, s := range elements(t, read, "sessions") {
		up[text(t, s, "id")] = truth(t, s, "ssh_available")
	}
	if len(up) != 3 || up[silent.ID] || up[deaf.ID] || !up[fine.ID] {
		t.Errorf("SSH is up: %v; want %s alone", up, fine.ID)
	}
	w.Machine(silent.ID).Unresponsive(false)
	w.releaseByHand(t)
}

func TestCosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	first := w.rentByHand(t, a5000, "terraform/one/0123456789abcdef0123456789abcdef")
	w.rentByHand(t, a6000, "terraform/two/fedcba9876543210fedcba9876543210")
	w.rentByHand(t, vast, "somebody-else")
	w.Advance(time.Hour)
	read := func(arguments values) tftypes.Value {
		t.Helper()
		got, diags := c.readData(costsType, arguments)
		expect(t, diags)
		return got
	}
	testkit.Eventually(t, "the hour to be booked", func() bool {
		return number(t, read(values{"session_id": first.ID}), "total_cost") > 0
	})
	one := read(values{"session_id": first.ID})
	if got := number(t, one, "total_cost"); got != 0.31 || text(t, one, "currency") != "USD" || !get(t, one, "by_cloud").IsNull() {
		t.Errorf("one session: %s", one)
	}
	shown, diags := c.readData(sessionType, values{"id": first.ID})
	expect(t, diags)
	if got := number(t, shown, "cost"); got != 0.31 {
		t.Errorf("the session has a cost of %v so far", got)
	}
	consumer := read(values{"consumer_id": "terraform", "period": "monthly"})
	if got := number(t, consumer, "total_cost"); got < 0.8699 || got > 0.8701 || number(t, consumer, "session_count") != 2 {
		t.Errorf("the consumer's sessions: %s", consumer)
	}
	byType := members(t, get(t, consumer, "by_gpu_type"))
	if len(byType) != 2 || text(t, consumer, "period_start") == "" {
		t.Errorf("by GPU type: %s", consumer)
	}
	if own := read(nil); number(t, own, "total_cost") != number(t, consumer, "total_cost") {
		t.Errorf("this provider's own: %s", own)
	}
	all := read(values{"all_consumers": true})
	if got := number(t, all, "total_cost"); got < 1.2599 || got > 1.2601 {
		t.Errorf("everybody: %s", all)
	}
	nobody := read(values{"consumer_id": "nobody", "period": "daily"})
	if number(t, nobody, "total_cost") != 0 || len(members(t, get(t, nobody, "by_cloud"))) != 0 {
		t.Errorf("nobody: %s", nobody)
	}
	expect(t, c.validateData(costsType, values{"session_id": first.ID, "period": "daily"}), "Invalid Attribute Combination")
	expect(t, c.validateData(costsType, values{"all_consumers": true, "period": "daily"}), "Invalid Attribute Combination")
	expect(t, c.validateData(costsType, values{"consumer_id": "x", "period": "yearly"}), `"daily" "monthly"`)
	w.releaseByHand(t)
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *sandbox.Options) { o.Templates = sandbox.BuiltinTemplates() })
	c := w.configured(t, nil)
	count := func(arguments values) int {
		t.Helper()
		got, diags := c.readData(templatesType, arguments)
		expect(t, diags)
		return len(elements(t, got, "templates"))
	}
	all := count(nil)
	if all == 0 || count(values{"recommended": true})+count(values{"recommended": false}) != all {
		t.Errorf("of %d templates recommended and others are not all", all)
	}
	if n := count(values{"name_contains": "VLLM"}); n == 0 || n >= all {
		t.Errorf("%d of %d have vllm in their name", n, all)
	}
	if n := count(values{"offer_id": vast}); n == 0 {
		t.Error("none fits an RTX 4090")
	}
	if n := count(values{"offer_id": a5000}); n != 0 {
		t.Errorf("%d fit another cloud's offer", n)
	}
	without := newWorld(t).configured(t, nil)
	_, diags := without.readData(templatesType, nil)
	expect(t, diags, "Could not list templates")
}

func TestService(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, values{"max_retries": 0})
	got, diags := c.readData(serviceType, nil)
	expect(t, diags)
	if !truth(t, got, "reachable") || !truth(t, got, "healthy") || !truth(t, got, "ready") || !get(t, got, "problem").IsNull() {
		t.Errorf("well: %s", got)
	}
	if err := w.SetFaults(sandbox.Rule{Route: "machine create", Fault: sandbox.OffersGone}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client(t).CreateSession(t.Context(), shopper.CreateSession{
		ConsumerID: "terraform/test/" + token, OfferID: vast, WorkloadType: shopper.WorkloadLLMVLLM, ReservationHours: 1,
	}); err == nil {
		t.Fatal("it could be rented")
	}
	got, diags = c.readData(serviceType, nil)
	expect(t, diags)
	failing := elements(t, got, "failing_offers")
	if len(failing) != 1 || text(t, failing[0], "offer_id") != vast || number(t, failing[0], "recent_failures") != 1 ||
		truth(t, failing[0], "suppressed") || number(t, failing[0], "confidence_multiplier") != 0.7 ||
		text(t, failing[0], "last_failure") == "" || text(t, failing[0], "last_failure_type") != "stale_inventory" {
		t.Errorf("failing: %v", failing)
	}
	if types := elements(t, got, "failing_gpu_types"); len(types) != 1 || text(t, types[0], "cloud") != "vastai" || text(t, types[0], "gpu_type") != "RTX 4090" {
		t.Errorf("failing: %v", types)
	}
	w.SetNotReady(time.Hour)
	got, diags = c.readData(serviceType, nil)
	expect(t, diags)
	if truth(t, got, "ready") || text(t, got, "message") != "The shopper is starting up." {
		t.Errorf("starting: %s", got)
	}
	if err := w.SetFaults(sandbox.Rule{Route: "GET /api/v1/offer-health", Fault: sandbox.Status, Value: 500}); err != nil {
		t.Fatal(err)
	}
	got, diags = c.readData(serviceType, nil)
	expect(t, diags)
	if !get(t, got, "failing_offers").IsNull() || !strings.Contains(text(t, got, "message"), "Some values are unknown: ") {
		t.Errorf("made up: %s", got)
	}
	nobody := newCore(t)
	expect(t, nobody.configure(values{"url": "http://127.0.0.1:1", "max_retries": 0, "journal_directory": ""}))
	got, diags = nobody.readData(serviceType, nil)
	expect(t, diags)
	if truth(t, got, "reachable") || text(t, got, "problem") != "unreachable" {
		t.Errorf("unreachable: %s", got)
	}
}

func TestExtendAction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	session := w.rentByHand(t, a5000, "terraform/test/0123456789abcdef0123456789abcdef")
	hours := func() int {
		t.Helper()
		s, err := w.client(t).Session(t.Context(), session.ID)
		if err != nil {
			t.Fatal(err)
		}
		return s.ReservationHours
	}
	progress, diags := c.invoke(extendType, values{"session_id": session.ID, "reservation_hours": 4})
	expect(t, diags)
	if said := strings.Join(progress, "; "); hours() != 4 || !strings.Contains(said, "from 2 to 4 hours, at $0.31 an hour") ||
		!strings.Contains(said, "now reserved for 4 hours") {
		t.Errorf("%d hours: %s", hours(), said)
	}
	// M10: a reservation that is long enough is not extended.
	progress, diags = c.invoke(extendType, values{"session_id": session.ID, "reservation_hours": 3})
	expect(t, diags)
	if said := strings.Join(progress, "; "); hours() != 4 || !strings.Contains(said, "already") {
		t.Errorf("%d hours: %s", hours(), said)
	}
	_, diags = c.invoke(extendType, values{"session_id": session.ID, "additional_hours": 1})
	expect(t, diags)
	if hours() != 5 {
		t.Errorf("%d hours, want 5", hours())
	}
	// An answer that is lost adds nothing twice.
	if err := w.SetFaults(sandbox.Rule{Route: "POST /api/v1/sessions/{id}/extend", Fault: sandbox.LoseAnswerAfter}); err != nil {
		t.Fatal(err)
	}
	_, diags = c.invoke(extendType, values{"session_id": session.ID, "additional_hours": 1})
	expect(t, diags)
	if hours() != 6 {
		t.Errorf("%d hours, want 6", hours())
	}
	if err := w.SetFaults(); err != nil {
		t.Fatal(err)
	}
	// Whether more is possible is the shopper's decision.
	_, diags = c.invoke(extendType, values{"session_id": session.ID, "additional_hours": 12})
	expect(t, diags, "ERROR: Reservation was not extended", "exceed 12-hour hard max")
	_, diags = c.invoke(extendType, values{"session_id": session.ID})
	expect(t, diags, "Missing")
	_, diags = c.invoke(extendType, values{"session_id": session.ID, "additional_hours": 13})
	expect(t, diags, "between 1 and 12")
	w.releaseByHand(t)
	_, diags = c.invoke(extendType, values{"session_id": session.ID, "reservation_hours": 8})
	expect(t, diags, "Could not extend session", "can't be extended")
}

// A list's result can be turned into configuration and imported, and then nothing changes.
func TestListSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	ours := w.rentByHand(t, a5000, "terraform/lister/0123456789abcdef0123456789abcdef")
	other := w.rentByHand(t, vast, "somebody-else")

	all, diags := c.list(sessionType, nil, 0)
	expect(t, diags)
	if len(all) != 1 || text(t, all[0].resource, "id") != ours.ID ||
		!strings.HasPrefix(all[0].name, "lister (1 × RTX A5000 at bluelobster, $0.31 an hour, until ") {
		t.Fatalf("listed: %v", all)
	}
	identity := c.decode(tftypes.Object{AttributeTypes: map[string]tftypes.Type{"id": tftypes.String}}, all[0].identity.IdentityData)
	if text(t, identity, "id") != ours.ID {
		t.Errorf("its identity is %s", identity)
	}
	config := c.generate(sessionType, all[0].resource)
	arguments := values{}
	for name, v := range members(t, config) {
		arguments[name] = v
	}
	expect(t, c.validate(sessionType, arguments))
	imported, diags := c.importID(sessionType, ours.ID)
	expect(t, diags, "Private key is unknown")
	p := c.plan(sessionType, imported, arguments)
	expect(t, p.Diagnostics)
	if !p.value.Equal(imported.state) {
		t.Errorf("the import's plan changes\n%s\nto\n%s", imported.state, p.value)
	}

	all, diags = c.list(sessionType, values{"all_consumers": true}, 0)
	expect(t, diags)
	var names []string
	for _, l := range all {
		names = append(names, text(t, l.resource, "name"))
	}
	if !slices.Contains(names, "lister") || !slices.Contains(names, other.ID) || len(names) != 2 {
		t.Errorf("listed: %v", names)
	}
	for _, test := range []struct {
		arguments values
		limit     int64
		want      int
	}{
		{values{"all_consumers": true}, 1, 1},
		{values{"name_prefix": "nobody"}, 0, 0},
		{values{"clouds": []any{"vastai"}, "all_consumers": true}, 0, 1},
	} {
		if all, diags = c.list(sessionType, test.arguments, test.limit); len(diags) > 0 || len(all) != test.want {
			t.Errorf("%v: %d results, want %d: %s", test.arguments, len(all), test.want, list(diags))
		}
	}
	w.releaseByHand(t)
	broken := newCore(t)
	expect(t, broken.configure(values{"url": "http://127.0.0.1:1", "max_retries": 0, "journal_directory": ""}))
	_, diags = broken.list(sessionType, nil, 0)
	expect(t, diags, "Shopper can't be reached")
}

// modelsThrough reads /v1/models at an address.
func modelsThrough(t *testing.T, url, key string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/models", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return fmt.Sprint(resp.StatusCode, " ", string(body)), err
}
