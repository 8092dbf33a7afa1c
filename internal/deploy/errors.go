package deploy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
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

// Error is what every function of this package and of those below it returns when it fails. No part of it holds a secret.
type Error struct {
	// Phase is where an operation failed; "" in the error of a runtime.
	Phase Phase
	// Summary says what failed, an operation's in about five words, capitalized.
	Summary string
	// Detail says what happened besides; one or more sentences. It may be empty.
	Detail string
	// Cause and WayOut are a sentence each; both empty when the cause isn't known.
	Cause, WayOut string
	// OfMachine is set where the cause lies in the machine, so that another one may not have it.
	OfMachine bool
	// Findings are what preflight found; set when Phase is PhasePreflight.
	Findings []Finding
	// Log are the last lines of the server, or of an installation, that say something, masked.
	Log []string
	// LogErr is why the log could not be read.
	LogErr error
	// Started is set when something had been started on the machine, and Remains is the truth about it.
	Started bool
	// Remains says what is left on the machine and how to reach it; "" when nothing is.
	Remains string
	// MayRun is set when what remains may be a running server that nobody asked to keep.
	MayRun bool
	// Err is the cause; a context's error stays recognizable in it.
	Err error
}

// Failed is the error of a runtime that could not do something; nil for nil. It keeps ctx's error in the chain, which not every
// library does.
func Failed(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	return &Error{Summary: "could not " + what, Err: err}
}

// Rule is a cause that a text shows.
type Rule struct {
	pattern       *regexp.Regexp
	cause, wayOut string
}

// NewRule makes a rule. The cause may hold the pattern's groups, as ${1} and so on.
func NewRule(pattern, cause, wayOut string) Rule {
	return Rule{regexp.MustCompile(pattern), cause, wayOut}
}

// Causes describes rules for a page.
func Causes(rules []Rule) []vllm.Cause {
	causes := make([]vllm.Cause, len(rules))
	for i, r := range rules {
		causes[i] = vllm.Cause{Cause: vllm.General(r.cause), WayOut: vllm.General(r.wayOut)}
	}
	return causes
}

// Explain adds the cause that a text shows: one of the machine's, or that of the first rule that matches.
func (e *Error) Explain(text string, rules []Rule) {
	if diagnosis, ok := vllm.DiagnoseMachine(text); ok {
		e.Cause, e.WayOut, e.OfMachine = diagnosis.Cause, diagnosis.WayOut, diagnosis.Kind.OfMachine()
		return
	}
	for _, rule := range rules {
		if found := rule.pattern.FindStringSubmatchIndex(text); found != nil {
			e.Cause, e.WayOut = string(rule.pattern.ExpandString(nil, rule.cause, text, found)), rule.wayOut
			return
		}
	}
}

// Error says what failed and why, in one line.
func (e *Error) Error() string {
	var parts []string
	for _, part := range []string{string(e.Phase), e.Summary, e.Cause} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if e.Err != nil && (e.Phase == "" || e.Cause == "") { // an operation's cause is mostly that of its Err
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
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
		add("Other preflight findings:\n" + strings.Join(more, "\n"))
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
		add("Everything that was started has been removed from the machine.")
	}
	return strings.Join(parts, "\n\n")
}

// Sentence capitalizes and ends an error's text, which Go writes as a fragment.
func Sentence(text string) string {
	if text == "" || strings.Contains(text, "\n") {
		return text
	}
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// Brief says of a lost connection no more than that, where it has been said already what it means.
func Brief(err error) string {
	if host.KindOf(err) == host.Lost || host.KindOf(err) == host.Closed {
		return "the connection was lost"
	}
	return err.Error()
}

// AsError returns the first [*Error] in err's chain.
func AsError(err error) (*Error, bool) {
	return errors.AsType[*Error](err)
}
