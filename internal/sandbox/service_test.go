package sandbox

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func TestAnAbandonedDeleteLeavesTheMachineBilling(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	id := c.run("c", "vastai-100")
	ctx, hangUp := context.WithCancel(t.Context())
	answers := c.send(ctx, http.MethodDelete, "/api/v1/sessions/"+id, nil)
	testkit.Eventually(t, "stopping", func() bool { return c.status(id) == statusStopping })
	c.s.Advance(time.Second)
	hangUp()
	<-answers
	testkit.Eventually(t, "the service to give up", c.noLocks)

	// The next DELETE says 200 at once and does nothing: the clock doesn't move.
	r := <-c.send(t.Context(), http.MethodDelete, "/api/v1/sessions/"+id, nil)
	if r.status != http.StatusOK || r.str("message") != "session destroyed" {
		t.Errorf("second DELETE: %d %s", r.status, r.text)
	}
	c.wantBilling(id)
	if got := c.status(id); got != statusStopping {
		t.Fatalf("status %s", got)
	}
	// Ten minutes after it was created the periodic check takes it up.
	c.until(id, statusStopped)
	if age := c.s.clock.Elapsed(); age < stuckAfter {
		t.Errorf("cleaned after %v", age)
	}
	c.wantBilling()
	if by := c.s.Ledger().Rentals[0].ReleasedBy; by != "clean-up of a failed session" {
		t.Errorf("released by %q", by)
	}
}

func (c client) noLocks() bool {
	c.s.service.mu.Lock()
	defer c.s.service.mu.Unlock()
	return len(c.s.locks) == 0
}

// What a check writes of a session doesn't undo the DELETE that has ended since the check read it.
func TestACheckDoesNotUndoADelete(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	id := c.run("c", "vastai-100")
	row, err := c.s.sessions.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	row.Status = statusStopped
	c.s.sessions.Update(row)
	row.Status = statusFailed
	c.s.sessions.UpdateFrom(statusStopping, row)
	if got := c.status(id); got != statusStopped {
		t.Errorf("from another status it became %s", got)
	}
	c.s.sessions.UpdateFrom(statusStopped, row)
	if got := c.status(id); got != statusFailed {
		t.Errorf("it is still %s", got)
	}
	c.until(id, statusStopped) // the machine is released
}

func TestAStoppedSessionComesBackToLife(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventCreate, Fault: Delay, Value: "1m"}}})
	post := c.send(t.Context(), http.MethodPost, "/api/v1/sessions", order("c", "vastai-100"))
	var id string
	testkit.Eventually(t, "the row", func() bool {
		rows := c.s.sessions.List(func(row session) bool { return row.Status == statusProvisioning })
		if len(rows) == 1 {
			id = rows[0].ID
		}
		return id != ""
	})
	r := <-c.send(t.Context(), http.MethodDelete, "/api/v1/sessions/"+id, nil) // at once: the clock stands still
	if r.status != http.StatusOK || c.status(id) != statusStopped {
		t.Fatalf("DELETE: %d, status %s", r.status, c.status(id))
	}
	c.wantBilling()
	if made := c.answer(post); made.status != http.StatusCreated || made.str("session", "status") != statusProvisioning {
		t.Fatalf("POST: %d %s", made.status, made.text)
	}
	c.wantBilling(id)
	c.until(id, statusRunning)
	if r := c.do(http.MethodDelete, "/api/v1/sessions/"+id, nil); r.status != http.StatusOK {
		t.Fatalf("DELETE: %d %s", r.status, r.text)
	}
	c.wantBilling()
}

func TestAClientThatHangsUpOnPostLeavesARow(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventCreate, Fault: Delay, Value: "1m"}}})
	ctx, hangUp := context.WithCancel(t.Context())
	post := c.send(ctx, http.MethodPost, "/api/v1/sessions", order("c", "vastai-100"))
	testkit.Eventually(t, "the row", func() bool { return len(c.s.sessions.List(func(session) bool { return true })) == 1 })
	hangUp()
	<-post
	c.s.requests.all.Wait()
	id := c.s.sessions.List(func(session) bool { return true })[0].ID
	c.advance(9 * time.Minute)
	if got := c.status(id); got != statusProvisioning {
		t.Errorf("status %s, want provisioning for ten minutes", got)
	}
	c.until(id, statusFailed)
	c.advance(2 * time.Minute)
	if got := c.get("/api/v1/sessions/" + id); got.str("status") != statusFailed || !strings.Contains(got.str("error"), "stuck in provisioning") {
		t.Errorf("after the check: %s", got.text)
	}
	c.wantBilling()
}

