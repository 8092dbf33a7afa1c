//go:build unix

package rental

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// sandboxMain has this binary be the programs on the sandbox's machines.
func sandboxMain() { sandbox.Main() }

// speed is how much faster than real the sandbox is, where a test doesn't ask for another.
const speed = 100

// stand is a sandbox, a client of it and what the tests know of the rentals.
type stand struct {
	t     *testing.T
	s     *sandbox.Sandbox
	speed time.Duration
	url   string
	dir   string
	mine  sync.Map // the marks in state
}

func newStand(t *testing.T, faults ...sandbox.Rule) *stand {
	t.Helper()
	return newStandAt(t, speed, faults...)
}

func newStandAt(t *testing.T, speed int, faults ...sandbox.Rule) *stand {
	t.Helper()
	s, err := sandbox.Start(sandbox.Options{Speed: float64(speed), KeyBits: 1024, Seed: 7, Faults: faults})
	ok(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &stand{t: t, s: s, speed: time.Duration(speed), url: s.URL(), dir: t.TempDir()}
}

// process is a new run of the provider. Its limits go with the sandbox's speed.
func (s *stand) process() *Renter {
	s.t.Helper()
	client, err := shopper.New(shopper.Config{URL: s.url, MaxRetries: 6})
	ok(s.t, err)
	s.t.Cleanup(client.Close)
	r := New(client, Config{Consumer: "terraform", Journal: journal.Open(s.dir, nextRun())})
	r.askLimit, r.listPatience = askLimit/s.speed, 5*time.Second
	return r
}

func (s *stand) order(name string) Order {
	return Order{
		Names: Names{Name: name}, Hours: 2, WorkloadType: "llm_vllm", MaxAttempts: 4,
		Requirements: Requirements{Clouds: []string{vastAI}, MaxPricePerHour: 2},
	}
}

func (s *stand) apply(ctx context.Context, r *Renter, o Order) (*Rental, error) {
	rental, err := r.Rent(ctx, o)
	if rental == nil {
		return nil, err
	}
	s.mine.Store(rental.Session.ID, true)
	return rental, errors.Join(err, rental.HandOver())
}

// known checks that nothing bills but what is in state.
func (s *stand) known() {
	s.t.Helper()
	for _, r := range s.s.Ledger().Billing {
		if _, known := s.mine.Load(r.SessionID); !known {
			s.t.Errorf("session %s (%s, it reads %s) bills and nobody knows it", r.SessionID, r.ConsumerID, r.Status)
		}
	}
}

// allStruck checks that every rule in force has struck.
func (s *stand) allStruck() {
	s.t.Helper()
	for _, rule := range s.s.Faults() {
		if rule.Struck == 0 {
			s.t.Errorf("the fault %s on %s never struck", rule.Fault, rule.Route)
		}
	}
}

// destroy releases a rental, after which nothing may bill.
func (s *stand) destroy(rental *Rental) {
	s.t.Helper()
	r := s.process()
	warnings, err := r.Release(s.t.Context(), Known{ID: rental.Session.ID, ConsumerID: rental.Session.ConsumerID})
	ok(s.t, err)
	for _, warning := range warnings {
		if !strings.Contains(warning, gaveUp) {
			s.t.Errorf("a warning: %s", warning)
		}
	}
	s.mine.Delete(rental.Session.ID)
	s.known()
}

const (
	postRoute   = "POST /api/v1/sessions"
	listRoute   = "GET /api/v1/sessions"
	getRoute    = "GET /api/v1/sessions/{id}"
	deleteRoute = "DELETE /api/v1/sessions/{id}"
	extendRoute = "POST /api/v1/sessions/{id}/extend"
)

// TestSandboxFaults has the sandbox misbehave while a machine is rented and
// released. Every row ends with one machine in state, and none after destroy.
func TestSandboxFaults(t *testing.T) {
	t.Parallel()
	once := func(route string, fault sandbox.Fault, value any) sandbox.Rule {
		return sandbox.Rule{Route: route, Nth: 1, Fault: fault, Value: value}
	}
	tests := []struct {
		name    string
		rules   []sandbox.Rule
		rentals int // machines ever
	}{
		{name: "POST: answer lost before effect", rules: []sandbox.Rule{once(postRoute, sandbox.LoseAnswerBefore, nil)}, rentals: 1},
		{name: "POST: answer lost after effect", rules: []sandbox.Rule{once(postRoute, sandbox.LoseAnswerAfter, nil)}, rentals: 2},
		{name: "POST: 500 after effect", rules: []sandbox.Rule{once(postRoute, sandbox.StatusAfter, 500)}, rentals: 2},
		{name: "POST: 502 after effect", rules: []sandbox.Rule{once(postRoute, sandbox.HTML, nil)}, rentals: 2},
		{name: "POST: truncated body", rules: []sandbox.Rule{once(postRoute, sandbox.Truncate, nil)}, rentals: 2},
		{name: "POST: broken JSON", rules: []sandbox.Rule{once(postRoute, sandbox.InvalidJSON, nil)}, rentals: 2},
		{name: "POST: body without key", rules: []sandbox.Rule{once(postRoute, sandbox.NoKey, nil)}, rentals: 2},
		{name: "POST: body without id", rules: []sandbox.Rule{once(postRoute, sandbox.NoID, nil)}, rentals: 2},
		{name: "POST: lost, and the service is down", rules: []sandbox.Rule{
			once(postRoute, sandbox.LoseAnswerAfter, nil), {Route: listRoute, Nth: 5, Times: 3, Fault: sandbox.Status, Value: 503},
		}, rentals: 2},
		{name: "offer gone", rules: []sandbox.Rule{once(sandbox.EventCreate, sandbox.OffersGone, nil)}, rentals: 1},
		{name: "cloud refuses", rules: []sandbox.Rule{once(sandbox.EventCreate, sandbox.ProviderError, "quota exceeded")}, rentals: 1},
		{name: "costs more", rules: []sandbox.Rule{once(sandbox.EventCreate, sandbox.PriceRaised, 20)}, rentals: 2},
		{name: "never boots", rules: []sandbox.Rule{once(sandbox.EventBoot, sandbox.NeverBoots, nil)}, rentals: 2},
		{name: "vanishes", rules: []sandbox.Rule{once(sandbox.EventBoot, sandbox.Vanish, nil)}, rentals: 2},
		{name: "refuses the key", rules: []sandbox.Rule{once(sandbox.EventBoot, sandbox.RefuseKey, nil)}, rentals: 2},
		{name: "service gone while waiting", rules: []sandbox.Rule{once(getRoute, sandbox.ClosedPort, "1m")}, rentals: 1},
		{name: "nonsense while waiting", rules: []sandbox.Rule{{Route: getRoute, Nth: 1, Times: 2, Fault: sandbox.HTML, Value: 200}}, rentals: 1},
		{name: "429 while waiting", rules: []sandbox.Rule{
			{Route: getRoute, Nth: 1, Times: 2, Fault: sandbox.Status, Value: map[string]any{"status": 429, "retry_after": 1}},
		}, rentals: 1},
		{name: "DELETE: answer lost before", rules: []sandbox.Rule{once(deleteRoute, sandbox.LoseAnswerBefore, nil)}, rentals: 1},
		{name: "DELETE: answer lost after", rules: []sandbox.Rule{once(deleteRoute, sandbox.LoseAnswerAfter, nil)}, rentals: 1},
		{name: "DELETE: 500", rules: []sandbox.Rule{{Route: deleteRoute, Nth: 1, Times: 2, Fault: sandbox.Status, Value: 500}}, rentals: 1},
		{name: "DELETE: 200 that was not true", rules: []sandbox.Rule{once(deleteRoute, sandbox.ClaimSuccess, nil)}, rentals: 1},
		{name: "machine dies late", rules: []sandbox.Rule{{Route: sandbox.EventDestroy, Nth: 1, Times: 3, Fault: sandbox.DestroyFails}}, rentals: 1},
		{name: "machine dies after the service gave up", rules: []sandbox.Rule{
			{Route: sandbox.EventDestroy, Nth: 1, Times: 10, Fault: sandbox.DestroyFails},
		}, rentals: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t, test.rules...)
			rental, err := s.apply(t.Context(), s.process(), s.order("box"))
			ok(t, err)
			if rental.PrivateKey == "" || rental.Session.SSHHost == "" {
				t.Errorf("it can't be logged in to: %v", rental.Session)
			}
			s.known()
			s.destroy(rental)
			ledger := s.s.Ledger()
			if len(ledger.Rentals) != test.rentals || len(ledger.Billing) != 0 {
				t.Errorf("%d machines were rented, want %d:\n%s", len(ledger.Rentals), test.rentals, ledger)
			}
			for i, a := range ledger.Rentals {
				for _, b := range ledger.Rentals[i+1:] {
					if a.ReleasedAt.After(b.RentedAt) {
						t.Errorf("two machines billed at once:\n%s", ledger)
					}
				}
			}
			s.allStruck()
		})
	}
}

