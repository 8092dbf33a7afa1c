package rental

import (
	"context"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// failedLimit is how long a failed session that had a machine is waited for: the
// service turns it into stopped within about a minute.
const failedLimit = 90 * time.Second

// Look reads a session and reports whether it is proved to have ended: it reads
// stopped, or failed without ever having had a machine, or the service doesn't
// know it, in which case the session is empty. One that failed with a machine is
// read again until it is stopped or a while has passed: failed alone proves
// nothing. A session whose replacement lives has not ended. It changes nothing.
func (r *Renter) Look(ctx context.Context, id string) (session shopper.Session, ended bool, err error) {
	limited, cancel := context.WithTimeout(ctx, failedLimit)
	defer cancel()
	pause := newPace(250*time.Millisecond, 5*time.Second)
	for {
		session, err = r.service.Session(ctx, id)
		switch {
		case shopper.IsNotFound(err):
			return shopper.Session{}, true, nil
		case err != nil:
			return session, false, err
		case gone(session):
			ended, err = r.replacementsEnded(ctx, session)
			return session, ended, err
		case session.Status != shopper.Failed:
			return session, false, nil
		}
		if pause.wait(limited) != nil {
			return session, false, ctx.Err()
		}
	}
}

// replacementsEnded follows what the service rented in a session's place.
func (r *Renter) replacementsEnded(ctx context.Context, s shopper.Session) (bool, error) {
	for range maxChildren {
		if s.RetryChildID == "" {
			return true, nil
		}
		child, err := r.service.Session(ctx, s.RetryChildID)
		if shopper.IsNotFound(err) {
			return true, nil
		}
		if err != nil || !gone(child) {
			return false, err
		}
		s = child
	}
	return false, nil
}
