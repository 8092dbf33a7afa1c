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
func (s *server) answerResponses(w http.ResponseWriter, req *http.Request, data []byte) error {
	var ask struct {
		Input     json.RawMessage `json:"input"`
		MaxTokens *int            `json:"max_output_tokens"`
	}
	text, err := s.dialect(req, data, &ask, func() (json.RawMessage, *int) { return ask.Input, ask.MaxTokens })
	if err != nil {
		return err
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
	return nil
}

// answerMessages is Anthropic's API.
func (s *server) answerMessages(w http.ResponseWriter, req *http.Request, data []byte) error {
	var ask struct {
		Messages  json.RawMessage `json:"messages"`
		MaxTokens *int            `json:"max_tokens"`
	}
	text, err := s.dialect(req, data, &ask, func() (json.RawMessage, *int) { return ask.Messages, ask.MaxTokens })
	if err != nil {
		return err
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
	return nil
}

// answerTokens is vLLM's own API, without text.
func (s *server) answerTokens(w http.ResponseWriter, req *http.Request, data []byte) error {
	var ask struct {
		Tokens   json.RawMessage `json:"token_ids"`
		Sampling struct {
			MaxTokens *int `json:"max_tokens"`
		} `json:"sampling_params"`
	}
	text, err := s.dialect(req, data, &ask, func() (json.RawMessage, *int) { return ask.Tokens, ask.Sampling.MaxTokens })
	if err != nil {
		return err
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
	return nil
}

// said is what the model answered in another dialect.
type said struct {
	generation
	text, reason string
}

// dialect reads a request and runs it through the engine.
func (s *server) dialect(req *http.Request, data []byte, ask any, what func() (json.RawMessage, *int)) (said, error) {
	t := said{generation: generation{s: s, id: newID("chatcmpl-")}}
	if err := t.read(data); err != nil {
		return t, err
	}
	if err := json.Unmarshal(data, ask); err != nil {
		return t, s.badBody(err)
	}
	input, limit := what()
	messages, err := readMessages(input)
	asked := question(messages)
	if err != nil { // not a chat
		texts, _, err := readPrompts(input)
		if err != nil {
			return t, s.badRequest(err.Error(), nil)
		}
		asked = strings.Join(texts, "\n")
	}
	t.ask.MaxTokens, t.ask.MaxCompletion = limit, nil
	t.prompts, t.promptN = []string{asked}, max(1, countTokens(asked))
	if err := t.fits(asked, t.promptN, 0); err != nil {
		return t, err
	}
	err = s.engine(req.Context(), t.promptN, func() (string, int) {
		choices, reason := t.generate()
		t.text, t.reason = strings.Join(choices[0].pieces, ""), reason
		return reason, t.produced
	})
	return t, err
}
