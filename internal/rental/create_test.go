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

// TestPost is the table of what can happen to the request that rents. Each ends
// with one machine or none, and with the ledger.
func TestPost(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		first verdict
		luck  lot
		posts int // in the first apply
		most  int // machines at once
	}{
		{name: "fine", posts: 1, most: 1},
		{name: "answer lost before effect", first: verdict{before: lostAnswer()}, posts: 2, most: 1},
		{name: "answer lost after effect", first: verdict{after: lostAnswer()}, posts: 2, most: 1},
		{name: "timeout", first: verdict{after: ambiguous(lost("creating", context.DeadlineExceeded))}, posts: 2, most: 1},
		{name: "500 after effect", first: verdict{after: &shopper.AmbiguousError{Err: refusal(500, "", "oops"), Answered: true}}, posts: 2, most: 1},
		{name: "502 after effect", first: verdict{after: ambiguous(foreign(502))}, posts: 2, most: 1},
		{name: "truncated body", first: verdict{after: ambiguous(refusal(201, "", "cut off"))}, posts: 2, most: 1},
		{name: "body without key", first: verdict{after: ambiguous(refusal(201, "", "no ssh_private_key"))}, posts: 2, most: 1},
		{name: "body without id", first: verdict{after: ambiguous(refusal(201, "", "no id"))}, posts: 2, most: 1},
		{name: "somebody else's session in the body", first: verdict{answer: func(c shopper.Created) (shopper.Created, error) {
			c.Session.ID, c.Session.ConsumerID = "theirs", "terraform/x/0123456789abcdef0123456789abcdef"
			return c, nil
		}}, posts: 2, most: 1},
		{name: "an error that nobody knows", first: verdict{after: errors.New("what is this")}, posts: 1, most: 1},
		{name: "504 while it goes on", first: verdict{early: ambiguous(foreign(504))}, luck: lot{hold: 3 * time.Minute}, posts: 2, most: 1},
		{name: "refused by the cloud", luck: lot{refuse: "quota"}, posts: 2, most: 1},
		{name: "stale offer", luck: lot{refuse: "stale"}, posts: 2, most: 1},
		{name: "409 for our own request, sent twice on the way", first: verdict{after: refusal(409, "", "consumer x already has active session s1 for offer o")}, posts: 1, most: 1},
		{name: "pending row after insufficient_disk", luck: lot{refuse: "disk"}, posts: 1, most: 0},
		{name: "429", first: verdict{before: refusal(429, "", "slow down")}, posts: 2, most: 1},
		{name: "refused before it was sent", first: verdict{before: &shopper.Error{Err: shopper.ErrInvalid}}, posts: 1, most: 0},
		{name: "unreachable", first: verdict{before: unreachable()}, posts: 1, most: 0},
	}
	for _, test := range tests {
		for _, journal := range []string{"journal", "no journal"} {
			t.Run(test.name+", "+journal, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t)
					defer w.nothing()
					if journal != "journal" {
						w.dir = ""
					}
					w.f.fault("create", 1, test.first)
					w.f.boots = []lot{test.luck}
					err := w.apply(t.Context(), w.process(), order("box"))
					if (err == nil) != (len(w.state) == 1) {
						t.Fatalf("state has %d sessions, and the error is %v", len(w.state), err)
					}
					if n := w.f.count("create"); n != test.posts {
						t.Errorf("%d requests to rent, want %d: %v", n, test.posts, err)
					}
					w.known()
					w.atMost("box", test.most)
					// A plain apply puts everything right, and at once.
					if err != nil {
						ok(t, w.apply(t.Context(), w.process(), order("box")))
					}
				})
			})
		}
	}
}

func TestConflict409OfSomebodyElseReleasesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ok(t, w.apply(t.Context(), w.process(), order("other")))
		theirs := w.f.row(t, "other")
		w.f.fault("create", 1, verdict{before: refusal(409, "", "consumer x already has active session "+theirs.ID+" for offer o")})
		fails[*shopper.Error](t, w.apply(t.Context(), w.process(), order("box")), "already has active session")
		if !w.f.bills("m0") {
			t.Error("the session that the 409 names was released; it is not ours")
		}
	})
}