// impatient answers the first request that rents long before the service does,
// as a proxy with a short timeout would; the request goes on behind it.
func impatient(t *testing.T, target string) string {
	t.Helper()
	to, err := url.Parse(target)
	ok(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	transport := &http.Transport{DisableKeepAlives: true}
	proxy.Transport = transport
	var first sync.Once
	var behind sync.WaitGroup
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cut := false
		if r.Method == http.MethodPost {
			first.Do(func() { cut = true })
		}
		if !cut {
			proxy.ServeHTTP(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		behind.Go(func() {
			req, err := http.NewRequest(http.MethodPost, target+r.URL.Path, bytes.NewReader(body))
			if err != nil {
				return
			}
			if resp, err := transport.RoundTrip(req); err == nil {
				_ = resp.Body.Close()
			}
		})
		timer := time.NewTimer(100 * time.Millisecond)
		<-timer.C
		http.Error(w, "<html>504 Gateway Time-out</html>", http.StatusGatewayTimeout)
	}))
	t.Cleanup(func() {
		server.Close()
		behind.Wait()
	})
	return server.URL
}

// TestSandboxStoppedComesBack is trap 19a on the sandbox's own database.
func TestSandboxStoppedComesBack(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Rule{Route: sandbox.EventCreate, Nth: 1, Fault: sandbox.Delay, Value: "200s"})
	s.url = impatient(t, s.url)
	r := s.process()
	r.askLimit = time.Hour // on a loaded machine the request takes longer; its session coming back is what ends the doubt
	rental, err := s.apply(t.Context(), r, s.order("box"))
	ok(t, err)
	if n := len(s.s.Ledger().Rentals); n != 2 {
		t.Errorf("%d machines were rented: the first never came back", n)
	}
	s.known()
	s.destroy(rental)
}

