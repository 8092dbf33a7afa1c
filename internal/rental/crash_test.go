package rental

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// death is a step of Rent at which a process dies. run replaces the call of Rent.
type death struct {
	name   string
	script func(w *world, o *Order)
	run    func(w *world, r *Renter, o Order)
	plan   int // sessions that a plan warns of
}

func deaths() []death {
	return []death{
		{name: "before anything", script: func(w *world, _ *Order) { w.f.fault("offers", 1, verdict{crash: true}) }},
		{name: "before the request", script: func(_ *world, o *Order) {
			o.Progress = func(format string, _ ...any) {
				if strings.HasPrefix(format, "Renting") {
					die()
				}
			}
		}},
		{name: "during the request", script: func(w *world, _ *Order) { w.f.fault("create", 1, verdict{crash: true}) }, plan: 1},
		{name: "during a long request", script: func(w *world, _ *Order) {
			w.f.fault("create", 1, verdict{crash: true})
			w.f.boots = []lot{{hold: 4 * time.Minute}}
		}, plan: 1},
		{name: "when the id is known", script: func(_ *world, o *Order) { o.Rented = func(*Rental) { die() } }, plan: 1},
		{name: "while waiting", script: func(w *world, _ *Order) { w.f.fault("get", 3, verdict{crash: true}) }, plan: 1},
		{name: "in the login", script: func(_ *world, o *Order) {
			o.Login = func(context.Context, shopper.Session, string) error {
				die()
				return nil
			}
		}, plan: 1},
		{name: "while releasing", script: func(w *world, _ *Order) {
			w.f.boots = []lot{{dies: "no"}}
			w.f.fault("delete", 1, verdict{crash: true})
		}, plan: 1},
		{name: "while the lost one is looked for", script: func(w *world, _ *Order) {
			w.f.fault("create", 1, verdict{after: lostAnswer()})
			w.f.fault("list", 5, verdict{crash: true})
		}, plan: 1},
		{name: "while looking again", script: func(w *world, _ *Order) {
			w.f.fault("create", 1, verdict{early: lostAnswer()})
			w.f.boots = []lot{{hold: time.Minute}}
			w.f.fault("list", 7, verdict{crash: true})
		}}, // it is stopped, and can come back
		{name: "before it is handed over", run: func(w *world, r *Renter, o Order) {
			rental, err := r.Rent(w.t.Context(), o)
			ok(w.t, err)
			rental.lock.Unlock() // what the system does when the process ends
		}, plan: 1},
	}
}

// TestCrash lets a process die at every step; the next plain apply must find and
// release what it rented. A panic is the same: it only unlocks.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, test := range deaths() {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				r, o := w.process(), order("box")
				if test.script != nil {
					test.script(w, &o)
				}
				died := w.crashing(func() {
					if test.run != nil {
						test.run(w, r, o)
						return
					}
					_, _ = r.Rent(t.Context(), o)
				})
				if died != (test.run == nil) {
					t.Fatalf("died: %v", died)
				}
				w.f.clear()
				synctest.Wait() // until the service has the request
				left, err := w.process().Leftovers(t.Context(), Names{Name: "box"})
				if err != nil || len(left) != test.plan {
					t.Errorf("a plan tells of %q, %v; want %d", left, err, test.plan)
				}
				ok(t, w.apply(t.Context(), w.process(), order("box")))
				w.muchLater()
				w.atMost("box", 1)
			})
		})
	}
}

// TestCrashIsSettledByOtherCalls: not only the next Rent looks again.
func TestCrashIsSettledByOtherCalls(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"Settle", "Release"} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				// The one in state, and a replacement of it that a crash left.
				ok(t, w.apply(t.Context(), w.process(), order("box")))
				live := w.state["box"].Session
				o := order("box")
				o.ReplaceConflicting = false
				w.f.set(live.ID, func(r *row) { r.Status = "hidden" }) // create_before_destroy, say
				w.f.fault("create", 1, verdict{crash: true})
				if !w.crashing(func() { _, _ = w.process().Rent(t.Context(), o) }) {
					t.Fatal("it didn't die")
				}
				w.f.set(live.ID, func(r *row) { r.Status = shopper.Running })
				r := w.process()
				ok(t, r.Seen(live.ConsumerID, ""))
				if call == "Release" {
					ok(t, w.destroy(t.Context(), r, "box"))
					w.later(0)
					return
				}
				left, err := r.Settle(t.Context(), Names{Name: "box"})
				if err != nil || len(left.Released) != 1 || left.Released[0] == live.ID {
					t.Errorf("Settle released %v, %v", left.Released, err)
				}
				w.known()
				calls := w.f.count("list") + w.f.count("get")
				if left, err = r.Settle(t.Context(), Names{Name: "box"}); err != nil || len(left.Released) > 0 {
					t.Errorf("the second time it released %v, %v", left.Released, err)
				}
				if w.f.count("list")+w.f.count("get") != calls {
					t.Error("with nothing in the journal it made a request")
				}
			})
		})
	}
}

