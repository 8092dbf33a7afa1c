package sandbox

import (
	"context"
	"sync"
	"time"
)

// clock is the sandbox's time. With speed 0 it stands still until it is advanced.
type clock struct {
	speed float64 // service seconds per real second
	start time.Time

	mu       sync.Mutex
	advanced time.Duration
	moved    chan struct{} // closed and replaced whenever the clock is moved
	sleepers map[*sleeper]struct{}
}

// sleeper is a goroutine that waits for a time.
type sleeper struct {
	until time.Duration
	awake chan struct{} // closed when it no longer waits
}

func newClock(speed float64) *clock {
	return &clock{speed: speed, start: time.Now(), moved: make(chan struct{}), sleepers: map[*sleeper]struct{}{}}
}

// Now is the date, in UTC: the computer's own plus what was advanced.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.advanced).UTC()
}

// Elapsed is the service time since the start: real time times the speed, plus
// what was advanced. Intervals and timeouts of the service are measured in it.
func (c *clock) Elapsed() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.elapsedLocked()
}

func (c *clock) elapsedLocked() time.Duration {
	return time.Duration(float64(time.Since(c.start))*c.speed) + c.advanced
}

// Advance moves the clock forward. It returns once every sleeper that is now due has
// woken up.
func (c *clock) Advance(d time.Duration) {
	if d <= 0 {
		return
	}
	c.mu.Lock()
	c.advanced += d
	close(c.moved)
	c.moved = make(chan struct{})
	var due []*sleeper
	for s := range c.sleepers {
		if s.until <= c.elapsedLocked() {
			due = append(due, s)
		}
	}
	c.mu.Unlock()
	for _, s := range due {
		<-s.awake
	}
}

// Sleep waits for d of service time, or returns ctx's error.
func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	return c.SleepUntil(ctx, c.Elapsed()+d)
}

// SleepUntil waits until the service time is at least until.
func (c *clock) SleepUntil(ctx context.Context, until time.Duration) error {
	s := &sleeper{until: until, awake: make(chan struct{})}
	c.mu.Lock()
	c.sleepers[s] = struct{}{}
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.sleepers, s)
		c.mu.Unlock()
		close(s.awake)
	}()
	for {
		c.mu.Lock()
		left, moved := until-c.elapsedLocked(), c.moved
		c.mu.Unlock()
		if left <= 0 {
			return ctx.Err()
		}
		var elapsed <-chan time.Time // never, on a clock that stands still
		if c.speed > 0 {
			elapsed = time.After(c.real(left))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-moved:
		case <-elapsed:
		}
	}
}

// real is how long a service duration takes on the computer's clock. It is at least a
// moment, so that rounding can't make a loop spin.
func (c *clock) real(d time.Duration) time.Duration {
	if c.speed <= 0 {
		return d
	}
	return max(time.Duration(float64(d)/c.speed), 50*time.Microsecond)
}

// Spent is how much service time has passed since a moment of real time. What the
// sandbox really does, such as starting a machine or logging in to it, isn't faster
// at a high speed, so timeouts don't count it.
func (c *clock) Spent(since time.Time) time.Duration {
	return time.Duration(float64(time.Since(since)) * c.speed)
}
