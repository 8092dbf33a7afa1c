package lifecycle_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// A removal that can't be confirmed is an error that says what may still run, and is none that the next one can't finish.
func TestRemovalThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		status := launch(t, r, request())
		away := &vanishing{Client: r.dial(t)}
		away.gone.Store(true)
		_, err := lifecycle.Remove(within(t, limit), away, status.Ref, lifecycle.Request{})
		failed := wantError(t, r, err)
		contains(t, failed.Description(), status.Name, status.ID, "may still be running and hold GPU memory")
		if n := r.servers(t); n != 1 {
			t.Fatalf("%d servers run", n)
		}
		remove(t, r, status)
	})
}

// A cancel, a timeout of the operation and a timeout of a phase have different errors.
func TestCancelAndTimeoutAreToldApart(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		r.facts(t, func(f *machinefs.Facts) { f.VLLM.Load = 24 * time.Hour })
		for _, test := range []struct {
			name   string
			launch func(wanted lifecycle.Request) error
			is     error
			isNot  error
			says   string
		}{
			{"cancel", func(wanted lifecycle.Request) error {
				ctx, cancel := context.WithCancel(within(t, limit))
				seen := &events{on: func(e lifecycle.Event) {
					if e.Phase == deploy.PhaseLoad {
						cancel()
					}
				}}
				wanted.Progress = seen.add
				_, err := lifecycle.Launch(ctx, r, wanted)
				return err
			}, context.Canceled, context.DeadlineExceeded, "The operation was canceled."},
			{"all time", func(wanted lifecycle.Request) error {
				wanted.ReadyTimeout = limit
				wanted.Phases = lifecycle.Phases{deploy.PhasePreflight: 0.6, deploy.PhaseStart: 0.2, deploy.PhaseLoad: 0.1}
				_, err := lifecycle.Launch(within(t, limit/3), r, wanted)
				return err
			}, context.DeadlineExceeded, context.Canceled, "The operation timed out during the phase load."},
			{"a phase", func(wanted lifecycle.Request) error {
				wanted.ReadyTimeout = time.Second
				_, err := lifecycle.Launch(within(t, limit), r, wanted)
				return err
			}, context.DeadlineExceeded, context.Canceled, "The phase load timed out after"},
		} {
			err := test.launch(request())
			if !errors.Is(err, test.is) || errors.Is(err, test.isNot) {
				t.Errorf("%s: %v", test.name, err)
			}
			contains(t, wantError(t, r, err).Description(), test.says)
			r.clean(t)
		}
	})
}

// The number of a log's lines is bounded, whatever the caller requests.
func TestLogHasABound(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	status := launch(t, r, processRequest())
	if _, err := lifecycle.LogTail(within(t, limit), r, status.Ref, 1<<30); err != nil {
		t.Fatal(err)
	}
	commands := strings.Join(r.machine.CommandLog(), "\n")
	if !strings.Contains(commands, "tail -n 5000 ") || strings.Contains(commands, "tail -n 1073741824") {
		t.Error("the log was asked for without a bound")
	}
	remove(t, r, status)
}
