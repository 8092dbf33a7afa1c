package pace

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// Pauses grow by half, by no more than a fifth at random, and up to their bound.
func TestPaceSlowsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(time.Second, 4*time.Second)
		for i, seconds := range []float64{1, 1.5, 2.25, 3.375, 4, 4} {
			want := time.Duration(seconds * float64(time.Second))
			begun := time.Now()
			if err := p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took < want || took > want*6/5 {
				t.Errorf("pause %d is %s, want %s and a fifth at most", i, took, want)
			}
		}
	})
}

// A wait ends with its context, to the instant.
func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		var err error
		for p := Looks(); err == nil; err = p.Wait(ctx) {
		}
		if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != 10*time.Second {
			t.Errorf("%v after %s", err, took)
		}
	})
}

// Whoever asks, and however many: in no minute are there more than the budget says, and all of them are used.
func TestBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := PerMinute(30, 12)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		done := make(chan time.Time)
		for range 7 {
			go func() {
				for b.Wait(ctx) == nil {
					done <- time.Now()
				}
				done <- time.Time{}
			}()
		}
		var times []time.Time
		for ended := 0; ended < 7; {
			if at := <-done; at.IsZero() {
				ended++
			} else {
				times = append(times, at)
			}
		}
		for i, from := range times {
			n := 0
			for _, at := range times[i:] {
				if at.Sub(from) < time.Minute {
					n++
				}
			}
			if n > 30 {
				t.Fatalf("%d in the minute from %s on", n, from)
			}
		}
		if n := len(times); n < 12+5*18-1 {
			t.Errorf("%d in five minutes", n)
		}
		if err := b.Wait(t.Context()); err != nil { // those that gave up have left their turns
			t.Fatal(err)
		}
		if waited := time.Since(times[len(times)-1]); waited > 2*time.Minute/18 {
			t.Errorf("the next turn came after %s", waited)
		}
	})
}

// News ends a pause at once.
func TestSleepEndsWithNews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		news := make(chan struct{}, 1)
		time.AfterFunc(time.Second, func() { news <- struct{}{} })
		begun := time.Now()
		if came, err := Sleep(t.Context(), time.Minute, news); !came || err != nil || time.Since(begun) != time.Second {
			t.Errorf("%t, %v after %s", came, err, time.Since(begun))
		}
		if came, err := Sleep(t.Context(), time.Minute, news); came || err != nil {
			t.Errorf("without news: %t, %v", came, err)
		}
	})
}
