package rental

import (
	"context"
	"math/rand/v2"
	"time"
)

// pace spaces out repeated reads: quickly at first, then ever more slowly, with
// some jitter so that many waits don't fall into step.
type pace struct {
	next, most time.Duration
}

func newPace(first, most time.Duration) *pace {
	return &pace{next: first, most: most}
}

// wait returns ctx's error when it ends first, which is then exactly at its
// deadline.
func (p *pace) wait(ctx context.Context) error {
	d := p.next
	p.next = min(p.most, p.next*3/2)
	d += time.Duration(rand.Int64N(int64(d)/5 + 1)) //nolint:gosec // jitter, not a secret
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
