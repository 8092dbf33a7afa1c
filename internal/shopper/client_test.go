package shopper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		cfg  Config
		says string
	}{
		{"no url", Config{}, "empty"},
		{"no scheme", Config{URL: "localhost:8080"}, "must start with"},
		{"no scheme, a name", Config{URL: "shopper.example.com"}, "must start with"},
		{"another scheme", Config{URL: "ftp://shopper.example.com"}, "must start with http"},
		{"no host", Config{URL: "http:///api"}, "no host"},
		{"a port without host", Config{URL: "http://:8080"}, "no host"},
		{"credentials", Config{URL: "http://me:geheim1@shopper.example.com"}, "must not contain credentials"},
		{"unreadable credentials", Config{URL: "http://me:geheim1%zz@shopper.example.com"}, "must not contain credentials"},
		{"a space", Config{URL: "http://shop per"}, "can't be parsed"},
		{"a query", Config{URL: "http://shopper?token=geheim1"}, "no query"},
		{"a fragment", Config{URL: "http://shopper/#geheim1"}, "no fragment"},
		{"a header's name", Config{URL: fakeURL, Headers: map[string]string{"X Y": "geheim1"}}, "header name"},
		{"a header's value", Config{URL: fakeURL, Headers: map[string]string{"X-Y": "geheim1\r\nX-Z: 1"}}, `"X-Y" contains`},
		{"a token of two lines", Config{URL: fakeURL, Token: "geheim1\n"}, `"Authorization" contains`},
		{"a header twice", Config{URL: fakeURL, Headers: map[string]string{"x-y": "1", "X-Y": "2"}}, "set twice"},
		{"two authorizations", Config{URL: fakeURL, Token: "geheim1", Headers: map[string]string{"authorization": "x"}}, "exclude"},
		{"a connection's header", Config{URL: fakeURL, Headers: map[string]string{"Transfer-Encoding": "x"}}, "belongs to the connection"},
		{"a header that repeats a POST", Config{URL: fakeURL, Headers: map[string]string{"Idempotency-Key": "x"}}, "sent twice"},
		{"no CA", Config{URL: fakeURL, CACertificate: "geheim1"}, "CA certificate"},
		{"a certificate alone", Config{URL: fakeURL, ClientCertificate: "geheim1"}, "required together"},
		{"a key alone", Config{URL: fakeURL, ClientKey: "geheim1"}, "required together"},
		{"a bad pair", Config{URL: fakeURL, ClientCertificate: "geheim1", ClientKey: "geheim1"}, "are invalid"},
		{"a negative timeout", Config{URL: fakeURL, RequestTimeout: -1}, "negative"},
		{"too few retries", Config{URL: fakeURL, MaxRetries: -2}, "between -1 (none) and 20"},
		{"too many retries", Config{URL: fakeURL, MaxRetries: 21}, "between -1 (none) and 20"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client, err := New(test.cfg)
			if err == nil || client != nil || !strings.Contains(err.Error(), test.says) {
				t.Fatalf("got %v and %v, want an error with %q", client, err, test.says)
			}
			if strings.Contains(err.Error(), "geheim1") {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestURLKeepsItsPrefix(t *testing.T) {
	t.Parallel()
	var path string
	server := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.EscapedPath()
		respond(w, 200, "application/json", runningText)
	})
	client := newClient(t, server.URL+"/team%2Fa/shopper//")
	if want := server.URL + "/team%2Fa/shopper"; client.URL() != want {
		t.Errorf("URL() = %q, want %q", client.URL(), want)
	}
	if _, err := client.Session(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	if want := "/team%2Fa/shopper/api/v1/sessions/s1"; path != want {
		t.Errorf("the request went to %q, want %q", path, want)
	}
}

func TestHeadersAreSent(t *testing.T) {
	t.Parallel()
	var got http.Header
	var host string
	server := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		got, host = r.Header, r.Host
		respond(w, 200, "application/json", runningText)
	})
	client := newClient(t, server.URL, func(c *Config) {
		c.Token, c.UserAgent = "t0ken", "terraform-provider-shopper/1.2.3"
		c.Headers = map[string]string{"x-team": "ml", "Host": "inner.example.com"}
	})
	if _, err := client.Session(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Authorization": "Bearer t0ken", "X-Team": "ml", "User-Agent": "terraform-provider-shopper/1.2.3", "Accept": "application/json",
	}
	for name, value := range want {
		if got.Get(name) != value {
			t.Errorf("%s is %q, want %q", name, got.Get(name), value)
		}
	}
	if host != "inner.example.com" {
		t.Errorf("the Host is %q", host)
	}
}

