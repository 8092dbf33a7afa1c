package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// restoreTimeout bounds restoring an old server, which loads its model again.
const restoreTimeout = 20 * time.Minute

// Replace stops the old server, starts the new one and verifies it. If that fails, policy decides what happens, and the error says
// which of the two runs. If the old server runs again, its status (a process has a new ID) is returned together with the error;
// otherwise the status is zero.
//
// Preflight and the pull come before the old server stops. The old server may be gone or dead.
func Replace(ctx context.Context, machine deploy.Machine, old deploy.Ref, request Request, policy Policy) (deploy.Status, error) {
	request.KeepFailed = policy == Keep
	l := newLaunch(ctx, machine, request)
	l.replaced = old
	defer l.close()
	wanted, err := l.prepare(ctx)
	if err != nil {
		return deploy.Status{}, detailed(err, untouched)
	}
	r := replacement{launch: l, old: old}
	if err := r.open(ctx); err != nil {
		return deploy.Status{}, detailed(l.failed(ctx, failure(deploy.PhaseStop, "Old server could not be inspected", err)), untouched)
	}
	if problem := r.stopOld(ctx); problem != nil {
		return r.bringBack(ctx, policy, l.failed(ctx, problem))
	}
	status, err := l.bringUp(ctx, wanted)
	if err != nil {
		return r.bringBack(ctx, policy, err)
	}
	if err := r.removeOld(ctx); err != nil {
		status.Warnings = append(status.Warnings, fmt.Sprintf("The new server is running, but the old one could not be removed: %v", err))
	}
	return status, nil
}

const untouched = "The old server was not touched."

// detailed adds a detail to an operation's error.
func detailed(err error, detail string) error {
	if e, ok := deploy.AsError(err); ok {
		e.Detail = joined(e.Detail, detail)
	}
	return err
}

func joined(text, more string) string { return strings.TrimSpace(text + " " + more) }

// replacement is a launch that first stops another server.
type replacement struct {
	*launch
	old      deploy.Ref
	previous deploy.Runtime // the old server's
	found    bool           // the old server exists
	aside    deploy.Aside
}

// open opens the old server's runtime, and looks whether the server exists.
func (r *replacement) open(ctx context.Context) (err error) {
	if r.previous, err = r.runtimeOf(ctx, r.old); err != nil {
		return err
	}
	return r.again(ctx, deploy.PhaseStop, func() error {
		status, err := r.previous.State(ctx, r.old)
		r.found = err == nil && status.State != deploy.Gone
		return err
	})
}

// stopOld sets the old server aside.
func (r *replacement) stopOld(ctx context.Context) *deploy.Error {
	if !r.found {
		return nil
	}
	r.progress.report(deploy.PhaseStop, "stopping the old server")
	status, _ := r.previous.Inspect(ctx, r.old) // if that fails, the stop may still succeed
	end := drain(ctx, r.machine, r.oldTLS(status.Arguments), status, r.request.Drain())
	r.progress.report(deploy.PhaseStop, end.plan())
	r.schedule.delay(deploy.PhaseStart, end.Drain)
	phase, cancel := r.schedule.enter(ctx, deploy.PhaseStart)
	defer cancel()
	aside := func() (err error) {
		r.aside, err = r.previous.SetAside(phase, r.old, end.Stop)
		return err
	}
	err := aside()
	if r.aside.Restore == nil && phase.Err() == nil && r.bears(deploy.PhaseStop, err) { // it was not stopped yet
		err = aside()
	}
	if err != nil {
		return failure(deploy.PhaseStop, "Old server could not be stopped", err)
	}
	if note := end.note(); note != "" {
		r.warn(note)
	}
	return nil
}

