package rental

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// dying is a run that dies while it asks for a machine, which its cloud keeps
// waiting.
func (w *world) dying(hold time.Duration) {
	w.t.Helper()
	w.f.boots = []lot{{hold: hold}}
	w.f.fault("create", 1, verdict{crash: true})
	if !w.crashing(func() { _, _ = w.process().Rent(w.t.Context(), order("box")) }) {
		w.t.Fatal("it didn't die")
	}
	_ = nap(w.t.Context(), time.Second)
}

// A conflicting session that is still being asked for is stopped after its DELETE,
// and comes back to life when its cloud answers.
func TestReplacedSessionThatComesBackIsReleased(t *testing.T) {
	t.Parallel()
	for _, hold := range []time.Duration{10 * time.Second, 4 * time.Minute, 299 * time.Second} {
		t.Run(hold.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				w.dying(hold)
				w.dir = t.TempDir() // another runner
				o := order("box")
				o.ReplaceConflicting = true
				ok(t, w.apply(t.Context(), w.process(), o))
				w.muchLater()
				w.atMost("box", 1)
			})
		})
	}
}

// The same for a session that was imported while it was pending, and is destroyed.
func TestReleasedSessionThatComesBackIsReleasedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.dying(3 * time.Minute)
		w.dir = ""
		r := w.process()
		ok(t, errOf3(r.Release(t.Context(), Known{ID: w.f.row(t, "box").ID, Service: r.service.URL()})))
		w.muchLater()
	})
}

func TestReleaseEndsWithAnErrorWhileTheSessionCanComeBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.dying(3 * time.Minute)
		id := w.f.row(t, "box").ID
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		fails[*NotReleasedError](t, errOf3(w.process().Release(ctx, Known{ID: id})), id, "may still be in progress")
		ok(t, errOf3(w.process().Release(t.Context(), Known{ID: id})))
	})
}

// Of two runs on two computers that find nothing under the name, and both rent,
// the younger session goes, and its error names the older.
func TestYoungerOfTwoRentalsOfOneNameGivesWay(t *testing.T) {
	t.Parallel()
	for _, gap := range []time.Duration{0, 100 * time.Millisecond, time.Second} {
		t.Run(gap.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				w.f.fault("offers", 0, verdict{delay: 2 * time.Second}) // both have looked before either rents
				errs := make(chan error, 2)
				for i := range cap(errs) {
					w.dir = t.TempDir()
					r := w.process()
					go func() {
						_ = nap(t.Context(), time.Duration(i)*gap)
						errs <- w.apply(t.Context(), r, order("box"))
					}()
				}
				first, second := <-errs, <-errs
				if (first == nil) == (second == nil) {
					t.Fatalf("the errors are %v and %v", first, second)
				}
				refused := first
				if refused == nil {
					refused = second
				}
				if w.state["box"].Session.ID != "s1" {
					t.Errorf("%s is kept, which is the younger", w.state["box"].Session.ID)
				}
				fails[*ConflictError](t, refused, w.state["box"].Session.ID, "was released")
				w.known()
			})
		})
	}
}

// Provider aliases are processes of one run of Terraform. Two resources with one
// name don't wait for each other, and none destroys what the other has rented.
func TestAliasesWithOneNameRefuseTheSecondAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		alias := func() *Renter {
			return New(w.f, Config{Consumer: "terraform", Journal: journal.Open(w.dir, "one run")})
		}
		o := order("box")
		o.ReplaceConflicting = true
		done := make(chan error)
		go func() { done <- w.apply(t.Context(), alias(), o) }()
		_ = nap(t.Context(), 5*time.Second)
		begun := time.Now()
		if refused := caught[*ConflictError](t, errOf2(alias().Rent(t.Context(), o)), "this configuration", "unique name"); !refused.Here {
			t.Error("the name counts as somebody else's")
		}
		if waited := time.Since(begun); waited > time.Second {
			t.Errorf("it waited %s", waited)
		}
		ok(t, <-done)
		fails[*ConflictError](t, errOf2(alias().Rent(t.Context(), o)), w.state["box"].Session.ID, "for another resource of this configuration")
		w.known()
		ok(t, w.apply(t.Context(), w.process(), o)) // another run may replace it
	})
}

