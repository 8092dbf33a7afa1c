package rental

import (
	"context"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// failedLimit is how long a failed session that had a machine is waited for: the
// service turns it into stopped within about a minute.
const failedLimit = 90 * time.Second

// Inspect reads a session in Terraform's state and reports whether it is proved to
// have ended: it is stopped, or failed without ever having had a machine, or the
// service that rented it doesn't know it, in which case the session is empty. One
// that failed with a machine is read again until it is stopped or a while has
// passed: failed alone proves nothing. A session whose replacement lives has not
// ended. It changes nothing. A running session may be shown as it was burstAge before.
//
// An *UnprovedError says that the service doesn't know the session and that this
// proves nothing.
func (r *Renter) Inspect(ctx context.Context, known Known) (session shopper.Session, over bool, err error) {
	limited, cancel := context.WithTimeout(ctx, failedLimit)
	defer cancel()
	pause := pace.New(250*time.Millisecond, 5*time.Second)
	for session, err = r.burst.session(ctx, known.ID); ; session, err = r.service.Session(ctx, known.ID) {
		switch {
		case shopper.IsNotFound(err):
			err = r.proof(ctx, known, err)
			return shopper.Session{}, err == nil, err
		case err != nil:
			return session, false, err
		case ended(session):
			over, err = r.replacementsEnded(ctx, session)
			return session, over, err
		case session.Status != shopper.Failed:
			return session, false, nil
		}
		if pause.Wait(limited) != nil {
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
		if err != nil || !ended(child) {
			return false, err
		}
		s = child
	}
	return false, nil
}

// proof judges a 404. It proves that a session has ended only when it comes from
// the service that rented it, and when the machine doesn't answer: another service,
// and one that has lost its database, say the same of a machine that bills.
func (r *Renter) proof(ctx context.Context, known Known, err error) error {
	if known.Service != "" && known.Service != r.service.URL() {
		return &UnprovedError{SessionID: known.ID, Rented: known.Service, Asked: r.service.URL(), Err: err}
	}
	if known.Answers != nil && known.Answers(ctx) {
		return &UnprovedError{SessionID: known.ID, Asked: r.service.URL(), Err: err}
	}
	return nil
}