func TestTheSecondDeleteWaitsForTheFirst(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	id := c.run("c", "vastai-100")
	first := c.send(t.Context(), http.MethodDelete, "/api/v1/sessions/"+id, nil)
	testkit.Eventually(t, "stopping", func() bool { return c.status(id) == statusStopping })
	second := c.send(t.Context(), http.MethodDelete, "/api/v1/sessions/"+id, nil)
	testkit.Eventually(t, "the second to queue", func() bool {
		c.s.service.mu.Lock()
		defer c.s.service.mu.Unlock()
		return c.s.locks[id] != nil && c.s.locks[id].users == 2
	})
	c.s.Advance(3 * time.Second)
	select {
	case r := <-second:
		t.Fatalf("the second was answered before the first: %s", r.text)
	default:
	}
	if a, b := c.answer(first), c.answer(second); a.status != http.StatusOK || b.status != http.StatusOK {
		t.Errorf("%d, %d", a.status, b.status)
	}
}

func TestReservationsEnd(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	short, long := c.run("short", "vastai-100"), c.run("long", "vastai-101")
	for range 6 { // by an hour less than the limit each time
		c.do(http.MethodPost, "/api/v1/sessions/"+long+"/extend", map[string]any{"additional_hours": 11})
	}
	c.s.Advance(50 * time.Minute)
	c.advance(30 * time.Second)
	c.wantBilling(short, long)
	c.s.Advance(11 * time.Minute)
	c.until(short, statusStopped)
	c.wantBilling(long)
	if row, _ := c.s.sessions.Get(long); row.Hours < 24 {
		t.Fatalf("the hours add up to %d only", row.Hours)
	}
	r := c.do(http.MethodPost, "/api/v1/sessions/"+long+"/extend", map[string]any{"additional_hours": 11})
	if r.status != http.StatusBadRequest || !strings.Contains(r.str("error"), "has been running for 1.0 hours, requested 11 more hours") {
		t.Errorf("extending past twelve hours: %d %s", r.status, r.text)
	}
	c.s.Advance(11 * time.Hour)
	c.until(long, statusStopped)
	c.wantBilling()
	by := []string{}
	for _, rental := range c.s.Ledger().Rentals {
		by = append(by, rental.ReleasedBy)
	}
	if fmt.Sprint(by) != "[reservation expired hard max duration exceeded]" {
		t.Errorf("released by %q", by)
	}
}

func TestTheHardMaximumIsASetting(t *testing.T) {
	t.Parallel()
	extend := func(c client, id string, hours int) reading {
		return c.do(http.MethodPost, "/api/v1/sessions/"+id+"/extend", map[string]any{"additional_hours": hours})
	}
	t.Run("lower", func(t *testing.T) {
		t.Parallel()
		c := frozen(t, Options{HardMaxHours: 2})
		long := order("c", "vastai-100")
		long["reservation_hours"] = 12
		r := c.do(http.MethodPost, "/api/v1/sessions", long)
		if r.status != http.StatusCreated {
			t.Fatalf("%d %s", r.status, r.text)
		}
		id := r.str("session", "id")
		c.until(id, statusRunning)
		if r := extend(c, id, 2); r.status != http.StatusBadRequest || !strings.Contains(r.str("error"), "exceed 2-hour hard max") {
			t.Errorf("%d %s", r.status, r.text)
		}
		c.s.Advance(119 * time.Minute)
		c.wantBilling(id)
		c.s.Advance(2 * time.Minute)
		c.until(id, statusStopped)
		c.wantBilling()
	})
	t.Run("higher", func(t *testing.T) {
		t.Parallel()
		c := frozen(t, Options{HardMaxHours: 48})
		id := c.run("c", "vastai-100")
		for range 3 {
			if r := extend(c, id, 12); r.status != http.StatusOK {
				t.Fatalf("%d %s", r.status, r.text)
			}
		}
		if r := extend(c, id, 13); r.status != http.StatusBadRequest {
			t.Errorf("more than twelve hours in one request: %d %s", r.status, r.text)
		}
		c.s.Advance(36 * time.Hour)
		c.advance(checkInterval)
		c.wantBilling(id)
		if r := extend(c, id, 12); r.status != http.StatusBadRequest || !strings.Contains(r.str("error"), "exceed 48-hour hard max") {
			t.Errorf("%d %s", r.status, r.text)
		}
		c.s.Advance(time.Hour)
		c.until(id, statusStopped)
	})
}

