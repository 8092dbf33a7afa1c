package shopper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recording is one exchange with a real service.
type recording struct {
	Name    string `json:"name"`
	Request struct {
		Method string          `json:"method"`
		Path   string          `json:"path"`
		Body   json.RawMessage `json:"body"`
	} `json:"request"`
	Response struct {
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    json.RawMessage   `json:"body"`
	} `json:"response"`
}

func readRecordings(tb testing.TB) []recording {
	tb.Helper()
	text, err := os.ReadFile("testdata/shopper-recordings.json")
	if err != nil {
		tb.Fatal(err)
	}
	var recordings []recording
	if err := json.Unmarshal(text, &recordings); err != nil {
		tb.Fatal(err)
	}
	return recordings
}

// body is what the service sent: JSON, or the plain text of an unknown route.
func (r recording) body() string {
	var text string
	if json.Unmarshal(r.Response.Body, &text) == nil {
		return text
	}
	return string(r.Response.Body)
}

// play calls the client's method for the recorded route.
func (r recording) play(ctx context.Context, t *testing.T, c *Client) (any, error) {
	t.Helper()
	target, err := url.Parse(r.Request.Path)
	if err != nil {
		t.Fatal(err)
	}
	query := target.Query()
	switch target.Path {
	case "/health":
		return c.Health(ctx)
	case "/ready":
		return c.Ready(ctx)
	}
	parts := strings.Split(strings.TrimPrefix(target.Path, "/api/v1/"), "/")
	id := ""
	if len(parts) > 1 {
		id, parts[1] = parts[1], ":id"
	}
	switch route := r.Request.Method + " " + strings.Join(parts, "/"); route {
	case "GET inventory":
		return c.Offers(ctx, query.Get("provider"))
	case "GET inventory/:id":
		return c.Offer(ctx, id)
	case "GET inventory/:id/compatible-templates":
		return c.CompatibleTemplates(ctx, id)
	case "GET templates":
		return c.Templates(ctx)
	case "GET sessions":
		limit, _ := strconv.Atoi(query.Get("limit")) // the recorded bad limit can't be asked for
		return c.Sessions(ctx, SessionFilter{
			ConsumerID: query.Get("consumer_id"), Status: Status(query.Get("status")), Cloud: query.Get("provider"), Limit: limit,
		})
	case "GET sessions/:id":
		return c.Session(ctx, id)
	case "GET sessions/:id/diagnostics":
		return c.Diagnostics(ctx, id)
	case "GET costs":
		if session := query.Get("session_id"); session != "" {
			return c.SessionCost(ctx, session)
		}
		return c.ConsumerCost(ctx, "c1", PeriodDefault)
	case "GET costs/:id": // costs/summary
		return c.CostSummary(ctx)
	case "GET offer-health":
		return c.OfferHealth(ctx)
	case "GET nope":
		return get[Session](ctx, c.read("asking for an unknown route", c.at(nil, "api", "v1", "nope")), nil)
	case "POST sessions":
		request := rental()
		var asked CreateSession
		if json.Unmarshal(r.Request.Body, &asked) == nil && asked.validate() == nil {
			request = asked
		}
		return c.CreateSession(ctx, request)
	case "POST sessions/:id/extend":
		return c.Extend(ctx, id, 2)
	case "POST sessions/:id/done":
		// The client releases with DELETE alone; the answer's form is the same.
		return nil, c.write("signalling done", http.MethodPost, c.at(nil, "api", "v1", "sessions", id, "done"), DeleteTimeout).do(ctx)
	case "DELETE sessions/:id":
		return nil, c.Delete(ctx, id)
	default:
		return nil, fmt.Errorf("no client method for the route %q", route)
	}
}

// replay serves one recording and calls the client with it.
func (r recording) replay(t *testing.T) (any, error) {
	t.Helper()
	server := serveFunc(t, func(w http.ResponseWriter, request *http.Request) {
		path, _, _ := strings.Cut(r.Request.Path, "?")
		if request.Method != r.Request.Method || request.URL.EscapedPath() != path {
			t.Errorf("the client sent %s %s, recorded is %s %s", request.Method, request.URL.EscapedPath(), r.Request.Method, path)
		}
		if request.URL.Query().Has("offset") { // a recorded page of a longer list: nothing follows
			respond(w, http.StatusOK, "application/json", `{"offers":[],"count":0,"total":12}`)
			return
		}
		for name, value := range r.Response.Headers {
			w.Header().Set(name, value)
		}
		respond(w, r.Response.Status, r.Response.Headers["Content-Type"], r.body())
	})
	return r.play(t.Context(), t, newClient(t, server.URL, withoutRetries))
}

