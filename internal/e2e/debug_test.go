package e2e

import (
	"bufio"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// debugged is a provider that runs with -debug.
type debugged struct {
	cmd   *exec.Cmd
	out   output // standard error
	ended chan error
}

// debug starts the provider with -debug, and has the stack's CLI use that one.
func (s *stack) debug(t *testing.T) *debugged {
	t.Helper()
	d := &debugged{cmd: exec.Command(filepath.Join(built.providers, providerName), "-debug"), ended: make(chan error, 1)}
	d.cmd.Dir, d.cmd.Stderr = s.dir, &d.out
	d.cmd.Env = append(cleanEnv(), s.world.mark(), "HOME="+s.world.home(), "TMPDIR="+s.world.tmp())
	stdout, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		name, value, found := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !found || name != "TF_REATTACH_PROVIDERS" {
			continue
		}
		value = strings.Trim(value, "'")
		if strings.HasPrefix(built.version, "OpenTofu") {
			value = strings.ReplaceAll(value, "registry.terraform.io", "registry.opentofu.org")
		}
		s.env = append(s.env, name+"="+value)
		go func() { d.ended <- d.cmd.Wait() }()
		return d
	}
	_ = d.cmd.Process.Kill()
	t.Fatalf("it didn't say how to reach it: %v\n%s", d.cmd.Wait(), d.out.String())
	return nil
}

// A provider that is being debugged ends by a signal, and before it does it gives
// back what it was renting.
func TestE2EDebuggedProviderEndsInOrder(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.newStack(t, "s")
			d := s.debug(t)
			s.write(t, session("done"))
			s.apply(t)
			w.faults(t,
				sandbox.Rule{Route: sandbox.EventBoot, Consumer: "terraform/waiting/", Fault: sandbox.BootsLate, Value: "6m"},
				sandbox.Rule{Route: sandbox.EventDestroy, Consumer: "terraform/waiting/", Fault: sandbox.DestroySlow, Value: "2s"},
			)
			s.write(t, session("done"), session("waiting"))
			e := s.start(t, applyArgs...)
			eventually(t, func() error {
				if n := w.rentals(t, "waiting"); n != 1 {
					return fmt.Errorf("%d machines", n)
				}
				return nil
			})

			if err := d.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-d.ended:
				if err != nil {
					t.Errorf("it ended with %v:\n%s", err, d.out.String())
				}
			case <-time.After(patience):
				_ = d.cmd.Process.Kill()
				t.Fatalf("it goes on after %s:\n%s", signal, d.out.String())
			}
			w.accounted(t, []*stack{s}, "done") // without another call of anybody
			if code := e.wait(t); code == 0 {
				t.Errorf("the apply worked:\n%s", e.out.String())
			}
			s.env = nil
			s.destroy(t)
			w.accounted(t, []*stack{s})
		})
	}
}
