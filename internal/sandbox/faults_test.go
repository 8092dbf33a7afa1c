package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// requestFaultTests show each fault of a request once, on the route that it is
// most used for. rows is how many sessions the request left.
var requestFaultTests = []struct {
	name  string
	rule  Rule
	check func(t *testing.T, r reading)
	rows  int
}{
	{"lose_answer_before", Rule{Fault: LoseAnswerBefore}, wantLost, 0},
	{"lose_answer_after", Rule{Fault: LoseAnswerAfter}, wantLost, 1},
	{"delay", Rule{Fault: Delay, Value: "40s"}, wantTook(40 * time.Second), 1},
	{"delay_after", Rule{Fault: DelayAfter, Value: 40}, wantTook(40 * time.Second), 1},
	{"status", Rule{Fault: Status, Value: 503}, wantStatus(503, ""), 0},
	{"status_429_seconds", Rule{Fault: Status, Value: map[string]any{"status": 429, "retry_after": 7}}, wantStatus(429, `^7$`), 0},
	{"status_429_date", Rule{Fault: Status, Value: map[string]any{"status": 429, "retry_after": "date:30s"}}, wantStatus(429, "GMT"), 0},
	{"status_429_nonsense", Rule{Fault: Status, Value: map[string]any{"status": 429, "retry_after": "nonsense"}}, wantStatus(429, "while"), 0},
	{"status_429_day", Rule{Fault: Status, Value: map[string]any{"status": 429, "retry_after": "day"}}, wantStatus(429, "86400"), 0},
	{"status_429_text", Rule{Fault: Status, Value: map[string]any{"status": 429, "retry_after": "-5"}}, wantStatus(429, "-5"), 0},
	{"status_500_after", Rule{Fault: Status, Value: map[string]any{"status": 500, "after": true}}, wantStatus(500, ""), 1},
	{"status_after", Rule{Fault: StatusAfter}, wantStatus(502, ""), 1},
	{"truncate", Rule{Fault: Truncate}, wantTruncated, 1},
	{"invalid_json", Rule{Fault: InvalidJSON}, func(t *testing.T, r reading) {
		t.Helper()
		if r.status != http.StatusCreated || r.body != nil || !strings.HasPrefix(r.text, "{") {
			t.Errorf("%d %q", r.status, r.text)
		}
	}, 1},
	{"html", Rule{Fault: HTML}, wantHTML(502), 1},
	{"html_before", Rule{Fault: HTML, Value: map[string]any{"status": 200, "after": false}}, wantHTML(200), 0},
	{"slow_drip", Rule{Fault: SlowDrip, Value: "40s"}, wantTook(40 * time.Second), 1},
	{"no_key", Rule{Fault: NoKey}, func(t *testing.T, r reading) {
		t.Helper()
		if _, has := r.body["ssh_private_key"]; has || r.status != http.StatusCreated || r.str("session", "id") == "" {
			t.Errorf("%d %q", r.status, r.text)
		}
	}, 1},
	{"no_id", Rule{Fault: NoID}, func(t *testing.T, r reading) {
		t.Helper()
		if r.str("session", "id") != "" || r.status != http.StatusCreated || r.str("ssh_private_key") == "" {
			t.Errorf("%d %q", r.status, r.text)
		}
	}, 1},
	{"not struck", Rule{Fault: LoseAnswerBefore, Nth: 2}, wantTook(0), 1},
	{"other consumer", Rule{Fault: LoseAnswerBefore, Consumer: "d"}, wantTook(0), 1},
	{"other offer", Rule{Fault: LoseAnswerBefore, Offer: "vastai-101"}, wantTook(0), 1},
	{"this consumer", Rule{Fault: LoseAnswerBefore, Consumer: "c", Offer: "vastai-100"}, wantLost, 0},
	{"any route", Rule{Route: "* *", Fault: LoseAnswerBefore}, wantLost, 0},
}

