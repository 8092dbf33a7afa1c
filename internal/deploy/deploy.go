package deploy

import (
	"context"
	"errors"
)

var errNotBuilt = errors.New("not built yet")

// Launch starts a server and returns when it has answered a real request. On failure, and when ctx is cancelled,
// what it started is removed again, within a deadline of its own, unless [Request.KeepFailed] says otherwise.
// A server that an earlier launch of the same owner left behind is adopted when it is what is wanted, else removed.
func Launch(ctx context.Context, machine Machine, request Request) (Status, error) {
	return Status{}, &Error{Phase: PhasePreflight, Summary: "Not built", Err: errNotBuilt}
}

// Inspect says what a server is doing. A server that isn't there is a Status with State Gone, not an error.
func Inspect(ctx context.Context, machine Machine, ref Ref) (Status, error) {
	return Status{}, &Error{Phase: PhaseInspect, Summary: "Not built", Err: errNotBuilt}
}

// Remove stops and removes a server, by its id, and checks that it is gone. One that is gone already is a success.
func Remove(ctx context.Context, machine Machine, ref Ref) error {
	return &Error{Phase: PhaseRemove, Summary: "Not built", Err: errNotBuilt}
}

// Replace stops the old server, starts the new one and proves it. When that fails, policy says what happens; the error
// says which of the two now runs.
func Replace(ctx context.Context, machine Machine, old Ref, request Request, policy Policy) (Status, error) {
	return Status{}, &Error{Phase: PhaseStop, Summary: "Not built", Err: errNotBuilt}
}

// Restart starts a server again as it is and proves it.
func Restart(ctx context.Context, machine Machine, ref Ref, request Request) (Status, error) {
	return Status{}, &Error{Phase: PhaseStop, Summary: "Not built", Err: errNotBuilt}
}

// LogTail returns the last lines of a server's log, secrets of known shape masked.
func LogTail(ctx context.Context, machine Machine, ref Ref, lines int) ([]string, error) {
	return nil, &Error{Phase: PhaseInspect, Summary: "Not built", Err: errNotBuilt}
}

// Preflight looks at a machine before anything heavy is done, and changes nothing on it.
func Preflight(ctx context.Context, machine Machine, request Request) (Facts, []Finding, error) {
	return Facts{}, nil, &Error{Phase: PhasePreflight, Summary: "Not built", Err: errNotBuilt}
}

// GPUs lists a machine's GPUs. It doesn't wait for a driver.
func GPUs(ctx context.Context, machine Machine) ([]GPU, error) {
	return nil, &Error{Phase: PhaseInspect, Summary: "Not built", Err: errNotBuilt}
}

// Fingerprint identifies a secret of a deployment without telling it, to be compared with [Status.APIKeyPrint] and
// [Status.HFTokenPrint]. It is "" for an empty secret.
func Fingerprint(owner, secret string) string { return "" }
