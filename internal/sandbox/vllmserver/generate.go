package vllmserver

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// sampling are the fields that completions and chats share.
type sampling struct {
	Model         string          `json:"model"`
	MaxTokens     *int            `json:"max_tokens"`
	MaxCompletion *int            `json:"max_completion_tokens"`
	Temperature   *float64        `json:"temperature"`
	N             *int            `json:"n"`
	Stop          json.RawMessage `json:"stop"`
	Stream        bool            `json:"stream"`
	StreamOptions *struct {
		IncludeUsage    bool `json:"include_usage"`
		ContinuousUsage bool `json:"continuous_usage_stats"`
	} `json:"stream_options"`
	Prompt   json.RawMessage `json:"prompt"`
	Echo     bool            `json:"echo"`
	Messages json.RawMessage `json:"messages"`
	Tools    json.RawMessage `json:"tools"`
	Choice   json.RawMessage `json:"tool_choice"`
}

// usage is the count of tokens that goes with an answer.
type usageInfo struct {
	Prompt     int  `json:"prompt_tokens"`
	Total      int  `json:"total_tokens"`
	Completion int  `json:"completion_tokens"`
	Details    *int `json:"prompt_tokens_details"`
}

// generation is one request on its way through the engine.
type generation struct {
	s        *server
	ask      sampling
	chat     bool
	prompts  []string // one for each completion asked for
	stops    []string
	limit    int // tokens of an answer
	promptN  int
	created  int64
	id       string
	produced int
}

func (s *server) completions(w http.ResponseWriter, req *http.Request) {
	s.withBody(w, req, s.answerCompletion)
}
func (s *server) chat(w http.ResponseWriter, req *http.Request) { s.withBody(w, req, s.answerChat) }

func (s *server) withBody(w http.ResponseWriter, req *http.Request, answer func(http.ResponseWriter, *http.Request, []byte)) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		badBody(w, err)
		return
	}
	answer(w, req, body)
}

func (s *server) answerCompletion(w http.ResponseWriter, req *http.Request, body []byte) {
	g := &generation{s: s, id: newID("cmpl-"), created: time.Now().Unix()}
	if !g.read(w, body) {
		return
	}
	if g.ask.Prompt == nil {
		missingField(w, "prompt")
		return
	}
	texts, counts, err := readPrompts(g.ask.Prompt)
	if err != nil {
		invalidRequest(w, err.Error(), nil)
		return
	}
	g.prompts = texts
	for _, n := range counts {
		if !g.fits(w, n, 16) {
			return
		}
		g.promptN += n
	}
	g.answer(w, req)
}

func (s *server) answerChat(w http.ResponseWriter, req *http.Request, body []byte) {
	g := &generation{s: s, chat: true, id: newID("chatcmpl-"), created: time.Now().Unix()}
	if !g.read(w, body) {
		return
	}
	if g.ask.Messages == nil {
		missingField(w, "messages")
		return
	}
	messages, err := readMessages(g.ask.Messages)
	if err != nil {
		invalidRequest(w, err.Error(), nil)
		return
	}
	if len(g.ask.Tools) > 0 && string(g.ask.Tools) != "null" && (g.ask.Choice == nil || string(g.ask.Choice) == `"auto"`) && !s.run.opts.on("enable-auto-tool-choice") {
		invalidRequest(w, `"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set`, nil)
		return
	}
	g.prompts = []string{question(messages)}
	g.promptN = countTokens(chatPrompt(messages))
	if !g.fits(w, g.promptN, 0) {
		return
	}
	g.answer(w, req)
}

// read decodes and checks what completions and chats have in common.
func (g *generation) read(w http.ResponseWriter, body []byte) bool {
	if err := json.Unmarshal(body, &g.ask); err != nil {
		badBody(w, err)
		return false
	}
	switch {
	case g.ask.Model != "" && !g.s.serves(g.ask.Model):
		unknownModel(w, g.ask.Model)
		return false
	case g.ask.StreamOptions != nil && !g.ask.Stream:
		writeError(w, http.StatusBadRequest, "Bad Request", "[{'type': 'value_error', 'loc': ('body',), 'msg': 'Value error, Stream options can only be defined when `stream=True`.'}]", nil)
		return false
	case g.ask.Temperature != nil && *g.ask.Temperature < 0:
		invalidRequest(w, fmt.Sprintf("temperature must be non-negative, got %v.", *g.ask.Temperature), nil)
		return false
	case g.ask.N != nil && (*g.ask.N < 1 || *g.ask.N > 64):
		invalidRequest(w, fmt.Sprintf("n must be at least 1, got %d.", *g.ask.N), nil)
		return false
	}
	if len(g.ask.Stop) > 0 {
		var one string
		if json.Unmarshal(g.ask.Stop, &one) == nil {
			g.stops = []string{one}
		} else if err := json.Unmarshal(g.ask.Stop, &g.stops); err != nil {
			invalidRequest(w, "stop must be a string or a list of strings", nil)
			return false
		}
	}
	return true
}