// TestStoppedComesBack: the answer is lost while the cloud still keeps the
// request, what is found reads stopped after its release, and then the request
// overwrites that.
func TestStoppedComesBack(t *testing.T) {
	t.Parallel()
	for _, hold := range []time.Duration{time.Second, 40 * time.Second, 4 * time.Minute, 299 * time.Second} {
		t.Run(hold.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				w.f.fault("create", 1, verdict{early: lostAnswer()})
				w.f.boots = []lot{{hold: hold}}
				ok(t, w.apply(t.Context(), w.process(), order("box")))
				w.known()
				w.muchLater()
			})
		})
	}
}

func TestCancelWhileSessionMayComeBackLeavesItToTheJournal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ctx, cancel := context.WithCancel(t.Context())
		w.f.fault("create", 1, verdict{early: lostAnswer()})
		w.f.boots = []lot{{hold: 4 * time.Minute}}
		o := order("box")
		o.MaxAttempts = 1
		time.AfterFunc(10*time.Second, cancel)
		begun := time.Now()
		if err := w.apply(ctx, w.process(), o); err == nil {
			t.Fatal("nothing was rented, and there is no error")
		}
		if waited := time.Since(begun); waited > time.Minute {
			t.Errorf("the cancel took %s", waited)
		}
		// The next run waits for it and then rents.
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		w.muchLater()
		w.atMost("box", 1)
	})
}

func TestNoJournalAndCancelIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dir = ""
		ctx, cancel := context.WithCancel(t.Context())
		w.f.fault("create", 1, verdict{early: lostAnswer()})
		w.f.boots = []lot{{hold: 4 * time.Minute}}
		o := order("box")
		o.MaxAttempts = 1
		time.AfterFunc(10*time.Second, cancel)
		err := w.apply(ctx, w.process(), o)
		if err == nil || !strings.Contains(err.Error(), w.f.row(t, "box").ConsumerID) {
			t.Errorf("nobody will look for the request again, and the error doesn't name its mark: %v", err)
		}
		_ = nap(t.Context(), 10*time.Minute)
		fails[*ConflictError](t, w.apply(t.Context(), w.process(), order("box")), w.f.row(t, "box").ID)
		o = order("box")
		o.ReplaceConflicting = true
		ok(t, w.apply(t.Context(), w.process(), o))
		w.nothing()
	})
}

func TestCancelDuringPostWaitsForItsAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ctx, cancel := context.WithCancel(t.Context())
		w.f.hold = time.Minute
		time.AfterFunc(5*time.Second, cancel)
		err := w.apply(ctx, w.process(), order("box"))
		fails[*CanceledError](t, err, "Interrupted", "released")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v is not a cancel", err)
		}
		if n := w.f.count("create"); n != 1 {
			t.Errorf("%d requests to rent", n)
		}
		w.later(0)
		w.f.honest(t, nil)
	})
}

func TestDoubtEndsTheRun(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"journal", ""} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				if dir == "" {
					w.dir = ""
				}
				w.f.fault("create", 1, verdict{after: lostAnswer()})
				r := w.process()
				o := order("box")
				o.Progress = func(string, ...any) { // once it rents, lists fail for good
					if w.f.count("offers") > 0 {
						w.f.fault("list", 0, verdict{before: unreachable()})
					}
				}
				rental, err := r.Rent(t.Context(), o)
				if rental != nil {
					t.Fatal("a rental came of it")
				}
				doubt := caught[*DoubtError](t, err, w.f.row(t, "box").ConsumerID)
				if doubt.Forgotten != (dir == "") {
					t.Errorf("Forgotten is %v with the journal %q", doubt.Forgotten, dir)
				}
				if n := w.f.count("create"); n != 1 {
					t.Errorf("%d requests to rent: another one was made while one was in doubt", n)
				}
				w.f.clear()
				next := order("box")
				next.ReplaceConflicting = dir == ""
				ok(t, w.apply(t.Context(), w.process(), next))
				w.atMost("box", 1)
				w.nothing()
			})
		})
	}
}

func TestSessionOfALostAnswerThatCantBeReleasedIsReturned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.fault("create", 1, verdict{after: ambiguous(refusal(201, "", "no key"))})
		w.f.fault("delete", 0, verdict{before: unreachable()})
		err := w.apply(t.Context(), w.process(), order("box"))
		fails[*KeptError](t, err, "$0.40 an hour", "Run destroy again")
		if w.state["box"] == nil || w.state["box"].Session.ID != w.f.row(t, "box").ID {
			t.Fatalf("the session is not in state: %v", w.state)
		}
		w.edit(func(e *entry) {
			if e.SessionID != w.state["box"].Session.ID {
				t.Errorf("the journal knows the session as %q", e.SessionID)
			}
		})
		if n := w.f.count("create"); n != 1 {
			t.Errorf("%d requests to rent", n)
		}
		w.f.clear()
	})
}

