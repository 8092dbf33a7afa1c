package shopper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// TestIncompleteAnswersAreAmbiguous has answers with a status of
// success that don't hold what makes a rental usable.
func TestIncompleteAnswersAreAmbiguous(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, body string }{
		{"no key", `{"session":` + runningText + `}`},
		{"empty key", `{"session":` + runningText + `,"ssh_private_key":""}`},
		{"null key", `{"session":` + runningText + `,"ssh_private_key":null}`},
		{"key of another type", `{"session":` + runningText + `,"ssh_private_key":[1]}`},
		{"no session", `{"ssh_private_key":"` + keyJSON + `"}`},
		{"null session", `{"session":null,"ssh_private_key":"` + keyJSON + `"}`},
		{"a session in the key's place", `{"session":"s1","ssh_private_key":"` + keyJSON + `"}`},
		{"a bare session", `{"id":"s1","status":"running","ssh_private_key":"` + keyJSON + `"}`},
		{"no id", `{"session":{"consumer_id":"c1"},"ssh_private_key":"` + keyJSON + `"}`},
		{"an id that leaves its path", `{"session":{"id":"../x"},"ssh_private_key":"` + keyJSON + `"}`},
		{"a field of another type", `{"session":{"id":"s1","gpu_count":"two","status":"running"},"ssh_private_key":"k"}`},
		{"cut in the session", `{"session":{"id":"s1","consumer_id":"c1","prov`},
		{"cut in the key", createdText[:len(createdText)-30]},
		{"key first, then cut", `{"ssh_private_key":"` + keyJSON + `","session":{"id":"s1","status":"run`},
		{"a page", "<html><body>It works!</body></html>"},
		{"nothing", ""},
		{"an error", refusalText},
		{"two answers", createdText + createdText},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, serve(t, http.StatusCreated, "application/json", test.body).URL)
			created, err := client.CreateSession(t.Context(), rental())
			ambiguous, ok := errors.AsType[*AmbiguousError](err)
			if !ok {
				t.Fatalf("got %v and %v, want an *AmbiguousError", created, err)
			}
			if ambiguous.Answered {
				t.Error("the service did not end the request with an error")
			}
			checkNoKey(t, err)
		})
	}
}

func checkNoKey(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); strings.Contains(text, "secretsecret") || strings.Contains(text, "PRIVATE KEY") {
		t.Errorf("the error shows the private key: %s", text)
	}
	if failed, ok := errors.AsType[*Error](err); ok && strings.Contains(failed.Body, "secretsecret") {
		t.Errorf("the excerpt shows the private key: %s", failed.Body)
	}
}

func TestRefusalsAreJudged(t *testing.T) {
	t.Parallel()
	typed := func(errorType string) string {
		return `{"error":"x","error_type":"` + errorType + `","request_id":"r-1"}`
	}
	for _, test := range []struct {
		name                string
		status              int
		body                string
		ambiguous, answered bool
	}{
		{"offer gone", 503, typed(TypeStaleInventory), false, false},
		{"offer gone, as another status", 500, typed(TypeStaleInventory), false, false},
		{"disk too small", 503, typed(TypeInsufficientDisk), false, false},
		{"bad request", 400, refusalText, false, false},
		{"unauthorized", 401, `{"message":"no"}`, false, false},
		{"forbidden by a proxy", 403, "<html>", false, false},
		{"conflict", 409, refusalText, false, false},
		{"too large for a proxy", 413, "<html>", false, false},
		{"too many", 429, refusalText, false, false},
		{"redirect", 307, "", false, false},
		{"request timeout", 408, "", true, false},
		// A machine may exist behind each of these.
		{"ssh timeout", 500, typed("ssh_timeout"), true, true},
		{"instance stopped", 500, typed("instance_stopped"), true, true},
		{"cloud unavailable", 500, typed("provider_unavailable"), true, true},
		{"invalid, says the cloud", 500, typed("invalid_request"), true, true},
		{"provision failed", 500, typed("provision_failed"), true, true},
		{"a type of a later version", 503, typed("quota"), true, true},
		{"no type", 500, refusalText, true, true},
		{"a proxy's 500", 500, "<html>", true, false},
		{"a proxy claims that the offer is gone", 503, `{"error_type":"stale_inventory"}`, true, false},
		{"bad gateway", 502, refusalText, true, false},
		{"no backend", 503, "<html>", true, false},
		{"gateway timeout", 504, `{"message":"timeout"}`, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, serve(t, test.status, "application/json", test.body).URL)
			_, err := client.CreateSession(t.Context(), rental())
			ambiguous, ok := errors.AsType[*AmbiguousError](err)
			if ok != test.ambiguous || IsAmbiguous(err) != test.ambiguous {
				t.Fatalf("ambiguous is %v: %v", ok, err)
			}
			if ok && ambiguous.Answered != test.answered {
				t.Errorf("Answered is %v", ambiguous.Answered)
			}
			if failed, ok := errors.AsType[*Error](err); !ok || failed.Status != test.status {
				t.Errorf("the answer is lost: %v", err)
			}
			if IsRateLimited(err) != (test.status == 429) {
				t.Errorf("IsRateLimited is %v: %v", IsRateLimited(err), err)
			}
		})
	}
}

