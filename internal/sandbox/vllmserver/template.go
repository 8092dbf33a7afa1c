package vllmserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	recorded "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// object is a JSON object of a recorded answer.
type object = map[string]any

// answers are all recorded answers of a release, including those of servers that were disturbed.
func answers(release string) []recorded.Exchange {
	all := recorded.Exchanges(release)
	var from string // the nearest older release that has any, else the oldest
	for _, of := range recorded.Releases() {
		if len(recorded.Runs(of)) > 0 && (from == "" || recorded.Compare(of, release) <= 0) {
			from = of
		}
	}
	for _, name := range recorded.Runs(from) {
		all = append(all, recorded.Asked(from, name)...)
	}
	return all
}

// like returns the first recorded answer of a route with a text in its request or its body.
// Answers are made from it, and so have the keys, headers and words of the release.
func (s *server) like(path, text string) recorded.Exchange {
	for _, e := range s.recorded {
		if e.Request.Path == path && (strings.Contains(string(e.Answer.Body), text) || strings.Contains(string(e.Request.Body), text)) {
			return e
		}
	}
	return recorded.Exchange{}
}

// body is the JSON object of an answer, for the caller to change.
func body(e recorded.Exchange) object {
	var value object
	_ = json.Unmarshal(e.Answer.Body, &value) // recorded JSON
	return value
}

// at walks into an object by keys and indices.
func at(value any, steps ...any) object {
	for _, step := range steps {
		switch step := step.(type) {
		case string:
			o, _ := value.(object)
			value = o[step]
		case int:
			list, _ := value.([]any)
			if step >= len(list) {
				return nil
			}
			value = list[step]
		}
	}
	o, _ := value.(object)
	return o
}

// answer writes a body with the status and headers of a recorded answer.
func (s *server) answer(w http.ResponseWriter, e recorded.Exchange, body any) {
	s.header(w, e)
	var data bytes.Buffer
	switch body := body.(type) {
	case string:
		data.WriteString(body)
	default:
		encoder := json.NewEncoder(&data)
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(body) // of recorded JSON, strings and numbers
		data.Truncate(data.Len() - 1)
	}
	w.Header().Set("Content-Length", strconv.Itoa(data.Len()))
	w.WriteHeader(e.Answer.Status)
	_, _ = w.Write(data.Bytes())
}

func (s *server) header(w http.ResponseWriter, e recorded.Exchange) {
	w.Header()["Content-Type"] = nil // net/http adds none
	for name, value := range e.Answer.Headers {
		switch name {
		case "connection", "content-length", "transfer-encoding":
		default:
			w.Header().Set(name, value)
		}
	}
}

// refusal is an error in the form of a recorded answer.
type refusal struct {
	like recorded.Exchange
	body object
}

func (r *refusal) Error() string { return fmt.Sprint(r.body) }

// refuse is a recorded error of a chat, in which words are replaced: old, new, ….
func (s *server) refuse(text string, replace ...string) error {
	e := s.like(chatPath, text)
	answer := body(e)
	if info := at(answer, "error"); info != nil {
		for _, field := range []string{"message", "param"} {
			if words, ok := info[field].(string); ok {
				info[field] = strings.NewReplacer(replace...).Replace(words)
			}
		}
	}
	return &refusal{e, answer}
}

const chatPath = "/v1/chat/completions"

// invalid is an error of vLLM that was not recorded, in the form of one that was.
func (s *server) invalid(status int, kind, message string, param any) error {
	e := s.like(chatPath, "tool choice requires")
	e.Answer.Status = status
	return &refusal{e, object{"error": object{"message": message, "type": kind, "param": param, "code": status}}}
}

func (s *server) badRequest(message string, param any) error {
	return s.invalid(http.StatusBadRequest, "BadRequestError", message, param)
}
