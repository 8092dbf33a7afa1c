package process

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// The wait for memory that is never released ends, and reports it.
func TestMemoryThatDoesNotComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &Host{machine: scripted{answer: func(args []string) host.Result {
			if strings.Contains(args[1], "compute-apps") {
				return host.Result{}
			}
			return host.Result{Stdout: "0, GPU-1, 24564, 9000, 580.95.05, NVIDIA L4, 8.9, 46\n"}
		}}}
		begun := time.Now()
		got := h.awaitMemory(t.Context(), []int{100})
		if !strings.Contains(got, "GPU 0 holds 9000 MiB, 100 before the start") || time.Since(begun) != memoryTime {
			t.Errorf("%q after %s", got, time.Since(begun))
		}
		if got := h.awaitMemory(t.Context(), []int{8800}); got != "" {
			t.Errorf("what was there before: %q", got)
		}
	})
}

// scripted is a machine with scripted output.
type scripted struct {
	local

	answer func(args []string) host.Result
}

func (s scripted) Run(_ context.Context, command host.Command) (host.Result, error) {
	return s.answer(command.Args), nil
}
