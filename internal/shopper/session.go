package shopper

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Status is the service's word for where a session is in its life. Words of
// later versions are kept as they are.
type Status string

// A session's life: pending, provisioning, running, stopping, stopped; or
// failed. A failed session that had a machine is turned into stopped by the
// service within about a minute.
const (
	Pending      Status = "pending"
	Provisioning Status = "provisioning"
	Running      Status = "running"
	Stopping     Status = "stopping"
	Stopped      Status = "stopped"
	Failed       Status = "failed"
)

// Statuses are the words that this version of the client knows.
func Statuses() []Status { return []Status{Pending, Provisioning, Running, Stopping, Stopped, Failed} }

// Known reports whether this version of the client knows the word.
func (s Status) Known() bool { return slices.Contains(Statuses(), s) }

// Terminal reports whether the service calls the session ended. It proves
// nothing about the machine of a failed one: only Stopped does.
func (s Status) Terminal() bool { return s == Stopped || s == Failed }

// WorkloadType tells the service what a machine is for.
type WorkloadType string

// The words that the service takes. WorkloadLLM without a template or an
// on-start command makes it install Ollama on the machine.
const (
	WorkloadLLM         WorkloadType = "llm"
	WorkloadLLMVLLM     WorkloadType = "llm_vllm"
	WorkloadLLMTGI      WorkloadType = "llm_tgi"
	WorkloadTraining    WorkloadType = "training"
	WorkloadBatch       WorkloadType = "batch"
	WorkloadInteractive WorkloadType = "interactive"
	WorkloadInference   WorkloadType = "inference"
	WorkloadSSH         WorkloadType = "ssh"
	WorkloadBenchmark   WorkloadType = "benchmark"
)

// WorkloadTypes lists the words that the service takes.
func WorkloadTypes() []WorkloadType {
	return []WorkloadType{
		WorkloadLLM, WorkloadLLMVLLM, WorkloadLLMTGI, WorkloadTraining, WorkloadBatch,
		WorkloadInteractive, WorkloadInference, WorkloadSSH, WorkloadBenchmark,
	}
}

// Session is a rental as the service describes it. The service never returns
// the offer, the storage policy and the idle threshold it was made with.
type Session struct {
	ID         string `json:"id"`
	ConsumerID string `json:"consumer_id"`
	// Cloud is the service's name of the cloud: vastai, tensordock, bluelobster.
	Cloud    string `json:"provider"`
	GPUType  string `json:"gpu_type"`
	GPUCount int    `json:"gpu_count"`
	Status   Status `json:"status"`
	// Error says why a session failed; it stays when the session is stopped.
	Error string `json:"error,omitempty"`

	SSHHost string `json:"ssh_host,omitempty"`
	SSHPort int    `json:"ssh_port,omitempty"`
	SSHUser string `json:"ssh_user,omitempty"`

	TemplateHashID string       `json:"template_hash_id,omitempty"`
	DiskGB         int          `json:"disk_gb,omitempty"`
	WorkloadType   WorkloadType `json:"workload_type"`

	ReservationHours int `json:"reservation_hours"`
	// PricePerHour is in USD. What is really paid stands in the answer to the POST
	// alone; every later read gives the offer's price instead.
	PricePerHour float64   `json:"price_per_hour"`
	CreatedAt    time.Time `json:"created_at"`
	ExpiresAt    time.Time `json:"expires_at"`

	AutoRetry     bool   `json:"auto_retry,omitempty"`
	RetryParentID string `json:"retry_parent_id,omitempty"`
	// RetryChildID names the replacement that the service rented by itself, whose
	// private key nobody has. It bills, and must be released too.
	RetryChildID string `json:"retry_child_id,omitempty"`
}

func (s *Session) toUTC() {
	s.CreatedAt = s.CreatedAt.UTC()
	s.ExpiresAt = s.ExpiresAt.UTC()
}

// CreateSession is a rental to be made. There is no field for the service's
// auto_retry, which can rent a machine that nobody can log in to, and none for
// launch_mode, whose only other value never becomes ready, nor for storage_policy,
// which is stored and enforced nowhere.
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

// Created is the answer to a rental, and the only place where its private key
// ever appears. Printing it shows no key.
type Created struct {
	Session    Session
	PrivateKey string // PEM as sent; not looked into
}

// String names the session.
func (c Created) String() string { return fmt.Sprintf("session %s (private key hidden)", c.Session.ID) }

// GoString is String: %#v must not show the key either.
func (c Created) GoString() string { return c.String() }

// LogValue is String: a structured log must not show the key either.
func (c Created) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON leaves the key out.
func (c Created) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// SessionFilter narrows a list of sessions. ConsumerID, Status and Cloud are
// matched exactly by the service; "" matches all.
type SessionFilter struct {
	ConsumerID string
	Status     Status
	Cloud      string
	// Limit asks for the newest ones only, MaxSessions at most. A shorter list is
	// complete. With 0 the list is complete, or an error when there are more than
	// MaxSessions.
	Limit int
}

// Diagnostics is what the service reports of a running session.
type Diagnostics struct {
	SessionID string `json:"session_id"`
	// SSHAvailable means no more than that the machine has an address.
	SSHAvailable bool `json:"ssh_available"`
}
