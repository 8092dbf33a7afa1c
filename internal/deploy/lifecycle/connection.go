package lifecycle

import (
	"context"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

const (
	// maxLosses is how many lost connections an operation bears without goodService in between. A machine that isn't
	// logged in to again by itself, as a [host.Line] is, fails at the next command anyway.
	maxLosses   = 3
	goodService = time.Minute
)

// bears tells whether err is about a lost connection that the operation can go on after.
func (l *launch) bears(phase deploy.Phase, err error) bool {
	if err == nil || !deploy.Lost(l.machine, err) {
		return false
	}
	if time.Since(l.lost) >= goodService {
		l.losses = 0
	}
	if l.losses == maxLosses {
		return false
	}
	l.losses++
	l.lost = time.Now()
	l.progress.report(phase, "the connection to the machine was lost; logging in again")
	return true
}

// again does once more what can be done twice without harm, where the connection was lost under it.
func (l *launch) again(ctx context.Context, phase deploy.Phase, do func() error) error {
	err := do()
	if ctx.Err() == nil && l.bears(phase, err) {
		err = do()
	}
	return err
}