func TestRecordings(t *testing.T) {
	t.Parallel()
	recordings := readRecordings(t)
	if len(recordings) != 79 {
		t.Errorf("there are %d recordings, 79 were made", len(recordings))
	}
	for _, r := range recordings {
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			got, err := r.replay(t)
			if status := r.Response.Status; status < 300 || r.Name == "health_not_ready" || r.Name == "not_ready" {
				if err != nil {
					t.Fatal(err)
				}
				checkNothingLost(t, r, got)
				return
			}
			checkRecordedError(t, r, err)
		})
	}
}

// unread are the recorded fields that the client has no use for.
var unread = []string{
	"api_endpoint", "api_port", "failed_offers", "launch_mode", "model_id", "retry_count", "template_name", // of sessions
	"suppressed_at", // of offers' health
	"timestamp",     // of the service's health
}

// checkNothingLost compares what was decoded with what was recorded, field by
// field, through the types' own JSON names.
func checkNothingLost(t *testing.T, r recording, got any) {
	t.Helper()
	var want map[string]any
	if err := json.Unmarshal(r.Response.Body, &want); err != nil {
		t.Fatal(err)
	}
	switch value := got.(type) {
	case nil: // DELETE and done say nothing that proves anything
		return
	case Created:
		if value.PrivateKey != want["ssh_private_key"] {
			t.Error("the private key is not the recorded one")
		}
		session, ok := want["session"].(map[string]any)
		if !ok {
			t.Fatal("the recording has no session")
		}
		got, want = value.Session, session
	case time.Time:
		got, want = map[string]any{"new_expires_at": value}, map[string]any{"new_expires_at": want["new_expires_at"]}
	case bool:
		got = map[string]any{"ready": value}
	case []Session:
		got = map[string]any{"sessions": value, "count": len(value)}
	case []Offer:
		got = map[string]any{"offers": value, "count": len(value), "total": want["total"]}
	case Diagnostics: // the rest repeats the session
		want = map[string]any{"session_id": want["session_id"], "ssh_available": want["ssh_available"]}
	case FailureReport:
		got = map[string]any{"offers": value.Offers, "gpu_types": value.GPUTypes, "count": len(value.Offers)}
	}
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	var decoded any
	if err := json.Unmarshal(text, &decoded); err != nil {
		t.Fatal(err)
	}
	if missing := missingFrom(decoded, want, r.Name); len(missing) > 0 {
		t.Errorf("decoding lost or changed:\n%s", strings.Join(missing, "\n"))
	}
}

// missingFrom lists where got doesn't hold what want does; got may hold more.
func missingFrom(got, want any, where string) []string {
	var missing []string
	switch want := want.(type) {
	case map[string]any:
		fields, _ := got.(map[string]any)
		for name, value := range want {
			if slices.Contains(unread, name) {
				continue
			}
			missing = append(missing, missingFrom(fields[name], value, where+"."+name)...)
		}
	case []any:
		items, _ := got.([]any)
		if len(items) != len(want) && len(want) > 0 {
			return []string{where + ": another number of items"}
		}
		for i := range want {
			missing = append(missing, missingFrom(items[i], want[i], where+"["+strconv.Itoa(i)+"]")...)
		}
	default:
		if !reflect.DeepEqual(got, want) {
			missing = append(missing, where+": "+cmp.Diff(want, got))
		}
	}
	return missing
}

func checkRecordedError(t *testing.T, r recording, err error) {
	t.Helper()
	failed, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error", err)
	}
	if failed.Status != r.Response.Status || failed.RequestID != r.Response.Headers["X-Request-Id"] || failed.RequestID == "" {
		t.Errorf("got status %d and request id %q", failed.Status, failed.RequestID)
	}
	if r.Name == "unknown_route" {
		if !failed.Foreign || failed.Body != "404 page not found" || IsNotFound(err) {
			t.Errorf("plain text must be no answer of the service: %+v", failed)
		}
		return
	}
	var want struct {
		Error   string `json:"error"`
		Type    string `json:"error_type"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(r.Response.Body, &want); err != nil {
		t.Fatal(err)
	}
	if failed.Foreign {
		t.Error("the service's own answer was taken for a stranger's")
	}
	if failed.Message != want.Error || failed.Hint != want.Message || failed.Type != want.Type {
		t.Errorf("got %+v, want %+v", failed, want)
	}
	if text := err.Error(); !strings.Contains(text, want.Error) || !strings.Contains(text, failed.RequestID) {
		t.Errorf("the text lacks the service's words or the request id: %s", text)
	}
	if IsNotFound(err) != (r.Response.Status == http.StatusNotFound) {
		t.Errorf("IsNotFound is %v for status %d", IsNotFound(err), r.Response.Status)
	}
	// None of the recorded refusals rented anything, and each says so.
	if strings.HasPrefix(r.Name, "create_") && IsAmbiguous(err) {
		t.Error("a refusal was taken for an ambiguous outcome")
	}
}
