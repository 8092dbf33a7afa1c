package vllm

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testKey = "sk-planted-secret-0123456789"

// roundTripper is a transport made of a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer is a transport that gives one answer to everything.
func answer(status int, body string) roundTripper {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}}, nil
	}
}

// newTestClient is a client of a handler on loopback.
func newTestClient(t *testing.T, handler http.Handler) *Client {
	t.Helper()
	server := httptest.NewServer(handler)
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
	})
	return NewClient(transport, server.URL, testKey)
}

// openAI is a handler like vLLM's: it refuses requests without the key, and does what its model does.
func openAI(t *testing.T, does ...string) http.Handler {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"version":"0.33.0"}`) })
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"object":"list","data":[
			{"id":"chat","object":"model","owned_by":"vllm","root":"org/model","parent":null,"max_model_len":8192,"permission":[]},
			{"id":"adapter","root":"/lora","parent":"chat"}]}`)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "vllm:num_requests_running 2\n") })
	answers := map[string]string{
		"/v1/completions":      `{"id":"cmpl-1","model":"chat","choices":[{"text":" there","finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`,
		"/v1/chat/completions": `{"id":"chat-1","model":"chat","choices":[{"message":{"content":null,"reasoning_content":"hm"},"finish_reason":"length"}],"usage":{"completion_tokens":1}}`,
		"/v1/embeddings":       `{"data":[{"embedding":[0.25,-1]}]}`,
		"/pooling":             `{"data":[{"data":[[1]]}]}`,
		"/classify":            `{"data":[{"label":"good"}]}`,
	}
	for path, body := range answers {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			var request struct {
				Model string `json:"model"`
			}
			if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.Model != "chat" {
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"error":{"message":"The model `+"`other`"+` does not exist.","type":"NotFoundError","code":404}}`)
				return
			}
			for _, can := range does {
				if can == path {
					fmt.Fprint(w, body)
					return
				}
			}
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"object":"error","message":"The model does not support Completions API","type":"BadRequestError","code":400}`)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/v1") && r.Header.Get("Authorization") != "Bearer "+testKey {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"error":"Unauthorized"}`)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func TestClientReads(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, openAI(t))
	if err := client.Health(t.Context()); err != nil {
		t.Error(err)
	}
	if version, err := client.Version(t.Context()); err != nil || version != "0.33.0" {
		t.Error(version, err)
	}
	models, err := client.Models(t.Context())
	want := []Model{{ID: "chat", Root: "org/model", MaxModelLen: 8192}, {ID: "adapter", Root: "/lora", Parent: "chat"}}
	if diff := cmp.Diff(want, models); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	metrics, err := client.Metrics(t.Context())
	if err != nil || metrics.RequestsRunning == nil || *metrics.RequestsRunning != 2 {
		t.Error(metrics, err)
	}
}

func TestClientCompletes(t *testing.T) {
	t.Parallel()
	client := newTestClient(t, openAI(t, "/v1/completions", "/v1/chat/completions"))
	if got, err := client.Complete(t.Context(), "chat"); err != nil || got != " there" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := client.chat(t.Context(), "chat"); err != nil || got != "hm" {
		t.Errorf("%q, %v", got, err)
	}
	_, err := client.Complete(t.Context(), "other")
	if !IsNotFound(err) || IsUnsupported(err) || !strings.Contains(err.Error(), "does not exist") {
		t.Error(err)
	}
}

// What is sent is what vLLM's API takes, as JSON, once.
func TestClientRequest(t *testing.T) {
	t.Parallel()
	var sent []string
	client := NewClient(roundTripper(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		sent = append(sent, r.Method+" "+r.URL.String()+" "+r.Header.Get("Content-Type")+" "+string(body))
		return &http.Response{StatusCode: http.StatusInternalServerError, Body: http.NoBody}, err
	}), "http://127.0.0.1:8000/v1/", "")
	_, err := client.Complete(t.Context(), "a\"b")
	if err == nil || IsNotReady(err) || IsUnsupported(err) {
		t.Errorf("%v", err)
	}
	want := []string{`POST http://127.0.0.1:8000/v1/completions application/json {"max_tokens":1,"model":"a\"b","prompt":"Hello","temperature":0}`}
	if diff := cmp.Diff(want, sent); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		does       []string
		completion bool
		call       string // "" = an error
	}{
		"completion":             {[]string{"/v1/completions"}, true, "completion"},
		"chat only":              {[]string{"/v1/chat/completions"}, true, "chat"},
		"neither":                {nil, true, ""},
		"embedding":              {[]string{"/v1/embeddings"}, false, "embedding"},
		"reward":                 {[]string{"/pooling"}, false, "pooling"},
		"classifier":             {[]string{"/classify"}, false, "pooling"},
		"an embedder isn't chat": {[]string{"/v1/embeddings"}, true, ""},
		"a chat isn't embedder":  {[]string{"/v1/completions"}, false, ""},
	} {
		proof, err := newTestClient(t, openAI(t, test.does...)).Probe(t.Context(), "chat", test.completion)
		switch {
		case test.call == "":
			if !IsUnsupported(err) {
				t.Errorf("%s: %+v, %v", name, proof, err)
			}
		case err != nil || proof.Call != test.call || proof.Duration <= 0:
			t.Errorf("%s: %+v, %v", name, proof, err)
		}
	}
}

