package lifecycle

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	// healthTimeout bounds one request to /health, which a healthy server answers at once.
	healthTimeout = 10 * time.Second
	// answerTimeout bounds the first token of a healthy server, whose engine may still compile kernels.
	answerTimeout = 5 * time.Minute
)

// Client returns a client for a server, through its machine: the key is sent inside the SSH connection. settings say how to verify the
// server; nil for plain HTTP.
func Client(machine deploy.Machine, settings *TLS, ref deploy.Ref, key string) *vllm.Client {
	scheme := "http"
	if settings != nil {
		scheme = "https"
	}
	url := scheme + "://" + net.JoinHostPort(reachable(ref.Listen), strconv.Itoa(ref.Port))
	t := transport(machine.DialContext, settings)
	// Requests share a connection, which costs time to open. It closes itself when idle, before the server does
	// (VLLM_HTTP_TIMEOUT_KEEP_ALIVE, 5 s), so that no request meets a closing connection.
	t.DisableKeepAlives, t.IdleConnTimeout = false, 3*time.Second
	return vllm.NewClient(t, url, key)
}

// transport returns a transport that keeps no connections.
func transport(dial func(context.Context, string, string) (net.Conn, error), settings *TLS) *http.Transport {
	t := &http.Transport{DialContext: dial, DisableKeepAlives: true, TLSHandshakeTimeout: healthTimeout}
	if settings != nil {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(cmp.Or(settings.CA, settings.Certificate)))
		t.TLSClientConfig = &tls.Config{RootCAs: pool, ServerName: settings.ServerName, MinVersion: tls.VersionTLS12}
	}
	return t
}

// reachable is the address at which the machine reaches a server that listens on listen.
func reachable(listen string) string {
	if address, err := netip.ParseAddr(listen); err == nil && !address.IsUnspecified() {
		return listen
	}
	return vllm.DefaultListen
}

// loadPause is the longest time between two looks at a loading server. It is for logs that can't be followed or say nothing.
const loadPause = 4 * time.Second

// load waits until the server is healthy. It fails as soon as the server has died.
func (l *launch) load(ctx context.Context, ref deploy.Ref, api *vllm.Client) *deploy.Error {
	l.progress.report(deploy.PhaseLoad, "waiting for the model to load")
	phase, cancel := l.schedule.enter(ctx, deploy.PhaseLoad)
	defer cancel()
	log := l.follow(phase, ref)
	defer log.stop()
	pause := pace.New(100*time.Millisecond, loadPause)
	for {
		problem, err := l.watch(phase, ref, api)
		if problem != nil || err == nil {
			return problem
		}
		log.resume()
		if phase.Err() == nil && !vllm.IsNotReady(err) {
			return failure(deploy.PhaseLoad, "Server answers, but not as vLLM", err)
		}
		l.progress.often(deploy.PhaseLoad, log.progress())
		if log.isNear() {
			pause = pace.New(100*time.Millisecond, loadPause)
		}
		if _, err := pace.Sleep(phase, pause.Next(), log.news); err != nil {
			return failure(deploy.PhaseLoad, summaries[deploy.PhaseLoad].late, err)
		}
	}
}

// watch looks at a loading server: whether it has died and, at the same time, whether it is healthy.
func (l *launch) watch(ctx context.Context, ref deploy.Ref, api *vllm.Client) (died *deploy.Error, sick error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked := make(chan error, 1)
	go func() { asked <- health(ctx, api) }()
	if died = l.alive(ctx, ref, deploy.PhaseLoad); died != nil {
		cancel()
	}
	return died, <-asked
}

func health(ctx context.Context, api *vllm.Client) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	err := api.Health(ctx)
	if err != nil && errors.Is(err, context.DeadlineExceeded) {
		return &vllm.Error{Op: "check health", Err: errSlow}
	}
	return err
}

var errSlow = errors.New("no answer in time")

// alive returns why the server no longer runs, nil if it does.
func (l *launch) alive(ctx context.Context, ref deploy.Ref, phase deploy.Phase) *deploy.Error {
	status, err := l.runtime.State(ctx, ref)
	if ctx.Err() == nil && l.bears(phase, err) {
		return nil // unknown: the next look logs in again
	}
	if err != nil {
		summary := "Server could not be watched"
		if ctx.Err() != nil {
			summary = summaries[phase].late
		}
		return failure(phase, summary, err)
	}
	if status.State == deploy.Running && status.RestartCount == 0 {
		return nil
	}
	l.dead = status
	return &deploy.Error{Phase: phase, Summary: summaries[phase].died, Err: errDied, Detail: epitaph(status)}
}

// exitKilled is the exit code of a process that SIGKILL ended.
const exitKilled = 137

var errDied = errors.New("the server ended")

// summaries are those of a server that has died, or is late.
var summaries = map[deploy.Phase]struct{ died, late string }{
	deploy.PhaseLoad:       {"vLLM ended while loading", "Model did not load in time"},
	deploy.PhaseCompletion: {"vLLM ended before it answered", "Model did not answer in time"},
}

