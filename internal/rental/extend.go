package rental

import (
	"context"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// extendPatience is how long a reservation is read for the hours of a request
// whose answer was lost: it may still be under way.
const extendPatience = 10 * time.Second

// Extend raises a reservation to the given hours. The request that adds hours is
// sent once at most, and only after a read that says they are missing; whether
// it worked is read afterwards, so that a lost answer adds nothing twice. How long a
// session may live in all is the service's to say, whose operator sets it. It
// returns the session as read last.
func (r *Renter) Extend(ctx context.Context, known Known, hours int) (shopper.Session, error) {
	id := known.ID
	before, err := r.service.Session(ctx, id)
	if shopper.IsNotFound(err) {
		if unproved := r.proof(ctx, known, err); unproved != nil {
			err = unproved
		}
	}
	if err != nil {
		return before, err
	}
	if before.ReservationHours >= hours {
		return before, nil
	}
	if before.Status.Terminal() || before.Status == shopper.Stopping {
		return before, fmt.Errorf("the status of session %s is %q, so it can't be extended", before.ID, before.Status)
	}
	if ctx.Err() != nil {
		return before, ctx.Err()
	}
	_, askErr := r.service.Extend(context.WithoutCancel(ctx), id, hours-before.ReservationHours)
	r.burst.forget()
	after, err := r.readExtended(context.WithoutCancel(ctx), id, hours, askErr)
	if err != nil {
		return before, &ExtendError{SessionID: id, Wanted: hours, Read: before.ReservationHours, Ask: askErr, Err: err}
	}
	if after.ReservationHours < hours {
		return after, &ExtendError{SessionID: id, Wanted: hours, Read: after.ReservationHours, Ask: askErr}
	}
	return after, nil
}

// readExtended reads the session after the request; for a little while where
// that one's answer was lost, or where the session can't be read.
func (r *Renter) readExtended(ctx context.Context, id string, hours int, askErr error) (shopper.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	begun := time.Now()
	pause := pace.New(250*time.Millisecond, 2*time.Second)
	for {
		session, err := r.service.Session(ctx, id)
		if err == nil && (session.ReservationHours >= hours || !shopper.IsAmbiguous(askErr)) || shopper.IsNotFound(err) {
			return session, err
		}
		if time.Since(begun) >= extendPatience || pause.Wait(ctx) != nil {
			return session, err
		}
	}
}
