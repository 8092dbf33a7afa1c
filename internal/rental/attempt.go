package rental

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
	if shopper.IsAmbiguous(err) || shopper.IsNotFound(err) {
		return true
	}
	answer, ok := errors.AsType[*shopper.Error](err)
	return ok && answer.Type == shopper.TypeStaleInventory
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
		cloud = strings.ToLower(strings.TrimSpace(r.Requirements.Clouds[0]))
	}
	offers, err := r.service.Offers(ctx, cloud)
	if err != nil {
		return shopper.Offer{}, err
	}
	fit, rejected := r.Requirements.Select(offers, r.Hours)
	if offer, ok := r.market.take(fit, r.tried); ok {
		return offer, nil
	}
	return shopper.Offer{}, &NoOfferError{Cloud: cloud, Total: len(offers), Fit: len(fit), Rejected: rejected}
}

// attempt rents one offer. It returns a rental when the machine is usable, or
// when it could not be given back; in that case with the error.
func (r *run) attempt(ctx context.Context, offer shopper.Offer) (rental *Rental, err error) {
	mark := newMark(r.consumer, r.Name)
	if err := r.budget.reserve(ctx, r.Renter, mark, offer.PricePerHour); err != nil {
		return nil, err
	}
	defer func() {
		if rental == nil {
			r.budget.drop(mark)
		}
	}()
	h, err := r.journal.begin(entry{
		Version: entryVersion, Mark: mark.String(), Service: r.service.URL(), OfferID: offer.ID, Asked: time.Now().UTC(),
	})
	r.held = append(r.held, h)
	if err != nil {
		r.warn("%v. Should this run crash now, what it rents can only be found by its mark, which begins with %s/%s/.", err,
			mark.Consumer, mark.Name)
	}
	if ctx.Err() != nil { // nothing has been asked for yet
		r.forget(h)
		return nil, ctx.Err()
	}
	r.say("Renting offer %s: %d × %s on %s for $%.4g an hour", offer.ID, GPUs(offer.Cloud, offer.GPUCount), offer.GPUType, offer.Cloud,
		offer.PricePerHour)
	asked := time.Now()
	created, err := r.ask(ctx, offer, mark)
	r.asked = r.asked || err == nil || !notSent(err)
	if err != nil {
		return r.refused(ctx, &doubt{held: h, asked: asked}, offer, err)
	}
	rental = &Rental{Session: created.Session, Offer: offer, PrivateKey: created.PrivateKey, Mark: mark, held: h}
	r.rented(rental)
	r.market.rented(offer)
	h.SessionID = rental.Session.ID
	r.save(h)
	if err := r.makeUsable(ctx, rental); err != nil {
		return r.giveBack(ctx, rental, err)
	}
	return rental, nil
}

// ask sends the request that rents, once. A cancel waits for its answer.
func (r *run) ask(ctx context.Context, offer shopper.Offer, mark Mark) (shopper.Created, error) {
	created, err := r.service.CreateSession(context.WithoutCancel(ctx), shopper.CreateSession{
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
	if err == nil && created.Session.ConsumerID != mark.String() {
		// An answer that a cache on the way gave to somebody else: that session is not
		// ours to release, and whatever was rented for us is still to be found.
		return shopper.Created{}, &shopper.AmbiguousError{
			Err: fmt.Errorf("the answer is about session %s, which belongs to another consumer_id", created.Session.ID),
		}
	}
	return created, err
}

// giveBack releases a rental that can't be used because of cause.
func (r *run) giveBack(ctx context.Context, rental *Rental, cause error) (*Rental, error) {
	r.say("Releasing session %s: %v", rental.Session.ID, cause)
	limited, cancel := goingOn(ctx)
	defer cancel()
	if err := r.release(limited, rental.Session); err != nil {
		return rental, &KeptError{Cause: cause, Release: err}
	}
	r.released(rental.Session.ID)
	r.forget(rental.held)
	r.dropped()
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, &CancelledError{SessionID: rental.Session.ID, Err: ctx.Err()}
	}
	if unusable, ok := errors.AsType[*UnusableError](cause); ok {
		unusable.Released = true
	}
	return nil, cause
}

func (r *run) save(h *held) {
	if err := h.save(); err != nil {
		r.warn("%v", err)
	}
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
	// What POST told of the disk and the price can differ from what is read later.
	rental.Session = session
	if err != nil {
		return err
	}
	r.rented(rental)
	if reasons := r.judge(rental); len(reasons) > 0 {
		return &UnusableError{
			SessionID: session.ID, Reason: "what was rented is not what was asked for: " + strings.Join(reasons, "; "),
		}
	}
	if r.Login == nil {
		return nil
	}
	r.say("Session %s is running; logging in", session.ID)
	if err := r.Login(ctx, session, rental.PrivateKey); err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		return &UnusableError{SessionID: session.ID, Reason: "nobody can log in to the machine", Err: err}
	}
	r.rented(rental)
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
