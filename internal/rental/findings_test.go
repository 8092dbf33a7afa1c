package rental

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflogtest"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Canceling at any moment ends Rent, which releases what it rented and leaves no
// goroutine running, which goleak and synctest check.
func TestCancelReleasesWhatWasRented(t *testing.T) {
	t.Parallel()
	for at := 500 * time.Millisecond; at < 26*time.Second; at += 1500 * time.Millisecond {
		t.Run(at.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(at, cancel)
				o := order("box")
				o.Login = func(ctx context.Context, _ shopper.Session, _ string) error { return nap(ctx, 5*time.Second) }
				w.f.boots = []lot{{undead: 1}}
				err := w.apply(ctx, w.process(), o)
				synctest.Wait()
				if !errors.Is(err, context.Canceled) || len(w.state) > 0 {
					t.Errorf("the state is %v, the error %v", w.state, err)
				}
				w.later(0)
				ok(t, w.apply(t.Context(), w.process(), order("box")))
			})
		})
	}
}

// A release goes on after a cancel, and says so in the log.
func TestReleaseGoesOnAndSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(tflogtest.RootLogger(t.Context(), &log))
		time.AfterFunc(2*time.Second, cancel)
		ok(t, w.destroy(ctx, w.process(), "box"))
		synctest.Wait()
		if !strings.Contains(log.String(), "waiting until the rented machine is released") {
			t.Errorf("the log is %q", log.String())
		}
	})
}

// A release that fails is an error with the session, its price and the way out,
// and the session stays with the caller.
func TestFailedReleaseIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.boots = []lot{{factor: 2}}
		w.f.fault("delete", 0, verdict{before: refusal(500, "", "failed to verify destruction")})
		o := order("box")
		o.Requirements.MaxPricePerHour = 0.5
		err := w.apply(t.Context(), w.process(), o)
		fails[*KeptError](t, err, "max_price_per_hour", "$0.80 an hour", "failed to verify destruction", "Run destroy again")
		if w.state["box"] == nil || !strings.Contains(err.Error(), w.state["box"].Session.ID) {
			t.Errorf("the session is not kept: %v", w.state)
		}
		w.f.clear()
	})
}

// One Renter serves a parallel apply; the race detector is on in the full run.
func TestRenterIsSafeSideBySide(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		r := w.capped(1000)
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				name := fmt.Sprintf("box%d", i)
				for range 3 {
					if err := w.apply(t.Context(), r, order(name)); err != nil {
						t.Error(err)
					}
					if _, err := r.Leftovers(t.Context(), Names{Name: name}); err != nil {
						t.Error(err)
					}
					if _, err := r.Settle(t.Context(), Names{Name: name}); err != nil {
						t.Error(err)
					}
					if err := w.destroy(t.Context(), r, name); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	})
}

func TestTimesAreUTC(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("far", 9*3600)
	s := shopper.Session{ID: "s", Status: shopper.Running, CreatedAt: time.Date(2026, 2, 3, 9, 0, 0, 0, zone), ExpiresAt: time.Date(2026, 2, 3, 11, 0, 0, 0, zone)}
	for _, err := range []error{
		&NotReleasedError{SessionID: "s", Last: s},
		&ConflictError{Name: "box", Sessions: []shopper.Session{s}},
	} {
		if text := err.Error(); !strings.Contains(text, "Z") || strings.Contains(text, "+09:00") || !strings.Contains(text, "2026-02-03T") {
			t.Errorf("no time in UTC: %s", text)
		}
	}
}

// A cancel and a failure differ in type, by errors.Is and in words.
func TestCancelIsNotAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.boots = []lot{{dies: "broken"}}
		o := order("box")
		o.MaxAttempts = 1
		failure := w.apply(t.Context(), w.process(), o)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, cancel)
		canceled := w.apply(ctx, w.process(), o)
		ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		late := w.apply(ctx, w.process(), o)
		for _, c := range []struct {
			err              error
			canceled, ranOut bool
			words            string
		}{
			{failure, false, false, "broken"}, {canceled, true, false, "Interrupted"}, {late, false, true, "in time"},
		} {
			if errors.Is(c.err, context.Canceled) != c.canceled || errors.Is(c.err, context.DeadlineExceeded) != c.ranOut ||
				!strings.Contains(c.err.Error(), c.words) {
				t.Errorf("want canceled %v, deadline %v, %q: %v", c.canceled, c.ranOut, c.words, c.err)
			}
		}
	})
}

// Budget and market are locked for no longer than it takes to count: a service
// that hangs for one rental holds up no other.
func TestNoLockIsHeldWhileTheServiceHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		r := w.capped(1000)
		w.f.fault("list", 1, verdict{delay: time.Hour})
		slow := make(chan error)
		go func() { slow <- w.apply(t.Context(), r, order("slow")) }()
		_ = nap(t.Context(), time.Second)
		begun := time.Now()
		ok(t, w.apply(t.Context(), r, order("quick")))
		if took := time.Since(begun); took > 5*time.Minute {
			t.Errorf("it waited %s for the other one", took)
		}
		ok(t, <-slow)
	})
}

