package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	// undoTimeout bounds all that is done after a failure, logTimeout the part that only explains it.
	undoTimeout = 150 * time.Second
	logTimeout  = 30 * time.Second
	// logLines are read after a failure: a root cause stands well before the last line.
	logLines = 400
	// shownLines of the log are repeated in an error.
	shownLines = 25
)

// failure is what is known at the place where something failed.
type failure struct {
	phase         deploy.Phase
	summary       string
	detail        string
	cause, wayOut string
	dead          deploy.Status // the server, where it has died
	err           error
	log           []string
	logErr        error
	remains       string
	started       bool         // there was something to remove
	stuck         bool         // what remains may be a running server
	kills         deploy.Kills // after it
	ofMachine     bool
	// seen is the last progress before the failure was dealt with; "" = the last of all.
	seen string
}

// undo takes back what the launch started: it reads the log, removes the server by its id and checks that it is gone. It
// goes on after ctx has ended, within a deadline of its own.
func (l *launch) undo(ctx context.Context, ref deploy.Ref, problem failure) *deploy.Error {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	problem.seen, problem.started = l.progress.last, ref.ID != ""
	if ref.ID != "" {
		problem.log, problem.logErr = l.readLog(after, ref)
		problem.kills = CountKills(after, l.machine)
		if len(problem.log) == 0 && problem.logErr == nil {
			problem.detail = joined(problem.detail, "Its log is empty.")
		}
	}
	switch {
	case l.request.KeepFailed && ref.ID != "":
		l.progress.report(problem.phase, "leaving the failed server for debugging")
		problem.remains = l.runtime.Reach(ref) + ". It was left for debugging and may hold GPU memory"
	default:
		l.progress.report(problem.phase, "removing what was started")
		problem.remains, problem.started, problem.stuck = l.takeBack(after, ref)
	}
	e := l.failed(ctx, problem)
	e.Started, e.MayRun = problem.started, problem.stuck
	return e
}

func (l *launch) readLog(ctx context.Context, ref deploy.Ref) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, logTimeout)
	defer cancel()
	return l.runtime.Log(ctx, ref, logLines)
}

// takeBack removes the server and returns what is left of it, "" for nothing, whether there was one, and whether it may still run.
// A server whose id isn't known, because the answer that would have told it was lost, is found by its owner's mark.
func (l *launch) takeBack(ctx context.Context, ref deploy.Ref) (remains string, started, stuck bool) {
	refs := []deploy.Ref{ref}
	if ref.ID == "" {
		var found []deploy.Status
		err := l.again(ctx, deploy.PhaseRemove, func() (err error) {
			found, err = l.runtime.Find(ctx, l.request.Owner)
			return err
		})
		if err != nil {
			return l.leftBehind("perhaps a server, if the request to start it took effect", err), true, true
		}
		refs = nil
		for _, status := range found {
			if status.ID == "" || status.ID != l.replaced.ID { // a process has none yet when its start is cut off early
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

func (l *launch) leftBehind(what string, err error) string {
	return vllm.MaskSecrets(fmt.Sprintf("%s. It could not be removed (%v), may still run and hold GPU memory; "+
		"the next apply of this deployment finds it by its owner's mark and takes it over or removes it", what, deploy.Brief(err)), l.request.secrets()...)
}

// failed makes the error that the caller gets: masked, with a diagnosis where there is one.
func (l *launch) failed(ctx context.Context, problem failure) *deploy.Error {
	secrets := l.request.secrets()
	mask := func(text string) string { return vllm.MaskSecrets(text, secrets...) }
	e := &deploy.Error{
		Phase: problem.phase, Summary: problem.summary, Detail: problem.detail,
		Cause: problem.cause, WayOut: problem.wayOut, Remains: problem.remains, OfMachine: problem.ofMachine,
		LogErr: masked(problem.logErr, secrets), Err: masked(problem.err, secrets),
	}
	interrupted := errors.Is(ctx.Err(), context.Canceled) && errors.Is(problem.err, context.Canceled)
	if interrupted { // whatever that made fail
		e.Summary = "Interrupted in the phase " + string(problem.phase)
	}
	installation, installing := errors.AsType[*process.Error](problem.err)
	if installing = installing && len(problem.log) == 0; installing {
		problem.log = installation.Log
	}
	diagnosis, ok := vllm.Diagnose(problem.log)
	if killed := problem.dead.ExitCode == exitKilled || problem.dead.OOMKilled; !ok && killed {
		diagnosis, ok = vllm.Diagnosis{Kind: vllm.KindKilled}, true
	}
	if ok && e.Cause == "" && !installing {
		diagnosis = ExplainDeath(diagnosis, problem.dead, l.kills, problem.kills)
		e.Cause, e.WayOut = diagnosis.Cause, diagnosis.WayOut
		e.OfMachine = diagnosis.Kind.OfMachine()
	}
	if e.Cause == "" {
		e.Cause, e.WayOut = explain(problem.err)
		if engine, ok := errors.AsType[*container.Error](problem.err); ok {
			e.OfMachine = e.OfMachine || engine.Kind.OfMachine()
		}
	}
	if ended := l.howItEnded(ctx, problem); interrupted && e.Cause == "" {
		e.Cause = ended
	} else {
		e.Detail = strings.TrimSpace(e.Detail + " " + ended)
	}
	relevant := vllm.Relevant(problem.log)
	for _, line := range relevant[max(0, len(relevant)-shownLines):] {
		e.Log = append(e.Log, mask(line))
	}
	e.Detail, e.Cause, e.WayOut = mask(e.Detail), mask(e.Cause), mask(e.WayOut)
	return e
}

// explain finds the cause that a lower package knows.
func explain(err error) (cause, wayOut string) {
	if e, ok := errors.AsType[*container.Error](err); ok && e.Cause != "" {
		return e.Cause, e.WayOut
	}
	if e, ok := errors.AsType[*process.Error](err); ok && e.Cause != "" {
		return e.Cause, e.WayOut
	}
	if host.KindOf(err) == host.Interrupted {
		return "", "" // howItEnded says more
	}
	return "", host.DetailOf(err)
}

// howItEnded tells a cancellation, the end of all time and the end of a phase apart.
func (l *launch) howItEnded(ctx context.Context, problem failure) string {
	last := cmp.Or(problem.seen, l.progress.last)
	if last != "" {
		last = " Last seen: " + strings.TrimSuffix(last, ".") + "."
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return "The operation was cancelled." + last
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Sprintf("The operation timed out in the phase %s. Raise the timeout in timeouts.", problem.phase) + last
	case errors.Is(problem.err, context.DeadlineExceeded):
		setting := "the timeout in timeouts, of which each phase has its share"
		if problem.phase == deploy.PhaseLoad || problem.phase == deploy.PhaseCompletion {
			setting = "ready.timeout"
		}
		return fmt.Sprintf("The phase %s timed out after %s. Raise %s.", problem.phase,
			l.schedule.limit(problem.phase).Round(time.Second), setting) + last
	}
	return ""
}

// masked is err without secrets in its text; errors.Is and errors.As see through it.
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
