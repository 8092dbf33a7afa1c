package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind says which sort of failure an [Error] is, so that callers can decide
// without reading messages.
type Kind string

// The kinds of failure.
const (
	// Unreachable: nothing that speaks SSH answered in time. Worth retrying while a machine boots.
	Unreachable Kind = "unreachable"
	// HostKeyChanged: the machine presented another host key than the pinned one. Never worth retrying.
	HostKeyChanged Kind = "host key changed"
	// AuthFailed: the machine accepted none of the keys.
	AuthFailed Kind = "login refused"
	// BadKey: a private key, certificate or host key of the configuration can't be used,
	// or there is none. Found before anything is dialled.
	BadKey Kind = "invalid key"
	// BadConfig: another part of the configuration, or a command's arguments, can't be used.
	BadConfig Kind = "invalid configuration"
	// AgentFailed: the SSH agent could not be asked for its keys.
	AgentFailed Kind = "SSH agent failed"
	// Refused: the machine is there and could not do it now: nothing listens where a forwarding
	// leads, or it allows no further session. Trying again later may help.
	Refused Kind = "refused by the machine"
	// Prohibited: the SSH server's own settings forbid it. Trying again won't help.
	Prohibited Kind = "not allowed by the machine"
	// Lost: the connection broke, or the machine stopped answering.
	Lost Kind = "connection lost"
	// Closed: the client, or the connection made through it, was closed by the provider.
	Closed Kind = "closed"
	// NoExitStatus: the connection is up, and the command's end was reported without an exit
	// status. Whether it succeeded is unknown.
	NoExitStatus Kind = "no exit status"
	// CommandFailed: the command behind a [Client.Pipe] ended with a non-zero status or by a signal.
	// [Client.Run] reports that in its [Result] instead.
	CommandFailed Kind = "command failed"
	// Interrupted: the caller's context ended. errors.Is with the context's error holds.
	Interrupted Kind = "interrupted"
)

// Error is what every function of this package returns when it fails.
type Error struct {
	// Op is what was attempted, to be read after "could not": "connect to", "run a command on", …
	Op string
	// Addr is the machine, as host:port, with "via" and the bastions in front of it.
	Addr string
	// Kind is the sort of failure.
	Kind Kind
	// Detail is one or more sentences for a person: what it may mean and what to do.
	// It holds no secret. It may be empty.
	Detail string
	// Started is set when a command had been handed to the machine before the failure: it
	// may have run, wholly or in part, and must not be repeated unless that is harmless.
	Started bool
	// Err is the cause. It is nil when Kind and Detail say all there is.
	Err error
}

// Error says what failed, where, and why. Detail is for the body of a diagnostic, and part of
// the text only where there is no cause to name.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Addr != "" {
		b.WriteString(" " + e.Addr)
	}
	b.WriteString(": " + string(e.Kind))
	switch {
	case e.Err != nil:
		b.WriteString(": " + e.Err.Error())
	case e.Detail != "":
		b.WriteString(": " + strings.TrimSuffix(e.Detail, "."))
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// KindOf returns the kind of the first [*Error] in err's chain, and "" when there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return ""
}

// DetailOf returns the advice in the first [*Error] of err's chain, and "" when there is none.
func DetailOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Detail
	}
	return ""
}

// interrupted turns a finished context into an error that names the operation.
func interrupted(ctx context.Context, op, addr string) *Error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, err) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	detail := "The operation was canceled before it was done."
	if errors.Is(err, context.DeadlineExceeded) {
		detail = "The time allowed for the operation ran out before it was done."
	}
	return &Error{Op: op, Addr: addr, Kind: Interrupted, Detail: detail, Err: err}
}
