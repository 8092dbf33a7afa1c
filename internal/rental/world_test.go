package rental

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// crash is the panic by which a test lets a process die: nothing after it runs
// but the dropping of locks, which the operating system does for a real one.
type crash struct{}

func die() {
	panic(crash{}) //nolint:forbidigo // that is what it stands for
}

// world is a service, a Terraform working directory and the state in it.
type world struct {
	t   *testing.T
	f   *fake
	dir string // the journal's, "" for none

	mu    sync.Mutex
	state map[string]*Rental // by name
	extra map[string]bool    // sessions that may bill though state doesn't know them
	said  []string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, f: newFake(), dir: t.TempDir(), state: map[string]*Rental{}, extra: map[string]bool{}}
	t.Cleanup(func() { w.f.allStruck(t) })
	return w
}

// process is a new run of the provider.
func (w *world) process() *Renter {
	return New(w.f, Config{Consumer: "terraform", Journal: journal.Open(w.dir, nextRun())})
}

var runs atomic.Int64

// nextRun names a run of Terraform that no other test is part of.
func nextRun() string { return fmt.Sprint("run ", runs.Add(1)) }

func order(name string) Order {
	return Order{Names: Names{Name: name}, Hours: 2, WorkloadType: "llm_vllm", MaxAttempts: 3}
}

// apply does what Terraform and the resource do to create the session.
func (w *world) apply(ctx context.Context, r *Renter, o Order) error {
	w.t.Helper()
	saved := false
	o.Rented = func(*Rental) { saved = true }
	o.Dropped = func() { saved = false }
	o.Progress = func(format string, args ...any) { w.note(format, args...) }
	rental, err := r.Rent(ctx, o)
	if rental == nil {
		if saved {
			w.t.Errorf("%s is in state, and Rent returned no rental: %v", o.Name, err)
		}
		if err == nil {
			w.t.Error("Rent returned neither a rental nor an error")
		}
		return err
	}
	if !saved {
		w.t.Errorf("%s was returned and never told of before", o.Name)
	}
	w.mu.Lock()
	w.state[o.Name] = rental
	w.mu.Unlock()
	return errors.Join(err, rental.HandOver())
}

func (w *world) note(format string, _ ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.said = append(w.said, format)
}

// crashing runs a process that dies on the way. It reports whether it did.
func (w *world) crashing(run func()) (died bool) {
	defer func() {
		switch problem := recover().(type) {
		case nil:
		case crash:
			died = true
		default:
			panic(problem) //nolint:forbidigo // somebody else's
		}
	}()
	run()
	return false
}

// destroy does what Terraform and the resource do to destroy the session.
func (w *world) destroy(ctx context.Context, r *Renter, name string) error {
	w.mu.Lock()
	rental := w.state[name]
	w.mu.Unlock()
	if rental == nil {
		return nil
	}
	if err := r.Seen(rental.Session.ConsumerID, ""); err != nil {
		w.t.Errorf("telling the journal: %v", err)
	}
	_, err := r.Release(ctx, rental.known())
	if err == nil {
		w.mu.Lock()
		delete(w.state, name)
		w.mu.Unlock()
	}
	return err
}

// known is what the resource keeps of a rental.
func (r *Rental) known() Known {
	return Known{ID: r.Session.ID, ConsumerID: r.Mark.String(), Service: r.Service}
}

// known checks that nothing bills but what is in state, and that what is in
// state and usable does.
func (w *world) known() {
	w.t.Helper()
	bills := w.f.book()
	but := map[string]bool{}
	for name, rental := range w.state {
		but[rental.Session.ID] = true
		if _, ok := bills[rental.Session.ID]; !ok && rental.Session.Status == shopper.Running {
			w.t.Errorf("%s is in state and its machine is gone", name)
		}
		delete(bills, rental.Session.ID)
	}
	for id, m := range bills {
		if !w.extra[id] {
			w.t.Errorf("session %s (%s) bills and nobody knows it", id, m.mark)
		}
	}
	w.f.honest(w.t, but)
}

// nothing destroys what is in state, and checks that nothing bills then, now and
// later on.
func (w *world) nothing() {
	w.t.Helper()
	w.known()
	for name := range w.state {
		if err := w.destroy(w.t.Context(), w.process(), name); err != nil {
			w.t.Errorf("destroying %s: %v", name, err)
		}
	}
	w.later(0)
	w.later(15 * time.Minute)
	w.f.honest(w.t, nil)
}

func (w *world) later(d time.Duration) {
	w.t.Helper()
	_ = nap(w.t.Context(), d)
	for id, m := range w.f.book() {
		w.t.Errorf("session %s (%s) bills %s after destroy", id, m.mark, d)
	}
}

// muchLater checks half an hour on that only what state knows bills.
func (w *world) muchLater() {
	w.t.Helper()
	_ = nap(w.t.Context(), 30*time.Minute)
	w.known()
}

// atMost checks how many machines ever billed at once under a name.
func (w *world) atMost(name string, n int) {
	w.t.Helper()
	w.f.mu.Lock()
	defer w.f.mu.Unlock()
	if most := w.f.most["terraform/"+name]; most > n {
		w.t.Errorf("%d machines billed at once under %s", most, name)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails checks that err is of type E and says the words.
func fails[E error](t *testing.T, err error, words ...string) {
	t.Helper()
	_ = caught[E](t, err, words...)
}

// caught is fails for those who want to look closer.
func caught[E error](t *testing.T, err error, words ...string) E {
	t.Helper()
	typed, is := errors.AsType[E](err)
	if !is {
		t.Fatalf("the error is %T (%v), want %T", err, err, typed)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error doesn't say %q: %v", word, err)
		}
	}
	return typed
}
