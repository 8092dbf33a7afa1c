package rental

import (
	"context"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// extendPatience is how long a session is read again after a request whose answer was lost: it may still be in progress.
const extendPatience = 10 * time.Second

// Extend raises a reservation to the given hours, and returns the session as read last. It sends the request that adds hours once at
// most, after a read that shows that they are missing, and reads the result, so a lost answer adds nothing twice. The service
// limits a session's total hours. Where the result could not be confirmed, the error is an *ExtendError.
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

// readExtended reads the session after the request: repeatedly, up to extendPatience, where the request's answer was lost or the
// session can't be read.
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