func (r *replacement) removeOld(ctx context.Context) error {
	if !r.found {
		return nil
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return r.again(after, deploy.PhaseRemove, func() error {
		_, err := r.previous.Remove(after, r.old, deploy.Stop{Force: true})
		return err
	})
}

// bringBack restores the old server after the new one has failed, if possible, and completes the error. The launch has removed the new
// one already unless policy is [Keep].
func (r *replacement) bringBack(ctx context.Context, policy Policy, failed error) (deploy.Status, error) {
	e, ok := deploy.AsError(failed)
	if !ok {
		return deploy.Status{}, failed
	}
	switch {
	case r.found && r.aside.Restore == nil:
		return deploy.Status{}, detailed(e, untouched) // SetAside failed before it stopped anything
	case !r.found || !r.aside.WasRunning:
		return deploy.Status{}, detailed(e, "Neither the old nor the new server is running: the old one wasn't running before.")
	case e.MayRun:
		e.Remains = joined(e.Remains+".", "The old server, stopped: "+r.previous.Reach(r.aside.Ref))
		return deploy.Status{}, detailed(e, "The old server is stopped. It was not restarted, because the new one may still be running"+
			" and hold the GPU.")
	case policy == Keep:
		return deploy.Status{}, detailed(e, "The old server is stopped but not removed. The failed new one was left for debugging.")
	}
	status, err := r.restore(ctx)
	if err != nil {
		if e.Remains != "" {
			e.Remains += ". "
		}
		e.Remains += "The old server: " + r.previous.Reach(r.aside.Ref)
		return status, detailed(e, fmt.Sprintf("The old server could not be restored: %v.", masked(err, r.secrets())))
	}
	if ctx.Err() != nil {
		return status, detailed(e, "The old server was restarted. It was not verified, because the operation was interrupted.")
	}
	return status, detailed(e, "The old server is running again and has answered.")
}

// secrets are the request's and the old server's.
func (r *replacement) secrets() []string {
	return append(r.request.secrets(), r.aside.APIKey)
}

// restore restarts the old server and verifies it. If ctx was canceled, it does not verify it, because the caller waits.
func (r *replacement) restore(ctx context.Context) (deploy.Status, error) {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
	defer cancel()
	r.progress.report(deploy.PhaseStart, "restoring the old server")
	var ref deploy.Ref
	err := r.again(after, deploy.PhaseStart, func() (err error) { // Restore stops it first, so it can't run twice
		ref, err = r.aside.Restore(after)
		return err
	})
	if err != nil {
		return deploy.Status{}, err
	}
	old := r.proof(after, ref)
	if ctx.Err() != nil {
		var status deploy.Status
		err = r.again(after, deploy.PhaseStart, func() (err error) {
			if err = r.previous.Settle(after, ref); err == nil {
				status, err = r.previous.Inspect(after, ref)
			}
			return err
		})
		return status, err
	}
	status, problem := old.prove(after, ref, Client(r.machine, r.oldTLS(r.aside.Arguments), ref, r.aside.APIKey))
	if problem == nil {
		return status, nil
	}
	status, inspectErr := r.previous.Inspect(after, ref)
	return status, errors.Join(problem, inspectErr)
}

// proof is a launch that verifies the old server with its own key and model.
func (r *replacement) proof(ctx context.Context, ref deploy.Ref) *launch {
	request := r.request
	request.KeepFailed = true // a restored server is never removed
	request.Public = ""       // it may not have been public
	request.Spec.Port, request.Spec.Listen = ref.Port, ref.Listen
	request.Spec.APIKey = r.aside.APIKey
	served := vllm.ParseCommandLine(r.aside.Arguments)
	request.Spec.Model, request.Spec.ServedModelName = served.Model, served.ServedModelName
	proof := newLaunch(ctx, r.machine, request)
	proof.runtime, proof.gpus = r.previous, r.gpus
	proof.progress.last, proof.progress.secrets = r.progress.seen(), r.secrets()
	return proof
}

// oldTLS says how to verify the certificate of the old server, which has these arguments; nil for plain HTTP.
func (r *replacement) oldTLS(arguments []string) *TLS {
	switch {
	case vllm.ParseCommandLine(arguments).TLSCertFile == "":
		return nil
	case r.request.PreviousTLS != nil:
		return r.request.PreviousTLS
	}
	return r.request.TLS
}

// Restart restarts a server with unchanged settings and verifies it. Of the request it uses the key, the names, TLS, Phases and
// Progress. A server that fails is left on the machine, and its log is in the error. A process gets a new ID.
func Restart(ctx context.Context, machine deploy.Machine, ref deploy.Ref, request Request) (deploy.Status, error) {
	request.KeepFailed = true
	request.Owner = ref.Owner
	request.Spec.Port, request.Spec.Listen = ref.Port, ref.Listen
	l := newLaunch(ctx, machine, request)
	defer l.close()
	opened, err := openRuntime(ctx, machine, ref)
	if err != nil {
		return deploy.Status{}, l.failed(ctx, failure(deploy.PhaseStop, "Server could not be restarted", err))
	}
	l.runtime = opened
	l.progress.report(deploy.PhaseStop, "restarting the server")
	l.gpus, _ = deploy.QueryGPUs(ctx, machine) // a server may run without nvidia-smi
	begun := time.Now()
	l.kills = CountKills(ctx, machine)
	running, _ := l.runtime.Inspect(ctx, ref) // if that fails, the restart may still succeed
	end := drain(ctx, machine, request.TLS, running, asServed)
	l.progress.report(deploy.PhaseStop, end.plan())
	err = l.again(ctx, deploy.PhaseStop, func() (err error) {
		ref, err = l.runtime.Restart(ctx, ref, end.Stop)
		return err
	})
	if err != nil {
		return deploy.Status{}, l.undo(ctx, ref, failure(deploy.PhaseStart, "Server could not be restarted", err))
	}
	status, problem := l.prove(ctx, ref, Client(machine, request.TLS, ref, request.Spec.APIKey))
	if problem != nil {
		return deploy.Status{}, l.undo(ctx, ref, problem)
	}
	status.LoadSeconds = time.Since(begun).Seconds()
	return status, nil
}