// Attempts, replacements, looks and journal entries are bounded.
func TestEverythingIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for range 100 {
			w.f.boots = append(w.f.boots, lot{refuse: "stale"})
		}
		o := order("box")
		o.MaxAttempts = 0
		fails[*AttemptsError](t, w.apply(t.Context(), w.process(), o))
		if n := w.f.count("create"); n != DefaultAttempts {
			t.Errorf("%d requests to rent", n)
		}
		w.f.clear()
		for i := range maxChildren + 5 { // a chain of replacements without end
			id := fmt.Sprintf("c%d", i)
			w.f.byID[id] = &row{Session: shopper.Session{ID: id, Status: shopper.Stopped, RetryChildID: fmt.Sprintf("c%d", i+1)}}
		}
		fails[*NotReleasedError](t, errOf3(w.process().Release(t.Context(), Known{ID: "c0"})), "too many")
		if _, ended, err := w.process().Inspect(t.Context(), Known{ID: "c0"}); ended || err != nil {
			t.Errorf("Inspect says %v, %v", ended, err)
		}
		// One that names itself doesn't go round for ever.
		w.f.byID["me"] = &row{Session: shopper.Session{ID: "me", Status: shopper.Stopped, RetryChildID: "me"}}
		ok(t, errOf3(w.process().Release(t.Context(), Known{ID: "me"})))
	})
}

func errOf3(_ []string, err error) error { return err }

// A wait ends at its deadline; the last pause is cut to what remains.
func TestWaitsEndAtTheirDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ctx, cancel := context.WithTimeout(t.Context(), 3333*time.Millisecond)
		defer cancel()
		begun := time.Now()
		if err := pace.New(time.Hour, time.Hour).Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the wait ended with %v", err)
		}
		if took := time.Since(begun); took != 3333*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		w.f.fault("delete", 0, verdict{claim: true})
		ctx, cancel = context.WithTimeout(t.Context(), 17*time.Minute)
		defer cancel()
		begun = time.Now()
		fails[*NotReleasedError](t, errOf3(w.process().Release(ctx, w.state["box"].known())))
		if took := time.Since(begun); took != 17*time.Minute {
			t.Errorf("the release took %s", took)
		}
		w.f.clear()
	})
}

// A context's error comes back as it is, and what nobody expected is not tried
// again.
func TestUnexpectedErrorsAreNotRetried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		odd := errors.New("what is this")
		for _, op := range []string{"ready", "list", "offers", "create"} {
			w.f.fault(op, 1, verdict{before: odd})
			before := w.f.count("create")
			if err := w.apply(t.Context(), w.process(), order("box")); !errors.Is(err, odd) {
				t.Errorf("%s: the error is %v", op, err)
			}
			if n := w.f.count("create") - before; op == "create" && n != 1 || op != "create" && n != 0 {
				t.Errorf("%s: %d requests to rent", op, n)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := w.apply(ctx, w.process(), order("box")); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled before it began: %v", err)
		}
	})
}

// A DELETE that says yes proves nothing: only what is read afterwards counts.
func TestStateIsNeverMadeUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		id := w.state["box"].Session.ID
		w.f.fault("delete", 0, verdict{claim: true})
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
		defer cancel()
		fails[*NotReleasedError](t, w.destroy(ctx, w.process(), "box"), `status was "running"`)
		w.f.clear()
		reads := w.f.count("get")
		ok(t, w.destroy(t.Context(), w.process(), "box"))
		if w.f.count("get") == reads {
			t.Error("nobody read the session after its DELETE")
		}
		if status := w.f.read(id).Status; status != shopper.Stopped {
			t.Errorf("it reads %s", status)
		}
	})
}

// A service that answers so many requests, then none for a second, makes a plan
// over 200 sessions take longer, and fails none of it.
func TestManySessionsUnderARateLimit(t *testing.T) {
	t.Parallel()
	const sessions, allowed = 200, 100
	var mu sync.Mutex
	var refusing time.Time // since then
	used, refused := 0, 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if !refusing.IsZero() && time.Since(refusing) > time.Second {
			refusing, used = time.Time{}, 0
		}
		used++
		over := used > allowed
		if over {
			refused++
			if refusing.IsZero() {
				refusing = time.Now()
			}
		}
		mu.Unlock()
		if over {
			w.Header().Set("Retry-After", "1")
			http.Error(w, `{"error":"too many requests","request_id":"r"}`, http.StatusTooManyRequests)
			return
		}
		if id, found := strings.CutPrefix(r.URL.Path, "/api/v1/sessions/"); found {
			fmt.Fprintf(w, `{"id":%q,"status":"running","consumer_id":"x"}`, id)
			return
		}
		var list []string
		for i := range sessions { // a list that shows none as running serves no read
			list = append(list, fmt.Sprintf(`{"id":"s%d","status":"provisioning","consumer_id":"terraform","price_per_hour":1}`, i))
		}
		fmt.Fprintf(w, `{"sessions":[%s],"count":%d}`, strings.Join(list, ","), sessions)
	}))
	defer server.Close()
	client, err := shopper.New(shopper.Config{URL: server.URL})
	ok(t, err)
	defer client.Close()
	r := New(client, Config{Consumer: "terraform"})
	work := make(chan int)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			for i := range work {
				if _, ended, err := r.Inspect(t.Context(), Known{ID: fmt.Sprintf("s%d", i)}); ended || err != nil {
					t.Errorf("session %d: %v, %v", i, ended, err)
				}
			}
		})
	}
	for i := range sessions {
		work <- i
	}
	close(work)
	all.Wait()
	live, err := r.live(t.Context())
	if err != nil || len(live) != sessions {
		t.Errorf("%d sessions are listed, %v", len(live), err)
	}
	if refused == 0 {
		t.Error("nothing was refused, so nothing was shown")
	}
}
