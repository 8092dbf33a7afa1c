package rental

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// Release releases the machine of a session in Terraform's state, and returns nil
// only once the session, and every replacement that the service rented for it, is
// stopped or proved to be unknown. Otherwise the error says what may still bill. It
// tells the journal, and settles what that still doubts under the session's name,
// since this may be the last call there is.
//
// Cancelling ctx doesn't stop it; ctx's deadline does, or 20 minutes where it
// has none.
func (r *Renter) Release(ctx context.Context, known Known) (warnings []string, err error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(releaseLimit)
	}
	limited, cancel := until(ctx, deadline)
	defer cancel()
	d := &doubt{known: known, until: time.Now().Add(r.askLimit)}
	last, err := r.release(limited, shopper.Session{ID: known.ID}, d)
	if err != nil {
		return d.remarks, err
	}
	if last.Status == shopper.Stopped && !hasMachine(last) { // its request may be under way
		if over, err := r.settle(limited, d, toTheEnd); err != nil || !over {
			return d.remarks, notReleased(last, errors.Join(errUnderWay, err, limited.Err()))
		}
	}
	mark, ok := ParseMark(known.ConsumerID)
	if !ok {
		return d.remarks, nil
	}
	r.budget.drop(mark)
	warnings = d.remarks
	if err := r.Seen(mark.String(), ""); err != nil {
		warnings = append(warnings, err.Error())
	}
	left, err := r.Settle(ctx, Names{mark.Name, known.Prefix})
	return append(warnings, left.Warnings...), err
}

var errUnderWay = errors.New("the request that created it may still be in progress")

// gaveUp is what the service says of a session whose release it has given up on,
// because its cloud refuses it: it calls the session stopped all the same.
const gaveUp = "manual cleanup"

// release follows a session and its replacements until all have ended, and returns
// the first as it was read last. What is known of it may be its id alone.
func (r *Renter) release(ctx context.Context, s shopper.Session, d *doubt) (first shopper.Session, err error) {
	queue := []shopper.Session{s}
	for n := 0; n < len(queue); n++ {
		if n > maxChildren {
			return first, &NotReleasedError{
				SessionID: queue[n].ID, Last: queue[n], Err: errors.New("there were too many replacements for a failed session"),
			}
		}
		last, err := r.releaseOne(ctx, queue[n], d.known)
		if err != nil {
			return first, err
		}
		if n == 0 {
			first = last
		}
		if strings.Contains(strings.ToLower(last.Error), gaveUp) {
			d.remark("The status of session %s is %q, with the shopper's message: %s. Its cloud may not have confirmed that the machine"+
				" ($%.4g an hour) is gone: look for it in the cloud's console.", last.ID, last.Status, strings.TrimSuffix(last.Error, "."),
				last.PricePerHour)
		}
		children, err := r.replacements(ctx, last)
		if err != nil {
			return first, err
		}
		for _, child := range children {
			if !among(queue, child.ID) {
				queue = append(queue, child)
			}
		}
	}
	return first, nil
}

func among(sessions []shopper.Session, id string) bool {
	return slices.ContainsFunc(sessions, func(s shopper.Session) bool { return s.ID == id })
}

// releaseOne releases one session, and returns it as it was read last.
func (r *Renter) releaseOne(ctx context.Context, s shopper.Session, known Known) (shopper.Session, error) {
	pause := pace.New(200*time.Millisecond, 5*time.Second)
	last := s
	var trouble error
	asked := false
	for {
		// The service does nothing about a DELETE of a session that is being stopped. In
		// any other status it has not been asked, or has not listened.
		if !asked || last.Status != shopper.Stopping {
			asked = true
			err := r.service.Delete(ctx, s.ID)
			r.burst.forget()
			if shopper.IsNotFound(err) {
				return last, r.proof(ctx, known, err)
			}
			trouble = worth(trouble, err)
		}
		session, err := r.service.Session(ctx, s.ID)
		switch {
		case shopper.IsNotFound(err):
			return last, r.proof(ctx, known, err)
		case err != nil:
			trouble = worth(trouble, err)
		case ended(session):
			return session, nil
		default:
			last = session
		}
		if err := pause.Wait(ctx); err != nil {
			return last, notReleased(last, fmt.Errorf("timed out: %w", errors.Join(err, trouble)))
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
	pause := pace.New(time.Second, 5*time.Second)
	for range looks {
		sessions, err := r.service.Sessions(ctx, shopper.SessionFilter{ConsumerID: s.ConsumerID})
		if err != nil {
			return nil, notReleased(s, fmt.Errorf("it has ended, but the sessions that replace it could not be listed: %w", err))
		}
		for _, other := range sessions {
			if other.RetryParentID == s.ID && !among(children, other.ID) {
				children = append(children, other)
			}
		}
		if len(children) > 0 {
			break
		}
		if err := pause.Wait(ctx); err != nil {
			return nil, notReleased(s, fmt.Errorf("it has ended, but the shopper may be renting a replacement: %w", err))
		}
	}
	return children, nil
}
