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

// The price really paid stands in the answer to the POST alone.
func TestPriceIsWhatThePostAnswered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.boots = []lot{{factor: 1.1}, {factor: 5.9}}
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		if s := w.state["box"].Session; s.Status != shopper.Running || s.PricePerHour < 0.4399 {
			t.Errorf("the price is $%g, and $0.44 is paid", s.PricePerHour)
		}
		// $2.36 are paid for the next one, and every read says $0.40.
		o := order("dear")
		o.MaxAttempts, o.Requirements.MaxPricePerHour = 1, 1
		begun := time.Now()
		fails[*UnusableError](t, w.apply(t.Context(), w.process(), o), "max_price_per_hour", "$2.36", "released")
		if took := time.Since(begun); took > w.f.boot {
			t.Errorf("the machine was waited for, for %s", took)
		}
	})
}

// Where no ceiling is given, the offer is the measure of the price.
func TestDoubledPriceIsRefusedWithoutACeiling(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", "vastai-07"} {
		t.Run("offer "+id, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				w.f.boots = []lot{{factor: 2}}
				o := order("box")
				o.OfferID, o.MaxAttempts = id, 1
				fails[*UnusableError](t, w.apply(t.Context(), w.process(), o), "price_per_hour", "its offer said", "released")
				ok(t, w.apply(t.Context(), w.process(), o))
			})
		})
	}
}

// A 404 proves the end only when it comes from the service that rented the machine,
// and the machine doesn't answer.
func TestNotFoundIsNoProof(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		service string // that rented it
		answers bool
		words   []string // of the error; none where it is proof
	}{
		{name: "its own service"},
		{name: "another service", service: "http://staging", words: []string{"http://staging", "http://fake", "url"}},
		{name: "its machine still answers", answers: true, words: []string{"still answers", "console"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				r := w.process()
				known := Known{
					ID: "unknown", ConsumerID: "terraform/box/" + token('a'), Service: "http://fake",
					Answers: func(context.Context) bool { return test.answers },
				}
				if test.service != "" {
					known.Service = test.service
				}
				check := func(what string, over bool, err error) {
					t.Helper()
					if over != (len(test.words) == 0) || over != (err == nil) {
						t.Fatalf("%s: over %v, %v", what, over, err)
					}
					if err != nil {
						fails[*UnprovedError](t, err, test.words...)
					}
				}
				_, over, err := r.Inspect(t.Context(), known)
				check("Inspect", over, err)
				_, err = r.Release(t.Context(), known)
				check("Release", err == nil, err)
				known.Service = "" // a session of before that was kept
				if known.Answers = nil; !errors.Is(errOf3(r.Release(t.Context(), known)), nil) {
					t.Error("where nothing is known a 404 has to do")
				}
			})
		})
	}
}

// A service that is killed while it rents marks the row failed when it comes back;
// the machine that its cloud makes all the same is out of every client's reach.
func TestLostRequestWhoseSessionFailedIsAWarning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.fault("create", 1, verdict{after: lostAnswer()})
		w.f.boots = []lot{{refuse: "no provider instance ID"}}
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		said := strings.Join(w.state["box"].Warnings, "\n")
		for _, word := range []string{"session s1", "no provider instance ID", "operator", w.f.read("s1").ConsumerID} {
			if !strings.Contains(said, word) {
				t.Errorf("the warnings don't say %q: %s", word, said)
			}
		}
	})
}

// A rate limit proves that nothing happened: the same offer is asked for again,
// with a new mark, when the service says.
func TestRateLimitedRequestIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		limited := refusal(429, "", "slow down")
		limited.RetryAfter = 20 * time.Second
		w.f.fault("create", 1, verdict{before: limited})
		w.f.fault("create", 2, verdict{before: limited})
		o := order("box")
		o.MaxAttempts = 1
		begun := time.Now()
		ok(t, w.apply(t.Context(), w.process(), o))
		if took := time.Since(begun); took < 40*time.Second || w.state["box"].Offer.ID != "vastai-00" {
			t.Errorf("after %s it rented %s", took, w.state["box"].Offer.ID)
		}
		w.f.fault("create", 0, verdict{before: limited})
		begun = time.Now()
		fails[*shopper.Error](t, w.apply(t.Context(), w.process(), order("other")), "slow down")
		if took := time.Since(begun); took > ratePatience+time.Minute {
			t.Errorf("it was patient for %s", took)
		}
	})
}

// A bad entry of another name is nobody's business.
func TestEntriesOfOtherNamesAreNotRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ok(t, w.apply(t.Context(), w.process(), order("other")))
		ok(t, write(w.entries(), token('a')+".json", "{"))
		if left, err := w.process().Leftovers(t.Context(), Names{Name: "box"}); err != nil || len(left) > 0 {
			t.Errorf("the leftovers are %v, %v", left, err)
		}
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		if warnings := w.state["box"].Warnings; len(warnings) > 0 {
			t.Errorf("the warnings are %q", warnings)
		}
		if _, err := w.process().Leftovers(t.Context(), Names{Name: "other"}); err == nil {
			t.Error("nothing is said of the bad entry")
		}
	})
}
