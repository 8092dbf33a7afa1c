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

// containerEngine serves a machine's Docker socket.
type containerEngine struct {
	engine *engine.Engine
	server *http.Server
	serves sync.WaitGroup
}

func serveEngine(socket string, e *containerEngine) error {
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	e.server = &http.Server{Handler: e.engine, ReadHeaderTimeout: 30 * time.Second}
	e.serves.Go(func() { _ = e.server.Serve(listener) }) // ends with Close
	return nil
}

// Close ends the server and every container.
func (e *containerEngine) Close() error {
	err := e.server.Close()
	e.serves.Wait()
	e.engine.Close()
	return err
}

// Engine returns the container engine of a session's machine, nil when there is none.
func (s *Sandbox) Engine(sessionID string) *engine.Engine {
	if rented := s.rentedMachine(sessionID); rented != nil && rented.engine != nil {
		return rented.engine.engine
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
	running := &containerEngine{engine: e}
	if err := serveEngine(m.Root().DockerSocket(), running); err != nil {
		e.Close()
		return nil, fmt.Errorf("starting a container engine: %w", err)
	}
	return running, nil
}
