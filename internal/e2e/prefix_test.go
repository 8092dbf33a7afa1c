package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// replaceable is a session that is replaced by renting the new machine first.
func replaceable(offer string, more ...string) string {
	return fmt.Sprintf("resource \"shopper_gpu_session\" \"x\" {\n  name_prefix = \"web-\"\n  offer_id = %q\n  %s\n"+
		"  lifecycle { create_before_destroy = true }\n}\n", offer, strings.Join(more, "\n  "))
}

// unlost checks that what bills is what is in state, and how many that is.
func (s *stack) unlost(t *testing.T, want int) {
	t.Helper()
	var names []string
	for _, r := range s.world.ledger(t).Billing {
		names = append(names, name(r))
	}
	if len(names) != want {
		t.Errorf("%d machines bill, want %d: %q", len(names), want, names)
	}
	s.world.accounted(t, []*stack{s}, names...)
}

// The new machine runs before the old one is released, whose name it doesn't share.
func TestE2EPrefix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t, replaceable("vastai-1003"))
	s.apply(t)
	s.unlost(t, 1)
	s.write(t, replaceable("vastai-1004"))
	if text := s.apply(t); strings.Contains(text, "under the same prefix") {
		t.Errorf("it warns of the machine in state:\n%s", text)
	}
	s.unlost(t, 1)
	s.unchanged(t)
	rentals := w.ledger(t).Rentals
	slices.SortFunc(rentals, func(a, b sandbox.Rental) int { return a.RentedAt.Compare(b.RentedAt) })
	if len(rentals) != 2 || rentals[0].ReleasedAt == nil || rentals[0].ReleasedAt.Before(rentals[1].RentedAt) {
		t.Errorf("the old machine was released before the new one was rented, or too many were: %v", rentals)
	}

	// Instances of one resource share the prefix.
	s.write(t, strings.Replace(replaceable("vastai-1004"), "offer_id = \"vastai-1004\"", "requirements = {}\n  count = 3", 1))
	s.apply(t)
	s.unlost(t, 3)
	s.unchanged(t)
	s.destroy(t)
	s.unlost(t, 0)
	if left := s.entries(t); len(left) > 0 {
		t.Errorf("the journal still holds %v", left)
	}
}

// A run that dies while the new machine boots leaves it behind under a name that no
// other run uses. The next one releases it, whatever it is, and never the old one.
func TestE2EPrefixCrash(t *testing.T) {
	t.Parallel()
	for _, next := range []string{"apply", "destroy", "destroy without a refresh", "in place"} {
		t.Run(next, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.newStack(t, "s")
			s.write(t, replaceable("vastai-1003"))
			s.apply(t)
			old := w.ledger(t).Billing[0].SessionID
			s.write(t, replaceable("vastai-1004"))
			left := s.crashWaiting(t, "web-")
			if w.status(t, old) != "running" {
				t.Error("the machine in state has gone")
			}
			switch next {
			case "apply":
				says(t, s.must(t, 2, planArgs...), "Leftover rental found: web-", left)
				says(t, s.apply(t), left, old)
				s.unlost(t, 1)
				s.unchanged(t)
				s.destroy(t)
			case "in place":
				s.write(t, replaceable("vastai-1003"))
				says(t, s.must(t, 2, planArgs...), "Leftover rental found: web-", left, "will be updated in-place")
				says(t, s.apply(t), "Leftover rental was released: web-", left)
				s.unlost(t, 1)
				if w.status(t, old) != "running" {
					t.Error("the machine in state has gone")
				}
				s.unchanged(t)
				s.destroy(t)
			case "destroy":
				s.destroy(t)
			default:
				s.destroy(t, "-refresh=false")
			}
			s.unlost(t, 0)
			if entries := s.entries(t); len(entries) > 0 {
				t.Errorf("the journal still holds %v", entries)
			}
		})
	}
}

// A run that dies while the old machine is being released leaves both in state, and the next one releases the old. A CLI that has not
// written the new one to state yet makes it a conflict, as in TestE2EPrefixLostState.
func TestE2EPrefixDiesReleasing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t, replaceable("vastai-1003"))
	s.apply(t)
	old := w.ledger(t).Billing[0].SessionID
	w.faults(t, sandbox.Rule{Route: sandbox.EventDestroy, Consumer: "terraform/web-", Fault: sandbox.DestroySlow, Value: "6m"})
	s.write(t, replaceable("vastai-1004"))
	e := s.start(t, applyArgs...)
	w.struck(t)
	e.signal(t, syscall.SIGKILL)
	e.wait(t)
	w.quiet(t)
	w.faults(t)
	known := s.sessions(t)
	if !slices.Contains(known, old) {
		t.Fatalf("state has lost the old machine: %v", known)
	}
	if len(known) == 1 {
		rentals := w.ledger(t).Rentals
		lost := rentals[slices.IndexFunc(rentals, func(r sandbox.Rental) bool { return r.SessionID != old })].SessionID
		says(t, s.must(t, 1, applyArgs...), "Name is already in use", `under the prefix "web-"`, lost)
		w.ask(t, "DELETE", "/api/v1/sessions/"+lost, nil, nil)
		w.ends(t, lost)
		s.write(t, replaceable("vastai-1005")) // the service lists that machine again only after a while
	}
	s.apply(t)
	w.ends(t, old)
	s.unlost(t, 1)
	s.unchanged(t)
	s.destroy(t)
	s.unlost(t, 0)
}

// A machine that was complete when the run died, and is in no state, may be the live
// one for all that the journal knows: the next apply stops and names it.
func TestE2EPrefixLostState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t, replaceable("vastai-1003"))
	s.apply(t)
	before := s.stateText(t)
	w.faults(t, sandbox.Rule{Route: sandbox.EventBoot, Consumer: "terraform/late/", Fault: sandbox.BootsLate, Value: "6m"})
	s.write(t, replaceable("vastai-1004"), session("late"))
	e := s.start(t, applyArgs...)
	e.said(t, "shopper_gpu_session.x: Creation complete")
	w.struck(t)
	e.signal(t, syscall.SIGKILL)
	e.wait(t)
	w.quiet(t)
	w.faults(t)
	if err := os.WriteFile(s.stateFile(), []byte(before), 0o600); err != nil { // as where the CLI died before it wrote
		t.Fatal(err)
	}
	var lost []string
	for _, r := range w.ledger(t).Billing {
		if name(r) != "late" && !slices.Contains(s.sessions(t), r.SessionID) {
			lost = append(lost, r.SessionID)
		}
	}
	if len(lost) != 1 {
		t.Fatalf("these are lost: %v", lost)
	}
	says(t, s.must(t, 1, applyArgs...), "Name is already in use", `under the prefix "web-"`, lost[0], "import")
	if w.status(t, lost[0]) != "running" {
		t.Error("it was released")
	}
	w.ask(t, "DELETE", "/api/v1/sessions/"+lost[0], nil, nil)
	w.ends(t, lost[0])
	s.write(t, replaceable("vastai-1005"), session("late")) // the service lists that machine again only after a while
	s.apply(t)
	s.unlost(t, 2)
	s.destroy(t)
	s.unlost(t, 0)
}
