// Package rental is everything that costs money: it chooses an offer, rents a
// machine, waits until it can be used, extends the reservation and gives the
// machine back with proof. It is the only package that makes the service rent or
// destroy anything.
//
// What it promises, whatever breaks:
//
//   - A request that rents is sent once for each mark and never cut short. When
//     its answer is lost, what it made is found by the mark and released.
//   - A rental's id is handed to the caller before anything else can fail.
//   - A machine that can't be used is released before Rent returns; one whose
//     release can't be confirmed is returned together with the error.
//   - Released means: asked for, and then read as stopped or unknown.
package rental

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

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
	// MaxHours is the service's hard limit on a reservation, counted from its start.
	MaxHours = 12

	// askLimit is after how long a request that rents can no longer be under way: the
	// service's own limit of 300 seconds, and what the request may take to get there.
	askLimit = shopper.CreateTimeout

	// clockDoubt is added to askLimit where another process wrote down when it asked:
	// the computer's clock may have been set since.
	clockDoubt = time.Minute

	// listPatience is how long a search for a mark goes on asking a service that
	// fails: it is restarted, say, and that may be why the answer was lost.
	listPatience = 90 * time.Second

	// runningLimit bounds the wait for a machine where the caller sets no bound. The
	// service itself gives up after half an hour at the most.
	runningLimit = time.Hour

	// readyLimit bounds the wait for a service that is starting up.
	readyLimit = 5 * time.Minute

	// releaseLimit bounds a release that nobody else bounds. One DELETE may take 275
	// seconds, and the service's own clean-up of a stuck one ten minutes.
	releaseLimit = 20 * time.Minute

	// repeatDelete is how long a release reads a session that is being stopped
	// before it asks once more.
	repeatDelete = 30 * time.Second

	// maxChildren bounds how many replacements of a replacement a release follows.
	maxChildren = 10
)

// Config is how a Renter is made.
type Config struct {
	// Consumer is the first part of every mark; see ValidateName.
	Consumer string
	// Journal may be nil.
	Journal *Journal
	// MaxPricePerHour is a ceiling in USD on the summed price of all this consumer's
	// live sessions; 0 for none.
	MaxPricePerHour float64
}

// Renter rents and releases machines. It is safe for concurrent use.
type Renter struct {
	service  Service
	consumer string
	journal  *Journal
	budget   *budget
	market   *market
	// inState are the marks that this process knows to be in Terraform's state.
	inState sync.Map
	// names are those that this process is renting under, made the marks that it has
	// rented.
	names, made sync.Map
	// remarks are what was said of sessions that this process has released, by id.
	remarks sync.Map

	askLimit, listPatience time.Duration // the constants; shorter in tests on a real clock
}

// New returns a Renter. It makes no request.
func New(service Service, cfg Config) *Renter {
	return &Renter{
		service:  service,
		consumer: cfg.Consumer,
		journal:  cfg.Journal,
		budget:   &budget{ceiling: cfg.MaxPricePerHour, spent: map[string]spending{}},
		market:   &market{taken: map[string]bool{}},

		askLimit: askLimit, listPatience: listPatience,
	}
}

// Order says what to rent and how.
type Order struct {
	// Name is the second part of the mark; see ValidateName.
	Name string
	// OfferID rents this offer and no other. Otherwise Requirements choose.
	OfferID      string
	Requirements Requirements
	// MaxAttempts is how many offers are tried before giving up; 0 = 3.
	MaxAttempts int
	Hours       int
	// The rest is passed on to the service as it is.
	WorkloadType, TemplateHashID, OnStartCmd, StoragePolicy string
	DiskGB, SSHTimeoutMinutes                               int
	// ReplaceConflicting releases active sessions of this name that are not proved
	// to be leftovers of our own; otherwise they are a *ConflictError.
	ReplaceConflicting bool

	// Login proves that the machine can be logged in to; nil takes the service's word.
	Login func(ctx context.Context, s shopper.Session, privateKey string) error
	// Rented is called as soon as a session's id is known, and again when more is
	// known; Dropped when that session has been released with proof. Both may be nil.
	Rented  func(*Rental)
	Dropped func()
	// Progress is told what is being done, in words. It may be nil.
	Progress func(format string, args ...any)
}

// Rental is a machine that was rented.
type Rental struct {
	Session shopper.Session
	// Offer is what it was rented as.
	Offer shopper.Offer
	// PrivateKey is the one-time key, PEM.
	PrivateKey string
	Mark       Mark
	// Warnings are what went wrong beside the machine.
	Warnings []string

	held *held
}

