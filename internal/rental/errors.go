package rental

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// NoOfferError says that no offer could be chosen.
type NoOfferError struct {
	// OfferID is the requested offer, "" where requirements choose.
	OfferID string
	// Cloud is the only cloud whose offers were listed, "" for all.
	Cloud string
	// Total counts the offers, Fit those that meet the requirements, all of which have been
	// tried; Rejected are the others, closest first.
	Total, Fit int
	Rejected   []Rejection
	Err        error
}

func (e *NoOfferError) Error() string {
	switch {
	case e.OfferID != "":
		return fmt.Sprintf("The shopper has no offer %s: it is rented, withdrawn, or hidden for a while after a failure. List the"+
			" current offers with the data source shopper_gpu_offers, or set requirements instead of offer_id. (%v)", e.OfferID, e.Err)
	case e.Fit == 1:
		return "The only offer that meets the requirements has been tried."
	case e.Fit > 0:
		return fmt.Sprintf("All %d offers that meet the requirements have been tried.", e.Fit)
	default:
		return explain(e.Cloud, e.Total, e.Rejected)
	}
}

func (e *NoOfferError) Unwrap() error { return e.Err }

// NotReadyError says that the service was still starting up when the wait timed out.
type NotReadyError struct {
	URL    string
	Waited time.Duration
}

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("The shopper at %s is starting and was not ready after %s. It looks for machines left over from its last run"+
		" before it rents new ones; its log shows the progress.", e.URL, e.Waited)
}

// UnusableError says why a rented machine can't be used.
type UnusableError struct {
	SessionID, Reason string
	// Released is true once the machine has been released.
	Released bool
	Err      error
}

func (e *UnusableError) Error() string {
	text := fmt.Sprintf("session %s: %s", e.SessionID, e.Reason)
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Released {
		text += ". It has been released and no longer costs anything"
	}
	return text
}

func (e *UnusableError) Unwrap() error { return e.Err }

// AttemptsError says why none of the offers that were tried could be rented.
type AttemptsError struct {
	Attempts []Attempt
	// Last is why no further offer was tried, nil where the number of attempts was used up.
	Last error
}

func (e *AttemptsError) Error() string {
	var b strings.Builder
	what := "%d offers were tried:\n"
	if len(e.Attempts) == 1 {
		what = "%d offer was tried:\n"
	}
	fmt.Fprintf(&b, what, len(e.Attempts))
	for _, a := range e.Attempts {
		fmt.Fprintf(&b, "  %s (%s/h): %v\n", a.Offer.ID, Dollars(a.Offer.PricePerHour), a.Err)
	}
	if e.Last != nil {
		fmt.Fprintf(&b, "\n%v\n", e.Last)
	}
	return strings.TrimRight(b.String(), "\n")
}

// Unwrap returns the attempts' errors and what ended the search.
func (e *AttemptsError) Unwrap() []error {
	var all []error
	for _, a := range e.Attempts {
		all = append(all, a.Err)
	}
	return append(all, withoutNil(e.Last)...)
}

// CanceledError says that renting was interrupted by the user, and that the
// machine has been released.
type CanceledError struct {
	// SessionID is "" where nothing had been rented yet.
	SessionID string
	Err       error
}

func (e *CanceledError) Error() string {
	if e.SessionID == "" {
		return "Interrupted before a machine was requested. Nothing was rented."
	}
	return fmt.Sprintf("Interrupted while waiting for session %s. It has been released and no longer costs anything.", e.SessionID)
}

func (e *CanceledError) Unwrap() error { return e.Err }

// NotReleasedError says that the end of a session could not be confirmed.
type NotReleasedError struct {
	SessionID string
	// Last is the session as read last; its ID is "" if it could not be read.
	Last shopper.Session
	Err  error
}

func (e *NotReleasedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "The end of session %s could not be confirmed", e.SessionID)
	if e.Last.ID != "" {
		fmt.Fprintf(&b, ": its last status was %q. It may keep costing %s an hour until its reservation ends (%s)", e.Last.Status,
			Dollars(e.Last.PricePerHour), e.Last.ExpiresAt.UTC().Format(time.RFC3339))
	} else {
		b.WriteString(", because its status could not be read. It may keep costing money until its reservation ends")
	}
	b.WriteString(". Run destroy again, or look for the machine in the cloud's console.")
	if e.Err != nil {
		fmt.Fprintf(&b, " Last error: %v", e.Err)
	}
	return b.String()
}

func (e *NotReleasedError) Unwrap() error { return e.Err }

// UnprovedError says that the service doesn't know a session, but that its machine may bill anyway.
type UnprovedError struct {
	SessionID string
	// Rented is the URL of the service that rented it, where Asked is another one;
	// "" where the machine still answers.
	Rented, Asked string
	Err           error
}

func (e *UnprovedError) Error() string {
	if e.Rented != "" {
		return fmt.Sprintf("The shopper at %s doesn't know session %s, which the shopper at %s rented. Its machine may still cost"+
			" money. Set the provider's url to %s to release it. (%v)", e.Asked, e.SessionID, e.Rented, e.Rented,
			e.Err)
	}
	return fmt.Sprintf("The shopper at %s no longer knows session %s, but its machine still answers with the same host key: it costs"+
		" money, and the shopper can't release it. The shopper may have lost its database. Destroy the machine in the cloud's console;"+
		" once it no longer answers, the session is removed from state. (%v)", e.Asked, e.SessionID, e.Err)
}

func (e *UnprovedError) Unwrap() error { return e.Err }

// KeptError says that a rental can't be used, and that its release could not be confirmed.
type KeptError struct {
	Cause, Release error
}

func (e *KeptError) Error() string {
	return fmt.Sprintf("%v\n\nReleasing it failed too. %v", e.Cause, e.Release)
}

