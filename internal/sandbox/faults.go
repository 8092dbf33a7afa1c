package sandbox

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// Fault names one way to misbehave. faultTable and the help at /sandbox/ say what each does, where, and what its value means.
type Fault string

// Faults of a request to the service.
const (
	LoseAnswerBefore Fault = "lose_answer_before"
	LoseAnswerAfter  Fault = "lose_answer_after"
	Delay            Fault = "delay"
	DelayAfter       Fault = "delay_after"
	Status           Fault = "status"
	StatusAfter      Fault = "status_after"
	RateLimit        Fault = "rate_limit"
	Truncate         Fault = "truncate"
	InvalidJSON      Fault = "invalid_json"
	HTML             Fault = "html"
	SlowDrip         Fault = "slow_drip"
	ClosedPort       Fault = "closed_port"
	NoKey            Fault = "no_key"
	NoID             Fault = "no_id"
	NotReady         Fault = "not_ready"
	ClaimSuccess     Fault = "claim_success"
	OffersGone       Fault = "offers_gone"
)

// Faults of a machine's events, in addition to some of those above.
const (
	PriceRaised    Fault = "price_raised"
	ServiceKilled  Fault = "service_killed"
	ProviderError  Fault = "provider_error"
	AddressLater   Fault = "address_later"
	NeverBoots     Fault = "never_boots"
	BootsLate      Fault = "boots_late"
	LoseSSH        Fault = "lose_ssh"
	Unresponsive   Fault = "unresponsive"
	ChangeHostKey  Fault = "change_host_key"
	ChangeAddress  Fault = "change_address"
	RefuseKey      Fault = "refuse_key"
	Vanish         Fault = "vanish"
	DiskFull       Fault = "disk_full"
	DriverBuilding Fault = "driver_building"
	DriverMissing  Fault = "driver_missing"
	DriverVersion  Fault = "driver_version"
	MemoryHeld     Fault = "memory_held"
	NotAvailable   Fault = "not_available"
	NoDocker       Fault = "no_docker"
	NoGPURuntime   Fault = "no_gpu_runtime"
	EngineHangs    Fault = "engine_hangs"
	PullFails      Fault = "pull_fails"
	SlowPull       Fault = "slow_pull"
	FailStart      Fault = "fail_start"
	ExitAfter      Fault = "exit_after"
	RestartLoop    Fault = "restart_loop"
	Hang           Fault = "hang"
	DestroyFails   Fault = "destroy_fails"
	DestroySlow    Fault = "destroy_slow"
)

// Events of a machine, for Rule.Route.
const (
	EventCreate    = "machine create"  // the service asks a cloud for a machine
	EventBoot      = "machine boot"    // the machine boots
	EventContainer = "container start" // a vLLM server starts on a machine, in a container or not
	EventDestroy   = "machine destroy" // the service asks a cloud to destroy it
)

// Rule says when a fault strikes.
type Rule struct {
	// Route is a method and a path pattern, such as "GET /api/v1/sessions/{id}" (either
	// part may be "*"), or a machine's event, such as "machine boot".
	Route string `json:"route"`
	// Nth counts the matching calls from 1; 0 means all of them.
	Nth int `json:"nth"`
	// Times makes the fault strike that many calls in a row from the Nth on; 0 = 1.
	Times int   `json:"times,omitempty"`
	Fault Fault `json:"fault"`
	Value any   `json:"value,omitempty"`
	// Offer and Consumer restrict the rule to calls and machines that concern this
	// offer, or a consumer whose id starts with this.
	Offer    string `json:"offer,omitempty"`
	Consumer string `json:"consumer,omitempty"`
}

// RuleCount is a rule, and how often it applied.
type RuleCount struct {
	Rule
	Matched int `json:"matched"` // calls that matched its route, offer and consumer
	Struck  int `json:"struck"`  // calls that its fault struck
}

