package rental

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// lockName makes this run the only one that works under the name, among those that share the journal. It waits for another run: one
// whose Terraform was killed may still be releasing its machine. A journal that can't be used is a warning, because the search for
// active sessions follows.
func (r *run) lockName(ctx context.Context) error {
	name := r.order.Name
	if _, taken := r.shared.names.LoadOrStore(name, r); taken {
		return &ConflictError{Name: name, Here: true}
	}
	if r.shared.journal == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	key := r.shared.key(r.shared.Mark(name))
	pause := pace.New(200*time.Millisecond, 2*time.Second)
	for waiting := false; ; waiting = true {
		lock, err := r.shared.journal.TryLock(key)
		switch {
		case err == nil:
			r.lock = lock
			return nil
		case !errors.Is(err, journal.ErrLocked):
			r.warnUnwritten(err)
			return nil
		case r.shared.journal.Holder(key) == r.shared.journal.Run():
			return &ConflictError{Name: name, Here: true}
		}
		if !waiting {
			r.say("Waiting for another run that uses the name %s", name)
		}
		if pause.Wait(limited) == nil {
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &ConflictError{Name: name}
	}
}

func (r *run) warnUnwritten(err error) {
	r.warnf("%v. If this run crashes, its rental can only be found by its mark, which begins with %s/%s/.", err,
		r.shared.consumer, r.order.Name)
}

func (r *run) unlock() {
	r.shared.names.CompareAndDelete(r.order.Name, r)
	r.lock.Unlock()
}

// waitReady waits while the service reports that it is starting up. A service without that route counts as ready.
func (r *run) waitReady(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	begun := time.Now()
	pause := pace.New(250*time.Millisecond, 5*time.Second)
	for first := true; ; first = false {
		ready, err := r.shared.service.Ready(limited)
		if err == nil && ready {
			return nil
		}
		if err != nil && limited.Err() == nil {
			if answer, ok := errors.AsType[*shopper.Error](err); ok && answer.Status == http.StatusNotFound {
				return nil // an older service, or a proxy that doesn't pass it on
			}
			return err
		}
		if first {
			r.say("The shopper is starting; waiting until it is ready")
		}
		if pause.Wait(limited) == nil {
			continue
		}
		// Timed out. Without any answer, the service may not even be starting.
		if errors.Is(ctx.Err(), context.Canceled) || first && err != nil {
			return limited.Err()
		}
		return &NotReadyError{URL: r.shared.service.URL(), Waited: time.Since(begun).Round(time.Second)}
	}
}

// releaseLeftovers releases rentals that, by the journal, an earlier run has never handed to Terraform.
func (r *run) releaseLeftovers(ctx context.Context) error {
	left, err := r.shared.Settle(ctx, Names{Prefix: r.order.Prefix}) // without the name itself, which this run has locked
	err = errors.Join(err, r.shared.settleLeftovers(ctx, r.lock, &left))
	for _, id := range left.Released {
		r.warnf("Session %s was released. An earlier run had rented it and ended before Terraform recorded it.", id)
	}
	r.warn(left.Warnings...)
	return err
}

// clearName makes sure, before anything is rented, that no machine is active under the name: any is a *ConflictError, unless the
// order allows releasing it. It never releases what this run of Terraform has rented.
func (r *run) clearName(ctx context.Context) error {
	live, err := r.shared.live(ctx)
	if err != nil {
		return err
	}
	r.live = live
	if r.order.Prefix != "" {
		return r.checkPrefix(live)
	}
	active := slices.DeleteFunc(slices.Clone(live), func(s shopper.Session) bool { return !r.named(s) })
	if len(active) == 0 {
		return nil
	}
	here := slices.ContainsFunc(active, r.madeByThisRun)
	if here || !r.order.ReplaceConflicting {
		return &ConflictError{Name: r.order.Name, Sessions: active, Journal: r.shared.journal.Dir(), Here: here}
	}
	for _, s := range active {
		r.say("Releasing session %s, which uses the name %s", s.ID, r.order.Name)
		// Another run may have died during the request that rented this one.
		d := &doubt{mark: s.ConsumerID, until: time.Now().Add(r.shared.askLimit), lost: true}
		over, err := r.shared.settle(ctx, d, toTheEnd)
		if err != nil {
			return err
		}
		if !over {
			return notReleased(s, errors.Join(errUnderWay, ctx.Err()))
		}
		r.warnf("Session %s was active under this name and was released, because on_conflict is \"replace\".", s.ID)
		r.warn(d.remarks...)
	}
	r.live = slices.DeleteFunc(live, r.named)
	return nil
}

// checkPrefix looks for machines that are in no state under the other names made of the prefix. It releases none: with
// create_before_destroy, one of them is the machine to be replaced.
func (r *run) checkPrefix(live []shopper.Session) error {
	entries, _ := r.shared.madeOf(r.order.Prefix) // releaseLeftovers has warned of the error
	var lost []shopper.Session
	for _, s := range live {
		mark, marked := ParseMark(s.ConsumerID)
		e := entries[s.ConsumerID]
		_, here := r.shared.made.Load(s.ConsumerID)
		switch {
		case !marked || !r.shared.isMadeOf(r.order.Prefix, mark) || here:
		case e == nil || e.Computer != r.shared.computer:
			r.warnf("Session %s (%s, %s/h, since %s) was rented under the same prefix, and the journal doesn't record whether a"+
				" state contains it. If none does, import it or release it: it costs money.", s.ID, mark.Name, Dollars(s.PricePerHour),
				s.CreatedAt.UTC().Format(time.RFC3339))
		case e.HandedOver && !e.InState && e.Run != r.shared.journal.Run(): // others are in state, or belong to this run
			lost = append(lost, s)
		}
	}
	if len(lost) > 0 {
		return &ConflictError{Name: r.order.Prefix, Sessions: lost, Unseen: true}
	}
	return nil
}

// named reports whether a session has the order's name.
func (r *run) named(s shopper.Session) bool {
	mark, ok := ParseMark(s.ConsumerID)
	return ok && mark.sameName(r.shared.Mark(r.order.Name))
}

// madeByThisRun reports whether this run of Terraform has rented the session, in this process or in that of a provider alias.
func (r *run) madeByThisRun(s shopper.Session) bool {
	if _, made := r.shared.made.Load(s.ConsumerID); made {
		return true
	}
	entries, _ := r.shared.entries(r.lock) // releaseLeftovers has warned of problems
	return slices.ContainsFunc(entries, func(e *entry) bool {
		return e.Mark == s.ConsumerID && e.Run == r.shared.journal.Run() && e.Computer == r.shared.computer
	})
}

// live lists the consumer's sessions that may have a machine.
func (r *Renter) live(ctx context.Context) ([]shopper.Session, error) {
	var live []shopper.Session
	// In the order of a session's life: one whose status changes meanwhile is in a later list.
	for _, status := range []shopper.Status{shopper.Pending, shopper.Provisioning, shopper.Running, shopper.Stopping} {
		sessions, err := r.service.Sessions(ctx, shopper.SessionFilter{Status: status})
		if err != nil {
			return nil, err
		}
		for _, s := range sessions {
			ours := s.ConsumerID == r.consumer || strings.HasPrefix(s.ConsumerID, r.consumer+"/")
			if ours && !among(live, s.ID) {
				live = append(live, s)
			}
		}
	}
	return live, nil
}

// yield returns an error where another run has rented under the same name, or on the same budget, at the same time, and this
// session is the younger one. Each run looks after its own session is listed, so the younger of two always
// sees the older.
func (r *run) yield(ctx context.Context, rental *Rental) error {
	live, err := r.shared.live(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.warnf("The provider could not check whether another run has meanwhile rented under the name %q or for the same budget:"+
			" %v", r.order.Name, err)
		return nil
	}
	for _, s := range live {
		own := slices.ContainsFunc(r.doubts, func(d *doubt) bool { return d.mark == s.ConsumerID })
		if r.named(s) && !own && s.Status != shopper.Stopping && isOlder(s, rental.Session) {
			return &ConflictError{Name: r.order.Name, Sessions: []shopper.Session{s}, Released: rental.Session.ID}
		}
	}
	if err := r.shared.budget.check(rental.Session, live); err != nil {
		return &UnusableError{SessionID: rental.Session.ID, Reason: "it exceeds the provider's budget", Err: err}
	}
	return nil
}
