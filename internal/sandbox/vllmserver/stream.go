package vllmserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	recorded "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// events are the recorded events of a stream, without the last, [DONE].
func events(e recorded.Exchange) []object {
	var text string
	_ = json.Unmarshal(e.Answer.Body, &text) // recorded JSON
	var all []object
	for event := range strings.SplitSeq(text, "\n\n") {
		var value object
		if _, data, found := strings.Cut(event, "data: "); found && json.Unmarshal([]byte(data), &value) == nil {
			all = append(all, value)
		}
	}
	return all
}

// stream writes an answer as server-sent events, one for each token, as recorded. A chat
// begins with an event that has only the role; the last event of a choice has its
// finish reason; usage, if it was requested, is in a separate event without choices.
func (g *generation) stream(w http.ResponseWriter, choices []choice) {
	e := g.s.like(g.path(), `"stream": true`)
	g.s.header(w, e)
	w.WriteHeader(e.Answer.Status)
	withUsage := g.ask.StreamOptions != nil && g.ask.StreamOptions.IncludeUsage || g.s.run.opts.on("enable-force-include-usage")
	for i, c := range choices {
		if g.chat && !g.event(w, g.begin(i)) {
			return
		}
		if len(c.pieces) == 0 {
			c.pieces = []string{""}
		}
		for n, piece := range c.pieces {
			last := n == len(c.pieces)-1
			event := g.piece(e, i, piece, last)
			if last {
				at(event, "choices", 0)["finish_reason"] = c.reason
				g.fingerprint(event, i == len(choices)-1 && !withUsage)
			}
			if !g.event(w, event) {
				return
			}
		}
	}
	if withUsage {
		all := events(g.s.like(chatPath, `"stream": true`))
		event := all[len(all)-1]
		if !g.chat {
			event["object"] = "text_completion"
		}
		g.event(w, event)
	}
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
	_ = http.NewResponseController(w).Flush()
}

func (g *generation) begin(index int) object {
	event := events(g.s.like(chatPath, `"stream": true`))[0]
	at(event, "choices", 0)["index"] = index
	return event
}

func (g *generation) piece(e recorded.Exchange, index int, text string, last bool) object {
	all := events(e)
	event := all[0] // of a completion, which begins with its text
	if g.chat {
		event = all[1]
	}
	if last {
		for _, candidate := range all {
			if at(candidate, "choices", 0)["finish_reason"] != nil {
				event = candidate
			}
		}
	}
	choice := at(event, "choices", 0)
	choice["index"] = index
	if g.chat {
		at(choice, "delta")["content"] = text
	} else {
		choice["text"] = text
	}
	return event
}

// fingerprint is in the last event of a stream, in releases that have one.
func (g *generation) fingerprint(event object, last bool) {
	all := events(g.s.like(chatPath, `"stream": true`))
	mark, has := all[len(all)-1]["system_fingerprint"]
	if delete(event, "system_fingerprint"); has && last {
		event["system_fingerprint"] = mark
	}
}

// event writes one event; false = the client is gone.
func (g *generation) event(w http.ResponseWriter, event object) bool {
	data, err := json.Marshal(g.sign(event))
	if err != nil {
		return false
	}
	if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
		return false
	}
	return http.NewResponseController(w).Flush() == nil
}
