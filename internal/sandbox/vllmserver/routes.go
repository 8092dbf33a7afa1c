package vllmserver

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// maxBody bounds a request's body.
const maxBody = 32 << 20

func (s *server) routes() http.Handler {
	routes := map[string]map[string]http.HandlerFunc{
		"/health":              {http.MethodGet: s.health},
		"/ping":                {http.MethodGet: s.health, http.MethodPost: s.health},
		"/version":             {http.MethodGet: s.version},
		"/load":                {http.MethodGet: s.load},
		"/metrics":             {http.MethodGet: s.writeMetrics},
		"/v1/models":           {http.MethodGet: s.models},
		"/v1/completions":      {http.MethodPost: s.completions},
		"/v1/chat/completions": {http.MethodPost: s.chat},
		"/tokenize":            {http.MethodPost: s.tokenize},
		"/invocations":         {http.MethodPost: s.invocations},
	}
	if s.run.opts.poolingTask() != "" {
		delete(routes, "/v1/completions")
		delete(routes, "/v1/chat/completions")
	}
	for route, handle := range s.poolingRoutes() {
		routes[route] = map[string]http.HandlerFunc{http.MethodPost: handle}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		methods, ok := routes[req.URL.Path]
		if !ok {
			writeJSON(w, http.StatusNotFound, map[string]string{"detail": "Not Found"})
			return
		}
		handle, ok := methods[req.Method]
		if !ok {
			for method := range methods {
				w.Header().Add("Allow", method)
			}
			writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"detail": "Method Not Allowed"})
			return
		}
		req.Body = http.MaxBytesReader(w, req.Body, maxBody)
		handle(w, req)
	})
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "0")
	if s.dead.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (s *server) version(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]string{"version": s.run.place.version})
}

func (s *server) load(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]int64{"server_load": s.metrics.running.Load()})
}

// modelCard is an entry of /v1/models.
type modelCard struct {
	ID          string       `json:"id"`
	Object      string       `json:"object"`
	Created     int64        `json:"created"`
	OwnedBy     string       `json:"owned_by"`
	Root        string       `json:"root"`
	Parent      *string      `json:"parent"`
	MaxModelLen int          `json:"max_model_len"`
	Permission  []permission `json:"permission"`
}

type permission struct {
	ID            string `json:"id"`
	Object        string `json:"object"`
	Created       int64  `json:"created"`
	AllowSampling bool   `json:"allow_sampling"`
	AllowView     bool   `json:"allow_view"`
	Organization  string `json:"organization"`
}

func (s *server) models(w http.ResponseWriter, _ *http.Request) {
	now := time.Now().Unix()
	cards := make([]modelCard, 0, 1)
	for _, name := range s.run.opts.servedNames() {
		cards = append(cards, modelCard{
			ID: name, Object: "model", Created: now, OwnedBy: "vllm", Root: s.run.plan.model, MaxModelLen: s.run.plan.maxLen,
			Permission: []permission{{ID: newID("modelperm-"), Object: "model_permission", Created: now, AllowSampling: true, AllowView: true, Organization: "*"}},
		})
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": cards})
}

// invocations is SageMaker's route: the same inference, open to anyone.
func (s *server) invocations(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		badBody(w, err)
		return
	}
	var probe struct {
		Messages json.RawMessage `json:"messages"`
	}
	if err := json.Unmarshal(body, &probe); err != nil {
		badBody(w, err)
		return
	}
	if probe.Messages != nil {
		s.answerChat(w, req, body)
		return
	}
	s.answerCompletion(w, req, body)
}

func (s *server) tokenize(w http.ResponseWriter, req *http.Request) {
	var body struct {
		Model    string          `json:"model"`
		Prompt   string          `json:"prompt"`
		Messages json.RawMessage `json:"messages"`
	}
	if err := json.NewDecoder(req.Body).Decode(&body); err != nil {
		badBody(w, err)
		return
	}
	if body.Model != "" && !s.serves(body.Model) {
		unknownModel(w, body.Model)
		return
	}
	text := body.Prompt
	if body.Messages != nil {
		messages, err := readMessages(body.Messages)
		if err != nil {
			invalidRequest(w, err.Error(), nil)
			return
		}
		text = chatPrompt(messages)
	}
	ids := tokenIDs(text)
	writeJSON(w, http.StatusOK, map[string]any{"count": len(ids), "max_model_len": s.run.plan.maxLen, "tokens": ids, "token_strs": nil})
}

func (s *server) serves(model string) bool {
	for _, name := range s.run.opts.servedNames() {
		if name == model {
			return true
		}
	}
	return false
}

// errorBody is vLLM's ErrorResponse.
type errorBody struct {
	Error errorInfo `json:"error"`
}

type errorInfo struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    int     `json:"code"`
}

func writeError(w http.ResponseWriter, status int, kind, message string, param *string) {
	writeJSON(w, status, errorBody{errorInfo{Message: message, Type: kind, Param: param, Code: status}})
}

func invalidRequest(w http.ResponseWriter, message string, param *string) {
	writeError(w, http.StatusBadRequest, "BadRequestError", message, param)
}

func unknownModel(w http.ResponseWriter, model string) {
	param := "model"
	writeError(w, http.StatusNotFound, "NotFoundError", "The model `"+model+"` does not exist.", &param)
}

func badBody(w http.ResponseWriter, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		writeError(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large", "Request body too large", nil)
		return
	}
	message := fmt.Sprintf("[{'type': 'json_invalid', 'loc': ('body', 0), 'msg': 'JSON decode error', 'ctx': {'error': %s}}]", pyRepr(err.Error()))
	writeError(w, http.StatusBadRequest, "Bad Request", message, nil)
}

// missingField is what pydantic says of a field that has to be there.
func missingField(w http.ResponseWriter, field string) {
	writeError(w, http.StatusBadRequest, "Bad Request", fmt.Sprintf("[{'type': 'missing', 'loc': ('body', '%s'), 'msg': 'Field required'}]", field), nil)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

func newID(prefix string) string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}
