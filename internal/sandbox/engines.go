package sandbox

import "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"

// containerEngine serves a machine's Docker socket.
type containerEngine struct{}

// Close ends the server and every container.
func (e *containerEngine) Close() error { return nil }

func startEngine(*machine.Machine, func()) (*containerEngine, error) { return &containerEngine{}, nil }
