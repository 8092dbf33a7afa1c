package vllm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// CompletionRequest asks for text. The zero value of a field is left to the default named at it.
type CompletionRequest struct {
	Model     string // the served name
	Prompt    string // "" = "Hello"
	MaxTokens int    // 0 = 1: enough to prove that the model answers
}

func (r CompletionRequest) prompt() string {
	if r.Prompt == "" {
		return "Hello"
	}
	return r.Prompt
}

func (r CompletionRequest) maxTokens() int { return max(r.MaxTokens, 1) }

// Completion is text that the model gave.
type Completion struct {
	ID               string
	Model            string
	Text             string // may be empty although tokens came, such as a first token that is a control token
	FinishReason     string
	PromptTokens     int
	CompletionTokens int
	// Duration is from sending the request to the whole answer; with one token it is the latency of the first token.
	Duration time.Duration
}

type completionAnswer struct {
	ID      string `json:"id"`
	Model   string `json:"model"`
	Choices []struct {
		Text         string `json:"text"`
		FinishReason string `json:"finish_reason"`
		Message      struct {
			Content          string `json:"content"`
			Reasoning        string `json:"reasoning"`
			ReasoningContent string `json:"reasoning_content"`
		} `json:"message"`
	} `json:"choices"`
	Usage struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
	} `json:"usage"`
}

// Complete asks for a completion (POST /v1/completions). An answer without a token is an *Error with ErrNoTokens.
func (c *Client) Complete(ctx context.Context, r CompletionRequest) (Completion, error) {
	return c.generate(ctx, "complete", "/v1/completions", map[string]any{
		"model": r.Model, "prompt": r.prompt(), "max_tokens": r.maxTokens(), "temperature": 0,
	})
}

// CompleteChat asks for the answer to one message (POST /v1/chat/completions), for models that have a chat template.
func (c *Client) CompleteChat(ctx context.Context, r CompletionRequest) (Completion, error) {
	return c.generate(ctx, "complete a chat", "/v1/chat/completions", map[string]any{
		"model": r.Model, "max_tokens": r.maxTokens(), "temperature": 0,
		"messages": []map[string]string{{"role": "user", "content": r.prompt()}},
	})
}

func (c *Client) generate(ctx context.Context, op, path string, request map[string]any) (Completion, error) {
	started := time.Now()
	var answer completionAnswer
	if err := c.post(ctx, op, path, request, &answer); err != nil {
		return Completion{}, err
	}
	result := Completion{
		ID: answer.ID, Model: answer.Model,
		PromptTokens: answer.Usage.PromptTokens, CompletionTokens: answer.Usage.CompletionTokens,
		Duration: time.Since(started),
	}
	if len(answer.Choices) > 0 {
		choice := answer.Choices[0]
		result.FinishReason = choice.FinishReason
		result.Text = firstSet(choice.Text, choice.Message.Content, choice.Message.Reasoning, choice.Message.ReasoningContent)
	}
	if len(answer.Choices) == 0 || (result.Text == "" && result.CompletionTokens < 1) {
		return Completion{}, &Error{Op: op, Status: http.StatusOK, Err: ErrNoTokens}
	}
	return result, nil
}

func firstSet(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// Embed turns a text into a vector (POST /v1/embeddings), for embedding models. A vector without numbers is an *Error
// with ErrNoTokens.
func (c *Client) Embed(ctx context.Context, model, text string) ([]float64, error) {
	const op = "embed"
	var answer struct {
		Data []struct {
			Embedding []float64 `json:"embedding"`
		} `json:"data"`
	}
	err := c.post(ctx, op, "/v1/embeddings", map[string]any{"model": model, "input": text}, &answer)
	if err != nil {
		return nil, err
	}
	if len(answer.Data) == 0 || len(answer.Data[0].Embedding) == 0 {
		return nil, &Error{Op: op, Status: http.StatusOK, Err: ErrNoTokens}
	}
	return answer.Data[0].Embedding, nil
}

// Pool runs a pooling model (reward models, classifiers) on a text: POST /pooling, or /classify where the model does
// only that. Its output's shape differs by model, so only its presence is reported: nil means that it answered.
func (c *Client) Pool(ctx context.Context, model, text string) error {
	var err error
	for _, path := range []string{"/pooling", "/classify"} {
		var answer struct {
			Data []map[string]any `json:"data"`
		}
		err = c.post(ctx, "pool", path, map[string]any{"model": model, "input": text}, &answer)
		if err == nil && len(answer.Data) == 0 {
			return &Error{Op: "pool", Status: http.StatusOK, Err: ErrNoTokens}
		}
		if !IsUnsupported(err) {
			return err
		}
	}
	return err
}

// Proof says how a model showed that it works.
type Proof struct {
	// Call is "completion", "chat", "embedding" or "pooling".
	Call string
	// Text is what the model said, for a completion or chat.
	Text string
	// Duration is how long the answer took: the latency of a first token, for a completion or chat.
	Duration time.Duration
}

// Probe proves that the model works, which nothing but real output does. With completion it asks for one token, as a
// completion or, where the model doesn't support those, as a chat. Without it (embedding and reward models) it asks
// for an embedding or, where the model doesn't support those, for pooling. The error is that of the last call tried.
func (c *Client) Probe(ctx context.Context, model string, completion bool) (Proof, error) {
	started := time.Now()
	if !completion {
		_, err := c.Embed(ctx, model, "Hello")
		if !IsUnsupported(err) {
			return Proof{Call: "embedding", Duration: time.Since(started)}, err
		}
		started = time.Now()
		err = c.Pool(ctx, model, "Hello")
		return Proof{Call: "pooling", Duration: time.Since(started)}, err
	}
	answer, err := c.Complete(ctx, CompletionRequest{Model: model})
	if !IsUnsupported(err) {
		return Proof{Call: "completion", Text: answer.Text, Duration: answer.Duration}, err
	}
	answer, err = c.CompleteChat(ctx, CompletionRequest{Model: model})
	return Proof{Call: "chat", Text: answer.Text, Duration: answer.Duration}, err
}

// healthTimeout is for one answer of /health, which a living server gives at once.
const healthTimeout = 10 * time.Second

// ProbeWithin is Probe with a separate deadline. When that, or the caller's, passes without an answer although /health answers
// 200, the error is an [*Error] with ErrHung: a stopped engine looks healthy for good (runs/hung-engine.http.json of 0.32.0).
func (c *Client) ProbeWithin(ctx context.Context, model string, completion bool, limit time.Duration) (Proof, error) {
	started := time.Now()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	proof, err := c.Probe(limited, model, completion)
	var slow *slowError
	late := errors.Is(limited.Err(), context.DeadlineExceeded) || errors.As(err, &slow)
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