// Provider aliases see each other's rentals only in what the service lists.
func TestBudgetHoldsOverTwoProviders(t *testing.T) {
	t.Parallel()
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.nothing()
			errs := make(chan error, 4)
			for _, name := range strings.Fields("a b c d") {
				r := w.capped(0.9) // room for two
				go func() { errs <- w.apply(t.Context(), r, order(name)) }()
			}
			for range cap(errs) {
				if err := <-errs; err != nil {
					fails[*BudgetError](t, err, "$0.9")
				}
			}
			sum := 0.0
			for _, m := range w.f.book() {
				sum += m.price
			}
			if sum > 0.9 || len(w.state) == 0 {
				t.Errorf("%d sessions for $%g an hour", len(w.state), sum)
			}
		})
	}
}

// A machine that turns out dearer than reserved gives way also to younger ones,
// which have looked already.
func TestDearerMachineGivesWayToTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.boots = []lot{{hold: time.Minute, factor: 2}}
		slow, quick := w.capped(1), w.capped(1)
		done := make(chan error)
		o := order("slow")
		o.Requirements.MaxPricePerHour, o.MaxAttempts = 5, 1
		go func() { done <- w.apply(t.Context(), slow, o) }()
		_ = nap(t.Context(), time.Second)
		ok(t, w.apply(t.Context(), quick, order("quick")))
		fails[*BudgetError](t, <-done, "$0.8")
		w.known()
	})
}

// A failure to look again is no reason to give a healthy machine up.
func TestHealthyMachineIsKeptWhereOthersCantBeListed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.fault("list", 5, verdict{before: refusal(500, "", "oops")})
		ok(t, w.apply(t.Context(), w.capped(1), order("box")))
		if said := strings.Join(w.state["box"].Warnings, "\n"); !strings.Contains(said, "could not check whether another run") {
			t.Errorf("the warnings are %q", said)
		}
	})
}

// on sets the offers to those of one cloud, of which each can be rented often.
func (w *world) on(cloud string) {
	for i := range w.f.offers {
		w.f.offers[i].Cloud = cloud
	}
}

func TestCheapestOfferIsRentedOftenWhereItIsNotOneMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.on(blueLobster)
		r := w.process()
		errs := make(chan error, 10)
		for _, name := range strings.Fields("a b c d e f g h i j") {
			go func() { errs <- w.apply(t.Context(), r, order(name)) }()
		}
		sum := 0.0
		for range cap(errs) {
			ok(t, <-errs)
		}
		for _, m := range w.f.book() {
			sum += m.price
		}
		if sum > 4.001 {
			t.Errorf("ten machines cost $%.2f an hour, the cheapest offer ten times $4.00", sum)
		}
	})
}

// An offer that a sibling took is no attempt.
func TestOffersThatSiblingsTookDontCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.offers = w.f.offers[:4]
		r := w.process()
		for i, offer := range w.f.offers { // siblings have them all, and three at the service too
			r.market.taken[offer.ID] = true
			if i < 3 {
				w.f.boots = append(w.f.boots, lot{refuse: "stale"})
			}
		}
		o := order("box")
		o.MaxAttempts = 1
		ok(t, w.apply(t.Context(), r, o))
		if offer := w.state["box"].Offer.ID; offer != "vastai-03" {
			t.Errorf("it rented %s", offer)
		}
	})
}

// canceling is a service whose caller is interrupted when it has the offers.
type canceling struct {
	*fake
	cancel func()
}

func (s canceling) Offers(ctx context.Context, cloud string) ([]shopper.Offer, error) {
	defer s.cancel()
	return s.fake.Offers(ctx, cloud)
}

func TestCanceledRunDoesntAskForAMachine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ctx, cancel := context.WithCancel(t.Context())
		r := New(canceling{w.f, cancel}, Config{Consumer: "terraform", Journal: journal.Open(w.dir, nextRun())})
		fails[*CanceledError](t, w.apply(ctx, r, order("box")), "Nothing was rented")
		if n := w.f.count("create"); n != 0 {
			t.Errorf("%d requests to rent", n)
		}
	})
}