func TestIDsAreValidatedAndEscaped(t *testing.T) {
	t.Parallel()
	network := &script{answer: func(int, *http.Request) (*http.Response, error) { return response(404, refusalText), nil }}
	client := newClient(t, fakeURL, network.use)
	ctx := t.Context()
	hostile := []string{
		"", ".", "..", "../costs", "a/b", "a/../b", "a%2fb", "a?b=c", "a#b", "a b", " a", "a\n", "a\x00b", "é", "-rf", "a\\b", "a;b", "$(a)",
		strings.Repeat("a", maxIDLength+1),
	}
	for _, id := range hostile {
		for name, call := range callsWithID(client, id) {
			err := call(ctx)
			if !errors.Is(err, ErrInvalid) || IsNotFound(err) || IsUnreachable(err) || IsAmbiguous(err) {
				t.Errorf("%s(%q): got %v", name, id, err)
			}
			if err != nil && (len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x00")) {
				t.Errorf("%s(%q): the id is in the error as it is", name, id)
			}
		}
	}
	if network.attempts() != 0 {
		t.Fatalf("%d requests were sent", network.attempts())
	}
	for _, id := range []string{"a", "vastai-100", "aaf49b51-3c8d-4989-88e2-a8f13a3075dc", "tensordock-1.2_x~y:z@a+b=c", "0", strings.Repeat("a", maxIDLength)} {
		if err := ValidateID(id); err != nil {
			t.Error(err)
		}
	}
	// Were the check ever loosened, a segment would still stay one.
	if got := client.at(nil, "api", "v1", "sessions", "a/b?c#d%2f", "extend").EscapedPath(); got != "/api/v1/sessions/a%2Fb%3Fc%23d%252f/extend" {
		t.Errorf("got %q", got)
	}
}

// callsWithID has every method that puts an id into a path or a query.
func callsWithID(c *Client, id string) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Session":             func(ctx context.Context) error { _, err := c.Session(ctx, id); return err },
		"Extend":              func(ctx context.Context) error { _, err := c.Extend(ctx, id, 1); return err },
		"Delete":              func(ctx context.Context) error { return c.Delete(ctx, id) },
		"Diagnostics":         func(ctx context.Context) error { _, err := c.Diagnostics(ctx, id); return err },
		"SessionCost":         func(ctx context.Context) error { _, err := c.SessionCost(ctx, id); return err },
		"Offer":               func(ctx context.Context) error { _, err := c.Offer(ctx, id); return err },
		"CompatibleTemplates": func(ctx context.Context) error { _, err := c.CompatibleTemplates(ctx, id); return err },
		"Template":            func(ctx context.Context) error { _, err := c.Template(ctx, id); return err },
	}
}

func TestNetworkFailuresAreTyped(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{
		"refused": &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED},
		"reset":   reset(),
		"timeout": &net.OpError{Op: "dial", Net: "tcp", Err: dialTimeoutError{}},
		"no name": &net.DNSError{Err: "no such host", Name: "shopper.test", IsNotFound: true},
		"EOF":     io.ErrUnexpectedEOF,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			network := &script{answer: func(int, *http.Request) (*http.Response, error) { return nil, cause }}
			_, err := newClient(t, "http://shopper.test/prefix", network.use, withoutRetries).Session(t.Context(), "s1")
			failed, ok := errors.AsType[*Error](err)
			if !ok || !errors.Is(err, cause) || !IsUnreachable(err) {
				t.Fatalf("got %v, want an *Error around %v", err, cause)
			}
			if failed.Method != http.MethodGet || failed.Path != "/prefix/api/v1/sessions/s1" || failed.Status != 0 || failed.URL != "http://shopper.test/prefix" {
				t.Errorf("got %+v", failed)
			}
			for _, part := range []string{"reading session s1", "http://shopper.test/prefix", cause.Error(), "Check that the shopper is running"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the text lacks %q: %v", part, err)
				}
			}
		})
	}
}

type dialTimeoutError struct{}

func (dialTimeoutError) Error() string   { return "i/o timeout" }
func (dialTimeoutError) Timeout() bool   { return true }
func (dialTimeoutError) Temporary() bool { return true }

