package shopper

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/terraform-plugin-log/tflogtest"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// TestSecretsStayOutOfLogsAndErrors has a service that repeats everything it
// received, in every kind of answer.
func TestSecretsStayOutOfLogsAndErrors(t *testing.T) {
	t.Parallel()
	const token, header, basic = "t0ken-Zufall-1", "kopf-Zufall-2", "YmVudXR6ZXI6WnVmYWxs"
	bodies := []string{
		`{"error":"bad token ` + token + ` and ` + header + ` for ` + basic + `","request_id":"r-` + token + `","message":"` + keyJSON + `"}`,
		`<html>` + token + " " + header + " " + basic + " " + keyText,
		`{"session":{"id":"s1","created_at":"` + token + keyJSON + `"},"ssh_private_key":"` + keyJSON + `"}`,
		createdText[:len(createdText)-8],
		createdText,
	}
	for i, body := range bodies {
		for _, status := range []int{200, 201, 302, 401, 404, 500, 503} {
			t.Run(fmt.Sprintf("%d %d", i, status), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					network := &script{answer: func(_ int, request *http.Request) (*http.Response, error) {
						if request.Method == http.MethodDelete {
							return nil, fmt.Errorf("proxy says %s %s %s", token, header, keyText)
						}
						return response(status, body, "X-Request-Id", token, "Location", "http://x/?t="+token), nil
					}}
					client := newClient(t, fakeURL, network.use, func(c *Config) {
						c.Token, c.MaxRetries = token, 1
						c.Headers = map[string]string{"X-Key": header, "X-Basic": "Basic " + basic}
					})
					var output bytes.Buffer
					ctx := tflogtest.RootLogger(t.Context(), &output)
					created, err := client.CreateSession(ctx, rental())
					_, err2 := client.Session(ctx, "s1")
					_, err3 := client.Health(ctx)
					text := fmt.Sprintf("%v %v %v %v %+v %#v %s", err, err2, err3, client.Delete(ctx, "s1"), created, created, output.String())
					for _, secret := range []string{token, header, basic, "secretsecret", "Bearer"} {
						if strings.Contains(text, secret) {
							t.Errorf("%q is in:\n%s", secret, text)
						}
					}
					if !strings.Contains(output.String(), `"path":"/api/v1/sessions"`) {
						t.Errorf("the requests were not logged:\n%s", output.String())
					}
				})
			})
		}
	}
}

func TestCreatedHidesItsKey(t *testing.T) {
	t.Parallel()
	created := Created{Session: Session{ID: "s1"}, PrivateKey: keyText}
	text, err := json.Marshal(created)
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{created.String(), fmt.Sprintf("%+v", &created), fmt.Sprintf("%#v", created), string(text), created.LogValue().String()} {
		if strings.Contains(shown, "secretsecret") || !strings.Contains(shown, "s1") {
			t.Errorf("got %s", shown)
		}
	}
}

func TestRequestsAreLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := &script{answer: func(attempt int, _ *http.Request) (*http.Response, error) {
			switch attempt {
			case 1:
				return nil, reset()
			case 2:
				return response(503, refusalText, "X-Request-Id", "r-2", "Retry-After", "3"), nil
			}
			return response(200, `{"sessions":[]}`, "X-Request-Id", "r-3"), nil
		}}
		var output bytes.Buffer
		client := newClient(t, fakeURL, network.use)
		if _, err := client.Sessions(tflogtest.RootLogger(t.Context(), &output), SessionFilter{ConsumerID: "c1"}); err != nil {
			t.Fatal(err)
		}
		entries, err := tflogtest.MultilineJSONDecode(&output)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, fmt.Sprint(e["@message"], e["method"], e["path"], e["status"], e["request_id"], e["attempt"]))
		}
		want := []string{
			fmt.Sprint("Request to the shopper failed", "GET", "/api/v1/sessions", nil, nil, 1),
			fmt.Sprint("Retrying the request to the shopper", nil, nil, nil, nil, 1),
			fmt.Sprint("Request to the shopper answered", "GET", "/api/v1/sessions", 503, "r-2", 2),
			fmt.Sprint("Retrying the request to the shopper", nil, nil, nil, nil, 2),
			fmt.Sprint("Request to the shopper answered", "GET", "/api/v1/sessions", 200, "r-3", 3),
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// TestRedirects never sends on what lets the client in, and never sends on
// what rents or destroys.
func TestRedirects(t *testing.T) {
	t.Parallel()
	var foreign []http.Header
	other := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		foreign = append(foreign, r.Header.Clone())
		respond(w, 200, "application/json", runningText)
	})
	var own []string
	server := serveFunc(t, func(w http.ResponseWriter, r *http.Request) {
		own = append(own, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+r.Header.Get("X-Key"))
		switch r.URL.Path {
		case "/loop/api/v1/sessions/s1":
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case "/own/api/v1/sessions/s1":
			http.Redirect(w, r, "/moved", http.StatusMovedPermanently)
		case "/moved":
			respond(w, 200, "application/json", runningText)
		default:
			http.Redirect(w, r, other.URL+"/taken?secret=1", http.StatusTemporaryRedirect)
		}
	})
	secrets := func(c *Config) {
		c.Token, c.Headers, c.MaxRetries = "t0ken", map[string]string{"X-Key": "k3y", "Cookie": "a=b"}, -1
	}
	client := newClient(t, server.URL, secrets)

	if _, err := client.Session(t.Context(), "s1"); err != nil || len(foreign) != 1 {
		t.Fatalf("a read follows: %d requests, %v", len(foreign), err)
	}
	for _, name := range []string{"Authorization", "X-Key", "Cookie"} {
		if foreign[0].Get(name) != "" {
			t.Errorf("%s went to another host", name)
		}
	}
	_, err := client.CreateSession(t.Context(), rental())
	_, err2 := client.Extend(t.Context(), "s1", 1)
	for _, err := range []error{err, err2, client.Delete(t.Context(), "s1")} {
		failed, ok := errors.AsType[*Error](err)
		if !ok || failed.Status != 307 || IsAmbiguous(err) || !strings.Contains(err.Error(), other.URL+"/taken, which is not followed") {
			t.Errorf("got %v", err)
		}
	}
	if len(foreign) != 1 {
		t.Errorf("%d requests went to another host", len(foreign))
	}

	own = nil
	if _, err := newClient(t, server.URL+"/own", secrets).Session(t.Context(), "s1"); err != nil {
		t.Errorf("a redirect within the service: %v", err)
	}
	if want := "GET /own/api/v1/sessions/s1 Bearer t0kenk3y,GET /moved Bearer t0kenk3y"; strings.Join(own, ",") != want {
		t.Errorf("got %s", own)
	}
	own = nil
	_, err = newClient(t, server.URL+"/loop", secrets).Session(t.Context(), "s1")
	if err == nil || IsUnreachable(err) || !strings.Contains(err.Error(), "more than 5 times") || len(own) != 1+maxRedirects {
		t.Errorf("%d requests, then %v", len(own), err)
	}
}

