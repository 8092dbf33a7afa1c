package vllmserver

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxBody bounds a request's body.
const maxBody = 32 << 20

func (s *server) routes() http.Handler {
	routes := map[string]map[string]http.HandlerFunc{
		"/health":                {http.MethodGet: s.health},
		"/ping":                  {http.MethodGet: s.health, http.MethodPost: s.health},
		"/version":               {http.MethodGet: s.version},
		"/load":                  {http.MethodGet: s.load},
		"/metrics":               {http.MethodGet: s.writeMetrics},
		"/docs":                  {http.MethodGet: s.docs},
		"/openapi.json":          {http.MethodGet: s.openapi},
		"/v1/models":             {http.MethodGet: s.models},
		"/v1/completions":        {http.MethodPost: s.posted(s.answerCompletion)},
		chatPath:                 {http.MethodPost: s.posted(s.answerChat)},
		"/v1/responses":          {http.MethodPost: s.posted(s.answerDialect)},
		"/v1/messages":           {http.MethodPost: s.posted(s.answerDialect)},
		"/inference/v1/generate": {http.MethodPost: s.posted(s.answerTokens)},
		"/tokenize":              {http.MethodPost: s.posted(s.tokenize)},
		"/detokenize":            {http.MethodPost: s.posted(s.detokenize)},
		"/invocations":           {http.MethodPost: s.posted(s.invocations)},
		"/scale_elastic_ep":      {http.MethodPost: s.posted(s.scale)},
	}
	if s.run.opts.poolingTask() != "" {
		for _, route := range []string{"/v1/completions", chatPath, "/v1/responses", "/v1/messages", "/inference/v1/generate"} {
			delete(routes, route)
		}
	}
	for route, handle := range s.poolingRoutes() {
		routes[route] = map[string]http.HandlerFunc{http.MethodPost: handle}
	}
	maps.Copy(routes, s.runtimeRoutes())
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		methods, ok := routes[req.URL.Path]
		if !ok {
			e := s.like("/nothing", "")
			s.answer(w, e, body(e))
			return
		}
		handle, ok := methods[req.Method]
		if !ok {
			e := s.like(chatPath, "Method Not Allowed")
			e.Answer.Headers = maps.Clone(e.Answer.Headers)
			e.Answer.Headers["allow"] = strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
			s.answer(w, e, body(e))
			return
		}
		req.Body = http.MaxBytesReader(w, req.Body, maxBody)
		handle(w, req)
	})
}

// posted reads a route's JSON body, and answers its errors.
func (s *server) posted(answer func(http.ResponseWriter, *http.Request, []byte) error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if e := s.like(req.URL.Path, "cannot schedule new futures"); s.draining.Load() && e.Answer.Status != 0 {
			s.answer(w, e, body(e))
			return
		}
		var refused *refusal
		switch err := s.post(answer, w, req); {
		case errors.As(err, &refused):
			s.answer(w, refused.like, refused.body)
		case err != nil: // errGivenUp
		}
	}
}

func (s *server) post(answer func(http.ResponseWriter, *http.Request, []byte) error, w http.ResponseWriter, req *http.Request) error {
	if kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type")); kind != "application/json" {
		return s.refuse("Unsupported Media Type")
	}
	data, err := io.ReadAll(req.Body)
	if err != nil {
		return s.badBody(err)
	}
	return answer(w, req, data)
}

func (s *server) health(w http.ResponseWriter, _ *http.Request) {
	e := s.like("/health", "")
	if s.dead.Load() {
		e.Answer.Status = http.StatusServiceUnavailable
	}
	s.answer(w, e, "")
}

func (s *server) version(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, s.like("/version", ""), object{"version": s.run.place.version})
}

func (s *server) load(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, s.like("/load", ""), object{"server_load": s.metrics.running.Load()})
}

func (s *server) docs(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, s.like("/docs", ""), "<!DOCTYPE html>\n<html><head><title>FastAPI - Swagger UI</title></head></html>\n")
}

// openapi lists the routes; the recording has nothing else.
func (s *server) openapi(w http.ResponseWriter, _ *http.Request) {
	e := s.like("/openapi.json", "")
	answer := body(e)
	paths := object{}
	for route, methods := range at(answer, "routes") {
		operations := object{}
		list, _ := methods.([]any)
		for _, method := range list {
			operations[fmt.Sprint(method)] = object{}
		}
		paths[route] = operations
	}
	delete(answer, "routes")
	delete(answer, "note")
	answer["paths"] = paths
	s.answer(w, e, answer)
}

