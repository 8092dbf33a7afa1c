package rental

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// waitRunning reads the session until it is running. It returns the session as
// last read. A service that fails meanwhile is asked again: the machine is ours
// either way.
func (r *run) waitRunning(ctx context.Context, session shopper.Session) (shopper.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, runningLimit)
	defer cancel()
	pause := newPace(200*time.Millisecond, 5*time.Second)
	last := session
	var lastErr error
	said := shopper.Status("")
	for {
		read, err := r.service.Session(ctx, session.ID)
		switch {
		case err == nil:
			last, lastErr = read, nil
		case shopper.IsNotFound(err):
			return last, &UnusableError{SessionID: session.ID, Reason: "the shopper no longer knows the session", Err: err}
		case ctx.Err() == nil:
			lastErr = err
		}
		switch last.Status {
		case shopper.Running:
			return last, nil
		case shopper.Stopped, shopper.Stopping, shopper.Failed:
			return last, &UnusableError{SessionID: session.ID, Reason: ended(last)}
		case shopper.Pending, shopper.Provisioning: // on its way; so is whatever a later version says
		}
		if last.Status != said {
			said = last.Status
			r.say("Session %s is %s", session.ID, said)
		}
		if err := pause.wait(ctx); err != nil {
			return last, waitError(err, last, lastErr)
		}
	}
}

func waitError(err error, last shopper.Session, lastErr error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	if lastErr != nil {
		err = errors.Join(err, lastErr)
	}
	return &UnusableError{
		SessionID: last.ID, Reason: fmt.Sprintf("it was not running in time; it last read %q", last.Status), Err: err,
	}
}

func ended(s shopper.Session) string {
	if s.Error != "" {
		return fmt.Sprintf("the session reads %q: %s", s.Status, s.Error)
	}
	return fmt.Sprintf("the session reads %q", s.Status)
}
