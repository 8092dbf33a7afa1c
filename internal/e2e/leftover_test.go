package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// crashWaiting applies the configuration and kills everything while the machine
// whose name begins so boots. It returns the id of the session that is left.
func (s *stack) crashWaiting(t *testing.T, name string) string {
	t.Helper()
	w := s.world
	w.faults(t, sandbox.Rule{
		Route: sandbox.EventBoot, Consumer: "terraform/" + name, Fault: sandbox.BootsLate, Value: "4m",
	})
	e := s.start(t, applyArgs...)
	w.struck(t)
	eventually(t, func() error { // until the journal knows the session's id: the answer has arrived
		for _, file := range s.entries(t) {
			if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), `"session_id"`) {
				return nil
			}
		}
		return fmt.Errorf("no entry of the journal has an id: %s", plain(e.out.String()))
	})
	e.signal(t, syscall.SIGKILL)
	e.wait(t)
	w.quiet(t)
	w.faults(t)
	for _, r := range w.ledger(t).Billing {
		known := strings.Join(s.sessions(t), " ")
		if strings.HasPrefix(r.ConsumerID, "terraform/"+name) && !strings.Contains(known, r.SessionID) {
			return r.SessionID
		}
	}
	t.Fatalf("no machine of %s was left behind", name)
	return ""
}

// A destroy has nothing in state to begin with, so it can't find a leftover: the
// next plan warns of it, and the next apply releases it.
func TestE2ELeftoverAfterDestroy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t, session("a"))
	id := s.crashWaiting(t, "a")
	s.destroy(t)
	says(t, s.must(t, 2, planArgs...), "Leftover rental found", id, "may cost money")
	says(t, s.apply(t), "An earlier run had rented it", id)
	w.accounted(t, []*stack{s}, "a")
	s.destroy(t, "-refresh=false")
	w.accounted(t, []*stack{s})
	if left := s.entries(t); len(left) > 0 {
		t.Errorf("the journal still holds %v", left)
	}
}

// Without the journal nothing proves that the leftover is ours.
func TestE2EJournalLost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t, session("a"))
	id := s.crashWaiting(t, "a")
	if err := os.RemoveAll(s.journal()); err != nil {
		t.Fatal(err)
	}
	says(t, s.must(t, 1, applyArgs...), "Name is already in use", id, "$0.30/h", "Import it", `on_conflict = "replace"`)
	s.write(t, session("a", `on_conflict = "replace"`))
	says(t, s.apply(t), id, "was released, because on_conflict")
	w.accounted(t, []*stack{s}, "a")
	s.destroy(t)
	w.accounted(t, []*stack{s})
}

// TF_DATA_DIR moves the journal, and a destroy without a refresh settles it too.
func TestE2EDataDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.data = filepath.Join(w.dir, "data")
	s.env = []string{"TF_DATA_DIR=" + s.data}
	s.write(t, session("kept"), session("a"))
	s.apply(t, "-target=shopper_gpu_session.kept")
	id := s.crashWaiting(t, "a")
	if _, err := os.Stat(filepath.Join(s.dir, ".terraform", "shopper")); err == nil {
		t.Error("the journal is not where TF_DATA_DIR says")
	}
	says(t, s.apply(t, "-refresh=false"), id)
	w.accounted(t, []*stack{s}, "kept", "a")
	s.destroy(t, "-refresh=false")
	w.accounted(t, []*stack{s})
}

// A journal that can't be written costs the proof after a crash, and nothing else.
func TestE2EUnwritableJournal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.settings = fmt.Sprintf("journal_directory = %q", filepath.Join(s.cliConfig(), "no", "directory")) // below a file
	s.write(t, session("a"))
	says(t, s.apply(t), "Warning: Machine was rented, with a warning: a", "the rental journal in", "If this run crashes")
	w.accounted(t, []*stack{s}, "a")
	s.unchanged(t)
	s.destroy(t)
	w.accounted(t, []*stack{s})
}

