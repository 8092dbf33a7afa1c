// Package pace spaces out what is tried again until it works.
package pace

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Pace is how far apart tries are. It is used by one goroutine.
type Pace struct{ next, most time.Duration }

// New returns a pace that begins with a pause of first, so that what is quick stays quick. Each pause is half as long
// again as the one before it, up to most. Up to a fifth is added at random, which keeps many that wait out of step.
func New(first, most time.Duration) *Pace { return &Pace{next: first, most: most} }

// Looks is the pace of looks at something on a machine that is being waited for.
func Looks() *Pace { return New(100*time.Millisecond, 2*time.Second) }

// Next is the next pause.
func (p *Pace) Next() time.Duration {
	pause := p.next + time.Duration(rand.Int64N(int64(p.next)/5+1)) //nolint:gosec // jitter needs no secrecy
	p.next = min(p.next*3/2, p.most)
	return pause
}

// Wait pauses. It returns ctx's error when that ends first, at once.
func (p *Pace) Wait(ctx context.Context) error {
	_, err := Sleep(ctx, p.Next(), nil)
	return err
}

// Sleep waits for d, for news, or for ctx, whose error it returns. It reports whether news came.
func Sleep(ctx context.Context, d time.Duration, news <-chan struct{}) (came bool, err error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case _, came = <-news:
	}
	return came, ctx.Err()
}

// Budget bounds how often something is done, however many do it. It is safe for concurrent use.
type Budget struct {
	burst, rate float64 // rate per second

	mu   sync.Mutex
	left float64 // below zero where some wait already
	at   time.Time
}

// PerMinute returns a budget of n in any minute, up to burst of them at once and the others evenly.
func PerMinute(n, burst int) *Budget {
	return &Budget{burst: float64(burst), rate: float64(n-burst) / time.Minute.Seconds(), left: float64(burst)}
}

// Wait waits for one's turn. It returns ctx's error when that ends first.
func (b *Budget) Wait(ctx context.Context) error {
	b.mu.Lock()
	now := time.Now()
	b.left = min(b.burst, b.left+now.Sub(b.at).Seconds()*b.rate) - 1
	b.at = now
	pause := time.Duration(-b.left / b.rate * float64(time.Second))
	b.mu.Unlock()
	if pause <= 0 {
		return ctx.Err()
	}
	_, err := Sleep(ctx, pause, nil)
	if err != nil {
		b.mu.Lock()
		b.left++ // somebody else's turn
		b.mu.Unlock()
	}
	return err
}
