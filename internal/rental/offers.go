package rental

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Attempt is one offer that was tried, and why it was not rented.
type Attempt struct {
	Offer shopper.Offer
	Err   error
}

const (
	// DefaultAttempts is how many offers are tried before giving up.
	DefaultAttempts = 3

	// ratePatience is how long Rent waits in total for a service that limits its rate.
	ratePatience = 2 * time.Minute

	// maxRise is how much more than its offer a machine may cost where no ceiling is set.
	maxRise = 1.2
)

// tryOffers tries one offer after another. Offers that failed are not tried again.
func (r *run) tryOffers(ctx context.Context) (*Rental, error) {
	left := r.order.MaxAttempts
	if left <= 0 {
		left = DefaultAttempts
	}
	if r.order.OfferID != "" {
		left = 1
	}
	for left > 0 {
		offer, taken, err := r.choose(ctx)
		if err != nil {
			return nil, r.giveUp(err)
		}
		r.tried[offer.ID] = true
		rental, err := r.attempt(ctx, offer)
		for r.mayAskAgain(ctx, err) {
			rental, err = r.attempt(ctx, offer)
		}
		if err == nil || rental != nil {
			return rental, err
		}
		r.failed = append(r.failed, Attempt{offer, err})
		if ctx.Err() != nil || !anotherMayDo(err) {
			break
		}
		if !taken { // an offer that a concurrent rental has taken doesn't count
			left--
		}
		r.say("Offer %s failed: %v", offer.ID, err)
	}
	return nil, r.giveUp(nil)
}

// mayAskAgain reports whether the same offer may be requested again, with a new mark: the service, or a proxy, refused the request
// only because of its rate, so nothing was rented. It first waits as long as the refusal says, up to ratePatience in total.
func (r *run) mayAskAgain(ctx context.Context, err error) bool {
	if !shopper.IsRateLimited(err) {
		return false
	}
	answer, _ := errors.AsType[*shopper.Error](err)
	wait := max(answer.RetryAfter, time.Second)
	if r.limited += wait; r.limited > ratePatience {
		return false
	}
	r.say("The shopper accepts no more requests at the moment; retrying in %s", wait)
	return pace.New(wait, wait).Wait(ctx) == nil
}

// giveUp returns the error of a run in which nothing could be rented; last is why no further offer could be tried.
func (r *run) giveUp(last error) error {
	switch failed := r.failed; {
	case len(failed) == 0:
		return last
	case len(failed) == 1 && last == nil:
		return failed[0].Err
	default:
		return &AttemptsError{Attempts: failed, Last: last}
	}
}

// anotherMayDo reports whether another offer may succeed where one failed with err.
func anotherMayDo(err error) bool {
	if _, unknown := errors.AsType[*DoubtError](err); unknown {
		return false // a machine may have been rented already
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

// choose returns the next offer to try, and whether a concurrent rental has taken it.
func (r *run) choose(ctx context.Context) (offer shopper.Offer, taken bool, err error) {
	fit, none, err := r.shared.offers(ctx, r.order)
	switch {
	case err != nil:
		return offer, false, err
	case r.order.OfferID != "" && len(fit) > 0:
		return fit[0], false, nil
	}
	offer, taken, ok := r.shared.market.take(fit, r.tried)
	if !ok {
		return offer, false, none
	}
	return offer, taken, nil
}

// offers returns the offers that fit an order, best first, and the error for the case that none of them can be had.
func (r *Renter) offers(ctx context.Context, order Order) (fit []shopper.Offer, none *NoOfferError, err error) {
	if order.OfferID != "" {
		offer, err := r.service.Offer(ctx, order.OfferID)
		if shopper.IsNotFound(err) {
			return nil, &NoOfferError{OfferID: order.OfferID, Err: err}, nil
		}
		return []shopper.Offer{offer}, nil, err
	}
	cloud := ""
	if len(order.Requirements.Clouds) == 1 {
		cloud = strings.ToLower(strings.TrimSpace(order.Requirements.Clouds[0]))
	}
	offers, err := r.service.Offers(ctx, cloud)
	if err != nil {
		return nil, nil, err
	}
	fit, rejected := order.Requirements.Select(offers, order.Hours)
	return fit, &NoOfferError{Cloud: cloud, Total: len(offers), Fit: len(fit), Rejected: rejected}, nil
}

// Unoffered returns a *NoOfferError if no offer fits an order at the moment, and nil if one does or that can't be found out.
func (r *Renter) Unoffered(ctx context.Context, order Order) error {
	fit, none, err := r.offers(ctx, order)
	if err != nil || len(fit) > 0 {
		return nil //nolint:nilerr // the contract
	}
	return none
}

// makeUsable checks what was rented, waits until it is running, and logs in.
func (r *run) makeUsable(ctx context.Context, rental *Rental) error {
	if err := r.unusable(rental); err != nil {
		return err
	}
	if err := r.yield(ctx, rental); err != nil {
		return err
	}
	if err := r.waitRunning(ctx, rental); err != nil {
		return err
	}
	r.rented(rental)
	if err := r.unusable(rental); err != nil { // a read can differ from the answer to the POST
		return err
	}
	if r.order.Login == nil {
		return nil
	}
	r.say("Session %s is running; logging in", rental.Session.ID)
	if err := r.order.Login(ctx, rental.Session, rental.PrivateKey); err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		return &UnusableError{SessionID: rental.Session.ID, Reason: "login to the machine failed", Err: err}
	}
	r.rented(rental)
	return nil
}

// Dollars is an amount of money in US dollars, written with two to four decimals: "$0.40".
type Dollars float64

func (d Dollars) String() string {
	text := strconv.FormatFloat(float64(d), 'f', 4, 64)
	cents := len(text) - 2
	return "$" + text[:cents] + strings.TrimRight(text[cents:], "0")
}

// unusable returns an *UnusableError where the machine doesn't meet the requirements. Without a ceiling, its price is compared with
// its offer's.
func (r *run) unusable(rental *Rental) error {
	requirements, session := r.order.Requirements, rental.Session
	reasons := requirements.Unmet(session, rental.Offer.VRAMGB)
	offered := rental.Offer.PricePerHour
	if requirements.MaxPricePerHour <= 0 && session.PricePerHour > offered*maxRise+priceTolerance {
		reasons = append(reasons, fmt.Sprintf("price_per_hour: it costs %s an hour, but its offer said"+
			" %s", Dollars(session.PricePerHour), Dollars(offered)))
	}
	if len(reasons) == 0 {
		return nil
	}
	return &UnusableError{
		SessionID: session.ID, Reason: "the rented machine doesn't meet the requirements: " + strings.Join(reasons, "; "),
	}
}
