package sandbox

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// estate is what all services of a sandbox share: the clouds and their ledger, the
// clock, the fault rules and the machines' directory.
type estate struct {
	opts   Options
	clouds *cloud
	market *market
	faults *faults
	dir    *workDir
	end    context.CancelFunc

	guard    sync.Mutex
	services []*Sandbox
	closed   bool
	closing  sync.Once
	closeErr error
}

// build makes the market and the clouds.
func (e *estate) build(offers []Offer) {
	life, end := context.WithCancel(context.Background())
	clock := newClock(e.opts.Speed)
	if e.opts.Frozen {
		clock.speed = 0
	}
	start := e.opts.start
	if start == nil {
		start = realMachines(e.dir.path)
	}
	e.end = end
	e.market = newMarket(clock, offers, e.opts.Seed, e.opts.Moving)
	e.clouds = &cloud{
		clock: clock, market: e.market, faults: e.faults, start: start, log: e.opts.Log, life: life, work: new(sync.WaitGroup),
		random: e.random(1), byID: map[string]*instance{}, moved: e.addressChanged,
	}
}

func (e *estate) random(stream int) *rand.Rand {
	return rand.New(rand.NewPCG(uint64(e.opts.Seed), uint64(stream)))
}

// open starts a service with an empty database on an address.
func (e *estate) open(address string) (*Sandbox, error) {
	e.guard.Lock()
	defer e.guard.Unlock()
	if e.closed {
		return nil, errors.New("the sandbox has ended")
	}
	c := e.clouds
	health := newOfferHealth(c.clock)
	s := &Sandbox{estate: e, service: &service{
		clock: c.clock, sessions: newSessions(), health: health, inventory: newInventory(c.clock, e.market, health),
		cloud: c, costs: newCosts(c.clock.Now()), keys: keysOf(e.opts.KeyBits), templates: e.opts.Templates, log: e.opts.Log,
		login: e.opts.login, timeout: e.opts.SSHTimeout, interval: e.opts.SSHInterval,
		hardMax: time.Duration(e.opts.HardMaxHours) * time.Hour, reconciler: e.opts.Reconciler, life: c.life, work: c.work,
		random: e.random(2 + len(e.services)), locks: map[string]*destroyLock{},
	}}
	s.shut = s.closePort
	s.asked.byRoute = map[string]int{}
	s.serviceRoutes = s.routes()
	for _, c := range s.controls() {
		s.controlRoutes = append(s.controlRoutes, c.route)
	}
	var err error
	if s.port, err = listen(s.life, address, s); err != nil {
		return nil, err
	}
	e.services = append(e.services, s)
	s.work.Go(s.watch)
	return s, nil
}

// AnotherService starts a second rental service on a free port of loopback. It has its
// own database, and answers 404 for this one's sessions; both share the clouds and the
// ledger. Closing either ends both.
func (s *Sandbox) AnotherService() (*Sandbox, error) {
	return s.open("127.0.0.1:0")
}

// Wipe deletes this service's database: it answers 404 for every session that it had.
// Their machines run and bill on; only Options.Reconciler ends them.
func (s *Sandbox) Wipe() {
	s.sessions.Clear()
	s.costs.Clear()
}

// addressChanged stores a machine's new address in its session.
func (e *estate) addressChanged(inst *instance) {
	if row, s := e.row(inst.session); s != nil {
		row.Host, row.Port = inst.host.Host(), inst.host.Port()
		s.sessions.Update(row)
	}
}

// row finds a session and its service, nil if no service has it.
func (e *estate) row(id string) (session, *Sandbox) {
	for _, s := range e.all() {
		if row, err := s.sessions.Get(id); err == nil {
			return row, s
		}
	}
	return session{}, nil
}

func (e *estate) all() []*Sandbox {
	e.guard.Lock()
	defer e.guard.Unlock()
	return slices.Clone(e.services)
}

// Close ends every service and machine, and removes their files. It returns within
// seconds; the error says what could not be ended.
func (e *estate) Close() error {
	e.closing.Do(func() {
		e.guard.Lock()
		e.closed = true
		e.guard.Unlock()
		e.end()
		for _, s := range e.all() {
			e.closeErr = errors.Join(e.closeErr, s.port.Close())
			s.requests.Wait()
		}
		e.clouds.work.Wait()
		e.closeErr = errors.Join(e.closeErr, e.clouds.CloseAll(), e.dir.Remove())
		e.opts.Log.Info("sandbox ended", "billing", len(e.Ledger().Billing))
	})
	return e.closeErr
}

// AddEnded adds n stopped sessions of one consumer to the service's database, as years
// of use leave them. Each was reserved for an hour, one second after the other.
func (s *Sandbox) AddEnded(consumer string, n int, first time.Time) {
	for i := range n {
		created := first.Add(time.Duration(i) * time.Second).UTC()
		s.sessions.Create(session{
			ID: uuid.NewString(), Consumer: consumer, Provider: VastAI, GPUType: "RTX 4090", GPUCount: 1, Status: statusStopped,
			Workload: "llm_vllm", Hours: 1, Price: 0.4, Created: created, Expires: created.Add(time.Hour), stopped: created.Add(time.Hour),
		}, false)
	}
}