// HandOver tells the journal that the rental is in Terraform's hands: to be
// called last, just before Create returns. From then on it is never taken for a
// leftover. Calling it again does nothing.
func (r *Rental) HandOver() error {
	h := r.held
	if h == nil {
		return nil
	}
	r.held = nil
	defer h.release()
	h.HandedOver = true
	err := h.save()
	if err != nil && h.remove() == nil {
		// An entry that can't be marked must not look like a leftover. Without one the
		// session is a conflict to others, and nobody releases it.
		return nil
	}
	return err
}

// Mark returns the mark of this consumer under the name, without a token.
func (r *Renter) Mark(name string) Mark {
	return Mark{Consumer: r.consumer, Name: name}
}

// Rent rents a machine and waits until it can be used. When it returns a rental
// together with an error, that machine may still be billing and its release
// could not be confirmed; with an error alone, nothing that was found is left.
// The caller ends with the rental's HandOver.
//
// Cancelling ctx stops it: what was rented is released first, within a deadline
// of its own.
func (r *Renter) Rent(ctx context.Context, order Order) (*Rental, error) {
	if _, taken := r.names.LoadOrStore(order.Name, true); taken {
		return nil, &ConflictError{Name: order.Name, Here: true}
	}
	defer r.names.Delete(order.Name)
	run := &run{Renter: r, Order: order, tried: map[string]bool{}}
	defer run.letGo() // also when a callback panics: the next call must find a leftover
	if err := run.waitReady(ctx); err != nil {
		return nil, run.noted(err)
	}
	if err := run.clearName(ctx); err != nil {
		return nil, run.noted(err)
	}
	rental, err := run.attempts(ctx)
	run.lookAgain(ctx)
	if rental == nil {
		return nil, run.noted(err)
	}
	r.made.Store(rental.Mark.String(), true)
	rental.Warnings = append(rental.Warnings, run.warnings...)
	run.keep(rental.held)
	return rental, err
}

// run is one call of Rent.
type run struct {
	*Renter
	Order
	tried    map[string]bool
	failed   []Attempt
	doubts   []*doubt
	held     []*held // entries that this call works on
	asked    bool    // whether a request that rents was sent
	warnings []string
}

func (r *run) say(format string, args ...any) {
	if r.Progress != nil {
		r.Progress(format, args...)
	}
}

func (r *run) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.Contains(r.warnings, text) {
		r.warnings = append(r.warnings, text)
	}
}

// released notes what the service says of a session that was just released.
func (r *run) released(id string) {
	if remark := r.Remark(id); remark != "" {
		r.warn("%s", remark)
	}
}

func (r *run) rented(rental *Rental) {
	if r.Rented != nil {
		r.Rented(rental)
	}
}

func (r *run) dropped() {
	if r.Dropped != nil {
		r.Dropped()
	}
}

// noted adds to an error that is all that Rent returns that nothing was rented,
// where that is so, and the warnings.
func (r *run) noted(err error) error {
	notes := r.warnings
	_, unreleased := errors.AsType[*NotReleasedError](err) // what an earlier run left
	switch {
	case r.asked:
	case errors.Is(err, context.Canceled) && !unreleased:
		err = &CancelledError{Err: err}
	default:
		notes = append([]string{"Nothing was rented."}, notes...)
	}
	if err == nil || len(notes) == 0 {
		return err
	}
	return &noted{err: err, notes: notes}
}

// letGo lets other calls see the journal's entries as they are now.
func (r *run) letGo() {
	for _, h := range r.held {
		h.release()
	}
}

// keep leaves an entry to whoever calls HandOver.
func (r *run) keep(h *held) {
	r.held = slices.DeleteFunc(r.held, func(other *held) bool { return other == h })
}

// waitReady waits while the service says that it is starting up. A service that
// can't be asked is left to the requests that follow, whose errors say more.
func (r *run) waitReady(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	begun := time.Now()
	pause := newPace(250*time.Millisecond, 5*time.Second)
	for first := true; ; first = false {
		ready, err := r.service.Ready(limited)
		if err == nil && ready.Ready {
			return nil
		}
		if err != nil && limited.Err() == nil {
			if answer, ok := errors.AsType[*shopper.Error](err); ok && answer.Status == http.StatusNotFound {
				return nil // an older service, or a proxy that doesn't pass it on
			}
			return err
		}
		if first {
			r.say("The shopper is starting up; waiting until it is ready")
		}
		if pause.wait(limited) == nil {
			continue
		}
		// Out of time, whoever's it is; with no answer at all the service may not even be starting.
		if errors.Is(ctx.Err(), context.Canceled) || first && err != nil {
			return limited.Err()
		}
		return &NotReadyError{URL: r.service.URL(), Waited: time.Since(begun).Round(time.Second)}
	}
}
