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

// CreateSession rents a machine. It sends one request, never repeats it, and waits for the answer up to CreateTimeout, or until ctx
// ends. Since the machine may be rented even after a cancel, callers should pass a context that a Ctrl-C doesn't cancel.
//
// An *AmbiguousError means that the machine may exist; any other error means that it doesn't.
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

// decodeCreated parses the answer to a rental, which must have a session with an ID, and the private key.
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

// judge wraps the error of a failed write in an *AmbiguousError where the write can have taken effect.
func (c *call) judge(err error) error {
	failed, ok := errors.AsType[*Error](err)
	if !ok || !c.mayHaveTakenEffect(failed) {
		return err
	}
	answered := !failed.Foreign && (failed.Status == http.StatusInternalServerError || failed.Status == http.StatusServiceUnavailable)
	return &AmbiguousError{Err: failed, Answered: answered}
}

// mayHaveTakenEffect is true in doubt: the search for a machine that doesn't exist costs a request, a machine that nobody looks for
// costs money.
//
// Of the service's error types with a 5xx only two prove that nothing was rented. The service chooses the others by words in the
// cloud's message ("timeout", "not found", "invalid", "connection refused"), which may be about a later request than the one that
// rented.
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

// Extend adds hours to a reservation and returns its new end. It sends one request: a repeated one could add the hours twice. After
// an *AmbiguousError, the session's ReservationHours show whether it took effect.
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

// Delete sends one request to destroy a session's machine, and waits up to DeleteTimeout. Neither success nor failure proves
// anything about the machine: only reading the session does. When the service doesn't know the
// session, IsNotFound is true for the error.
func (c *Client) Delete(ctx context.Context, id string) error {
	call := c.write(about("deleting session", id), http.MethodDelete, c.at(nil, "api", "v1", "sessions", id), DeleteTimeout)
	if err := ValidateID(id); err != nil {
		return call.invalid(err)
	}
	return call.do(ctx)
}
