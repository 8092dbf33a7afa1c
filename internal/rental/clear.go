package rental

import (
	"context"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// clearName makes sure, before anything is rented, that no machine is active
// under the name. What the journal proves to be left over from a run that never
// handed it to Terraform is released; anything else is a *ConflictError unless
// the order says to release that too.
func (r *run) clearName(ctx context.Context) error {
	if err := r.sweep(ctx, r.Mark(r.Name)); err != nil {
		return err
	}
	active, err := r.active(ctx, r.Mark(r.Name))
	if err != nil || len(active) == 0 {
		return err
	}
	if !r.ReplaceConflicting {
		return &ConflictError{Name: r.Name, Sessions: active, Journal: r.journal.Dir()}
	}
	for _, s := range active {
		r.say("Releasing session %s, which is in the way of the name %s", s.ID, r.Name)
		if err := r.Release(ctx, s.ID); err != nil {
			return err
		}
		r.warnings = append(r.warnings, fmt.Sprintf("Session %s was active under this name, and was released because"+
			" on_conflict is \"replace\".", s.ID))
	}
	return nil
}

// active lists the sessions of the consumer and name that may have a machine,
// in the order of their
// lives. With an empty name it lists all of the consumer's.
func (r *Renter) active(ctx context.Context, name Mark) ([]shopper.Session, error) {
	var active []shopper.Session
	listed := map[string]bool{}
	// In the order of a session's life: one that moves on meanwhile is met again.
	for _, status := range []shopper.Status{shopper.Pending, shopper.Provisioning, shopper.Running, shopper.Stopping} {
		sessions, err := r.service.Sessions(ctx, shopper.SessionFilter{Status: status})
		if err != nil {
			return nil, err
		}
		for _, s := range sessions {
			mark, ok := ParseMark(s.ConsumerID)
			if !ok || listed[s.ID] || mark.Consumer != name.Consumer || name.Name != "" && mark.Name != name.Name {
				continue
			}
			listed[s.ID] = true
			active = append(active, s)
		}
	}
	return active, nil
}

// sweep releases what the journal proves to be left over under the name, and
// tells what it did.
func (r *run) sweep(ctx context.Context, name Mark) error {
	released, err := r.leftovers(ctx, name)
	for _, id := range released {
		r.say("Released session %s, left over from a run that ended before Terraform knew of it", id)
		r.warnings = append(r.warnings, fmt.Sprintf("Session %s, left over from an earlier run that ended before"+
			" Terraform knew of it, was released.", id))
	}
	return err
}

// settle does for a name what its next Rent would do: it releases what was left
// over and looks again at what was in doubt, staying where a session was seen
// that can come back to life.
func (r *Renter) settle(ctx context.Context, name Mark) error {
	_, err := r.leftovers(ctx, name)
	return err
}

// Settle releases what the journal proves to be left over under the name. It
// makes no request when the journal knows of nothing. It returns the ids of the
// sessions that it released.
func (r *Renter) Settle(ctx context.Context, name string) ([]string, error) {
	return r.leftovers(ctx, r.Mark(name))
}

// Seen tells the journal that the rental is in Terraform's state.
func (r *Renter) Seen(consumerID string) error {
	mark, ok := ParseMark(consumerID)
	if !ok {
		return nil
	}
	return r.journal.seen(mark)
}

// Leftovers says what the journal holds that a later Rent under the name will
// release, without asking the service.
func (r *Renter) Leftovers(name string) ([]string, error) {
	entries, err := r.journal.entries(r.service.URL(), r.Mark(name))
	if err != nil {
		return nil, err
	}
	var found []string
	for _, e := range entries {
		if e.HandedOver {
			continue
		}
		h, mine, err := r.journal.hold(e)
		if err != nil || !mine {
			continue
		}
		h.release()
		what := e.SessionID
		if what == "" {
			what = "with the mark " + e.Mark
		}
		found = append(found, what)
	}
	return found, nil
}

func (r *Renter) leftovers(ctx context.Context, name Mark) ([]string, error) {
	entries, err := r.journal.entries(r.service.URL(), name)
	if err != nil {
		return nil, err
	}
	var released []string
	for _, e := range entries {
		if e.HandedOver {
			if err := r.forgetEnded(ctx, e); err != nil {
				return released, err
			}
			continue
		}
		ids, err := r.leftover(ctx, e)
		released = append(released, ids...)
		if err != nil {
			return released, err
		}
	}
	return released, nil
}

// leftover settles one entry whose rental was never handed over, unless somebody
// is working on it.
func (r *Renter) leftover(ctx context.Context, e entry) ([]string, error) {
	h, mine, err := r.journal.hold(e)
	if err != nil || !mine {
		return nil, err
	}
	defer h.release()
	if current, err := r.journal.current(e); err != nil || current.Mark == "" || current.HandedOver {
		return nil, err // dealt with between the listing and the lock
	}
	d := &doubt{held: h}
	settled, err := r.watch(ctx, d, false)
	if err == nil && !settled && d.seen {
		settled, err = r.watch(ctx, d, true)
	}
	if err == nil && (settled || e.SessionID != "" || time.Since(e.Asked) > askLimit) {
		err = h.remove()
	}
	return d.found, err
}

// forgetEnded drops the entry of a rental that Terraform knew of and that has
// ended since. One that may be alive is left: the conflict that it is names it.
func (r *Renter) forgetEnded(ctx context.Context, e entry) error {
	s, err := r.service.Session(ctx, e.SessionID)
	if shopper.IsNotFound(err) || err == nil && gone(s) {
		return r.journal.seen(e.mark())
	}
	return err
}
