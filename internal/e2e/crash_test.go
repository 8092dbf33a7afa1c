package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// crash is one way in which a run ends before its time.
type crash struct {
	name   string
	strike func(t *testing.T, w *world, e *execution)
	// orderly is true where the provider gets to clean up after itself.
	orderly bool
}

var crashes = []crash{
	{name: "Ctrl-C", orderly: true, strike: func(t *testing.T, _ *world, e *execution) {
		t.Helper()
		e.signal(t, syscall.SIGINT)
	}},
	{name: "Ctrl-C twice", strike: func(t *testing.T, _ *world, e *execution) {
		t.Helper()
		e.signal(t, syscall.SIGINT)
		e.said(t, "nterrupt")
		if err := syscall.Kill(-e.cmd.Process.Pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err) // it may have ended after the first one
		}
	}},
	{name: "SIGTERM to the group", orderly: true, strike: func(t *testing.T, _ *world, e *execution) {
		t.Helper()
		e.signal(t, syscall.SIGTERM)
	}},
	{name: "kill -9 of the provider", strike: func(t *testing.T, w *world, _ *execution) {
		t.Helper()
		w.killProviders(t)
	}},
	{name: "kill -9 of the CLI", strike: func(t *testing.T, _ *world, e *execution) {
		t.Helper()
		if err := e.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
	}},
	{name: "kill -9 of both", strike: func(t *testing.T, _ *world, e *execution) {
		t.Helper()
		e.signal(t, syscall.SIGKILL)
	}},
}

// The phases of a run, each with a session of its own that the crash meets there.
var phases = []string{"before", "asking", "asked", "waiting", "done"}

func phaseFaults() []sandbox.Rule {
	of := func(name string) string { return "terraform/" + name + "/" }
	return []sandbox.Rule{
		{Route: "GET /api/v1/inventory/{id}", Offer: "vastai-1020", Fault: sandbox.Delay, Value: "5m"},
		{Route: "POST /api/v1/sessions", Consumer: of("asking"), Fault: sandbox.Delay, Value: "5m"},
		{Route: "POST /api/v1/sessions", Consumer: of("asked"), Fault: sandbox.DelayAfter, Value: "5m"},
		{Route: sandbox.EventBoot, Consumer: of("waiting"), Fault: sandbox.BootsLate, Value: "6m"},
		{Route: sandbox.EventDestroy, Consumer: of("releasing"), Fault: sandbox.DestroySlow, Value: "4m"},
	}
}

func phaseConfig() []string {
	return []string{
		session("before", `offer_id = "vastai-1020"`), session("asking"), session("asked"), session("waiting"), session("done"),
	}
}

// A run that ends too early, in five phases of renting and in one of releasing
// at once, and then a plain apply and a destroy: nothing is lost, nothing is
// rented twice. What was complete and is missing from the CLI's own state (it
// was killed, or interrupted twice, before it wrote that) is never taken for a
// leftover: the next apply stops and names it.
func TestE2ECrash(t *testing.T) {
	t.Parallel()
	for _, c := range crashes {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			needProc(t)
			s := w.newStack(t, "s")
			s.write(t, session("releasing"))
			s.apply(t)
			releasing := w.billing(t, "releasing")
			w.faults(t, phaseFaults()...)
			s.write(t, phaseConfig()...)
			e := s.start(t, applyArgs...)
			w.struck(t)
			eventually(t, func() error { // the answer to one is late, the machine is there
				if a, b := w.rentals(t, "asked"), w.rentals(t, "waiting"); a+b != 2 {
					return fmt.Errorf("%d machines of asked and %d of waiting", a, b)
				}
				return nil
			})
			e.said(t, "shopper_gpu_session.done: Creation complete")

			c.strike(t, w, e)
			if code := e.wait(t); code == 0 {
				t.Errorf("the run was not cut short:\n%s", e.out.String())
			}
			left := w.unknown(t, s)
			if c.orderly {
				w.accounted(t, []*stack{s}, "done")
			}
			w.faults(t)
			inState := slices.Contains(s.sessions(t), releasing)
			named := s.recover(t, "done", phaseConfig()...)
			if !inState { // the CLI lost it; what it was asked to release, the service goes on releasing
				w.ends(t, releasing)
			}
			w.accounted(t, []*stack{s}, slices.Clone(phases)...)
			s.unchanged(t)
			s.destroy(t)
			w.accounted(t, []*stack{s})
			w.quiet(t)
			t.Logf("ROW %s, %s: billing and in no state right after it: %d; after the next apply: 0 lost, 0 double, %s; after destroy: 0",
				c.name, built.version, left, named)
		})
	}
}

// recover applies. Where that stops because of the one machine that was complete
// and is not in state, it has that one replaced.
func (s *stack) recover(t *testing.T, complete string, blocks ...string) string {
	t.Helper()
	known := slices.ContainsFunc(s.world.ledger(t).Billing, func(r sandbox.Rental) bool {
		return name(r) == complete && slices.Contains(s.sessions(t), r.SessionID)
	})
	if known {
		s.apply(t)
		return "none named as a conflict"
	}
	id := s.world.billing(t, complete)
	says(t, s.must(t, 1, applyArgs...), "Name is already in use", id, "$0.3", "/h", `on_conflict = "replace"`)
	for i, block := range blocks {
		blocks[i] = strings.Replace(block, `name = "`+complete+`"`, `name = "`+complete+"\"\n  on_conflict = \"replace\"", 1)
	}
	s.write(t, blocks...)
	says(t, s.apply(t), id)
	return "1 named as a conflict and replaced"
}

// unknown counts what bills and is in no state.
func (w *world) unknown(t *testing.T, stacks ...*stack) int {
	t.Helper()
	var known []string
	for _, s := range stacks {
		known = append(known, s.sessions(t)...)
	}
	return len(slices.DeleteFunc(w.ledger(t).Billing, func(r sandbox.Rental) bool { return slices.Contains(known, r.SessionID) }))
}

// billing is the session's id of the one machine of this name.
func (w *world) billing(t *testing.T, wanted string) string {
	t.Helper()
	var ids []string
	for _, r := range w.ledger(t).Billing {
		if name(r) == wanted {
			ids = append(ids, r.SessionID)
		}
	}
	if len(ids) != 1 {
		t.Fatalf("%d machines of %s bill, want 1", len(ids), wanted)
	}
	return ids[0]
}

// ends waits until a machine that is being released bills no longer.
func (w *world) ends(t *testing.T, id string) {
	t.Helper()
	eventually(t, func() error {
		if slices.ContainsFunc(w.ledger(t).Billing, func(r sandbox.Rental) bool { return r.SessionID == id }) {
			return fmt.Errorf("session %s bills on", id)
		}
		return nil
	})
}
