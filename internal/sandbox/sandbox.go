package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/tool"
)

// Options describe the sandbox to start. The zero value has the built-in market, a free
// port of loopback, and real time.
type Options struct {
	Listen string // address; "" = 127.0.0.1:0
	// Speed divides every delay of the service, the clouds and the machines: at
	// 60 a minute takes a second. 0 = 1. Dates and reservations don't run faster.
	Speed float64
	// Frozen stops the clock: delays last until Advance moves it.
	Frozen bool
	// Offers are the market; nil = those of OffersFile, if that is set, else the built-in ones.
	Offers     []Offer
	OffersFile string
	// Machines are the machines behind the offers.
	Machines Machines
	// Moving makes prices and availability change each minute, by Seed.
	Moving bool
	// Seed decides everything that is random; 0 = a random one, see Sandbox.Seed.
	Seed int64
	// Faults are in force from the start.
	Faults []Rule
	// NotReadyFor is how long the start-up sweep lasts, in service time.
	NotReadyFor time.Duration
	// Templates are Vast.ai's; nil = none, and their routes answer 500.
	Templates []Template
	// SSHTimeout is how long the service tries to log in to a new machine, in service
	// time; 0 = 8 minutes.
	SSHTimeout time.Duration
	// SSHInterval is how long it waits before its first login, in service time; 0 = 15 s.
	SSHInterval time.Duration
	// HardMaxHours is how long after its session's creation the service destroys a machine,
	// whatever its reservation; 0 = 12, the real service's default. One request still
	// reserves at most 12 hours.
	HardMaxHours int
	// Reconciler makes the service destroy machines that belong to none of its sessions once
	// they are five minutes old, as a real service with a deployment id does.
	Reconciler bool
	// KeyBits is the size of the sessions' RSA keys; 0 = 4096 as the real service's, or
	// 2048 if Speed is above 1, to save the computer's time.
	KeyBits int
	Log     *slog.Logger // nil = no log

	start startHost // in tests: other machines, and
	login loginFunc // how one logs in to them
}

func (o Options) withDefaults() Options {
	o.Listen = cmp.Or(o.Listen, "127.0.0.1:0")
	if o.Speed <= 0 {
		o.Speed = 1
	}
	if o.Seed == 0 {
		o.Seed = NewSeed()
	}
	o.SSHTimeout = cmp.Or(o.SSHTimeout, verifyTimeout)
	o.SSHInterval = cmp.Or(o.SSHInterval, firstPoll)
	o.HardMaxHours = cmp.Or(o.HardMaxHours, 12)
	if o.login == nil {
		o.login = sshLogin
	}
	if o.KeyBits == 0 {
		o.KeyBits = 2048
		if o.Speed <= 1 && !o.Frozen {
			o.KeyBits = 4096
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// NewSeed makes a seed for Options.Seed and RandomFaults. Print it, so that the same run
// can be repeated.
func NewSeed() int64 { return 1 + rand.Int64N(1<<31) }

// Sandbox is a running service, with the clouds that it shares with other services of the
// same sandbox. Its methods may be called concurrently, at any time.
type Sandbox struct {
	*service
	*estate
	serviceRoutes []route
	controlRoutes []route
	port          *servicePort
	requests      inFlight
	asked         requestCount
	limit         rateLimit
}

// Start starts a sandbox. Close ends it and its machines.
func Start(opts Options) (*Sandbox, error) {
	opts = opts.withDefaults()
	if opts.HardMaxHours < 0 {
		return nil, fmt.Errorf("starting a sandbox: a hard maximum of %d hours", opts.HardMaxHours)
	}
	if opts.Machines != AsSeen && opts.Machines != Friendly {
		return nil, fmt.Errorf("starting a sandbox: machines are %q or %q, not %q", AsSeen, Friendly, opts.Machines)
	}
	if opts.start == nil && !tool.Ready() {
		return nil, errors.New("starting a sandbox: this program has to call sandbox.Main first thing in main or TestMain")
	}
	offers := opts.Offers
	if offers == nil && opts.OffersFile != "" {
		var err error
		if offers, err = LoadOffers(opts.OffersFile); err != nil {
			return nil, err
		}
	}
	if offers == nil {
		offers = BuiltinOffers()
	}
	offers, err := completeOffers(offers, opts.Machines)
	if err != nil {
		return nil, fmt.Errorf("the sandbox's market: %w", err)
	}
	e := &estate{opts: opts, faults: &faults{}}
	if err := e.faults.Set(opts.Faults); err != nil {
		return nil, fmt.Errorf("the sandbox's faults: %w", err)
	}
	if e.dir, err = makeWorkDir(); err != nil {
		return nil, err
	}
	e.build(offers)
	s, err := e.open(opts.Listen)
	if err != nil {
		e.end()
		return nil, errors.Join(err, e.dir.Remove())
	}
	s.SetNotReady(opts.NotReadyFor)
	s.log.Info("sandbox started", "url", s.URL(), "seed", opts.Seed, "speed", opts.Speed, "offers", len(offers))
	return s, nil
}

// URL is the service's address.
func (s *Sandbox) URL() string { return "http://" + s.port.addr }

// Seed is the seed of everything random in this sandbox.
func (s *Sandbox) Seed() int64 { return s.opts.Seed }

// Advance moves the clock forward: dates, reservations, and every delay under way.
func (s *Sandbox) Advance(d time.Duration) {
	if d > 0 {
		s.clock.Advance(d)
		s.cloud.Advanced(d)
	}
}

// SetFaults replaces the fault rules.
func (s *Sandbox) SetFaults(rules ...Rule) error { return s.faults.Set(rules) }

// Faults returns the rules in force and how often each struck.
func (s *Sandbox) Faults() []RuleCount { return s.faults.List() }

// SetNotReady makes the service report for d of service time that its start-up sweep is
// still running.
func (s *Sandbox) SetNotReady(d time.Duration) { s.notReady.Store(int64(s.clock.Elapsed() + d)) }

// ErrNoMachine is returned for a session without a running machine.
var ErrNoMachine = errors.New("the session has no machine that runs")

// Strike applies a fault of EventBoot or EventContainer to a session's machine now. The
// error is ErrNoMachine if none runs.
func (s *Sandbox) Strike(sessionID string, fault Fault, value any) error {
	inst := s.cloud.ofSession(sessionID)
	if inst == nil || inst.alive.Err() != nil {
		return fmt.Errorf("session %s: %w", sessionID, ErrNoMachine)
	}
	event := EventBoot
	if _, atBoot := findFault(event, fault); !atBoot {
		event = EventContainer
	}
	struck, err := Rule{Route: event, Fault: fault, Value: value}.read()
	if err != nil {
		return err
	}
	return s.cloud.strike(inst, struck)
}