// LoadFaults reads rules from a JSON file: a list, as PUT /sandbox/faults takes it.
func LoadFaults(path string) ([]Rule, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the faults: %w", err)
	}
	var rules []Rule
	// A misspelled member would make a rule that never strikes, and a test that proves
	// nothing.
	if err := facts.Decode(data, &rules); err != nil {
		return nil, fmt.Errorf("reading the faults of %s: %w", path, err)
	}
	return rules, nil
}

// faults holds the rules in force.
type faults struct {
	mu    sync.Mutex
	rules []*ruleInForce
}

type ruleInForce struct {
	RuleCount
	strike
}

// strike is a fault with its value.
type strike struct {
	row *faultRow
	v   value
}

// subject is the offer and the consumer that a call or an event concerns.
type subject struct{ offer, consumer string }

func (f *faults) Set(rules []Rule) error {
	inForce := make([]*ruleInForce, 0, len(rules))
	for i, r := range rules {
		s, err := r.read()
		if err != nil {
			return fmt.Errorf("rule %d: %w", i, err)
		}
		inForce = append(inForce, &ruleInForce{RuleCount{Rule: r}, s})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = inForce
	return nil
}

func (f *faults) List() []RuleCount {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]RuleCount, 0, len(f.rules))
	for _, r := range f.rules {
		list = append(list, r.RuleCount)
	}
	return list
}

// selective reports whether a rule for the call names an offer or a consumer.
func (f *faults) selective(matches func(route string) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.rules, func(r *ruleInForce) bool {
		return (r.Offer != "" || r.Consumer != "") && matches(r.Route)
	})
}

// Strike counts a call and returns the faults that strike it.
func (f *faults) Strike(matches func(route string) bool, about subject) []strike {
	f.mu.Lock()
	defer f.mu.Unlock()
	var struck []strike
	for _, r := range f.rules {
		if !matches(r.Route) || !r.concerns(about) {
			continue
		}
		r.Matched++
		if r.Nth == 0 || r.Matched >= r.Nth && r.Matched < r.Nth+max(r.Times, 1) {
			r.Struck++
			struck = append(struck, r.strike)
		}
	}
	return struck
}

// Event is Strike for a machine's event.
func (f *faults) Event(event string, about subject) []strike {
	return f.Strike(func(route string) bool { return route == event }, about)
}

func (r Rule) concerns(about subject) bool {
	return (r.Offer == "" || r.Offer == about.offer) && strings.HasPrefix(about.consumer, r.Consumer)
}

// read finds the rule's row and reads its value. The error says what is wrong with the rule.
func (r Rule) read() (strike, error) {
	place := r.Route
	if !slices.ContainsFunc(places, func(p placeOfFaults) bool { return p.event == place }) || place == anyRoute {
		if err := validRoute(r.Route); err != nil {
			return strike{}, err
		}
		place = anyRoute
	}
	row, known := findFault(place, r.Fault)
	switch {
	case !known:
		return strike{}, fmt.Errorf("%q: no fault %q there; it has %v", r.Route, r.Fault, faultsAt(place))
	case r.Nth < 0 || r.Times < 0:
		return strike{}, fmt.Errorf("%q: nth and times can't be negative", r.Route)
	}
	v, err := row.value.read(r.Value)
	if err != nil {
		return strike{}, fmt.Errorf("%q, fault %q: %w", r.Route, r.Fault, err)
	}
	return strike{row, v}, nil
}

func validRoute(route string) error {
	method, path, ok := strings.Cut(route, " ")
	switch {
	case !ok || (path != "*" && !strings.HasPrefix(path, "/")):
		return fmt.Errorf("route %q is neither a method and a path nor one of %q, %q, %q, %q",
			route, EventCreate, EventBoot, EventContainer, EventDestroy)
	case method != strings.ToUpper(method):
		return fmt.Errorf("route %q: methods are in capitals", route)
	case strings.HasPrefix(path, "/sandbox"):
		return fmt.Errorf("route %q: the sandbox's own routes have no faults", route)
	}
	return nil
}
