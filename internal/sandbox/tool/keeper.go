package tool

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

const (
	keeperName = "shopper-sandbox-keeper"
	keeperEnv  = "SHOPPER_SANDBOX_KEEPER"
)

// sweepTime bounds the wait for the end of one machine's processes.
const sweepTime = 10 * time.Second

// Keeper is a small process beside one that plays machines. If that one dies without
// having closed them, even by SIGKILL, the keeper ends the machines' processes and
// removes their directories.
type Keeper struct {
	mu    sync.Mutex
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

// StartKeeper starts a keeper, as yet without machines.
func StartKeeper() (*Keeper, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("starting the sandbox's keeper: %w", err)
	}
	cmd := exec.Command(exe) //nolint:noctx // it has to outlive every context of this process
	cmd.Args = []string{keeperName}
	cmd.Env = append([]string{keeperEnv + "=1"}, machinefs.Instrumentation()...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // out of reach of what ends the sandbox's group
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("starting the sandbox's keeper: %w", err)
	}
	return &Keeper{cmd: cmd, stdin: stdin}, nil
}

// Watch adds a machine.
func (k *Keeper) Watch(root machinefs.Root) error { return k.tell("+", root) }

// Forget removes a machine that its owner has closed.
func (k *Keeper) Forget(root machinefs.Root) error { return k.tell("-", root) }

func (k *Keeper) tell(sign string, root machinefs.Root) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := io.WriteString(k.stdin, sign+string(root)+"\n"); err != nil {
		return fmt.Errorf("notifying the sandbox's keeper: %w", err)
	}
	return nil
}

// Close ends the keeper and waits for it.
func (k *Keeper) Close() error {
	_ = k.stdin.Close()
	if err := k.cmd.Wait(); err != nil {
		return fmt.Errorf("ending the sandbox's keeper: %w", err)
	}
	return nil
}

// clearUp reads orders until they end with the process that writes them, and then removes
// the machines that are left.
func clearUp(orders io.Reader) {
	machines := map[machinefs.Root]bool{}
	lines := bufio.NewScanner(orders)
	for lines.Scan() {
		if dir, ok := strings.CutPrefix(lines.Text(), "+"); ok {
			machines[machinefs.Root(dir)] = true
		}
		if dir, ok := strings.CutPrefix(lines.Text(), "-"); ok {
			delete(machines, machinefs.Root(dir))
		}
	}
	for root := range machines {
		ctx, cancel := context.WithTimeout(context.Background(), sweepTime)
		_ = root.EndProcesses(ctx) // there is nobody to report to
		cancel()
		_ = os.RemoveAll(string(root))
	}
}
