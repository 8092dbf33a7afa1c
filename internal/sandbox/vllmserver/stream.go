package vllmserver

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// stream writes an answer as server-sent events, a token each, as vLLM does: a
// chat begins with an event that has only the role; the last event of a choice
// has its finish reason; usage, when it was asked for, comes in an event of its
// own without choices.
func (g *generation) stream(w http.ResponseWriter, choices []choice) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	for i, c := range choices {
		if g.chat {
			g.event(w, []any{g.delta(i, map[string]any{"role": "assistant", "content": ""}, nil)}, nil)
		}
		for at, piece := range c.pieces {
			var reason *string
			if at == len(c.pieces)-1 {
				reason = &c.reason
			}
			if !g.event(w, []any{g.piece(i, piece, reason)}, nil) {
				return
			}
		}
		if len(c.pieces) == 0 {
			g.event(w, []any{g.piece(i, "", &c.reason)}, nil)
		}
	}
	if g.ask.StreamOptions != nil && g.ask.StreamOptions.IncludeUsage || g.s.run.opts.on("enable-force-include-usage") {
		g.event(w, []any{}, g.usage())
	}
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
	_ = http.NewResponseController(w).Flush()
}

func (g *generation) piece(index int, text string, reason *string) any {
	if g.chat {
		return g.delta(index, map[string]any{"content": text}, reason)
	}
	return map[string]any{"index": index, "text": text, "logprobs": nil, "finish_reason": reason, "stop_reason": nil}
}

func (g *generation) delta(index int, delta map[string]any, reason *string) any {
	return map[string]any{"index": index, "delta": delta, "logprobs": nil, "finish_reason": reason}
}

// event writes one event; false means that nobody listens any more.
func (g *generation) event(w http.ResponseWriter, choices []any, usage *usageInfo) bool {
	object := "text_completion"
	if g.chat {
		object = "chat.completion.chunk"
	}
	body := map[string]any{"id": g.id, "object": object, "created": g.created, "model": g.model(), "choices": choices}
	if usage != nil {
		body["usage"] = usage
	}
	data, err := json.Marshal(body)
	if err != nil {
		return false
	}
	if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
		return false
	}
	return http.NewResponseController(w).Flush() == nil
}