func (s *server) models(w http.ResponseWriter, _ *http.Request) {
	e := s.like("/v1/models", "modelperm-")
	cards := []any{}
	card := func(name, root string, parent, length any) {
		card := at(body(e), "data", 0)
		card["id"], card["created"], card["root"], card["parent"], card["max_model_len"] = name, time.Now().Unix(), root, parent, length
		permission := at(card, "permission", 0)
		permission["id"], permission["created"] = newID("modelperm-"), time.Now().Unix()
		cards = append(cards, card)
	}
	names := s.run.opts.servedNames()
	for _, name := range names {
		card(name, s.run.plan.model, nil, s.run.plan.maxLen)
	}
	s.runtime.mu.Lock()
	for _, a := range s.runtime.adapters {
		card(a.Name, a.Path, names[0], nil)
	}
	s.runtime.mu.Unlock()
	s.answer(w, e, object{"object": "list", "data": cards})
}

// invocations is SageMaker's route, which requires no key.
func (s *server) invocations(w http.ResponseWriter, req *http.Request, data []byte) error {
	var probe struct {
		Messages json.RawMessage `json:"messages"`
	}
	if err := json.Unmarshal(data, &probe); err != nil {
		return s.badBody(err)
	}
	if probe.Messages != nil {
		return s.answerChat(w, req, data)
	}
	return s.answerCompletion(w, req, data)
}

func (s *server) tokenize(w http.ResponseWriter, _ *http.Request, data []byte) error {
	var ask struct {
		Model    string          `json:"model"`
		Prompt   string          `json:"prompt"`
		Messages json.RawMessage `json:"messages"`
	}
	if err := json.Unmarshal(data, &ask); err != nil {
		return s.badBody(err)
	}
	if ask.Model != "" && !s.serves(ask.Model) {
		return s.unknownModel(ask.Model)
	}
	text := ask.Prompt
	if ask.Messages != nil {
		messages, err := readMessages(ask.Messages)
		if err != nil {
			return s.badRequest(err.Error(), nil)
		}
		text = chatPrompt(messages)
	}
	e, ids := s.like("/tokenize", ""), tokenIDs(text)
	answer := body(e)
	answer["count"], answer["tokens"], answer["max_model_len"] = len(ids), ids, s.run.plan.maxLen
	s.answer(w, e, answer)
	return nil
}

// detokenize names the tokens: there is no vocabulary.
func (s *server) detokenize(w http.ResponseWriter, _ *http.Request, data []byte) error {
	var ask struct {
		Tokens []int `json:"tokens"`
	}
	if err := json.Unmarshal(data, &ask); err != nil {
		return s.badBody(err)
	}
	var text strings.Builder
	for _, id := range ask.Tokens {
		fmt.Fprintf(&text, "<%d>", id)
	}
	s.answer(w, s.like("/detokenize", ""), object{"prompt": text.String()})
	return nil
}

func (s *server) scale(w http.ResponseWriter, _ *http.Request, data []byte) error {
	var ask struct {
		Size int `json:"new_data_parallel_size"`
	}
	if err := json.Unmarshal(data, &ask); err != nil {
		return s.badBody(err)
	}
	s.answer(w, s.like("/scale_elastic_ep", ""), object{"message": fmt.Sprintf("Scaled to %d data parallel engines", ask.Size)})
	return nil
}

func (s *server) serves(model string) bool { return slices.Contains(s.served(), model) }

func (s *server) unknownModel(model string) error {
	return s.refuse("does not exist", "`other`", "`"+model+"`", "demo", strings.Join(s.run.opts.servedNames(), ", "))
}

func (s *server) badBody(err error) error {
	var tooLarge *http.MaxBytesError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &tooLarge):
		return s.invalid(http.StatusRequestEntityTooLarge, "Request Entity Too Large", "Request body too large", nil)
	case errors.As(err, &syntax):
		return s.refuse("json_invalid", "body.10", "body."+strconv.FormatInt(syntax.Offset, 10), "'body', 10", "'body', "+strconv.FormatInt(syntax.Offset, 10))
	}
	return s.invalid(http.StatusBadRequest, "Bad Request", "1 validation error:\n  "+err.Error(), nil)
}

// missingField is pydantic's error about a required field.
func (s *server) missingField(data []byte, route, field string) error {
	var given object
	_ = json.Unmarshal(data, &given) // it has been read before
	return s.refuse("'missing'", "messages", field, "dict of 1 items", fmt.Sprintf("dict of %d items", len(given)),
		"{'model': 'demo'}", pyDict(given), chatPath, route)
}

// pyDict writes a JSON object as Python's repr does, its keys in order.
func pyDict(o object) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(o)) {
		value, _ := json.Marshal(o[key])
		text := string(value)
		if s, ok := o[key].(string); ok {
			text = pyRepr(s)
		}
		parts = append(parts, pyRepr(key)+": "+text)
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// engineDead is the error of a server whose engine has exited.
func (s *server) engineDead() error {
	return s.invalid(http.StatusInternalServerError, "InternalServerError", "EngineCore encountered an issue. See stack trace (above) for the root cause.", nil)
}

func newID(prefix string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}
