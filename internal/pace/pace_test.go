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
