package rental

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// made is an order for another machine under the prefix.
func made(prefix string) Order {
	o := order(NewName(prefix))
	o.Prefix = prefix
	return o
}

// refreshed records in the journal what is in state, as a refresh does.
func (w *world) refreshed(prefix string) {
	w.t.Helper()
	for _, rental := range w.state {
		ok(w.t, w.process().Seen(rental.Session.ConsumerID, prefix))
	}
}

// replace rents another machine under the prefix, and then releases the old one, as
// create_before_destroy does.
func (w *world) replace(old Order) error {
	w.t.Helper()
	if err := w.apply(w.t.Context(), w.process(), made(old.Prefix)); err != nil {
		return err
	}
	return w.destroy(w.t.Context(), w.process(), old.Name)
}

// TestPrefixCrash lets a process die at every step of renting beside a live machine:
// the next run has another name, releases what is left, and leaves the live one.
func TestPrefixCrash(t *testing.T) {
	t.Parallel()
	for _, test := range deaths() {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				old := made("box-")
				ok(t, w.apply(t.Context(), w.process(), old))
				ok(t, w.apply(t.Context(), w.process(), order("box-fixed"))) // which is no name of the prefix
				w.refreshed("box-")
				live := w.state[old.Name].Session.ID
				o := made("box-")
				if test.script != nil {
					test.script(w, &o)
				}
				died := w.crashing(func() {
					if test.run != nil {
						test.run(w, w.process(), o)
						return
					}
					_, _ = w.process().Rent(t.Context(), o)
				})
				if died != (test.run == nil) {
					t.Fatalf("died: %v", died)
				}
				w.f.clear()
				synctest.Wait()
				left, err := w.process().Leftovers(t.Context(), old.Names)
				if err != nil || len(left) != test.plan || strings.Contains(strings.Join(left, " "), live) {
					t.Errorf("a plan tells of %q, %v; want %d", left, err, test.plan)
				}
				w.refreshed("box-")
				ok(t, w.replace(old))
				if warnings := strings.Join(w.newest("box-").Warnings, "\n"); strings.Contains(warnings, live) {
					t.Errorf("it warns of the machine in state: %s", warnings)
				}
				w.muchLater()
			})
		})
	}
}

// newest is the machine in state whose name is made of the prefix.
func (w *world) newest(prefix string) (newest *Rental) {
	w.t.Helper()
	for name, rental := range w.state {
		if MadeOf(prefix, name) && (newest == nil || isOlder(newest.Session, rental.Session)) {
			newest = rental
		}
	}
	return newest
}

// TestPrefixHandedOver: what an earlier run handed over and no refresh has seen may
// be in no state. It stops the next rental, and is never released.
func TestPrefixHandedOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		old := made("box-")
		ok(t, w.apply(t.Context(), w.process(), old))
		for _, replace := range []bool{false, true} {
			o := made("box-")
			o.ReplaceConflicting = replace
			fails[*ConflictError](t, w.apply(t.Context(), w.process(), o), `the prefix "box-"`, w.state[old.Name].Session.ID, "refresh", "Nothing was rented")
			w.known()
		}
		w.refreshed("box-")
		ok(t, w.replace(old))
		w.known()
	})
}

// TestPrefixWithoutAJournal: whether a machine is in state can't be known. It is
// named, and neither stops the rental nor is released.
func TestPrefixWithoutAJournal(t *testing.T) {
	t.Parallel()
	for _, journal := range []string{"off", "lost"} {
		t.Run(journal, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				if journal == "off" {
					w.dir = ""
				}
				old := made("box-")
				ok(t, w.apply(t.Context(), w.process(), old))
				live := w.state[old.Name].Session.ID
				if journal == "lost" {
					w.dir = t.TempDir()
				}
				ok(t, w.apply(t.Context(), w.process(), made("box-")))
				said := strings.Join(w.newest("box-").Warnings, "\n")
				for _, word := range []string{live, old.Name, "$0.40/h", "since ", "release it"} {
					if !strings.Contains(said, word) {
						t.Errorf("the warnings don't say %q: %s", word, said)
					}
				}
				w.known()
			})
		})
	}
}

// TestPrefixSharedByOneRun: instances of one resource are rented side by side, and
// are neither in each other's way nor worth a warning.
func TestPrefixSharedByOneRun(t *testing.T) {
	t.Parallel()
	for _, journal := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			defer w.nothing()
			if !journal {
				w.dir = ""
			}
			w.f.boot = time.Minute
			r := w.process()
			var all sync.WaitGroup
			for i := range 3 {
				all.Go(func() {
					_ = nap(t.Context(), time.Duration(i)*40*time.Second)
					if err := w.apply(t.Context(), r, made("box-")); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			if len(w.state) != 3 {
				t.Errorf("%d machines are in state", len(w.state))
			}
			for name, rental := range w.state {
				if len(rental.Warnings) > 0 {
					t.Errorf("%s: %q", name, rental.Warnings)
				}
			}
		})
	}
}

// TestPrefixSiblingsDontStandInTheWay: many are refreshed, and then destroyed, side by
// side, and the journal misses none of it.
func TestPrefixSiblingsDontStandInTheWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		first := w.process()
		for range 20 {
			ok(t, w.apply(t.Context(), first, made("box-")))
		}
		side := func(what func(r *Renter, rental *Rental) error) {
			r := w.process()
			var all sync.WaitGroup
			for _, rental := range w.state {
				all.Go(func() {
					if err := what(r, rental); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
		}
		side(func(r *Renter, rental *Rental) error {
			_, err := r.Leftovers(t.Context(), Names{Prefix: "box-"})
			return errors.Join(err, r.Seen(rental.Mark.String(), "box-"))
		})
		for mark, e := range must(w.process().madeOf("box-")) {
			if !e.InState {
				t.Errorf("%s was seen in state, and the journal doesn't know", mark)
			}
		}
		side(func(r *Renter, rental *Rental) error {
			known := rental.known()
			known.Prefix = "box-"
			_, err := r.Release(t.Context(), known)
			return err
		})
		clear(w.state)
		if left := must(w.process().madeOf("box-")); len(left) > 0 {
			t.Errorf("after their end the journal holds %v", left)
		}
	})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err) //nolint:forbidigo // the test ends
	}
	return value
}

// TestPrefixCountsAgainstTheBudget: both machines of create_before_destroy do.
func TestPrefixCountsAgainstTheBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		old := made("box-")
		ok(t, w.apply(t.Context(), w.process(), old))
		w.refreshed("box-")
		r := w.process()
		r.budget.ceiling = 0.5
		fails[*BudgetError](t, w.apply(t.Context(), r, made("box-")))
		w.known()
	})
}

// TestPrefixIsForgotten: the journal holds a note as long as the machine is in state.
func TestPrefixIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		o := made("box-")
		ok(t, w.apply(t.Context(), w.process(), o))
		w.refreshed("box-")
		if left, err := w.process().madeOf("box-"); err != nil || len(left) != 1 || !left[w.state[o.Name].Mark.String()].InState {
			t.Errorf("the journal holds %v, %v", left, err)
		}
		asked := w.f.count("list")
		if left, err := w.process().Settle(t.Context(), o.Names); err != nil || len(left.Released) > 0 || w.f.count("list") > asked {
			t.Errorf("settling released %v, %v", left.Released, err)
		}
		ok(t, w.destroy(t.Context(), w.process(), o.Name))
		if left, err := w.process().madeOf("box-"); err != nil || len(left) > 0 {
			t.Errorf("after its end the journal holds %v, %v", left, err)
		}
	})
}
