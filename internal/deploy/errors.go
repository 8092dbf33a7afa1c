package deploy

import (
	"errors"
	"fmt"
	"strings"
)

// Error is what every function of this package returns when it fails. No part of it holds a secret.
type Error struct {
	// Phase is where it failed.
	Phase Phase
	// Summary says what failed in about five words, capitalised.
	Summary string
	// Detail says what happened; one or more sentences. It may be empty.
	Detail string
	// Cause and WayOut are a sentence each; both empty when the cause isn't known.
	Cause, WayOut string
	// OfMachine is set where the cause lies in the machine, so that another one may not have it.
	OfMachine bool
	// Findings are what preflight found; set when Phase is PhasePreflight.
	Findings []Finding
	// Log are the server's last lines that say something, masked.
	Log []string
	// LogErr is why the log could not be read.
	LogErr error
	// Started is set when something had been started on the machine, and Remains is the truth about it.
	Started bool
	// Remains says what is left on the machine and how to reach it; "" when nothing is.
	Remains string
	// stuck is set when what remains may be a running server that nobody asked to keep.
	stuck bool
	// Err is the cause; a context's error stays recognisable in it.
	Err error
}

// Error says which phase failed and why, in one line.
func (e *Error) Error() string {
	text := string(e.Phase) + ": " + e.Summary
	switch {
	case e.Cause != "":
		text += ": " + e.Cause
	case e.Err != nil:
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Description is the body of a diagnostic: everything but the summary, in paragraphs.
func (e *Error) Description() string {
	var parts []string
	add := func(text string) {
		if text != "" {
			parts = append(parts, text)
		}
	}
	if e.Cause == "" && e.Err != nil {
		add(sentence(e.Err.Error()))
	}
	add(e.Cause)
	add(e.WayOut)
	add(e.Detail)
	var more []string
	for _, finding := range e.Findings {
		if finding.Fact != e.Cause { // that one has been said
			more = append(more, "- "+finding.String())
		}
	}
	if len(more) > 0 {
		add("Preflight found besides:\n" + strings.Join(more, "\n"))
	}
	if e.LogErr != nil {
		add(fmt.Sprintf("The server's log could not be read: %s.", brief(e.LogErr)))
	}
	if len(e.Log) > 0 {
		add("The log's last relevant lines:\n  " + strings.Join(e.Log, "\n  "))
	}
	switch {
	case e.Remains != "":
		add("Left on the machine: " + e.Remains + ".")
	case e.Started:
		add("What was started has been removed from the machine.")
	}
	return strings.Join(parts, "\n\n")
}

// sentence capitalises and ends an error's text, which Go writes as a fragment.
func sentence(text string) string {
	if text == "" || strings.Contains(text, "\n") {
		return text
	}
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// AsError returns the first [*Error] in err's chain.
func AsError(err error) (*Error, bool) {
	return errors.AsType[*Error](err)
}
