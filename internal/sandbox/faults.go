package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// Fault names one way to misbehave.
type Fault string

// Faults of a request. Durations are service time. A fault marked "after" strikes
// when the request has taken effect.
const (
	// LoseAnswerBefore closes the connection before the request takes effect.
	LoseAnswerBefore Fault = "lose_answer_before"
	// LoseAnswerAfter closes it after the request took effect, with no answer.
	LoseAnswerAfter Fault = "lose_answer_after"
	// Delay waits for the value before the request takes effect; default 30s.
	Delay Fault = "delay"
	// DelayAfter waits for the value between the effect and the answer; default 30s.
	DelayAfter Fault = "delay_after"
	// Status answers with a status instead. Value: the status, or an object of
	// "status" (default 500), "retry_after", "error", "after" (default false: without
	// any effect). "retry_after" is a number of seconds, "date" or "date:30s" for an
	// HTTP date, "nonsense", "day", or the header's very text.
	Status Fault = "status"
	// StatusAfter is Status with "after": true; default status 502.
	StatusAfter Fault = "status_after"
	// Truncate cuts the connection in the middle of the answer (after). Value: the
	// number of bytes that arrive; default half of them.
	Truncate Fault = "truncate"
	// InvalidJSON answers a complete body that isn't JSON (after).
	InvalidJSON Fault = "invalid_json"
	// HTML answers a proxy's HTML page. Value: like Status; default 502 and after.
	HTML Fault = "html"
	// SlowDrip spreads the answer's bytes over the value; default 30s (after).
	SlowDrip Fault = "slow_drip"
	// ClosedPort cuts the connection and refuses all others for the value, which
	// is service time; default 60s. Nothing takes effect.
	ClosedPort Fault = "closed_port"
	// NoKey leaves ssh_private_key out of an answer (after).
	NoKey Fault = "no_key"
	// NoID leaves every id and session_id out of an answer (after).
	NoID Fault = "no_id"
	// NotReady makes /health and /ready say what they say during the start-up sweep.
	NotReady Fault = "not_ready"
	// ClaimSuccess answers DELETE or done with 200 and does nothing; on "machine
	// destroy" the cloud says that the machine is gone while it runs and bills on.
	ClaimSuccess Fault = "claim_success"
	// RateLimit lets the value's number of requests through each second of real time
	// (default 10), and answers the others 429 with Retry-After: 1.
	RateLimit Fault = "rate_limit"
	// OffersGone empties an inventory listing; on "machine create" the offer turns
	// out to be gone (stale_inventory). It stays gone for the value; default for good.
	OffersGone Fault = "offers_gone"
)

// Events of a machine, to be used as a rule's route.
const (
	EventCreate    = "machine create"  // the service asks a cloud for a machine
	EventBoot      = "machine boot"    // the machine boots
	EventDestroy   = "machine destroy" // the service asks a cloud to destroy it
	EventContainer = "container start" // a vLLM server starts on a machine, in a container or not
)

