package vllmserver

import (
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"time"
)

// The tasks of models that don't generate.
const (
	taskEmbed    = "embed"
	taskReward   = "reward"
	taskClassify = "classify"
)

// poolingTask is a pooling model's task; "" = the model generates. It depends on flags, as in vLLM, and else on the name
// instead of config.json.
func (o options) poolingTask() string {
	if o.text("runner") == "generate" {
		return ""
	}
	if task := o.text("convert"); task == taskEmbed || task == taskClassify {
		return task
	}
	name := strings.ToLower(path.Base(o.model()))
	switch {
	case strings.Contains(name, "reward"):
		return taskReward
	case strings.Contains(name, "rerank"), strings.Contains(name, "classif"):
		return taskClassify
	case strings.Contains(name, "embed"), strings.HasPrefix(name, "bge-"), strings.HasPrefix(name, "e5-"), strings.HasPrefix(name, "gte-"):
		return taskEmbed
	case o.text("runner") == "pooling":
		return taskEmbed
	}
	return ""
}

// poolingRoutes are the routes of the model's task. Releases before 0.14 also have the others, which answer that the
// model does not support them.
func (s *server) poolingRoutes() map[string]http.HandlerFunc {
	task := s.run.opts.poolingTask()
	routes := map[string]http.HandlerFunc{}
	for _, r := range []struct {
		path, name string
		able       bool
	}{
		{"/v1/embeddings", "Embeddings", task == taskEmbed},
		{"/pooling", "Pooling", task != "" && task != taskClassify},
		{"/classify", "Classification", task == taskClassify},
		{"/v1/completions", "Completions", task == ""},
		{chatPath, "Chat Completions", task == ""},
	} {
		switch {
		case r.able && task != "":
			routes[r.path] = s.posted(func(w http.ResponseWriter, req *http.Request, data []byte) error {
				return s.pool(w, req, data, task)
			})
		case !r.able && !s.run.place.atLeast("0.14"):
			routes[r.path] = s.posted(func(http.ResponseWriter, *http.Request, []byte) error {
				return s.badRequest("The model does not support "+r.name+" API", nil)
			})
		}
	}
	return routes
}

// pool answers a request with figures that depend on the text only.
func (s *server) pool(w http.ResponseWriter, req *http.Request, data []byte, task string) error {
	var ask struct {
		Model string          `json:"model"`
		Input json.RawMessage `json:"input"`
	}
	if err := json.Unmarshal(data, &ask); err != nil {
		return s.badBody(err)
	}
	if ask.Model != "" && !s.serves(ask.Model) {
		return s.unknownModel(ask.Model)
	}
	if ask.Input == nil {
		return s.missingField(data, req.URL.Path, "input")
	}
	texts, counts, err := readPrompts(ask.Input)
	if err != nil {
		return s.badRequest(err.Error(), nil)
	}
	tokens := 0
	for _, n := range counts {
		tokens += n
	}
	entries := make([]object, 0, len(texts))
	for i, text := range texts {
		entries = append(entries, pooled(i, text, task, req.URL.Path))
	}
	prefix := "pooling-"
	if task == taskEmbed && req.URL.Path == "/v1/embeddings" {
		prefix = "embd-"
	}
	return s.engine(req.Context(), tokens, func() (string, int) {
		s.answer(w, s.like("/v1/models", "modelperm-"), object{
			"id": newID(prefix), "object": "list", "created": time.Now().Unix(), "model": s.run.opts.servedNames()[0], "data": entries,
			"usage": object{"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0, "prompt_tokens_details": nil},
		})
		return "stop", 0
	})
}

// pooled is the answer's entry for one text.
func pooled(index int, text, task, route string) object {
	vector := make([]float64, 8)
	for i := range len(text) {
		vector[i%len(vector)] += float64(text[i]) / 256 / float64(len(text))
	}
	switch {
	case route == "/v1/embeddings":
		return object{"index": index, "object": "embedding", "embedding": vector}
	case task == taskClassify:
		return object{"index": index, "label": "LABEL_0", "probs": []float64{0.75, 0.25}, "num_classes": 2}
	default:
		return object{"index": index, "object": "pooling", "data": vector}
	}
}
