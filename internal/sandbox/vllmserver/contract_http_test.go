package vllmserver_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// deviations are the recorded answers that the stand-in gives differently, by
// method and path, with the reason. "body" and "routes" are what differs.
var deviations = map[string]string{
	"GET /docs":         "body: a page of HTML, of which the recording kept none",
	"GET /openapi.json": "body: the recording kept the routes only; here they stand under paths, without schemas",
	"GET /metrics":      "body: http_requests_* and the like, which count requests by route, are not counted",
}

// unanswered are routes that real servers have and the stand-in has not, because
// no request to them was recorded.
var unanswered = []string{
	"/generative_scoring", "/is_scaling_elastic_ep", "/kv_event_sources", "/v1/chat/completions/batch", "/v1/chat/completions/render",
	"/v1/completions/render", "/v1/messages/count_tokens", "/v1/responses/{response_id}", "/v1/responses/{response_id}/cancel", "/v1/systemone",
}

// TestEveryRecordedRequest: status, headers that clients read, form of the body,
// words of errors, stream.
func TestEveryRecordedRequest(t *testing.T) {
	t.Parallel()
	for _, release := range facts.Releases() {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			start := facts.Start(release, false)
			s := played(t, start.Release, start)
			s.eventually("the start", func() bool { return s.ended() || strings.Contains(s.log.String(), facts.Ready) })
			for i, e := range facts.Exchanges(release) {
				for _, problem := range replay(t, s, e) {
					t.Errorf("request %d, %s %s: %s", i, e.Request.Method, e.Request.Path, problem)
				}
			}
		})
	}
}

// replay sends a recorded request and returns in what the answer differs.
func replay(t *testing.T, s *server, e facts.Exchange) (problems []string) {
	t.Helper()
	differs := func(format string, a ...any) { problems = append(problems, fmt.Sprintf(format, a...)) }
	sent := string(e.Request.Body)
	if sent == "null" {
		sent = ""
	}
	var text string
	if json.Unmarshal(e.Request.Body, &text) == nil {
		sent = text
	}
	request, err := http.NewRequestWithContext(t.Context(), e.Request.Method, "http://machine"+e.Request.Path, strings.NewReader(sent))
	if err != nil {
		t.Fatal(err)
	}
	request.Close = true // as the recorder did
	request.Header.Set("Content-Type", "application/json")
	for name, value := range e.Request.Headers {
		request.Header.Set(name, value)
	}
	switch e.Request.Key {
	case "right":
		request.Header.Set("Authorization", "Bearer "+facts.Key)
	case "wrong":
		request.Header.Set("Authorization", "Bearer sk-wrong")
	}
	response, err := s.webAt(8100).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != e.Answer.Status {
		differs("status %d, want %d: %s", response.StatusCode, e.Answer.Status, data)
	}
	for _, name := range []string{"Server", "Content-Type", "Vary", "Allow"} {
		if got, want := response.Header.Get(name), e.Answer.Headers[strings.ToLower(name)]; got != want {
			differs("%s: %q, want %q", name, got, want)
		}
	}
	if _, sized := e.Answer.Headers["content-length"]; sized != (response.ContentLength >= 0) || sized == slices.Contains(response.TransferEncoding, "chunked") {
		differs("length %d, transfer encoding %v", response.ContentLength, response.TransferEncoding)
	}
	got, want := forms(string(data)), forms(string(e.Answer.Body))
	if e.Answer.Status >= http.StatusBadRequest { // every word counts
		got, want = canonical(t, string(data)), canonical(t, string(e.Answer.Body))
	}
	deviates := !slices.Equal(got, want)
	switch reason, known := deviations[e.Request.Method+" "+e.Request.Path]; {
	case deviates && !known:
		differs("answered\n%s\nwant\n%s\n%s\nrecorded\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"), data, e.Answer.Body)
	case !deviates && known && e.Request.Path != "/metrics": // the first one doesn't deviate
		differs("no deviation any more: %s", reason)
	}
	return problems
}

func canonical(t *testing.T, body string) []string {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(body), &value); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return []string{string(data)}
}

var measured = regexp.MustCompile(` [\d.e+-]+$`)

// forms are the lines of a body without the values that each answer has of its
// own: of JSON the keys, types, nulls and constants; of a stream each event's; of
// metrics the names and labels.
func forms(body string) []string {
	var text string
	if json.Unmarshal([]byte(body), &text) == nil { // as the recordings hold what isn't JSON
		body = text
	}
	var value any
	if json.Unmarshal([]byte(body), &value) == nil {
		return []string{form("", value)}
	}
	var lines []string
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		if event, ok := strings.CutPrefix(line, "data: "); ok && json.Unmarshal([]byte(event), &value) == nil {
			line = form("", value)
		}
		lines = append(lines, measured.ReplaceAllString(line, ""))
	}
	return lines
}

// constants are keys whose strings are part of the contract.
var constants = map[string]bool{
	"object": true, "type": true, "finish_reason": true, "owned_by": true, "role": true, "status": true, "stop_reason": true,
	"reason": true, "truncation": true, "service_tier": true, "model": true, "root": true, "organization": true, "version": true,
}

func form(key string, value any) string {
	switch value := value.(type) {
	case map[string]any:
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(value)) {
			parts = append(parts, k+":"+form(k, value[k]))
		}
		return "{" + strings.Join(parts, " ") + "}"
	case []any:
		if len(value) == 0 {
			return "[]"
		}
		return "[" + form(key, value[0]) + "]"
	case string:
		if constants[key] {
			return value
		}
		return "string"
	case float64:
		if key == "max_model_len" || key == "index" || key == "code" {
			return fmt.Sprint(value)
		}
		return "number"
	}
	return fmt.Sprint(value) // true, false, nil
}

// TestEveryRoute: the routes of a release are answered, but for those that are
// listed as left out.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	for _, release := range facts.Releases() {
		s := serve(t, newMachine(t), []string{vllmserver.VersionEnv + "=" + release})
		for _, e := range facts.Exchanges(release) {
			var body struct {
				Routes map[string][]string `json:"routes"`
			}
			if e.Request.Path != "/openapi.json" || json.Unmarshal(e.Answer.Body, &body) != nil {
				continue
			}
			for route := range body.Routes {
				status, _ := s.call(http.MethodPut, route, "", "")
				if left := slices.Contains(unanswered, route); left != (status == http.StatusNotFound) {
					t.Errorf("%s %s: %d, listed as unanswered: %t", release, route, status, left)
				}
			}
		}
	}
}