// epitaph says how a server ended. It leaves out exit code 0, with which the API server ends after its engine has died
// (runs/engine-killed-ready.json of 0.32.0).
func epitaph(status deploy.Status) string {
	if status.State == deploy.Gone {
		return "The server was removed by somebody else."
	}
	if status.State == deploy.Orphaned {
		return "The supervisor of its process was killed."
	}
	text, code := "The server ended", " with exit code %d"
	if status.RestartCount > 0 {
		text, code = "The server died and was restarted", "; its last exit code was %d"
		if status.RestartCount > 1 {
			text += fmt.Sprintf(" %d times", status.RestartCount)
		}
	}
	if status.ExitCode != 0 {
		text += fmt.Sprintf(code, status.ExitCode)
	}
	text += "."
	if status.Reason != "" {
		text += " Its runtime says: " + status.Reason + "."
	}
	return text
}

// complete requests real output until it comes. A hung engine is healthy according to /health.
func (l *launch) complete(ctx context.Context, ref deploy.Ref, api *vllm.Client) *deploy.Error {
	l.progress.report(deploy.PhaseCompletion, "asking the model for an answer")
	phase, cancel := l.schedule.enter(ctx, deploy.PhaseCompletion)
	defer cancel()
	pause := pace.Looks()
	for {
		proof, err := api.ProbeWithin(phase, l.request.Spec.ServedName(), !l.request.Embedding, answerTimeout)
		if phase.Err() == nil {
			if problem := l.alive(phase, ref, deploy.PhaseCompletion); problem != nil {
				return problem
			}
		}
		if err == nil {
			took := proof.Duration.Round(time.Millisecond)
			l.progress.report(deploy.PhaseCompletion, fmt.Sprintf("the model answered in %s (%s)", took, proof.Call))
			return l.reachPublic(phase)
		}
		if errors.Is(err, vllm.ErrHung) {
			return hung(err, phase.Err())
		}
		if phase.Err() == nil && !vllm.IsNotReady(err) {
			return refusedProof(err, l.request.Embedding)
		}
		if waitErr := pause.Wait(phase); waitErr != nil {
			return &deploy.Error{
				Phase: deploy.PhaseCompletion, Summary: summaries[deploy.PhaseCompletion].late, Err: waitErr,
				Detail: "The server said that it is healthy, but the model gave no answer.",
			}
		}
	}
}

// hung is the error about a healthy server that returns no token. late is the phase's error if it has timed out, too.
func hung(err, late error) *deploy.Error {
	problem := &deploy.Error{Phase: deploy.PhaseCompletion, Summary: "Engine hangs", Err: errors.Join(err, late), OfMachine: true}
	if e, ok := errors.AsType[*vllm.Error](err); ok {
		problem.Cause = deploy.Sentence(e.Err.Error())
	}
	problem.WayOut = "Apply again. Where it happens again, look for errors of the GPU in the machine's kernel log (dmesg, \"Xid\"), or rent" +
		" another machine; if the model's first answer takes longer than that, raise ready.timeout."
	return problem
}

// publicTries is how often a server that answers on its machine is tried at its public address.
const publicTries = 5

// reachPublic requests an answer at the server's public address, if it has one.
func (l *launch) reachPublic(ctx context.Context) *deploy.Error {
	url := l.request.Public
	if url == "" {
		return nil
	}
	l.progress.report(deploy.PhaseCompletion, "asking the model at "+url)
	dialer := &net.Dialer{Timeout: healthTimeout}
	api := vllm.NewClient(transport(dialer.DialContext, l.request.TLS), url, l.request.Spec.APIKey)
	var err error
	pause := pace.Looks()
	for range publicTries {
		if _, err = api.Probe(ctx, l.request.Spec.ServedName(), !l.request.Embedding); err == nil {
			return nil
		}
		if waitErr := pause.Wait(ctx); waitErr != nil {
			break
		}
	}
	return &deploy.Error{
		Phase: deploy.PhaseCompletion, Summary: "Server can't be reached publicly", Err: err,
		Cause: fmt.Sprintf("The server answers on its machine, but not at %s, as seen from here: %v.", url, err),
		WayOut: "Open the port in the cloud's and the machine's firewall, choose a port that is open, or set exposure = \"private\" and go" +
			" through SSH.",
	}
}

// refusedProof is the error about a server that refuses the request.
func refusedProof(err error, embedding bool) *deploy.Error {
	problem := failure(deploy.PhaseCompletion, "Model did not answer", err)
	switch {
	case vllm.IsUnauthorized(err):
		problem.Cause = "The server refuses the deployment's own key."
		problem.WayOut = "Something else may be listening on the port: choose another port, or look at the machine."
	case vllm.IsUnsupported(err) && !embedding:
		problem.Cause = "The model doesn't complete text."
		problem.WayOut = "For embedding and reward models set ready = { completion = false }."
	case vllm.IsUnsupported(err):
		problem.Cause = "The model neither embeds nor pools text."
		problem.WayOut = "Set ready = { completion = true } for a model that completes text."
	case vllm.IsNotFound(err):
		problem.Cause = "The server on this port serves another model."
		problem.WayOut = "Choose another port, or look at what listens on the machine."
	}
	return problem
}