func TestSandboxCancel(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 900 * time.Millisecond} {
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			s := newStand(t, sandbox.Rule{Route: sandbox.EventCreate, Nth: 1, Fault: sandbox.Delay, Value: "60s"},
				sandbox.Rule{Route: sandbox.EventBoot, Nth: 1, Fault: sandbox.NeverBoots})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			timer := time.AfterFunc(after, cancel)
			defer timer.Stop()
			rental, err := s.apply(ctx, s.process(), s.order("box"))
			if rental != nil || !errors.Is(err, context.Canceled) {
				t.Errorf("Rent returned %v, %v", rental, err)
			}
			if left := s.s.Ledger().Billing; len(left) > 0 {
				t.Errorf("still billing: %v", left)
			}
		})
	}
}

// The service gives up on a machine after 275 s, and ten minutes after it was made calls its session stopped all the same: a
// slow sandbox leaves a loaded computer time between the two.
func TestSandboxMachineThatRefusesToDie(t *testing.T) {
	t.Parallel()
	s := newStandAt(t, speed/4)
	rental, err := s.apply(t.Context(), s.process(), s.order("box"))
	ok(t, err)
	ok(t, s.s.SetFaults(sandbox.Rule{Route: sandbox.EventDestroy, Fault: sandbox.DestroyFails}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := s.process()
	r.service = &gaveUpService{Service: r.service, then: cancel}
	_, err = r.release(ctx, shopper.Session{ID: rental.Session.ID}, &doubt{})
	fails[*NotReleasedError](t, err, rental.Session.ID, fmt.Sprintf("%s an hour", Dollars(rental.Session.PricePerHour)), "Run destroy again")
	if len(s.s.Ledger().Billing) != 1 {
		t.Error("the machine is gone, so nothing was shown")
	}
	ok(t, s.s.SetFaults())
	s.destroy(rental)
}

// gaveUpService calls then when a session has been read whose release the service has given up on.
type gaveUpService struct {
	Service
	gaveUp bool
	then   func()
}

func (g *gaveUpService) Delete(ctx context.Context, id string) error {
	err := g.Service.Delete(ctx, id)
	g.gaveUp = g.gaveUp || err != nil
	return err
}

func (g *gaveUpService) Session(ctx context.Context, id string) (shopper.Session, error) {
	session, err := g.Service.Session(ctx, id)
	if g.gaveUp && err == nil {
		g.then()
	}
	return session, err
}

func TestSandboxExtend(t *testing.T) {
	t.Parallel()
	s := newStand(t)
	r := s.process()
	rental, err := s.apply(t.Context(), r, s.order("box"))
	ok(t, err)
	ok(t, s.s.SetFaults(sandbox.Rule{Route: extendRoute, Nth: 1, Fault: sandbox.LoseAnswerAfter}))
	got, err := r.Extend(t.Context(), Known{ID: rental.Session.ID}, 4)
	if err != nil || got.ReservationHours != 4 {
		t.Errorf("lost after effect: %d hours, %v", got.ReservationHours, err)
	}
	s.allStruck()
	ok(t, s.s.SetFaults(sandbox.Rule{Route: extendRoute, Nth: 1, Fault: sandbox.Status, Value: 429}))
	fails[*ExtendError](t, errOf(r.Extend(t.Context(), Known{ID: rental.Session.ID}, 6)), "reserved for 4")
	s.s.Advance(90 * time.Minute)
	fails[*ExtendError](t, errOf(r.Extend(t.Context(), Known{ID: rental.Session.ID}, 12+3)), "reserved for 4")
	got, err = r.Extend(t.Context(), Known{ID: rental.Session.ID}, 6)
	if err != nil || got.ReservationHours != 6 {
		t.Errorf("at last: %d hours, %v", got.ReservationHours, err)
	}
	s.destroy(rental)
}

// A release of a session that the service has replaced within its POST releases the replacement.
func TestSandboxReplacementOfAutoRetry(t *testing.T) {
	t.Parallel()
	s := newStand(t, sandbox.Rule{Route: sandbox.EventCreate, Nth: 1, Fault: sandbox.OffersGone})
	body := `{"consumer_id":"somebody","offer_id":"vastai-2410055","workload_type":"llm_vllm","reservation_hours":1,
		"auto_retry":true,"retry_scope":"any"}`
	resp, err := http.Post(s.url+"/api/v1/sessions", "application/json", strings.NewReader(body))
	ok(t, err)
	_ = resp.Body.Close()
	r := s.process()
	rows, err := r.service.Sessions(t.Context(), shopper.SessionFilter{ConsumerID: "somebody"})
	ok(t, err)
	parent := slices.IndexFunc(rows, func(row shopper.Session) bool { return row.RetryChildID != "" })
	if parent < 0 || len(rows) != 2 || len(s.s.Ledger().Billing) != 1 {
		t.Fatalf("want a session and its replacement, which bills:\n%v\n%s", rows, s.s.Ledger())
	}
	ok(t, errOf3(r.Release(t.Context(), Known{ID: rows[parent].ID})))
	if ledger := s.s.Ledger(); len(ledger.Billing) > 0 {
		t.Errorf("still billing:\n%s", ledger)
	}
}

// TestSandboxRandomRuns is TestRandomRuns against the sandbox's service and
// machines, with the real client between.
func TestSandboxRandomRuns(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 2))
			s := newStand(t, spoiled(random)...)
			var all sync.WaitGroup
			rentals := make([]*Rental, 3)
			for i := range rentals {
				o := s.order(fmt.Sprintf("box%d", i))
				late := time.Duration(random.IntN(4000)) * time.Millisecond
				all.Go(func() {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if late < time.Second {
						timer := time.AfterFunc(late, cancel)
						defer timer.Stop()
					}
					rentals[i], _ = s.apply(ctx, s.process(), o)
				})
			}
			all.Wait()
			ok(t, s.s.SetFaults())
			for i, rental := range rentals {
				if rental == nil {
					var err error
					rental, err = s.apply(t.Context(), s.process(), s.order(fmt.Sprintf("box%d", i)))
					ok(t, err)
				}
				s.destroy(rental)
			}
			if ledger := s.s.Ledger(); len(ledger.Billing) > 0 {
				t.Errorf("seed %d: still billing:\n%s", seed, ledger)
			}
		})
	}
}

