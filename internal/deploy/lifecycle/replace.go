package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// restoreTimeout is how long an old server may take to come back: it loads its model again.
const restoreTimeout = 20 * time.Minute

// Replace stops the old server, starts the new one and proves it. When that fails, policy says what happens; the error
// says which of the two now runs. With [Rollback] and the old one running again, the returned status is the old one's
// (a process has a new ID by then) together with the error; without, it is zero.
//
// Everything that can be done before the old server stops is: preflight, and getting the image. An old server that
// is gone, or has died, is no obstacle.
func Replace(ctx context.Context, machine deploy.Machine, old deploy.Ref, request Request, policy Policy) (deploy.Status, error) {
	request.KeepFailed = policy == Keep
	l := newLaunch(ctx, machine, request)
	l.replaced = old
	defer l.close()
	wanted, err := l.prepare(ctx)
	if err != nil {
		return deploy.Status{}, untouched(err)
	}
	r := replacement{launch: l, old: old}
	defer r.close()
	if err := r.open(ctx); err != nil {
		return deploy.Status{}, untouched(l.failed(ctx, failure(deploy.PhaseStop, "Old server could not be inspected", err)))
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

// untouched adds to an error that the old server wasn't touched.
func untouched(err error) error {
	if e, ok := deploy.AsError(err); ok {
		e.Detail = joined(e.Detail, "The old server was not touched.")
	}
	return err
}

func joined(text, more string) string { return strings.TrimSpace(text + " " + more) }

// replacement is a launch that makes room for itself first.
type replacement struct {
	*launch
	old      deploy.Ref
	previous deploy.Runtime // the old server's
	found    bool           // there is an old server
	aside    deploy.Aside
}

func (r *replacement) open(ctx context.Context) error {
	r.previous = r.runtime
	if r.old.Runtime != r.runtime.Kind() {
		opened, err := openRuntime(ctx, r.machine, r.old)
		if err != nil {
			return err
		}
		r.previous = opened
	}
	return r.again(ctx, deploy.PhaseStop, func() error {
		status, err := r.previous.State(ctx, r.old)
		r.found = err == nil && status.State != deploy.Gone
		return err
	})
}

func (r *replacement) close() {
	if r.previous != nil && r.previous != r.runtime {
		_ = r.previous.Close() // only idle connections are left to close
	}
}

func (r *replacement) stopOld(ctx context.Context) *deploy.Error {
	if !r.found {
		return nil
	}
	r.progress.report(deploy.PhaseStop, "stopping the old server")
	status, _ := r.previous.Inspect(ctx, r.old) // what can't be inspected may still be stopped
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
	if r.aside.Restore == nil && phase.Err() == nil && r.bears(deploy.PhaseStop, err) { // it was only looked at
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

// bringBack deals with a new server that failed; the launch has removed it already unless it is to be kept.
func (r *replacement) bringBack(ctx context.Context, policy Policy, failed error) (deploy.Status, error) {
	e, ok := deploy.AsError(failed)
	if !ok {
		return deploy.Status{}, failed
	}
	switch {
	case r.found && r.aside.Restore == nil:
		return deploy.Status{}, untouched(e) // it could not even be looked at
	case !r.found || !r.aside.WasRunning:
		e.Detail = joined(e.Detail, "Neither the old nor the new server is running: the old one wasn't running before.")
		return deploy.Status{}, e
	case e.MayRun:
		e.Detail = joined(e.Detail, "The old server is stopped. It was not restarted, because the new one may still be running and hold"+
			" the GPU.")
		e.Remains = joined(e.Remains+".", "The old server, stopped: "+r.previous.Reach(r.aside.Ref))
		return deploy.Status{}, e
	case policy == Keep:
		e.Detail = joined(e.Detail, "The old server is stopped but not removed. The failed new one was left for debugging.")
		return deploy.Status{}, e
	}
	status, err := r.restore(ctx)
	if err != nil {
		e.Detail = joined(e.Detail, fmt.Sprintf("The old server could not be restored: %v.", masked(err, r.secrets())))
		if e.Remains != "" {
			e.Remains += ". "
		}
		e.Remains += "The old server: " + r.previous.Reach(r.aside.Ref)
		return status, e
	}
	if ctx.Err() != nil {
		e.Detail = joined(e.Detail, "The old server was restarted. It was not verified, because the operation was interrupted.")
		return status, e
	}
	e.Detail = joined(e.Detail, "The old server is running again and has answered.")
	return status, e
}

func (r *replacement) secrets() []string {
	return append(r.request.secrets(), r.aside.APIKey)
}

// restore starts the old server again and proves it. After a cancel it is started only: the caller waits.
func (r *replacement) restore(ctx context.Context) (deploy.Status, error) {
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), restoreTimeout)
	defer cancel()
	r.progress.report(deploy.PhaseStart, "restoring the old server")
	var ref deploy.Ref
	err := r.again(after, deploy.PhaseStart, func() (err error) { // it is stopped before it is started, so that it can't run twice
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
	status, problem := old.prove(after, ref, newClient(r.machine, r.oldTLS(r.aside.Arguments), ref.Listen, ref.Port, r.aside.APIKey))
	if problem == nil {
		return status, nil
	}
	status, inspectErr := r.previous.Inspect(after, ref)
	return status, errors.Join(problem, inspectErr)
}

// proof is a launch that proves the old server, which may have served under another name.
func (r *replacement) proof(ctx context.Context, ref deploy.Ref) *launch {
	request := r.request
	request.KeepFailed = true // a restored server is never removed, whatever it does
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

// oldTLS is how the certificate of the old server is verified, which has these arguments.
func (r *replacement) oldTLS(arguments []string) *TLS {
	switch {
	case vllm.ParseCommandLine(arguments).TLSCertFile == "":
		return nil
	case r.request.PreviousTLS != nil:
		return r.request.PreviousTLS
	}
	return r.request.TLS
}

// Restart starts a server again as it is and proves it with the request's key and names; nothing else of the request is
// used but its phases and progress. A server that fails is left as it is, and its log is in the error. A process has
// a new ID afterwards.
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
	l.gpus, _ = deploy.QueryGPUs(ctx, machine) // the server may well run without nvidia-smi
	begun := time.Now()
	l.kills = CountKills(ctx, machine)
	running, _ := l.runtime.Inspect(ctx, ref) // what can't be inspected may still be restarted
	end := drain(ctx, machine, request.TLS, running, asServed)
	l.progress.report(deploy.PhaseStop, end.plan())
	err = l.again(ctx, deploy.PhaseStop, func() (err error) {
		ref, err = l.runtime.Restart(ctx, ref, end.Stop)
		return err
	})
	if err != nil {
		return deploy.Status{}, l.undo(ctx, ref, failure(deploy.PhaseStart, "Server could not be restarted", err))
	}
	api := newClient(machine, request.TLS, ref.Listen, ref.Port, request.Spec.APIKey)
	status, problem := l.prove(ctx, ref, api)
	if problem != nil {
		return deploy.Status{}, l.undo(ctx, ref, problem)
	}
	status.LoadSeconds = time.Since(begun).Seconds()
	return status, nil
}

// DefaultDrainTimeout is [Request.DrainTimeout] where it is nil: what Kubernetes gives a pod.
const DefaultDrainTimeout = 30 * time.Second

// metricsTimeout bounds the question how many requests there are.
const metricsTimeout = 10 * time.Second

// asServed is a limit to the draining of a server that is as long as the server was started with.
const asServed = time.Duration(-1)

// Drain is the longest that a stop waits for requests.
func (r Request) Drain() time.Duration {
	if r.DrainTimeout == nil {
		return DefaultDrainTimeout
	}
	return *r.DrainTimeout
}

// drainSeconds is the server's --shutdown-timeout: 0, which leaves it out, where its release doesn't know the flag and would
// not start.
// Of a release that can't be told, such as an image of one's own, whoever asks for draining is believed.
func (l *launch) drainSeconds() int {
	limit := l.request.Drain()
	release := l.runtime.Release()
	if limit <= 0 || !vllm.KnowsFlag(release, vllm.DrainFlag) && (release != "" || l.request.DrainTimeout == nil) {
		return 0
	}
	return int((limit + time.Second - 1) / time.Second)
}

// draining is how a server is stopped that may have requests.
type draining struct {
	deploy.Stop
	// Requests run or wait; -1 where the server doesn't say.
	requests int
	cut      bool // they are not let end, although they were to be
	begun    time.Time
}

// drain looks at a server that is to be stopped: one with requests is given up to the limit for them, as far as it was
// started with the flag for it. One without is not waited for.
func drain(ctx context.Context, machine deploy.Machine, settings *TLS, status deploy.Status, limit time.Duration) draining {
	d := draining{begun: time.Now()}
	if status.State != deploy.Running || limit == 0 {
		return d
	}
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	metrics, err := newClient(machine, settings, status.Listen, status.Port, "").Metrics(ctx)
	switch {
	case err != nil && vllm.IsNotReady(err):
		return d // it loads, and would not heed a single signal
	case err != nil || metrics.RequestsRunning == nil:
		d.requests = -1
	default:
		d.requests = int(*metrics.RequestsRunning + *cmp.Or(metrics.RequestsWaiting, new(float64)))
	}
	if d.requests == 0 {
		return d
	}
	able := time.Duration(vllm.ParseCommandLine(status.Arguments).DrainSeconds) * time.Second
	d.cut = able == 0
	d.Drain = able
	if limit != asServed {
		d.Drain = min(able, limit)
	}
	return d
}

// plan says what is being waited for, "" for nothing.
func (d draining) plan() string {
	if d.Drain == 0 {
		return ""
	}
	return fmt.Sprintf("waiting up to %s for %s", d.Drain, d.what())
}

// note says, once the server has stopped, which requests were not let end, "" for none.
func (d draining) note() string {
	switch {
	case d.requests <= 0:
		return ""
	case d.cut:
		return fmt.Sprintf("%s aborted when the server stopped: it was started without %s, because of drain_timeout = \"0s\" or because"+
			" its vLLM release is not known to have that flag.", d.were(), vllm.DrainFlag)
	case time.Since(d.begun) >= d.Drain:
		return fmt.Sprintf("%s given %s to finish (drain_timeout) and aborted after that.", d.were(), d.Drain)
	}
	return ""
}

func (d draining) what() string {
	switch d.requests {
	case -1:
		return "requests that may have been running"
	case 1:
		return "1 running request"
	}
	return fmt.Sprintf("%d running requests", d.requests)
}

func (d draining) were() string {
	if d.requests == 1 {
		return d.what() + " was"
	}
	return d.what() + " were"
}
