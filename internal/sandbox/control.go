package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// controlRoutes are the sandbox's own routes, beside the service's.
func (s *Sandbox) controlRoutes() []route {
	return []route{
		{http.MethodGet, "/sandbox/", s.getHelp},
		{http.MethodGet, "/sandbox/ledger", s.getLedger},
		{http.MethodGet, "/sandbox/faults", s.getFaults},
		{http.MethodPut, "/sandbox/faults", s.putFaults},
		{http.MethodPut, "/sandbox/faults/random", s.putRandomFaults},
		{http.MethodGet, "/sandbox/clock", s.getClock},
		{http.MethodPost, "/sandbox/clock", s.postClock},
		{http.MethodPost, "/sandbox/ready", s.postReady},
		{http.MethodPost, "/sandbox/services", s.postService},
		{http.MethodPost, "/sandbox/wipe", s.postWipe},
		{http.MethodPost, "/sandbox/offers/{id}", s.postOffer},
		{http.MethodPost, "/sandbox/machines/{session}/strike", s.postStrike},
		{http.MethodGet, "/sandbox/machines/{session}/commands", s.getCommands},
	}
}

const controlHelp = `The sandbox's own routes. Bodies are JSON; durations are "90s" or seconds, in the service's time.

GET  /sandbox/ledger              what bills and what was ever rented; ?format=text or Accept: text/plain for people
                                  ?consumer=ID for one consumer's
GET  /sandbox/faults              the fault rules, with how often each matched and struck
PUT  /sandbox/faults              a list of rules, which replaces those before:
                                  [{"route": "POST /api/v1/sessions", "nth": 1, "fault": "lose_answer_after"}]
PUT  /sandbox/faults/random       {"seed": 7, "count": 20}: rules made of a seed
GET  /sandbox/clock               the date, the service time and the seed
POST /sandbox/clock               {"advance": "2h"}
POST /sandbox/ready               {"not_ready_for": "30s"}: the start-up sweep again
POST /sandbox/services            start another service over the same clouds and ledger; answers its {"url": ...}
POST /sandbox/wipe                this service loses its database, and the machines bill on
POST /sandbox/offers/ID           {"gone": true} or {"price_per_hour": 1.5}
POST /sandbox/machines/SESSION/strike    {"fault": "lose_ssh", "value": "30s"}: a machine's fault, now
GET  /sandbox/machines/SESSION/commands  every command line that ran on the machine
`

func (s *Sandbox) getHelp(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
	writeText(w, controlHelp+faultHelp())
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text)
}

func (s *Sandbox) getLedger(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	ledger := s.Ledger()
	if consumer := r.URL.Query().Get("consumer"); consumer != "" {
		ledger = ledger.Of(consumer)
	}
	if r.URL.Query().Get("format") == "text" || strings.HasPrefix(r.Header.Get("Accept"), "text/plain") {
		writeText(w, ledger.String())
		return
	}
	writeJSON(w, http.StatusOK, ledger)
}

func (s *Sandbox) getFaults(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
	writeJSON(w, http.StatusOK, s.Faults())
}

func (s *Sandbox) putFaults(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	var rules []Rule
	if !readControl(w, r, &rules) {
		return
	}
	if err := s.SetFaults(rules...); err != nil {
		writeError(w, refuse(http.StatusBadRequest, "%s", err))
		return
	}
	writeJSON(w, http.StatusOK, s.Faults())
}

func (s *Sandbox) putRandomFaults(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	body := struct {
		Seed  int64 `json:"seed"`
		Count int   `json:"count"`
	}{s.Seed(), 20}
	if !readControl(w, r, &body) {
		return
	}
	if err := s.SetFaults(RandomFaults(body.Seed, body.Count)...); err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, s.Faults())
}

func (s *Sandbox) getClock(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
	writeJSON(w, http.StatusOK, map[string]any{
		"now": s.clock.Now(), "elapsed": Duration(s.clock.Elapsed()), "speed": s.clock.speed, "seed": s.Seed(),
	})
}

func (s *Sandbox) postClock(w http.ResponseWriter, r *http.Request, params map[string]string) {
	var body struct {
		Advance Duration `json:"advance"`
	}
	if readControl(w, r, &body) {
		s.Advance(time.Duration(body.Advance))
		s.getClock(w, r, params)
	}
}

func (s *Sandbox) postReady(w http.ResponseWriter, r *http.Request, _ map[string]string) {
	var body struct {
		For Duration `json:"not_ready_for"`
	}
	if readControl(w, r, &body) {
		s.SetNotReady(time.Duration(body.For))
		s.writeReady(w, s.ready())
	}
}

func (s *Sandbox) postService(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
	other, err := s.AnotherService()
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusCreated, map[string]any{"url": other.URL()})
}

func (s *Sandbox) postWipe(w http.ResponseWriter, _ *http.Request, _ map[string]string) {
	s.Wipe()
	writeJSON(w, http.StatusOK, map[string]any{"url": s.URL()})
}

func (s *Sandbox) postOffer(w http.ResponseWriter, r *http.Request, params map[string]string) {
	var body struct {
		Gone  *bool    `json:"gone"`
		Price *float64 `json:"price_per_hour"`
	}
	if !readControl(w, r, &body) {
		return
	}
	var err error
	if body.Gone != nil {
		err = s.SetOfferGone(params["id"], *body.Gone)
	}
	if body.Price != nil {
		err = errors.Join(err, s.SetPrice(params["id"], *body.Price))
	}
	if err != nil {
		writeError(w, refuse(http.StatusNotFound, "%s", err))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"id": params["id"]})
}

func (s *Sandbox) postStrike(w http.ResponseWriter, r *http.Request, params map[string]string) {
	var body struct {
		Fault Fault `json:"fault"`
		Value any   `json:"value"`
	}
	if !readControl(w, r, &body) {
		return
	}
	if err := s.Strike(params["session"], body.Fault, body.Value); err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, ErrNoMachine) {
			status = http.StatusNotFound
		}
		writeError(w, refuse(status, "%s", err))
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"session_id": params["session"], "fault": body.Fault})
}

func (s *Sandbox) getCommands(w http.ResponseWriter, _ *http.Request, params map[string]string) {
	inst := s.cloud.ofSession(params["session"])
	if inst == nil {
		writeError(w, refuse(http.StatusNotFound, "session %s: %s", params["session"], ErrNoMachine))
		return
	}
	commands := inst.host.CommandLog()
	if commands == nil {
		commands = []string{}
	}
	writeJSON(w, http.StatusOK, map[string]any{"commands": commands})
}

// readControl decodes a control request's body, strictly, and answers 400 where it can't.
func readControl(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		writeError(w, refuse(http.StatusBadRequest, "%s", err))
		return false
	}
	return true
}
