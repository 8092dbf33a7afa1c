package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	// undoTimeout bounds the cleanup after a failure, logTimeout the reading of the log in it.
	undoTimeout = 150 * time.Second
	logTimeout  = 30 * time.Second
	// logLines is how many lines are read after a failure: the root cause is well before the last line.
	logLines = 400
	// shownLines is how many lines an error shows.
	shownLines = 25
)

// failure is an error that [launch.failed] completes.
func failure(phase deploy.Phase, summary string, err error) *deploy.Error {
	return &deploy.Error{Phase: phase, Summary: summary, Err: err}
}

// undo reads the failed server's log, removes the server, and completes the error. It continues after ctx has ended, within a separate
// deadline.
func (l *launch) undo(ctx context.Context, ref deploy.Ref, problem *deploy.Error) *deploy.Error {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	l.seen, problem.Started = l.progress.seen(), ref.ID != ""
	if ref.ID != "" {
		reading, cancel := context.WithTimeout(after, logTimeout)
		defer cancel()
		problem.Log, problem.LogErr = l.runtime.Log(reading, ref, logLines)
		l.killsAfter = CountKills(after, l.machine)
		if len(problem.Log) == 0 && problem.LogErr == nil {
			problem.Detail = joined(problem.Detail, "Its log is empty.")
		}
	}
	if l.request.KeepFailed && ref.ID != "" {
		l.progress.report(problem.Phase, "leaving the failed server for debugging")
		problem.Remains = l.runtime.Reach(ref) + ". It was left for debugging and may hold GPU memory"
	} else {
		l.progress.report(problem.Phase, "removing what was started")
		problem.Remains, problem.Started, problem.MayRun = l.takeBack(after, ref)
	}
	return l.failed(ctx, problem)
}

// takeBack removes the server and returns what is left of it, "" for nothing, whether there was one, and whether it may still run. If
// the server's ID is unknown, because the start's answer was lost, takeBack finds it by its owner.
func (l *launch) takeBack(ctx context.Context, ref deploy.Ref) (remains string, started, stuck bool) {
	refs := []deploy.Ref{ref}
	if ref.ID == "" {
		var found []deploy.Status
		err := l.again(ctx, deploy.PhaseRemove, func() (err error) {
			found, err = l.runtime.Find(ctx, l.request.Owner)
			return err
		})
		if err != nil {
			return l.leftBehind("possibly a server, if the start request took effect", err), true, true
		}
		refs = nil
		for _, status := range found {
			if status.ID == "" || status.ID != l.replaced.ID { // a process whose start was interrupted early has no ID yet
				refs = append(refs, status.Ref)
			}
		}
	}
	var notes []string
	for _, ref := range refs {
		var note string
		err := l.again(ctx, deploy.PhaseRemove, func() (err error) {
			note, err = l.runtime.Remove(ctx, ref, deploy.Stop{Force: true})
			return err
		})
		if err != nil {
			note, stuck = l.leftBehind(l.runtime.Reach(ref), err), true
		}
		if note != "" {
			notes = append(notes, note)
		}
	}
	return strings.Join(notes, "; "), len(refs) > 0, stuck
}

// leftBehind says that something could not be removed.
func (l *launch) leftBehind(what string, err error) string {
	return vllm.MaskSecrets(fmt.Sprintf("%s. It could not be removed (%v) and may still be running and hold GPU memory. The next apply"+
		" of this deployment finds it by its owner's mark and adopts or removes it", what, deploy.Brief(err)), l.request.secrets()...)
}

// failed completes the error for the caller, with a diagnosis if possible, and masks secrets.
func (l *launch) failed(ctx context.Context, e *deploy.Error) *deploy.Error {
	interrupted := errors.Is(ctx.Err(), context.Canceled) && errors.Is(e.Err, context.Canceled)
	if interrupted {
		e.Summary = "Interrupted during the phase " + string(e.Phase)
	}
	e = l.diagnose(e)
	if ended := l.howItEnded(ctx, e); interrupted && e.Cause == "" {
		e.Cause = ended
	} else {
		e.Detail = joined(e.Detail, ended)
	}
	e.Log = vllm.Relevant(e.Log)
	e.Log = e.Log[max(0, len(e.Log)-shownLines):]
	secrets := l.request.secrets()
	for _, text := range []*string{&e.Detail, &e.Cause, &e.WayOut} {
		*text = vllm.MaskSecrets(*text, secrets...)
	}
	for i := range e.Log {
		e.Log[i] = vllm.MaskSecrets(e.Log[i], secrets...)
	}
	e.LogErr, e.Err = masked(e.LogErr, secrets), masked(e.Err, secrets)
	return e
}

// diagnose adds an unknown cause: from the server's log and end, else from the runtime's error.
func (l *launch) diagnose(e *deploy.Error) *deploy.Error {
	if e.Cause != "" {
		return e
	}
	diagnosis, known := vllm.Diagnose(e.Log)
	if !known && (l.dead.ExitCode == exitKilled || l.dead.OOMKilled) {
		diagnosis, known = vllm.Diagnosis{Kind: vllm.KindKilled}, true
	}
	if !known {
		return explained(e)
	}
	diagnosis = ExplainDeath(diagnosis, l.dead, l.kills, l.killsAfter)
	e.Cause, e.WayOut, e.OfMachine = diagnosis.Cause, diagnosis.WayOut, diagnosis.Kind.OfMachine()
	return e
}

// explained adds the cause from the error of a runtime or of the connection.
func explained(e *deploy.Error) *deploy.Error {
	inner, ok := deploy.AsError(e.Err)
	switch {
	case ok && inner.Cause != "":
		e.Cause, e.WayOut, e.OfMachine = inner.Cause, inner.WayOut, e.OfMachine || inner.OfMachine
	case host.KindOf(e.Err) != host.Interrupted: // which howItEnded explains
		e.WayOut = host.DetailOf(e.Err)
	}
	if ok && len(e.Log) == 0 {
		e.Log = inner.Log // of an installation
	}
	return e
}

// howItEnded says whether the operation was canceled or timed out, or its phase did; "" for neither.
func (l *launch) howItEnded(ctx context.Context, problem *deploy.Error) string {
	last := cmp.Or(l.seen, l.progress.seen())
	if last != "" {
		last = " Last seen: " + strings.TrimSuffix(last, ".") + "."
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return "The operation was canceled." + last
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Sprintf("The operation timed out during the phase %s. Raise the timeout in timeouts.", problem.Phase) + last
	case errors.Is(problem.Err, context.DeadlineExceeded):
		setting := "the timeout in timeouts, of which each phase gets a share"
		if problem.Phase == deploy.PhaseLoad || problem.Phase == deploy.PhaseCompletion {
			setting = "ready.timeout"
		}
		return fmt.Sprintf("The phase %s timed out after %s. Raise %s.", problem.Phase,
			l.schedule.limit(problem.Phase).Round(time.Second), setting) + last
	}
	return ""
}

// masked returns err without secrets in its text. It wraps err.
func masked(err error, secrets []string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if clean := vllm.MaskSecrets(text, secrets...); clean != text {
		return &maskedError{text: clean, err: err}
	}
	return err
}

type maskedError struct {
	text string
	err  error
}

func (e *maskedError) Error() string { return e.text }

func (e *maskedError) Unwrap() error { return e.err }
