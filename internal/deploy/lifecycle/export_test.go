package lifecycle

import (
	"context"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// Facts are what preflight saw of a machine.
type Facts = facts

// Preflight is the part of a launch that changes nothing.
func Preflight(ctx context.Context, machine deploy.Machine, request Request) (Facts, []deploy.Finding, error) {
	l := newLaunch(ctx, machine, request)
	survey, err := l.examine(ctx)
	if err != nil {
		return Facts{}, nil, l.failed(ctx, failure(deploy.PhasePreflight, "Machine could not be examined", err))
	}
	defer survey.close()
	return survey.facts(), survey.judge(), nil
}
