// Package rental is everything that costs money: it chooses an offer, rents a
// machine, waits until it can be used, extends the reservation and releases the
// machine with proof. It is the only package that makes the service rent or
// destroy anything.
//
// Its rules about money, which the code names where it keeps them:
//
//   - M1: every request that rents carries a mark that no other has, and the
//     journal knows the mark before it is sent.
//   - M2: it is sent once and never cut short. When its answer is lost, what it
//     made is found by the mark and released before anything else is rented.
//   - M3: a session's id is handed to the caller before anything else can fail.
//   - M4: a machine that can't be used is released before Rent returns; one whose
//     release can't be confirmed is returned together with the error.
//   - M5: released means requested, and then reported as stopped.
//   - M6: a release goes on after a cancel, within a separate deadline.
//   - M7: a 404 proves an end only where it comes from the service that rented the
//     machine, and the machine doesn't answer.
//   - M8: nothing is rented under a name before all that is active under it has been
//     released or refused, and of two rented at once the younger is released. Of
//     the other names made of a prefix only what the journal proves to be left over
//     is released, and only what it shows to be in no state is refused.
//   - M9: the price is the one that the request that rents was answered with.
//   - M10: nothing rents outside Rent, nothing extends outside Extend, and what
//     inspects releases nothing.
package rental

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Service is what renting needs of the shopper; *shopper.Client is one.
type Service interface {
	URL() string
	Ready(ctx context.Context) (shopper.Readiness, error)
	Offers(ctx context.Context, cloud string) ([]shopper.Offer, error)
	Offer(ctx context.Context, id string) (shopper.Offer, error)
	CreateSession(ctx context.Context, req shopper.CreateSession) (shopper.Created, error)
	Session(ctx context.Context, id string) (shopper.Session, error)
	Sessions(ctx context.Context, filter shopper.SessionFilter) ([]shopper.Session, error)
	Extend(ctx context.Context, id string, additionalHours int) (time.Time, error)
	Delete(ctx context.Context, id string) error
}

const (
	// askLimit is after how long a request that rents can no longer be under way: the
	// service's own limit of 300 seconds, and what the request may take to get there.
	askLimit = shopper.CreateTimeout

	// clockDoubt is added to askLimit where another process wrote down when it asked:
	// the computer's clock may have been set since.
	clockDoubt = time.Minute

	// listPatience is how long a search for a mark goes on asking a service that
	// fails: it is restarted, say, and that may be why the answer was lost.
	listPatience = 90 * time.Second

	// lockPatience is how long Rent waits for another run that works under the same
	// name: a request that rents, and a release, at their longest.
	lockPatience = askLimit + 5*time.Minute

	// runningLimit bounds the wait for a machine where the caller sets no bound. The
	// service itself gives up after half an hour at the most.
	runningLimit = time.Hour

	// readyLimit bounds the wait for a service that is starting up.
	readyLimit = 5 * time.Minute

	// releaseLimit bounds a release that nobody else bounds. One DELETE may take 275
	// seconds, and the service's own clean-up of a stuck one ten minutes.
	releaseLimit = 20 * time.Minute

	// maxChildren bounds how many replacements of a replacement a release follows.
	maxChildren = 10

	// looks is how often a mark is looked for before it counts as not there. The
	// service writes the row before it asks the cloud for a machine.
	looks = 3
)

// Config is how a Renter is made.
type Config struct {
	// Consumer is the first part of every mark; see ValidateName.
	Consumer string
	// Journal may be nil.
	Journal *journal.Journal
	// MaxPricePerHour is a ceiling in USD on the summed price of all this consumer's
	// live sessions; 0 for none.
	MaxPricePerHour float64
}

// Renter rents and releases machines. It is safe for concurrent use.
type Renter struct {
	service  Service
	consumer string
	computer string // this one's name
	journal  *journal.Journal
	budget   *budget
	market   *market
	burst    *burst
	watch    *watch
	// inState are the marks that this process knows to be in Terraform's state.
	inState sync.Map
	// names are those that this process is renting under, made the marks that it has
	// asked for.
	names, made sync.Map

	askLimit, listPatience time.Duration // the constants; shorter in tests on a real clock
}

