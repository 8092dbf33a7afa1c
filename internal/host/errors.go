package host

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind is the kind of failure of an [Error], for callers that have to decide what to do.
type Kind string

// The kinds of failure.
const (
	// Unreachable: nothing that speaks SSH answered in time. Worth retrying while a machine boots.
	Unreachable Kind = "unreachable"
	// HostKeyChanged: the machine presented another host key than the pinned one. Retrying doesn't help.
	HostKeyChanged Kind = "host key changed"
	// AuthFailed: the machine accepted none of the keys.
	AuthFailed Kind = "login refused"
	// BadKey: a private key, certificate or host key of the configuration can't be used,
	// or there is none. Reported before dialing.
	BadKey Kind = "invalid key"
	// BadConfig: another part of the configuration, or a command's arguments, can't be used.
	BadConfig Kind = "invalid configuration"
	// AgentFailed: the SSH agent's keys could not be listed.
	AgentFailed Kind = "SSH agent failed"
	// Refused: the machine could not do it now: nothing listens where a connection is forwarded to,
	// or the machine allows no further session. Retrying later may help.
	Refused Kind = "refused by the machine"
	// Prohibited: the SSH server's settings forbid it. Retrying doesn't help.
	Prohibited Kind = "not allowed by the machine"
	// Lost: the connection broke, or the machine stopped answering.
	Lost Kind = "connection lost"
	// Closed: the client, or the connection made through it, was closed by the provider.
	Closed Kind = "closed"
	// NoExitStatus: the connection is up, but the machine reported the command's end without an
	// exit status. Whether it succeeded is unknown.
	NoExitStatus Kind = "no exit status"
	// CommandFailed: the command behind a [Client.Pipe] ended with a non-zero status or by a signal.
	// [Client.Run] reports that in its [Result] instead.
	CommandFailed Kind = "command failed"
	// Interrupted: the caller's context ended. errors.Is finds the context's error.
	Interrupted Kind = "interrupted"
)

// Error is the error of every function of this package.
type Error struct {
	// Op is what was attempted, in words that follow "could not": "connect to", "run a command on", …
	Op string
	// Addr is the machine, as user@host:port, followed by "via" and the bastions.
	Addr string
	Kind Kind
	// Detail is one or more sentences for the user: the probable reason and what to do.
	// It contains no secret. It may be "".
	Detail string
	// Started is true when a command was sent to the machine before the failure: it may have
	// run, wholly or in part, and must not be repeated unless that is harmless.
	Started bool
	// Err is the cause, nil for none.
	Err error
}

// Error says what failed, where, and why. It contains Detail, which is meant for the body of a diagnostic, only where there is no
// cause.
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

// failed returns the error of an attempt to log in.
func (t *target) failed(kind Kind, err error, detail string) *Error {
	return &Error{Op: "connect to", Addr: t.name, Kind: kind, Err: err, Detail: detail}
}

// failed returns the error of an operation on the machine.
func (c *Client) failed(op string, kind Kind, err error, detail string) *Error {
	return &Error{Op: op, Addr: c.name, Kind: kind, Err: err, Detail: detail}
}

// interrupted returns the error of an operation whose context has ended.
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