// The machine in state stays while its replacement is rented, and after a crash.
func TestE2ECreateBeforeDestroy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	config := func(name string) string {
		return strings.Replace(session("x", "lifecycle { create_before_destroy = true }"), `name = "x"`, fmt.Sprintf("name = %q", name), 1)
	}
	s.write(t, config("blue"))
	s.apply(t)
	old := w.billing(t, "blue")
	s.write(t, config("green"))
	id := s.crashWaiting(t, "green")
	if w.billing(t, "blue") != old {
		t.Error("the machine in state has gone")
	}
	says(t, s.apply(t), id, old)
	w.accounted(t, []*stack{s}, "green")

	// The same name can't have two machines: it is a conflict that says what to do.
	live := w.billing(t, "green")
	s.write(t, strings.Replace(config("green"), "lifecycle", "workload_type = \"batch\"\n  lifecycle", 1))
	says(t, s.must(t, 1, applyArgs...), "Name is already in use", live, "create_before_destroy")
	w.accounted(t, []*stack{s}, "green")
	s.destroy(t, "-refresh=false")
	w.accounted(t, []*stack{s})
}

// Two stacks with the same consumer and name never release each other's machine,
// alive or left over.
func TestE2ETwoStacks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, other := w.newStack(t, "one"), w.newStack(t, "other")
	both := []*stack{one, other}
	for _, s := range both {
		s.write(t, session("a"))
	}
	one.apply(t)
	live := w.billing(t, "a")
	says(t, other.must(t, 1, applyArgs...), "Name is already in use", live)
	other.destroy(t)
	w.accounted(t, both, "a")
	one.destroy(t)
	w.accounted(t, both)

	left := one.crashWaiting(t, "a")
	says(t, other.must(t, 1, applyArgs...), "Name is already in use", left)
	other.destroy(t)
	if w.billing(t, "a") != left {
		t.Error("one stack's leftover was released by the other")
	}
	says(t, one.apply(t), left)
	w.accounted(t, both, "a")
	one.destroy(t)
	w.accounted(t, both)
}

// A provider whose CLI was killed gives back by itself what it was renting, and
// ends: nobody has to come back for that. Its log has nowhere to go any more.
func TestE2EOrphan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	needProc(t)
	s := w.newStack(t, "s")
	s.env = []string{"TF_LOG=trace"}
	s.write(t, session("a"))
	w.faults(t, sandbox.Rule{Route: sandbox.EventBoot, Fault: sandbox.BootsLate, Value: "10m"})
	e := s.start(t, applyArgs...)
	eventually(t, func() error {
		if n := w.rentals(t, "a"); n != 1 {
			return fmt.Errorf("%d machines of a", n)
		}
		return nil
	})
	w.struck(t)
	if err := e.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	e.wait(t)
	w.quiet(t)
	w.accounted(t, []*stack{s})
	if n := w.rentals(t, "a"); n != 1 {
		t.Errorf("%d machines were rented", n)
	}
	w.faults(t)
	s.env = nil
	if text := s.must(t, 2, planArgs...); strings.Contains(text, "Leftover rental") {
		t.Errorf("it warns of a leftover that is none:\n%s", text)
	}
}

// A leftover beside a session in state: reading warns of it and releases nothing,
// the plan is an update though nothing else changes, and the apply releases it.
func TestE2ELeftoverBesideASessionInState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.newStack(t, "s")
	s.write(t, session("a"))
	left := s.crashWaiting(t, "a")
	live := w.rent(t, "terraform/a/"+strings.Repeat("0123456789abcdef", 2), "vastai-1020")
	s.must(t, 0, "import", "-input=false", "-no-color", "shopper_gpu_session.a", live)
	bill := func(want int) {
		t.Helper()
		if billing := w.ledger(t).Billing; len(billing) != want {
			t.Fatalf("these bill: %v, want %d", billing, want)
		}
	}
	says(t, s.must(t, 2, planArgs...), "Leftover rental found: a", left, "will be updated in-place")
	bill(2)
	says(t, s.apply(t), "Leftover rental was released: a", left)
	bill(1)
	s.unchanged(t)
	s.destroy(t)
	bill(0)
}
