package rental

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Attempt is one offer that was tried and why it came to nothing.
type Attempt struct {
	Offer shopper.Offer
	Err   error
}

const defaultAttempts = 3

// attempts tries one offer after another. Offers that failed are not tried again.
func (r *run) attempts(ctx context.Context) (*Rental, error) {
	most := r.MaxAttempts
	if most <= 0 {
		most = defaultAttempts
	}
	if r.OfferID != "" {
		most = 1
	}
	for len(r.failed) < most {
		offer, err := r.choose(ctx)
		if err != nil {
			return nil, r.giveUp(err)
		}
		r.tried[offer.ID] = true
		rental, err := r.attempt(ctx, offer)
		if err == nil || rental != nil {
			return rental, err
		}
		r.failed = append(r.failed, Attempt{offer, err})
		if ctx.Err() != nil || !anotherMayDo(err) {
			break
		}
		r.say("Offer %s came to nothing: %v", offer.ID, err)
	}
	return nil, r.giveUp(nil)
}

// giveUp is the error of a run in which nothing could be rented; last is why no
// further offer could be tried.
func (r *run) giveUp(last error) error {
	switch {
	case len(r.failed) == 0:
		return last
	case len(r.failed) == 1 && last == nil:
		return r.failed[0].Err
	default:
		return &AttemptsError{Attempts: r.failed, Last: last}
	}
}

// anotherMayDo reports whether a different offer may succeed where one failed
// with err.
func anotherMayDo(err error) bool {
	if _, unknown := errors.AsType[*DoubtError](err); unknown {
		return false // nothing is rented while something may be
	}
	if _, unusable := errors.AsType[*UnusableError](err); unusable {
		return true
	}
	if shopper.IsAmbiguous(err) {
		return true
	}
	var answer *shopper.Error
	if !errors.As(err, &answer) {
		return false
	}
	switch answer.Type {
	case shopper.TypeStaleInventory, shopper.TypeProviderUnavailable, shopper.TypeProvisionFailed:
		return true
	}
	return answer.Status == 404
}

// choose returns the next offer to try.
func (r *run) choose(ctx context.Context) (shopper.Offer, error) {
	if r.OfferID != "" {
		offer, err := r.service.Offer(ctx, r.OfferID)
		if shopper.IsNotFound(err) {
			return offer, &NoOfferError{OfferID: r.OfferID, Err: err}
		}
		return offer, err
	}
	cloud := ""
	if len(r.Requirements.Clouds) == 1 {
		cloud = r.Requirements.Clouds[0]
	}
	offers, err := r.service.Offers(ctx, cloud)
	if err != nil {
		return shopper.Offer{}, err
	}
	fit, rejected := r.Requirements.Select(offers, r.Hours)
	for _, offer := range fit {
		if !r.tried[offer.ID] {
			return offer, nil
		}
	}
	return shopper.Offer{}, &NoOfferError{Total: len(offers), Fit: len(fit), Rejected: rejected}
}

// attempt rents one offer. It returns a rental when the machine is usable, or
// when it could not be given back; in that case with the error.
func (r *run) attempt(ctx context.Context, offer shopper.Offer) (*Rental, error) {
	mark := newMark(r.consumer, r.Name)
	if err := r.budget.reserve(ctx, r.Renter, mark, offer.PricePerHour); err != nil {
		return nil, err
	}
	h, err := r.journal.begin(entry{
		Version: 1, Mark: mark.String(), Service: r.service.URL(), OfferID: offer.ID, Asked: time.Now().UTC(),
	})
	if err != nil {
		r.warn("%v. Should this run crash now, what it rents can only be found by its mark %s.", err, mark)
	}
	if ctx.Err() != nil { // nothing has been asked for yet
		r.forget(h)
		return nil, ctx.Err()
	}
	r.say("Renting offer %s: %d × %s on %s for $%.4g an hour", offer.ID, GPUs(offer.Cloud, offer.GPUCount), offer.GPUType, offer.Cloud,
		offer.PricePerHour)
	created, err := r.ask(ctx, offer, mark)
	if err != nil {
		return r.refused(ctx, h, offer, err)
	}

	rental := &Rental{Session: created.Session, Offer: offer, PrivateKey: created.PrivateKey, Mark: mark, held: h}
	r.Rented(rental)
	h.SessionID = rental.Session.ID
	if err := h.save(); err != nil {
		r.warn("%v", err)
	}
	err = r.makeUsable(ctx, rental)
	if err == nil {
		return rental, nil
	}
	return r.giveBack(ctx, rental, err)
}