// TestJournalLost: without the journal a leftover is a conflict that names it.
func TestJournalLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.fault("get", 2, verdict{crash: true})
		if !w.crashing(func() { _, _ = w.process().Rent(t.Context(), order("box")) }) {
			t.Fatal("it didn't die")
		}
		w.dir = t.TempDir()
		conflict := caught[*ConflictError](t, w.apply(t.Context(), w.process(), order("box")), "$0.40/h", "since ", "on_conflict")
		if len(conflict.Sessions) != 1 || !strings.Contains(conflict.Error(), w.f.row(t, "box").ID) {
			t.Errorf("it doesn't name the session: %v", conflict)
		}
		if w.f.count("create") != 1 {
			t.Error("it rented all the same")
		}
		o := order("box")
		o.ReplaceConflicting = true
		ok(t, w.apply(t.Context(), w.process(), o))
		if rental := w.state["box"]; len(rental.Warnings) != 1 || !strings.Contains(rental.Warnings[0], "on_conflict") {
			t.Errorf("the warnings are %q", rental.Warnings)
		}
		w.atMost("box", 1)
	})
}

// TestTwoStacks: the same consumer and name in two directories.
func TestTwoStacks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		mine := w.dir
		w.dir = t.TempDir()
		theirs := w.process()
		fails[*ConflictError](t, errOf2(theirs.Rent(t.Context(), order("box"))))
		if left, err := theirs.Settle(t.Context(), Names{Name: "box"}); err != nil || len(left.Released) > 0 {
			t.Errorf("the other stack released %v, %v", left.Released, err)
		}
		if left, err := theirs.Leftovers(t.Context(), Names{Name: "box"}); err != nil || len(left) > 0 {
			t.Errorf("the other stack calls %v leftovers, %v", left, err)
		}
		w.dir = mine
		w.known()
	})
}

func errOf2(_ *Rental, err error) error { return err }

// TestHandedOverIsNeverALeftover: it may be the session in state.
func TestHandedOverIsNeverALeftover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		fails[*ConflictError](t, w.apply(t.Context(), w.process(), order("box")), w.state["box"].Session.ID)
		w.known()
		// Once it has ended, the next run forgets it.
		ok(t, w.f.destroy(t.Context(), w.state["box"].Session.ID))
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		if files, _ := filepath.Glob(filepath.Join(w.dir, "*", "*.json")); len(files) != 1 {
			t.Errorf("the journal holds %v", files)
		}
	})
}

// TestLiveRunIsLeftAlone: an entry that is held belongs to a run at work.
func TestLiveRunIsLeftAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.boot = 5 * time.Minute
		done := make(chan error)
		go func() { done <- w.apply(t.Context(), w.process(), order("box")) }()
		_ = nap(t.Context(), time.Minute)
		if left, err := w.process().Leftovers(t.Context(), Names{Name: "box"}); err != nil || len(left) > 0 {
			t.Errorf("a live run's machine is called a leftover: %v, %v", left, err)
		}
		if left, err := w.process().Settle(t.Context(), Names{Name: "box"}); err != nil || len(left.Released) > 0 {
			t.Errorf("a live run's machine was released: %v, %v", left.Released, err)
		}
		fails[*ConflictError](t, errOf2(w.process().Rent(t.Context(), order("box")))) // which waits for it
		ok(t, <-done)
	})
}

// TestClockSetMeanwhile: what another process wrote down about the time is
// believed only as far as it makes sense.
func TestClockSetMeanwhile(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{-24 * time.Hour, -time.Minute, 45 * time.Second, 88 * time.Second, 3 * time.Hour} {
		t.Run(skew.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				w.f.fault("create", 1, verdict{crash: true})
				w.f.boots = []lot{{hold: 299 * time.Second}}
				if !w.crashing(func() { _, _ = w.process().Rent(t.Context(), order("box")) }) {
					t.Fatal("it didn't die")
				}
				w.edit(func(e *entry) { e.Asked = e.Asked.Add(-skew) })
				if skew > time.Hour { // the clock is no evidence; a request that old is over
					_ = nap(t.Context(), 5*time.Minute)
				}
				begun := time.Now()
				ok(t, w.apply(t.Context(), w.process(), order("box")))
				if took := time.Since(begun); took > 9*time.Minute {
					t.Errorf("it took %s", took)
				}
				w.muchLater()
				w.atMost("box", 1)
			})
		})
	}
}

// edit changes every entry of the journal.
func (w *world) edit(change func(e *entry)) {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(w.dir, "*", "*.json"))
	ok(w.t, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		ok(w.t, err)
		var e entry
		ok(w.t, json.Unmarshal(data, &e))
		change(&e)
		data, err = json.Marshal(e)
		ok(w.t, err)
		ok(w.t, os.WriteFile(file, data, 0o600))
	}
}

// entries is the journal's directory for the one name that is in it.
func (w *world) entries() string {
	w.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(w.dir, "*"))
	if err != nil || len(dirs) != 1 {
		w.t.Fatalf("the journal has the directories %v, %v", dirs, err)
	}
	return dirs[0]
}

