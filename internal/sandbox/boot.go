package sandbox

import (
	"fmt"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// bootFacts turns the faults that concern a machine's nature into its facts.
func (c *cloud) bootFacts(f *machinefs.Facts, offer Offer, rules []Rule) {
	build := time.Duration(offer.Machine.DriverBuild)
	for _, r := range rules {
		switch r.Fault {
		case DriverBuilding:
			build = r.length(10 * time.Minute)
		case BootsLate, NeverBoots:
		default:
			applyFact(f, r)
		}
	}
	if build > 0 && f.Driver == machinefs.DriverReady {
		f.Driver = machinefs.DriverBuilding
		f.DriverReadyAt = time.Now().Add(c.clock.real(time.Duration(offer.Machine.Boot) + build))
	}
}

// applyFact changes a machine's facts as a fault says. It reports whether the
// fault is one of facts.
func applyFact(f *machinefs.Facts, r Rule) bool {
	switch r.Fault {
	case DiskFull:
		f.DiskFreeGB = 0
	case DriverMissing:
		f.Driver = machinefs.DriverMissing
	case DriverVersion:
		f.DriverVersion = "550.127.05"
		if v, ok := r.Value.(string); ok {
			f.DriverVersion = v
		}
		f.CUDAVersion = facts.CUDA(f.DriverVersion)
	case MemoryHeld:
		f.GPUs = slices.Clone(f.GPUs)
		for i := range f.GPUs {
			f.GPUs[i].HeldMiB = min(int(r.amount(20000)), f.GPUs[i].MemoryMiB)
		}
	case NotAvailable:
		f.GPUs = slices.Clone(f.GPUs)
		for i := range f.GPUs {
			f.GPUs[i].NotAvailable = true
		}
	case NoDocker:
		f.Docker = false
	case NoGPURuntime:
		f.NoGPURuntime = true
	default:
		return false
	}
	return true
}

// applyStart changes how vLLM's next start goes. It reports whether any of the
// rules is about that.
func applyStart(v *machinefs.VLLM, rules []Rule) bool {
	for _, r := range rules {
		switch r.Fault {
		case FailStart:
			v.Fail, _ = r.Value.(string)
		case RestartLoop:
			v.Fail = restartLoopFailure
		case ExitAfter:
			v.ExitAfter = r.length(30 * time.Second)
		case Hang:
			v.Hang = true
		default: // validated
		}
	}
	return len(rules) > 0
}

// starting is called each time a container starts vLLM on a machine. What the
// last start's faults changed is undone first.
func (c *cloud) starting(inst *instance) {
	rules := c.faults.Event(EventContainer, subject{offer: inst.offer.ID, consumer: inst.consumer})
	err := inst.host.SetFacts(func(f *machinefs.Facts) {
		if inst.spoiled != nil {
			f.VLLM, inst.spoiled = *inst.spoiled, nil
		}
		if before := f.VLLM; applyStart(&f.VLLM, rules) {
			inst.spoiled = &before
		}
	})
	if err != nil {
		c.log.Warn("telling a machine of its faults", "session", inst.session, "error", err)
	}
}

// boot lets the machine come up and does to it what its faults say.
func (c *cloud) boot(inst *instance, machine machinefs.Facts, rules []Rule) {
	wait := time.Duration(inst.offer.Machine.Boot)
	for _, r := range rules {
		switch r.Fault {
		case NeverBoots:
			return
		case BootsLate:
			wait += r.length(5 * time.Minute)
			c.driverLater(inst, machine, r.length(5*time.Minute))
		case RefuseKey:
			if r.length(0) == 0 {
				inst.host.RefuseKeys(true)
			}
		default: // struck once it has booted
		}
	}
	if c.clock.Sleep(inst.alive, wait) != nil {
		return
	}
	if err := inst.host.Resume(); err != nil {
		c.log.Warn("booting a machine", "session", inst.session, "error", err)
		return
	}
	for _, r := range rules {
		c.work.Go(func() { c.strikeLater(inst, r) })
	}
}

// driverLater postpones a driver that is being built: it starts when the machine has booted.
func (c *cloud) driverLater(inst *instance, machine machinefs.Facts, by time.Duration) {
	if machine.Driver != machinefs.DriverBuilding {
		return
	}
	_ = inst.host.SetFacts(func(f *machinefs.Facts) { f.DriverReadyAt = f.DriverReadyAt.Add(c.clock.real(by)) })
}

// whenRunning is when a machine that has booted surely reads running: faults
// without a time of their own strike then.
const whenRunning = 3 * time.Minute

// strikeLater does to a booted machine what a rule of its boot says.
func (c *cloud) strikeLater(inst *instance, r Rule) {
	var after time.Duration
	switch r.Fault {
	case ChangeHostKey, ChangeAddress:
		after = r.length(whenRunning)
	case Vanish, RefuseKey:
		after = r.length(0)
	case LoseSSH, Unresponsive:
		lost, err := r.outage()
		if err != nil {
			return
		}
		after = time.Duration(lost.After)
	case EngineHangs, PullFails, SlowPull: // from the first moment
	default:
		return
	}
	if c.clock.Sleep(inst.alive, after) != nil {
		return
	}
	if err := c.strike(inst, r); err != nil {
		c.log.Warn("striking a machine", "session", inst.session, "fault", r.Fault, "error", err)
	}
}

// strike does a fault to a running machine, now.
func (c *cloud) strike(inst *instance, r Rule) error {
	switch r.Fault {
	case Vanish:
		c.release(inst, "the cloud took it away")
		return nil
	case RefuseKey:
		inst.host.RefuseKeys(true)
		return nil
	case ChangeHostKey:
		return inst.host.ChangeHostKey()
	case ChangeAddress:
		if err := inst.host.ChangeAddress(); err != nil {
			return err
		}
		c.moved(inst)
		return nil
	case LoseSSH, Unresponsive:
		return c.loseSSH(inst, r)
	case EngineHangs, PullFails, SlowPull:
		return c.strikeEngine(inst, r)
	case NeverBoots:
		return inst.host.Pause()
	default:
		return c.strikeFacts(inst, r)
	}
}

func (c *cloud) strikeFacts(inst *instance, r Rule) error {
	known := true
	err := inst.host.SetFacts(func(f *machinefs.Facts) {
		switch {
		case r.Fault == DriverBuilding:
			f.Driver = machinefs.DriverBuilding
			f.DriverReadyAt = time.Now().Add(c.clock.real(r.length(10 * time.Minute)))
		case slices.Contains(eventFaults[EventContainer], r.Fault):
			applyStart(&f.VLLM, []Rule{r})
		default:
			known = applyFact(f, r)
		}
	})
	if !known {
		return fmt.Errorf("fault %q can't strike a machine that runs", r.Fault)
	}
	return err
}

// later undoes a fault when its time is up, unless the machine has ended.
func (c *cloud) later(inst *instance, after time.Duration, undo func() error) {
	c.work.Go(func() {
		if c.clock.Sleep(inst.alive, after) != nil {
			return
		}
		if err := undo(); err != nil {
			c.log.Warn("ending a machine's fault", "session", inst.session, "error", err)
		}
	})
}

func (c *cloud) loseSSH(inst *instance, r Rule) error {
	lost, err := r.outage()
	if err != nil {
		return err
	}
	if r.Fault == Unresponsive {
		inst.host.Unresponsive(true)
		c.later(inst, time.Duration(lost.For), func() error {
			inst.host.Unresponsive(false)
			return nil
		})
		return nil
	}
	if err := inst.host.Pause(); err != nil {
		return err
	}
	inst.host.DropConnections()
	c.later(inst, time.Duration(lost.For), inst.host.Resume)
	return nil
}

func (c *cloud) strikeEngine(inst *instance, r Rule) error {
	engine := inst.host.Engine()
	if engine == nil {
		return fmt.Errorf("fault %q: the machine has no container engine", r.Fault)
	}
	switch r.Fault {
	case EngineHangs:
		engine.Hang(true)
		c.later(inst, r.length(5*time.Minute), func() error {
			engine.Hang(false)
			return nil
		})
	case PullFails:
		words, ok := r.Value.(string)
		if !ok {
			words = "unexpected EOF"
		}
		engine.FailPull(words)
	default: // SlowPull
		engine.SlowPull(c.clock.real(r.length(5 * time.Minute)))
	}
	return nil
}

// Advanced tells the machines that the clock was moved: a driver that is being
// built is done that much earlier.
func (c *cloud) Advanced(d time.Duration) {
	c.mu.Lock()
	var running []*instance
	for _, inst := range c.instances {
		if !inst.ending {
			running = append(running, inst)
		}
	}
	c.mu.Unlock()
	for _, inst := range running {
		_ = inst.host.SetFacts(func(f *machinefs.Facts) { // a machine that ends meanwhile has no facts any more
			if f.Driver == machinefs.DriverBuilding {
				f.DriverReadyAt = f.DriverReadyAt.Add(-c.clock.real(d))
			}
		})
	}
}

// restartLoopFailure is the failure by which every start of a restart loop ends.
const restartLoopFailure = "out_of_memory"
