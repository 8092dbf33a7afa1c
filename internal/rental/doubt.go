package rental

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// doubt is a request that rents whose outcome is not known. Its mark is looked
// for, and what is found is released, until the request can no longer be under
// way.
type doubt struct {
	held *held
	// asked is when the request was sent, by this process's own clock: setting the
	// computer's clock doesn't make it over.
	asked time.Time
	// under is true when the request was perhaps still under way when it failed.
	under bool
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
func (r *run) refused(ctx context.Context, d *doubt, offer shopper.Offer, err error) (*Rental, error) {
	h := d.held
	if notSent(err) {
		r.forget(h)
		return nil, err
	}
	var rental *Rental
	if d.under = mayBeUnderWay(err); d.under {
		h.Doubt = true
		r.say("The answer to the request that rents was lost; looking for a session with the mark %s", h.Mark)
	}
	r.save(h)
	settled, lookErr := r.resolve(ctx, d)
	if kept, ok := errors.AsType[*NotReleasedError](lookErr); ok && kept.Last.ID != "" {
		rental = &Rental{Session: kept.Last, Offer: offer, Mark: h.mark(), held: h}
		r.rented(rental)
	}
	switch {
	case lookErr != nil && rental != nil:
		return rental, &KeptError{Cause: err, Release: notReleased(rental.Session, lookErr)}
	case lookErr != nil:
		return nil, &DoubtError{Cause: err, Mark: h.mark(), Found: d.found, Err: lookErr, Forgotten: h.journal == nil}
	}
	if settled {
		r.forget(h)
	} else {
		r.doubts = append(r.doubts, d)
	}
	return nil, &lostError{err: err, released: d.found, unsettled: !settled}
}

// resolve looks for what a request left behind. Where nothing will tell a later
// call of a search that fails, it goes on until the request can't be under way.
func (r *run) resolve(ctx context.Context, d *doubt) (bool, error) {
	settled, err := r.look(ctx, d)
	if err != nil && d.held.journal == nil && ctx.Err() == nil {
		return r.watch(ctx, d)
	}
	return settled, err
}

// notSent reports whether err proves that no request was sent.
func notSent(err error) bool {
	return errors.Is(err, shopper.ErrInvalid) || shopper.IsUnreachable(err) && !shopper.IsAmbiguous(err)
}

// mayBeUnderWay reports whether the request that failed with err can still be at
// work. It is not when the service itself has answered; but a 409 for a mark
// that is used once means that something on the way sent the request twice, and
// answers for one of the two.
func mayBeUnderWay(err error) bool {
	if ambiguous, ok := errors.AsType[*shopper.AmbiguousError](err); ok {
		return !ambiguous.Answered
	}
	answer, ok := errors.AsType[*shopper.Error](err)
	return !ok || answer.Status == http.StatusConflict
}

// look searches for the mark and releases what it finds. It reports whether the
// matter is settled: a request that is no longer under way leaves nothing new.
func (r *Renter) look(ctx context.Context, d *doubt) (bool, error) {
	ctx, cancel := goingOn(ctx)
	defer cancel()
	if proved, err := r.releaseKnown(ctx, d); err != nil || proved && !d.under {
		return proved, err
	}
	pause := newPace(200*time.Millisecond, 2*time.Second)
	for n := 1; ; n++ {
		late := !d.under || r.late(d) // judged before the list is made
		sessions, err := r.marked(ctx, d.held.Mark)
		if err != nil {
			return false, err
		}
		over, err := r.releaseFound(ctx, d, sessions)
		if err != nil {
			return false, err
		}
		if late || over {
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

// late reports whether the request can no longer be under way.
func (r *Renter) late(d *doubt) bool { return time.Since(d.asked) > r.askLimit }

// marked lists the sessions that carry a mark. It is patient with a service that
// fails: an answer that was lost and a service that is down come together.
func (r *Renter) marked(ctx context.Context, mark string) ([]shopper.Session, error) {
	begun := time.Now()
	pause := newPace(time.Second, 5*time.Second)
	for {
		sessions, err := r.service.Sessions(ctx, shopper.SessionFilter{ConsumerID: mark})
		if err == nil {
			// What is found is released, so nothing else may be among it.
			return slices.DeleteFunc(sessions, func(s shopper.Session) bool { return s.ConsumerID != mark }), nil
		}
		if time.Since(begun) > r.listPatience || shopper.IsUnauthorized(err) || pause.wait(ctx) != nil {
			return nil, err
		}
	}
}

// releaseKnown releases the session whose id was told, if it is the mark's. It
// reports whether that one is proved to have ended; where it can't be read, the
// search for the mark follows.
func (r *Renter) releaseKnown(ctx context.Context, d *doubt) (bool, error) {
	if d.held.SessionID == "" {
		return false, nil
	}
	s, err := r.service.Session(ctx, d.held.SessionID)
	if err == nil && s.ConsumerID == d.held.Mark {
		err = r.releaseOf(ctx, d, s)
		return err == nil, err
	}
	return false, nil
}

// releaseFound releases the sessions of a request in doubt. It reports whether
// they prove that the request is over.
func (r *Renter) releaseFound(ctx context.Context, d *doubt, sessions []shopper.Session) (bool, error) {
	over := len(sessions) > 0
	for _, s := range sessions {
		// A session that failed without a machine was refused by its cloud.
		if !hasMachine(s) && s.Status != shopper.Failed {
			over = false
			d.seen = d.seen || d.under
		}
		if err := r.releaseOf(ctx, d, s); err != nil {
			return false, err
		}
	}
	return over, nil
}

// releaseOf releases one session of a request in doubt, unless it has ended.
func (r *Renter) releaseOf(ctx context.Context, d *doubt, s shopper.Session) error {
	if gone(s) && s.RetryChildID == "" && !s.AutoRetry {
		return nil
	}
	if err := r.release(ctx, s); err != nil {
		return err
	}
	if !slices.Contains(d.found, s.ID) {
		d.found = append(d.found, s.ID)
	}
	return nil
}

// hasMachine reports whether a cloud has answered the request that made s with a
// machine. The service then writes the user to log in as, at least: two of the
// clouds tell the address only later.
func hasMachine(s shopper.Session) bool {
	return s.SSHUser != "" || s.SSHHost != "" || s.Status == shopper.Running
}

// lookAgain looks once more at everything in doubt, at the end of Rent. Where a
// session was seen whose request was perhaps under way, and where there is no
// journal to tell a later call, it stays until that can no longer be.
func (r *run) lookAgain(ctx context.Context) {
	for _, d := range r.doubts {
		look := r.look
		if ctx.Err() == nil && (d.seen || d.held.journal == nil) {
			look = r.watch
		}
		settled, err := look(ctx, d)
		switch {
		case settled:
			r.forget(d.held)
		case d.held.journal == nil:
			r.warn("The request to rent marked %s may still be under way, and no journal tells a later run of it. Look for a session"+
				" with this consumer_id in a few minutes, and release it.%s", d.held.Mark, trouble(err))
		case err != nil:
			r.warn("It could not be made sure that the request marked %s rented nothing. The next plan, apply or destroy of %q looks"+
				" for it again.%s", d.held.Mark, r.Name, trouble(err))
		}
	}
}

func trouble(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf(" (%v)", err)
}

// watch looks at a doubt until it is settled.
func (r *Renter) watch(ctx context.Context, d *doubt) (bool, error) {
	pause := newPace(time.Second, 5*time.Second)
	for {
		settled, err := r.look(ctx, d)
		if settled || err != nil && r.late(d) {
			return settled, err
		}
		if waitErr := pause.wait(ctx); waitErr != nil {
			return false, errors.Join(waitErr, err)
		}
	}
}

// goingOn returns a context for giving something back: a cancel of ctx doesn't
// end it, ctx's deadline does, or releaseLimit where it has none.
func goingOn(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	// A deadline that has passed, or nearly so, leaves no time for that.
	if least := time.Now().Add(releaseLimit / 4); !ok || deadline.Before(least) {
		deadline = time.Now().Add(releaseLimit)
	}
	return until(ctx, deadline)
}

// until returns a context that the deadline ends, and a cancel of ctx does not:
// the log then tells why the process is still at work.
func until(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			tflog.Warn(ctx, "Interrupted: what was rented is still being given back, and that is waited for",
				map[string]any{"until": deadline.UTC().Format(time.RFC3339)})
		}
	})
	limited, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	return limited, func() {
		stop()
		cancel()
	}
}

// lostError is a refused or lost request of which nothing is left.
type lostError struct {
	err       error
	released  []string
	unsettled bool
}

func (e *lostError) Error() string {
	switch {
	case len(e.released) > 0:
		return fmt.Sprintf("%v (what it had made was found by its mark and released: %v)", e.err, e.released)
	case e.unsettled:
		return fmt.Sprintf("%v (nothing was found under its mark, which is looked for again until the request can't be under way)", e.err)
	}
	return e.err.Error()
}

func (e *lostError) Unwrap() error { return e.err }
