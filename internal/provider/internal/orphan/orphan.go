// Package orphan lets the provider outlive a Terraform that was killed, until what was being rented is released.
package orphan

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// interval is the time between two checks of the parent process.
const interval = 200 * time.Millisecond

// atWork counts the calls that must not be cut off.
var atWork atomic.Int64

// Working marks the beginning of a call that may leave a machine behind if it is cut off. done marks its end.
func Working() (done func()) {
	atWork.Add(1)
	return sync.OnceFunc(func() { atWork.Add(-1) })
}

// Wait returns once the parent process has ended and no marked call is running. It never returns on operating systems where
// the end of a parent is not visible.
func Wait() {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	wait(os.Getppid, tick.C)
}

// Finish returns once no marked call is running.
func Finish() {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for atWork.Load() > 0 {
		<-tick.C
	}
}

func wait(parent func() int, tick <-chan time.Time) {
	for first := parent(); parent() == first || atWork.Load() > 0; {
		<-tick
	}
}
