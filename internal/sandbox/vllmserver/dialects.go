package vllmserver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// answerDialect answers OpenAI's responses and Anthropic's messages.
func (s *server) answerDialect(w http.ResponseWriter, req *http.Request, data []byte) error {
	text, err := s.dialect(req, data)
	if err == nil {
		s.say(w, req.URL.Path, text)
	}
	return err
}

// say answers in the recorded form, whole or as a stream with an event for each token.
func (s *server) say(w http.ResponseWriter, path string, t said) {
	if t.pieces = tokens(t.text); len(t.pieces) == 0 {
		t.pieces = []string{""}
	}
	if !t.ask.Stream {
		e := s.like(path, "output_tokens")
		s.answer(w, e, t.fill("", body(e), t.text))
		return
	}
	e := s.like(path, `"stream": true`)
	s.header(w, e)
	w.WriteHeader(e.Answer.Status)
	number, previous := 0, ""
	for _, event := range events(e) {
		kind := fmt.Sprint(event["type"])
		texts := []string{t.text}
		switch kind {
		case previous:
			continue
		case "content_block_delta", "response.output_text.delta":
			texts = t.pieces
		}
		previous = kind
		for _, text := range texts {
			if _, numbered := event["sequence_number"]; numbered {
				event["sequence_number"] = number
			}
			number++
			data, _ := json.Marshal(t.fill("", event, text)) // of recorded JSON, strings and numbers
			if _, err := fmt.Fprintf(w, "event: %s\ndata: %s\n\n", kind, data); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
		}
	}
}

// fill returns a recorded value with this answer's figures, ids and text.
func (t said) fill(key string, value any, text string) any {
	switch value := value.(type) {
	case object:
		filled := object{}
		for k, v := range value {
			filled[k] = t.fill(k, v, text)
		}
		if key == "incomplete_details" && t.reason == "stop" {
			return nil
		}
		return filled
	case []any:
		filled := make([]any, 0, len(value))
		for _, v := range value {
			filled = append(filled, t.fill(key, v, text))
		}
		return filled
	case float64:
		known := map[string]int{
			"created_at": int(t.created), "max_output_tokens": t.limit,
			"input_tokens": t.promptN, "output_tokens": t.produced, "total_tokens": t.promptN + t.produced,
		}
		if n, ok := known[key]; ok && value > 0 {
			return n
		}
	case string:
		return t.word(key, value, text)
	}
	return value
}

func (t said) word(key, value, text string) string {
	ended := map[string]string{"max_tokens": "end_turn", "incomplete": "completed"}[value]
	kind, _, marked := strings.Cut(value, "_")
	switch {
	case key == "model":
		return t.model()
	case (key == "text" || key == "delta") && value != "":
		return text
	case ended != "" && t.reason == "stop":
		return ended
	case (key == "id" || key == "item_id") && marked:
		return kind + "_" + strings.TrimPrefix(t.id, "chatcmpl-")
	case key == "id":
		return t.id
	}
	return value
}

// answerTokens is vLLM's own API, which has tokens instead of text.
func (s *server) answerTokens(w http.ResponseWriter, req *http.Request, data []byte) error {
	text, err := s.dialect(req, data)
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

// said is an answer in another API than completions and chats.
type said struct {
	generation
	text, reason string
	pieces       []string
}

// dialect reads a request and runs it through the engine.
func (s *server) dialect(req *http.Request, data []byte) (said, error) {
	var ask struct { // each API has its own of these names
		Messages  json.RawMessage `json:"messages"`
		Input     json.RawMessage `json:"input"`
		Tokens    json.RawMessage `json:"token_ids"`
		MaxTokens *int            `json:"max_tokens"`
		MaxOutput *int            `json:"max_output_tokens"`
		Sampling  struct {
			MaxTokens *int `json:"max_tokens"`
		} `json:"sampling_params"`
	}
	t := said{generation: generation{s: s, id: newID("chatcmpl-"), created: time.Now().Unix()}}
	if err := t.read(data); err != nil {
		return t, err
	}
	if err := json.Unmarshal(data, &ask); err != nil {
		return t, s.badBody(err)
	}
	input := slices.Concat(ask.Messages, ask.Input, ask.Tokens)
	messages, err := readMessages(input)
	asked := question(messages)
	if err != nil { // not a chat
		texts, _, err := readPrompts(input)
		if err != nil {
			return t, s.badRequest(err.Error(), nil)
		}
		asked = strings.Join(texts, "\n")
	}
	t.ask.MaxTokens, t.ask.MaxCompletion = cmp.Or(ask.MaxTokens, ask.MaxOutput, ask.Sampling.MaxTokens), nil
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
