package process

import (
	"fmt"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// Error is what every function of this package returns when it fails. It holds no secret.
type Error struct {
	// Op says what was attempted, to be read after "could not".
	Op string
	// Cause and WayOut are a sentence each; both empty when the cause isn't known.
	Cause, WayOut string
	// Log are the last lines of an installation that failed.
	Log []string
	Err error
}

// Error says what failed and why.
func (e *Error) Error() string {
	text := "could not " + e.Op
	if e.Cause != "" {
		text += ": " + e.Cause
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// exitError is a command that ended with a failure.
func exitError(result host.Result) error {
	said := strings.TrimSpace(result.Stderr)
	if said == "" {
		said = strings.TrimSpace(result.Stdout)
	}
	const most = 500
	if len(said) > most {
		said = said[len(said)-most:]
	}
	if result.Signal != "" {
		return fmt.Errorf("ended by signal %s: %s", result.Signal, said)
	}
	return fmt.Errorf("exit status %d: %s", result.ExitCode, said)
}
