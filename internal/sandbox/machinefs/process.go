package machinefs

import (
	"context"
	"fmt"
	"os"
	"time"
)

// EndProcesses kills every process of the machine, and those that they start
// meanwhile, and returns once they are gone. A process belongs to the machine
// when it was started with Env naming the machine's directory, whatever session
// or group it has moved to since; no other process is touched, nor is the caller.
// Only Linux shows that; elsewhere nothing is found. The error is ctx's.
func (r Root) EndProcesses(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for clean := 0; ; {
		pids, unclear := r.look()
		for _, pid := range pids {
			r.kill(pid)
		}
		switch {
		case len(pids) > 0:
			clean = 0
		case clean >= cleanScans && !unclear, clean >= unclearScans:
			return nil
		default:
			clean++
		}
		pause.Reset(scanPause)
		select {
		case <-ctx.Done():
			return fmt.Errorf("ending a sandbox machine's processes %v: %w", pids, ctx.Err())
		case <-pause.C:
		}
	}
}

// One look at the list of processes can miss one that was just forked by another
// that has ended since, or that is in the middle of an exec and has no
// environment to show.
const (
	cleanScans   = 1  // looks that find nothing, after a first one
	unclearScans = 10 // the same while some process shows no environment
	scanPause    = 2 * time.Millisecond
)

// kill ends the process pid if it still is one of the machine's. The handle is
// taken before the question, so that a pid given to another process in between
// is never the one that is killed.
func (r Root) kill(pid int) {
	process, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	defer func() { _ = process.Release() }()
	if owned, _ := r.owns(pid); owned {
		_ = process.Kill() // an error means that it has ended
	}
}