func TestExtendIsRefusedWhileStopping(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	id := c.run("c", "vastai-100")
	deletion := c.send(t.Context(), http.MethodDelete, "/api/v1/sessions/"+id, nil)
	testkit.Eventually(t, "stopping", func() bool { return c.status(id) == statusStopping })
	r := <-c.send(t.Context(), http.MethodPost, "/api/v1/sessions/"+id+"/extend", map[string]any{"additional_hours": 1})
	if r.status != http.StatusConflict || !strings.HasSuffix(r.str("error"), "is in terminal state: stopping") {
		t.Errorf("%d %s", r.status, r.text)
	}
	c.answer(deletion)
}

func TestOneCallersFiltersEmptyAnothersAnswer(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	total := func() any { return c.get("/api/v1/inventory").body["total"] }
	if r := c.get("/api/v1/inventory?max_price=0.3"); r.body["total"] != 0.0 {
		t.Fatalf("%s", r.text)
	}
	// An empty answer is not refreshed behind, so it holds for three quarters of a minute.
	if got := total(); got != 0.0 {
		t.Errorf("unfiltered listing after a filtered one: %v", got)
	}
	if r := c.get("/api/v1/inventory/vastai-100"); r.status != http.StatusNotFound {
		t.Errorf("a known offer: %d %s", r.status, r.text)
	}
	if r := c.do(http.MethodPost, "/api/v1/sessions", order("c", "vastai-100")); r.status != http.StatusNotFound {
		t.Errorf("renting a known offer: %d %s", r.status, r.text)
	}
	c.s.Advance(cacheLife)
	if got := total(); got != 12.0 {
		t.Errorf("a minute later: %v", got)
	}
	// GPU type and location have keys of their own and do no harm.
	c.get("/api/v1/inventory?gpu_type=H100%20SXM5")
	if got := total(); got != 12.0 {
		t.Errorf("after a listing by type: %v", got)
	}
	// An answer that isn't empty is given once more, and refreshed with the caller's filter.
	c.s.Advance(50 * time.Second)
	if r := c.get("/api/v1/inventory?min_vram=80"); r.body["total"] != 6.0 {
		t.Errorf("filtered: %s", r.text)
	}
	if got := total(); got != 6.0 {
		t.Errorf("after that: %v", got)
	}
}

func TestARentedOfferIsGoneFromTheMarket(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	id := c.run("a", "vastai-100")
	r := c.do(http.MethodPost, "/api/v1/sessions", order("b", "vastai-100")) // still in the service's cache
	if r.status != http.StatusServiceUnavailable || r.str("error_type") != "stale_inventory" {
		t.Errorf("renting it again: %d %s", r.status, r.text)
	}
	c.s.Advance(cacheLife)
	if r := c.get("/api/v1/inventory/vastai-100"); r.status != http.StatusNotFound {
		t.Errorf("listed a minute later: %d", r.status)
	}
	c.do(http.MethodDelete, "/api/v1/sessions/"+id, nil)
	c.s.Advance(cacheLife)
	if r := c.get("/api/v1/inventory/vastai-100"); r.status != http.StatusOK {
		t.Errorf("after its release: %d %s", r.status, r.text)
	}
}

func TestThreeFailuresHideAnOffer(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventCreate, Offer: "vastai-100", Fault: ProviderError, Value: "no capacity"}}})
	for i := range 3 {
		r := c.do(http.MethodPost, "/api/v1/sessions", order(fmt.Sprint("c", i), "vastai-100"))
		if r.status != http.StatusInternalServerError || r.str("error_type") != "provision_failed" || r.str("error") != "failed to create instance: no capacity" {
			t.Fatalf("attempt %d: %d %s", i, r.status, r.text)
		}
		c.s.Advance(cacheLife) // it was evicted from the cache
	}
	if r := c.get("/api/v1/inventory"); r.body["total"] != 11.0 {
		t.Errorf("listed after three failures: %s", r.text)
	}
	health := c.get("/api/v1/offer-health")
	for name, want := range map[string]any{"is_suppressed": true, "recent_failures": 3.0, "confidence_multiplier": 0.0} {
		if got := health.at("offers", 0, name); got != want || health.at("offers", 0, "suppressed_until") == nil {
			t.Errorf("%s %v: %s", name, got, health.text)
		}
	}
	c.s.Advance(suppressFor)
	if r := c.get("/api/v1/inventory"); r.body["total"] != 12.0 {
		t.Errorf("half an hour later: %v", r.body["total"])
	}
}

