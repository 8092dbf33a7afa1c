package rental

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// doubt is a request that rents whose outcome is not known. Its mark is looked
// for, and what is found is released, until the request can no longer be under
// way.
type doubt struct {
	held *held
	// seen is true once a session was found whose request was perhaps still under
	// way: releasing that one proves nothing, it can come back to life.
	seen bool
	// found are the sessions that were found and released.
	found []string
}

// looks is how often a mark is looked for before it counts as not there. The
// service writes the row before it asks the cloud for a machine.
const looks = 3

// refused deals with a request that rents and that failed with err: whatever it
// left behind is found by its mark and released. What can't be released is
// returned.
func (r *run) refused(ctx context.Context, h *held, offer shopper.Offer, err error) (*Rental, error) {
	r.budget.drop(h.mark())
	if shopper.IsUnreachable(err) && !shopper.IsAmbiguous(err) {
		r.forget(h) // nothing was sent
		return nil, err
	}
	d := &doubt{held: h}
	under := requestUnderWay(err)
	if under {
		h.Doubt = true
		if saveErr := h.save(); saveErr != nil {
			r.warn("%v", saveErr)
		}
		r.say("The answer to the request that rents was lost; looking for session %s", h.mark())
	}
	settled, lookErr := r.look(ctx, d, under)
	if kept, ok := errors.AsType[*NotReleasedError](lookErr); ok && kept.Last.ID != "" {
		rental := &Rental{Session: kept.Last, Offer: offer, Mark: h.mark(), held: h}
		r.Rented(rental)
		return rental, &KeptError{Cause: err, Release: lookErr}
	}
	if lookErr != nil {
		r.doubts = append(r.doubts, d)
		return nil, &DoubtError{Cause: err, Mark: h.mark(), Found: d.found, Err: lookErr}
	}
	if settled {
		r.forget(h)
	} else {
		r.doubts = append(r.doubts, d)
	}
	return nil, &lostError{err: err, released: d.found}
}

// requestUnderWay reports whether the request that failed with err can still be
// at work: no answer of the service's own has come.
func requestUnderWay(err error) bool {
	ambiguous, ok := errors.AsType[*shopper.AmbiguousError](err)
	return ok && !ambiguous.Answered
}

// look searches for the mark and releases what it finds. It reports whether the
// matter is settled: a request that is no longer under way leaves nothing new.
func (r *Renter) look(ctx context.Context, d *doubt, under bool) (bool, error) {
	ctx, cancel := goingOn(ctx, releaseLimit)
	defer cancel()
	pause := newPace(200*time.Millisecond, 2*time.Second)
	for n := 1; ; n++ {
		sessions, err := r.service.Sessions(ctx, shopper.SessionFilter{ConsumerID: d.held.Mark})
		if err != nil {
			return false, err
		}
		over, err := r.releaseFound(ctx, d, sessions)
		if err != nil {
			return false, err
		}
		if over || !under || time.Since(d.held.Asked) > askLimit {
			return true, nil
		}
		if len(sessions) > 0 || n == looks {
			return false, nil
		}
		if err := pause.wait(ctx); err != nil {
			return false, err
		}
	}
}

// releaseFound releases the sessions of a request in doubt. It reports whether
// one of them proves that the request is over.
func (r *Renter) releaseFound(ctx context.Context, d *doubt, sessions []shopper.Session) (bool, error) {
	over := false
	for _, s := range sessions {
		switch {
		case hasMachine(s):
			over = true
		case s.Status == shopper.Failed:
			// Refused by its cloud: the row never had a machine and stays as it is.
			over = true
			continue
		default:
			d.seen = true
		}
		if s.Status == shopper.Stopped && s.RetryChildID == "" {
			continue
		}
		if err := r.release(ctx, s.ID); err != nil {
			return false, err
		}
		if !slices.Contains(d.found, s.ID) {
			d.found = append(d.found, s.ID)
		}
	}
	return over, nil
}

// hasMachine reports whether the cloud has answered the request that made s: the
// service writes the address and the machine's id in one step.
func hasMachine(s shopper.Session) bool {
	return s.SSHHost != "" || s.Status == shopper.Running
}

// lookAgain looks once more at everything in doubt, at the end of Rent. Where a
// session was seen whose request was perhaps under way, and where there is no
// journal to tell a later call, it stays until that can no longer be.
func (r *run) lookAgain(ctx context.Context) {
	for _, d := range r.doubts {
		stay := ctx.Err() == nil && (d.seen || r.journal == nil)
		settled, err := r.watch(ctx, d, stay)
		switch {
		case err != nil && ctx.Err() == nil:
			r.warn("It could not be made sure that the request marked %s rented nothing: %v", d.held.mark(), err)
			d.held.release()
		case settled:
			r.forget(d.held)
		default:
			d.held.release() // a later call looks again
		}
	}
	r.doubts = nil
}

// watch looks at a doubt once, or, when it stays, until it is settled.
func (r *Renter) watch(ctx context.Context, d *doubt, stay bool) (bool, error) {
	pause := newPace(time.Second, 5*time.Second)
	for {
		settled, err := r.look(ctx, d, true)
		if settled || !stay {
			return settled, err
		}
		if err := pause.wait(ctx); err != nil {
			return false, err
		}
	}
}

// goingOn returns a context that a cancel of ctx doesn't end, with ctx's own
// deadline or, when it has none, the given limit.
func goingOn(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	// A deadline that has passed, or nearly so, leaves no time to give anything back.
	if least := time.Now().Add(limit / 4); !ok || deadline.Before(least) {
		deadline = time.Now().Add(limit)
	}
	return context.WithDeadline(context.WithoutCancel(ctx), deadline)
}

// lostError is a refused or lost request of which nothing is left.
type lostError struct {
	err      error
	released []string
}

func (e *lostError) Error() string {
	if len(e.released) == 0 {
		return e.err.Error()
	}
	return fmt.Sprintf("%v (what it had made was found by its mark and released: %v)", e.err, e.released)
}

func (e *lostError) Unwrap() error { return e.err }
