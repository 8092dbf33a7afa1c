package lifecycle

import (
	"context"
	"fmt"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// launch is one operation that starts a server, for one goroutine.
type launch struct {
	machine  deploy.Machine
	request  Request
	schedule schedule
	runtime  deploy.Runtime
	others   []deploy.Runtime // of other servers
	gpus     []deploy.GPU
	own      []deploy.Status // the owner's servers that exist already, such as those of a launch that was killed
	warnings []string
	progress progress
	// installed is set once this launch has installed a container engine.
	installed bool
	// replaced is the server that [Replace] replaces; it is no leftover.
	replaced deploy.Ref
	// kills are the kernel's counters before the start.
	kills deploy.Kills
	// dead is the server if it has died, killsAfter the counters after that, and seen the last progress before the failure.
	dead       deploy.Status
	killsAfter deploy.Kills
	seen       string
	early      early
	followers  []*follower
}

// Launch starts a server and returns when it has answered a real request. If it fails or ctx is canceled, it removes what it
// started, within a separate deadline, unless [Request.KeepFailed] is set. If an earlier launch of the owner left a server, Launch
// adopts it if its settings are the same, and otherwise removes it. But a settled server, of a launch that succeeded, may be in use:
// with other settings it is an error.
func Launch(ctx context.Context, machine deploy.Machine, request Request) (deploy.Status, error) {
	l := newLaunch(ctx, machine, request)
	defer l.close()
	wanted, err := l.prepare(ctx)
	if err != nil {
		return deploy.Status{}, err
	}
	return l.bringUp(ctx, wanted)
}

func newLaunch(ctx context.Context, machine deploy.Machine, request Request) *launch {
	return &launch{
		machine: machine, request: request,
		schedule: newSchedule(ctx, time.Now(), request.Phases),
		progress: progress{tell: request.Progress, secrets: request.secrets()},
	}
}

func (l *launch) close() {
	l.early.end()
	for _, f := range l.followers {
		f.stop()
		f.streams.Wait()
	}
	if l.runtime != nil {
		l.others = append(l.others, l.runtime)
	}
	for _, opened := range l.others {
		_ = opened.Close() // only idle connections are left to close
	}
}

// runtimeOf returns the runtime of an existing server. The launch closes it.
func (l *launch) runtimeOf(ctx context.Context, ref deploy.Ref) (deploy.Runtime, error) {
	if ref.Runtime == l.runtime.Kind() {
		return l.runtime, nil
	}
	opened, err := openRuntime(ctx, l.machine, ref)
	if err == nil {
		l.others = append(l.others, opened)
	}
	return opened, err
}

// prepare does all that comes before starting or stopping anything.
func (l *launch) prepare(ctx context.Context) (deploy.Wanted, error) {
	if err := l.request.Validate(); err != nil {
		return deploy.Wanted{}, l.failed(ctx, failure(deploy.PhasePreflight, "Deployment settings are invalid", err))
	}
	if err := l.preflight(ctx); err != nil {
		return deploy.Wanted{}, err
	}
	l.progress.report(deploy.PhasePull, "preparing the image or installation")
	phase, cancel := l.schedule.enter(ctx, deploy.PhasePull)
	defer cancel()
	l.early.wait(phase)
	err := l.again(phase, deploy.PhasePull, func() error {
		return l.runtime.Ready(phase, func(text string) { l.progress.often(deploy.PhasePull, text) })
	})
	if err != nil {
		summary := "Image could not be pulled"
		if l.runtime.Kind() == deploy.Process {
			summary = "vLLM could not be installed"
		}
		return deploy.Wanted{}, l.failed(ctx, failure(deploy.PhasePull, summary, err))
	}
	wanted, err := l.wanted()
	if err != nil {
		return wanted, l.failed(ctx, failure(deploy.PhaseStart, "Deployment settings are invalid", err))
	}
	return wanted, nil
}

// bringUp starts the wanted server, or adopts the existing one, and verifies it.
func (l *launch) bringUp(ctx context.Context, wanted deploy.Wanted) (deploy.Status, error) {
	phase, cancel := l.schedule.enter(ctx, deploy.PhaseStart)
	defer cancel()
	adopted, problem := l.clear(phase, wanted)
	if problem != nil {
		return deploy.Status{}, l.failed(ctx, problem)
	}
	begun, ref := time.Now(), adopted.Ref
	if adopted.State == "" {
		l.progress.report(deploy.PhaseStart, "starting the server")
		l.kills = CountKills(phase, l.machine)
		var err error
		if ref, err = l.runtime.Start(phase, wanted); err != nil {
			return deploy.Status{}, l.undo(ctx, ref, failure(deploy.PhaseStart, "Server could not be started", err))
		}
	} else if !adopted.StartedAt.IsZero() {
		begun = adopted.StartedAt
	}
	l.schedule.ready(time.Now(), l.request.ReadyTimeout)
	status, problem := l.prove(ctx, ref, Client(l.machine, l.request.TLS, ref, l.request.Spec.APIKey))
	if problem != nil {
		return deploy.Status{}, l.undo(ctx, ref, problem)
	}
	status.Adopted = adopted.State != ""
	status.LoadSeconds = max(0, time.Since(begun).Seconds()) // an adopted server's start is by the machine's clock
	return status, nil
}

// prove waits until the server answers a real request, and then makes its runtime keep it running.
func (l *launch) prove(ctx context.Context, ref deploy.Ref, api *vllm.Client) (deploy.Status, *deploy.Error) {
	if problem := l.load(ctx, ref, api); problem != nil {
		return deploy.Status{}, problem
	}
	if problem := l.complete(ctx, ref, api); problem != nil {
		return deploy.Status{}, problem
	}
	phase, cancel := l.schedule.enter(ctx, deploy.PhaseCompletion)
	defer cancel()
	asked := make(chan answers, 1)
	go func() { asked <- l.ask(phase, api) }()
	err := l.again(phase, deploy.PhaseCompletion, func() error { return l.runtime.Settle(phase, ref) })
	words := <-asked
	if err != nil {
		if ctx.Err() != nil {
			return deploy.Status{}, failure(deploy.PhaseCompletion, "Automatic restarts could not be set up", err)
		}
		l.warn(fmt.Sprintf("The server answers, but it will not restart automatically: %v", err))
	}
	l.checkPorts(phase, ref)
	var status deploy.Status
	err = l.again(phase, deploy.PhaseCompletion, func() (err error) {
		status, err = l.runtime.Inspect(phase, ref)
		return err
	})
	if err == nil && status.State != deploy.Running {
		err = fmt.Errorf("the server answered, but then its status was %s", status.State)
	}
	if err != nil {
		return deploy.Status{}, failure(deploy.PhaseCompletion, "Server could not be inspected", err)
	}
	if len(words.notes) > 0 { // perhaps because the connection was lost
		words = l.ask(phase, api)
	}
	for _, note := range words.notes {
		l.warn(note)
	}
	status.Port, status.Listen = ref.Port, ref.Listen
	status.GPUs, status.Kills, status.Warnings = l.gpus, l.kills, l.warnings
	status.VLLMVersion, status.ServedMaxModelLen = words.version, words.maxModelLen
	return status, nil
}

// clear removes the servers that earlier launches of the owner left, because two servers would compete for a GPU. It keeps and returns
// one that has the wanted settings, whose model may have been loading for a long time.
func (l *launch) clear(ctx context.Context, wanted deploy.Wanted) (deploy.Status, *deploy.Error) {
	var adopted deploy.Status
	for _, found := range l.own {
		if found.ID == l.replaced.ID && l.replaced.ID != "" {
			continue
		}
		if adopted.State == "" && l.replaced.ID == "" && fits(found, wanted) && found.Runtime == l.runtime.Kind() {
			l.progress.report(deploy.PhaseStart, "adopting the server that an earlier run left: "+found.Name)
			adopted = found
			continue
		}
		if found.RestartsItself && l.replaced.ID == "" && !l.request.Takeover {
			return deploy.Status{}, l.inUse(found)
		}
		l.progress.report(deploy.PhaseStart, "removing the server that an earlier run left: "+found.Name)
		runtime, err := l.runtimeOf(ctx, found.Ref)
		if err == nil {
			_, err = runtime.Remove(ctx, found.Ref, deploy.Stop{})
		}
		if err != nil {
			return deploy.Status{}, failure(deploy.PhaseStart, "Leftover server could not be removed", err)
		}
	}
	if adopted.State != "" {
		adopted.Port, adopted.Listen = wanted.Port, wanted.Listen
	}
	return adopted, nil
}

// inUse is the error about a settled server, which may belong to another deployment of the same port and name.
func (l *launch) inUse(found deploy.Status) *deploy.Error {
	program := "docker"
	if engine, ok := l.runtime.(*container.Engine); ok {
		program = engine.Program()
	}
	return &deploy.Error{
		Phase: deploy.PhaseStart, Summary: "Another server has this name and port",
		Cause: fmt.Sprintf("The machine already has a server with this name and port. It has answered, but has other settings or"+
			" another key: the %s %s (ID %.12s).", found.Runtime, found.Name, found.ID),
		WayOut: "If it belongs to another deployment, set another port. If nothing uses it, such as after a lost state, remove it from" +
			" the machine: " + found.Removal(program) + ".",
	}
}

// fits reports whether an existing server runs with the wanted settings and secrets.
func fits(found deploy.Status, wanted deploy.Wanted) bool {
	return found.State == deploy.Running && !found.RestartLoop &&
		found.SpecHash == wanted.Hash && found.APIKeyPrint == wanted.APIKeyPrint && found.HFTokenPrint == wanted.HFTokenPrint
}

// answers are a server's answers about itself, with notes about what it doesn't say.
type answers struct {
	version     string
	maxModelLen int
	notes       []string
}

// ask asks the server about itself. A missing answer is no error, because the model has answered.
func (l *launch) ask(ctx context.Context, api *vllm.Client) (words answers) {
	var err error
	if words.version, err = api.Version(ctx); err != nil {
		words.notes = append(words.notes, fmt.Sprintf("The server doesn't report its version: %v", err))
	}
	models, err := api.Models(ctx)
	if err != nil {
		words.notes = append(words.notes, fmt.Sprintf("The server doesn't list its models: %v", err))
	}
	for _, model := range models {
		if model.ID == l.request.Spec.ServedName() {
			words.maxModelLen = model.MaxModelLen
		}
	}
	return words
}

func (l *launch) warn(text string) {
	text = vllm.MaskSecrets(text, l.request.secrets()...)
	l.warnings = append(l.warnings, text)
	l.progress.report(deploy.PhaseCompletion, text)
}
