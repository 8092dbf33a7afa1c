// Package pace spaces out what is tried again until it works.
package pace

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pace is how far apart tries are. It is used by one goroutine.
type Pace struct{ next, most time.Duration }

// New returns a pace that begins with a pause of first, so that what is quick stays quick. Each pause is half as long
// again as the one before it, up to most. Up to a fifth is added at random, which keeps many that wait out of step.
func New(first, most time.Duration) *Pace { return &Pace{next: first, most: most} }

// Looks is the pace of looks at something on a machine that is being waited for.
func Looks() *Pace { return New(100*time.Millisecond, 2*time.Second) }

// Wait pauses. It returns ctx's error when that ends first, at once.
func (p *Pace) Wait(ctx context.Context) error {
	pause := p.next + time.Duration(rand.Int64N(int64(p.next)/5+1)) //nolint:gosec // jitter needs no secrecy
	p.next = min(p.next*3/2, p.most)
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	return ctx.Err()
}
