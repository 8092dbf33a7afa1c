package sandbox

import (
	"context"
	"net/http"
	"time"
)

// destroyAttempts is how often the service asks a cloud to destroy a machine before it
// gives up. It waits 5, 10, 15 … seconds after each attempt, 275 in all.
const destroyAttempts = 10

// destroyLock lets one request at a time destroy a session.
type destroyLock struct {
	held  chan struct{} // holds one token while the lock is free
	users int
}

func (s *service) lock(id string) *destroyLock {
	s.mu.Lock()
	l, ok := s.locks[id]
	if !ok {
		l = &destroyLock{held: make(chan struct{}, 1)}
		l.held <- struct{}{}
		s.locks[id] = l
	}
	l.users++
	s.mu.Unlock()
	<-l.held
	return l
}

func (s *service) unlock(id string, l *destroyLock) {
	l.held <- struct{}{}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(s.locks, id)
	}
}

// destroy ends a session as DELETE does. It returns nil at once for a session that is
// stopped, or that another request is or was stopping.
func (s *service) destroy(ctx context.Context, id, by string) error {
	l := s.lock(id)
	defer s.unlock(id, l)
	row, err := s.sessions.Get(id)
	if err != nil {
		return err
	}
	if row.Status == statusFailed && row.providerID != "" {
		s.cleanFailed(ctx, row, by)
		return nil
	}
	if row.terminal() || row.Status == statusStopping {
		return nil
	}
	row.Status = statusStopping
	s.sessions.Update(row)
	if row.providerID != "" {
		if err := s.destroyVerified(ctx, row, by); err != nil {
			return err // the session stays in stopping
		}
	}
	row.Status, row.stopped = statusStopped, s.clock.Now()
	s.sessions.Update(row)
	return nil
}

// cleanFailed asks the cloud once to destroy the machine of a failed session, and takes
// it for gone whatever the cloud answers.
func (s *service) cleanFailed(ctx context.Context, row session, by string) {
	if err := s.cloud.Destroy(ctx, row.providerID, by); err != nil {
		s.log.Info("cleaning a failed session", "session", row.ID, "error", err)
	}
	if now, err := s.sessions.Get(row.ID); err == nil {
		row = now // a replacement may have been rented meanwhile
	}
	row.providerID, row.Status, row.stopped = "", statusStopped, s.clock.Now()
	s.sessions.Update(row)
}

// destroyVerified asks the cloud to destroy a machine until the cloud no longer knows
// it, or ctx ends because the client has hung up.
func (s *service) destroyVerified(ctx context.Context, row session, by string) error {
	for n := 1; n <= destroyAttempts; n++ {
		asked := s.clock.Elapsed()
		if err := s.cloud.Destroy(ctx, row.providerID, by); err != nil {
			s.log.Info("the cloud doesn't destroy", "session", row.ID, "attempt", n, "error", err)
		}
		if err := s.clock.SleepUntil(ctx, asked+time.Duration(n)*5*time.Second); err != nil {
			return err
		}
		if !s.cloud.Running(row.providerID) {
			return nil
		}
	}
	return refuse(http.StatusInternalServerError, "failed to verify destruction of session %s (provider: %s) after %d attempts",
		row.ID, row.providerID, destroyAttempts)
}

// done ends a session that its consumer no longer needs.
func (s *service) done(ctx context.Context, id string) error {
	row, err := s.sessions.Get(id)
	if err != nil {
		return err
	}
	if row.terminal() {
		return terminalError(row)
	}
	return s.destroy(ctx, id, "done")
}

func terminalError(row session) error {
	return refuse(http.StatusConflict, "session %s is in terminal state: %s", row.ID, row.Status)
}

// extend adds hours to a session's reservation and returns its new end.
func (s *service) extend(id string, hours int) (time.Time, error) {
	row, err := s.sessions.Get(id)
	if err != nil {
		return time.Time{}, err
	}
	if row.terminal() || row.Status == statusStopping {
		return time.Time{}, terminalError(row)
	}
	age, more := s.clock.Now().Sub(row.Created), time.Duration(hours)*time.Hour
	if age+more > s.hardMax {
		return time.Time{}, refuse(http.StatusBadRequest,
			"extension would exceed %.0f-hour hard max: session %s has been running for %.1f hours, requested %d more hours",
			s.hardMax.Hours(), id, age.Hours(), hours)
	}
	row.Expires, row.Hours = row.Expires.Add(more), row.Hours+hours
	s.sessions.Update(row)
	return row.Expires, nil
}
