package rental

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// clearName makes sure, before anything is rented, that no machine is active
// under the name. What the journal proves to be left over from a run that never
// handed it to Terraform is released; anything else is a *ConflictError unless
// the order says to release that too.
func (r *run) clearName(ctx context.Context) error {
	name := r.Mark(r.Name)
	r.waitForOthers(ctx, name)
	if err := r.sweep(ctx, name); err != nil {
		return err
	}
	active, err := r.live(ctx, func(consumerID string) bool {
		mark, ok := ParseMark(consumerID)
		return ok && name.sameName(mark)
	})
	if err != nil || len(active) == 0 {
		return err
	}
	here := slices.ContainsFunc(active, func(s shopper.Session) bool {
		_, made := r.made.Load(s.ConsumerID)
		return made
	})
	if here || !r.ReplaceConflicting {
		return &ConflictError{Name: r.Name, Sessions: active, Journal: r.journal.Dir(), Here: here}
	}
	for _, s := range active {
		r.say("Releasing session %s, which is in the way of the name %s", s.ID, r.Name)
		limited, cancel := goingOn(ctx)
		err := r.release(limited, s)
		cancel()
		if err != nil {
			return err
		}
		r.warn("Session %s was active under this name, and was released because on_conflict is \"replace\".", s.ID)
		r.released(s.ID)
	}
	return nil
}

// live lists the sessions that may have a machine and whose consumer_id is
// wanted, in the order of their lives.
func (r *Renter) live(ctx context.Context, wanted func(consumerID string) bool) ([]shopper.Session, error) {
	var live []shopper.Session
	// In the order of a session's life: one that moves on meanwhile is met again.
	for _, status := range []shopper.Status{shopper.Pending, shopper.Provisioning, shopper.Running, shopper.Stopping} {
		sessions, err := r.service.Sessions(ctx, shopper.SessionFilter{Status: status})
		if err != nil {
			return nil, err
		}
		for _, s := range sessions {
			if wanted(s.ConsumerID) && !among(live, s.ID) {
				live = append(live, s)
			}
		}
	}
	return live, nil
}

// sweep releases what the journal proves to be left over under the name, and
// tells what it did.
func (r *run) sweep(ctx context.Context, name Mark) error {
	left, err := r.leftovers(ctx, name)
	for _, problem := range left.problems {
		r.warn("%v", problem)
	}
	for _, id := range left.released {
		r.say("Released session %s, left over from a run that ended before Terraform knew of it", id)
		r.warn("Session %s, left over from an earlier run that ended before Terraform knew of it, was released.", id)
		r.released(id)
	}
	return err
}

// Settle releases what the journal proves to be left over under the name. It
// makes no request when the journal knows of nothing. It returns the ids of the
// sessions that it released; the error may be about the journal alone.
func (r *Renter) Settle(ctx context.Context, name string) ([]string, error) {
	left, err := r.leftovers(ctx, r.Mark(name))
	return left.released, errors.Join(append(left.problems, err)...)
}

// Seen tells the journal that the rental is in Terraform's state.
func (r *Renter) Seen(consumerID string) error {
	mark, ok := ParseMark(consumerID)
	if !ok {
		return nil
	}
	r.inState.Store(mark.String(), true) // even if the journal can't be told
	return r.journal.seen(mark)
}

// Leftovers says what the journal holds that a later Rent under the name will
// release, without asking the service. With an error, which is about the journal
// alone, the answer may be incomplete.
func (r *Renter) Leftovers(name string) ([]string, error) {
	entries, problems := r.journal.entries(r.service.URL(), r.Mark(name))
	var found []string
	for _, e := range entries {
		if e.HandedOver {
			continue
		}
		h, mine, err := r.journal.hold(e)
		if err != nil {
			problems = append(problems, err)
		}
		if !mine {
			continue
		}
		h.release()
		what := "session " + e.SessionID
		if e.SessionID == "" {
			what = "a session with the mark " + e.Mark
		}
		found = append(found, what)
	}
	return found, errors.Join(problems...)
}

// remains is what came of looking at the journal.
type remains struct {
	released []string // sessions
	problems []error  // what could not be read or written; nothing depends on it
}

// leftovers settles the entries under the name that nobody works on. It stays
// where a session was seen that can come back to life. Its error says that a
// machine may be left; trouble with the journal itself never keeps anything from
// being rented or released.
func (r *Renter) leftovers(ctx context.Context, name Mark) (remains, error) {
	entries, problems := r.journal.entries(r.service.URL(), name)
	left := remains{problems: problems}
	var errs []error
	for _, e := range entries {
		if _, inState := r.inState.Load(e.Mark); inState {
			continue
		}
		h, mine, err := r.journal.hold(e)
		switch {
		case err != nil:
			left.problems = append(left.problems, err)
		case mine:
			errs = append(errs, r.leftover(ctx, h, &left))
		}
	}
	return left, errors.Join(errs...)
}

// leftover settles one entry, and lets go of it.
func (r *Renter) leftover(ctx context.Context, h *held, left *remains) error {
	defer h.release()
	current, err := r.journal.current(h.entry)
	if err != nil {
		left.problems = append(left.problems, err)
		return nil
	}
	if current.Mark == "" {
		h.discardLock()
		return nil // dealt with between the listing and the lock
	}
	h.entry = current
	over, err := r.settled(ctx, h, left)
	if err != nil || !over {
		return err
	}
	if err := h.remove(); err != nil {
		left.problems = append(left.problems, err)
	}
	return nil
}

// settled reports whether an entry needs to be remembered no longer.
func (r *Renter) settled(ctx context.Context, h *held, left *remains) (bool, error) {
	if h.HandedOver {
		// Terraform knew of it. If it may be alive it stays: the conflict names it.
		s, err := r.service.Session(ctx, h.SessionID)
		return shopper.IsNotFound(err) || err == nil && gone(s), nil
	}
	d := leftoverDoubt(h)
	settled, err := r.look(ctx, d)
	if err == nil && !settled && d.seen {
		settled, err = r.watch(ctx, d)
	}
	left.released = append(left.released, d.found...)
	return settled, err
}

// leftoverDoubt is the doubt about an entry that another process left. What the
// computer's clock said then is believed with a margin, and only as far as it
// makes sense.
func leftoverDoubt(h *held) *doubt {
	age := max(time.Since(h.Asked)-clockDoubt, 0)
	return &doubt{held: h, asked: time.Now().Add(-age), under: h.SessionID == ""}
}