// spoiled are a dozen faults at random.
func spoiled(random *rand.Rand) []sandbox.Rule {
	pick := map[string][]sandbox.Fault{
		postRoute:           {sandbox.LoseAnswerBefore, sandbox.LoseAnswerAfter, sandbox.StatusAfter, sandbox.Truncate, sandbox.NoKey, sandbox.NoID, sandbox.HTML},
		deleteRoute:         {sandbox.LoseAnswerBefore, sandbox.LoseAnswerAfter, sandbox.StatusAfter, sandbox.ClaimSuccess},
		getRoute:            {sandbox.LoseAnswerBefore, sandbox.HTML, sandbox.Status},
		listRoute:           {sandbox.LoseAnswerBefore, sandbox.Truncate, sandbox.Status},
		sandbox.EventCreate: {sandbox.OffersGone, sandbox.ProviderError},
		sandbox.EventBoot:   {sandbox.NeverBoots, sandbox.Vanish, sandbox.RefuseKey},
	}
	var rules []sandbox.Rule
	for _, route := range []string{postRoute, postRoute, deleteRoute, deleteRoute, getRoute, listRoute, sandbox.EventCreate, sandbox.EventBoot} {
		faults := pick[route]
		rules = append(rules, sandbox.Rule{Route: route, Nth: 1 + random.IntN(5), Fault: faults[random.IntN(len(faults))]})
	}
	return rules
}