func TestSameService(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		base, target string
		want         bool
	}{
		{"http://a", "http://a/x", true},
		{"http://a", "http://A:80/x", true},
		{"https://a", "https://a:443/x", true},
		{"http://a", "https://a/x", true},
		{"http://a:8080", "https://a/x", false},
		{"http://a:8080", "https://a:8443/x", false},
		{"https://a", "http://a/x", false},
		{"http://a", "http://a:81/x", false},
		{"http://a", "http://b.a/x", false},
		{"http://a", "http://a.b/x", false},
	} {
		base, err := url.Parse(test.base)
		if err != nil {
			t.Fatal(err)
		}
		target, err := url.Parse(test.target)
		if err != nil {
			t.Fatal(err)
		}
		if got := sameService(base, target); got != test.want {
			t.Errorf("%s and %s: %v", test.base, test.target, got)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	clientCert, clientKey := testkit.Certificate(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		respond(w, 200, "application/json", runningText)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // refusals are the point here
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(clientCert))
	// In TLS 1.3 a missing client certificate is refused after the handshake,
	// while the request is already on its way: too late to be sure of an alert.
	server.TLS = &tls.Config{
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool,
		MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12,
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	authority := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))

	for _, test := range []struct {
		name string
		url  string
		cfg  Config
		says string // "": it works
	}{
		{"all there", server.URL, Config{CACertificate: authority, ClientCertificate: clientCert, ClientKey: clientKey}, ""},
		{"no authority", server.URL, Config{ClientCertificate: clientCert, ClientKey: clientKey}, "CA certificate"},
		{"no client certificate", server.URL, Config{CACertificate: authority}, "client certificate"},
		{"https to an http service", strings.Replace(serve(t, 200, "", "").URL, "http:", "https:", 1), Config{}, "Check the url's scheme"},
		{"http to an https service", strings.Replace(server.URL, "https:", "http:", 1), Config{}, "HTTPS server"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client := newClient(t, test.url, func(c *Config) {
				c.CACertificate, c.ClientCertificate, c.ClientKey = test.cfg.CACertificate, test.cfg.ClientCertificate, test.cfg.ClientKey
			})
			_, err := client.Session(t.Context(), "s1")
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			failed, ok := errors.AsType[*Error](err)
			if !ok || !strings.Contains(err.Error(), test.says) || failed.Attempts != 1 {
				t.Errorf("want %q at once, got %v", test.says, err)
			}
			if _, err := client.CreateSession(t.Context(), rental()); IsAmbiguous(err) {
				t.Errorf("no connection came about, so nothing can have been rented: %v", err)
			}
		})
	}
}

func TestErrorsSayWhoAnswered(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body, says string
		status           int
		excerpt          int
	}{
		{"the service", refusalText, "GET /api/v1/sessions/s1 answered 400: database is locked (request ID r-1)", 400, 0},
		{"a page", "<!doctype html><title>Sign in</title>" + strings.Repeat("x", 5000), "a proxy or another server probably answered", 404, 310},
		{"401 of a proxy", "<html>login", "A proxy in front of the shopper", 401, 20},
		{"403 of a gateway", `{"message":"token expired"}`, "answered 403: token expired. A proxy in front", 403, 0},
		{"an OAuth proxy", `{"error":"invalid_token","error_description":"it expired"}`, "invalid_token it expired", 401, 0},
		{"an error in an error", `{"error":{"code":7}}`, "{\\\"error\\\":{\\\"code\\\":7}}", 400, 30},
		{"nothing", "", "a proxy or another server probably answered", 418, 0},
		{"control characters", "{\"error\":\"\\u001b[31mred\\r\\nline\\u202e\",\"request_id\":\"r-1\"}", "answered 400: [31mred line (request ID", 400, 0},
		{"too many words", `{"error":"` + strings.Repeat("ä", 5000) + `","request_id":"r-1"}`, "ä… (request ID r-1)", 400, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := newClient(t, serve(t, test.status, "text/html", test.body).URL).Session(t.Context(), "s1")
			failed, ok := errors.AsType[*Error](err)
			if !ok || !strings.Contains(err.Error(), test.says) || len(err.Error()) > 2500 {
				t.Errorf("want %q in %v", test.says, err)
			}
			if ok && len(failed.Body) > test.excerpt {
				t.Errorf("an excerpt of %d bytes: %s", len(failed.Body), failed.Body)
			}
			if IsUnauthorized(err) != (test.status == 401 || test.status == 403) {
				t.Errorf("IsUnauthorized is %v", IsUnauthorized(err))
			}
		})
	}
}
