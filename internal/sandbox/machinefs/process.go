package machinefs

import (
	"context"
	"fmt"
	"os"
	"time"
)

// EndProcesses kills every process of the machine except the caller, and those that they
// start meanwhile, and returns once they are gone. A machine's processes are those that
// were started with Env set to its directory. Only Linux shows that; on other systems
// none is found. The error is ctx's.
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

// One scan can miss a process whose parent has ended just after the fork, or that is in
// the middle of an exec and has no environment.
const (
	cleanScans   = 1  // scans that find nothing, after the first one
	unclearScans = 10 // the same while some process has no environment
	scanPause    = 2 * time.Millisecond
)

// kill kills a process if it is one of the machine's. It gets the handle before it checks
// that, so that it never kills another process that has got the same pid.
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
