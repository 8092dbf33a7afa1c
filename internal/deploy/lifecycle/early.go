package lifecycle

import (
	"context"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
)

// early gets the image, or the installation, while the machine's driver is still being built: both take minutes, and neither
// needs the other.
type early struct {
	stop context.CancelFunc
	done chan struct{} // nil before it was begun
}

// getEarly begins, once, to get what the server needs, where that is known without the driver. Its failure
// is ignored: whatever needs the result tries again, and reports that. It ends with the launch.
func (l *launch) getEarly(ctx context.Context, s *survey) {
	if l.early.done != nil || !s.knowsRuntime() {
		return
	}
	ctx, l.early.stop = l.schedule.enter(context.WithoutCancel(ctx), deploy.PhasePull) // not preflight's time
	l.early.done = make(chan struct{})
	var runtime deploy.Runtime = s.engine
	alone := &survey{request: l.request, home: s.home} // the survey goes on
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

// knowsRuntime reports whether the driver has no say in what the server runs on.
func (s *survey) knowsRuntime() bool {
	if s.request.Runtime == deploy.Process {
		return s.request.Process.Version != ""
	}
	return s.engine != nil && s.engine.Facts.GPUs != container.NoGPUs
}

// wait waits for what was begun early.
func (e *early) wait(ctx context.Context) {
	if e.done == nil {
		return
	}
	select {
	case <-e.done:
	case <-ctx.Done():
	}
}

// end ends it.
func (e *early) end() {
	if e.done != nil {
		e.stop()
		<-e.done
	}
}