// ask sends the request that rents, once. A cancel waits for its answer.
func (r *run) ask(ctx context.Context, offer shopper.Offer, mark Mark) (shopper.Created, error) {
	return r.service.CreateSession(context.WithoutCancel(ctx), shopper.CreateSession{
		ConsumerID:        mark.String(),
		OfferID:           offer.ID,
		WorkloadType:      shopper.WorkloadType(r.WorkloadType),
		ReservationHours:  r.Hours,
		StoragePolicy:     shopper.StoragePolicy(r.StoragePolicy),
		TemplateHashID:    r.TemplateHashID,
		OnStartCmd:        r.OnStartCmd,
		DiskGB:            r.DiskGB,
		SSHTimeoutMinutes: r.SSHTimeoutMinutes,
	})
}

// giveBack releases a rental that can't be used because of cause.
func (r *run) giveBack(ctx context.Context, rental *Rental, cause error) (*Rental, error) {
	r.say("Releasing session %s: %v", rental.Session.ID, cause)
	if err := r.Release(ctx, rental.Session.ID); err != nil {
		return rental, &KeptError{Cause: cause, Release: err}
	}
	r.budget.drop(rental.Mark)
	r.forget(rental.held)
	r.Dropped()
	if ctx.Err() != nil {
		return nil, &CancelledError{SessionID: rental.Session.ID, Err: ctx.Err()}
	}
	return nil, cause
}

func (r *run) forget(h *held) {
	if err := h.remove(); err != nil {
		r.warn("%v", err)
	}
}

// makeUsable waits until the service says running, then judges what was really
// rented and logs in.
func (r *run) makeUsable(ctx context.Context, rental *Rental) error {
	session, err := r.waitRunning(ctx, rental.Session)
	if session.ID != "" {
		// What POST told of the disk and the price can differ from what is read later.
		rental.Session = session
	}
	if err != nil {
		return err
	}
	r.Rented(rental)
	if reasons := r.judge(rental); len(reasons) > 0 {
		return &UnusableError{SessionID: session.ID, Reason: "what was rented is not what was asked for: " + reasons[0]}
	}
	r.say("Session %s is running; logging in", session.ID)
	if err := r.Login(ctx, session, rental.PrivateKey); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &UnusableError{SessionID: session.ID, Reason: "nobody can log in to the machine", Err: err}
	}
	r.Rented(rental)
	return nil
}

// judge compares what was rented, and what it costs, with the requirements.
func (r *run) judge(rental *Rental) []string {
	requirements := r.Requirements
	if r.OfferID != "" {
		requirements = Requirements{MaxPricePerHour: requirements.MaxPricePerHour}
	}
	reasons := requirements.Unmet(rental.Session, rental.Offer.VRAMGB)
	if err := r.budget.correct(rental.Mark, rental.Session.PricePerHour); err != nil {
		reasons = append(reasons, err.Error())
	}
	return reasons
}

// waitRunning reads the session until it is running. It returns the session as
// last read.
func (r *run) waitRunning(ctx context.Context, session shopper.Session) (shopper.Session, error) {
	pause := newPace(200*time.Millisecond, 5*time.Second)
	last := session
	var lastErr error
	status := shopper.Status("")
	for {
		read, err := r.service.Session(ctx, session.ID)
		switch {
		case err == nil:
			last, lastErr = read, nil
		case shopper.IsNotFound(err):
			return last, &UnusableError{SessionID: session.ID, Reason: "the shopper no longer knows the session", Err: err}
		case ctx.Err() == nil:
			lastErr = err // the service may come back: the machine is ours either way
		}
		switch last.Status {
		case shopper.Running:
			return last, nil
		case shopper.Stopped, shopper.Stopping, shopper.Failed:
			return last, &UnusableError{SessionID: session.ID, Reason: ended(last)}
		}
		if last.Status != status {
			status = last.Status
			r.say("Session %s is %s", session.ID, status)
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
	reason := fmt.Sprintf("it was not running in time; it last read %q", last.Status)
	if lastErr != nil {
		return &UnusableError{SessionID: last.ID, Reason: reason, Err: errors.Join(err, lastErr)}
	}
	return &UnusableError{SessionID: last.ID, Reason: reason, Err: err}
}

func ended(s shopper.Session) string {
	if s.Error != "" {
		return fmt.Sprintf("the session reads %q: %s", s.Status, s.Error)
	}
	return fmt.Sprintf("the session reads %q", s.Status)
}
