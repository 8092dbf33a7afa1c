package rental

import (
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

// doubt is a request that rents and of which it isn't known whether it has made,
// or will still make, a session that nobody uses.
type doubt struct {
	// mark is what its sessions carry. Without one there is only the session known.
	mark  string
	known Known
	entry *entry // the journal's, nil where it has none
	// until is when the request can no longer be under way. While it is, a session
	// without a machine that is stopped can come back to life.
	until time.Time
	// lost is true where nothing but the session's row tells how the request ended.
	lost bool

	// What came of it: sessions that were released, and what is worth knowing of them.
	released, remarks []string
}

func (d *doubt) remark(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(d.remarks, text) {
		d.remarks = append(d.remarks, text)
	}
}

// patience is how long settle looks for a session that it can't find.
type patience bool

const (
	briefly  patience = false // a few looks: the journal tells a later run
	toTheEnd patience = true  // until the request can no longer be under way
)

// settle releases what the doubtful request has made, and reports whether that is
// all: the request has come to its end and nothing of it bills. A session that can
// come back to life is watched until it can't, or until ctx is canceled. A release
// goes on after a cancel.
func (r *Renter) settle(ctx context.Context, d *doubt, patience patience) (bool, error) {
	pause := pace.New(200*time.Millisecond, 5*time.Second)
	for look := 1; ; look++ {
		late := !time.Now().Before(d.until) // judged before the sessions are listed
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

// releaseFound releases the sessions of a request in doubt that there are now. It
// reports whether there are any, and whether they prove that the request has come
// to its end.
func (r *Renter) releaseFound(ctx context.Context, d *doubt) (found, decided bool, err error) {
	ctx, cancel := releasing(ctx)
	defer cancel()
	sessions, err := r.sessionsOf(ctx, d)
	if err != nil {
		return false, false, err
	}
	if d.mark == "" && len(sessions) == 0 {
		return false, true, nil // unknown to the service that rented it
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
			// Seen: the service was killed while its cloud made the machine, which billed for
			// five minutes. No request of a client's reaches that.
			d.remark("The answer to the request that created session %s was lost, and the session has failed without a known machine"+
				" (%s). If the shopper was stopped meanwhile, its cloud may have created one anyway: the shopper's operator can look"+
				" for the session's ID, or its mark %s, among the cloud's machines.", s.ID, orNone(s.Error), s.ConsumerID)
		}
	}
	return len(sessions) > 0, decided, nil
}

func orNone(text string) string {
	if text == "" {
		return "it gives no reason"
	}
	return text
}

// sessionsOf lists the sessions of a request in doubt. It is patient with a
// service that fails: an answer that was lost and a service that is down come
// together.
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
	// What is found is released, so nothing else may be among it.
	return slices.DeleteFunc(sessions, func(s shopper.Session) bool { return s.ConsumerID != d.mark }), err
}

// ended reports whether what was read proves that nothing bills for the session.
// A failed one that was given no machine never had one that the service knows of,
// and is left failed for good.
func ended(s shopper.Session) bool {
	return s.Status == shopper.Stopped || s.Status == shopper.Failed && !hasMachine(s)
}

// hasMachine reports whether a cloud has answered the request that made s with a
// machine. The service then writes the user to log in as, at least: two of the
// clouds tell the address only later.
func hasMachine(s shopper.Session) bool {
	return s.SSHUser != "" || s.SSHHost != "" || s.Status == shopper.Running
}

// notSent reports whether err proves that no request was sent.
func notSent(err error) bool {
	return errors.Is(err, shopper.ErrInvalid) || shopper.IsUnreachable(err) && !shopper.IsAmbiguous(err)
}

// mayBeUnderWay reports whether the request that failed with err can still be at
// work. It is not when the service itself has answered; but a 409 for a mark
// that is used once means that something on the way sent the request twice, and
// answers for one of the two.
func mayBeUnderWay(err error) bool {
	if ambiguous, ok := errors.AsType[*shopper.AmbiguousError](err); ok {
		return !ambiguous.Answered
	}
	answer, ok := errors.AsType[*shopper.Error](err)
	return !ok || answer.Status == http.StatusConflict
}

// Settled is what came of looking for what earlier runs left.
type Settled struct {
	// Released are the sessions that were released.
	Released []string
	// Warnings are what is worth knowing of them, and what the journal could not be
	// asked or told; nothing else depends on the journal.
	Warnings []string
}

func (s *Settled) warn(problem error) { s.Warnings = append(s.Warnings, problem.Error()) }

// Settle releases what the journal proves to be left over under the names, where no
// other run is at work. It makes no request when the journal knows of
// nothing. Its error says that a machine may be left.
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

// settleLeftovers settles the entries under a name that is locked, and forgets
// those whose rental has ended.
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

// settleEntry reports whether an entry needs to be remembered no longer.
func (r *Renter) settleEntry(ctx context.Context, e *entry, settled *Settled) (bool, error) {
	if _, inState := r.inState.Load(e.Mark); inState || e.InState {
		return false, nil
	}
	if !r.isLeftover(e) {
		// Terraform knew of it, or another computer may be at work on it. If it is alive
		// the conflict names it.
		_, over := r.leftOf(ctx, e)
		return over, nil
	}
	d := r.doubtOf(e)
	over, err := r.settle(ctx, d, briefly)
	settled.Released = append(settled.Released, d.released...)
	settled.Warnings = append(settled.Warnings, d.remarks...)
	return over, err
}

// releasing returns a context for a release: a cancel of ctx doesn't end
// it, ctx's deadline does, or releaseLimit where it has none.
func releasing(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	// A deadline that has passed, or nearly so, leaves no time for that.
	if least := time.Now().Add(releaseLimit / 4); !ok || deadline.Before(least) {
		deadline = time.Now().Add(releaseLimit)
	}
	return until(ctx, deadline)
}

// until returns a context that the deadline ends, and a cancel of ctx does not:
// the log then tells why the process is still at work.
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
