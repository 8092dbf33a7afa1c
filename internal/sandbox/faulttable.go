package sandbox

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// faultRow describes one fault at one place. Help, validation and random rules are made
// from it. To add a fault, add a row, and a constant for its name.
type faultRow struct {
	place string // anyRoute or an event
	fault Fault
	value valueKind
	help  string
	// random are the values that RandomFaults chooses from; nil = it doesn't use the fault.
	// routes are its routes; nil = the event.
	random []any
	routes []string

	// What the fault does, at one or two of these points.

	// before and after the request takes effect; they return true if they have answered it.
	before, after func(x *exchange, v value) bool
	// create changes the terms of a rental.
	create func(c *cloud, t *terms, v value)
	// early is called when a machine begins to boot.
	early func(c *cloud, inst *instance, b *booting, v value)
	// facts changes a machine's facts, before its boot, which takes boot, or while it runs.
	facts func(c *cloud, f *machinefs.Facts, boot time.Duration, v value)
	// strike is called once a machine has booted, or when Sandbox.Strike asks for it. when
	// is how long after the boot; nil = at once.
	strike func(c *cloud, inst *instance, v value) error
	when   func(v value) time.Duration
	// start changes how vLLM starts.
	start func(s *machinefs.VLLM, v value)
	// destroy is the cloud's answer to an order to destroy.
	destroy func(c *cloud, inst *instance, by string, v value) error
}

// anyRoute is the place of faults that strike requests.
const anyRoute = "any route"

type placeOfFaults struct{ event, title string }

// places are where faults strike, in the order of the help.
var places = []placeOfFaults{
	{anyRoute, "A route of the service"},
	{EventCreate, `"machine create": the service asks a cloud for a machine`},
	{EventBoot, `"machine boot": the machine boots`},
	{EventContainer, `"container start": vLLM starts, in a container or as a process`},
	{EventDestroy, `"machine destroy": the service asks a cloud to destroy the machine`},
}

func findFault(place string, fault Fault) (*faultRow, bool) {
	i := slices.IndexFunc(faultTable, func(r faultRow) bool { return r.place == place && r.fault == fault })
	if i < 0 {
		return nil, false
	}
	return &faultTable[i], true
}

func faultsAt(place string) []Fault {
	var names []Fault
	for _, row := range faultTable {
		if row.place == place {
			names = append(names, row.fault)
		}
	}
	return names
}

const (
	routePost   = "POST /api/v1/sessions"
	routeDelete = "DELETE /api/v1/sessions/{id}"
)

var (
	readRoutes = []string{"GET /api/v1/sessions/{id}", "GET /api/v1/sessions", "GET /api/v1/inventory"}
	allRoutes  = append([]string{routePost, routeDelete}, readRoutes...)
)

// noValue is faultRow.random of a fault without a value.
var noValue = []any{nil}

// whenRunning is how long after its boot a machine's session is certainly running.
const whenRunning = 3 * time.Minute

// byLength and byOutage are values of faultRow.when, by the rule's value.
func byLength(v value) time.Duration { return v.length }
func byOutage(v value) time.Duration { return time.Duration(v.outage.After) }

