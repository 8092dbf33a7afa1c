// Package pace spaces out retries.
package pace

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Pace is a series of pauses. It is not safe for concurrent use.
type Pace struct{ next, most time.Duration }

// New returns a pace whose first pause is first. Each pause is 1.5 times as long as the previous one, up to most. Up to a fifth is added
// at random, so that many waits don't act at the same time.
func New(first, most time.Duration) *Pace { return &Pace{next: first, most: most} }

// Looks returns the pace of looking at something on a machine that is waited for.
func Looks() *Pace { return New(100*time.Millisecond, 2*time.Second) }

// Next returns the next pause.
func (p *Pace) Next() time.Duration {
	pause := p.next + time.Duration(rand.Int64N(int64(p.next)/5+1)) //nolint:gosec // jitter needs no secrecy
	p.next = min(p.next*3/2, p.most)
	return pause
}

// Wait waits for the next pause. When ctx ends first, it returns ctx's error.
func (p *Pace) Wait(ctx context.Context) error {
	_, err := Sleep(ctx, p.Next(), nil)
	return err
}

// Sleep waits for d, for news, or until ctx ends, whose error it then returns. came is true where news ended it.
func Sleep(ctx context.Context, d time.Duration, news <-chan struct{}) (came bool, err error) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	case _, came = <-news:
	}
	return came, ctx.Err()
}

// Budget limits the rate of an action. It is safe for concurrent use.
type Budget struct {
	burst, rate float64 // rate per second

	mu   sync.Mutex
	left float64 // below zero while some wait
	at   time.Time
}

// PerMinute returns a budget of n actions in any minute: up to burst of them at once, and the others evenly.
func PerMinute(n, burst int) *Budget {
	return &Budget{burst: float64(burst), rate: float64(n-burst) / time.Minute.Seconds(), left: float64(burst)}
}

// Wait waits until the budget allows one more action. When ctx ends first, it returns ctx's error.
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
		b.left++ // for another action
		b.mu.Unlock()
	}
	return err
}
