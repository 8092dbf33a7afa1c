package vllm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// greeting is the text that a model gets as its input.
const greeting = "Hello"

// Complete asks for one token (POST /v1/completions) and returns its text, which is empty for a control token. An answer without
// a token is an *Error with ErrNoTokens.
func (c *Client) Complete(ctx context.Context, model string) (text string, err error) {
	return c.generate(ctx, "complete", "/v1/completions", map[string]any{
		"model": model, "prompt": greeting, "max_tokens": 1, "temperature": 0,
	})
}

// chat is Complete as the answer to a message (POST /v1/chat/completions), for models that have a chat template.
func (c *Client) chat(ctx context.Context, model string) (text string, err error) {
	return c.generate(ctx, "complete a chat", "/v1/chat/completions", map[string]any{
		"model": model, "max_tokens": 1, "temperature": 0,
		"messages": []map[string]string{{"role": "user", "content": greeting}},
	})
}

func (c *Client) generate(ctx context.Context, op, path string, request map[string]any) (text string, err error) {
	var answer struct {
		Choices []struct {
			Text    string `json:"text"`
			Message struct {
				Content          string `json:"content"`
				Reasoning        string `json:"reasoning"`
				ReasoningContent string `json:"reasoning_content"`
			} `json:"message"`
		} `json:"choices"`
		Usage struct {
			CompletionTokens int `json:"completion_tokens"`
		} `json:"usage"`
	}
	if err := c.post(ctx, op, path, request, &answer); err != nil {
		return "", err
	}
	if len(answer.Choices) > 0 {
		choice := answer.Choices[0]
		text = cmp.Or(choice.Text, choice.Message.Content, choice.Message.Reasoning, choice.Message.ReasoningContent)
	}
	if len(answer.Choices) == 0 || (text == "" && answer.Usage.CompletionTokens < 1) {
		return "", &Error{Op: op, Status: http.StatusOK, Err: ErrNoTokens}
	}
	return text, nil
}

// embed turns a text into a vector (POST /v1/embeddings), for embedding models. It returns no text. A vector without numbers is an
// *Error with ErrNoTokens.
func (c *Client) embed(ctx context.Context, model string) (string, error) {
	const op = "embed"
	var answer struct {
		Data []struct {
			Embedding []float64 `json:"embedding"`
		} `json:"data"`
	}
	err := c.post(ctx, op, "/v1/embeddings", map[string]any{"model": model, "input": greeting}, &answer)
	if err == nil && (len(answer.Data) == 0 || len(answer.Data[0].Embedding) == 0) {
		err = &Error{Op: op, Status: http.StatusOK, Err: ErrNoTokens}
	}
	return "", err
}

// pool runs a pooling model (reward models, classifiers) on a text: POST /pooling, or /classify where the model supports only
// that. It returns no text. The output's shape differs by model, so only its absence is an *Error with ErrNoTokens.
func (c *Client) pool(ctx context.Context, model string) (string, error) {
	const op = "pool"
	var err error
	for _, path := range []string{"/pooling", "/classify"} {
		var answer struct {
			Data []map[string]any `json:"data"`
		}
		err = c.post(ctx, op, path, map[string]any{"model": model, "input": greeting}, &answer)
		if err == nil && len(answer.Data) == 0 {
			err = &Error{Op: op, Status: http.StatusOK, Err: ErrNoTokens}
		}
		if !IsUnsupported(err) {
			break
		}
	}
	return "", err
}

// Proof says how a model showed that it works.
type Proof struct {
	// Call is "completion", "chat", "embedding" or "pooling".
	Call string
	// Text is what the model answered, for a completion or chat.
	Text string
	// Duration is how long the answer took: the latency of a first token, for a completion or chat.
	Duration time.Duration
}

// Probe proves that the model works, which nothing but real output does. With completion it asks for one token, as a
// completion or, where the model doesn't support those, as a chat. Without it (embedding and reward models) it asks
// for an embedding or, where the model doesn't support those, for pooling. The error is that of the last call tried.
func (c *Client) Probe(ctx context.Context, model string, completion bool) (proof Proof, err error) {
	type call struct {
		name string
		do   func(context.Context, string) (string, error)
	}
	calls := []call{{"embedding", c.embed}, {"pooling", c.pool}}
	if completion {
		calls = []call{{"completion", c.Complete}, {"chat", c.chat}}
	}
	for _, call := range calls {
		started := time.Now()
		proof.Call = call.name
		proof.Text, err = call.do(ctx, model)
		proof.Duration = time.Since(started)
		if !IsUnsupported(err) {
			break
		}
	}
	return proof, err
}

// healthTimeout bounds one request to /health, which a healthy server answers at once.
const healthTimeout = 10 * time.Second

// ProbeWithin is Probe with a separate deadline. When that, or the caller's, passes without an answer although /health answers
// 200, the error is an [*Error] with ErrHung: a server whose engine hangs reports itself healthy forever
// (runs/hung-engine.http.json of 0.32.0).
func (c *Client) ProbeWithin(ctx context.Context, model string, completion bool, limit time.Duration) (Proof, error) {
	started := time.Now()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	proof, err := c.Probe(limited, model, completion)
	_, slow := errors.AsType[*slowError](err)
	late := slow || errors.Is(limited.Err(), context.DeadlineExceeded)
	if err == nil || !late || errors.Is(ctx.Err(), context.Canceled) {
		return proof, err
	}
	check, cancel := context.WithTimeout(context.WithoutCancel(ctx), healthTimeout)
	defer cancel()
	if c.Health(check) != nil {
		return proof, err
	}
	waited := time.Since(started).Round(time.Second)
	return proof, &Error{Op: "wait for a token", Err: fmt.Errorf("%w: none came within %s", ErrHung, waited)}
}