// Faults of a machine's events.
const (
	// PriceRaised makes the rental cost more than was offered. Only the POST's answer
	// and the ledger have the price paid. Value: the factor; default 1.5. (create)
	PriceRaised Fault = "price_raised"
	// ServiceKilled kills the service while it waits for the cloud, and starts it again
	// after the value; default 10s. Connections are cut and refused meanwhile. The
	// session is failed, without an instance; the machine is made, and bills. (create)
	ServiceKilled Fault = "service_killed"
	// AddressLater leaves ssh_host out of the answer, with 22 as ssh_port, until the
	// service asks the cloud again, some seconds later: as Vast.ai and TensorDock do
	// it, though not the deployment that was recorded. (create)
	AddressLater Fault = "address_later"
	// ProviderError makes the cloud refuse for another reason than a stale offer.
	// Value: its words. (create)
	ProviderError Fault = "provider_error"
	// NeverBoots makes a machine that bills and never answers. (boot)
	NeverBoots Fault = "never_boots"
	// BootsLate adds the value to the time to boot; default 5m. (boot)
	BootsLate Fault = "boots_late"
	// LoseSSH makes SSH unreachable for the value (default 1m), from when the machine
	// has booted plus the object form's "after". (boot)
	LoseSSH Fault = "lose_ssh"
	// Unresponsive makes the machine accept connections and say nothing, on old ones
	// too. Value: as LoseSSH. (boot)
	Unresponsive Fault = "unresponsive"
	// ChangeHostKey gives the machine another host key. Value: when, counted from
	// boot; default when it reads running. (boot)
	ChangeHostKey Fault = "change_host_key"
	// ChangeAddress moves SSH to another port. Value: as ChangeHostKey. (boot)
	ChangeAddress Fault = "change_address"
	// RefuseKey makes the machine refuse every key. Value: from when; default at once. (boot)
	RefuseKey Fault = "refuse_key"
	// Vanish takes the machine away, as a cloud does with an interruptible one. Value:
	// when, counted from boot; default at boot. (boot)
	Vanish Fault = "vanish"
	// DiskFull leaves no space on the machine. (boot)
	DiskFull Fault = "disk_full"
	// DriverBuilding keeps nvidia-smi failing for the value; default 10m. (boot)
	DriverBuilding Fault = "driver_building"
	// DriverMissing is a machine without a driver. (boot)
	DriverMissing Fault = "driver_missing"
	// DriverVersion is a machine with another driver. Value: default "550.127.05". (boot)
	DriverVersion Fault = "driver_version"
	// MemoryHeld makes somebody else hold GPU memory. Value: MiB per GPU; default 20000. (boot)
	MemoryHeld Fault = "memory_held"
	// NotAvailable makes nvidia-smi read [N/A] where it can. (boot)
	NotAvailable Fault = "not_available"
	// NoDocker is a VM without a container engine. (boot)
	NoDocker Fault = "no_docker"
	// NoGPURuntime is an engine without NVIDIA's container toolkit. (boot)
	NoGPURuntime Fault = "no_gpu_runtime"
	// EngineHangs makes the container engine accept requests and not answer them.
	// Value: for how long; default 5m. (boot)
	EngineHangs Fault = "engine_hangs"
	// PullFails makes every image pull break off half-way. Value: the engine's words. (boot)
	PullFails Fault = "pull_fails"
	// SlowPull makes every image pull take the value; default 5m. (boot)
	SlowPull Fault = "slow_pull"
	// FailStart makes vLLM's start fail. Value: a name of vllmserver.Failures, such as
	// "out_of_memory", or of a recording, such as "truncated-weights". (container start)
	FailStart Fault = "fail_start"
	// ExitAfter ends vLLM after the value, counted from ready; default 30s. (container start)
	ExitAfter Fault = "exit_after"
	// RestartLoop makes every start end before the model answers. (container start)
	RestartLoop Fault = "restart_loop"
	// Hang makes the engine hang while /health stays 200. (container start)
	Hang Fault = "hang"
	// DestroyFails makes the cloud answer an error and keep the machine. A DELETE asks
	// ten times; the clean-up of a failed session asks once and believes it. (destroy)
	DestroyFails Fault = "destroy_fails"
	// DestroySlow makes the machine run on for the value after the cloud was asked;
	// default 3m. (destroy)
	DestroySlow Fault = "destroy_slow"
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

// RuleCount is a rule and what became of it.
type RuleCount struct {
	Rule
	Matched int `json:"matched"` // calls that the rule was about
	Struck  int `json:"struck"`  // calls that it spoiled
}

// LoadFaults reads rules from a JSON file: a list, as PUT /sandbox/faults takes it.
func LoadFaults(path string) ([]Rule, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the faults: %w", err)
	}
	// A misspelt member would make a rule that never strikes, and a test that
	// passes for nothing.
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	var rules []Rule
	if err := decoder.Decode(&rules); err != nil {
		return nil, fmt.Errorf("reading the faults of %s: %w", path, err)
	}
	return rules, nil
}

// faults holds the rules in force.
type faults struct {
	mu    sync.Mutex
	rules []*RuleCount
}

// subject is what a call or an event concerns.
type subject struct{ offer, consumer string }

func (f *faults) Set(rules []Rule) error {
	counts := make([]*RuleCount, 0, len(rules))
	for i, r := range rules {
		if err := r.validate(); err != nil {
			return fmt.Errorf("rule %d: %w", i, err)
		}
		counts = append(counts, &RuleCount{Rule: r})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = counts
	return nil
}

func (f *faults) List() []RuleCount {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]RuleCount, 0, len(f.rules))
	for _, r := range f.rules {
		list = append(list, *r)
	}
	return list
}

// selective reports whether any rule for the call asks what the call is about.
func (f *faults) selective(matches func(route string) bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.rules, func(r *RuleCount) bool {
		return (r.Offer != "" || r.Consumer != "") && matches(r.Route)
	})
}

// Strike counts a call and returns the rules that strike it.
func (f *faults) Strike(matches func(route string) bool, about subject) []Rule {
	f.mu.Lock()
	defer f.mu.Unlock()
	var struck []Rule
	for _, r := range f.rules {
		if !matches(r.Route) || !r.concerns(about) {
			continue
		}
		r.Matched++
		if r.Nth == 0 || r.Matched >= r.Nth && r.Matched < r.Nth+max(r.Times, 1) {
			r.Struck++
			struck = append(struck, r.Rule)
		}
	}
	return struck
}

// Event is Strike for a machine's event.
func (f *faults) Event(event string, about subject) []Rule {
	return f.Strike(func(route string) bool { return route == event }, about)
}

func (r Rule) concerns(about subject) bool {
	return (r.Offer == "" || r.Offer == about.offer) && strings.HasPrefix(about.consumer, r.Consumer)
}

var requestFaults = []Fault{
	LoseAnswerBefore, LoseAnswerAfter, Delay, DelayAfter, Status, StatusAfter, Truncate, InvalidJSON, HTML,
	SlowDrip, ClosedPort, NoKey, NoID, NotReady, ClaimSuccess, RateLimit, OffersGone,
}

