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

// faultRow is all there is about one fault in one place: help, validation, random
// rules and what strikes are made from it. A fault more is a row more, and a name
// among the constants where Go code wants one.
type faultRow struct {
	place string // anyRoute or an event
	fault Fault
	value valueKind
	help  string
	// random are values that RandomFaults takes, nil for none at all; routes are those
	// that it spoils, nil for the event itself.
	random []any
	routes []string

	// What the fault does, at one or two of these moments.

	// before and after the request takes effect; true means that it has been answered.
	before, after func(x *exchange, v value) bool
	// create changes what comes of asking a cloud for a machine.
	create func(c *cloud, t *terms, v value)
	// early is done when a machine begins to boot.
	early func(c *cloud, inst *instance, b *booting, v value)
	// facts changes what a machine is, before it boots, which takes boot, or while it runs.
	facts func(c *cloud, f *machinefs.Facts, boot time.Duration, v value)
	// strike is done to a machine that has booted, when says how long after (nil = at
	// once), or at any time where somebody asks for it.
	strike func(c *cloud, inst *instance, v value) error
	when   func(v value) time.Duration
	// start changes how vLLM starts.
	start func(s *machinefs.VLLM, v value)
	// destroy answers the service in the cloud's place.
	destroy func(c *cloud, inst *instance, by string, v value) error
}

// anyRoute is the place of faults that strike requests.
const anyRoute = "any route"

type placeOfFaults struct{ event, title string }

// places are where faults strike, in the order of the help.
var places = []placeOfFaults{
	{anyRoute, "Any route"},
	{EventCreate, `"machine create", a cloud is asked for a machine`},
	{EventBoot, `"machine boot"`},
	{EventContainer, `"container start", vLLM starts, in a container or not`},
	{EventDestroy, `"machine destroy"`},
}

func findFault(place string, fault Fault) (*faultRow, bool) {
	for _, rows := range [][]faultRow{requestFaults, machineFaults} {
		i := slices.IndexFunc(rows, func(r faultRow) bool { return r.place == place && r.fault == fault })
		if i >= 0 {
			return &rows[i], true
		}
	}
	return nil, false
}

