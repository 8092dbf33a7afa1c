package rental

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const (
	// sparse and dense are the intervals between reads of a session that is waited for: usually, and while the service may be
	// about to find the machine ready.
	sparse = 1800 * time.Millisecond
	dense  = 400 * time.Millisecond
	// readsPerMinute bounds these reads. It leaves some of the 60 requests per minute that a service may allow to the rest
	// of an apply. readsAtOnce of them may come at once.
	readsPerMinute = 50
	readsAtOnce    = 10
)

// waitRunning reads the rental's session until it is running. It retries a service that fails. The price stays at least that of
// the answer to the POST, which no later read contains.
func (r *run) waitRunning(ctx context.Context, rental *Rental) error {
	ctx, cancel := context.WithTimeout(ctx, runningLimit)
	defer cancel()
	defer r.shared.watch.enter()()
	id, paid, rented := rental.Session.ID, rental.Session.PricePerHour, time.Now()
	pause := pace.New(200*time.Millisecond, sparse)
	var lastErr error
	said := shopper.Status("")
	for {
		read, err := r.shared.watch.session(ctx, id)
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
		most := max(dense, untilCheck(rental.Offer.Cloud, time.Since(rented)))
		if _, err := pace.Sleep(ctx, min(pause.Next(), most), nil); err != nil {
			return waitError(err, rental.Session, lastErr)
		}
	}
}

// How the service checks SSH on a new machine: first some time after renting, then after pauses that grow
// by half, up to a minute. A machine of Blue Lobster has to answer twice, five seconds apart. (SSHCheckInterval and
// waitForSSHVerifyAsyncWithTimeout of github.com/acaracappa/cloud-gpu-shopper, internal/service/provisioner.)
const (
	firstCheck    = 15 * time.Second
	slowestCheck  = time.Minute
	checkDuration = 4 * time.Second // with a login
)

var bootDelays = map[string]time.Duration{tensorDock: 90 * time.Second, blueLobster: time.Minute + 5*time.Second}

// untilCheck returns how long it is until the service's next check, given the time since the rental; 0 while a check may be in
// progress. A check is when a session turns running.
func untilCheck(cloud string, since time.Duration) time.Duration {
	at := bootDelays[cloud]
	for gap := firstCheck; ; gap = min(gap*3/2, slowestCheck) {
		if at += gap; since < at+checkDuration {
			return max(0, at-since)
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
