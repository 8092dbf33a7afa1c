package vllmserver

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
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
	Messages json.RawMessage `json:"messages"`
	Tools    json.RawMessage `json:"tools"`
	Choice   json.RawMessage `json:"tool_choice"`
}

// generation is one request of completions or chats.
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

func (s *server) answerCompletion(w http.ResponseWriter, req *http.Request, data []byte) error {
	g := &generation{s: s, id: newID("cmpl-"), created: time.Now().Unix()}
	if err := g.read(data); err != nil {
		return err
	}
	if g.ask.Prompt == nil {
		return s.missingField(data, "/v1/completions", "prompt")
	}
	texts, counts, err := readPrompts(g.ask.Prompt)
	if err != nil {
		return s.badRequest(err.Error(), nil)
	}
	g.prompts = texts
	for i, n := range counts {
		if err := g.fits(texts[i], n, 16); err != nil {
			return err
		}
		g.promptN += n
	}
	return g.answer(w, req)
}

func (s *server) answerChat(w http.ResponseWriter, req *http.Request, data []byte) error {
	g := &generation{s: s, chat: true, id: newID("chatcmpl-"), created: time.Now().Unix()}
	if err := g.read(data); err != nil {
		return err
	}
	if g.ask.Messages == nil {
		return s.missingField(data, chatPath, "messages")
	}
	messages, err := readMessages(g.ask.Messages)
	if err != nil {
		return s.badRequest(err.Error(), nil)
	}
	if len(g.ask.Tools) > 0 && string(g.ask.Tools) != "null" && (g.ask.Choice == nil || string(g.ask.Choice) == `"auto"`) && !s.run.opts.on("enable-auto-tool-choice") {
		return s.refuse("tool choice requires")
	}
	g.prompts = []string{question(messages)}
	g.promptN = countTokens(chatPrompt(messages))
	if f := s.run.plan.folder; f != nil && !f.chats() && s.run.opts.text("chat-template") == "" {
		return s.refuse("default chat template is no longer allowed")
	}
	if err := g.fits(chatPrompt(messages), g.promptN, 0); err != nil {
		return err
	}
	return g.answer(w, req)
}

// read decodes and checks what completions and chats have in common.
func (g *generation) read(data []byte) error {
	if err := json.Unmarshal(data, &g.ask); err != nil {
		return g.s.badBody(err)
	}
	switch {
	case g.ask.Model != "" && !g.s.serves(g.ask.Model):
		return g.s.unknownModel(g.ask.Model)
	case g.ask.StreamOptions != nil && !g.ask.Stream:
		return g.s.invalid(http.StatusBadRequest, "Bad Request", "1 validation error:\n  {'type': 'value_error', 'loc': ('body',), 'msg': 'Value error, Stream options can only be defined when `stream=True`.'}", nil)
	case g.ask.Temperature != nil && *g.ask.Temperature < 0:
		return g.s.refuse("temperature must be", "-1.0", pyFloat(*g.ask.Temperature))
	case g.ask.N != nil && (*g.ask.N < 1 || *g.ask.N > 64):
		return g.s.badRequest(fmt.Sprintf("n must be at least 1, got %d.", *g.ask.N), nil)
	}
	if len(g.ask.Stop) > 0 {
		var one string
		if json.Unmarshal(g.ask.Stop, &one) == nil {
			g.stops = []string{one}
		} else if err := json.Unmarshal(g.ask.Stop, &g.stops); err != nil {
			return g.s.badRequest("stop must be a string or a list of strings", nil)
		}
	}
	return nil
}

// fits checks a prompt and the requested tokens against the context length.
func (g *generation) fits(text string, prompt, missing int) error {
	room := g.s.run.plan.maxLen
	asked := g.ask.MaxTokens
	if g.chat && g.ask.MaxCompletion != nil {
		asked = g.ask.MaxCompletion
	}
	limit := strconv.Itoa(room)
	switch {
	case asked != nil && *asked < 1:
		return g.s.refuse("must be at least 1", "got 0", "got "+strconv.Itoa(*asked), "value=0", "value="+strconv.Itoa(*asked))
	case asked != nil && *asked > room:
		return g.s.refuse("100000", "100000", strconv.Itoa(*asked), "512", limit)
	}
	if err := g.tooManyCharacters(text, asked); err != nil {
		return err
	}
	switch {
	case prompt >= room:
		return g.s.badRequest(fmt.Sprintf("This model's maximum context length is %d tokens. However, your request has %d input tokens. Please reduce the length of the input messages.", room, prompt), "input_tokens")
	case asked != nil && *asked > room-prompt:
		return g.s.badRequest(fmt.Sprintf("'max_tokens' or 'max_completion_tokens' is too large: %d. This model's maximum context length is %d tokens and your request has %d input tokens (%d > %d - %d).", *asked, room, prompt, *asked, room, prompt), "max_tokens")
	}
	g.limit = room - prompt
	if asked != nil {
		g.limit = *asked
	} else if missing > 0 {
		g.limit = min(missing, g.limit)
	}
	return nil
}

