package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// booting is the part of a boot that faults change.
type booting struct {
	wait  time.Duration // until SSH answers
	never bool          // SSH never answers
}

// natureOf returns the facts of a new machine: those of its offer, changed by its faults.
func (c *cloud) natureOf(offer Offer, req createRequest, struck []strike) machinefs.Facts {
	f := offer.facts(c.clock.speed, req)
	boot := time.Duration(offer.Machine.Boot)
	if build := time.Duration(offer.Machine.DriverBuild); build > 0 && f.Driver == machinefs.DriverReady {
		c.buildDriver(&f, boot+build)
		f.DpkgLockedUntil = f.DriverReadyAt
	}
	for _, s := range struck {
		if s.row.facts != nil {
			s.row.facts(c, &f, boot, s.v)
		}
	}
	return f
}

// buildDriver has the machine's driver, if it has one, built for a while.
func (c *cloud) buildDriver(f *machinefs.Facts, length time.Duration) {
	if f.Driver != machinefs.DriverMissing {
		f.Driver, f.DriverReadyAt = machinefs.DriverBuilding, time.Now().Add(c.clock.real(length))
	}
}

// driverLater postpones a driver that is being built, by service time; a negative one brings it forward.
func (c *cloud) driverLater(inst *instance, by time.Duration) {
	_ = inst.host.SetFacts(func(f *machinefs.Facts) { // fails only once the machine has ended
		if f.Driver != machinefs.DriverBuilding {
			return
		}
		f.DriverReadyAt = f.DriverReadyAt.Add(time.Duration(float64(by) / cmp.Or(c.clock.speed, 1)))
		if !f.DpkgLockedUntil.IsZero() {
			f.DpkgLockedUntil = f.DriverReadyAt
		}
	})
}

func changeGPUs(f *machinefs.Facts, change func(*machinefs.GPU)) {
	f.GPUs = slices.Clone(f.GPUs)
	for i := range f.GPUs {
		change(&f.GPUs[i])
	}
}

// applyStart applies faults to vLLM's next start, and reports whether there are any.
func applyStart(v *machinefs.VLLM, struck []strike) bool {
	for _, s := range struck {
		s.row.start(v, s.v)
	}
	return len(struck) > 0
}

// starting is called each time a container starts vLLM on a machine. It undoes what
// the faults of the previous start changed.
func (c *cloud) starting(inst *instance) {
	struck := c.faults.Event(EventContainer, subject{offer: inst.offer.ID, consumer: inst.consumer})
	err := inst.host.SetFacts(func(f *machinefs.Facts) {
		if inst.spoiled != nil {
			f.VLLM, inst.spoiled = *inst.spoiled, nil
		}
		if before := f.VLLM; applyStart(&f.VLLM, struck) {
			inst.spoiled = &before
		}
	})
	if err != nil {
		c.log.Warn("sending a machine its faults", "session", inst.session, "error", err)
	}
}

// boot makes the machine reachable after its time to boot, and applies its faults.
func (c *cloud) boot(inst *instance, struck []strike) {
	b := booting{wait: time.Duration(inst.offer.Machine.Boot)}
	for _, s := range struck {
		if s.row.early != nil {
			s.row.early(c, inst, &b, s.v)
		}
	}
	if b.never || c.clock.Sleep(inst.alive, b.wait) != nil {
		return
	}
	if err := inst.host.ResumeListening(); err != nil {
		c.log.Warn("booting a machine", "session", inst.session, "error", err)
		return
	}
	c.mu.Lock()
	inst.answers = time.Now()
	c.mu.Unlock()
	for _, s := range struck {
		if s.row.strike == nil {
			continue
		}
		after := time.Duration(0)
		if s.row.when != nil {
			after = s.row.when(s.v)
		}
		c.later(inst, after, func() error { return s.row.strike(c, inst, s.v) })
	}
}

// strike applies a fault to a running machine at once.
func (c *cloud) strike(inst *instance, s strike) error {
	switch {
	case s.row.strike != nil:
		return s.row.strike(c, inst, s.v)
	case s.row.facts != nil:
		return inst.host.SetFacts(func(f *machinefs.Facts) { s.row.facts(c, f, 0, s.v) })
	case s.row.start != nil:
		return inst.host.SetFacts(func(f *machinefs.Facts) { s.row.start(&f.VLLM, s.v) })
	default:
		return fmt.Errorf("fault %q can't strike a machine that runs", s.row.fault)
	}
}

// later calls do after some service time, unless the machine has ended by then.
func (c *cloud) later(inst *instance, after time.Duration, do func() error) {
	c.work.Go(func() {
		if c.clock.Sleep(inst.alive, after) != nil {
			return
		}
		if err := do(); err != nil {
			c.log.Warn("striking a machine, or ending that", "session", inst.session, "error", err)
		}
	})
}

func (c *cloud) loseSSH(inst *instance, v value) error {
	if err := inst.host.StopListening(); err != nil {
		return err
	}
	inst.host.DropConnections()
	c.later(inst, time.Duration(v.outage.For), inst.host.ResumeListening)
	return nil
}

func (c *cloud) silence(inst *instance, v value) error {
	inst.host.Unresponsive(true)
	c.later(inst, time.Duration(v.outage.For), func() error {
		inst.host.Unresponsive(false)
		return nil
	})
	return nil
}

func (c *cloud) move(inst *instance, _ value) error {
	if err := inst.host.ChangePort(); err != nil {
		return err
	}
	c.moved(inst)
	return nil
}

// withEngine calls do with the machine's container engine, or returns an error if there is none.
func (inst *instance) withEngine(do func(engineFaults)) error {
	engine := inst.host.Engine()
	if engine == nil {
		return errors.New("the machine has no container engine")
	}
	do(engine)
	return nil
}

func (c *cloud) hangEngine(inst *instance, v value) error {
	return inst.withEngine(func(engine engineFaults) {
		engine.Hang(true)
		c.later(inst, v.length, func() error {
			engine.Hang(false)
			return nil
		})
	})
}

// Advanced is called when the clock was moved forward: a driver that is being built is
// ready that much earlier.
func (c *cloud) Advanced(d time.Duration) {
	c.mu.Lock()
	running := slices.DeleteFunc(slices.Clone(c.instances), func(inst *instance) bool { return inst.ending })
	c.mu.Unlock()
	for _, inst := range running {
		c.driverLater(inst, -d)
	}
}
