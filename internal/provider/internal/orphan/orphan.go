// Package orphan lets the provider outlive a Terraform that was killed for as
// long as it takes to give back what was being rented, and no longer.
package orphan

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// interval is how often the parent is looked for.
const interval = 200 * time.Millisecond

// atWork counts the calls that must come to their end.
var atWork atomic.Int64

// Working says that something has begun that may leave a machine behind if it is
// cut off. The function that it returns says that it has ended.
func Working() (done func()) {
	atWork.Add(1)
	return sync.OnceFunc(func() { atWork.Add(-1) })
}

// Wait returns once the process that started this one has ended and nothing is
// at work. Where the operating system doesn't tell of such an end it never does.
func Wait() {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	wait(os.Getppid, tick.C)
}

// Finish returns once nothing is at work.
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
