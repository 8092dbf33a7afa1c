// Package rental is everything that costs money: it chooses an offer, rents a
// machine, waits until it can be used, extends the reservation and releases the
// machine with proof. It is the only package that makes the service rent or
// destroy anything.
//
// Its rules about money, which the code names where it keeps them:
//
//   - M1: every request that rents carries a unique mark, which is in the journal
//     before the request is sent.
//   - M2: it is sent once and never interrupted. When its answer is lost, what it
//     rented is found by the mark and released before anything else is rented.
//   - M3: a session's ID is handed to the caller before anything else can fail.
//   - M4: a machine that can't be used is released before Rent returns; one whose
//     release can't be confirmed is returned together with the error.
//   - M5: released means requested, and then reported as stopped.
//   - M6: a release goes on after a cancel, within a separate deadline.
//   - M7: a 404 proves an end only where it comes from the service that rented the
//     machine, and the machine doesn't answer.
//   - M8: nothing is rented under a name before every session that is active under
//     it has been released; otherwise Rent stops with an error. Of two rented at the same time the younger
//     is released. Under other names made of the same prefix, only what the journal
//     proves to be left over is released, and only what it shows to be in no state is
//     refused.
//   - M9: the price is that in the answer to the request that rents.
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
	Ready(ctx context.Context) (bool, error)
	Offers(ctx context.Context, cloud string) ([]shopper.Offer, error)
	Offer(ctx context.Context, id string) (shopper.Offer, error)
	CreateSession(ctx context.Context, req shopper.CreateSession) (shopper.Created, error)
	Session(ctx context.Context, id string) (shopper.Session, error)
	Sessions(ctx context.Context, filter shopper.SessionFilter) ([]shopper.Session, error)
	Extend(ctx context.Context, id string, additionalHours int) (time.Time, error)
	Delete(ctx context.Context, id string) error
}

const (
	// askLimit is after how long a request that rents can no longer be in progress: the
	// service's own limit of 300 seconds, and the time until the request reaches it.
	askLimit = shopper.CreateTimeout

	// clockDoubt is added to askLimit where another process recorded when it sent the
	// request: the computer's clock may have been set since.
	clockDoubt = time.Minute

	// listPatience is how long a search for a mark retries a service that fails: its
	// restart may be why the answer was lost.
	listPatience = 90 * time.Second

	// lockPatience is how long Rent waits for another run that works under the same
	// name: the longest request that rents, and a release.
	lockPatience = askLimit + 5*time.Minute

	// runningLimit bounds the wait for a machine where the caller sets no bound. The
	// service itself gives up after half an hour at most.
	runningLimit = time.Hour

	// readyLimit bounds the wait for a service that is starting up.
	readyLimit = 5 * time.Minute

	// releaseLimit bounds a release where the caller sets no bound. One DELETE may take
	// 275 seconds, and the service's own clean-up of a stuck session ten minutes.
	releaseLimit = 20 * time.Minute

	// maxChildren bounds how many replacements of a session a release follows.
	maxChildren = 10

	// looks is how often the sessions are listed before a mark counts as missing. The
	// service writes a session's row before it requests a machine from the cloud.
	looks = 3
)

// Config configures a Renter.
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
	computer string // the name of this computer
	journal  *journal.Journal
	budget   *budget
	market   *market
	burst    *burst
	watch    *watch
	// inState are the marks that this process knows to be in Terraform's state.
	inState sync.Map
	// names are those under which this process is renting, made the marks of all its
	// requests.
	names, made sync.Map

	askLimit, listPatience time.Duration // the constants; shorter in tests with a real clock
}

// New returns a Renter. It makes no request.
func New(service Service, cfg Config) *Renter {
	computer, _ := os.Hostname() // without a name, all computers count as one
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
	// Names holds the name to rent under; see ValidateName. With a Prefix, of which NewName
	// made the name, leftovers under all such names are released. Other machines under them
	// are no conflict, unless by the journal an earlier run has handed one over that no
	// refresh has seen in state.
	Names
	// OfferID is the only offer to rent; with "" Requirements choose.
	OfferID      string
	Requirements Requirements
	// MaxAttempts is how many offers are tried before giving up; 0 = DefaultAttempts.
	MaxAttempts int
	// Hours is the reservation, 1 to shopper.MaxReservationHours.
	Hours int
	// These are passed on to the service.
	WorkloadType, TemplateHashID, OnStartCmd string
	DiskGB, SSHTimeoutMinutes                int
	// ReplaceConflicting releases active sessions of this name that could not be verified
	// as leftovers; otherwise they are a *ConflictError. It releases no sessions of other
	// names.
	ReplaceConflicting bool

	// Login proves that the machine accepts a login; nil skips that.
	Login func(ctx context.Context, s shopper.Session, privateKey string) error
	// Rented is called as soon as a session's ID is known, and again when more is
	// known; Dropped when the release of that session has been confirmed. Both may be nil.
	Rented  func(*Rental)
	Dropped func()
	// Progress receives messages about what is being done. It may be nil.
	Progress func(format string, args ...any)
}

// Rental is a machine that was rented.
type Rental struct {
	// Session is as read last, with the actual price.
	Session shopper.Session
	// Offer is what was requested.
	Offer shopper.Offer
	// PrivateKey is the one-time key, PEM.
	PrivateKey string
	Mark       Mark
	// Service is the URL of the shopper that rented it.
	Service string
	// Warnings are for the user.
	Warnings []string

	entry *entry
	lock  *journal.Name
}

// Mark returns the mark of this consumer under the name, without a token.
func (r *Renter) Mark(name string) Mark {
	return Mark{Consumer: r.consumer, Name: name}
}

// HandOver records in the journal that Terraform has the rental, which then never counts as a leftover, and unlocks its name. Call it
// last, just before Create returns. Calling it again does nothing.
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
		// An entry that can't be updated must not look like a leftover. Without an entry, the session is a conflict to other runs,
		// and none releases it.
		return nil
	}
	return err
}

// Known is what Terraform's state contains about a session.
type Known struct {
	ID string
	// ConsumerID is the mark, or any other text for a session that this package didn't rent.
	ConsumerID string
	// Prefix is the prefix of which its name was made, "" for none.
	Prefix string
	// Service is the URL of the shopper that rented it, "" where that isn't known.
	// A 404 from another service proves nothing.
	Service string
	// Answers reports whether the machine still answers with its pinned host key. It
	// is called where the service doesn't know the session; nil where that can't be checked.
	Answers func(ctx context.Context) bool
}
