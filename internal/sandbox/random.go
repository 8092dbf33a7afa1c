package sandbox

import "math/rand/v2"

// RandomFaults makes count rules of a seed, the same ones every time. They are
// faults that a careful client survives without losing a machine. DestroyFails
// isn't among them: where it strikes the service's clean-up of a failed session,
// the real service takes the machine for gone and no client can tell.
func RandomFaults(seed int64, count int) []Rule {
	random := rand.New(rand.NewPCG(uint64(seed), 3))
	rules := make([]Rule, 0, max(count, 0))
	for range count {
		of := randomFaults[random.IntN(len(randomFaults))]
		rule := Rule{
			Route: of.routes[random.IntN(len(of.routes))], Nth: 1 + random.IntN(40), Times: 1 + random.IntN(3),
			Fault: of.fault,
		}
		if len(of.values) > 0 {
			rule.Value = of.values[random.IntN(len(of.values))]
		}
		rules = append(rules, rule)
	}
	return rules
}

const (
	routePost   = "POST /api/v1/sessions"
	routeDelete = "DELETE /api/v1/sessions/{id}"
	routeGet    = "GET /api/v1/sessions/{id}"
	routeList   = "GET /api/v1/sessions"
	routeOffers = "GET /api/v1/inventory"
)

var (
	anyRoute   = []string{routePost, routeDelete, routeGet, routeList, routeOffers}
	readRoutes = []string{routeGet, routeList, routeOffers}
)

// randomFaults is what RandomFaults draws from.
var randomFaults = []struct {
	fault  Fault
	routes []string
	values []any
}{
	{LoseAnswerBefore, anyRoute, nil},
	{LoseAnswerAfter, anyRoute, nil},
	{Delay, anyRoute, []any{"1s", "20s", "1m"}},
	{DelayAfter, anyRoute, []any{"1s", "20s"}},
	{Status, anyRoute, []any{500, 502, 503, 504}},
	{Status, anyRoute, []any{
		map[string]any{"status": 429, "retry_after": 1},
		map[string]any{"status": 429, "retry_after": "date:1s"},
		map[string]any{"status": 429, "retry_after": "nonsense"},
		map[string]any{"status": 503, "retry_after": 1},
	}},
	{StatusAfter, []string{routePost, routeDelete}, []any{500, 502, 504}},
	{Truncate, anyRoute, nil},
	{InvalidJSON, anyRoute, nil},
	{HTML, anyRoute, []any{502, 504}},
	{SlowDrip, readRoutes, []any{"5s", "20s"}},
	{ClosedPort, readRoutes, []any{"5s", "15s"}},
	{NoKey, []string{routePost}, nil},
	{NoID, []string{routePost}, nil},
	{ClaimSuccess, []string{routeDelete}, nil},
	{OffersGone, []string{EventCreate}, []any{"2m"}},
	{PriceRaised, []string{EventCreate}, []any{1.1, 2.0}},
	{AddressLater, []string{EventCreate}, nil},
	{ProviderError, []string{EventCreate}, []any{"rate limit exceeded", "invalid image", "timeout waiting for the task"}},
	{Delay, []string{EventCreate}, []any{"1m", "4m"}},
	{NeverBoots, []string{EventBoot}, nil},
	{BootsLate, []string{EventBoot}, []any{"1m", "5m"}},
	{RefuseKey, []string{EventBoot}, nil},
	{LoseSSH, []string{EventBoot}, []any{"20s", "2m"}},
	{Vanish, []string{EventBoot}, []any{"0s", "1m"}},
	{DestroySlow, []string{EventDestroy}, []any{"20s", "2m"}},
}
