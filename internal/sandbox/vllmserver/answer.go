package vllmserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strings"
)

// tokenPattern is the stand-in's tokenizer. A token is a word or a mark with the blanks
// before it; long words have several, and the marks of a turn are one.
var tokenPattern = regexp.MustCompile(`\s*(?:<\|\w+\|>|[\pL\pN]{1,8}|[^\pL\pN\s])|\s+`)

func tokens(text string) []string { return tokenPattern.FindAllString(text, -1) }

func countTokens(text string) int { return len(tokens(text)) }

func tokenIDs(text string) []int {
	ids := []int{}
	for _, token := range tokens(text) {
		h := fnv.New32a()
		_, _ = h.Write([]byte(token))
		ids = append(ids, int(h.Sum32()%150000))
	}
	return ids
}

// message is one turn of a chat.
type message struct {
	Role    string
	Content string
}

// readMessages reads the messages of a chat request. Their content is a string, or a list
// of parts with text.
func readMessages(raw json.RawMessage) ([]message, error) {
	var in []struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return nil, errors.New("[{'type': 'list_type', 'loc': ('body', 'messages'), 'msg': 'Input should be a valid list'}]")
	}
	out := make([]message, 0, len(in))
	for _, m := range in {
		if m.Role == "" {
			return nil, errors.New("[{'type': 'missing', 'loc': ('body', 'messages', 0, 'role'), 'msg': 'Field required'}]")
		}
		text, err := contentText(m.Content)
		if err != nil {
			return nil, err
		}
		out = append(out, message{m.Role, text})
	}
	return out, nil
}

func contentText(raw json.RawMessage) (string, error) {
	var text string
	if len(raw) == 0 || json.Unmarshal(raw, &text) == nil {
		return text, nil
	}
	var parts []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return "", errors.New("[{'type': 'string_type', 'loc': ('body', 'messages', 0, 'content'), 'msg': 'Input should be a valid string'}]")
	}
	for _, part := range parts {
		if part.Type != "text" {
			return "", errors.New("At most 0 image(s) may be provided in one prompt.") //nolint:revive,staticcheck // vLLM's own sentence
		}
		text += part.Text
	}
	return text, nil
}

// chatPrompt renders a chat as ChatML, the recorded model's template.
func chatPrompt(messages []message) string {
	var b strings.Builder
	for _, m := range messages {
		fmt.Fprintf(&b, "<|im_start|>%s\n%s<|im_end|>\n", m.Role, m.Content)
	}
	b.WriteString("<|im_start|>assistant\n")
	return b.String()
}

// question is the user's last message.
func question(messages []message) string {
	for i := len(messages) - 1; i >= 0; i-- {
		if messages[i].Role == "user" {
			return messages[i].Content
		}
	}
	return ""
}

var capitals = map[string]string{
	"france": "Paris", "germany": "Berlin", "italy": "Rome", "spain": "Madrid", "japan": "Tokyo",
	"the united kingdom": "London", "switzerland": "Bern", "austria": "Vienna", "poland": "Warsaw", "norway": "Oslo",
}

var (
	asksCapital = regexp.MustCompile(`(?i)capital of ([a-z ]+?)\s*(?:is|[?.!]|$)`)
	asksSum     = regexp.MustCompile(`(\d{1,6})\s*([+*-])\s*(\d{1,6})`)
)

// reply is the model's answer to a question. It is always the same, and names the model
// and the question, so that a test knows which server answered what.
func reply(model, asked string) string {
	asked = strings.Join(strings.Fields(asked), " ")
	if len(asked) > 200 {
		asked = strings.ToValidUTF8(asked[:200], "") + "…"
	}
	return fmt.Sprintf("%s This is %s speaking from the sandbox, where no model runs. You asked: %q", knowledge(asked), model, asked)
}

func knowledge(asked string) string {
	if m := asksCapital.FindStringSubmatch(asked); m != nil {
		if city, ok := capitals[strings.ToLower(strings.TrimSpace(m[1]))]; ok {
			return fmt.Sprintf("The capital of %s is %s.", m[1], city)
		}
	}
	if m := asksSum.FindStringSubmatch(asked); m != nil {
		var a, b int
		_, _ = fmt.Sscan(m[1], &a)
		_, _ = fmt.Sscan(m[3], &b)
		result := map[string]int{"+": a + b, "-": a - b, "*": a * b}[m[2]]
		return fmt.Sprintf("%s %s %s is %d.", m[1], m[2], m[3], result)
	}
	return "I am ready to help."
}

// cut ends a text at the first stop string or at the token limit, and returns the reason.
// A limit of 0 or less is none.
func cut(text string, stops []string, limit int) (pieces []string, reason string) {
	end := len(text)
	for _, stop := range stops {
		if i := strings.Index(text[:end], stop); stop != "" && i >= 0 {
			end = i
		}
	}
	pieces, reason = tokens(text[:end]), "stop"
	if limit > 0 && len(pieces) > limit {
		pieces, reason = pieces[:limit], "length"
	}
	return pieces, reason
}
