package vllmserver

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// The routes that speak another API than completions and chats: OpenAI's
// responses, Anthropic's messages, and tokens in and out. None of them streams
// here.

// answerResponses is OpenAI's newer API.
func (s *server) answerResponses(w http.ResponseWriter, req *http.Request, data []byte) {
	var ask struct {
		Input     json.RawMessage `json:"input"`
		MaxTokens *int            `json:"max_output_tokens"`
	}
	text, ok := s.dialect(w, req, data, &ask, func() (json.RawMessage, *int) { return ask.Input, ask.MaxTokens })
	if !ok {
		return
	}
	e := s.like("/v1/responses", "")
	answer := body(e)
	answer["id"], answer["created_at"], answer["model"], answer["max_output_tokens"] = newID("resp_"), time.Now().Unix(), text.model(), text.limit
	message := at(answer, "output", 0)
	message["id"] = newID("msg_")
	at(message, "content", 0)["text"] = text.text
	if text.reason == "stop" {
		answer["incomplete_details"], answer["status"] = nil, "completed"
	}
	usage := at(answer, "usage")
	usage["input_tokens"], usage["output_tokens"], usage["total_tokens"] = text.promptN, text.produced, text.promptN+text.produced
	s.answer(w, e, answer)
}

// answerMessages is Anthropic's API.
func (s *server) answerMessages(w http.ResponseWriter, req *http.Request, data []byte) {
	var ask struct {
		Messages  json.RawMessage `json:"messages"`
		MaxTokens *int            `json:"max_tokens"`
	}
	text, ok := s.dialect(w, req, data, &ask, func() (json.RawMessage, *int) { return ask.Messages, ask.MaxTokens })
	if !ok {
		return
	}
	e := s.like("/v1/messages", "")
	answer := body(e)
	answer["id"], answer["model"] = text.id, text.model()
	at(answer, "content", 0)["text"] = text.text
	if text.reason == "stop" {
		answer["stop_reason"] = "end_turn"
	}
	usage := at(answer, "usage")
	usage["input_tokens"], usage["output_tokens"] = text.promptN, text.produced
	s.answer(w, e, answer)
}

// answerTokens is vLLM's own API, without text.
func (s *server) answerTokens(w http.ResponseWriter, req *http.Request, data []byte) {
	var ask struct {
		Tokens   json.RawMessage `json:"token_ids"`
		Sampling struct {
			MaxTokens *int `json:"max_tokens"`
		} `json:"sampling_params"`
	}
	text, ok := s.dialect(w, req, data, &ask, func() (json.RawMessage, *int) { return ask.Tokens, ask.Sampling.MaxTokens })
	if !ok {
		return
	}
	e := s.like("/inference/v1/generate", "")
	answer := body(e)
	if answer["choices"] == nil { // only the refusal of the key was recorded
		e = s.like("/tokenize", "")
		answer = object{"prompt_logprobs": nil, "kv_transfer_params": nil, "choices": []any{object{"index": 0, "logprobs": nil}}}
	}
	answer["request_id"] = newID("")
	choice := at(answer, "choices", 0)
	choice["finish_reason"], choice["token_ids"] = text.reason, tokenIDs(text.text)
	s.answer(w, e, answer)
}

// said is what the model answered in another dialect.
type said struct {
	generation
	text, reason string
}

// dialect reads a request and runs it through the engine.
func (s *server) dialect(w http.ResponseWriter, req *http.Request, data []byte, ask any, what func() (json.RawMessage, *int)) (said, bool) {
	t := said{generation: generation{s: s, id: newID("chatcmpl-")}}
	if !t.read(w, data) {
		return t, false
	}
	if err := json.Unmarshal(data, ask); err != nil {
		s.badBody(w, err)
		return t, false
	}
	input, limit := what()
	messages, err := readMessages(input)
	asked := question(messages)
	if err != nil { // not a chat
		texts, _, err := readPrompts(input)
		if err != nil {
			s.badRequest(w, err.Error(), nil)
			return t, false
		}
		asked = strings.Join(texts, "\n")
	}
	t.ask.MaxTokens, t.ask.MaxCompletion = limit, nil
	t.prompts, t.promptN = []string{asked}, max(1, countTokens(asked))
	if !t.fits(w, asked, t.promptN, 0) {
		return t, false
	}
	if s.dead.Load() {
		s.engineDead(w)
		return t, false
	}
	end := s.metrics.begin(t.promptN)
	if !s.waitForEngine(req.Context()) {
		end("abort", 0)
		return t, false
	}
	choices, reason := t.generate()
	end(reason, t.produced)
	t.text, t.reason = strings.Join(choices[0].pieces, ""), reason
	return t, true
}
