package sandbox

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxBody is the largest request body that the service reads.
const maxBody = 1 << 20

// requestIDHeader is set on every answer before its handler runs.
const requestIDHeader = "X-Request-Id"

func (s *service) routes() []route {
	return []route{
		{http.MethodGet, "/health", s.getHealth},
		{http.MethodGet, "/ready", s.getReady},
		{http.MethodGet, "/api/v1/inventory", s.listInventory},
		{http.MethodGet, "/api/v1/inventory/{id}", s.getOffer},
		{http.MethodGet, "/api/v1/inventory/{id}/compatible-templates", s.compatibleTemplates},
		{http.MethodGet, "/api/v1/templates", s.listTemplates},
		{http.MethodGet, "/api/v1/templates/{id}", s.getTemplate},
		{http.MethodPost, "/api/v1/sessions", s.postSession},
		{http.MethodGet, "/api/v1/sessions", s.listSessions},
		{http.MethodGet, "/api/v1/sessions/{id}", s.getSession},
		{http.MethodGet, "/api/v1/sessions/{id}/diagnostics", s.getDiagnostics},
		{http.MethodPost, "/api/v1/sessions/{id}/done", s.postDone},
		{http.MethodPost, "/api/v1/sessions/{id}/extend", s.postExtend},
		{http.MethodDelete, "/api/v1/sessions/{id}", s.deleteSession},
		{http.MethodGet, "/api/v1/costs", s.getCosts},
		{http.MethodGet, "/api/v1/costs/summary", s.getCostSummary},
		{http.MethodGet, "/api/v1/offer-health", s.getOfferHealth},
	}
}

// notFound answers a request without a route as the service's router does.
func notFound(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte("404 page not found"))
}

// writeJSON answers with a body as JSON. It returns an error, and has not answered,
// if the body can't be encoded.
func writeJSON(w http.ResponseWriter, status int, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client has hung up
	return nil
}

// writeError answers with an error in the service's form.
func writeError(w http.ResponseWriter, err error) {
	body := map[string]any{}
	status := http.StatusInternalServerError
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		status = refused.status
		maps.Copy(body, refused.more)
	case errors.Is(err, errNotFound):
		status = http.StatusNotFound
	}
	body["error"], body["request_id"] = err.Error(), w.Header().Get(requestIDHeader)
	_ = writeJSON(w, status, body) // text and numbers
}

// readJSON decodes the first JSON value of a request's body. Its errors are in the
// decoder's words, as the real service's are. name is the name of into's Go type there.
func readJSON(w http.ResponseWriter, r *http.Request, name string, into any) error {
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(into)
	if err == nil {
		return nil
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field != "" {
		kind.Struct = name
		err = kind
	} else if kind != nil { // of the whole body
		return refuse(http.StatusBadRequest, "json: cannot unmarshal %s into Go value of type api.%s", kind.Value, name)
	}
	return refuse(http.StatusBadRequest, "%s", err)
}

// reflected is a client's id as the service repeats it in an error.
func reflected(id string) string {
	id = strings.Map(func(r rune) rune {
		if r < ' ' || r == '<' || r == '>' {
			return -1
		}
		return r
	}, id[:min(len(id), 128)])
	return strings.ToValidUTF8(id, "")
}

func (s *service) getHealth(w http.ResponseWriter, _ *http.Request) error {
	return s.writeHealth(w, s.ready())
}

func (s *service) writeHealth(w http.ResponseWriter, ready bool) error {
	status, word := http.StatusOK, "ok"
	if !ready {
		status, word = http.StatusServiceUnavailable, "unavailable"
	}
	return writeJSON(w, status, struct {
		Status    string            `json:"status"`
		Timestamp time.Time         `json:"timestamp"`
		Services  map[string]string `json:"services"`
	}{word, s.clock.Now(), map[string]string{"inventory": "ok", "lifecycle": "running", "ready": strconv.FormatBool(ready)}})
}

func (s *service) getReady(w http.ResponseWriter, _ *http.Request) error {
	return s.writeReady(w, s.ready())
}

func (s *service) writeReady(w http.ResponseWriter, ready bool) error {
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	return writeJSON(w, status, map[string]any{"ready": ready, "timestamp": s.clock.Now()})
}

func (s *service) getCosts(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	if id := q.Get("session_id"); id != "" {
		if _, err := s.sessions.Get(id); err != nil {
			return refuse(http.StatusNotFound, "session not found: %s", reflected(id))
		}
		return writeJSON(w, http.StatusOK, map[string]any{"session_id": id, "total_cost": s.costs.Session(id), "currency": "USD"})
	}
	start, end, err := costPeriod(q, s.clock.Now())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.costs.Summary(q.Get("consumer_id"), start, end))
}

func (s *service) getCostSummary(w http.ResponseWriter, r *http.Request) error {
	start, end, _ := costPeriod(nil, s.clock.Now()) // this month
	return writeJSON(w, http.StatusOK, s.costs.Summary(r.URL.Query().Get("consumer_id"), start, end))
}

func (s *service) getOfferHealth(w http.ResponseWriter, r *http.Request) error {
	offers, types := s.health.Answer(r.URL.Query().Get("provider"), r.URL.Query().Get("gpu_type"))
	return writeJSON(w, http.StatusOK, map[string]any{"offers": offers, "gpu_types": types, "count": len(offers)})
}
