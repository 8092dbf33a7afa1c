package rental

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

var (
	seedFlag = flag.Uint64("rental.seed", 0, "run this seed alone")
	runsFlag = flag.Uint64("rental.runs", 300, "how many random runs")
)

// TestRandomRuns lives through runs of Terraform under random faults: create,
// maybe extend, maybe die on the way, destroy; up to ten sessions side by side.
// However a run ends, a plain apply and destroy must put everything right.
func TestRandomRuns(t *testing.T) {
	t.Parallel()
	if *seedFlag != 0 {
		randomRun(t, *seedFlag)
		return
	}
	for seed := uint64(1); seed <= *runsFlag; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			randomRun(t, seed)
			if t.Failed() {
				t.Logf("again with: go test ./internal/rental -run TestRandomRuns -rental.seed=%d", seed)
			}
		})
	}
}

func randomRun(t *testing.T, seed uint64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		c := &chance{random: rand.New(rand.NewPCG(seed, 1))}
		if c.one(8) {
			w.dir = ""
		}
		c.rate = 5 + c.below(30)
		c.mortal = w.dir != "" // without a journal what a crash leaves is a conflict, not a leftover
		w.f.random, w.f.truthful = c.verdict, true
		w.f.hold = time.Duration(1+c.below(60)) * time.Second
		w.f.boots = c.lots()
		shared := w.process()
		names := 1 + c.below(10)
		var all sync.WaitGroup
		for i := range names {
			all.Go(func() { w.life(c, shared, fmt.Sprintf("box%d", i)) })
		}
		all.Wait()
		w.f.clear()
		for i := range names {
			w.recover(fmt.Sprintf("box%d", i))
		}
		w.nothing()
	})
}

// life is what a user does with one session while everything breaks.
func (w *world) life(c *chance, shared *Renter, name string) {
	for range 1 + c.below(3) {
		r := shared
		if c.one(2) {
			r = w.process()
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), 45*time.Minute)
		if c.one(4) && w.dir != "" { // without a journal, a canceled run says what to look for
			time.AfterFunc(time.Duration(c.below(120))*time.Second, cancel)
		}
		switch {
		case w.has(name) && c.one(6):
			w.misdirect(ctx, name)
		case w.has(name):
			w.refresh(ctx, c, r, name)
		default:
			w.crashing(func() { _ = w.apply(ctx, r, order(name)) })
		}
		cancel()
	}
}

// misdirect is a run whose url leads to another shopper, which knows none of the
// sessions: it must prove nothing and release nothing.
func (w *world) misdirect(ctx context.Context, name string) {
	other := newFake()
	other.url = "http://other"
	r := New(other, Config{Consumer: "terraform", Journal: journal.Open(w.dir, nextRun())})
	w.mu.Lock()
	known := w.state[name].known()
	w.mu.Unlock()
	if _, ended, err := r.Inspect(ctx, known); ended || err == nil {
		w.t.Errorf("another service's 404 proves that %s has ended: %v", name, err)
	}
	if _, err := r.Release(ctx, known); err == nil {
		w.t.Errorf("another service has released %s", name)
	}
}

func (w *world) has(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state[name] != nil
}

// refresh reads a session in state, and extends or destroys it.
func (w *world) refresh(ctx context.Context, c *chance, r *Renter, name string) {
	w.mu.Lock()
	rental := w.state[name]
	w.mu.Unlock()
	w.crashing(func() {
		_, ended, err := r.Inspect(ctx, rental.known())
		if err == nil && ended {
			w.mu.Lock()
			delete(w.state, name)
			w.mu.Unlock()
			return
		}
		_ = r.Seen(rental.Session.ConsumerID, "")
		_, _ = r.Settle(ctx, Names{Name: name})
		if c.one(2) {
			_, _ = r.Extend(ctx, Known{ID: rental.Session.ID}, 3)
			return
		}
		_ = w.destroy(ctx, r, name)
	})
}

// recover is a plain apply when everything works again, by a new process. A
// session in state is kept if it lives and can be used.
func (w *world) recover(name string) {
	w.t.Helper()
	r := w.process()
	if rental := w.state[name]; rental != nil {
		s, ended, err := r.Inspect(w.t.Context(), rental.known())
		ok(w.t, err)
		ok(w.t, r.Seen(rental.Session.ConsumerID, ""))
		if s.ReservationHours > 3 {
			w.t.Errorf("%s is reserved for %d hours: extended twice", name, s.ReservationHours)
		}
		if !ended && s.Status == shopper.Running && rental.PrivateKey != "" {
			rental.Session = s
			_, err := r.Settle(w.t.Context(), Names{Name: name})
			ok(w.t, err)
			return
		}
		ok(w.t, w.destroy(w.t.Context(), r, name)) // tainted or ended
	}
	err := w.apply(w.t.Context(), r, order(name))
	if _, conflict := errors.AsType[*ConflictError](err); conflict && w.dir == "" {
		// Without a journal it could not be verified as a leftover; the user is warned.
		o := order(name)
		o.ReplaceConflicting = true
		err = w.apply(w.t.Context(), r, o)
	}
	ok(w.t, err)
}

// chance makes the faults of one run.
type chance struct {
	rate   int // how many requests in a hundred are spoilt
	mortal bool

	mu     sync.Mutex
	random *rand.Rand
}

func (c *chance) below(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(n)
}

func (c *chance) one(in int) bool { return c.below(in) == 0 }

func (c *chance) lots() []lot {
	lots := make([]lot, 12)
	for i := range lots {
		lots[i] = []lot{
			{},
			{},
			{},
			{refuse: "stale"},
			{refuse: "quota"},
			{refuse: "disk"},
			{never: true},
			{dies: "instance_stopped"},
			{stopped: true},
			{hold: time.Duration(1+c.below(290)) * time.Second},
			{undead: 1 + c.below(6)},
			{vanish: true},
			{factor: 1 + float64(c.below(20))/10},
		}[c.below(13)]
	}
	return lots
}

// verdict spoils a request, or not.
func (c *chance) verdict(op string) verdict {
	if c.below(100) >= c.rate {
		return verdict{delay: time.Duration(c.below(300)) * time.Millisecond}
	}
	if c.mortal && c.one(25) {
		return verdict{crash: true}
	}
	switch op {
	case "create":
		return []verdict{
			{before: lostAnswer()},
			{after: lostAnswer()},
			{early: lostAnswer()},
			{early: ambiguous(foreign(504))},
			{after: ambiguous(foreign(502))},
			{after: &shopper.AmbiguousError{Err: refusal(500, "", "oops"), Answered: true}},
			{before: refusal(429, "", "slow down")},
			{before: unreachable()},
			{after: ambiguous(refusal(201, "", "no key"))},
		}[c.below(9)]
	case "extend":
		return []verdict{{before: lostAnswer()}, {after: lostAnswer()}, {before: refusal(429, "", "slow down")}}[c.below(3)]
	case "delete":
		return []verdict{
			{before: unreachable()}, {after: unreachable()}, {claim: true}, {hangUp: 3 * time.Second}, {after: foreign(502)},
		}[c.below(5)]
	case "ready":
		return verdict{before: unreachable()}
	}
	return []verdict{
		{before: unreachable()},
		{after: unreachable()},
		{before: foreign(404)},
		{before: refusal(500, "", "oops")},
		{delay: 40 * time.Second},
	}[c.below(5)]
}