var bootFaults = []Fault{
	NeverBoots, BootsLate, LoseSSH, Unresponsive, EngineHangs, PullFails, SlowPull, ChangeHostKey, ChangeAddress,
	RefuseKey, Vanish, DiskFull, DriverBuilding,
	DriverMissing, DriverVersion, MemoryHeld, NotAvailable, NoDocker, NoGPURuntime,
}

var eventFaults = map[string][]Fault{
	EventCreate:    {Delay, OffersGone, PriceRaised, ServiceKilled, AddressLater, ProviderError},
	EventBoot:      bootFaults,
	EventDestroy:   {DestroyFails, ClaimSuccess, DestroySlow},
	EventContainer: {FailStart, ExitAfter, RestartLoop, Hang},
}

func (r Rule) validate() error {
	allowed, event := eventFaults[r.Route]
	if !event {
		if err := validRoute(r.Route); err != nil {
			return err
		}
		allowed = requestFaults
	}
	if !slices.Contains(allowed, r.Fault) {
		return fmt.Errorf("%q: no fault %q there; it has %v", r.Route, r.Fault, allowed)
	}
	if r.Nth < 0 || r.Times < 0 {
		return fmt.Errorf("%q: nth and times can't be negative", r.Route)
	}
	return r.validValue()
}

func validRoute(route string) error {
	method, path, ok := strings.Cut(route, " ")
	switch {
	case !ok || (path != "*" && !strings.HasPrefix(path, "/")):
		return fmt.Errorf("route %q is neither a method and a path nor one of %q, %q, %q, %q",
			route, EventCreate, EventBoot, EventDestroy, EventContainer)
	case method != strings.ToUpper(method):
		return fmt.Errorf("route %q: methods are in capitals", route)
	case strings.HasPrefix(path, "/sandbox"):
		return fmt.Errorf("route %q: the sandbox's own routes have no faults", route)
	}
	return nil
}

func (r Rule) validValue() error {
	var err error
	switch r.Fault {
	case Delay, DelayAfter, SlowDrip, ClosedPort, OffersGone, BootsLate, DriverBuilding, ExitAfter, DestroySlow,
		ChangeHostKey, ChangeAddress, RefuseKey, Vanish, EngineHangs, SlowPull,
		ServiceKilled:
		_, err = r.duration(0)
	case LoseSSH, Unresponsive:
		_, err = r.outage()
	case Status, StatusAfter, HTML:
		_, err = r.answer()
	case PriceRaised, MemoryHeld, Truncate, RateLimit:
		_, err = r.number(1)
	case FailStart:
		name, _ := r.Value.(string)
		if _, known := vllmserver.FindFailure(name); !known {
			err = fmt.Errorf("value %v isn't the name of a failure", r.Value)
		}
	default: // the others have no value, or any
	}
	if err != nil {
		return fmt.Errorf("%q, fault %q: %w", r.Route, r.Fault, err)
	}
	return nil
}

// duration reads the rule's value as one.
func (r Rule) duration(otherwise time.Duration) (time.Duration, error) {
	if r.Value == nil {
		return otherwise, nil
	}
	return asDuration(r.Value)
}

// length is duration where the value is known to be good.
func (r Rule) length(otherwise time.Duration) time.Duration {
	d, err := r.duration(otherwise)
	if err != nil {
		return otherwise
	}
	return d
}

func (r Rule) number(otherwise float64) (float64, error) {
	switch v := r.Value.(type) {
	case nil:
		return otherwise, nil
	case int:
		return float64(v), nil
	case float64:
		return v, nil
	default:
		return otherwise, fmt.Errorf("value %v isn't a number", r.Value)
	}
}

func (r Rule) amount(otherwise float64) float64 {
	n, err := r.number(otherwise)
	if err != nil {
		return otherwise
	}
	return n
}

// outage is when SSH is lost, counted from boot, and for how long.
type outage struct{ After, For Duration }

func (r Rule) outage() (outage, error) {
	o := outage{For: Duration(time.Minute)}
	if _, isObject := r.Value.(map[string]any); !isObject {
		d, err := r.duration(time.Duration(o.For))
		o.For = Duration(d)
		return o, err
	}
	err := r.object(&o)
	return o, err
}

// answer is what Status and HTML answer.
type answer struct {
	Status     int    `json:"status"`
	RetryAfter any    `json:"retry_after"`
	Error      string `json:"error"`
	After      *bool  `json:"after"`
}

func (r Rule) answer() (answer, error) {
	a := answer{Status: 500}
	if r.Fault != Status {
		after := true
		a = answer{Status: 502, After: &after}
	}
	switch v := r.Value.(type) {
	case nil:
	case int:
		a.Status = v
	case float64:
		a.Status = int(v)
	default:
		if err := r.object(&a); err != nil {
			return a, err
		}
	}
	if a.Status < 200 || a.Status > 599 {
		return a, fmt.Errorf("status %d", a.Status)
	}
	return a, nil
}

func (r Rule) object(into any) error {
	data, err := json.Marshal(r.Value)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(strings.NewReader(string(data)))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}
