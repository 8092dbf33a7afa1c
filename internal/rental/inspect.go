package rental

import (
	"context"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// failedLimit is how long Inspect waits for a failed session that had a machine: the service sets it to stopped within about a
// minute.
const failedLimit = 90 * time.Second

// Inspect reads a session in Terraform's state and reports whether it is proved to have ended: it is stopped, or failed without
// ever having had a machine, or the service that rented it doesn't know it, in which case the returned session is empty. It reads
// a session that failed with a machine until that is stopped, up to failedLimit: failed alone proves nothing. A session
// with a live replacement has not ended. Inspect changes nothing. What it returns of a running session may be burstAge old.
//
// An *UnprovedError says that the service doesn't know the session, but that this proves nothing.
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

// replacementsEnded reports whether every replacement that the service rented for the session has ended.
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

// proof returns nil where a 404 proves that a session has ended: it is from the service that rented it, and the machine doesn't
// answer. Another service, or one that has lost its database, answers 404 for a machine that bills. err is the 404.
func (r *Renter) proof(ctx context.Context, known Known, err error) error {
	if known.Service != "" && known.Service != r.service.URL() {
		return &UnprovedError{SessionID: known.ID, Rented: known.Service, Asked: r.service.URL(), Err: err}
	}
	if known.Answers != nil && known.Answers(ctx) {
		return &UnprovedError{SessionID: known.ID, Asked: r.service.URL(), Err: err}
	}
	return nil
}
