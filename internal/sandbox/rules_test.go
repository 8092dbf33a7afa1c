package sandbox

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestRulesThatMeanNothingAreRefused(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	for _, rule := range []Rule{
		{Route: "machine explodes", Fault: Delay},
		{Route: "get /health", Fault: Delay},
		{Route: "GET health", Fault: Delay},
		{Route: "GET /sandbox/ledger", Fault: Delay},
		{Route: "GET /health", Fault: "misspelt"},
		{Route: "GET /health", Fault: NeverBoots},
		{Route: EventBoot, Fault: LoseAnswerAfter},
		{Route: "GET /health", Fault: Delay, Value: "soon"},
		{Route: "GET /health", Fault: Delay, Value: -1.0},
		{Route: "GET /health", Fault: Status, Value: 999},
		{Route: "GET /health", Fault: Status, Value: map[string]any{"statsu": 500}},
		{Route: EventBoot, Fault: LoseSSH, Value: map[string]any{"of": "1m"}},
		{Route: EventContainer, Fault: FailStart, Value: "no such row"},
		{Route: EventCreate, Fault: PriceRaised, Value: "much"},
		{Route: "GET /health", Fault: Delay, Nth: -1},
	} {
		if err := c.s.SetFaults(rule); err == nil {
			t.Errorf("accepted: %+v", rule)
		}
	}
	if rules := c.s.Faults(); len(rules) != 0 {
		t.Errorf("in force: %v", rules)
	}
}

func TestEveryFaultIsShown(t *testing.T) {
	t.Parallel()
	shown := map[Fault]bool{ // those that have a test of their own
		ClosedPort: true, OffersGone: true, NotReady: true, ClaimSuccess: true, PriceRaised: true, ProviderError: true,
		AddressLater: true, ServiceKilled: true,
		DestroyFails: true, DestroySlow: true, RateLimit: true,
	}
	for _, test := range requestFaultTests {
		shown[test.rule.Fault] = true
	}
	for _, test := range machineFaultTests {
		shown[test.rule.Fault] = true
	}
	for _, row := range faultTable {
		if !shown[row.fault] {
			t.Errorf("no test shows %q", row.fault)
		}
		if !row.strikes() {
			t.Errorf("%s: %q does nothing there", row.place, row.fault)
		}
	}
}

// strikes reports whether the row says what its fault does in its place.
func (r faultRow) strikes() bool {
	return map[string]bool{
		anyRoute:       r.before != nil || r.after != nil,
		EventCreate:    r.create != nil,
		EventBoot:      r.early != nil || r.facts != nil || r.strike != nil,
		EventContainer: r.start != nil,
		EventDestroy:   r.destroy != nil,
	}[r.place]
}

func TestRandomFaultsFollowFromTheSeed(t *testing.T) {
	t.Parallel()
	a, b := RandomFaults(7, 100), RandomFaults(7, 100)
	if !reflect.DeepEqual(a, b) {
		t.Error("the same seed made other rules")
	}
	if reflect.DeepEqual(a, RandomFaults(8, 100)) {
		t.Error("another seed made the same rules")
	}
	if err := new(faults).Set(append(a, RandomFaults(11, 2000)...)); err != nil {
		t.Error(err)
	}
}

// TestEveryFaultCanBeAskedForOverHTTP: the same rules as from Go, with their values.
func TestEveryFaultCanBeAskedForOverHTTP(t *testing.T) {
	t.Parallel()
	c := frozen(t, Options{})
	var rules []Rule
	for _, row := range faultTable {
		rule := Rule{Route: row.place, Nth: 7, Fault: row.fault}
		if row.place == anyRoute {
			rule.Route = "GET /api/v1/inventory"
		}
		if row.fault == FailStart {
			rule.Value = "out_of_memory"
		}
		rules = append(rules, rule)
	}
	for _, test := range requestFaultTests {
		rules = append(rules, withRoute(test.rule, "POST /api/v1/sessions"))
	}
	for _, test := range machineFaultTests {
		rules = append(rules, withRoute(test.rule, EventBoot))
	}
	data, err := json.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	if r := <-c.send(t.Context(), http.MethodPut, "/sandbox/faults", string(data)); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.text)
	}
	for i, count := range c.s.Faults() {
		want, _ := json.Marshal(rules[i])
		if got, _ := json.Marshal(count.Rule); !bytes.Equal(got, want) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	help := c.get("/sandbox/").text
	for _, rule := range rules {
		if !strings.Contains(help, string(rule.Fault)) {
			t.Errorf("/sandbox/ doesn't name %s", rule.Fault)
		}
	}
}

func withRoute(rule Rule, route string) Rule {
	if rule.Route == "" {
		rule.Route = route
	}
	return rule
}
