package lifecycle

import (
	"context"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// defaultTime is how long an operation may take whose context has no deadline.
const defaultTime = time.Hour

// defaultPhases suit both an hour and the few seconds of a stand-in. Preflight's is long because some
// machines build their NVIDIA driver for up to 25 minutes after they have booted; what it leaves over is the others'.
var defaultPhases = Phases{Preflight: 0.40, Pull: 0.25, Start: 0.05, Load: 0.25, Completion: 0.05}

// schedule gives each phase its end.
type schedule struct {
	begin, end time.Time
	ends       map[deploy.Phase]time.Time
}

// newSchedule spreads the time until ctx's deadline over the phases. Each ends when all time up to its share is used up, so that an
// early phase that was quick leaves its rest to the later ones.
func newSchedule(ctx context.Context, now time.Time, shares Phases) schedule {
	s := schedule{begin: now, end: now.Add(defaultTime), ends: map[deploy.Phase]time.Time{}}
	if deadline, ok := ctx.Deadline(); ok {
		s.end = deadline
	}
	list := []struct {
		phase          deploy.Phase
		share, without float64
	}{
		{deploy.PhasePreflight, shares.Preflight, defaultPhases.Preflight},
		{deploy.PhasePull, shares.Pull, defaultPhases.Pull},
		{deploy.PhaseStart, shares.Start, defaultPhases.Start},
		{deploy.PhaseLoad, shares.Load, defaultPhases.Load},
		{deploy.PhaseCompletion, shares.Completion, defaultPhases.Completion},
	}
	sum := 0.0
	for i := range list {
		if list[i].share <= 0 {
			list[i].share = list[i].without
		}
		sum += list[i].share
	}
	used := 0.0
	for _, entry := range list {
		used += entry.share
		s.ends[entry.phase] = now.Add(time.Duration(float64(s.end.Sub(now)) * used / sum))
	}
	return s
}

// enter returns the context of a phase.
func (s schedule) enter(ctx context.Context, phase deploy.Phase) (context.Context, context.CancelFunc) {
	end, ok := s.ends[phase]
	if !ok {
		end = s.end
	}
	return context.WithDeadline(ctx, end)
}

// delay gives a phase, and those after it, so much more time within the whole.
func (s schedule) delay(first deploy.Phase, by time.Duration) {
	from := s.ends[first]
	for phase, end := range s.ends {
		if end = end.Add(by); !s.ends[phase].Before(from) && end.Before(s.end) {
			s.ends[phase] = end
		}
	}
}

// ready gives a server that is started now so long to answer, instead of its phases' shares.
func (s schedule) ready(now time.Time, limit time.Duration) {
	if limit <= 0 {
		return
	}
	end := now.Add(limit)
	if end.After(s.end) {
		end = s.end
	}
	s.ends[deploy.PhaseLoad], s.ends[deploy.PhaseCompletion] = end, end
}

// limit is how long the phase could take if all before it had taken none.
func (s schedule) limit(phase deploy.Phase) time.Duration {
	return s.ends[phase].Sub(s.begin)
}
