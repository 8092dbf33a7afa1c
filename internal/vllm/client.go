package vllm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Limits of one request. A caller's context may end it sooner.
const (
	readTimeout     = 30 * time.Second // health, version, models, metrics
	answerTimeout   = 5 * time.Minute  // a completion: the first one may still compile kernels
	maxRequestBytes = 1 << 20
	maxAnswerBytes  = 8 << 20
	maxErrorBytes   = 64 << 10
)

// Client talks to one vLLM server. It doesn't own its transport and is safe for concurrent use. It repeats no request and follows
// no redirect.
type Client struct {
	http *http.Client
	base string
	key  string
	bad  error
}

// NewClient returns a client for the server at baseURL (such as "http://127.0.0.1:8000", with or without a trailing
// "/v1"), reached through rt; nil means http.DefaultTransport. The key, "" for none, is sent as a bearer token with
// every request and appears nowhere else. A URL that can't be used is reported by the first call.
func NewClient(rt http.RoundTripper, baseURL, apiKey string) *Client {
	base, err := cleanBase(baseURL)
	return &Client{
		http: &http.Client{
			Transport:     rt,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base: base,
		key:  apiKey,
		bad:  err,
	}
}

func cleanBase(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", errors.New("the server's URL can't be parsed")
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return "", errors.New("the server's URL must start with http:// or https:// and have a host")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the server's URL must not contain credentials, a query or a fragment")
	}
	return strings.TrimSuffix(strings.TrimRight(u.String(), "/"), "/v1"), nil
}

// URL is the server's base URL, without "/v1" and without a trailing slash.
func (c *Client) URL() string { return c.base }

// Health asks whether the server is healthy. nil doesn't prove that the model works: a server whose engine hangs stays healthy, and
// only Probe finds that out.
func (c *Client) Health(ctx context.Context) error {
	_, err := c.get(ctx, "check health", "/health")
	return err
}

// Version is the release that the server reports, such as "0.33.0".
func (c *Client) Version(ctx context.Context) (string, error) {
	const op = "read the version"
	var answer struct {
		Version string `json:"version"`
	}
	if err := c.getJSON(ctx, op, "/version", &answer); err != nil {
		return "", err
	}
	if answer.Version == "" {
		return "", &Error{Op: op, Status: http.StatusOK, Message: "the answer contains no version"}
	}
	return answer.Version, nil
}

// Model is one model, or one LoRA adapter, that the server serves.
type Model struct {
	ID          string `json:"id"`            // the name to ask for
	Root        string `json:"root"`          // the model's ID or path
	Parent      string `json:"parent"`        // for an adapter: the ID of its model
	MaxModelLen int    `json:"max_model_len"` // tokens; 0 when not reported, as for adapters
}

// Models lists what the server serves.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	var answer struct {
		Data []Model `json:"data"`
	}
	err := c.getJSON(ctx, "list models", "/v1/models", &answer)
	return answer.Data, err
}

// LoadAdapter has the server load a LoRA adapter from a path on its machine or by a Hugging Face ID. The server must have LoRA on
// and [EnvRuntimeLoRA] set.
func (c *Client) LoadAdapter(ctx context.Context, name, path string) error {
	return c.post(ctx, "load the LoRA adapter "+name, "/v1/load_lora_adapter", map[string]string{"lora_name": name, "lora_path": path}, nil)
}

// UnloadAdapter has the server unload a LoRA adapter.
func (c *Client) UnloadAdapter(ctx context.Context, name string) error {
	return c.post(ctx, "unload the LoRA adapter "+name, "/v1/unload_lora_adapter", map[string]string{"lora_name": name}, nil)
}