func wantLost(t *testing.T, r reading) {
	t.Helper()
	if !errors.Is(r.err, io.EOF) {
		t.Errorf("%d %q %v, want the connection closed", r.status, r.text, r.err)
	}
}

func wantTruncated(t *testing.T, r reading) {
	t.Helper()
	if r.status != http.StatusCreated || !errors.Is(r.err, io.ErrUnexpectedEOF) || !strings.HasPrefix(r.text, "{") {
		t.Errorf("%d %q %v", r.status, r.text, r.err)
	}
}

func wantStatus(status int, retryAfter string) func(*testing.T, reading) {
	return func(t *testing.T, r reading) {
		t.Helper()
		header := r.header.Get("Retry-After")
		if r.status != status || r.str("error") == "" || !strings.Contains("^"+header+"$", strings.Trim(retryAfter, "^$")) || (retryAfter == "") != (header == "") {
			t.Errorf("%d, Retry-After %q: %q", r.status, header, r.text)
		}
	}
}

func wantHTML(status int) func(*testing.T, reading) {
	return func(t *testing.T, r reading) {
		t.Helper()
		if r.status != status || r.header.Get("Content-Type") != "text/html" || !strings.Contains(r.text, "<html>") {
			t.Errorf("%d %q", r.status, r.text)
		}
	}
}

// wantTook wants the real answer; how long it took the table test measures.
func wantTook(time.Duration) func(*testing.T, reading) {
	return func(t *testing.T, r reading) {
		t.Helper()
		if r.status != http.StatusCreated || r.str("session", "id") == "" || r.err != nil {
			t.Errorf("%d %q %v", r.status, r.text, r.err)
		}
	}
}

func TestRequestFaults(t *testing.T) {
	t.Parallel()
	for _, test := range requestFaultTests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			rule := test.rule
			if rule.Route == "" {
				rule.Route = "POST /api/v1/sessions"
			}
			c := frozen(t, Options{Faults: []Rule{rule}})
			before := c.s.clock.Elapsed()
			r := c.do(http.MethodPost, "/api/v1/sessions", order("c", "vastai-100"))
			test.check(t, r)
			took := c.s.clock.Elapsed() - before
			if wait := c.s.faults.rules[0].v.length; slices.Contains([]Fault{Delay, DelayAfter, SlowDrip}, rule.Fault) && took < wait {
				t.Errorf("took %v, want at least %v", took, wait)
			}
			testkit.Eventually(t, "the request to end", func() bool { return len(c.s.sessions.List(func(session) bool { return true })) >= test.rows })
			if rows := c.s.sessions.List(func(session) bool { return true }); len(rows) != test.rows {
				t.Errorf("%d sessions, want %d", len(rows), test.rows)
			}
			if count := c.s.Faults()[0]; test.name == "not struck" && (count.Matched != 1 || count.Struck != 0) {
				t.Errorf("counted %+v", count)
			}
		})
	}
}

func TestClosedPort(t *testing.T) {
	t.Parallel()
	s, _ := startFake(t, Options{Speed: 300, Faults: []Rule{{Route: "GET /health", Nth: 1, Fault: ClosedPort, Value: "10m"}}})
	c := client{t: t, s: s}
	if r := <-c.send(t.Context(), http.MethodGet, "/health", nil); r.err == nil {
		t.Fatalf("the request was answered: %s", r.text)
	}
	if r := <-c.send(t.Context(), http.MethodGet, "/ready", nil); !errors.Is(r.err, syscall.ECONNREFUSED) {
		t.Errorf("the next: %v", r.err)
	}
	testkit.Eventually(t, "the port to open again", func() bool {
		return (<-c.send(t.Context(), http.MethodGet, "/ready", nil)).status == http.StatusOK
	})
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: "* *", Fault: RateLimit, Value: 3}}})
	passed, limited := 0, 0
	for range 40 {
		switch r := c.get("/ready"); {
		case r.status == http.StatusOK:
			passed++
		case r.status == http.StatusTooManyRequests && r.header.Get("Retry-After") == "1":
			limited++
		default:
			t.Fatalf("%d %s", r.status, r.text)
		}
	}
	if passed < 3 || limited == 0 {
		t.Errorf("%d passed, %d were limited", passed, limited)
	}
	testkit.Eventually(t, "the next second", func() bool { return c.get("/ready").status == http.StatusOK })
}

