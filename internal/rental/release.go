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

// Release releases the machine of a session in Terraform's state. It returns nil only once the session, and every replacement
// that the service rented for it, is stopped, or proved to be gone by a 404. Otherwise the error says what may still bill. Then it
// removes the session from the journal, and settles leftovers under its name, because this may be the last call for that name.
//
// Canceling ctx doesn't stop it; its deadline does, or 20 minutes where it has none.
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
	if last.Status == shopper.Stopped && !hasMachine(last) { // the request that created it may be in progress
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

// gaveUp is in the error of a session that the service gave up releasing, because its cloud refused it. The service sets its status
// to stopped anyway.
const gaveUp = "manual cleanup"

// release releases a session and its replacements, waits until all have ended, and returns the first one as read last. Of s, only the
// ID may be known.
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
				" (%s an hour) is gone: look for it in the cloud's console.", last.ID, last.Status, strings.TrimSuffix(last.Error, "."),
				Dollars(last.PricePerHour))
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

// releaseOne releases one session, and returns it as read last.
func (r *Renter) releaseOne(ctx context.Context, s shopper.Session, known Known) (shopper.Session, error) {
	pause := pace.New(200*time.Millisecond, 5*time.Second)
	last := s
	var trouble error
	asked := false
	for {
		// The service ignores a DELETE of a session that is stopping. In any other status, the DELETE was not sent yet, or had no
		// effect.
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

// worth returns the error to report: the later one, unless that only says that the time is over.
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
	if last.Status != "" { // it was read
		state.Last = last
	}
	return state
}

// replacements returns the sessions that the service rented in place of a session that has ended. The session may not name its
// replacement: while a session with auto-retry is destroyed, two writers change its row. The replacement always names the session.
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
