package sandbox

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// The values of a session's status.
const (
	statusPending      = "pending"
	statusProvisioning = "provisioning"
	statusRunning      = "running"
	statusStopping     = "stopping"
	statusStopped      = "stopped"
	statusFailed       = "failed"
)

var errNotFound = errors.New("record not found")

// session is a row of the service's database. Rows are copied in and out: what one
// request holds in memory can overwrite what another one wrote meanwhile, a quirk of
// the real service.
type session struct {
	// The fields that the service answers with.
	ID           string    `json:"id"`
	Consumer     string    `json:"consumer_id"`
	Provider     string    `json:"provider"`
	GPUType      string    `json:"gpu_type"`
	GPUCount     int       `json:"gpu_count"`
	Status       string    `json:"status"`
	Error        string    `json:"error,omitempty"`
	Host         string    `json:"ssh_host,omitempty"`
	Port         int       `json:"ssh_port,omitempty"`
	User         string    `json:"ssh_user,omitempty"`
	Template     string    `json:"template_hash_id,omitempty"` // not stored: later reads don't have it
	DiskGB       int       `json:"disk_gb,omitempty"`          // the same
	Workload     string    `json:"workload_type"`
	Hours        int       `json:"reservation_hours"`
	Price        float64   `json:"price_per_hour"`
	Created      time.Time `json:"created_at"`
	Expires      time.Time `json:"expires_at"`
	AutoRetry    bool      `json:"auto_retry,omitempty"`
	RetryCount   int       `json:"retry_count,omitempty"`
	Parent       string    `json:"retry_parent_id,omitempty"`
	Child        string    `json:"retry_child_id,omitempty"`
	FailedOffers string    `json:"failed_offers,omitempty"`

	offer, providerID, machineID string
	stopped                      time.Time
	ran                          time.Time     // since when it is running, by the computer's clock
	createdAt                    time.Duration // created, in service time; see Credit
	maxRetries                   int
	retryScope                   string
	sshTimeout                   time.Duration
	entrypoint                   bool
	sequence                     int
}

func (s session) terminal() bool { return s.Status == statusStopped || s.Status == statusFailed }

func (s session) active() bool {
	return s.Status == statusPending || s.Status == statusProvisioning || s.Status == statusRunning
}

// sessions is the service's table of sessions, including those that have ended.
type sessions struct {
	mu   sync.Mutex
	rows map[string]session
	last int
}

func newSessions() *sessions { return &sessions{rows: map[string]session{}} }

// Create inserts a row. If unique is true and there is an active row of the same
// consumer and offer, it returns that one and false instead.
func (t *sessions) Create(s session, unique bool) (session, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if unique {
		if other, found := t.activeLocked(s.Consumer, s.offer); found {
			return other, false
		}
	}
	t.last++
	s.sequence = t.last
	t.rows[s.ID] = stored(s)
	return s, true
}

// Active returns the newest active session of a consumer for an offer.
func (t *sessions) Active(consumer, offer string) (session, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.activeLocked(consumer, offer)
}

func (t *sessions) activeLocked(consumer, offer string) (session, bool) {
	var newest session
	for _, s := range t.rows {
		if s.Consumer == consumer && s.offer == offer && s.active() && s.sequence > newest.sequence {
			newest = s
		}
	}
	return newest, newest.ID != ""
}

// Get returns a copy of a row, or errNotFound.
func (t *sessions) Get(id string) (session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.rows[id]
	if !ok {
		return session{}, errNotFound
	}
	return s, nil
}

// Update writes the whole row, whatever was written to it meanwhile.
func (t *sessions) Update(s session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.updateLocked(s)
}

func (t *sessions) updateLocked(s session) {
	if old, ok := t.rows[s.ID]; ok {
		s.createdAt = old.createdAt
		t.rows[s.ID] = stored(s)
	}
}

// UpdateFrom is Update if the status is still was, and nothing otherwise. The service's periodic checks write rows that they read
// a moment before, and so may undo a DELETE that has ended in between (internal/service/lifecycle/manager.go at e3220c5). That
// moment is too short to matter there; at the sandbox's speed it would be long.
func (t *sessions) UpdateFrom(was string, s session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := t.rows[s.ID]; ok && old.Status == was {
		t.updateLocked(s)
	}
}

// Credit makes a session younger for the periodic check.
func (t *sessions) Credit(id string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if row, ok := t.rows[id]; ok {
		row.createdAt += d
		t.rows[id] = row
	}
}

// List returns the rows that keep accepts, newest first.
func (t *sessions) List(keep func(session) bool) []session {
	t.mu.Lock()
	defer t.mu.Unlock()
	list := []session{}
	for _, s := range t.rows {
		if keep(s) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b session) int { return b.sequence - a.sequence })
	return list
}

// Clear forgets every row.
func (t *sessions) Clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.rows)
}

// stored is a session as the database keeps it.
func stored(s session) session {
	s.DiskGB, s.Template = 0, ""
	return s
}