// charactersPerToken is the length of the recorded tokenizer's longest token, with which
// vLLM limits prompts before it tokenizes them.
const charactersPerToken = 18

func (g *generation) tooManyCharacters(text string, asked *int) error {
	const words = "is the upper bound for"
	room, output := g.s.run.plan.maxLen, 0
	if asked != nil && strings.Contains(string(g.s.like(chatPath, words).Answer.Body), "output tokens") { // 0.19
		output = *asked
		room -= output
	}
	if len(text) <= room*charactersPerToken {
		return nil
	}
	return g.s.refuse(words, "length is 512", "length is "+strconv.Itoa(g.s.run.plan.maxLen), "15050", strconv.Itoa(len(text)),
		"9216", strconv.Itoa(room*charactersPerToken), "9144", strconv.Itoa(room*charactersPerToken),
		"512 input", strconv.Itoa(room)+" input", "508 input", strconv.Itoa(room)+" input", "4 output", strconv.Itoa(output)+" output")
}

// pyFloat writes a float as Python does.
func pyFloat(f float64) string {
	text := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(text, ".e") {
		text += ".0"
	}
	return text
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

// answer runs the request through the engine and writes the answer.
func (g *generation) answer(w http.ResponseWriter, req *http.Request) error {
	return g.s.engine(req.Context(), g.promptN, func() (string, int) {
		choices, reason := g.generate()
		if g.ask.Stream {
			g.stream(w, choices)
		} else {
			g.whole(w, choices)
		}
		return reason, g.produced
	})
}

// errGivenUp is returned for a request whose client is gone. It is not answered.
var errGivenUp = errors.New("the request was given up")

// engine runs a request with that many tokens. run writes the answer, and returns why it
// ended and how many tokens it has.
func (s *server) engine(ctx context.Context, tokens int, run func() (reason string, produced int)) error {
	if s.dead.Load() {
		return s.engineDead()
	}
	end, queued := s.metrics.begin(tokens)
	if limit := s.run.opts.number("max-num-queued-reqs", queued); queued > limit {
		end("error", 0)
		return s.refuse("currently busy")
	}
	if !s.waitForEngine(ctx) {
		end("abort", 0)
		return errGivenUp
	}
	end(run())
	return nil
}

// choice is one of the answers to a request, in tokens.
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
		pieces, why := cut(text, g.stops, g.limit)
		for range n {
			choices = append(choices, choice{pieces, why})
			g.produced += len(pieces)
		}
		reason = why
	}
	return choices, reason
}

func (g *generation) model() string {
	return cmp.Or(g.ask.Model, g.s.run.opts.servedNames()[0])
}

// path is the request's route.
func (g *generation) path() string {
	if g.chat {
		return chatPath
	}
	return "/v1/completions"
}

// sign sets this generation's id, model and usage in an answer, or in an event of one.
func (g *generation) sign(answer object) object {
	answer["id"], answer["created"], answer["model"] = g.id, g.created, g.model()
	if mark, ok := answer["system_fingerprint"].(string); ok {
		_, hash, _ := strings.Cut(strings.TrimPrefix(mark, "vllm-"), "-")
		answer["system_fingerprint"] = "vllm-" + g.s.run.place.version + "-" + hash
	}
	if usage := at(answer, "usage"); usage != nil {
		usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"] = g.promptN, g.produced, g.promptN+g.produced
	}
	return answer
}

func (g *generation) whole(w http.ResponseWriter, choices []choice) {
	e := g.s.like(g.path(), "completion_tokens")
	list := make([]any, 0, len(choices))
	for i, c := range choices {
		entry := at(body(e), "choices", 0)
		entry["index"], entry["finish_reason"] = i, c.reason
		if text := strings.Join(c.pieces, ""); g.chat {
			at(entry, "message")["content"] = text
		} else {
			entry["text"] = text
		}
		list = append(list, entry)
	}
	answer := g.sign(body(e))
	answer["choices"] = list
	g.s.answer(w, e, answer)
}
