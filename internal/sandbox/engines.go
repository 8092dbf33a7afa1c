package sandbox

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
)

// containerEngine is a machine's container engine, served on the machine's Docker socket.
type containerEngine struct {
	*engine.Engine

	server *http.Server
	serves sync.WaitGroup
}

// Close ends the server and every container.
func (e *containerEngine) Close() error {
	err := e.server.Close()
	e.serves.Wait()
	e.Engine.Close()
	return err
}

// Engine returns the container engine of a session's machine, nil when there is none.
func (s *Sandbox) Engine(sessionID string) *engine.Engine {
	if rented := s.rentedMachine(sessionID); rented != nil && rented.engine != nil {
		return rented.engine.Engine
	}
	return nil
}

// startEngine starts a machine's container engine on its Docker socket.
func startEngine(m *machine.Machine, starting func()) (*containerEngine, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting a container engine: %w", err)
	}
	e, err := engine.New(engine.Config{
		Root: m.Root(), Program: program,
		Record: func(argv []string) {
			if line := strings.Join(argv, " "); strings.Contains(line, "vllm") {
				starting()
			}
			m.Record(argv)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("starting a container engine: %w", err)
	}
	listener, err := net.Listen("unix", m.Root().DockerSocket())
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("starting a container engine: %w", err)
	}
	running := &containerEngine{Engine: e, server: &http.Server{Handler: e, ReadHeaderTimeout: 30 * time.Second}}
	running.serves.Go(func() { _ = running.server.Serve(listener) }) // ends with Close
	return running, nil
}