func TestUnsupportedWordings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		body   string
	}{
		"old":          {400, `{"object":"error","message":"The model does not support Completions API","type":"BadRequestError"}`},
		"newer":        {400, `{"error":{"message":"The model does not support Completions API","type":"BadRequestError","code":400}}`},
		"newest":       {501, `{"error":{"message":"The model does not support Completions API","type":"NotImplementedError","code":501}}`},
		"no such path": {404, `{"detail":"Not Found"}`},
		"no method":    {405, `{"detail":"Method Not Allowed"}`},
	} {
		_, err := NewClient(answer(test.status, test.body), "http://x", "").Complete(t.Context(), "m")
		if !IsUnsupported(err) || IsNotReady(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An answer without output is no proof.
func TestClientNoTokens(t *testing.T) {
	t.Parallel()
	for body, call := range map[string]func(*Client) error{
		`{"choices":[]}`: func(c *Client) error { _, err := c.Complete(t.Context(), "m"); return err },
		`{}`:             func(c *Client) error { _, err := c.chat(t.Context(), "m"); return err },
		`{"choices":[{"text":""}],"usage":{"completion_tokens":0}}`: func(c *Client) error { _, err := c.Complete(t.Context(), "m"); return err },
		`{"data":[]}`:                 func(c *Client) error { _, err := c.embed(t.Context(), "m"); return err },
		`{"data":[{"embedding":[]}]}`: func(c *Client) error { _, err := c.embed(t.Context(), "m"); return err },
		`{"data":null}`:               func(c *Client) error { _, err := c.pool(t.Context(), "m"); return err },
	} {
		err := call(NewClient(answer(http.StatusOK, body), "http://x", ""))
		if !errors.Is(err, ErrNoTokens) || IsNotReady(err) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestErrorHelpers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		transport    http.RoundTripper
		unauthorized bool
		notReady     bool
		words        string
	}{
		"key refused":  {answer(401, `{"error":"Unauthorized"}`), true, false, "HTTP 401 Unauthorized"},
		"forbidden":    {answer(403, ""), true, false, "HTTP 403 Forbidden"},
		"engine dead":  {answer(503, ""), false, true, "HTTP 503"},
		"proxy":        {answer(502, "<html>\n<b>bad gateway</b>"), false, true, "bad gateway"},
		"server error": {answer(500, `{"error":{"message":"boom"}}`), false, false, "boom"},
		"redirect":     {answer(302, ""), false, false, "HTTP 302"},
		"refused": {roundTripper(func(*http.Request) (*http.Response, error) {
			return nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
		}), false, true, "connection refused"},
		"wrong certificate": {roundTripper(func(*http.Request) (*http.Response, error) { return nil, x509.UnknownAuthorityError{} }), false, false, "certificate"},
		"broken body": {roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(io.MultiReader(strings.NewReader("{"), brokenReader{}))}, nil
		}), false, true, "unexpected EOF"},
		"not JSON":      {answer(200, "<html>"), false, false, "something else listening"},
		"other JSON":    {answer(200, `{"data":"x"}`), false, false, "something else listening"},
		"too large":     {answer(200, `{"x":"`+strings.Repeat("a", maxAnswerBytes)+`"}`), false, false, "larger than"},
		"large error":   {answer(400, strings.Repeat("a", 1<<20)), false, false, "aaa"},
		"detail":        {answer(422, `{"detail":"bad thing"}`), false, false, "bad thing"},
		"control bytes": {answer(400, "a\x1b[31mb\x00c"), false, false, "a [31mb c"},
	} {
		_, err := NewClient(test.transport, "http://x", testKey).Models(t.Context())
		var typed *Error
		if !errors.As(err, &typed) || typed.Op != "list models" {
			t.Errorf("%s: %#v", name, err)
			continue
		}
		if IsUnauthorized(err) != test.unauthorized || IsNotReady(err) != test.notReady {
			t.Errorf("%s: unauthorized %v, not ready %v: %v", name, IsUnauthorized(err), IsNotReady(err), err)
		}
		if !strings.Contains(err.Error(), test.words) || len(err.Error()) > 2*maxExcerpt {
			t.Errorf("%s: %v", name, err)
		}
	}
	if IsNotReady(io.EOF) || IsUnauthorized(nil) || IsNotFound(io.EOF) || IsUnsupported(nil) {
		t.Error("a foreign error is taken for one of ours")
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// The key is a header of the client's request, and no error contains it even where the server repeats it.
func TestKeyIsSentAndNeverShown(t *testing.T) {
	t.Parallel()
	echo := roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") != "Bearer "+testKey {
			t.Errorf("%s %s: no key", r.Method, r.URL.Path)
		}
		return answer(http.StatusBadRequest, "you sent "+r.Header.Get("Authorization")+" and "+testKey).RoundTrip(r)
	})
	broken := roundTripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("lost while sending " + testKey) })
	half := answer(http.StatusOK, testKey)
	for _, transport := range []http.RoundTripper{echo, broken, half} {
		client := NewClient(transport, "http://x", testKey)
		calls := map[string]func() error{
			"version":    func() error { _, err := client.Version(t.Context()); return err },
			"models":     func() error { _, err := client.Models(t.Context()); return err },
			"completion": func() error { _, err := client.Complete(t.Context(), "m"); return err },
			"embedding":  func() error { _, err := client.embed(t.Context(), "m"); return err },
		}
		for name, call := range calls {
			err := call()
			if err == nil {
				t.Errorf("%s: no error", name)
				continue
			}
			for _, text := range []string{err.Error(), fmt.Sprintf("%v %+v %s", err, err, err)} {
				if strings.Contains(text, testKey) {
					t.Errorf("%s: the key is in %s", name, text)
				}
			}
		}
	}
}

