package lifecycle

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// defaultTime is how long an operation may take whose context has no deadline.
const defaultTime = time.Hour

// defaultPhases suit both an hour and the few seconds of a stand-in. Preflight's is long because some
// machines build their NVIDIA driver for up to 25 minutes after they have booted; what it leaves over is the others'.
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

// progressPause is how far apart messages are that come often.
const progressPause = time.Second

// progress passes messages on to whoever asked for them, masked, and remembers the last. It is safe for concurrent use.
type progress struct {
	tell    func(Event)
	secrets []string

	mu   sync.Mutex
	last string
	at   time.Time
}

// report passes a message on.
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

// often passes a message on unless the last one is too fresh.
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

// bears tells whether err is about a lost connection that the operation can go on after. A [host.Line] bounds how often that is.
func (l *launch) bears(phase deploy.Phase, err error) bool {
	if err == nil || !deploy.Lost(l.machine, err) {
		return false
	}
	l.progress.report(phase, "the connection to the machine was lost; logging in again")
	return true
}

// again does once more what can be done twice without harm, where the connection was lost under it.
func (l *launch) again(ctx context.Context, phase deploy.Phase, do func() error) error {
	err := do()
	if ctx.Err() == nil && l.bears(phase, err) {
		err = do()
	}
	return err
}
