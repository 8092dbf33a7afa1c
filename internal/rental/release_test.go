package rental

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// TestWaiting is the table of what can happen while a machine is waited for. In
// each the next offer is taken, or the same machine goes on.
func TestWaiting(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		luck  lot
		gets  []verdict // of the first reads of a session
		login error     // of the first login
		posts int
	}{
		{name: "never boots", luck: lot{never: true}, posts: 2},
		{name: "fails", luck: lot{dies: "instance_stopped"}, posts: 2},
		{name: "is stopped by somebody", luck: lot{stopped: true}, posts: 2},
		{name: "vanishes", luck: lot{vanish: true}, posts: 2},
		{name: "costs more than it was offered for", luck: lot{factor: 3}, posts: 2},
		{name: "refuses the login", login: errors.New("permission denied"), posts: 2},
		{name: "the service is down for a while", gets: []verdict{
			{before: unreachable()},
			{before: unreachable()},
			{before: foreign(502)},
			{before: foreign(503)},
			{before: unreachable()},
			{before: unreachable()},
			{before: unreachable()},
			{before: unreachable()},
			{before: unreachable()},
			{before: unreachable()},
			{before: unreachable()},
			{before: unreachable()},
			{before: unreachable()},
			{before: unreachable()},
			{before: unreachable()},
		}, posts: 1},
		{name: "the service answers nonsense", gets: []verdict{{before: refusal(200, "", "can't be read")}}, posts: 1},
		{name: "a proxy's 404 is no proof", gets: []verdict{{before: foreign(404)}}, posts: 1},
		{name: "429", gets: []verdict{{before: refusal(429, "", "slow down")}}, posts: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				w.f.boots = []lot{test.luck}
				for i, v := range test.gets {
					w.f.fault("get", i+1, v)
				}
				o := order("box")
				o.Requirements.MaxPricePerHour = 1
				first := test.login
				o.Login = func(_ context.Context, s shopper.Session, key string) error {
					if key != "key of "+s.ID {
						t.Errorf("session %s is logged in to with %q", s.ID, key)
					}
					err := first
					first = nil
					return err
				}
				ok(t, w.apply(t.Context(), w.process(), o))
				if n := w.f.count("create"); n != test.posts {
					t.Errorf("%d requests to rent, want %d", n, test.posts)
				}
				w.atMost("box", 1)
			})
		})
	}
}

func TestDeadlineIsNotACancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.boot = time.Hour
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := w.apply(ctx, w.process(), order("box"))
		fails[*UnusableError](t, err, "not running in time", "status was provisioning", "released")
		if _, canceled := errors.AsType[*CanceledError](err); canceled || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error should be about the deadline: %v", err)
		}
		w.later(0)
	})
}

func TestMachineThatCantBeUsedNorReleasedStaysInState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.fault("delete", 0, verdict{before: foreign(503)})
		w.f.boot = time.Minute
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(30*time.Second, cancel)
		w.f.boots = []lot{{undead: 3}}
		kept := caught[*KeptError](t, w.apply(ctx, w.process(), order("box")), "$0.40 an hour", "Run destroy again")
		if !errors.Is(kept, context.Canceled) {
			t.Errorf("the cancel is lost: %v", kept)
		}
		if w.state["box"] == nil {
			t.Fatal("the session is not in state")
		}
		w.f.clear()
	})
}

// TestReleasing is the table of what can happen to a release.
func TestReleasing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		deletes []verdict
		gets    []verdict
		undead  int
		before  func(w *world, id string)
		cancel  bool
		within  time.Duration
	}{
		{name: "fine", within: 10 * time.Second},
		{name: "5xx", deletes: []verdict{{before: refusal(500, "", "no")}, {after: foreign(502)}}, within: time.Minute},
		{name: "answer lost before effect", deletes: []verdict{{before: unreachable()}}, within: time.Minute},
		{name: "answer lost after effect", deletes: []verdict{{after: unreachable()}}, within: time.Minute},
		{name: "429", deletes: []verdict{{before: refusal(429, "", "slow down")}}, within: time.Minute},
		{name: "client cut off: stopping stays", deletes: []verdict{{hangUp: 2 * time.Second}}, within: 12 * time.Minute},
		{name: "200 that was not true", deletes: []verdict{{claim: true}, {claim: true}}, within: time.Minute},
		{name: "machine dies late", undead: 4, within: 3 * time.Minute},
		{name: "failed on the way", undead: 11, within: 14 * time.Minute},
		{name: "reads fail", gets: []verdict{{before: unreachable()}, {before: foreign(404)}, {before: foreign(502)}}, within: time.Minute},
		{name: "destroyed by someone else", before: func(w *world, id string) { ok(w.t, w.f.destroy(w.t.Context(), id)) }, within: 10 * time.Second},
		{name: "404", before: func(w *world, id string) {
			w.f.mu.Lock()
			defer w.f.mu.Unlock()
			w.f.endLocked(w.f.byID[id].machineID)
			delete(w.f.byID, id)
		}, within: 10 * time.Second},
		{name: "another DELETE is at work", undead: 3, before: func(w *world, id string) {
			go func() { _ = w.f.destroy(w.t.Context(), id) }()
			synctest.Wait()
		}, within: 3 * time.Minute},
		{name: "failed with a machine whose address was never told", before: func(w *world, id string) {
			w.f.mu.Lock()
			defer w.f.mu.Unlock()
			r := w.f.byID[id]
			r.Status, r.SSHHost, r.SSHPort = shopper.Failed, "", 0
		}, deletes: []verdict{{before: unreachable()}}, within: 2 * time.Minute},
		{name: "canceled", cancel: true, undead: 2, within: 2 * time.Minute},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				w.f.boots = []lot{{undead: test.undead}}
				ok(t, w.apply(t.Context(), w.process(), order("box")))
				if test.before != nil {
					test.before(w, w.state["box"].Session.ID)
				}
				for i, v := range test.deletes {
					w.f.fault("delete", i+1, v)
				}
				for i, v := range test.gets {
					w.f.fault("get", i+1, v)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.cancel {
					cancel()
				}
				begun := time.Now()
				ok(t, w.destroy(ctx, w.process(), "box"))
				if took := time.Since(begun); took > test.within {
					t.Errorf("it took %s, want at most %s", took, test.within)
				}
				w.later(0)
				w.f.honest(t, nil)
			})
		})
	}
}