// New returns a Renter. It makes no request.
func New(service Service, cfg Config) *Renter {
	computer, _ := os.Hostname() // without a name all computers are one
	return &Renter{
		service:  service,
		consumer: cfg.Consumer,
		computer: computer,
		journal:  cfg.Journal,
		budget:   &budget{ceiling: cfg.MaxPricePerHour, spent: map[string]float64{}},
		market:   &market{taken: map[string]bool{}},
		burst:    &burst{service: service},
		watch:    newWatch(service),

		askLimit: askLimit, listPatience: listPatience,
	}
}

// Order says what to rent and how.
type Order struct {
	// Names has the second part of the mark as its Name; see ValidateName. A Prefix says
	// of what NewName has made it: leftovers are those of all such names, and other
	// machines under them are no conflict, unless no refresh has seen one that an earlier
	// run of this journal's has handed over.
	Names
	// OfferID rents this offer and no other. Otherwise Requirements choose.
	OfferID      string
	Requirements Requirements
	// MaxAttempts is how many offers are tried before giving up; 0 = DefaultAttempts.
	MaxAttempts int
	// Hours are 1 to shopper.MaxReservationHours.
	Hours int
	// The rest is passed on to the service as it is.
	WorkloadType, TemplateHashID, OnStartCmd string
	DiskGB, SSHTimeoutMinutes                int
	// ReplaceConflicting releases active sessions of this name that are not proved
	// to be leftovers of our own; otherwise they are a *ConflictError. Sessions of
	// other names are never released for it.
	ReplaceConflicting bool

	// Login proves that the machine can be logged in to; nil takes the service's word.
	Login func(ctx context.Context, s shopper.Session, privateKey string) error
	// Rented is called as soon as a session's id is known, and again when more is
	// known; Dropped when that session has been released with proof. Both may be nil.
	Rented  func(*Rental)
	Dropped func()
	// Progress gets what is being done, in words. It may be nil.
	Progress func(format string, args ...any)
}

// Rental is a machine that was rented.
type Rental struct {
	// Session is as it was read last, with the price that is really paid.
	Session shopper.Session
	// Offer is what it was rented as.
	Offer shopper.Offer
	// PrivateKey is the one-time key, PEM.
	PrivateKey string
	Mark       Mark
	// Service is the address of the shopper that rented it.
	Service string
	// Warnings are what went wrong beside the machine.
	Warnings []string

	entry *entry
	lock  *journal.Name
}

// Mark returns the mark of this consumer under the name, without a token.
func (r *Renter) Mark(name string) Mark {
	return Mark{Consumer: r.consumer, Name: name}
}

// HandOver tells the journal that the rental is in Terraform's hands: to be
// called last, just before Create returns. From then on it is never taken for a
// leftover. Calling it again does nothing.
func (r *Rental) HandOver() error {
	e := r.entry
	if e == nil {
		return nil
	}
	r.entry = nil
	defer r.lock.Unlock()
	e.HandedOver = true
	err := e.save()
	if err != nil && e.remove() == nil {
		// An entry that can't be marked must not look like a leftover. Without one the
		// session is a conflict to others, and nobody releases it.
		return nil
	}
	return err
}

// Known is what Terraform's state holds of a session.
type Known struct {
	ID string
	// ConsumerID is the mark, or what somebody else's session has in its place.
	ConsumerID string
	// Prefix is what its name was made of, "" where it was not.
	Prefix string
	// Service is the address of the shopper that rented it, "" where that isn't known.
	// A 404 from any other proves nothing.
	Service string
	// Answers reports whether the machine still answers with its pinned host key. It
	// is asked where the service doesn't know the session; nil where it can't be.
	Answers func(ctx context.Context) bool
}
