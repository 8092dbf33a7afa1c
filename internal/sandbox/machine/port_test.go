package machine_test

import (
	"os/exec"
	"sync"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
)

// A program that is being started holds this process's files for a moment, a listener that was just
// closed among them: its port must not count as taken.
func TestAPortIsClosedWhileProgramsStart(t *testing.T) {
	t.Parallel()
	m := startWith(t, machine.Options{Facts: vm(), NotListening: true})
	done := make(chan struct{})
	var starting sync.WaitGroup
	defer starting.Wait()
	defer close(done)
	for range 4 {
		starting.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := exec.Command("true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 200 {
		if err := m.ResumeListening(); err != nil {
			t.Fatal(err)
		}
		if err := m.StopListening(); err != nil {
			t.Fatal(err)
		}
		if err := m.ChangePort(); err != nil {
			t.Fatal(err)
		}
		if err := m.StopListening(); err != nil {
			t.Fatal(err)
		}
	}
}