var faultTable = []faultRow{
	{
		place: anyRoute, fault: LoseAnswerBefore, help: "close the connection before the request takes effect",
		random: noValue, routes: allRoutes, before: func(x *exchange, _ value) bool { return cut(x.w) },
	},
	{
		place: anyRoute, fault: LoseAnswerAfter, help: "close the connection after the request has taken effect",
		random: noValue, routes: allRoutes, after: func(x *exchange, _ value) bool { return cut(x.w) },
	},
	{
		place: anyRoute, fault: Delay, value: lasts(30 * time.Second), help: "wait before the request takes effect",
		random: []any{"1s", "20s", "1m"}, routes: allRoutes,
		before: func(x *exchange, v value) bool {
			// An error means that the client hung up before its request arrived.
			return x.s.clock.Sleep(x.r.Context(), v.length) != nil && cut(x.w)
		},
	},
	{
		place: anyRoute, fault: DelayAfter, value: lasts(30 * time.Second), help: "wait between the effect and the answer",
		random: []any{"1s", "20s"}, routes: allRoutes,
		after: func(x *exchange, v value) bool { return x.s.clock.Sleep(x.s.life, v.length) != nil },
	},
	{
		place: anyRoute, fault: Status,
		value: answers(answer{Status: 500}, `a status, or {"status", "retry_after", "error", "after"}, where
                      retry_after is seconds, "date:30s", "nonsense", "day" or the header's text, and after
                      lets the request take effect; by default 500`),
		help: "answer with this status; the request takes no effect",
		random: []any{
			500, 502, 503, 504,
			map[string]any{"status": 429, "retry_after": 1},
			map[string]any{"status": 429, "retry_after": "date:1s"},
			map[string]any{"status": 429, "retry_after": "nonsense"},
			map[string]any{"status": 503, "retry_after": 1},
		},
		routes: allRoutes,
		before: func(x *exchange, v value) bool { return !v.answer.After && x.instead(v.answer) },
		after:  func(x *exchange, v value) bool { return x.instead(v.answer) },
	},
	{
		place: anyRoute, fault: StatusAfter, value: answers(answer{Status: 502, After: true}, "as for status; by default 502"),
		help:   "answer with this status after the request has taken effect",
		random: []any{500, 502, 504}, routes: []string{routePost, routeDelete},
		after: func(x *exchange, v value) bool { return x.instead(v.answer) },
	},
	{
		place: anyRoute, fault: RateLimit, value: number(10, "requests"), help: "answer 429 to further requests in the same second of real time",
		before: func(x *exchange, v value) bool {
			return !x.s.limit.allow(v.number, time.Now()) && x.instead(answer{Status: 429, RetryAfter: 1, Error: "rate limit exceeded"})
		},
	},
	{
		place: anyRoute, fault: Truncate, value: number(-1, "bytes that arrive; by default half"), help: "cut the answer off",
		random: noValue, routes: allRoutes, after: func(x *exchange, v value) bool { return x.cutAfter(int(v.number)) },
	},
	{
		place: anyRoute, fault: InvalidJSON, help: "send a complete answer that isn't JSON", random: noValue, routes: allRoutes,
		after: (*exchange).brokenJSON,
	},
	{
		place: anyRoute, fault: HTML, value: answers(answer{Status: 502, After: true}, "as for status; by default 502 after the effect"),
		help: "answer with the error page of a proxy", random: []any{502, 504}, routes: allRoutes,
		before: func(x *exchange, v value) bool { return !v.answer.After && x.page(v.answer) },
		after:  func(x *exchange, v value) bool { return x.page(v.answer) },
	},
	{
		place: anyRoute, fault: SlowDrip, value: lasts(30 * time.Second), help: "spread the bytes of the answer over some time",
		random: []any{"5s", "20s"}, routes: readRoutes, after: (*exchange).drip,
	},
	{
		place: anyRoute, fault: ClosedPort, value: lasts(time.Minute), help: "refuse all connections for a while",
		random: []any{"5s", "15s"}, routes: readRoutes,
		before: func(x *exchange, v value) bool {
			x.s.closePort(v.length)
			return cut(x.w)
		},
	},
	{
		place: anyRoute, fault: NoKey, help: "leave ssh_private_key out of the answer",
		random: noValue, routes: []string{routePost},
		after: func(x *exchange, _ value) bool { return x.remove("ssh_private_key") },
	},
	{
		place: anyRoute, fault: NoID, help: "leave every id and session_id out of the answer",
		random: noValue, routes: []string{routePost},
		after: func(x *exchange, _ value) bool { return x.remove("id", "session_id") },
	},
	{
		place: anyRoute, fault: NotReady, help: "answer as /health and /ready do during the start-up sweep",
		before: (*exchange).notReady,
	},
	{
		place: anyRoute, fault: ClaimSuccess, help: "do nothing, and answer 200, for a DELETE or done",
		random: noValue, routes: []string{routeDelete}, before: (*exchange).claimSuccess,
	},
	{
		place: anyRoute, fault: OffersGone, value: moment(0, ""), help: "list no offers",
		before: func(x *exchange, _ value) bool {
			return writeJSON(x.w, http.StatusOK, map[string]any{"offers": []any{}, "count": 0, "total": 0}) == nil
		},
	},
	{
		place: EventCreate, fault: OffersGone, value: moment(0, "for how long; by default for good"), help: "the offer is gone (stale_inventory)",
		random: []any{"2m"},
		create: func(c *cloud, t *terms, v value) {
			t.refusal = errStale
			c.takeAway(t.offer, v.length)
		},
	},
	{
		place: EventCreate, fault: PriceRaised, value: number(1.5, "factor"), random: []any{1.1, 2.0},
		help:   "the machine costs more than was offered; only the answer to the POST and the ledger say so",
		create: func(_ *cloud, t *terms, v value) { t.factor = v.number },
	},
	{
		place: EventCreate, fault: ServiceKilled, value: moment(10*time.Second, "for how long; by default 10s"),
		help:   "the service is killed while it waits; the session has failed, and the machine is made all the same",
		create: func(_ *cloud, t *terms, v value) { t.killed, t.down = true, v.length },
	},
	{
		place: EventCreate, fault: ProviderError, value: words(errCloud.Error(), "its message"), help: "the cloud refuses",
		random: []any{"rate limit exceeded", "invalid image", "timeout waiting for the task"},
		create: func(_ *cloud, t *terms, v value) { t.refusal = cloudError(v.text) },
	},
	{ // as Vast.ai and TensorDock do it, though not the deployment that was recorded
		place: EventCreate, fault: AddressLater, help: "the session has no ssh_host, and port 22, until the service asks the cloud again",
		random: noValue, create: func(_ *cloud, t *terms, _ value) { t.addressLater = true },
	},
	{
		place: EventCreate, fault: Delay, value: lasts(30 * time.Second), help: "the cloud answers late",
		random: []any{"1m", "4m"}, create: func(_ *cloud, t *terms, v value) { t.wait = v.length },
	},
	{
		place: EventBoot, fault: NeverBoots, help: "the machine bills and never answers", random: noValue,
		early:  func(_ *cloud, _ *instance, b *booting, _ value) { b.never = true },
		strike: func(_ *cloud, inst *instance, _ value) error { return inst.host.StopListening() },
	},
	{
		place: EventBoot, fault: BootsLate, value: lasts(5 * time.Minute), help: "the boot takes this much longer",
		random: []any{"1m", "5m"}, early: func(c *cloud, inst *instance, b *booting, v value) {
			b.wait += v.length
			c.driverLater(inst, v.length)
		},
	},
	{
		place: EventBoot, fault: LoseSSH, value: outageFor(time.Minute, `for how long, or {"for", "after"}; by default 1m`), help: "SSH refuses connections and cuts the existing ones",
		random: []any{"20s", "2m"}, strike: (*cloud).loseSSH, when: byOutage,
	},
	{
		place: EventBoot, fault: Unresponsive, value: outageFor(time.Minute, "as for lose_ssh"),
		help:   "SSH accepts connections and stays silent, on existing ones as well",
		strike: (*cloud).silence, when: byOutage,
	},
	{
		place: EventBoot, fault: ChangeHostKey, value: moment(whenRunning, "how long after the boot; by default once the session runs"), help: "the machine has another host key",
		strike: func(_ *cloud, inst *instance, _ value) error { return inst.host.ChangeHostKey() }, when: byLength,
	},
	{
		place: EventBoot, fault: ChangeAddress, value: moment(whenRunning, "how long after the boot; by default once the session runs"), help: "SSH moves to another port",
		strike: (*cloud).move, when: byLength,
	},
	{
		place: EventBoot, fault: RefuseKey, value: moment(0, "how long after the boot; by default at once"), help: "SSH refuses every key", random: noValue,
		early: func(_ *cloud, inst *instance, _ *booting, v value) { inst.host.RefuseKeys(v.length == 0) },
		strike: func(_ *cloud, inst *instance, _ value) error {
			inst.host.RefuseKeys(true)
			return nil
		},
		when: byLength,
	},
	{
		place: EventBoot, fault: Vanish, value: moment(0, "how long after the boot; by default at once"), help: "the cloud takes the machine away, as it may an interruptible one",
		random: []any{"0s", "1m"},
		strike: func(c *cloud, inst *instance, _ value) error {
			c.release(inst, "the cloud took it away")
			return nil
		},
		when: byLength,
	},
	{
		place: EventBoot, fault: DiskFull, help: "the disk has no space left",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, _ value) { f.DiskFreeGB = 0 },
	},
	{
		place: EventBoot, fault: DriverBuilding, value: lasts(10 * time.Minute),
		help:  "nvidia-smi fails for a while: the driver is being built",
		facts: func(c *cloud, f *machinefs.Facts, boot time.Duration, v value) { c.buildDriver(f, boot+v.length) },
	},
	{
		place: EventBoot, fault: DriverMissing, help: "there is no driver",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, _ value) { f.Driver = machinefs.DriverMissing },
	},
	{
		place: EventBoot, fault: DriverVersion, value: words("550.127.05", "its version; by default 550.127.05"), help: "the machine has another driver",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, v value) {
			f.DriverVersion, f.CUDAVersion = v.text, facts.CUDA(v.text)
		},
	},
	{
		place: EventBoot, fault: MemoryHeld, value: number(20000, "MiB per GPU"), help: "another process holds GPU memory",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, v value) {
			changeGPUs(f, func(g *machinefs.GPU) { g.HeldMiB = min(int(v.number), g.MemoryMiB) })
		},
	},
	{
		place: EventBoot, fault: NotAvailable, help: "nvidia-smi shows [N/A] where it can",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, _ value) {
			changeGPUs(f, func(g *machinefs.GPU) { g.NotAvailable = true })
		},
	},
	{
		place: EventBoot, fault: NoDocker, help: "a VM has no container engine",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, _ value) { f.Docker = false },
	},
	{
		place: EventBoot, fault: NoGPURuntime, help: "the engine lacks NVIDIA's container toolkit",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, _ value) { f.NoGPURuntime = true },
	},
	{
		place: EventBoot, fault: EngineHangs, value: lasts(5 * time.Minute), help: "the engine accepts requests and doesn't answer",
		strike: (*cloud).hangEngine,
	},
	{
		place: EventBoot, fault: PullFails, value: words("unexpected EOF", "its message"), help: "every image pull breaks off halfway",
		strike: func(_ *cloud, inst *instance, v value) error {
			return inst.withEngine(func(e engineFaults) { e.FailPull(v.text) })
		},
	},
	{
		place: EventBoot, fault: SlowPull, value: lasts(5 * time.Minute), help: "every image pull takes this long",
		strike: func(c *cloud, inst *instance, v value) error {
			return inst.withEngine(func(e engineFaults) { e.SlowPull(c.clock.real(v.length)) })
		},
	},
	{
		place: EventContainer, fault: FailStart, value: failureName(), help: "the start fails",
		start: func(s *machinefs.VLLM, v value) { s.Fail = v.text },
	},
	{
		place: EventContainer, fault: ExitAfter, value: lasts(30 * time.Second), help: "vLLM exits this long after it was ready",
		start: func(s *machinefs.VLLM, v value) { s.ExitAfter = v.length },
	},
	{
		place: EventContainer, fault: RestartLoop, help: "every start ends before the model answers",
		start: func(s *machinefs.VLLM, _ value) { s.Fail = "out_of_memory" },
	},
	{
		place: EventContainer, fault: Hang, help: "the engine hangs, and /health still answers 200",
		start: func(s *machinefs.VLLM, _ value) { s.Hang = true },
	},
	{
		place: EventDestroy, fault: DestroyFails,
		help:    "the cloud answers with an error; a DELETE asks ten times, the clean-up of a failed session once",
		destroy: func(*cloud, *instance, string, value) error { return errCloud },
	},
	{
		place: EventDestroy, fault: DestroySlow, value: lasts(3 * time.Minute), help: "the machine runs and bills on for this long",
		random: []any{"20s", "2m"}, destroy: (*cloud).destroySlowly,
	},
	{
		place: EventDestroy, fault: ClaimSuccess, help: "the cloud says that the machine is gone, and bills on",
		destroy: (*cloud).deny,
	},
}

// faultHelp is the table as a text, for the help at /sandbox/.
func faultHelp() string {
	var text strings.Builder
	text.WriteString(`
A fault rule says what goes wrong, and when:

  route     a method and a path, with "*" for any, and {id} for any part of a path; or one of the events below
  nth       which of the calls that match, counted from 1; 0 is all
  times     how many calls in a row from that one on; 1 if left out
  fault     what goes wrong, see below
  value     details; in brackets below
  consumer  only for consumers whose ID begins with this
  offer     only for this offer
`)
	for _, place := range places {
		text.WriteString("\n" + place.title + "\n")
		for _, row := range faultTable {
			if row.place != place.event {
				continue
			}
			help := row.help
			if row.value.help != "" {
				help += " [" + row.value.help + "]"
			}
			fmt.Fprintf(&text, "  %-19s %s\n", row.fault, help)
		}
	}
	var names []string
	for _, failure := range vllmserver.Failures() {
		names = append(names, failure.Name)
	}
	fmt.Fprintf(&text, "\nFailures for fail_start:\n%s\nor the name of a recorded start:\n%s\n",
		vllmserver.Columns(names), vllmserver.Columns(facts.Failures()))
	return text.String()
}