// TestARateLimitProvesThatNothingWasRented: the caller can wait for as long as the
// answer says, and ask again.
func TestARateLimitProvesThatNothingWasRented(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]time.Duration{"7": 7 * time.Second, "86400": retryAfterMax, "soon": 0, "": 0} {
		for _, body := range []string{refusalText, "<html>slow down", ""} {
			network := &script{answer: func(int, *http.Request) (*http.Response, error) {
				return response(429, body, "Retry-After", header), nil
			}}
			_, err := newClient(t, fakeURL, network.use).CreateSession(t.Context(), rental())
			failed, ok := errors.AsType[*Error](err)
			if !ok || !IsRateLimited(err) || IsAmbiguous(err) || network.attempts() != 1 {
				t.Fatalf("%q: %d attempts, then %v", header, network.attempts(), err)
			}
			if failed.RetryAfter != want {
				t.Errorf("%q: RetryAfter is %s, want %s", header, failed.RetryAfter, want)
			}
		}
	}
}

// TestLostRequestsAreJudged breaks the connection before and after a request
// can have arrived.
func TestLostRequestsAreJudged(t *testing.T) {
	t.Parallel()
	hangUp := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		err := createAt(t.Context(), t, fmt.Sprint("http://127.0.0.1:", testkit.FreePort(t)))
		if IsAmbiguous(err) || !IsUnreachable(err) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("hung up without an answer", func(t *testing.T) {
		t.Parallel()
		err := createAt(t.Context(), t, serveFunc(t, hangUp).URL)
		if !IsAmbiguous(err) || !IsUnreachable(err) || !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cut in the body", func(t *testing.T) {
		t.Parallel()
		server := serveFunc(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			respond(w, http.StatusCreated, "application/json", `{"session":{"id":"s1","status":"provisioning"},`)
		})
		err := createAt(t.Context(), t, server.URL)
		if !IsAmbiguous(err) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cut after the body", func(t *testing.T) {
		t.Parallel()
		server := serveFunc(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			respond(w, http.StatusCreated, "application/json", createdText)
		})
		if err := createAt(t.Context(), t, server.URL); err != nil {
			t.Errorf("all of the answer arrived, and it was thrown away: %v", err)
		}
	})
	t.Run("canceled while the service works", func(t *testing.T) {
		t.Parallel()
		arrived := make(chan struct{})
		server := serveFunc(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			close(arrived)
			<-r.Context().Done()
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { <-arrived; cancel() }()
		err := createAt(ctx, t, server.URL)
		if !IsAmbiguous(err) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("canceled while connecting", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		err := createAt(ctx, t, "http://192.0.2.1:81") // TEST-NET-1 of RFC 5737: nobody
		if IsAmbiguous(err) || err == nil {
			t.Errorf("got %v", err)
		}
	})
}

func createAt(ctx context.Context, t *testing.T, url string) error {
	t.Helper()
	_, err := newClient(t, url).CreateSession(ctx, rental())
	return err
}

func TestExtendWithoutAnEndIsAmbiguous(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"message":"session extended","session_id":"s1"}`, `{}`, `{"new_expires_at":"tomorrow"}`, "ok"} {
		end, err := newClient(t, serve(t, 200, "application/json", body).URL).Extend(t.Context(), "s1", 1)
		if !IsAmbiguous(err) || !end.IsZero() {
			t.Errorf("%s: got %s and %v", body, end, err)
		}
	}
}

func TestCreateSessionSends(t *testing.T) {
	t.Parallel()
	var got map[string]any
	server := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/api/v1/sessions" || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("got %s %s %v", r.Method, r.URL, r.Header)
		}
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		respond(w, http.StatusCreated, "application/json", createdText)
	})
	request := rental()
	request.DiskGB, request.OnStartCmd, request.TemplateHashID = 80, "echo '<&>'", "ab12"
	request.SSHTimeoutMinutes = 15
	created, err := newClient(t, server.URL).CreateSession(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if created.PrivateKey != keyText || created.Session.ID != "s1" {
		t.Errorf("got %+v", created)
	}
	want := map[string]any{
		"consumer_id": "c1", "offer_id": "vastai-100", "workload_type": "llm_vllm", "reservation_hours": 1.0, "disk_gb": 80.0,
		"on_start_cmd": "echo '<&>'", "template_hash_id": "ab12", "ssh_timeout_minutes": 15.0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestInputIsValidatedBeforeItIsSent(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	t.Cleanup(server.Close)
	client := newClient(t, server.URL)
	with := func(change func(*CreateSession)) func(context.Context) error {
		return func(ctx context.Context) error {
			request := rental()
			change(&request)
			_, err := client.CreateSession(ctx, request)
			return err
		}
	}
	for name, call := range map[string]func(context.Context) error{
		"consumer_id":       with(func(r *CreateSession) { r.ConsumerID = "" }),
		"offer_id":          with(func(r *CreateSession) { r.OfferID = "" }),
		"workload_type":     with(func(r *CreateSession) { r.WorkloadType = "bogus" }),
		"reservation_hours": with(func(r *CreateSession) { r.ReservationHours = 13 }),
		"disk_gb":           with(func(r *CreateSession) { r.DiskGB = -1 }),
		"the ID":            with(func(r *CreateSession) { r.TemplateHashID = "a/b" }),
		"1048576":           with(func(r *CreateSession) { r.OnStartCmd = strings.Repeat("x", maxRequestBytes) }),
		"additional_hours":  func(ctx context.Context) error { _, err := client.Extend(ctx, "s1", 0); return err },
		"the period":        func(ctx context.Context) error { _, err := client.ConsumerCost(ctx, "c1", "yearly"); return err },
		"the consumer":      func(ctx context.Context) error { _, err := client.ConsumerCost(ctx, "", PeriodDaily); return err },
		"the limit is -1": func(ctx context.Context) error {
			_, err := client.Sessions(ctx, SessionFilter{Limit: -1})
			return err
		},
		"the limit is 10001": func(ctx context.Context) error {
			_, err := client.Sessions(ctx, SessionFilter{Limit: MaxSessions + 1})
			return err
		},
	} {
		err := call(t.Context())
		if !errors.Is(err, ErrInvalid) || IsAmbiguous(err) || IsUnreachable(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestUnknownWordsAreTolerated(t *testing.T) {
	t.Parallel()
	body := `{"id":"s1","provider":"newcloud","status":"hibernating","workload_type":"video","launch_mode":"vm","later":{"x":[1]}}`
	session, err := newClient(t, serve(t, 200, "application/json", body).URL).Session(t.Context(), "s1")
	if err != nil {
		t.Fatal(err)
	}
	want := Session{ID: "s1", Cloud: "newcloud", Status: "hibernating", WorkloadType: "video"}
	if diff := cmp.Diff(want, session); diff != "" {
		t.Error(diff)
	}
	if session.Status.Known() || session.Status.Terminal() {
		t.Error("an unknown status is neither known nor an end")
	}
	for _, status := range []Status{Pending, Provisioning, Running, Stopping, Stopped, Failed} {
		if !status.Known() || status.Terminal() != (status == Stopped || status == Failed) {
			t.Errorf("%s: known %v, terminal %v", status, status.Known(), status.Terminal())
		}
	}
}
