package rental

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflog"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// doubt is a request that rents, which may have created, or may still create, a session that nobody uses.
type doubt struct {
	// mark is the consumer_id of its sessions. With "" known is the only session.
	mark  string
	known Known
	entry *entry // of the journal; nil for none
	// until is when the request can no longer be in progress. Until then, a stopped session that has no machine can still get one.
	until time.Time
	// lost is true where the answer was lost.
	lost bool

	// released are the sessions that were released, remarks are for the user.
	released, remarks []string
}

func (d *doubt) remark(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(d.remarks, text) {
		d.remarks = append(d.remarks, text)
	}
}

// patience is how long settle looks for a session that it doesn't find.
type patience bool

const (
	briefly  patience = false // a few times: by the journal, a later run looks again
	toTheEnd patience = true  // until the request can no longer be in progress
)

// settle releases the sessions of a request in doubt, and reports whether it is settled: the request has ended, and none of
// its sessions bills. It watches a session that can still get a machine until it can't, or until ctx is canceled. A release
// goes on after a cancel.
func (r *Renter) settle(ctx context.Context, d *doubt, patience patience) (bool, error) {
	pause := pace.New(200*time.Millisecond, 5*time.Second)
	for look := 1; ; look++ {
		late := !time.Now().Before(d.until) // before the sessions are listed
		found, decided, err := r.releaseFound(ctx, d)
		switch {
		case err != nil && (patience == briefly || late):
			return false, err
		case err == nil && (late || decided):
			return true, nil
		case err == nil && !found && patience == briefly && look == looks:
			return false, nil
		}
		if waitErr := pause.Wait(ctx); waitErr != nil {
			return false, err
		}
	}
}

// releaseFound releases the sessions of a request in doubt. It reports whether there are any, and whether they prove that the
// request has ended.
func (r *Renter) releaseFound(ctx context.Context, d *doubt) (found, decided bool, err error) {
	ctx, cancel := releasing(ctx)
	defer cancel()
	sessions, err := r.sessionsOf(ctx, d)
	if err != nil {
		return false, false, err
	}
	if d.mark == "" && len(sessions) == 0 {
		return false, true, nil // the service that rented it doesn't know it
	}
	decided = len(sessions) > 0
	for _, s := range sessions {
		machine := hasMachine(s)
		if !ended(s) || s.RetryChildID != "" || s.AutoRetry {
			last, err := r.release(ctx, s, d)
			if err != nil {
				return true, false, err
			}
			if !slices.Contains(d.released, s.ID) {
				d.released = append(d.released, s.ID)
			}
			s = last
		}
		switch {
		case machine || hasMachine(s):
		case s.Status != shopper.Failed:
			decided = false
		case d.lost:
			// Seen with a service that was killed while its cloud created the machine, which billed for
			// five minutes. No request to the service finds such a machine.
			d.remark("The answer to the request that created session %s was lost, and the session has failed without a known machine"+
				" (%s). If the shopper was stopped meanwhile, its cloud may have created one anyway: the shopper's operator can look"+
				" for the session's ID, or its mark %s, among the cloud's machines.", s.ID, cmp.Or(s.Error, "it gives no reason"), s.ConsumerID)
		}
	}
	return len(sessions) > 0, decided, nil
}

// sessionsOf lists the sessions of a request in doubt. It retries a service that fails, up to listPatience: the service may be down,
// which may be why the answer was lost.
func (r *Renter) sessionsOf(ctx context.Context, d *doubt) ([]shopper.Session, error) {
	begun := time.Now()
	pause := pace.New(time.Second, 5*time.Second)
	for {
		sessions, err := r.listOf(ctx, d)
		if err == nil {
			return sessions, nil
		}
		if time.Since(begun) > r.listPatience || shopper.IsUnauthorized(err) || pause.Wait(ctx) != nil {
			return nil, err
		}
	}
}

func (r *Renter) listOf(ctx context.Context, d *doubt) ([]shopper.Session, error) {
	if d.mark == "" {
		session, err := r.service.Session(ctx, d.known.ID)
		if shopper.IsNotFound(err) {
			return nil, r.proof(ctx, d.known, err)
		}
		return []shopper.Session{session}, err
	}
	sessions, err := r.service.Sessions(ctx, shopper.SessionFilter{ConsumerID: d.mark})
	// The caller releases what is listed, so the service's filter is not trusted.
	return slices.DeleteFunc(sessions, func(s shopper.Session) bool { return s.ConsumerID != d.mark }), err
}