func TestUnreachableServiceSaysWhereAndWhatToCheck(t *testing.T) {
	t.Parallel()
	address := fmt.Sprint("http://127.0.0.1:", testkit.FreePort(t))
	_, err := newClient(t, address, withoutRetries, func(c *Config) { c.Token = "t0ken" }).Offers(t.Context(), "")
	refused, ok := errors.AsType[*net.OpError](err)
	if !ok || refused.Op != "dial" || !IsUnreachable(err) {
		t.Fatalf("got %v", err)
	}
	want := fmt.Sprintf("listing offers: no answer from the shopper at %s to GET /api/v1/inventory: dial tcp %s: %v."+
		" Check that the shopper is running, that the url (scheme, host, port) is right, and that no firewall, VPN or proxy blocks"+
		" it", address, strings.TrimPrefix(address, "http://"), refused.Err)
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestNothingIsLeftOpen(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	answers := []func(http.ResponseWriter){
		func(w http.ResponseWriter) { respond(w, 200, "application/json", runningText) },
		func(w http.ResponseWriter) { respond(w, 200, "text/html", "<html>"+strings.Repeat("x", 100_000)) },
		func(w http.ResponseWriter) { respond(w, 404, "application/json", refusalText) },
		func(w http.ResponseWriter) { respond(w, 502, "text/html", strings.Repeat("y", 100_000)) },
		func(w http.ResponseWriter) {
			http.Redirect(w, httptest.NewRequest(http.MethodGet, "/", http.NoBody), "/elsewhere", http.StatusFound)
		},
	}
	next := 0
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		answer := answers[next%len(answers)]
		next++
		mu.Unlock()
		answer(w)
	}))
	changed := make(chan struct{}, 1000)
	server.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			open[conn] = true
		case http.StateClosed, http.StateHijacked:
			delete(open, conn)
		case http.StateActive, http.StateIdle:
		}
		changed <- struct{}{}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := newClient(t, server.URL, withoutRetries)
	for range 4 * len(answers) {
		_, _ = client.Session(t.Context(), "s1")
	}
	if next < 4*len(answers) {
		t.Fatalf("only %d requests arrived", next)
	}
	client.Close()
	client.Close() // twice is once
	deadline := time.After(10 * time.Second)
	for {
		mu.Lock()
		left := len(open)
		mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%d connections are still open", left)
		}
	}
}

// TestAFailedCallClosesNoOtherConnection has a connection that waits to be used
// again while calls fail in every way: refused, unreadable, redirected, broken.
func TestAFailedCallClosesNoOtherConnection(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	arrived, broken := make(chan struct{}), make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch strings.TrimPrefix(r.URL.Path, "/api/v1/sessions/") {
		case "missing":
			respond(w, 404, "application/json", refusalText)
		case "busy":
			respond(w, 503, "application/json", refusalText)
		case "page":
			respond(w, 200, "text/html", "<html>")
		case "loop":
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case "broken":
			close(arrived)
			<-broken
			if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = conn.Close()
			}
		default:
			respond(w, 200, "application/json", runningText)
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	client := newClient(t, server.URL, withoutRetries)
	failed := make(chan error, 1)
	go func() {
		_, err := client.Session(t.Context(), "broken") // its connection can't be kept
		failed <- err
	}()
	<-arrived
	for _, id := range []string{"missing", "busy", "page", "loop", "broken"} {
		if id == "broken" {
			close(broken)
			if err := <-failed; !IsUnreachable(err) {
				t.Errorf("got %v", err)
			}
		} else if _, err := client.Session(t.Context(), id); err == nil {
			t.Errorf("%s: no error", id)
		}
		if _, err := client.Session(t.Context(), "s1"); err != nil || connections.Load() != 2 {
			t.Errorf("after %s there were %d connections, %v", id, connections.Load(), err)
		}
	}
}

// closeCounter is a body that knows whether it was closed.
type closeCounter struct {
	io.Reader
	closed *int
}

func (c *closeCounter) Close() error { *c.closed++; return nil }

func TestEveryBodyIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		opened, closed := 0, 0
		statuses := []int{503, 200, 429, 500, 404}
		network := &script{answer: func(attempt int, _ *http.Request) (*http.Response, error) {
			opened++
			r := response(statuses[(attempt-1)%len(statuses)], "")
			r.Body = &closeCounter{Reader: strings.NewReader("<html>"), closed: &closed}
			return r, nil
		}}
		client := newClient(t, fakeURL, network.use)
		_, err := client.Session(t.Context(), "s1")
		_, err2 := client.CreateSession(t.Context(), rental())
		err3 := client.Delete(t.Context(), "s1")
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err4 := client.Session(short, "s1")
		if err == nil || err2 == nil || err3 == nil && err4 == nil {
			t.Errorf("got %v, %v, %v and %v", err, err2, err3, err4)
		}
		if opened < 8 || closed < opened {
			t.Errorf("%d bodies, %d closed", opened, closed)
		}
		for i, request := range network.requests {
			if request.Context().Err() == nil {
				t.Errorf("attempt %d still holds its timer", i+1)
			}
		}
	})
}

func TestOneClientServesManyCallers(t *testing.T) {
	t.Parallel()
	server := serve(t, 200, "application/json", runningText)
	client := newClient(t, server.URL, func(c *Config) { c.Token = "t0ken" })
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 5 {
				if _, err := client.Session(t.Context(), "s1"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}
