package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// service is the rental service itself, between its HTTP routes and the clouds.
type service struct {
	clock     *clock
	sessions  *sessions
	inventory *inventory
	health    *offerHealth
	cloud     *cloud
	costs     *costs
	keys      *keyPool
	templates []Template
	log       *slog.Logger
	login     loginFunc
	timeout   time.Duration       // of the SSH verification, unless a session has another
	interval  time.Duration       // before its first login
	hardMax   time.Duration       // of any session, since it was created
	shut      func(time.Duration) // closes the service's port for that much service time

	reconciler bool // releases machines that no session has

	life context.Context //nolint:containedctx // the sandbox's life, for what goes on after an answer
	work *sync.WaitGroup

	notReady atomic.Int64 // service time until which the start-up sweep runs

	mu     sync.Mutex
	random *rand.Rand
	locks  map[string]*destroyLock
}

// refusal is an error that the service answers with a status, a text and more members.
type refusal struct {
	status int
	text   string
	more   map[string]any
	err    error
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) Unwrap() error { return r.err }

func refuse(status int, format string, args ...any) *refusal {
	return &refusal{status: status, text: fmt.Sprintf(format, args...)}
}

func (s *service) pick(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

func (s *service) ready() bool {
	return s.clock.Elapsed() >= time.Duration(s.notReady.Load())
}

// How often the service checks its sessions, and when it gives up on one.
const (
	checkInterval     = time.Minute
	reconcileInterval = 5 * time.Minute
	stuckAfter        = 10 * time.Minute
)

// watch runs the periodic checks until the sandbox ends.
func (s *service) watch() {
	next, reconcile := s.clock.Elapsed()+checkInterval, s.clock.Elapsed()+reconcileInterval
	for s.clock.SleepUntil(s.life, next) == nil {
		s.check()
		now := s.clock.Elapsed()
		if now >= reconcile {
			s.reconcile(now)
			reconcile = now + reconcileInterval
		}
		next = now + checkInterval
	}
}

func (s *service) check() {
	now, date := s.clock.Elapsed(), s.clock.Now()
	s.costs.Hourly(date, s.sessions.List(func(row session) bool { return row.Status == statusRunning }))
	for _, row := range s.sessions.List(func(row session) bool { return row.Status == statusRunning }) {
		switch {
		case date.Sub(row.Created) > s.hardMax:
			s.work.Go(func() { s.expire(row, "hard max duration exceeded") })
		case date.After(row.Expires):
			s.work.Go(func() { s.expire(row, "reservation expired") })
		}
	}
	for _, row := range s.sessions.List(func(row session) bool {
		return (row.Status == statusStopping || row.Status == statusProvisioning) && now-row.createdAt > stuckAfter
	}) {
		was := row.Status
		row.Error = "Session stuck in provisioning state - provisioning timeout"
		if was == statusStopping {
			row.Error = "Session stuck in stopping state - manual cleanup may be required"
		}
		row.Status, row.stopped = statusFailed, date
		s.sessions.UpdateFrom(was, row)
	}
	for _, row := range s.sessions.List(func(row session) bool { return row.Status == statusFailed && row.providerID != "" }) {
		s.work.Go(func() { s.expire(row, "clean-up of a failed session") })
	}
	if s.reconciler {
		s.releaseOrphans(now)
	}
}

// releaseOrphans destroys machines of this service that belong to none of its sessions.
func (s *service) releaseOrphans(now time.Duration) {
	for _, inst := range s.cloud.billing(s) {
		row, err := s.sessions.Get(inst.session)
		if err == nil && row.providerID == inst.id || now-inst.rentedAt < reconcileInterval {
			continue
		}
		s.work.Go(func() {
			if err := s.cloud.Destroy(s.life, inst.id, "reconciler"); err != nil {
				s.log.Info("destroying a machine without a session", "instance", inst.id, "error", err)
			}
		})
	}
}

func (s *service) expire(row session, why string) {
	if err := s.destroy(s.life, row.ID, why); err != nil {
		s.log.Warn("destroying a session", "session", row.ID, "why", why, "error", err)
	}
}

// reconcile stops sessions whose machine the cloud no longer knows.
func (s *service) reconcile(now time.Duration) {
	for _, row := range s.sessions.List(func(row session) bool {
		return (row.Status == statusRunning || row.Status == statusProvisioning) && row.providerID != "" && now-row.createdAt >= stuckAfter
	}) {
		if s.cloud.Running(row.providerID) {
			continue
		}
		was := row.Status
		row.Status, row.stopped = statusStopped, s.clock.Now()
		row.Error = "Instance not found on provider during reconciliation"
		s.sessions.UpdateFrom(was, row)
	}
}