func TestOtherRequestFaults(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	id := c.run("c", "vastai-100")
	if err := c.s.SetFaults(
		Rule{Route: "GET /api/v1/inventory", Nth: 1, Fault: OffersGone},
		Rule{Route: "GET /health", Fault: NotReady},
		Rule{Route: "DELETE /api/v1/sessions/{id}", Nth: 1, Fault: ClaimSuccess},
		Rule{Route: "POST /api/v1/sessions/{id}/done", Nth: 1, Fault: ClaimSuccess},
		Rule{Route: "GET /api/v1/sessions/" + id, Nth: 2, Times: 2, Fault: Status, Consumer: "c"},
	); err != nil {
		t.Fatal(err)
	}
	if a, b := c.get("/api/v1/inventory"), c.get("/api/v1/inventory"); a.body["total"] != 0.0 || b.body["total"] != 12.0 {
		t.Errorf("inventory: %v, %v", a.body["total"], b.body["total"])
	}
	if r := c.get("/health"); r.status != http.StatusServiceUnavailable || r.str("services", "ready") != "false" {
		t.Errorf("health: %s", r.text)
	}
	del := <-c.send(t.Context(), http.MethodDelete, "/api/v1/sessions/"+id, nil)
	done := <-c.send(t.Context(), http.MethodPost, "/api/v1/sessions/"+id+"/done", nil)
	if del.str("message") != "session destroyed" || done.str("message") != "session shutdown initiated" || c.status(id) != statusRunning {
		t.Errorf("claimed: %s, %s, status %s", del.text, done.text, c.status(id))
	}
	statuses := []int{}
	for range 4 {
		statuses = append(statuses, c.get("/api/v1/sessions/"+id).status)
	}
	if !reflect.DeepEqual(statuses, []int{200, 500, 500, 200}) {
		t.Errorf("the second and third read: %v", statuses)
	}
	c.wantBilling(id)
}

