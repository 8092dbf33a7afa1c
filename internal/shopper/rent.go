package shopper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// CreateSession rents. It sends one request, waits for its answer up to
// CreateTimeout, or less when ctx ends earlier, and never repeats it: after a
// cancel the machine may be rented all the same, so callers hand in a context
// that outlives a Ctrl-C.
//
// An *AmbiguousError means that the machine may exist; any other error that it
// doesn't.
func (c *Client) CreateSession(ctx context.Context, rental CreateSession) (Created, error) {
	call := c.write("creating a session", http.MethodPost, c.at(nil, "api", "v1", "sessions"), CreateTimeout)
	if err := rental.validate(); err != nil {
		return Created{}, call.invalid(err)
	}
	body, err := json.Marshal(rental)
	if err != nil {
		return Created{}, call.invalid(err)
	}
	call.body = body
	var created Created
	call.decode = func(body []byte) (err error) {
		created, err = decodeCreated(body)
		return err
	}
	if err := call.do(ctx); err != nil {
		return Created{}, call.judge(err)
	}
	return created, nil
}

func (r CreateSession) validate() error {
	switch {
	case r.ConsumerID == "":
		return errors.New("consumer_id is empty")
	case r.OfferID == "":
		return errors.New("offer_id is empty")
	case !slices.Contains(WorkloadTypes(), r.WorkloadType):
		return fmt.Errorf("workload_type %q is not one of %v", r.WorkloadType, WorkloadTypes())
	case r.ReservationHours < 1 || r.ReservationHours > MaxReservationHours:
		return fmt.Errorf("reservation_hours is %d, it must be between 1 and %d", r.ReservationHours, MaxReservationHours)
	case r.DiskGB < 0 || r.SSHTimeoutMinutes < 0:
		return errors.New("disk_gb and ssh_timeout_minutes can't be negative")
	case r.TemplateHashID != "":
		return ValidateID(r.TemplateHashID)
	}
	return nil
}

// decodeCreated insists on what makes a rental usable: the session under its
// own key, with an id, and the private key.
func decodeCreated(body []byte) (Created, error) {
	var answer struct {
		Session    *Session `json:"session"`
		PrivateKey string   `json:"ssh_private_key"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return Created{}, err
	}
	switch {
	case answer.Session == nil:
		return Created{}, errors.New("it has no session")
	case answer.Session.ID == "":
		return Created{}, errors.New("its session has no ID")
	case answer.PrivateKey == "":
		return Created{}, errors.New("it has no ssh_private_key")
	}
	if err := ValidateID(answer.Session.ID); err != nil {
		return Created{}, fmt.Errorf("its session's ID is invalid: %v", err) //nolint:errorlint // not ErrInvalid: something was sent
	}
	answer.Session.toUTC()
	return Created{Session: *answer.Session, PrivateKey: answer.PrivateKey}, nil
}

// judge decides whether a failed write can have taken effect.
func (c *call) judge(err error) error {
	failed, ok := errors.AsType[*Error](err)
	if !ok || !c.mayHaveTakenEffect(failed) {
		return err
	}
	answered := !failed.Foreign && (failed.Status == http.StatusInternalServerError || failed.Status == http.StatusServiceUnavailable)
	return &AmbiguousError{Err: failed, Answered: answered}
}

// mayHaveTakenEffect errs on the side of "yes": a search for a machine that
// isn't there costs a request, a machine that nobody looks for costs money.
//
// Of the service's error types on a 5xx only two prove that nothing was
// rented. The others are chosen by words in the cloud's message ("timeout",
// "not found", "invalid", "connection refused"), which can come from a request
// after the one that rented.
func (c *call) mayHaveTakenEffect(failed *Error) bool {
	switch status := failed.Status; {
	case status == 0:
		return c.sent.Load()
	case status < 300:
		return true // accepted, and the answer was lost
	case status < 400:
		return false // redirects are not followed
	case status < 500:
		return status == http.StatusRequestTimeout
	}
	refused := failed.Type == TypeStaleInventory || failed.Type == TypeInsufficientDisk
	return failed.Foreign || !refused
}

// Extend adds hours to a reservation and returns its new end. It is sent once:
// repeating it after a lost answer would add the hours twice. After an
// *AmbiguousError reading the session's ReservationHours tells.
func (c *Client) Extend(ctx context.Context, id string, additionalHours int) (time.Time, error) {
	call := c.write(about("extending session", id), http.MethodPost, c.at(nil, "api", "v1", "sessions", id, "extend"), ExtendTimeout)
	if err := ValidateID(id); err != nil {
		return time.Time{}, call.invalid(err)
	}
	if additionalHours < 1 || additionalHours > MaxReservationHours {
		return time.Time{}, call.invalid(fmt.Errorf("additional_hours is %d, it must be between 1 and %d",
			additionalHours, MaxReservationHours))
	}
	call.body = fmt.Appendf(nil, `{"additional_hours":%d}`, additionalHours)
	var expires time.Time
	call.decode = func(body []byte) error {
		var answer struct {
			ExpiresAt time.Time `json:"new_expires_at"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		if answer.ExpiresAt.IsZero() {
			// The service leaves it out when it can't read the session back.
			return errors.New("it has no new_expires_at")
		}
		expires = answer.ExpiresAt.UTC()
		return nil
	}
	if err := call.do(ctx); err != nil {
		return time.Time{}, call.judge(err)
	}
	return expires, nil
}

// Delete asks for a session's machine to be destroyed, once, and waits up to
// DeleteTimeout. Neither its success nor its failure proves anything about the
// machine: only reading the session does. When the service doesn't know the
// session, IsNotFound is true for the error.
func (c *Client) Delete(ctx context.Context, id string) error {
	call := c.write(about("deleting session", id), http.MethodDelete, c.at(nil, "api", "v1", "sessions", id), DeleteTimeout)
	if err := ValidateID(id); err != nil {
		return call.invalid(err)
	}
	return call.do(ctx)
}
