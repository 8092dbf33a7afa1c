package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// host is a rented machine as the sandbox uses it; package machine has the real one.
type host interface {
	sshFaults
	Host() string
	Port() int
	User() string
	SetFacts(change func(*machinefs.Facts)) error
	CommandLog() []string
	Engine() engineFaults // nil on a machine without a container engine
	Close() error
}

// sshFaults are the faults of a machine's SSH server.
type sshFaults interface {
	StopListening() error // connections are refused from here on
	ResumeListening() error
	RefuseKeys(refuse bool)
	DropConnections()
	ChangeHostKey() error
	ChangePort() error // the same machine at another address
	Unresponsive(hang bool)
}

// engineFaults are the faults of a machine's container engine.
type engineFaults interface {
	Hang(hang bool)
	FailPull(message string)
	SlowPull(d time.Duration)
}

// hostRequest describes the machine to start.
type hostRequest struct {
	ID            string
	Facts         machinefs.Facts
	AuthorizedKey string
	// Idle is how long a connection to the machine may be idle before it is cut; 0 = forever.
	Idle time.Duration
	// Starting is called before a container starts vLLM on the machine.
	Starting func()
}

// startHost starts a machine that doesn't answer before ResumeListening.
type startHost func(hostRequest) (host, error)

// cloudError is an error that a cloud answers with.
type cloudError string

func (e cloudError) Error() string { return string(e) }

// The first two texts are the real service's.
const (
	errStale            cloudError = "offer unavailable due to stale inventory - retry with different offer recommended"
	errInstanceNotFound cloudError = "instance not found"
	errCloud            cloudError = "the cloud answered: internal error, try again later"
)

// destroyLatency is how long a request to destroy waits for the cloud's rate limit.
// Nothing is destroyed if the service gives up meanwhile.
const destroyLatency = 1500 * time.Millisecond

// instance is one machine as its cloud sees it. It decides what bills.
type instance struct {
	id                string
	session, consumer string
	offer             Offer
	price             float64
	addressLater      bool     // the cloud returns its address only when it is asked again
	service           *service // which ordered it
	rented            time.Time
	rentedAt          time.Duration // rented, in service time
	host              host
	spent             time.Duration   // service time that went by while it was really started
	alive             context.Context //nolint:containedctx // the life of the machine, for what its faults schedule
	end               context.CancelFunc

	spoiled *machinefs.VLLM // what vLLM's facts were before a start's faults; used under the host's lock only

	// The rest is guarded by the cloud's lock.
	answers    time.Time // since when SSH does, by the computer's clock; zero before
	released   time.Time // zero while it bills
	releasedBy string
	hidden     bool // the cloud denies it, though it bills
	ending     bool // it is being closed
	dying      bool // it will be, after the time that a fault asks for
}

// cloud is all clouds together: they share the market and the ledger.
type cloud struct {
	clock  *clock
	market *market
	faults *faults
	start  startHost
	log    *slog.Logger
	life   context.Context //nolint:containedctx // the sandbox's life, which machines share
	work   *sync.WaitGroup
	moved  func(*instance) // called when a machine has a new address

	mu        sync.Mutex
	random    *rand.Rand
	instances []*instance // all ever rented, oldest first
	byID      map[string]*instance
	machines  int
}

// createRequest is the service's order of a machine.
type createRequest struct {
	offerID, session, consumer, publicKey string
	cloudName                             string
	diskGB                                int
	template                              Template // the zero value for none
	service                               *service
	killed                                func(down time.Duration) // called when a fault kills the service
}

// Create rents a machine. If ctx ends while the cloud keeps the service waiting,
// nothing is rented, unless a fault has killed the service meanwhile.
func (c *cloud) Create(ctx context.Context, req createRequest) (*instance, error) { //nolint:contextcheck // not of one killed
	about := subject{offer: req.offerID, consumer: req.consumer}
	terms := c.createTerms(req, about)
	if terms.killed {
		req.killed(terms.down)
		ctx = c.life
	}
	if err := c.clock.Sleep(ctx, terms.wait); err != nil {
		return nil, err
	}
	if terms.refusal != nil {
		return nil, terms.refusal
	}
	inst := &instance{id: c.newID(), session: req.session, consumer: req.consumer, service: req.service, addressLater: terms.addressLater}
	offer, ok := c.market.Take(req.offerID, inst.id)
	if !ok {
		return nil, errStale
	}
	inst.offer, inst.price = offer, offer.PricePerHour
	if terms.factor != 1 {
		inst.price = round4(offer.PricePerHour * terms.factor)
	}
	boot := c.faults.Event(EventBoot, about)
	machine := c.natureOf(offer, req, boot)
	if machine.Container {
		applyStart(&machine.VLLM, c.faults.Event(EventContainer, about))
	}
	began := time.Now()
	var err error
	inst.host, err = c.start(hostRequest{
		ID: c.machineName(), Facts: machine, AuthorizedKey: req.publicKey, Idle: offer.Machine.kind.Idle.Duration(),
		Starting: func() { c.starting(inst) },
	})
	if err != nil {
		c.market.Return(req.offerID, inst.id)
		return nil, fmt.Errorf("starting the sandbox machine: %w", err)
	}
	inst.spent = c.clock.Spent(began)
	inst.alive, inst.end = context.WithCancel(c.life)
	c.mu.Lock()
	inst.rented, inst.rentedAt = c.clock.Now(), c.clock.Elapsed()
	c.instances = append(c.instances, inst)
	c.byID[inst.id] = inst
	c.mu.Unlock()
	c.log.Info("rented", "session", inst.session, "offer", offer.ID, "price_per_hour", inst.price)
	c.work.Go(func() { c.boot(inst, boot) })
	return inst, nil
}

