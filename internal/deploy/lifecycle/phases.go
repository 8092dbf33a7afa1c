package lifecycle

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// defaultTime bounds an operation whose context has no deadline.
const defaultTime = time.Hour

// defaultPhases suit an hour as well as the few seconds of a test. Preflight's share is large because some machines build their NVIDIA
// driver for up to 25 minutes after boot; later phases get what it doesn't use.
var defaultPhases = []struct {
	phase deploy.Phase
	share float64
}{
	{deploy.PhasePreflight, 0.40},
	{deploy.PhasePull, 0.25},
	{deploy.PhaseStart, 0.05},
	{deploy.PhaseLoad, 0.25},
	{deploy.PhaseCompletion, 0.05},
}

// schedule has the deadline of each phase.
type schedule struct {
	begin, end time.Time
	ends       map[deploy.Phase]time.Time
}

// newSchedule divides the time until ctx's deadline among the phases. Deadlines are fixed: later phases get what a quick one leaves.
func newSchedule(ctx context.Context, now time.Time, shares Phases) schedule {
	s := schedule{begin: now, end: now.Add(defaultTime), ends: map[deploy.Phase]time.Time{}}
	if deadline, ok := ctx.Deadline(); ok {
		s.end = deadline
	}
	sum, used := 0.0, 0.0
	for _, d := range defaultPhases {
		sum += cmp.Or(shares[d.phase], d.share)
	}
	for _, d := range defaultPhases {
		used += cmp.Or(shares[d.phase], d.share)
		s.ends[d.phase] = now.Add(time.Duration(float64(s.end.Sub(now)) * used / sum))
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

// delay delays the deadlines of a phase and of those after it, up to the end of the whole.
func (s schedule) delay(first deploy.Phase, by time.Duration) {
	from := s.ends[first]
	for phase, end := range s.ends {
		if end = end.Add(by); !s.ends[phase].Before(from) && end.Before(s.end) {
			s.ends[phase] = end
		}
	}
}

// ready sets the deadline for a server that is started now to answer, instead of its phases' shares; 0 changes nothing.
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

// limit is the time from the schedule's start to the phase's deadline.
func (s schedule) limit(phase deploy.Phase) time.Duration {
	return s.ends[phase].Sub(s.begin)
}

// progressPause is the shortest time between frequent messages.
const progressPause = time.Second

// progress reports messages, masked, and keeps the last. It is safe for concurrent use.
type progress struct {
	tell    func(Event)
	secrets []string

	mu   sync.Mutex
	last string
	at   time.Time
}

// report reports a message, unless it is the last one again.
func (p *progress) report(phase deploy.Phase, message string) {
	message = vllm.MaskSecrets(message, p.secrets...)
	p.mu.Lock()
	defer p.mu.Unlock()
	if message == "" || message == p.last {
		return
	}
	p.last, p.at = message, time.Now()
	if p.tell != nil {
		p.tell(Event{Phase: phase, Message: message})
	}
}

// often reports a message, unless the last one is less than progressPause ago.
func (p *progress) often(phase deploy.Phase, message string) {
	p.mu.Lock()
	due := time.Since(p.at) >= progressPause
	p.mu.Unlock()
	if due {
		p.report(phase, message)
	}
}

// seen is the last message.
func (p *progress) seen() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// bears reports whether err is about a lost connection, after which the operation can continue. A [host.Line] bounds how often.
func (l *launch) bears(phase deploy.Phase, err error) bool {
	if err == nil || !deploy.Lost(l.machine, err) {
		return false
	}
	l.progress.report(phase, "the connection to the machine was lost; logging in again")
	return true
}

// again calls do, and calls it once more if the connection was lost. do must allow that.
func (l *launch) again(ctx context.Context, phase deploy.Phase, do func() error) error {
	err := do()
	if ctx.Err() == nil && l.bears(phase, err) {
		err = do()
	}
	return err
}
