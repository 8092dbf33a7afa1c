package sandbox

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestClockRunsAtItsSpeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClock(60)
		began := time.Now()
		if err := c.Sleep(t.Context(), 5*time.Minute); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("five minutes took %v", took)
		}
		if elapsed := c.Elapsed(); elapsed != 5*time.Minute {
			t.Errorf("elapsed %v", elapsed)
		}
		if date := c.Now().Sub(began); date != 5*time.Second {
			t.Errorf("the date moved by %v: it doesn't run faster", date)
		}
	})
}

func TestClockWakesWhenItIsMoved(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClock(0)
		began := c.Now()
		woken := make(chan error, 1)
		go func() { woken <- c.Sleep(t.Context(), time.Hour) }()
		synctest.Wait()
		c.Advance(59 * time.Minute)
		synctest.Wait()
		select {
		case err := <-woken:
			t.Fatalf("woken too early: %v", err)
		default:
		}
		c.Advance(-time.Hour) // nothing
		c.Advance(time.Minute)
		if err := <-woken; err != nil {
			t.Error(err)
		}
		if moved := c.Now().Sub(began); moved != time.Hour {
			t.Errorf("the date moved by %v", moved)
		}
	})
}

func TestClockSleepEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, speed := range []float64{0, 1} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := newClock(speed).Sleep(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("speed %v: %v", speed, err)
			}
			cancel()
		}
	})
}
