package rental

import (
	"context"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Release gives a session's machine back and returns nil only once the session,
// and every replacement that the service rented for it, reads stopped or is
// unknown. Otherwise the error is a *NotReleasedError.
//
// Cancelling ctx doesn't stop it; ctx's deadline does, or 20 minutes where it
// has none.
func (r *Renter) Release(ctx context.Context, id string) error {
	limited, cancel := goingOn(ctx, releaseLimit)
	defer cancel()
	return r.release(limited, id)
}

// ReleaseSession is Release for a session in Terraform's state: it tells the
// journal, and settles what that still doubts under the session's name.
func (r *Renter) ReleaseSession(ctx context.Context, id, consumerID string) error {
	if err := r.Release(ctx, id); err != nil {
		return err
	}
	mark, ok := ParseMark(consumerID)
	if !ok {
		return nil
	}
	r.budget.drop(mark)
	_ = r.journal.seen(mark) // what can't be forgotten is found ended later
	return r.settle(ctx, mark)
}

// release follows a session and its replacements until all have ended.
func (r *Renter) release(ctx context.Context, id string) error {
	for range maxChildren {
		child, err := r.releaseOne(ctx, id)
		if err != nil || child == "" || child == id {
			return err
		}
		id = child
	}
	return nil
}

// releaseOne returns the id of the session's replacement, if the service rented
// one.
func (r *Renter) releaseOne(ctx context.Context, id string) (string, error) {
	pause := newPace(200*time.Millisecond, 5*time.Second)
	state := &NotReleasedError{SessionID: id}
	var asked time.Time
	for {
		if mustAsk(state.Last.Status, asked) {
			asked = time.Now()
			err := r.service.Delete(ctx, id)
			if shopper.IsNotFound(err) {
				return state.Last.RetryChildID, nil
			}
			state.note(err)
		}
		session, err := r.service.Session(ctx, id)
		switch {
		case shopper.IsNotFound(err):
			return state.Last.RetryChildID, nil
		case err != nil:
			state.note(err)
		default:
			state.Last = session
			if gone(session) {
				return session.RetryChildID, nil
			}
		}
		if err := pause.wait(ctx); err != nil {
			state.note(err)
			return "", state
		}
	}
}

// gone reports whether what was read proves that nothing bills for the session.
// A failed one that has no address never had a machine; the service leaves it
// failed for good.
func gone(s shopper.Session) bool {
	return s.Status == shopper.Stopped || s.Status == shopper.Failed && !hasMachine(s)
}

// mustAsk reports whether a DELETE is to be sent. One at work is left alone for a
// while; a session that reads anything but stopping has not been listened to.
func mustAsk(status shopper.Status, asked time.Time) bool {
	return asked.IsZero() || status != shopper.Stopping && status.Known() || time.Since(asked) > repeatDelete
}
