package lifecycle

import (
	"context"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
)

// early pulls the image, or installs vLLM, while the machine's driver is still being built. Each takes minutes.
type early struct {
	stop context.CancelFunc
	done chan struct{} // nil before the start
}

// getEarly starts early, once, if the driver doesn't decide what the server needs. Errors are ignored: prepare tries again and
// reports them.
func (l *launch) getEarly(ctx context.Context, s *survey) {
	if l.early.done != nil || !s.knowsRuntime() {
		return
	}
	ctx, l.early.stop = l.schedule.enter(context.WithoutCancel(ctx), deploy.PhasePull) // not preflight's time
	l.early.done = make(chan struct{})
	var runtime deploy.Runtime = s.engine
	alone := &survey{request: l.request, home: s.home} // the survey itself continues meanwhile
	go func() {
		defer close(l.early.done)
		if alone.request.Runtime == deploy.Process {
			opened, err := alone.openProcess(ctx, l.machine)
			if err != nil {
				return
			}
			runtime = opened
		}
		_ = runtime.Ready(ctx, func(text string) { l.progress.often(deploy.PhasePull, text) })
	}()
}

// knowsRuntime reports whether the runtime doesn't depend on the driver.
func (s *survey) knowsRuntime() bool {
	if s.request.Runtime == deploy.Process {
		return s.request.Process.Version != ""
	}
	return s.engine != nil && s.engine.Facts.GPUs != container.NoGPUs
}

// wait waits until it has ended, if it was started.
func (e *early) wait(ctx context.Context) {
	if e.done == nil {
		return
	}
	select {
	case <-e.done:
	case <-ctx.Done():
	}
}

// end cancels it.
func (e *early) end() {
	if e.done != nil {
		e.stop()
		<-e.done
	}
}