func TestStartUpSweep(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{NotReadyFor: 30 * time.Second})
	if h, r := c.get("/health"), c.get("/ready"); h.status != 503 || r.status != 503 || r.body["ready"] != false {
		t.Errorf("at the start: %d %d", h.status, r.status)
	}
	if r := c.get("/api/v1/inventory"); r.status != http.StatusOK {
		t.Errorf("other routes: %d", r.status)
	}
	c.s.Advance(30 * time.Second)
	if r := c.get("/ready"); r.status != http.StatusOK {
		t.Errorf("later: %d", r.status)
	}
}

func TestEntrypointSessionsNeverRun(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	body := order("c", "vastai-100")
	body["launch_mode"] = "entrypoint"
	id := c.do(http.MethodPost, "/api/v1/sessions", body).str("session", "id")
	c.advance(9 * time.Minute)
	if got := c.status(id); got != statusProvisioning {
		t.Errorf("status %s", got)
	}
	c.until(id, statusStopped)
	c.wantBilling()
}

func TestAVanishedMachineIsNoticedByTheReconciler(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	id := c.run("c", "vastai-100")
	if err := c.s.Strike(id, Vanish, nil); err != nil {
		t.Fatal(err)
	}
	c.wantBilling()
	if got := c.status(id); got != statusRunning {
		t.Errorf("status %s: nobody has noticed yet", got)
	}
	c.until(id, statusStopped)
	if got := c.get("/api/v1/sessions/" + id).str("error"); got != "Instance not found on provider during reconciliation" {
		t.Errorf("error %q", got)
	}
	if err := c.s.Strike(id, LoseSSH, nil); err == nil {
		t.Error("a machine that is gone was struck")
	}
}

func TestCostsAreTheServicesOwnEstimate(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	id := c.run("c", "vastai-100")
	c.s.Advance(30 * time.Minute)
	c.do(http.MethodPost, "/api/v1/sessions/"+id+"/extend", map[string]any{"additional_hours": 4})
	c.s.Advance(100 * time.Minute)
	c.advanceUntil("two hours' cost", func() bool { return c.get("/api/v1/costs?session_id=" + id).body["total_cost"] == 0.8 })
	if cost := c.s.Ledger().TotalCost; cost < 0.86 || cost > 0.9 {
		t.Errorf("the ledger says %v for 2 h 10 min at 0.4", cost)
	}
	today := c.s.clock.Now().Format(time.DateOnly)
	for _, query := range []string{"consumer_id=c", "period=daily", "period=monthly", "start_date=2020-01-01&end_date=2100-01-01"} {
		r := c.get("/api/v1/costs?" + query)
		if r.status != http.StatusOK || r.str("period_start") == "" {
			t.Errorf("%s on %s: %s", query, today, r.text)
		}
	}
	r := c.get("/api/v1/costs?start_date=2020-01-01&end_date=2100-01-01")
	if r.body["session_count"] != 1.0 || r.body["hours_used"] != 2.0 || r.at("by_provider", "vastai") != 0.8 {
		t.Errorf("%s", r.text)
	}
}

