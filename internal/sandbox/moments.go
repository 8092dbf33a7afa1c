package sandbox

import (
	"net/http"
	"time"
)

// Moments are the times since when a session's machine can be used, by the computer's clock; zero before.
type Moments struct {
	// SSH is when the machine began to accept connections, Running when the session's status became that.
	SSH     time.Time `json:"ssh,omitzero"`
	Running time.Time `json:"running,omitzero"`
	// Ready is when the machine's vLLM began to serve.
	Ready time.Time `json:"ready,omitzero"`
}

// Moments returns those of a session, or errNotFound.
func (s *Sandbox) Moments(sessionID string) (m Moments, err error) {
	row, err := s.sessions.Get(sessionID)
	if err != nil {
		return m, err
	}
	m.Running = row.ran
	if inst := s.cloud.ofSession(sessionID); inst != nil {
		s.cloud.mu.Lock()
		m.SSH = inst.answers
		s.cloud.mu.Unlock()
	}
	rented := s.rentedMachine(sessionID)
	if rented == nil {
		return m, nil
	}
	claims, err := rented.Root().Claims()
	for _, claim := range claims {
		if claim.Ready.After(m.Ready) {
			m.Ready = claim.Ready
		}
	}
	return m, err
}

func (s *Sandbox) getMoments(w http.ResponseWriter, r *http.Request) error {
	m, err := s.Moments(r.PathValue("session"))
	if err != nil {
		return refuse(http.StatusNotFound, "session %s: %s", r.PathValue("session"), err)
	}
	return writeJSON(w, http.StatusOK, m)
}