func TestClientBadURL(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "127.0.0.1:8000", "ftp://x", "http://", "http://user:" + testKey + "@x", "http://x?key=" + testKey, "http://x\x7f/" + testKey, "http://x#a"} {
		err := NewClient(answer(200, ""), raw, "").Health(t.Context())
		if err == nil || strings.Contains(err.Error(), testKey) || IsNotReady(err) {
			t.Errorf("%q: %v", raw, err)
		}
	}
	for raw, want := range map[string]string{
		"http://x": "http://x", "http://x/": "http://x", "https://x/v1": "https://x", "https://x/v1/": "https://x", "http://x/base/": "http://x/base",
	} {
		if got := NewClient(nil, raw, "").URL(); got != want {
			t.Errorf("%q: %q, want %q", raw, got, want)
		}
	}
}

// A caller's own context stays recognizable; our own limit isn't taken for it.
func TestClientContext(t *testing.T) {
	t.Parallel()
	hang := roundTripper(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	synctest.Test(t, func(t *testing.T) {
		client := NewClient(hang, "http://x", "")
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := client.Health(canceled); !errors.Is(err, context.Canceled) || IsNotReady(err) {
			t.Errorf("canceled: %v", err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := client.Health(short); !errors.Is(err, context.DeadlineExceeded) || IsNotReady(err) {
			t.Errorf("deadline: %v", err)
		}
		started := time.Now()
		err := client.Health(t.Context())
		if errors.Is(err, context.DeadlineExceeded) || !IsNotReady(err) || !strings.Contains(err.Error(), "within 30s") {
			t.Errorf("own limit: %v", err)
		}
		if took := time.Since(started); took != readTimeout {
			t.Errorf("own limit after %s", took)
		}
		_, err = client.Complete(t.Context(), "m")
		if !IsNotReady(err) || time.Since(started) != readTimeout+answerTimeout {
			t.Errorf("completion: %v after %s", err, time.Since(started))
		}
	})
}

func TestClientRequestTooLarge(t *testing.T) {
	t.Parallel()
	_, err := NewClient(answer(200, "{}"), "http://x", "").Complete(t.Context(), strings.Repeat("a", maxRequestBytes))
	if err == nil || !strings.Contains(err.Error(), "request is larger") {
		t.Error(err)
	}
}

// A healthy server without a token hangs, by its own deadline and by the caller's; one that isn't healthy either, or nobody waits
// for any more, is none of that.
func TestProbeWithin(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		health int
		outer  time.Duration
		cancel bool
		hung   bool
	}{
		"hung":                       {health: http.StatusOK, outer: time.Hour, hung: true},
		"hung, the caller's time up": {health: http.StatusOK, outer: time.Second, hung: true},
		"dying":                      {health: http.StatusServiceUnavailable, outer: time.Hour},
		"canceled":                   {health: http.StatusOK, outer: time.Hour, cancel: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := NewClient(roundTripper(func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/health" {
						return answer(test.health, "")(r)
					}
					<-r.Context().Done()
					return nil, r.Context().Err()
				}), "http://server", testKey)
				ctx, cancel := context.WithTimeout(t.Context(), test.outer)
				defer cancel()
				if test.cancel {
					time.AfterFunc(time.Second, cancel)
				}
				_, err := client.ProbeWithin(ctx, "model", true, time.Minute)
				if errors.Is(err, ErrHung) != test.hung || err == nil || (test.hung && strings.Contains(err.Error(), "deadline")) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}
