package rental

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// run is one call of Rent.
type run struct {
	shared *Renter
	order  Order

	lock     *journal.Name     // of the order's name; nil without a journal
	live     []shopper.Session // the consumer's, when the run began
	tried    map[string]bool   // offers
	failed   []Attempt
	doubts   []*doubt
	limited  time.Duration // spent waiting for a service that limits its rate
	asked    bool          // whether a request that rents was sent
	warnings []string
}

// Rent rents a machine and waits until it can be used. When it returns a rental together with an error, the release of that
// machine could not be confirmed, and it may still bill; with an error alone, no machine that was found is left. The caller
// calls the rental's HandOver last.
//
// Canceling ctx ends it: what was rented is released first, within a separate deadline.
func (r *Renter) Rent(ctx context.Context, order Order) (*Rental, error) {
	run := &run{shared: r, order: order, tried: map[string]bool{}}
	rental, err := run.rent(ctx)
	if rental == nil {
		return nil, run.explain(err)
	}
	rental.Warnings = append(rental.Warnings, run.warnings...)
	return rental, err
}

// rent applies the rules about money in order: before it tries an offer, no other run works under the name, and no machine under it
// bills. In the end it settles doubts, or leaves them to the journal.
func (r *run) rent(ctx context.Context) (*Rental, error) {
	defer r.unlock() // also when a callback panics: the next call must see a leftover
	m8 := []func(context.Context) error{r.lockName, r.waitReady, r.releaseLeftovers, r.clearName}
	for _, step := range m8 {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	rental, err := r.tryOffers(ctx)
	r.settleDoubts(ctx)
	if rental != nil {
		rental.lock, r.lock = r.lock, nil // until HandOver
	}
	return rental, err
}

// attempt rents one offer. It returns a rental when the machine is usable, or, together with the error, when its release could not
// be confirmed.
func (r *run) attempt(ctx context.Context, offer shopper.Offer) (rental *Rental, err error) {
	mark := newMark(r.shared.consumer, r.order.Name)
	if err := r.shared.budget.reserve(mark, offer.PricePerHour, r.live); err != nil {
		return nil, err
	}
	defer func() {
		if rental == nil {
			r.shared.budget.drop(mark)
		}
	}()
	e := r.writeAhead(mark, offer) // M1
	if ctx.Err() != nil {          // no request has been sent
		r.note(e.remove())
		return nil, ctx.Err()
	}
	r.say("Renting offer %s: %d × %s on %s for %s an hour", offer.ID, GPUs(offer.Cloud, offer.GPUCount), offer.GPUType, offer.Cloud,
		Dollars(offer.PricePerHour))
	asked := time.Now()
	r.shared.made.Store(mark.String(), true)
	created, err := r.ask(ctx, offer, mark) // M2
	r.asked = r.asked || err == nil || !notSent(err)
	rental = &Rental{Session: created.Session, Offer: offer, PrivateKey: created.PrivateKey, Mark: mark, Service: e.Service, entry: e}
	if err != nil {
		return r.afterFailure(ctx, rental, asked, err)
	}
	e.SessionID = rental.Session.ID
	r.rented(rental) // M3
	r.note(e.save())
	if err := r.makeUsable(ctx, rental); err != nil { // M8, M9
		return r.abandon(ctx, rental, err) // M4
	}
	return rental, nil
}

// writeAhead records in the journal what is about to be rented. Where that fails, the mark is the only trace after a crash.
func (r *run) writeAhead(mark Mark, offer shopper.Offer) *entry {
	e := &entry{
		Version: entryVersion, Mark: mark.String(), Service: r.shared.service.URL(), Computer: r.shared.computer,
		Run: r.shared.journal.Run(), OfferID: offer.ID, Asked: time.Now().UTC(), name: r.lock,
	}
	if err := e.save(); err != nil {
		r.warnUnwritten(err)
		_ = e.remove()
		e.name = nil
	}
	return e
}

// ask sends the request that rents, once. A cancel of ctx doesn't interrupt it.
func (r *run) ask(ctx context.Context, offer shopper.Offer, mark Mark) (shopper.Created, error) {
	created, err := r.shared.service.CreateSession(context.WithoutCancel(ctx), shopper.CreateSession{
		ConsumerID:        mark.String(),
		OfferID:           offer.ID,
		WorkloadType:      shopper.WorkloadType(r.order.WorkloadType),
		ReservationHours:  r.order.Hours,
		TemplateHashID:    r.order.TemplateHashID,
		OnStartCmd:        r.order.OnStartCmd,
		DiskGB:            r.order.DiskGB,
		SSHTimeoutMinutes: r.order.SSHTimeoutMinutes,
	})
	if err == nil && created.Session.ConsumerID != mark.String() {
		// A cache returned the answer to somebody else's request: that session must not be released, and what this request rented
		// has yet to be found.
		return shopper.Created{}, &shopper.AmbiguousError{
			Err: fmt.Errorf("the answer names session %s, which belongs to another consumer_id", created.Session.ID),
		}
	}
	return created, err
}

// afterFailure handles the failure of a request that rents: it finds what the request rented by its mark, and releases it. It
// returns a rental whose release could not be confirmed.
func (r *run) afterFailure(ctx context.Context, rental *Rental, asked time.Time, cause error) (*Rental, error) {
	e := rental.entry
	if notSent(cause) {
		r.note(e.remove())
		return nil, cause
	}
	d := &doubt{mark: e.Mark, entry: e, until: time.Now()}
	if mayBeUnderWay(cause) {
		d.until, d.lost = asked.Add(r.shared.askLimit), true
		r.say("The answer to the rental request was lost; looking for a session with the mark %s", e.Mark)
	}
	settled, err := r.settle(ctx, d)
	if kept, ok := errors.AsType[*NotReleasedError](err); ok && kept.Last.ID != "" {
		rental.Session, e.SessionID = kept.Last, kept.Last.ID
		r.rented(rental)
		r.note(e.save())
		return rental, &KeptError{Cause: cause, Release: err}
	}
	if err != nil {
		return nil, &DoubtError{Cause: cause, Mark: rental.Mark, Found: d.released, Err: err, Forgotten: e.name == nil}
	}
	if !settled {
		r.doubts = append(r.doubts, d)
	}
	return nil, &lostError{err: cause, released: d.released, unsettled: !settled}
}

// settle settles a doubt of this run, and removes its entry once it is settled. Without an entry, it waits until the request can no
// longer be in progress, because no later run would look again.
func (r *run) settle(ctx context.Context, d *doubt) (bool, error) {
	patience := briefly
	if d.entry.name == nil && ctx.Err() == nil {
		patience = toTheEnd
	}
	settled, err := r.shared.settle(ctx, d, patience)
	r.warn(d.remarks...)
	if settled {
		r.note(d.entry.remove())
	}
	return settled, err
}

// settleDoubts looks once more, at the end of Rent, for what requests in doubt rented.
func (r *run) settleDoubts(ctx context.Context) {
	for _, d := range r.doubts {
		settled, err := r.settle(ctx, d)
		switch {
		case settled:
		case d.entry.name == nil:
			r.warnf("The rental request with the mark %s may still be in progress, and without a journal no later run looks for it."+
				" Look for a session with this consumer_id in a few minutes, and release it.%s", d.mark, trouble(err))
		case err != nil:
			r.warnf("It is not certain that the request with the mark %s rented nothing. The next apply or destroy of %q looks for it"+
				" again.%s", d.mark, r.order.Names, trouble(err))
		}
	}
}

func trouble(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf(" (%v)", err)
}

// abandon releases a rental that can't be used because of cause. It returns the rental where the release could not be confirmed.
func (r *run) abandon(ctx context.Context, rental *Rental, cause error) (*Rental, error) {
	r.say("Releasing session %s: %v", rental.Session.ID, cause)
	limited, cancel := releasing(ctx)
	defer cancel()
	d := &doubt{}
	_, err := r.shared.release(limited, rental.Session, d)
	r.warn(d.remarks...)
	if err != nil {
		return rental, &KeptError{Cause: cause, Release: err}
	}
	r.note(rental.entry.remove())
	if r.order.Dropped != nil {
		r.order.Dropped()
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, &CanceledError{SessionID: rental.Session.ID, Err: ctx.Err()}
	}
	if unusable, ok := errors.AsType[*UnusableError](cause); ok {
		unusable.Released = true
	}
	return nil, cause
}

func (r *run) say(format string, args ...any) {
	if r.order.Progress != nil {
		r.order.Progress(format, args...)
	}
}

func (r *run) warn(texts ...string) {
	for _, text := range texts {
		if !slices.Contains(r.warnings, text) {
			r.warnings = append(r.warnings, text)
		}
	}
}

func (r *run) warnf(format string, args ...any) { r.warn(fmt.Sprintf(format, args...)) }

func (r *run) rented(rental *Rental) {
	if r.order.Rented != nil {
		r.order.Rented(rental)
	}
}

// note makes an error of the journal a warning.
func (r *run) note(err error) {
	if err != nil {
		r.warn(err.Error())
	}
}

// explain adds the warnings to an error that Rent returns without a rental, and that nothing was rented, where that is true.
func (r *run) explain(err error) error {
	notes := r.warnings
	_, unreleased := errors.AsType[*NotReleasedError](err) // of an earlier run's leftover
	switch {
	case r.asked:
	case errors.Is(err, context.Canceled) && !unreleased:
		err = &CanceledError{Err: err}
	default:
		notes = append([]string{"Nothing was rented."}, notes...)
	}
	if err == nil || len(notes) == 0 {
		return err
	}
	return &noted{err: err, notes: notes}
}
