package orphan

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var parent atomic.Int64
		parent.Store(7)
		var ended atomic.Bool
		go func() {
			tick := time.NewTicker(interval)
			defer tick.Stop()
			wait(func() int { return int(parent.Load()) }, tick.C)
			ended.Store(true)
		}()
		still := func(want bool, when string) {
			t.Helper()
			<-time.After(2 * interval)
			synctest.Wait()
			if ended.Load() != want {
				t.Fatalf("ended is %t %s", !want, when)
			}
		}
		still(false, "while the parent lives")
		one, other := Working(), Working()
		parent.Store(1)
		still(false, "while two calls are at work")
		one()
		one()
		still(false, "while one call is at work")
		other()
		still(true, "with nothing left to do")
	})
}

func TestFinish(t *testing.T) { //nolint:paralleltest // what is at work is counted for the whole process
	synctest.Test(t, func(t *testing.T) {
		Finish() // nothing is at work
		started := time.Now()
		done := Working()
		time.AfterFunc(time.Minute, done)
		Finish()
		if took := time.Since(started); took < time.Minute || took > time.Minute+interval {
			t.Errorf("it returned after %s", took)
		}
	})
}