// Metrics reads the server's metrics.
func (c *Client) Metrics(ctx context.Context) (Metrics, error) {
	const op = "read metrics"
	body, err := c.get(ctx, op, "/metrics")
	if err != nil {
		return Metrics{}, err
	}
	metrics, err := ParseMetrics(bytes.NewReader(body))
	if err != nil {
		return Metrics{}, &Error{Op: op, Status: http.StatusOK, Message: "the answer is not in Prometheus' text format", Err: err}
	}
	return metrics, nil
}

func (c *Client) get(ctx context.Context, op, path string) ([]byte, error) {
	return c.exchange(ctx, op, http.MethodGet, path, nil, readTimeout)
}

func (c *Client) getJSON(ctx context.Context, op, path string, out any) error {
	body, err := c.get(ctx, op, path)
	if err != nil {
		return err
	}
	return c.decode(op, body, out)
}

// post sends a request as JSON and decodes the answer into out, unless that is nil.
func (c *Client) post(ctx context.Context, op, path string, in, out any) error {
	payload, err := json.Marshal(in)
	if err != nil {
		return &Error{Op: op, Message: "the request can't be encoded as JSON", Err: err}
	}
	if len(payload) > maxRequestBytes {
		return &Error{Op: op, Message: fmt.Sprintf("the request is larger than %d bytes", maxRequestBytes)}
	}
	body, err := c.exchange(ctx, op, http.MethodPost, path, payload, answerTimeout)
	if err != nil || out == nil {
		return err
	}
	return c.decode(op, body, out)
}

// exchange sends one request and returns the body of a 200.
func (c *Client) exchange(ctx context.Context, op, method, path string, payload []byte, limit time.Duration) ([]byte, error) {
	if c.bad != nil {
		return nil, &Error{Op: op, Message: c.bad.Error()}
	}
	tooSlow := &slowError{limit: limit}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, tooSlow)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(payload))
	if err != nil {
		return nil, &Error{Op: op, Err: err}
	}
	request.Header.Set("Accept", "*/*")
	if payload != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		request.Header.Set("Authorization", "Bearer "+c.key)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.failed(ctx, op, 0, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		excerpt, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBytes))
		return nil, &Error{Op: op, Status: response.StatusCode, Message: c.message(excerpt)}
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, c.failed(ctx, op, response.StatusCode, err)
	}
	if len(body) > maxAnswerBytes {
		return nil, &Error{Op: op, Status: response.StatusCode, Message: fmt.Sprintf("the answer is larger than %d bytes", maxAnswerBytes)}
	}
	return body, nil
}

// failed is the error of an exchange that ended without a complete answer. Only the end of the caller's context is a context
// error; that of the exchange's own limit is a slowError.
func (c *Client) failed(ctx context.Context, op string, status int, err error) error {
	if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err // without the method and the URL: Op says more
	}
	if slow, ok := errors.AsType[*slowError](context.Cause(ctx)); ok {
		err = slow
	} else if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = ctx.Err()
	}
	return &Error{Op: op, Status: status, Err: err, secret: c.key}
}

func (c *Client) decode(op string, body []byte, out any) error {
	if err := json.Unmarshal(body, out); err != nil {
		const message = "the answer is not the JSON that vLLM sends: is something else listening on this port?"
		return &Error{Op: op, Status: http.StatusOK, Message: message, Err: err, secret: c.key}
	}
	return nil
}

// message returns the server's own message, from any of the forms that vLLM and its web framework have used.
func (c *Client) message(body []byte) string {
	var answer struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	text := string(body)
	if json.Unmarshal(body, &answer) == nil {
		var nested struct {
			Message string `json:"message"`
		}
		var plain string
		switch {
		case answer.Message != "":
			text = answer.Message
		case json.Unmarshal(answer.Error, &nested) == nil && nested.Message != "":
			text = nested.Message
		case json.Unmarshal(answer.Error, &plain) == nil && plain != "":
			text = plain
		case json.Unmarshal(answer.Detail, &plain) == nil && plain != "":
			text = plain
		}
	}
	return clip(MaskSecrets(oneLine(text), c.key), maxExcerpt)
}