// TestMachineThatRefusesToDie: the cloud doesn't destroy, the service gives up
// and leaves the session stopping, and every further DELETE is answered 200.
func TestMachineThatRefusesToDie(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		id := w.state["box"].Session.ID
		w.f.mu.Lock()
		r := w.f.byID[id]
		w.f.clouds[0].undead = -1
		w.f.unchecked = true
		w.f.mu.Unlock()
		for range 2 {
			_ = nap(t.Context(), time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
			begun := time.Now()
			err := w.destroy(ctx, w.process(), "box")
			if took := time.Since(begun); took > 9*time.Minute {
				t.Errorf("the wait ended after %s", took) // The last sleep is cut
			}
			cancel()
			fails[*NotReleasedError](t, err, id, "$0.40 an hour", `status was "stopping"`, "Run destroy again")
			if w.state["box"] == nil {
				t.Fatal("it left state without proof")
			}
		}
		w.f.mu.Lock()
		w.f.clouds[0].undead = 0
		w.f.endLocked(r.machineID)
		r.Status, w.state["box"].Session.Status = shopper.Stopped, shopper.Stopped
		w.f.mu.Unlock()
	})
}

func TestReplacementsAreReleased(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"named by the parent", "known by its parent only", "chain"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				r := w.process()
				ok(t, w.apply(t.Context(), r, order("box")))
				parent := w.f.find(w.state["box"].Session.ID)
				child := w.replacement(parent, name != "known by its parent only")
				if name == "chain" {
					child = w.replacement(child, true)
				}
				if _, ended, err := r.Inspect(t.Context(), Known{ID: parent.ID}); ended || err != nil {
					t.Errorf("the parent counts as ended (%v, %v)", ended, err)
				}
				ok(t, w.destroy(t.Context(), r, "box"))
				w.later(0)
				if _, ended, err := r.Inspect(t.Context(), Known{ID: parent.ID}); !ended || err != nil {
					t.Errorf("nothing is left, and it doesn't count as ended (%v, %v)", ended, err)
				}
				if child.Status != shopper.Stopped {
					t.Errorf("the replacement reads %s", child.Status)
				}
			})
		})
	}
}

// replacement is what the service rents in a session's place by itself.
func (w *world) replacement(parent *row, named bool) *row {
	w.t.Helper()
	created, err := w.f.rent(shopper.CreateSession{
		ConsumerID: parent.ConsumerID, OfferID: "vastai-2" + parent.ID[1:], ReservationHours: 1,
	})
	ok(w.t, err)
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	child := w.f.byID[created.Session.ID]
	child.AutoRetry, child.RetryParentID = true, parent.ID
	parent.AutoRetry = true
	if named {
		parent.RetryChildID = child.ID
		w.f.endLocked(parent.machineID)
		parent.Status = shopper.Stopped
	}
	return child
}

func TestInspect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		r := w.process()
		ok(t, w.apply(t.Context(), r, order("box")))
		id := w.state["box"].Session.ID
		look := func(want bool) shopper.Session {
			t.Helper()
			s, ended, err := r.Inspect(t.Context(), Known{ID: id})
			if err != nil || ended != want {
				t.Fatalf("Inspect says %v, %v", ended, err)
			}
			return s
		}
		look(false)
		w.f.set(id, func(r *row) { r.Status = "hibernating" }) // a word of a later version
		look(false)
		for _, err := range []error{unreachable(), foreign(404), refusal(500, "", "no"), refusal(401, "", "who are you")} {
			w.f.fault("get", 1, verdict{before: err})
			if _, ended, got := r.Inspect(t.Context(), Known{ID: id}); ended || !errors.Is(got, err) {
				t.Errorf("after %v Inspect says %v, %v", err, ended, got)
			}
		}
		w.f.set(id, func(r *row) { r.Status = shopper.Running })
		w.f.fail(w.f.find(id), "reclaimed")
		if s := look(true); s.Error != "reclaimed" || s.Status != shopper.Stopped {
			t.Errorf("it reads %s, %q", s.Status, s.Error)
		}
		w.f.set(id, func(r *row) { r.Status, r.SSHUser, r.SSHHost = shopper.Failed, "", "" })
		look(true) // never had a machine
		w.f.forget(id)
		w.state["box"].Session.Status = shopper.Stopped
		if s := look(true); s.ID != "" {
			t.Errorf("an unknown session reads %v", s)
		}
	})
}

func TestNotReadyIsWaitedForAndThenSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		down := verdict{after: errors.New("starting")}
		w.f.fault("ready", 1, down)
		w.f.fault("ready", 2, down)
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		w.f.fault("ready", 0, down)
		begun := time.Now()
		fails[*NotReadyError](t, w.apply(t.Context(), w.process(), order("other")), "is starting")
		if took := time.Since(begun); took != readyLimit {
			t.Errorf("it waited %s, want %s", took, readyLimit)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := w.apply(ctx, w.process(), order("other")); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
		w.f.fault("ready", 0, verdict{before: foreign(404)}) // nobody there passes it on
		ok(t, w.apply(t.Context(), w.process(), order("other")))
		w.f.fault("ready", 0, verdict{before: foreign(401)})
		if err := w.apply(t.Context(), w.process(), order("third")); !shopper.IsUnauthorized(err) {
			t.Errorf("refused: %v", err)
		}
		w.f.clear()
	})
}

func TestExtending(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		v     verdict
		hours int
		age   time.Duration
		read  int // hours afterwards
		sent  int
		words []string
		end   bool
	}{
		{name: "fine", hours: 5, read: 5, sent: 1},
		{name: "nothing to do", hours: 2, read: 2},
		{name: "answer lost before effect", v: verdict{before: lostAnswer()}, hours: 5, read: 2, words: []string{"reserved for 2", "not retried"}},
		{name: "answer lost after effect", v: verdict{after: lostAnswer()}, hours: 5, read: 5, sent: 1},
		{name: "at the limit", hours: 12, age: 90 * time.Minute, read: 2, sent: 1, words: []string{"12-hour hard max"}},
		{name: "ended meanwhile", hours: 5, read: 2, end: true, words: []string{"can't be extended"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				r := w.process()
				ok(t, w.apply(t.Context(), r, order("box")))
				id := w.state["box"].Session.ID
				_ = nap(t.Context(), test.age)
				if test.age > 0 {
					_ = nap(t.Context(), time.Until(w.f.read(id).CreatedAt.Add(150*time.Minute)))
				}
				if test.end {
					ok(t, w.f.destroy(t.Context(), id))
					w.state["box"].Session.Status = shopper.Stopped
				}
				if test.v.before != nil || test.v.after != nil {
					w.f.fault("extend", 1, test.v)
				}
				s, err := r.Extend(t.Context(), Known{ID: id}, test.hours)
				if (err != nil) != (len(test.words) > 0) {
					t.Fatalf("the error is %v", err)
				}
				for _, word := range test.words {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("the error doesn't say %q: %v", word, err)
					}
				}
				if now := w.f.read(id).ReservationHours; now != test.read || s.ReservationHours != test.read {
					t.Errorf("it is reserved for %d hours, and Extend says %d; want %d", now, s.ReservationHours, test.read)
				}
				if w.f.extends[id] != test.sent {
					t.Errorf("%d extensions, want %d", w.f.extends[id], test.sent)
				}
				// Asking again adds nothing twice.
				if err == nil {
					if s, err = r.Extend(t.Context(), Known{ID: id}, test.hours); err != nil || s.ReservationHours != test.read {
						t.Errorf("the second time it says %d, %v", s.ReservationHours, err)
					}
				}
			})
		})
	}
}

func TestExtendEndsBetweenReadAndRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		r := w.process()
		ok(t, w.apply(t.Context(), r, order("box")))
		id := w.state["box"].Session.ID
		w.f.fault("extend", 1, verdict{delay: time.Minute})
		time.AfterFunc(10*time.Second, func() { _ = w.f.destroy(t.Context(), id) })
		fails[*ExtendError](t, errOf(r.Extend(t.Context(), Known{ID: id}, 4)), "terminal state", "reserved for 2")
		w.state["box"].Session.Status = shopper.Stopped
	})
}

func errOf(_ shopper.Session, err error) error { return err }

// Where the service gave up on a release, and calls the session stopped all the
// same, that is reported.
func TestReleaseThatTheServiceGaveUpOnIsAWarning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.truthful = true
		r := w.process()
		for name, want := range map[string]bool{"gave-up": true, "fine": false} {
			if want {
				w.f.boots = []lot{{undead: 11}}
			}
			ok(t, w.apply(t.Context(), r, order(name)))
			warnings, err := r.Release(t.Context(), w.state[name].known())
			ok(t, err)
			delete(w.state, name)
			if said := strings.Join(warnings, "\n"); strings.Contains(said, "manual cleanup") != want || (said == "") == want {
				t.Errorf("%s: %q", name, said)
			}
		}
	})
}
