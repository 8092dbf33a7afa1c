package rental

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// capped is a run of a provider with a budget.
func (w *world) capped(ceiling float64) *Renter {
	return New(w.f, Config{Consumer: "terraform", Journal: journal.Open(w.dir, nextRun()), MaxPricePerHour: ceiling})
}

func TestBudgetRefusesBeforeRenting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ok(t, w.apply(t.Context(), w.process(), order("a"))) // $0.40, by another run
		broken := caught[*BudgetError](t, w.apply(t.Context(), w.capped(0.79), order("b")), "$0.79", "Nothing was rented")
		if broken.Sessions != 1 || broken.Spent != 0.40 {
			t.Errorf("it counts %d sessions at $%g", broken.Sessions, broken.Spent)
		}
		if n := w.f.count("create"); n != 1 {
			t.Errorf("%d requests to rent", n)
		}
		r := w.capped(0.81)
		ok(t, w.apply(t.Context(), r, order("b"))) // exactly reached is not broken
		ok(t, w.destroy(t.Context(), r, "a"))
		ok(t, w.apply(t.Context(), r, order("c"))) // the room that a left
	})
}

func TestBudgetCountsRentalsSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		r := w.capped(1.3) // room for three
		errs := make(chan error, 8)
		for _, name := range strings.Fields("a b c d e f g h") {
			go func() { errs <- w.apply(t.Context(), r, order(name)) }()
		}
		refused := 0
		for range cap(errs) {
			if err := <-errs; err != nil {
				fails[*BudgetError](t, err)
				refused++
			}
		}
		sum := 0.0
		for _, m := range w.f.book() {
			sum += m.price
		}
		if sum > 1.3 || len(w.state) == 0 || refused+len(w.state) != 8 {
			t.Errorf("%d rented for $%.2f an hour, %d refused", len(w.state), sum, refused)
		}
	})
}

// TestBudgetCountsWhatIsReallyPaid: of what others rented, too.
func TestBudgetCountsWhatIsReallyPaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ok(t, w.apply(t.Context(), w.process(), order("a")))
		w.f.boots = []lot{{factor: 2}}
		o := order("b")
		o.MaxAttempts, o.Requirements.MaxPricePerHour = 1, 5
		fails[*UnusableError](t, w.apply(t.Context(), w.capped(1), o), "budget", "$0.8", "released")
		if len(w.f.book()) != 1 {
			t.Error("it is kept")
		}
		r := w.capped(1)
		ok(t, w.apply(t.Context(), r, o)) // nothing is left of the first
	})
}

func TestBudgetLetsGoOfWhatCameToNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		r := w.capped(0.45)
		w.f.boots = []lot{{refuse: "stale"}, {dies: "no"}, {refuse: "quota"}}
		for range 3 {
			_ = w.apply(t.Context(), r, order("box"))
		}
		if len(r.budget.spent) > len(w.state) {
			t.Errorf("it counts %v", r.budget.spent)
		}
	})
}

func TestVastOffersAreOneMachineEach(t *testing.T) {
	t.Parallel()
	m := &market{taken: map[string]bool{}}
	fit := []shopper.Offer{{ID: "v", Cloud: vastAI}, {ID: "t", Cloud: tensorDock}, {ID: "u", Cloud: vastAI}}
	take := func(tried map[string]bool, want string, sibling bool) {
		t.Helper()
		got, taken, found := m.take(fit, tried)
		if got.ID != want || taken != sibling || found != (want != "") {
			t.Fatalf("it takes %q (a sibling's: %v), want %q (%v)", got.ID, taken, want, sibling)
		}
	}
	take(nil, "v", false)
	take(nil, "t", false)
	take(nil, "t", false) // can be rented again
	take(map[string]bool{"t": true}, "u", false)
	take(map[string]bool{"t": true}, "v", true) // all are taken: better late than never
	take(map[string]bool{"v": true, "t": true}, "u", true)
	take(map[string]bool{"v": true, "t": true, "u": true}, "", false)
}
