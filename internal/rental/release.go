package rental

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Release gives a session's machine back and returns nil only once the session,
// and every replacement that the service rented for it, reads stopped or is
// unknown. Otherwise the error is a *NotReleasedError.
//
// Cancelling ctx doesn't stop it; ctx's deadline does, or 20 minutes where it
// has none.
func (r *Renter) Release(ctx context.Context, id string) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(releaseLimit)
	}
	limited, cancel := until(ctx, deadline)
	defer cancel()
	return r.release(limited, shopper.Session{ID: id})
}

// ReleaseSession is Release for a session in Terraform's state: it tells the
// journal, and settles what that still doubts under the session's name, since
// this may be the last call there is. The warnings say what the journal could
// not be asked or told.
func (r *Renter) ReleaseSession(ctx context.Context, id, consumerID string) (warnings []string, err error) {
	if err := r.Release(ctx, id); err != nil {
		return nil, err
	}
	mark, ok := ParseMark(consumerID)
	if !ok {
		return nil, nil
	}
	r.budget.drop(mark)
	if err := r.journal.seen(mark); err != nil {
		warnings = append(warnings, err.Error())
	}
	left, err := r.leftovers(ctx, mark)
	for _, problem := range left.problems {
		warnings = append(warnings, problem.Error())
	}
	return warnings, err
}

// Remark is what the service says of a session that this process has released and
// that lets doubt whether its machine is gone, "" for nothing: it gives up on a
// release that its cloud refuses, and calls the session stopped all the same.
func (r *Renter) Remark(id string) string {
	remark, _ := r.remarks.Load(id)
	text, _ := remark.(string)
	return text
}

// remark keeps what Remark tells of a session that was known as root.
func (r *Renter) remark(root string, ended shopper.Session) {
	if !strings.Contains(strings.ToLower(ended.Error), "manual cleanup") {
		return
	}
	r.remarks.Store(root, fmt.Sprintf("Session %s reads %q, and the shopper says of it: %s. Its cloud may not have confirmed that the machine"+
		" ($%.4g an hour) is gone: look for it in the cloud's own console.", ended.ID, ended.Status, strings.TrimSuffix(ended.Error, "."),
		ended.PricePerHour))
}

// release follows a session and its replacements until all have ended. What is
// known of the session may be its id alone.
func (r *Renter) release(ctx context.Context, known shopper.Session) error {
	queue := []shopper.Session{known}
	for n := 0; n < len(queue); n++ {
		if n > maxChildren {
			return &NotReleasedError{
				SessionID: queue[n].ID, Last: queue[n], Err: errors.New("it is one of too many replacements for a failed session"),
			}
		}
		last, err := r.releaseOne(ctx, queue[n])
		if err != nil {
			return err
		}
		r.remark(known.ID, last)
		children, err := r.replacements(ctx, last)
		if err != nil {
			return err
		}
		for _, child := range children {
			if !among(queue, child.ID) {
				queue = append(queue, child)
			}
		}
	}
	return nil
}

func among(sessions []shopper.Session, id string) bool {
	for _, s := range sessions {
		if s.ID == id {
			return true
		}
	}
	return false
}

// releaseOne gives back one session, and returns it as it was read last.
func (r *Renter) releaseOne(ctx context.Context, known shopper.Session) (shopper.Session, error) {
	pause := newPace(200*time.Millisecond, 5*time.Second)
	last := known
	var trouble error
	var asked time.Time
	for {
		if mustAsk(last.Status, asked) {
			asked = time.Now()
			err := r.service.Delete(ctx, known.ID)
			if shopper.IsNotFound(err) {
				return last, nil
			}
			trouble = worth(trouble, err)
		}
		session, err := r.service.Session(ctx, known.ID)
		switch {
		case shopper.IsNotFound(err):
			return last, nil
		case err != nil:
			trouble = worth(trouble, err)
		case gone(session):
			return session, nil
		default:
			last = session
		}
		if err := pause.wait(ctx); err != nil {
			return last, notReleased(last, fmt.Errorf("no time is left: %w", errors.Join(err, trouble)))
		}
	}
}

// worth returns the trouble that an error has to tell of: the end of the time is
// the least of it.
func worth(earlier, err error) error {
	if err == nil || earlier != nil && errors.Is(err, context.DeadlineExceeded) {
		return earlier
	}
	return err
}

func notReleased(last shopper.Session, err error) error {
	if _, ok := errors.AsType[*NotReleasedError](err); ok {
		return err
	}
	state := &NotReleasedError{SessionID: last.ID, Err: err}
	if last.Status != "" { // more is known of it than its id
		state.Last = last
	}
	return state
}

// gone reports whether what was read proves that nothing bills for the session.
// A failed one that was given no machine never had one; the service leaves it
// failed for good.
func gone(s shopper.Session) bool {
	return s.Status == shopper.Stopped || s.Status == shopper.Failed && !hasMachine(s)
}

// mustAsk reports whether a DELETE is to be sent. One at work is left alone for a
// while; a session that reads anything but stopping has not been listened to.
func mustAsk(status shopper.Status, asked time.Time) bool {
	return asked.IsZero() || status != shopper.Stopping && status.Known() || time.Since(asked) > repeatDelete
}

// replacements returns what the service rented in place of a session that has
// ended. It names the child in the parent, or forgets to: while a session that
// replaces itself is being destroyed its row is written from two sides, and the
// child alone tells whose it is.
func (r *Renter) replacements(ctx context.Context, s shopper.Session) ([]shopper.Session, error) {
	var children []shopper.Session
	if s.RetryChildID != "" {
		children = append(children, shopper.Session{ID: s.RetryChildID})
	}
	if !s.AutoRetry {
		return children, nil
	}
	pause := newPace(time.Second, 5*time.Second)
	for range looks {
		sessions, err := r.service.Sessions(ctx, shopper.SessionFilter{ConsumerID: s.ConsumerID})
		if err != nil {
			return nil, notReleased(s, fmt.Errorf("it has ended, and what the service rented in its place could not be listed: %w", err))
		}
		for _, other := range sessions {
			if other.RetryParentID == s.ID && !among(children, other.ID) {
				children = append(children, other)
			}
		}
		if len(children) > 0 {
			break
		}
		if err := pause.wait(ctx); err != nil {
			return nil, notReleased(s, fmt.Errorf("it has ended, and the service may be renting another in its place: %w", err))
		}
	}
	return children, nil
}