// fits checks a prompt and the asked-for answer against the context length.
func (g *generation) fits(w http.ResponseWriter, prompt, missing int) bool {
	context := g.s.run.plan.maxLen
	if prompt >= context {
		param := "input_tokens"
		invalidRequest(w, fmt.Sprintf("This model's maximum context length is %d tokens. However, your request has %d input tokens. Please reduce the length of the input messages.", context, prompt), &param)
		return false
	}
	asked := g.ask.MaxTokens
	if g.chat && g.ask.MaxCompletion != nil {
		asked = g.ask.MaxCompletion
	}
	switch {
	case asked == nil && missing > 0:
		g.limit = min(missing, context-prompt)
	case asked == nil:
		g.limit = context - prompt
	case *asked < 1:
		invalidRequest(w, fmt.Sprintf("max_tokens must be at least 1, got %d.", *asked), nil)
		return false
	case *asked > context-prompt:
		param := "max_tokens"
		invalidRequest(w, fmt.Sprintf("'max_tokens' or 'max_completion_tokens' is too large: %d. This model's maximum context length is %d tokens and your request has %d input tokens (%d > %d - %d).", *asked, context, prompt, *asked, context, prompt), &param)
		return false
	default:
		g.limit = *asked
	}
	return true
}

// readPrompts reads a string, a list of strings, a list of token ids, or a list
// of such lists.
func readPrompts(raw json.RawMessage) (texts []string, counts []int, err error) {
	var one string
	var many []string
	var ids []int
	var lists [][]int
	switch {
	case json.Unmarshal(raw, &one) == nil:
		many = []string{one}
	case json.Unmarshal(raw, &many) == nil && len(many) > 0:
	case json.Unmarshal(raw, &ids) == nil && len(ids) > 0:
		return []string{""}, []int{len(ids)}, nil
	case json.Unmarshal(raw, &lists) == nil && len(lists) > 0:
		for _, list := range lists {
			texts, counts = append(texts, ""), append(counts, len(list))
		}
		return texts, counts, nil
	default:
		return nil, nil, fmt.Errorf("please provide at least one prompt")
	}
	for _, text := range many {
		texts, counts = append(texts, text), append(counts, max(1, countTokens(text)))
	}
	return texts, counts, nil
}

// answer runs the request through the engine and writes what comes out.
func (g *generation) answer(w http.ResponseWriter, req *http.Request) {
	if g.s.dead.Load() {
		writeError(w, http.StatusInternalServerError, "InternalServerError", "EngineCore encountered an issue. See stack trace (above) for the root cause.", nil)
		return
	}
	end := g.s.metrics.begin(g.promptN)
	if !g.s.waitForEngine(req.Context()) {
		end("abort", 0)
		return
	}
	choices, reason := g.generate()
	if g.ask.Stream {
		g.stream(w, choices)
	} else {
		g.whole(w, choices)
	}
	end(reason, g.produced)
}

// choice is one answer, in tokens.
type choice struct {
	pieces []string
	reason string
}

func (g *generation) generate() (choices []choice, reason string) {
	n := 1
	if g.ask.N != nil {
		n = *g.ask.N
	}
	for _, prompt := range g.prompts {
		text := reply(g.s.run.opts.servedNames()[0], prompt)
		if !g.chat && g.ask.Echo {
			text = prompt + text
		}
		pieces, why := cut(text, g.stops, g.limit)
		for range n {
			choices = append(choices, choice{pieces, why})
			g.produced += len(pieces)
		}
		reason = why
	}
	return choices, reason
}

func (g *generation) usage() *usageInfo {
	return &usageInfo{Prompt: g.promptN, Completion: g.produced, Total: g.promptN + g.produced}
}

func (g *generation) model() string {
	if g.ask.Model != "" {
		return g.ask.Model
	}
	return g.s.run.opts.servedNames()[0]
}

func (g *generation) whole(w http.ResponseWriter, choices []choice) {
	list := make([]map[string]any, 0, len(choices))
	for i, c := range choices {
		entry := map[string]any{"index": i, "logprobs": nil, "finish_reason": c.reason, "stop_reason": nil}
		text := strings.Join(c.pieces, "")
		if g.chat {
			entry["message"] = map[string]any{"role": "assistant", "content": text, "refusal": nil, "tool_calls": []any{}}
		} else {
			entry["text"], entry["prompt_logprobs"] = text, nil
		}
		list = append(list, entry)
	}
	object := "text_completion"
	if g.chat {
		object = "chat.completion"
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"id": g.id, "object": object, "created": g.created, "model": g.model(), "choices": list,
		"usage": g.usage(), "service_tier": nil, "system_fingerprint": nil, "kv_transfer_params": nil,
	})
}
