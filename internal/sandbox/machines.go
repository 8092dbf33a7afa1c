package sandbox

import (
	"errors"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/tool"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// Machines is the kind of machines that offers are of.
type Machines string

// The kinds of machines. An offer's MachineSpec overrides them.
const (
	// AsSeen are machines as they were observed on the clouds: without Docker, some with
	// an old driver that is built after boot, some without a C compiler.
	AsSeen Machines = ""
	// Friendly are machines on which nothing is missing: VMs have Docker, and all have a
	// current driver and what an installation of vLLM needs.
	Friendly Machines = "friendly"
)

// Main has to be the first call of every main and TestMain that starts sandboxes. The
// programs of a machine are this executable under other names: Main runs such a
// program and exits. In any other process it returns at once.
func Main() {
	tool.Main(map[string]tool.Program{tool.VLLM: vllmserver.Main})
}

// Finish ends what the machines of this process share, which otherwise ends just after
// the process does. Call it after the last sandbox's Close if nothing may be left then.
func Finish() error { return machine.Finish() }

// Machine returns the running machine of a session, nil if there is none.
func (s *Sandbox) Machine(sessionID string) *machine.Machine {
	if rented := s.rentedMachine(sessionID); rented != nil {
		return rented.Machine
	}
	return nil
}

func (s *Sandbox) rentedMachine(sessionID string) *rentedMachine {
	inst := s.cloud.ofSession(sessionID)
	if inst == nil || inst.alive.Err() != nil {
		return nil
	}
	rented, _ := inst.host.(*rentedMachine)
	return rented
}

// rentedMachine is a machine with its container engine.
type rentedMachine struct {
	*machine.Machine
	engine *containerEngine // nil if the machine can't have one
}

// realMachines starts machines below a directory.
func realMachines(dir string) startHost {
	return func(req hostRequest) (host, error) {
		m, err := machine.Start(machine.Options{
			Dir: dir, ID: req.ID, Facts: req.Facts, AuthorizedKeys: []string{req.AuthorizedKey}, NotListening: true, Idle: req.Idle,
		})
		if err != nil {
			return nil, err
		}
		rented := &rentedMachine{Machine: m}
		if req.Facts.Docker || !req.Facts.Container { // apt-get may bring its program later
			if rented.engine, err = startEngine(m, req.Starting); err != nil {
				return nil, errors.Join(err, m.Close())
			}
		}
		return rented, nil
	}
}

// Engine returns the machine's container engine, nil if there is none.
func (m *rentedMachine) Engine() engineFaults {
	if facts, err := m.Root().ReadFacts(); m.engine == nil || err != nil || !facts.Docker {
		return nil
	}
	return m.engine
}

// Close ends the engine and its containers, then the machine.
func (m *rentedMachine) Close() error {
	if m.engine == nil {
		return m.Machine.Close()
	}
	return errors.Join(m.engine.Close(), m.Machine.Close())
}