// machineFaultTests show each fault of a machine's boot by what it does.
var machineFaultTests = []struct {
	rule   Rule
	offer  string
	status string // the session ends up with
	failed string // its error
	check  func(m fakeMachine) bool
	bills  bool
}{
	{rule: Rule{Fault: NeverBoots}, status: statusFailed, failed: "SSH verification timeout"},
	{rule: Rule{Fault: BootsLate, Value: "7m"}, status: statusRunning, bills: true},
	{rule: Rule{Fault: BootsLate, Value: "9m"}, status: statusFailed, failed: "SSH verification timeout"},
	{rule: Rule{Fault: RefuseKey}, status: statusFailed, failed: "permanent SSH error: auth_failed"},
	{rule: Rule{Fault: RefuseKey, Value: "5m"}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.refuse }},
	{rule: Rule{Fault: Vanish}, status: statusFailed, failed: "instance_vanished: no longer exists on provider"},
	{rule: Rule{Fault: LoseSSH, Value: "6m"}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.dropped == 1 }},
	{rule: Rule{Fault: LoseSSH, Value: map[string]any{"after": "1m", "for": "1h"}}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return !m.up }},
	{rule: Rule{Fault: Unresponsive, Value: map[string]any{"after": "1m", "for": "1h"}}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.silent }},
	{rule: Rule{Fault: ChangeHostKey}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.keys == 1 }},
	{rule: Rule{Fault: ChangeAddress}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.port == 30000 }},
	{rule: Rule{Fault: DiskFull}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.facts.DiskFreeGB == 0 }},
	{rule: Rule{Fault: DriverMissing}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.facts.Driver == machinefs.DriverMissing }},
	{rule: Rule{Fault: DriverBuilding, Value: "20m"}, status: statusRunning, bills: true, check: func(m fakeMachine) bool {
		return m.facts.Driver == machinefs.DriverBuilding && !m.facts.DriverReadyAt.IsZero()
	}},
	{rule: Rule{Fault: DriverVersion, Value: "535.1"}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.facts.CUDAVersion == "12.2" }},
	{rule: Rule{Fault: MemoryHeld, Value: 1000}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.facts.GPUs[0].HeldMiB == 1000 }},
	{rule: Rule{Fault: NotAvailable}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.facts.GPUs[0].NotAvailable }},
	{rule: Rule{Fault: NoDocker}, offer: "tensordock-1", status: statusRunning, bills: true, check: func(m fakeMachine) bool { return !m.facts.Docker }},
	{rule: Rule{Fault: NoGPURuntime}, offer: "tensordock-1", status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.facts.NoGPURuntime }},
	{rule: Rule{Fault: EngineHangs, Value: "1h"}, status: statusRunning, bills: true, check: didToEngine("hang true")},
	{rule: Rule{Fault: PullFails, Value: "no space"}, status: statusRunning, bills: true, check: didToEngine("fail no space")},
	{rule: Rule{Fault: SlowPull}, status: statusRunning, bills: true, check: didToEngine("slow true")},
	{rule: Rule{Route: EventContainer, Fault: FailStart, Value: "out_of_memory"}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.facts.VLLM.Fail == "out_of_memory" }},
	{rule: Rule{Route: EventContainer, Fault: ExitAfter, Value: 9}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.facts.VLLM.ExitAfter == 9*time.Second }},
	{rule: Rule{Route: EventContainer, Fault: RestartLoop}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.facts.VLLM.Fail != "" }},
	{rule: Rule{Route: EventContainer, Fault: Hang}, status: statusRunning, bills: true, check: func(m fakeMachine) bool { return m.facts.VLLM.Hang }},
}

func didToEngine(what string) func(fakeMachine) bool {
	return func(m fakeMachine) bool { return slices.Contains(m.engine, what) }
}

func TestMachineFaults(t *testing.T) {
	t.Parallel()
	offers := append(recordedOffers(), Offer{ID: "tensordock-1", GPUType: "L4", PricePerHour: 0.3})
	for _, test := range machineFaultTests {
		name := string(test.rule.Fault)
		if test.rule.Value != nil {
			name += fmt.Sprint(" ", test.rule.Value)
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rule, offer := test.rule, test.offer
			if rule.Route == "" {
				rule.Route = EventBoot
			}
			if offer == "" {
				offer = "vastai-100"
			}
			c := frozen(t, Options{Offers: offers, Faults: []Rule{rule}})
			id := c.rent("c", offer)
			c.until(id, test.status)
			if test.check != nil {
				c.advanceUntil("the fault to strike", func() bool { return test.check(c.f.last()) })
			}
			if got := c.get("/api/v1/sessions/" + id); got.str("error") != test.failed {
				t.Errorf("error %q, want %q", got.str("error"), test.failed)
			}
			if rule.Fault == ChangeAddress {
				c.advanceUntil("the service to know", func() bool { return c.get("/api/v1/sessions/" + id).body["ssh_port"] == 30000.0 })
			}
			if bills := len(c.billing()) == 1; bills != test.bills {
				t.Errorf("bills: %v", bills)
			}
			if c.f.running() != len(c.billing()) {
				t.Errorf("%d machines run and %d bill", c.f.running(), len(c.billing()))
			}
		})
	}
}

func TestCreateFaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule   Rule
		status int
		kind   string
		retry  any
	}{
		{Rule{Fault: OffersGone}, 503, "stale_inventory", true},
		{Rule{Fault: ProviderError}, 500, "provision_failed", true},
		{Rule{Fault: ProviderError, Value: "timeout waiting for the task"}, 500, "ssh_timeout", true},
		{Rule{Fault: ProviderError, Value: "dial tcp: connection refused"}, 500, "provider_unavailable", true},
		{Rule{Fault: ProviderError, Value: "instance terminated"}, 500, "instance_stopped", true},
		{Rule{Fault: ProviderError, Value: "invalid image"}, 500, "invalid_request", false},
	} {
		t.Run(fmt.Sprint(test.rule.Fault, " ", test.rule.Value), func(t *testing.T) {
			t.Parallel()
			rule := test.rule
			rule.Route = EventCreate
			c := frozen(t, Options{Faults: []Rule{rule}})
			r := c.do(http.MethodPost, "/api/v1/sessions", order("c", "vastai-100"))
			if r.status != test.status || r.str("error_type") != test.kind || r.body["retry_suggested"] != test.retry {
				t.Errorf("%d %s", r.status, r.text)
			}
			rows := c.s.sessions.List(func(session) bool { return true })
			if len(rows) != 1 || rows[0].Status != statusFailed || len(c.s.Ledger().Rentals) != 0 {
				t.Errorf("rows %+v, ledger %v", rows, c.s.Ledger())
			}
		})
	}
}

func TestTheAddressComesLater(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventCreate, Nth: 1, Fault: AddressLater}}})
	r := c.do(http.MethodPost, "/api/v1/sessions", order("c", "vastai-100"))
	id := r.str("session", "id")
	if port := r.at("session", "ssh_port"); r.at("session", "ssh_host") != nil || port != 22.0 {
		t.Errorf("%d %s", r.status, r.text)
	}
	c.until(id, statusRunning)
	if got := c.get("/api/v1/sessions/" + id); got.str("ssh_host") == "" || got.body["ssh_port"] == 22.0 {
		t.Errorf("%s", got.text)
	}
	c.do(http.MethodDelete, "/api/v1/sessions/"+id, nil)
}

func TestOnlyThePOSTsAnswerHasThePricePaid(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventCreate, Nth: 1, Fault: PriceRaised, Value: 2}}})
	r := c.do(http.MethodPost, "/api/v1/sessions", order("c", "vastai-100"))
	if price := r.at("session", "price_per_hour"); price != 0.8 || c.s.Ledger().Billing[0].PricePerHour != 0.8 {
		t.Errorf("paid %v, ledger %v", price, c.s.Ledger())
	}
	id := r.str("session", "id")
	c.until(id, statusRunning)
	if price := c.get("/api/v1/sessions/" + id).at("price_per_hour"); price != 0.4 {
		t.Errorf("a read says %v, want the offer's price", price)
	}
	if price := c.get("/api/v1/sessions?consumer_id=c").at("sessions", 0, "price_per_hour"); price != 0.4 {
		t.Errorf("a list says %v, want the offer's price", price)
	}
	c.s.Advance(time.Hour + time.Minute)
	c.until(id, statusStopped)
	if cost := c.get("/api/v1/costs?session_id=" + id).at("total_cost"); cost != 0.4 {
		t.Errorf("the service books %v for an hour, want the offer's price", cost)
	}
	if cost := c.s.Ledger().TotalCost; cost < 0.8 {
		t.Errorf("an hour at 0.8 cost %v", cost)
	}
	// The market does the same by itself: the service's cache is a minute behind.
	c.get("/api/v1/inventory")
	if err := c.s.market.SetPrice("vastai-101", 5); err != nil {
		t.Fatal(err)
	}
	r = c.do(http.MethodPost, "/api/v1/sessions", order("c", "vastai-101"))
	if price := r.at("session", "price_per_hour"); price != 5.0 {
		t.Errorf("paid %v", price)
	}
}

func TestAnOfferGoneForAWhileComesBack(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventCreate, Nth: 1, Fault: OffersGone, Value: "2m"}}})
	c.do(http.MethodPost, "/api/v1/sessions", order("a", "vastai-100"))
	c.s.Advance(cacheLife)
	if r := c.get("/api/v1/inventory/vastai-100"); r.status != http.StatusNotFound {
		t.Errorf("while gone: %d", r.status)
	}
	c.s.Advance(2 * time.Minute)
	testkit.Eventually(t, "the offer to be back", func() bool {
		c.s.Advance(cacheLife)
		return c.get("/api/v1/inventory/vastai-100").status == http.StatusOK
	})
}