// ended reports whether the session as read proves that it doesn't bill. A failed session without a machine never had one that the
// service knows of, and stays failed.
func ended(s shopper.Session) bool {
	return s.Status == shopper.Stopped || s.Status == shopper.Failed && !hasMachine(s)
}

// hasMachine reports whether the cloud has provided a machine for s. The service then knows at least the user: two
// clouds report the address only later.
func hasMachine(s shopper.Session) bool {
	return s.SSHUser != "" || s.SSHHost != "" || s.Status == shopper.Running
}

// notSent reports whether err proves that no request was sent.
func notSent(err error) bool {
	return errors.Is(err, shopper.ErrInvalid) || shopper.IsUnreachable(err) && !shopper.IsAmbiguous(err)
}

// mayBeUnderWay reports whether the request that failed with err can still be in progress. It can't when the service itself has
// answered, except with 409: for a unique mark, that means that a proxy sent the request twice, and that this is the answer to one
// of the two.
func mayBeUnderWay(err error) bool {
	if ambiguous, ok := errors.AsType[*shopper.AmbiguousError](err); ok {
		return !ambiguous.Answered
	}
	answer, ok := errors.AsType[*shopper.Error](err)
	return !ok || answer.Status == http.StatusConflict
}

// Settled is the result of settling what earlier runs left.
type Settled struct {
	// Released are the IDs of the sessions that were released.
	Released []string
	// Warnings are about these sessions, and about what could not be read from or written to the journal.
	Warnings []string
}

func (s *Settled) warn(problem error) { s.Warnings = append(s.Warnings, problem.Error()) }

// Settle releases what the journal proves to be left over under the names, except those under which another run works. It makes no
// request where the journal has no entry. An error means that a machine may be left.
func (r *Renter) Settle(ctx context.Context, names Names) (settled Settled, err error) {
	keys, err := r.keys(names, r.isUnseen)
	if err != nil {
		settled.warn(err)
	}
	var errs []error
	for _, key := range keys {
		errs = append(errs, r.settleUnder(ctx, key, &settled))
	}
	return settled, errors.Join(errs...)
}

func (r *Renter) settleUnder(ctx context.Context, key string, settled *Settled) error {
	locked, err := r.journal.TryLock(key)
	if err != nil {
		if err := ignoreLocked(err); err != nil {
			settled.warn(err)
		}
		return nil
	}
	defer locked.Unlock()
	return r.settleLeftovers(ctx, locked, settled)
}

// settleLeftovers settles the entries under a locked name, and removes those whose rental has ended.
func (r *Renter) settleLeftovers(ctx context.Context, name *journal.Name, settled *Settled) error {
	entries, problems := r.entries(name)
	for _, problem := range problems {
		settled.warn(problem)
	}
	var errs []error
	for _, e := range entries {
		over, err := r.settleEntry(ctx, e, settled)
		errs = append(errs, err)
		if err == nil && over {
			if err := e.remove(); err != nil {
				settled.warn(err)
			}
		}
	}
	return errors.Join(errs...)
}

// settleEntry settles one entry, and reports whether it can be removed.
func (r *Renter) settleEntry(ctx context.Context, e *entry, settled *Settled) (bool, error) {
	if _, inState := r.inState.Load(e.Mark); inState || e.InState {
		return false, nil
	}
	if !r.isLeftover(e) {
		// Terraform has recorded it, or another computer may be renting it. If it is live, the *ConflictError names it.
		_, over := r.leftOf(ctx, e)
		return over, nil
	}
	d := r.doubtOf(e)
	over, err := r.settle(ctx, d, briefly)
	settled.Released = append(settled.Released, d.released...)
	settled.Warnings = append(settled.Warnings, d.remarks...)
	return over, err
}

// releasing returns a context for a release. A cancel of ctx doesn't end it; ctx's deadline does, or releaseLimit where there is none,
// or too little time is left.
func releasing(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if least := time.Now().Add(releaseLimit / 4); !ok || deadline.Before(least) {
		deadline = time.Now().Add(releaseLimit)
	}
	return until(ctx, deadline)
}

// until returns a context that ends at the deadline. A cancel of ctx doesn't end it; the log then says why the process goes on.
func until(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			tflog.Warn(ctx, "Interrupted: waiting until the rented machine is released",
				map[string]any{"until": deadline.UTC().Format(time.RFC3339)})
		}
	})
	limited, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	return limited, func() {
		stop()
		cancel()
	}
}
