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
	for {
		pids := r.Processes()
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			r.kill(pid)
		}
		pause.Reset(2 * time.Millisecond)
		select {
		case <-ctx.Done():
			return fmt.Errorf("ending a sandbox machine's processes %v: %w", pids, ctx.Err())
		case <-pause.C:
		}
	}
}

// kill ends the process pid if it still is one of the machine's. The handle is
// taken before the question, so that a pid given to another process in between
// is never the one that is killed.
func (r Root) kill(pid int) {
	process, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	defer func() { _ = process.Release() }()
	if r.owns(pid) {
		_ = process.Kill() // an error means that it has ended
	}
}
