package shopper

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newClient makes a client of the service at url, closed with the test.
func newClient(t *testing.T, url string, changes ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{URL: url}
	for _, change := range changes {
		change(&cfg)
	}
	client, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func withoutRetries(cfg *Config) { cfg.MaxRetries = -1 }

// serve starts a service that answers every request so.
func serve(t *testing.T, status int, contentType, body string) *httptest.Server {
	t.Helper()
	return serveFunc(t, func(w http.ResponseWriter, _ *http.Request) { respond(w, status, contentType, body) })
}

func serveFunc(t *testing.T, handler http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server
}

func respond(w http.ResponseWriter, status int, contentType, body string) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// script is a network that gives prepared answers, for tests whose time is
// testing/synctest's.
type script struct {
	answer func(attempt int, request *http.Request) (*http.Response, error)

	mu       sync.Mutex
	times    []time.Time
	requests []*http.Request
}

func (s *script) RoundTrip(request *http.Request) (*http.Response, error) {
	s.mu.Lock()
	s.times = append(s.times, time.Now())
	s.requests = append(s.requests, request)
	attempt := len(s.times)
	s.mu.Unlock()
	return s.answer(attempt, request)
}

func (s *script) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.times)
}

// pauses are the times between attempts, given that an attempt takes none.
func (s *script) pauses() []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pauses []time.Duration
	for i := 1; i < len(s.times); i++ {
		pauses = append(pauses, s.times[i].Sub(s.times[i-1]))
	}
	return pauses
}

func (s *script) use(cfg *Config) { cfg.roundTripper = s }

func response(status int, body string, header ...string) *http.Response {
	r := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

const (
	fakeURL = "http://shopper.test"
	// refusalText is an error in the service's own form.
	refusalText = `{"error":"database is locked","request_id":"r-1"}`
	runningText = `{"id":"s1","consumer_id":"c1","provider":"vastai","status":"running"}`
	// keyText stands for a private key that must show up nowhere.
	keyText     = "-----BEGIN RSA PRIVATE KEY-----\nMIIJKQIBAAKCAgEAsecretsecret\n-----END RSA PRIVATE KEY-----\n"
	keyJSON     = `-----BEGIN RSA PRIVATE KEY-----\nMIIJKQIBAAKCAgEAsecretsecret\n-----END RSA PRIVATE KEY-----\n`
	createdText = `{"session":` + runningText + `,"ssh_private_key":"` + keyJSON + `"}`
)

func rental() CreateSession {
	return CreateSession{ConsumerID: "c1", OfferID: "vastai-100", WorkloadType: WorkloadLLMVLLM, ReservationHours: 1}
}
