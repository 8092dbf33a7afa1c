package shopper

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Status is the status of a session. A status of a later version of the service is kept unchanged.
type Status string

// The statuses of a session, in the order of its life; it may also fail. The service sets a failed session that had a machine to
// stopped within about a minute.
const (
	Pending      Status = "pending"
	Provisioning Status = "provisioning"
	Running      Status = "running"
	Stopping     Status = "stopping"
	Stopped      Status = "stopped"
	Failed       Status = "failed"
)

// Statuses lists the statuses that this client knows.
func Statuses() []Status { return []Status{Pending, Provisioning, Running, Stopping, Stopped, Failed} }

// Known reports whether this client knows the status.
func (s Status) Known() bool { return slices.Contains(Statuses(), s) }

// Terminal reports whether the session has ended. For a failed session, that doesn't prove that its machine is gone: only Stopped
// does.
func (s Status) Terminal() bool { return s == Stopped || s == Failed }

// WorkloadType is what a machine is for.
type WorkloadType string

// WorkloadLLMVLLM is the type for vLLM.
const WorkloadLLMVLLM WorkloadType = "llm_vllm"

// WorkloadTypes lists the types that the service accepts. For "llm" with neither a template nor an on-start command, it installs Ollama on
// the machine.
func WorkloadTypes() []WorkloadType {
	return []WorkloadType{"llm", WorkloadLLMVLLM, "llm_tgi", "training", "batch", "interactive", "inference", "ssh", "benchmark"}
}

// Session is a rental as the service returns it, which is without the offer, the storage policy and the idle threshold.
type Session struct {
	ID         string `json:"id"`
	ConsumerID string `json:"consumer_id"`
	// Cloud is the service's name of the cloud: vastai, tensordock, bluelobster.
	Cloud    string `json:"provider"`
	GPUType  string `json:"gpu_type"`
	GPUCount int    `json:"gpu_count"`
	Status   Status `json:"status"`
	// Error says why a session failed. It stays when the session is stopped.
	Error string `json:"error,omitempty"`

	SSHHost string `json:"ssh_host,omitempty"`
	SSHPort int    `json:"ssh_port,omitempty"`
	SSHUser string `json:"ssh_user,omitempty"`

	TemplateHashID string       `json:"template_hash_id,omitempty"`
	DiskGB         int          `json:"disk_gb,omitempty"`
	WorkloadType   WorkloadType `json:"workload_type"`

	ReservationHours int `json:"reservation_hours"`
	// PricePerHour is in USD. Only the answer to the POST has the actual price; every later read has the offer's.
	PricePerHour float64   `json:"price_per_hour"`
	CreatedAt    time.Time `json:"created_at"`
	ExpiresAt    time.Time `json:"expires_at"`

	AutoRetry     bool   `json:"auto_retry,omitempty"`
	RetryParentID string `json:"retry_parent_id,omitempty"`
	// RetryChildID is the ID of a replacement that the service rented by itself, and whose private key nobody has. It bills, and
	// must be released too.
	RetryChildID string `json:"retry_child_id,omitempty"`
}

func (s *Session) toUTC() {
	s.CreatedAt = s.CreatedAt.UTC()
	s.ExpiresAt = s.ExpiresAt.UTC()
}

// CreateSession is the request to rent. It lacks the service's auto_retry, which can rent a machine that nobody can log in to,
// launch_mode, whose only other value never makes a session ready, and storage_policy, which has no effect.
type CreateSession struct {
	ConsumerID        string       `json:"consumer_id"`
	OfferID           string       `json:"offer_id"`
	WorkloadType      WorkloadType `json:"workload_type"`
	ReservationHours  int          `json:"reservation_hours"` // 1 to 12
	DiskGB            int          `json:"disk_gb,omitempty"`
	TemplateHashID    string       `json:"template_hash_id,omitempty"`
	OnStartCmd        string       `json:"on_start_cmd,omitempty"`
	SSHTimeoutMinutes int          `json:"ssh_timeout_minutes,omitempty"` // 1 to 30
}

// Created is the answer to the request to rent, the only one that contains the private key. Printing it shows no key.
type Created struct {
	Session    Session
	PrivateKey string // PEM; not validated
}

// String returns the session's ID.
func (c Created) String() string { return fmt.Sprintf("session %s (private key hidden)", c.Session.ID) }

// GoString is String: %#v must not show the key either.
func (c Created) GoString() string { return c.String() }

// LogValue is String: a structured log must not show the key either.
func (c Created) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON leaves the key out.
func (c Created) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// SessionFilter selects sessions. ConsumerID, Status and Cloud match exactly; "" matches all.
type SessionFilter struct {
	ConsumerID string
	Status     Status
	Cloud      string
	// Limit selects the newest ones, MaxSessions at most. A shorter list is complete. With 0 the list is complete; more than
	// MaxSessions are an error.
	Limit int
}

// Diagnostics is what the service reports about a running session.
type Diagnostics struct {
	SessionID string `json:"session_id"`
	// SSHAvailable only means that the machine has an address.
	SSHAvailable bool `json:"ssh_available"`
}
