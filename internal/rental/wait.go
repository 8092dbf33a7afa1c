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
	// sparse and dense are how far apart reads of a session are that is waited for: usually, and while the service may be
	// about to find the machine ready.
	sparse = 1800 * time.Millisecond
	dense  = 400 * time.Millisecond
	// readsPerMinute bounds them. It leaves some of the 60 requests that a service is asked per minute at most to the rest
	// of what an apply does. readsAtOnce of them may come at any pace.
	readsPerMinute = 50
	readsAtOnce    = 10
)

// waitRunning reads the rental's session until it is running. A service that fails
// meanwhile is asked again: the machine is ours either way. The price stays that of
// the answer to the POST, which no later read tells.
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

// How the service looks for SSH on a new machine: for the first time a while after it was rented, then after pauses that grow
// by half, up to a minute. Blue Lobster's has to answer twice, five seconds apart. (SSHCheckInterval and
// waitForSSHVerifyAsyncWithTimeout of github.com/acaracappa/cloud-gpu-shopper, internal/service/provisioner.)
const (
	firstCheck    = 15 * time.Second
	slowestCheck  = time.Minute
	checkDuration = 4 * time.Second // and a login's time
)

var bootDelays = map[string]time.Duration{tensorDock: 90 * time.Second, blueLobster: time.Minute + 5*time.Second}

// untilCheck is how long after a rental the service's next check begins, 0 while one may be under way: that is when a session
// turns running.
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
