package rental

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// waitRunning reads the rental's session until it is running. A service that fails
// meanwhile is asked again: the machine is ours either way. The price stays that of
// the answer to the POST, which no later read tells.
func (r *run) waitRunning(ctx context.Context, rental *Rental) error {
	ctx, cancel := context.WithTimeout(ctx, runningLimit)
	defer cancel()
	id, paid := rental.Session.ID, rental.Session.PricePerHour
	pause := pace.New(200*time.Millisecond, 5*time.Second)
	var lastErr error
	said := shopper.Status("")
	for {
		read, err := r.shared.service.Session(ctx, id)
		switch {
		case err == nil:
			rental.Session, lastErr = read, nil
			rental.Session.PricePerHour = max(paid, read.PricePerHour)
		case shopper.IsNotFound(err):
			return &UnusableError{SessionID: id, Reason: "the shopper no longer knows the session", Err: err}
		case ctx.Err() == nil:
			lastErr = err
		}
		switch status := rental.Session.Status; status {
		case shopper.Running:
			return nil
		case shopper.Stopped, shopper.Stopping, shopper.Failed:
			return &UnusableError{SessionID: id, Reason: describe(rental.Session)}
		case shopper.Pending, shopper.Provisioning: // on its way; so is whatever a later version says
		}
		if rental.Session.Status != said {
			said = rental.Session.Status
			r.say("Session %s is %s", id, said)
		}
		if err := pause.Wait(ctx); err != nil {
			return waitError(err, rental.Session, lastErr)
		}
	}
}

func waitError(err error, last shopper.Session, lastErr error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &UnusableError{
		SessionID: last.ID, Reason: fmt.Sprintf("it was not running in time; its last status was %s", last.Status),
		Err: errors.Join(err, lastErr),
	}
}

func describe(s shopper.Session) string {
	if s.Error != "" {
		return fmt.Sprintf("the session is %s: %s", s.Status, s.Error)
	}
	return fmt.Sprintf("the session is %s", s.Status)
}
