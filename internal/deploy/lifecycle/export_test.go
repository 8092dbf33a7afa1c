package lifecycle

import (
	"context"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
)

// Facts are what preflight saw of a machine.
type Facts struct {
	Runtime       deploy.Kind
	Reason        string
	GPUs          []deploy.GPU
	Engine, Reach string
	DiskFreeBytes int64
}

// Preflight is the part of a launch that changes nothing.
func Preflight(ctx context.Context, machine deploy.Machine, request Request) (Facts, []deploy.Finding, error) {
	l := newLaunch(ctx, machine, request)
	defer l.close()
	s, err := l.examine(ctx)
	if err != nil {
		return Facts{}, nil, l.failed(ctx, failure(deploy.PhasePreflight, "Machine could not be inspected", err))
	}
	defer s.close()
	facts := Facts{Reason: s.reason, GPUs: s.gpus, DiskFreeBytes: s.imageDisk.free}
	if s.runtime != nil {
		facts.Runtime = s.runtime.Kind()
	}
	if engine, ok := s.runtime.(*container.Engine); ok {
		facts.Engine, facts.Reach = engine.Facts.Name+" "+engine.Facts.Version, engine.Program()
	}
	return facts, s.judge(), nil
}