// TestJournalInTrouble: a journal that can't be used prevents no rental or
// release, and is a warning.
func TestJournalInTrouble(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		spoil func(dir string) error
		file  bool // the directory is none
	}{
		{name: "garbage", spoil: func(dir string) error { return write(dir, token('a')+".json", "{") }},
		{name: "empty", spoil: func(dir string) error { return write(dir, token('a')+".json", "") }},
		{name: "another mark inside", spoil: func(dir string) error {
			return write(dir, token('a')+".json", `{"version":2,"mark":"terraform/box/`+token('b')+`"}`)
		}},
		{name: "another version", spoil: func(dir string) error {
			return write(dir, token('a')+".json", `{"version":1,"mark":"terraform/box/`+token('a')+`"}`)
		}},
		{name: "huge", spoil: func(dir string) error {
			return write(dir, token('a')+".json", strings.Repeat(" ", journal.MaxEntrySize+1))
		}},
		{name: "a directory", spoil: func(dir string) error { return os.MkdirAll(filepath.Join(dir, token('a')+".json"), 0o700) }},
		{name: "a link to nowhere else", spoil: func(dir string) error {
			return os.Symlink(dir, filepath.Join(dir, token('a')+".json"))
		}},
		{name: "no directory but a file", file: true, spoil: func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600))
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if !test.file { // a real leftover beside it
					w.f.fault("get", 2, verdict{crash: true})
					if !w.crashing(func() { _, _ = w.process().Rent(t.Context(), order("box")) }) {
						t.Fatal("it didn't die")
					}
				}
				if test.file {
					ok(t, test.spoil(w.dir))
				} else {
					ok(t, test.spoil(w.entries()))
				}
				if _, err := w.process().Leftovers(t.Context(), Names{Name: "box"}); err == nil {
					t.Error("a plan says nothing of it")
				} else {
					fails[*journal.Error](t, err, w.dir)
				}
				ok(t, w.apply(t.Context(), w.process(), order("box")))
				rental := w.state["box"]
				if text := strings.Join(rental.Warnings, "\n"); !strings.Contains(text, "the rental journal in "+w.dir) {
					t.Errorf("the warnings are %q", rental.Warnings)
				}
				w.atMost("box", 1)
				w.known()
				warnings, err := w.process().Release(t.Context(), rental.known())
				if err != nil || len(warnings) == 0 {
					t.Errorf("releasing says %v, %q", err, warnings)
				}
				w.later(0)
			})
		})
	}
}

func token(c byte) string { return strings.Repeat(string(c), 32) }

func write(dir, name, text string) error {
	return errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

// TestLeftoverThatCantBeReleasedStopsTheRun: nothing is rented beside it.
func TestLeftoverThatCantBeReleasedStopsTheRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.fault("get", 2, verdict{crash: true})
		if !w.crashing(func() { _, _ = w.process().Rent(t.Context(), order("box")) }) {
			t.Fatal("it didn't die")
		}
		w.f.fault("delete", 0, verdict{before: unreachable()})
		fails[*NotReleasedError](t, w.apply(t.Context(), w.process(), order("box")), w.f.row(t, "box").ID)
		if w.f.count("create") != 1 {
			t.Error("it rented beside a leftover")
		}
		w.f.clear()
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		w.atMost("box", 1)
	})
}

// TestHandOverThatCantBeWritten must not make the machine look like a leftover.
func TestHandOverThatCantBeWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		r := w.process()
		rental, err := r.Rent(t.Context(), order("box"))
		ok(t, err)
		path := filepath.Join(w.entries(), rental.Mark.Token+".json")
		ok(t, os.Remove(path)) // a full disk, say: it can be removed and not replaced
		ok(t, os.MkdirAll(path, 0o700))
		ok(t, rental.HandOver())
		ok(t, rental.HandOver()) // again, for nothing
		if left, err := w.process().Leftovers(t.Context(), Names{Name: "box"}); err != nil || len(left) > 0 {
			t.Errorf("it is called a leftover: %v, %v", left, err)
		}
		w.state["box"] = rental
		if _, err := w.process().Settle(t.Context(), Names{Name: "box"}); err != nil {
			t.Error(err)
		}
		w.known()
	})
}

func TestInStateIsNoLeftoverEvenIfTheJournalCantBeTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		rental, err := w.process().Rent(t.Context(), order("box"))
		ok(t, err)
		rental.lock.Unlock() // it says: not handed over
		w.state["box"] = rental
		r := w.process()
		unlockable := filepath.Join(w.entries(), "lock")
		ok(t, os.Remove(unlockable))
		ok(t, os.MkdirAll(unlockable, 0o700))
		var trouble *journal.Error
		if err := r.Seen(rental.Session.ConsumerID, ""); !errors.As(err, &trouble) {
			t.Errorf("telling the journal says %v", err)
		}
		ok(t, os.Remove(unlockable))
		if left, err := r.Settle(t.Context(), Names{Name: "box"}); err != nil || len(left.Released) > 0 {
			t.Errorf("it released %v, %v", left.Released, err)
		}
		w.known()
	})
}
