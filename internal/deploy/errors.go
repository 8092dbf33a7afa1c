package deploy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// Phase is a part of an operation.
type Phase string

// The phases, in their order. The last three are not of a launch.
const (
	PhasePreflight  Phase = "preflight"
	PhasePull       Phase = "pull" // or install, for a process
	PhaseStart      Phase = "start"
	PhaseLoad       Phase = "load"
	PhaseCompletion Phase = "completion"
	PhaseStop       Phase = "stop"
	PhaseRemove     Phase = "remove"
	PhaseInspect    Phase = "inspect"
)

// Severity says how much a [Finding] matters.
type Severity string

// The severities.
const (
	// Blocking findings mean that the server can't work: [Launch] starts nothing.
	Blocking Severity = "error"
	// Warning findings are worth telling and stop nothing.
	Warning Severity = "warning"
)

// Finding is one thing that preflight found, with its way out.
type Finding struct {
	Severity Severity
	// Code names the sort of finding: one of [Codes], or "docker", which nobody can overrule.
	Code string
	// Fact is a sentence that says what is so, WayOut one that says what to do.
	Fact   string
	WayOut string
}

// String is the finding as one line.
func (f Finding) String() string {
	text := f.Fact
	if f.WayOut != "" {
		text += " " + f.WayOut
	}
	return text
}

// Error is what every function of package lifecycle returns when it fails. No part of it holds a secret.
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
	// MayRun is set when what remains may be a running server that nobody asked to keep.
	MayRun bool
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
		add(Sentence(e.Err.Error()))
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
		add(fmt.Sprintf("The server's log could not be read: %s.", Brief(e.LogErr)))
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

// Sentence capitalises and ends an error's text, which Go writes as a fragment.
func Sentence(text string) string {
	if text == "" || strings.Contains(text, "\n") {
		return text
	}
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// Brief says of a lost connection no more than that, where it has been said already what it means.
func Brief(err error) string {
	if host.KindOf(err) == host.Lost || host.KindOf(err) == host.Closed {
		return "the connection is lost"
	}
	return err.Error()
}

// AsError returns the first [*Error] in err's chain.
func AsError(err error) (*Error, bool) {
	return errors.AsType[*Error](err)
}
