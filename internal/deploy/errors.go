package deploy

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Phase is a part of an operation.
type Phase string

// The phases, in order. The last three are not part of a launch.
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
	// Blocking findings mean that the server can't work: a launch starts nothing.
	Blocking Severity = "error"
	// Warning findings are reported and stop nothing.
	Warning Severity = "warning"
)

// Finding is a finding of preflight.
type Finding struct {
	Severity Severity
	// Code is one of lifecycle.Codes, or "docker", which can't be overruled.
	Code string
	// Fact is a sentence that states the finding, WayOut one that says what to do.
	Fact   string
	WayOut string
}

// String returns the finding as one line.
func (f Finding) String() string { return strings.TrimSpace(f.Fact + " " + f.WayOut) }

// Error is the error of this package and of the packages below it. It holds no secret.
type Error struct {
	// Phase is where an operation failed; "" in the error of a runtime.
	Phase Phase
	// Summary says what failed, an operation's in about five words, capitalized.
	Summary string
	// Detail is more about what happened, in sentences; it may be empty.
	Detail string
	// Cause and WayOut are one sentence each; both are empty if the cause is unknown.
	Cause, WayOut string
	// OfMachine is set if the cause is the machine's: another machine may not have it.
	OfMachine bool
	// Findings are preflight's, if Phase is PhasePreflight.
	Findings []Finding
	// Log are the last relevant lines of the server's log, or of an installation's, masked.
	Log []string
	// LogErr is why the log could not be read.
	LogErr error
	// Started is set if a server had been started on the machine.
	Started bool
	// Remains says what is left on the machine and how to reach it; "" for nothing.
	Remains string
	// MayRun is set if a server that remains may be running although nobody asked to keep it.
	MayRun bool
	// Err is the cause. [errors.Is] finds a context's error in it.
	Err error
}

// Failed returns the error of a runtime that could not do something, nil for nil. It adds ctx's error, which some libraries drop.
func Failed(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		err = fmt.Errorf("%w: %w", ended, err)
	}
	return &Error{Summary: "could not " + what, Err: err}
}

// Rule finds a cause in a text.
type Rule struct {
	pattern       *regexp.Regexp
	cause, wayOut string
}

// NewRule returns a rule. The cause may refer to the pattern's groups, as ${1} and so on.
func NewRule(pattern, cause, wayOut string) Rule {
	return Rule{regexp.MustCompile(pattern), cause, wayOut}
}

// Causes describes rules for the documentation.
func Causes(rules []Rule) []vllm.Cause {
	causes := make([]vllm.Cause, len(rules))
	for i, r := range rules {
		causes[i] = vllm.Cause{Cause: vllm.General(r.cause), WayOut: vllm.General(r.wayOut)}
	}
	return causes
}

// Explain adds the cause that a text shows: the machine's, or that of the first rule that matches.
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
	parts := []string{string(e.Phase), e.Summary, e.Cause}
	if e.Err != nil && (e.Phase == "" || e.Cause == "") { // an operation's Cause mostly repeats Err
		parts = append(parts, e.Err.Error())
	}
	return joined(parts, ": ")
}

// joined joins the texts that aren't empty.
func joined(texts []string, by string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), by)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Description is the body of a diagnostic: all but the summary, in paragraphs.
func (e *Error) Description() string {
	var cause, findings, log, left string
	if cause = e.Cause; cause == "" && e.Err != nil {
		cause = Sentence(e.Err.Error())
	}
	for _, finding := range e.Findings {
		if finding.Fact != e.Cause {
			findings += "\n- " + finding.String()
		}
	}
	if findings != "" {
		findings = "Other preflight findings:" + findings
	}
	if e.LogErr != nil {
		log = fmt.Sprintf("The server's log could not be read: %s.", Brief(e.LogErr))
	}
	if len(e.Log) > 0 {
		log = joined([]string{log, "The log's last relevant lines:\n  " + strings.Join(e.Log, "\n  ")}, "\n\n")
	}
	switch {
	case e.Remains != "":
		left = "Left on the machine: " + e.Remains + "."
	case e.Started:
		left = "The server that was started has been removed from the machine."
	}
	return joined([]string{cause, e.WayOut, e.Detail, findings, log, left}, "\n\n")
}

// Sentence makes a sentence of an error's text: it adds the capital letter and the period.
func Sentence(text string) string {
	if text == "" || strings.Contains(text, "\n") {
		return text
	}
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

// Brief returns err's text, without the details if it is about a lost connection.
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
