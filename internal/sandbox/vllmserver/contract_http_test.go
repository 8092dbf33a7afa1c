package vllmserver_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// deviations are the recorded answers that the stand-in gives differently, with the reason: by run, method and path.
var deviations = map[string]string{
	"GET /openapi.json": "the recording kept the routes only; here they stand under paths, without schemas",
	"GET /metrics":      "http_requests_* and the like, which count requests by route, are not counted",
	"sigterm-with-request POST /v1/chat/completions": "an answer is written at once here, so that none is cut off within a stream",
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
			s := started(t, facts.Start(release, false))
			deviating := map[string]bool{}
			for i, e := range facts.Exchanges(release) {
				answered, err := s.ask(e)
				if err != nil {
					t.Fatal(err)
				}
				at := e.Request.Method + " " + e.Request.Path
				for _, problem := range answered.differences(t, e) {
					if deviating[at] = true; deviations[at] == "" {
						t.Errorf("request %d, %s: %s", i, at, problem)
					}
				}
			}
			for at, reason := range deviations {
				if !strings.Contains(at, "-") && !deviating[at] {
					t.Errorf("%s deviates no more: %s", at, reason)
				}
			}
		})
	}
}

// started runs the stand-in as a recording was made, and waits until it is ready.
func started(t *testing.T, run facts.Run, env ...string) *server {
	t.Helper()
	for name, value := range run.Env {
		if value != nil && strings.HasPrefix(name, "VLLM_") {
			env = append(env, name+"="+*value)
		}
	}
	s := launch(t, newMachine(t), append(env, vllmserver.VersionEnv+"="+run.Release), run.Argv...)
	s.eventually("the start", func() bool { return s.ended() || strings.Contains(s.log.String(), facts.Ready) })
	return s
}

// answered is an answer, its body read.
type answered struct {
	*http.Response
	body string
}

// ask sends a recorded request.
func (s *server) ask(e facts.Exchange) (answered, error) {
	sent := string(e.Request.Body)
	if sent == "null" {
		sent = ""
	}
	var text string
	if json.Unmarshal(e.Request.Body, &text) == nil {
		sent = text
	}
	request, err := http.NewRequestWithContext(s.t.Context(), e.Request.Method, "http://machine"+e.Request.Path, strings.NewReader(sent))
	if err != nil {
		return answered{}, err
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
		return answered{}, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return answered{response, string(data)}, err
}

// differences are in what an answer differs from the recorded one.
func (a answered) differences(t *testing.T, e facts.Exchange) (problems []string) {
	t.Helper()
	differs := func(format string, a ...any) { problems = append(problems, fmt.Sprintf(format, a...)) }
	if a.StatusCode != e.Answer.Status {
		differs("status %d, want %d: %s", a.StatusCode, e.Answer.Status, a.body)
	}
	for _, name := range []string{"Server", "Content-Type", "Vary", "Allow"} {
		if got, want := a.Header.Get(name), e.Answer.Headers[strings.ToLower(name)]; got != want {
			differs("%s: %q, want %q", name, got, want)
		}
	}
	if _, sized := e.Answer.Headers["content-length"]; sized != (a.ContentLength >= 0) || sized == slices.Contains(a.TransferEncoding, "chunked") {
		differs("length %d, transfer encoding %v", a.ContentLength, a.TransferEncoding)
	}
	got, want := forms(a.body), forms(string(e.Answer.Body))
	if e.Answer.Status >= http.StatusBadRequest { // every word counts
		got, want = canonical(t, a.body), canonical(t, string(e.Answer.Body))
	}
	if e.Request.Path == "/metrics" && !slices.ContainsFunc(want, isHelp) { // not kept
		got = slices.DeleteFunc(got, isHelp)
	}
	if kept := text(e.Answer.Body); kept != string(e.Answer.Body) && kept != "" && len(kept) < number(e.Answer.Headers["content-length"]) {
		got, want = beginning(a.body, kept)
	}
	if !slices.Equal(got, want) {
		differs("answered\n%s\nwant\n%s\n%s\nrecorded\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"), a.body, e.Answer.Body)
	}
	return problems
}

func number(text string) int {
	n, _ := strconv.Atoi(text) // 0 for none
	return n
}

// text is a body as it was kept, of some only the beginning.
func text(body json.RawMessage) string {
	var text string
	if json.Unmarshal(body, &text) == nil {
		return text
	}
	return string(body)
}

var jsonKey = regexp.MustCompile(`"(\w+)":`)

// beginning are the whole lines of what was kept of a body, or its keys, and as much of the answer.
func beginning(body, kept string) (got, want []string) {
	if lines := forms(kept); len(lines) > 1 {
		got, want = forms(body), lines[:len(lines)-1]
		return got[:min(len(got), len(want))], want
	}
	for _, key := range jsonKey.FindAllString(kept, -1) {
		if !slices.Contains(want, key) {
			want = append(want, key)
		}
		if !slices.Contains(got, key) && strings.Contains(body, key) {
			got = append(got, key)
		}
	}
	return got, want
}

func isHelp(line string) bool { return strings.HasPrefix(line, "# HELP ") }

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
	body = text([]byte(body)) // the recordings hold what isn't JSON as a string
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
	if strings.HasPrefix(body, "event: ") { // an event more or less for text doesn't matter
		return slices.Compact(strings.Split(strings.Join(lines, "\n"), "\n\n"))
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
		parts := make([]string, 0, len(value))
		for _, v := range value {
			parts = append(parts, form(key, v))
		}
		return "[" + strings.Join(slices.Compact(parts), " ") + "]"
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