// Unwrap returns both.
func (e *KeptError) Unwrap() []error { return []error{e.Cause, e.Release} }

// DoubtError says that a request's answer was lost, and that the session that it may have created could not be looked for or
// released.
type DoubtError struct {
	Cause error
	Mark  Mark
	// Found are sessions that were found and released.
	Found []string
	Err   error
	// Forgotten is true without a journal: no later call looks again.
	Forgotten bool
}

func (e *DoubtError) Error() string {
	then := "The next apply looks for it again; a destroy only releases what is in state."
	if e.Forgotten {
		then = "Without a journal, no later run looks for it: find a session with that consumer_id, and release it."
	}
	return fmt.Sprintf("%v\n\nIt is unknown whether this rented a machine. One may cost money under the consumer_id %s:"+
		" %v\n\n%s", e.Cause, e.Mark, e.Err, then)
}

// Unwrap returns both.
func (e *DoubtError) Unwrap() []error { return []error{e.Cause, e.Err} }

// ConflictError says that another machine is rented, or being rented, under the name, and that it could not be verified as a
// leftover.
type ConflictError struct {
	Name     string
	Sessions []shopper.Session
	Journal  string
	// Here is true where this run of Terraform has rented under the name, or is renting:
	// then there may be no sessions yet.
	Here bool
	// Unseen is true where Name is a prefix, and an earlier run has handed over the
	// sessions, but no refresh has seen them in state since.
	Unseen bool
	// Released is the ID of this run's session, which was the younger one and has been
	// released.
	Released string
}

func (e *ConflictError) Error() string {
	const ownName = "Give each session a unique name: it finds the machine again after a crash."
	if len(e.Sessions) == 0 {
		who := "Another run is using"
		if e.Here {
			who = "Another resource of this configuration is using"
		}
		return fmt.Sprintf("%s the name %q, so nothing was rented for this one. %s", who, e.Name, ownName)
	}
	var b strings.Builder
	what := "name"
	if e.Unseen {
		what = "prefix"
	}
	fmt.Fprintf(&b, "A machine is already rented under the %s %q:\n", what, e.Name)
	for _, s := range e.Sessions {
		fmt.Fprintf(&b, "  session %s, %s, %d × %s on %s, %s/h, since %s\n", s.ID, s.Status, s.GPUCount, s.GPUType, s.Cloud,
			Dollars(s.PricePerHour), s.CreatedAt.UTC().Format(time.RFC3339))
	}
	switch {
	case e.Here:
		return b.String() + "\nThis run has rented it for another resource of this configuration. " + ownName
	case e.Unseen:
		return b.String() + "\nAn earlier run returned it to Terraform, and no refresh has found it in state since. If it is in state," +
			" apply with a refresh. If not, that run ended before the state was written: import it, or release it yourself."
	case e.Released != "":
		return b.String() + fmt.Sprintf("\nAnother run rented it while this one rented session %s. The newer session was released: %s"+
			" no longer costs anything. %s", e.Released, e.Released, ownName)
	}
	b.WriteString("\nIt could not be verified as a leftover: it may belong to another stack. Import it, choose another name, release it" +
		" yourself, or set on_conflict = \"replace\" to have it released. With create_before_destroy the old machine still has the" +
		" name: use name_prefix instead of name.")
	if e.Journal == "" {
		b.WriteString(" (The journal is turned off, so leftovers of a crashed run can't be distinguished from other sessions.)")
	}
	return b.String()
}

// BudgetError says that a rental would exceed the provider's budget.
type BudgetError struct {
	Ceiling, Spent, Price float64 // USD per hour
	Sessions              int
}

func (e *BudgetError) Error() string {
	return fmt.Sprintf("The provider's budget allows %s an hour. %d live sessions of this consumer and the rentals of this run"+
		" already cost %s; the offer costs %s more. Destroy a session, raise budget.max_price_per_hour, or request a cheaper"+
		" machine.", Dollars(e.Ceiling), e.Sessions, Dollars(e.Spent), Dollars(e.Price))
}

// ExtendError says that the extension of a reservation could not be confirmed.
type ExtendError struct {
	SessionID    string
	Wanted, Read int   // hours
	Ask, Err     error // of the request, and of reading the session afterwards; nil for none
}

func (e *ExtendError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Session %s should be reserved for %d hours, but is reserved for %d.", e.SessionID, e.Wanted, e.Read)
	if e.Ask != nil {
		fmt.Fprintf(&b, " The request: %v.", e.Ask)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, " Reading it afterwards: %v.", e.Err)
	}
	b.WriteString(" It was not retried, because that could add the hours twice; the next apply reads the reservation first.")
	return b.String()
}

// Unwrap returns both.
func (e *ExtendError) Unwrap() []error { return withoutNil(e.Ask, e.Err) }

func withoutNil(errs ...error) []error {
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// noted is an error with further notes for the user.
type noted struct {
	err   error
	notes []string
}

func (e *noted) Error() string {
	text := e.err.Error()
	if !strings.Contains(text, "\n") && !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text + "\n\n" + strings.Join(e.notes, "\n")
}

func (e *noted) Unwrap() error { return e.err }

// lostError is a request that was refused, or whose answer was lost, and of which no session is left.
type lostError struct {
	err       error
	released  []string
	unsettled bool
}

func (e *lostError) Error() string {
	switch {
	case len(e.released) > 0:
		return fmt.Sprintf("%v (its rental was found by its mark and released: %v)", e.err, e.released)
	case e.unsettled:
		return fmt.Sprintf("%v (nothing was found under its mark, which is searched again until the request must have ended)", e.err)
	}
	return e.err.Error()
}

func (e *lostError) Unwrap() error { return e.err }