func TestAllAttemptsAndTheirReasonsAreInTheError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.boots = []lot{{refuse: "stale"}, {refuse: "quota exceeded"}, {never: true}}
		all := caught[*AttemptsError](t, w.apply(t.Context(), w.process(), order("box")),
			"vastai-00", "vastai-01", "vastai-02", "stale_inventory", "quota exceeded", "SSH verification timeout", "released")
		if len(all.Attempts) != 3 {
			t.Errorf("%d attempts", len(all.Attempts))
		}
		w.later(0)
	})
}

func TestServiceDownWhileTheAnswerIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.fault("create", 1, verdict{after: lostAnswer()})
		lists := w.f.count("list") + 4 // before renting
		for n := range 12 {
			w.f.fault("list", lists+n+1, verdict{before: unreachable()})
		}
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		w.atMost("box", 1)
	})
}

func TestPartialListIsNoAbsence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.fault("list", 3, verdict{before: refusal(200, "", "it counts 3 sessions and holds 2")})
		fails[*shopper.Error](t, w.apply(t.Context(), w.process(), order("box")), "counts 3")
		if n := w.f.count("create"); n != 0 {
			t.Errorf("%d requests to rent without knowing what is rented", n)
		}
	})
}

func TestSideBySideRentalsTakeDifferentOffers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		r := w.process()
		errs := make(chan error, 10)
		for _, name := range strings.Fields("a b c d e f g h i j") {
			go func() { errs <- w.apply(t.Context(), r, order(name)) }()
		}
		for range cap(errs) {
			ok(t, <-errs)
		}
		offers := map[string]bool{}
		for _, rental := range w.state {
			offers[rental.Offer.ID] = true
		}
		if len(offers) != 10 {
			t.Errorf("ten rentals took %d offers", len(offers))
		}
	})
}

// TestNameIsRentedUnderOnce: two resources of one configuration with the same
// name get one machine, and the second an error, also where it would replace.
func TestNameIsRentedUnderOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		r := w.process()
		o := order("box")
		o.ReplaceConflicting = true
		errs := make(chan error, 2)
		for range cap(errs) {
			go func() { errs <- w.apply(t.Context(), r, o) }()
		}
		err := errors.Join(<-errs, <-errs)
		if refused := caught[*ConflictError](t, err, `"box"`, "nothing was rented", "a unique name"); !refused.Here {
			t.Error("the name counts as somebody else's")
		}
		fails[*ConflictError](t, w.apply(t.Context(), r, o), w.state["box"].Session.ID, "for another resource of this configuration")
		if n := w.f.count("create"); n != 1 || !w.f.bills("m0") {
			t.Errorf("%d requests to rent, and the first machine bills: %v", n, w.f.bills("m0"))
		}
		w.known()
		// Another run may replace it, with ReplaceConflicting.
		ok(t, w.apply(t.Context(), w.process(), o))
	})
}

// TestNothingWasRentedIsSaid wherever nothing was asked for, and nowhere else.
func TestNothingWasRentedIsSaid(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		at   string // the operation that fails
		v    verdict
		said bool
	}{
		{"service down", "ready", verdict{before: unreachable()}, true},
		{"sessions can't be listed", "list", verdict{before: refusal(500, "", "oops")}, true},
		{"offers can't be listed", "offers", verdict{before: foreign(404)}, true},
		{"not sent", "create", verdict{before: unreachable()}, true},
		{"interrupted", "offers", verdict{delay: time.Hour}, true},
		{"refused", "create", verdict{before: refusal(403, "", "no")}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				w.f.fault(test.at, 0, test.v)
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Minute, cancel)
				err := w.apply(ctx, w.process(), order("box"))
				if err == nil || strings.Contains(err.Error(), "Nothing was rented.") != test.said {
					t.Errorf("%v", err)
				}
				if stopped := caughtCancel(err); stopped != (test.name == "interrupted") {
					t.Errorf("a cancel: %v (%v)", stopped, err)
				}
			})
		})
	}
}

func caughtCancel(err error) bool {
	_, is := errors.AsType[*CanceledError](err)
	return is && errors.Is(err, context.Canceled)
}