func TestDestroyThatFailsTenTimes(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventDestroy, Nth: 1, Times: 10, Fault: DestroyFails}}})
	id := c.run("c", "vastai-100")
	began := c.s.clock.Elapsed()
	r := c.do(http.MethodDelete, "/api/v1/sessions/"+id, nil)
	if r.status != http.StatusInternalServerError || !strings.Contains(r.str("error"), "after 10 attempts") {
		t.Errorf("%d %s", r.status, r.text)
	}
	if took := c.s.clock.Elapsed() - began; took < 275*time.Second || took > 300*time.Second {
		t.Errorf("took %v", took)
	}
	c.wantBilling(id)
	if got := c.status(id); got != statusStopping {
		t.Errorf("status %s", got)
	}
	c.until(id, statusStopped) // by the periodic check, whose attempt succeeds
	c.wantBilling()
}

func TestDestroyThatFailsTwice(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventDestroy, Nth: 1, Times: 2, Fault: DestroyFails}}})
	id := c.run("c", "vastai-100")
	if r := c.do(http.MethodDelete, "/api/v1/sessions/"+id, nil); r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.text)
	}
	c.wantBilling()
}

func TestDestroyThatTakesMinutes(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventDestroy, Nth: 1, Fault: DestroySlow, Value: "2m"}}})
	id := c.run("c", "vastai-100")
	began := c.s.clock.Elapsed()
	r := c.do(http.MethodDelete, "/api/v1/sessions/"+id, nil)
	if took := c.s.clock.Elapsed() - began; r.status != http.StatusOK || took < 100*time.Second {
		t.Errorf("%d after %v", r.status, took)
	}
	c.wantBilling()
}

func TestADestroyThatClaimsSuccessBillsOn(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: EventDestroy, Fault: ClaimSuccess}}})
	id := c.run("c", "vastai-100")
	r := c.do(http.MethodDelete, "/api/v1/sessions/"+id, nil)
	if r.status != http.StatusOK || c.status(id) != statusStopped {
		t.Errorf("%d %s", r.status, c.status(id))
	}
	c.wantBilling(id)
	if got := c.s.Ledger().Billing[0].Status; got != statusStopped {
		t.Errorf("the ledger's status is %s", got)
	}
}

func TestFaultsOfAStartLastForThatStart(t *testing.T) {
	t.Parallel()
	offers := []Offer{{ID: "tensordock-1", GPUType: "L4", PricePerHour: 0.3, Machine: MachineSpec{VLLM: machinefs.VLLM{Load: time.Second}}}}
	c := frozen(t, Options{Offers: offers, Faults: []Rule{{Route: EventContainer, Nth: 2, Fault: Hang}}})
	c.run("c", "tensordock-1")
	hangs := []string{}
	for range 3 {
		c.f.all[0].req.Starting()
		hangs = append(hangs, strconv.FormatBool(c.f.last().facts.VLLM.Hang))
	}
	if got := strings.Join(hangs, " "); got != "false true false" || c.f.last().facts.VLLM.Load != time.Second {
		t.Errorf("hangs: %s", got)
	}
}

func TestADelayedRequestOfAClientThatHangsUpHasNoEffect(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{Faults: []Rule{{Route: "POST /api/v1/sessions", Fault: Delay, Value: "1m"}}})
	ctx, hangUp := context.WithCancel(t.Context())
	post := c.send(ctx, http.MethodPost, "/api/v1/sessions", order("c", "vastai-100"))
	testkit.Eventually(t, "the request", func() bool { return c.s.Faults()[0].Struck == 1 })
	hangUp()
	<-post
	c.advance(2 * time.Minute)
	if rows := c.s.sessions.List(func(session) bool { return true }); len(rows) != 0 {
		t.Errorf("%d sessions", len(rows))
	}
}
