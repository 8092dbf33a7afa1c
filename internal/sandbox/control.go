package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// control is one of the sandbox's own routes.
type control struct {
	route
	help string // what it does, and an example of its body
}

func (s *Sandbox) controls() []control {
	return []control{
		{route{http.MethodGet, "/sandbox/", s.getHelp}, "this help"},
		{route{http.MethodGet, "/sandbox/ledger", s.getLedger}, "what bills now, and everything that was ever rented; ?format=text or " +
			"Accept: text/plain for people, ?consumer=ID for one consumer"},
		{route{http.MethodGet, "/sandbox/traffic", s.getTraffic}, "how many requests the service got, by route, and how many logins and other requests " +
			"all machines got"},
		{route{http.MethodGet, "/sandbox/faults", s.getFaults}, "the fault rules, and how often each matched and struck"},
		{route{http.MethodPut, "/sandbox/faults", s.putFaults}, `replace the fault rules: [{"route": "POST /api/v1/sessions", "nth": 1, ` +
			`"fault": "lose_answer_after"}]`},
		{route{http.MethodPut, "/sandbox/faults/random", s.putRandomFaults}, `replace them with random ones: {"seed": 7, "count": 20}`},
		{route{http.MethodGet, "/sandbox/clock", s.getClock}, "the date, the service time, the speed and the seed"},
		{route{http.MethodPost, "/sandbox/clock", s.postClock}, `move the clock forward: {"advance": "2h"}`},
		{route{http.MethodPost, "/sandbox/ready", s.postReady}, `begin the start-up sweep again: {"not_ready_for": "30s"}`},
		{route{http.MethodPost, "/sandbox/services", s.postService}, `start another service with the same clouds and ledger; the answer is {"url": ...}`},
		{route{http.MethodPost, "/sandbox/wipe", s.postWipe}, "delete this service's database, while its machines run and bill on"},
		{route{http.MethodPost, "/sandbox/offers/{id}", s.postOffer}, `take an offer off the market, or change its price: {"gone": true}, ` +
			`{"price_per_hour": 1.5}`},
		{route{http.MethodPost, "/sandbox/machines/{session}/strike", s.postStrike}, `do one of the faults of "machine boot" or "container start" ` +
			`to a machine now: {"fault": "lose_ssh", "value": "30s"}`},
		{route{http.MethodGet, "/sandbox/machines/{session}/moments", s.getMoments}, "when SSH began to answer, the session to run, and " +
			"vLLM to serve, by the computer's clock"},
		{route{http.MethodGet, "/sandbox/machines/{session}/commands", s.getCommands}, "every command line that ran on the machine"},
	}
}

func (s *Sandbox) getHelp(w http.ResponseWriter, _ *http.Request) error {
	var text strings.Builder
	text.WriteString("The sandbox's own routes, beside the service's. Bodies are JSON. A duration is \"90s\" or a number of seconds, in service time.\n\n")
	for _, c := range s.controls() {
		fmt.Fprintf(&text, "%-4s %s\n       %s\n", c.method, c.pattern, c.help)
	}
	return writeText(w, text.String()+faultHelp())
}

func writeText(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := io.WriteString(w, text)
	return err
}

func (s *Sandbox) getLedger(w http.ResponseWriter, r *http.Request) error {
	ledger := s.Ledger()
	if consumer := r.URL.Query().Get("consumer"); consumer != "" {
		ledger = ledger.Of(consumer)
	}
	if r.URL.Query().Get("format") == "text" || strings.HasPrefix(r.Header.Get("Accept"), "text/plain") {
		return writeText(w, ledger.String())
	}
	return writeJSON(w, http.StatusOK, ledger)
}

func (s *Sandbox) getFaults(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, s.Faults())
}

func (s *Sandbox) putFaults(w http.ResponseWriter, r *http.Request) error {
	var rules []Rule
	if err := readControl(w, r, &rules); err != nil {
		return err
	}
	if err := s.SetFaults(rules...); err != nil {
		return refuse(http.StatusBadRequest, "%s", err)
	}
	return writeJSON(w, http.StatusOK, s.Faults())
}

func (s *Sandbox) putRandomFaults(w http.ResponseWriter, r *http.Request) error {
	body := struct {
		Seed  int64 `json:"seed"`
		Count int   `json:"count"`
	}{s.Seed(), 20}
	if err := readControl(w, r, &body); err != nil {
		return err
	}
	if err := s.SetFaults(RandomFaults(body.Seed, body.Count)...); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.Faults())
}

func (s *Sandbox) getClock(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]any{
		"now": s.clock.Now(), "elapsed": Duration(s.clock.Elapsed()), "speed": s.clock.speed, "seed": s.Seed(),
	})
}

func (s *Sandbox) postClock(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Advance Duration `json:"advance"`
	}
	if err := readControl(w, r, &body); err != nil {
		return err
	}
	s.Advance(time.Duration(body.Advance))
	return s.getClock(w, r)
}

func (s *Sandbox) postReady(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		For Duration `json:"not_ready_for"`
	}
	if err := readControl(w, r, &body); err != nil {
		return err
	}
	s.SetNotReady(time.Duration(body.For))
	return s.writeReady(w, s.ready())
}

func (s *Sandbox) postService(w http.ResponseWriter, _ *http.Request) error {
	other, err := s.AnotherService()
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, map[string]any{"url": other.URL()})
}

func (s *Sandbox) postWipe(w http.ResponseWriter, _ *http.Request) error {
	s.Wipe()
	return writeJSON(w, http.StatusOK, map[string]any{"url": s.URL()})
}

func (s *Sandbox) postOffer(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Gone  *bool    `json:"gone"`
		Price *float64 `json:"price_per_hour"`
	}
	if err := readControl(w, r, &body); err != nil {
		return err
	}
	var err error
	if body.Gone != nil {
		err = s.market.SetGone(r.PathValue("id"), *body.Gone)
	}
	if body.Price != nil {
		err = errors.Join(err, s.market.SetPrice(r.PathValue("id"), *body.Price))
	}
	if err != nil {
		return refuse(http.StatusNotFound, "%s", err)
	}
	return writeJSON(w, http.StatusOK, map[string]any{"id": r.PathValue("id")})
}

func (s *Sandbox) postStrike(w http.ResponseWriter, r *http.Request) error {
	var body struct {
		Fault Fault `json:"fault"`
		Value any   `json:"value"`
	}
	if err := readControl(w, r, &body); err != nil {
		return err
	}
	if err := s.Strike(r.PathValue("session"), body.Fault, body.Value); err != nil {
		status := http.StatusBadRequest
		if errors.Is(err, ErrNoMachine) {
			status = http.StatusNotFound
		}
		return refuse(status, "%s", err)
	}
	return writeJSON(w, http.StatusOK, map[string]any{"session_id": r.PathValue("session"), "fault": body.Fault})
}

func (s *Sandbox) getCommands(w http.ResponseWriter, r *http.Request) error {
	inst := s.cloud.ofSession(r.PathValue("session"))
	if inst == nil {
		return refuse(http.StatusNotFound, "session %s: %s", r.PathValue("session"), ErrNoMachine)
	}
	commands := inst.host.CommandLog()
	if commands == nil {
		commands = []string{}
	}
	return writeJSON(w, http.StatusOK, map[string]any{"commands": commands})
}

// readControl decodes the body of a control request, which may have no unknown members.
func readControl(w http.ResponseWriter, r *http.Request, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "%s", err)
	}
	return nil
}