func TestRequestsAreReadAsTheServiceReadsThem(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	for _, test := range []struct {
		method, path, body string
		status             int
		text               string
	}{
		{"POST", "/api/v1/sessions", `{"reservation_hours":"1"}`, 400, "json: cannot unmarshal string into Go struct field CreateSessionRequest.reservation_hours of type int"},
		{"POST", "/api/v1/sessions", ``, 400, "EOF"},
		{"POST", "/api/v1/sessions", `[]`, 400, "json: cannot unmarshal array into Go value of type api.CreateSessionRequest"},
		{"POST", "/api/v1/sessions", `{"consumer_id":"c","offer_id":"o","workload_type":"llm","reservation_hours":-1}`, 400, "reservation_hours must be at least 1"},
		{"POST", "/api/v1/sessions", `{"consumer_id":"c","offer_id":"<b>x","workload_type":"llm","reservation_hours":1}`, 404, "offer not found: bx"},
		{"POST", "/api/v1/sessions/nope/extend", `{}`, 400, "additional_hours is required"},
		{"PUT", "/api/v1/sessions", ``, 404, ""},
		{"GET", "/api/v1/sessions/a%2Fb", ``, 404, ""}, // the service matches the decoded path
		{"GET", "/api/v1/inventory?min_gpu_count=x", ``, 400, `invalid min_gpu_count: must be a valid integer, got "x"`},
		{"GET", "/api/v1/inventory?min_cuda=-1", ``, 400, "invalid min_cuda: must be non-negative, got -1"},
		{"GET", "/api/v1/inventory?template_hash_id=x", ``, 400, "template filtering requires Vast.ai provider: provider not found: vastai (does not support templates)"},
		{"GET", "/api/v1/inventory/vastai-100/compatible-templates", ``, 500, "template provider not available: provider not found: vastai (does not support templates)"},
	} {
		r := <-c.send(t.Context(), test.method, test.path, test.body)
		if r.status != test.status || r.str("error") != test.text {
			t.Errorf("%s %s %s: %d %s", test.method, test.path, test.body, r.status, r.text)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, c.s.URL()+"/api/v1/sessions/nope", http.NoBody)
	req.Header.Set("X-Request-ID", "mine.1")
	if r := read(http.DefaultClient.Do(req)); r.str("request_id") != "mine.1" || r.header.Get("X-Request-ID") != "mine.1" {
		t.Errorf("the client's request id: %s", r.text)
	}
}

// TestADeleteOfARowThatNeverHadAMachine: what a refused rental leaves behind takes
// every DELETE and stays as it is.
func TestADeleteOfARowThatNeverHadAMachine(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventCreate, Fault: OffersGone}}})
	c.do(http.MethodPost, "/api/v1/sessions", order("c", "vastai-100"))
	id, _ := c.get("/api/v1/sessions?consumer_id=c").at("sessions", 0, "id").(string)
	for range 2 {
		if r := c.do(http.MethodDelete, "/api/v1/sessions/"+id, nil); r.status != http.StatusOK || r.str("message") != "session destroyed" {
			t.Errorf("%d %s", r.status, r.text)
		}
		if r := c.get("/api/v1/sessions/" + id); r.str("status") != statusFailed {
			t.Errorf("%s", r.text)
		}
	}
	if r := c.do(http.MethodPost, "/api/v1/sessions/"+id+"/done", nil); r.status != http.StatusConflict || r.str("request_id") == "" {
		t.Errorf("done: %d %s", r.status, r.text)
	}
}

// TestPathsWithASlashTooMany: the service's router sends such clients on.
func TestPathsWithASlashTooMany(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	for _, test := range []struct {
		method, path string
		status       int
		location     string
	}{
		{http.MethodGet, "/api/v1/inventory/?limit=1", http.StatusMovedPermanently, "/api/v1/inventory?limit=1"},
		{http.MethodPost, "/api/v1/sessions/", http.StatusTemporaryRedirect, "/api/v1/sessions"},
		{http.MethodGet, "/api/v1/nothing/", http.StatusNotFound, ""},
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, c.s.URL()+test.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r := read(http.DefaultTransport.RoundTrip(req))
		if r.status != test.status || r.header.Get("Location") != test.location {
			t.Errorf("%s %s: %d, %q", test.method, test.path, r.status, r.header.Get("Location"))
		}
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Offers: BuiltinOffers(), Templates: BuiltinTemplates()})
	if r := c.get("/api/v1/templates?recommended=true&name=vll"); r.body["count"] != 1.0 {
		t.Errorf("%s", r.text)
	}
	if r := c.get("/api/v1/templates/4e17788f74f075dd9aab7d0d4427968f"); r.str("name") != "vLLM" {
		t.Errorf("%s", r.text)
	}
	if r := c.get("/api/v1/templates/nope"); r.status != http.StatusNotFound {
		t.Errorf("%d %s", r.status, r.text)
	}
	if r := c.get("/api/v1/inventory/vastai-2588120/compatible-templates"); r.body["count"] != 2.0 || r.str("gpu_type") != "RTX 5090" {
		t.Errorf("%s", r.text)
	}
	if r := c.get("/api/v1/inventory/bluelobster-v1_gpu_1x_h100-us-east-1/compatible-templates"); r.body["count"] != 0.0 || r.str("note") == "" {
		t.Errorf("%s", r.text)
	}
}
