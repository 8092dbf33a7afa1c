package machinefs_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// sleeper starts a process of root's that moves to a session of its own.
func sleeper(t *testing.T, root machinefs.Root) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sleep", "1000")
	cmd.Env = []string{machinefs.Env + "=" + string(root)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestEndProcessesEndsTheMachinesAndNoOther(t *testing.T) {
	t.Parallel()
	mine := newRoot(t)
	other := machinefs.Root(string(mine) + "x") // a name that begins like the machine's
	victim, bystander := sleeper(t, mine), sleeper(t, other)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := mine.EndProcesses(ctx); err != nil {
		t.Fatal(err)
	}
	var killed *exec.ExitError
	if err := victim.Wait(); !errors.As(err, &killed) || killed.ExitCode() != -1 {
		t.Errorf("the machine's process ended with %v", err)
	}
	if pids := other.Processes(); len(pids) != 1 || pids[0] != bystander.Process.Pid {
		t.Errorf("the other machine's processes are %v, not %d", pids, bystander.Process.Pid)
	}
	if err := bystander.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = bystander.Wait()
}

func TestEndProcessesStopsAtItsDeadline(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := newRoot(t)
	cmd := sleeper(t, root)
	if err := root.EndProcesses(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	_ = cmd.Wait()
	if pids := root.Processes(); len(pids) != 0 {
		t.Errorf("left: %v, while this is %d", pids, os.Getpid())
	}
}