func faultsAt(place string) []Fault {
	var names []Fault
	for _, row := range slices.Concat(requestFaults, machineFaults) {
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

// noValue is what RandomFaults takes for a fault without a value.
var noValue = []any{nil}

var requestFaults = []faultRow{
	{
		place: anyRoute, fault: LoseAnswerBefore, help: "close the connection, nothing takes effect",
		random: noValue, routes: allRoutes, before: func(x *exchange, _ value) bool { return cut(x.w) },
	},
	{
		place: anyRoute, fault: LoseAnswerAfter, help: "close it after the request took effect",
		random: noValue, routes: allRoutes, after: func(x *exchange, _ value) bool { return cut(x.w) },
	},
	{
		place: anyRoute, fault: Delay, value: lasts(30 * time.Second), help: "wait before the effect",
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
		value: answers(answer{Status: 500}, `500, or {"status", "retry_after", "error", "after"};
                      retry_after is seconds, "date:30s", "nonsense", "day" or the header's text`),
		help: "answer this instead",
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
		place: anyRoute, fault: StatusAfter, value: answers(answer{Status: 502, After: true}, "502, or as status"),
		help: "the same after the effect", random: []any{500, 502, 504}, routes: []string{routePost, routeDelete},
		after: func(x *exchange, v value) bool { return x.instead(v.answer) },
	},
	{
		place: anyRoute, fault: RateLimit, value: number(10, ""), help: "429 beyond that many requests in a second of real time",
		before: func(x *exchange, v value) bool {
			return !x.s.limit.allow(v.number, time.Now()) && x.instead(answer{Status: 429, RetryAfter: 1, Error: "rate limit exceeded"})
		},
	},
	{
		place: anyRoute, fault: Truncate, value: number(-1, "bytes that arrive; half"), help: "cut the answer off",
		random: noValue, routes: allRoutes, after: func(x *exchange, v value) bool { return x.cutAfter(int(v.number)) },
	},
	{
		place: anyRoute, fault: InvalidJSON, help: "a whole answer that isn't JSON", random: noValue, routes: allRoutes,
		after: (*exchange).brokenJSON,
	},
	{
		place: anyRoute, fault: HTML, value: answers(answer{Status: 502, After: true}, "502 after the effect, or as status"),
		help: "a proxy's page", random: []any{502, 504}, routes: allRoutes,
		before: func(x *exchange, v value) bool { return !v.answer.After && x.page(v.answer) },
		after:  func(x *exchange, v value) bool { return x.page(v.answer) },
	},
	{
		place: anyRoute, fault: SlowDrip, value: lasts(30 * time.Second), help: "spread the answer's bytes over a time",
		random: []any{"5s", "20s"}, routes: readRoutes, after: (*exchange).drip,
	},
	{
		place: anyRoute, fault: ClosedPort, value: lasts(time.Minute), help: "refuse all connections for a time",
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
		place: anyRoute, fault: NotReady, help: "what /health and /ready say during the start-up sweep",
		before: (*exchange).notReady,
	},
	{
		place: anyRoute, fault: ClaimSuccess, help: "a DELETE or done that does nothing and answers 200",
		random: noValue, routes: []string{routeDelete}, before: (*exchange).claimSuccess,
	},
	{
		place: anyRoute, fault: OffersGone, value: moment(0, ""), help: "an inventory without offers",
		before: func(x *exchange, _ value) bool {
			return writeJSON(x.w, http.StatusOK, map[string]any{"offers": []any{}, "count": 0, "total": 0}) == nil
		},
	},
}

// whenRunning is when a machine that has booted surely reads running: faults
// without a time of their own strike then.
const whenRunning = 3 * time.Minute

// byLength and byOutage are when a fault strikes whose value says that.
func byLength(v value) time.Duration { return v.length }
func byOutage(v value) time.Duration { return time.Duration(v.outage.After) }

var machineFaults = []faultRow{
	{
		place: EventCreate, fault: OffersGone, value: moment(0, "for how long; for good"), help: "the offer is gone: stale_inventory",
		random: []any{"2m"},
		create: func(c *cloud, t *terms, v value) {
			t.refusal = errStale
			c.takeAway(t.offer, v.length)
		},
	},
	{
		place: EventCreate, fault: PriceRaised, value: number(1.5, "factor"), random: []any{1.1, 2.0},
		help:   "it costs more than was offered; only the POST's answer and the ledger say so",
		create: func(_ *cloud, t *terms, v value) { t.factor = v.number },
	},
	{
		place: EventCreate, fault: ServiceKilled, value: moment(10*time.Second, "back after; 10s"),
		help:   "the service is killed while it waits: the session is failed, the machine made",
		create: func(_ *cloud, t *terms, v value) { t.killed, t.down = true, v.length },
	},
	{
		place: EventCreate, fault: ProviderError, value: words(errCloud.Error(), "its words"), help: "the cloud refuses",
		random: []any{"rate limit exceeded", "invalid image", "timeout waiting for the task"},
		create: func(_ *cloud, t *terms, v value) { t.refusal = cloudError(v.text) },
	},
	{ // as Vast.ai and TensorDock do it, though not the deployment that was recorded
		place: EventCreate, fault: AddressLater, help: "no ssh_host, and port 22, before the service has asked again",
		random: noValue, create: func(_ *cloud, t *terms, _ value) { t.addressLater = true },
	},
	{
		place: EventCreate, fault: Delay, value: lasts(30 * time.Second), help: "the cloud takes its time",
		random: []any{"1m", "4m"}, create: func(_ *cloud, t *terms, v value) { t.wait = v.length },
	},
	{
		place: EventBoot, fault: NeverBoots, help: "it bills and never answers", random: noValue,
		early:  func(_ *cloud, _ *instance, b *booting, _ value) { b.never = true },
		strike: func(_ *cloud, inst *instance, _ value) error { return inst.host.StopListening() },
	},
	{
		place: EventBoot, fault: BootsLate, value: lasts(5 * time.Minute), help: "it takes that much longer",
		random: []any{"1m", "5m"}, early: func(c *cloud, inst *instance, b *booting, v value) {
			b.wait += v.length
			c.driverLater(inst, v.length)
		},
	},
	{
		place: EventBoot, fault: LoseSSH, value: outageFor(time.Minute, `for 1m, or {"for", "after"}`), help: "SSH is out of reach",
		random: []any{"20s", "2m"}, strike: (*cloud).loseSSH, when: byOutage,
	},
	{
		place: EventBoot, fault: Unresponsive, value: outageFor(time.Minute, "as lose_ssh"),
		help:   "connections are accepted and nothing is said, on old ones too",
		strike: (*cloud).silence, when: byOutage,
	},
	{
		place: EventBoot, fault: ChangeHostKey, value: moment(whenRunning, "when; once it runs"), help: "another host key",
		strike: func(_ *cloud, inst *instance, _ value) error { return inst.host.ChangeHostKey() }, when: byLength,
	},
	{
		place: EventBoot, fault: ChangeAddress, value: moment(whenRunning, "when; once it runs"), help: "SSH moves to another port",
		strike: (*cloud).move, when: byLength,
	},
	{
		place: EventBoot, fault: RefuseKey, value: moment(0, "when; at once"), help: "every key is refused", random: noValue,
		early: func(_ *cloud, inst *instance, _ *booting, v value) { inst.host.RefuseKeys(v.length == 0) },
		strike: func(_ *cloud, inst *instance, _ value) error {
			inst.host.RefuseKeys(true)
			return nil
		},
		when: byLength,
	},
	{
		place: EventBoot, fault: Vanish, value: moment(0, "when; at once"), help: "the cloud takes it away, as an interruptible one",
		random: []any{"0s", "1m"},
		strike: func(c *cloud, inst *instance, _ value) error {
			c.release(inst, "the cloud took it away")
			return nil
		},
		when: byLength,
	},
	{
		place: EventBoot, fault: DiskFull, help: "no space is left",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, _ value) { f.DiskFreeGB = 0 },
	},
	{
		place: EventBoot, fault: DriverBuilding, value: lasts(10 * time.Minute), help: "nvidia-smi fails for a time",
		facts: func(c *cloud, f *machinefs.Facts, boot time.Duration, v value) { c.buildDriver(f, boot+v.length) },
	},
	{
		place: EventBoot, fault: DriverMissing, help: "there is no driver",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, _ value) { f.Driver = machinefs.DriverMissing },
	},
	{
		place: EventBoot, fault: DriverVersion, value: words("550.127.05", "550.127.05"), help: "another driver",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, v value) {
			f.DriverVersion, f.CUDAVersion = v.text, facts.CUDA(v.text)
		},
	},
	{
		place: EventBoot, fault: MemoryHeld, value: number(20000, "MiB per GPU"), help: "somebody else holds GPU memory",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, v value) {
			changeGPUs(f, func(g *machinefs.GPU) { g.HeldMiB = min(int(v.number), g.MemoryMiB) })
		},
	},
	{
		place: EventBoot, fault: NotAvailable, help: "nvidia-smi reads [N/A] where it can",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, _ value) {
			changeGPUs(f, func(g *machinefs.GPU) { g.NotAvailable = true })
		},
	},
	{
		place: EventBoot, fault: NoDocker, help: "a VM without a container engine",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, _ value) { f.Docker = false },
	},
	{
		place: EventBoot, fault: NoGPURuntime, help: "an engine without NVIDIA's container toolkit",
		facts: func(_ *cloud, f *machinefs.Facts, _ time.Duration, _ value) { f.NoGPURuntime = true },
	},
	{
		place: EventBoot, fault: EngineHangs, value: lasts(5 * time.Minute), help: "the engine accepts requests and answers none",
		strike: (*cloud).hangEngine,
	},
	{
		place: EventBoot, fault: PullFails, value: words("unexpected EOF", "its words"), help: "every image pull breaks off half-way",
		strike: func(_ *cloud, inst *instance, v value) error {
			return inst.withEngine(func(e engineFaults) { e.FailPull(v.text) })
		},
	},
	{
		place: EventBoot, fault: SlowPull, value: lasts(5 * time.Minute), help: "every image pull takes that long",
		strike: func(c *cloud, inst *instance, v value) error {
			return inst.withEngine(func(e engineFaults) { e.SlowPull(c.clock.real(v.length)) })
		},
	},
	{
		place: EventContainer, fault: FailStart, value: failureName(), help: "it fails",
		start: func(s *machinefs.VLLM, v value) { s.Fail = v.text },
	},
	{
		place: EventContainer, fault: ExitAfter, value: lasts(30 * time.Second), help: "it ends, once it is ready",
		start: func(s *machinefs.VLLM, v value) { s.ExitAfter = v.length },
	},
	{
		place: EventContainer, fault: RestartLoop, help: "every start ends before the model answers",
		start: func(s *machinefs.VLLM, _ value) { s.Fail = "out_of_memory" },
	},
	{
		place: EventContainer, fault: Hang, help: "the engine hangs, and /health stays 200",
		start: func(s *machinefs.VLLM, _ value) { s.Hang = true },
	},
	{
		place: EventDestroy, fault: DestroyFails,
		help:    "the cloud answers an error; a DELETE asks ten times, a failed session's clean-up once",
		destroy: func(*cloud, *instance, string, value) error { return errCloud },
	},
	{
		place: EventDestroy, fault: DestroySlow, value: lasts(3 * time.Minute), help: "the machine runs on for that long",
		random: []any{"20s", "2m"}, destroy: (*cloud).destroySlowly,
	},
	{
		place: EventDestroy, fault: ClaimSuccess, help: "the cloud says that it is gone, and bills on",
		destroy: (*cloud).deny,
	},
}

// faultHelp says at /sandbox/ what the table says.
func faultHelp() string {
	var text strings.Builder
	text.WriteString(`
A rule: {"route", "nth", "fault", "value"} and, if wanted, "times" (how many calls from nth on), "consumer" and "offer"
(only those). route is a method and a path ("*" for any; {id} for a part of it) or one of the events below; nth counts
the matching calls from 1, 0 means all. Durations are service time. In brackets: the value, and what it is when left out.
`)
	for _, place := range places {
		text.WriteString("\n" + place.title + ":\n")
		for _, row := range slices.Concat(requestFaults, machineFaults) {
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
	text.WriteString("\nWays for vLLM's start to fail:\n")
	for _, failure := range vllmserver.Failures() {
		text.WriteString("  " + failure.Name + "\n")
	}
	text.WriteString("or as one of the recorded failures did:\n  " + strings.Join(facts.Failures(), "\n  ") + "\n")
	return text.String()
}