// terms are the parts of a rental that faults change.
type terms struct {
	offer        string
	wait         time.Duration // until the cloud answers
	refusal      error         // its answer
	factor       float64       // of the price
	addressLater bool
	killed       bool          // the service is killed while it waits
	down         time.Duration // how long it is down then
}

// createTerms returns the terms of a rental.
func (c *cloud) createTerms(req createRequest, about subject) terms {
	order, _ := facts.FindCloud(req.cloudName) // the offer is one of a known cloud
	changed := terms{offer: req.offerID, factor: 1, wait: order.Create.Duration()}
	for _, s := range c.faults.Event(EventCreate, about) {
		s.row.create(c, &changed, s.v)
	}
	return changed
}

// takeAway takes an offer off the market for some service time; 0 = for good.
func (c *cloud) takeAway(offer string, length time.Duration) {
	if c.market.SetGone(offer, true) != nil || length == 0 {
		return
	}
	c.work.Go(func() {
		if c.clock.Sleep(c.life, length) == nil {
			_ = c.market.SetGone(offer, false)
		}
	})
}

// newID makes a cloud's id of an instance: a number, as Vast.ai's are.
func (c *cloud) newID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		id := strconv.Itoa(100000 + c.random.IntN(9900000))
		if _, taken := c.byID[id]; !taken {
			return id
		}
	}
}

// machineName returns a short name: it is part of the paths of unix sockets.
func (c *cloud) machineName() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.machines++
	return "m" + strconv.Itoa(c.machines)
}

// Running reports whether an instance's cloud says that it runs.
func (c *cloud) Running(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	inst, ok := c.byID[id]
	return ok && !inst.hidden && inst.released.IsZero()
}

// Destroy asks a cloud to destroy an instance. A nil error means that the cloud took
// the order; the machine bills until it is gone.
func (c *cloud) Destroy(ctx context.Context, id, by string) error {
	if err := c.clock.Sleep(ctx, destroyLatency); err != nil {
		return err
	}
	if !c.Running(id) {
		return errInstanceNotFound
	}
	inst := c.instance(id)
	c.mu.Lock()
	dying := inst.dying
	c.mu.Unlock()
	if dying {
		return nil // it has the order already
	}
	struck := c.faults.Event(EventDestroy, subject{offer: inst.offer.ID, consumer: inst.consumer})
	if len(struck) > 0 { // the first one counts
		return struck[0].row.destroy(c, inst, by, struck[0].v)
	}
	c.release(inst, by)
	return nil
}

// destroySlowly releases the machine some time after the cloud took the order.
func (c *cloud) destroySlowly(inst *instance, by string, v value) error {
	c.mu.Lock()
	inst.dying = true
	c.mu.Unlock()
	c.later(inst, v.length, func() error {
		c.release(inst, by)
		return nil
	})
	return nil
}

// deny makes the cloud say that the machine is gone, while it runs and bills on.
func (c *cloud) deny(inst *instance, _ string, _ value) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	inst.hidden = true
	return nil
}

// release ends a machine and its billing.
func (c *cloud) release(inst *instance, by string) {
	c.mu.Lock()
	if inst.ending {
		c.mu.Unlock()
		return
	}
	inst.ending = true
	c.mu.Unlock()
	inst.end()
	if err := inst.host.Close(); err != nil {
		c.log.Warn("ending a machine", "session", inst.session, "error", err)
	}
	c.mu.Lock()
	inst.released, inst.releasedBy = c.clock.Now(), by
	c.mu.Unlock()
	c.market.Return(inst.offer.ID, inst.id)
	c.log.Info("released", "session", inst.session, "by", by)
}

// CloseAll ends every machine at the sandbox's end. The ledger still lists those that
// nobody released as billing.
func (c *cloud) CloseAll() error {
	c.mu.Lock()
	var left []*instance
	for _, inst := range c.instances {
		if !inst.ending {
			inst.ending = true
			left = append(left, inst)
		}
	}
	c.mu.Unlock()
	errs := make([]error, len(left))
	var closing sync.WaitGroup
	for i, inst := range left {
		inst.end()
		closing.Go(func() { errs[i] = inst.host.Close() })
	}
	closing.Wait()
	return errors.Join(errs...)
}

// billing returns the machines of a service that bill.
func (c *cloud) billing(by *service) []*instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.instances), func(inst *instance) bool { return inst.service != by || !inst.released.IsZero() })
}

func (c *cloud) instance(id string) *instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byID[id]
}

// ofSession returns a session's newest instance that bills, else its oldest one, else nil.
func (c *cloud) ofSession(id string) *instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found *instance
	for _, inst := range c.instances {
		if inst.session == id && (found == nil || inst.released.IsZero()) {
			found = inst
		}
	}
	return found
}
