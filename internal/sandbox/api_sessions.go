package sandbox

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func (s *service) postSession(w http.ResponseWriter, r *http.Request) error {
	var req createSession
	if err := readJSON(w, r, "CreateSessionRequest", &req); err != nil {
		return err
	}
	if err := req.validate(); err != nil {
		return err
	}
	offer, found := s.inventory.Get(req.Offer)
	if !found {
		return refuse(http.StatusNotFound, "offer not found: %s", reflected(req.Offer))
	}
	if req.AutoRetry && req.MaxRetries <= 0 {
		req.MaxRetries = 3
	}
	req.MaxRetries = min(req.MaxRetries, 5)
	row, key, err := s.rent(r.Context(), req, offer, attempt{})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, struct {
		Session session `json:"session"`
		Key     string  `json:"ssh_private_key"`
		Retries int     `json:"retries_attempted,omitempty"`
	}{row, key, row.RetryCount})
}

func (s *service) listSessions(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	limit := 0
	if text := q.Get("limit"); text != "" {
		n, err := strconv.ParseInt(text, 10, 0)
		if err != nil {
			return refuse(http.StatusBadRequest, "%s", err)
		}
		limit = int(n)
	}
	consumer, status, provider := q.Get("consumer_id"), q.Get("status"), q.Get("provider")
	rows := s.sessions.List(func(row session) bool {
		return (consumer == "" || row.Consumer == consumer) && (status == "" || row.Status == status) &&
			(provider == "" || row.Provider == provider)
	})
	if limit > 0 {
		rows = rows[:min(limit, len(rows))]
	}
	return writeJSON(w, http.StatusOK, map[string]any{"sessions": rows, "count": len(rows)})
}

func (s *service) getSession(w http.ResponseWriter, r *http.Request) error {
	row, err := s.sessions.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, row)
}

func (s *service) getDiagnostics(w http.ResponseWriter, r *http.Request) error {
	row, err := s.sessions.Get(r.PathValue("id"))
	if err != nil {
		return err
	}
	if row.Status != statusRunning {
		return refuse(http.StatusBadRequest, "session is not running; diagnostics only available for running sessions")
	}
	now := s.clock.Now()
	return writeJSON(w, http.StatusOK, map[string]any{
		"session_id": row.ID, "status": row.Status, "provider": row.Provider, "gpu_type": row.GPUType, "gpu_count": row.GPUCount,
		"ssh_host": row.Host, "ssh_port": row.Port, "ssh_user": row.User, "created_at": row.Created, "expires_at": row.Expires,
		"uptime": hoursAndMinutes(now.Sub(row.Created)), "time_to_expiry": hoursAndMinutes(row.Expires.Sub(now)),
		"ssh_available": row.Host != "" && row.Port > 0,
		"note": "Full SSH diagnostics (GPU status, health checks) require client-side SSH access." +
			" The private key is not stored server-side for security.",
	})
}

// hoursAndMinutes writes a duration as the service does.
func hoursAndMinutes(d time.Duration) string {
	if d < 0 {
		return "expired"
	}
	minutes := strconv.Itoa(int(d.Minutes())%60) + "m"
	if d < time.Hour {
		return minutes
	}
	return strconv.Itoa(int(d.Hours())) + "h " + minutes
}

func (s *service) deleteSession(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	err := s.destroy(r.Context(), id, "DELETE")
	if errors.Is(err, errNotFound) {
		err = refuse(http.StatusNotFound, "session not found: %s", reflected(id))
	}
	if err != nil {
		return err
	}
	return acknowledge(w, "session destroyed", id)
}

func acknowledge(w http.ResponseWriter, message, id string) error {
	return writeJSON(w, http.StatusOK, map[string]any{"message": message, "session_id": id})
}

func (s *service) postDone(w http.ResponseWriter, r *http.Request) error {
	if err := s.done(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	return acknowledge(w, "session shutdown initiated", r.PathValue("id"))
}

func (s *service) postExtend(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Hours int `json:"additional_hours"`
	}
	if err := readJSON(w, r, "ExtendSessionRequest", &body); err != nil {
		return err
	}
	if problem := hoursProblem("additional_hours", body.Hours); problem != "" {
		return refuse(http.StatusBadRequest, "%s", problem)
	}
	expires, err := s.extend(r.PathValue("id"), body.Hours)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"message": "session extended", "session_id": r.PathValue("id"), "new_expires_at": expires})
}

// about returns the offer and consumer that a request concerns, for rules that name one.
func (s *service) about(path string, body createSession) subject {
	if body.Offer != "" || body.Consumer != "" {
		return subject{offer: body.Offer, consumer: body.Consumer}
	}
	parts := strings.Split(path, "/")
	for i, part := range parts[:len(parts)-1] {
		switch part {
		case "sessions":
			if row, err := s.sessions.Get(parts[i+1]); err == nil {
				return subject{offer: row.offer, consumer: row.Consumer}
			}
		case "inventory":
			return subject{offer: parts[i+1]}
		}
	}
	return subject{}
}
