package shopper

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflogtest"
)

// reset is a connection that breaks.
func reset() error { return &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET} }

func TestReadsAreRetried(t *testing.T) {
	t.Parallel()
	failures := map[string]func() (*http.Response, error){
		"429":         func() (*http.Response, error) { return response(429, refusalText), nil },
		"500":         func() (*http.Response, error) { return response(500, refusalText), nil },
		"502":         func() (*http.Response, error) { return response(502, "<html>bad gateway</html>"), nil },
		"503":         func() (*http.Response, error) { return response(503, refusalText), nil },
		"504":         func() (*http.Response, error) { return response(504, ""), nil },
		"refused":     func() (*http.Response, error) { return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED} },
		"reset":       func() (*http.Response, error) { return nil, reset() },
		"EOF":         func() (*http.Response, error) { return nil, io.EOF },
		"not JSON":    func() (*http.Response, error) { return response(200, "<html>login</html>"), nil },
		"truncated":   func() (*http.Response, error) { return response(200, runningText[:20]), nil },
		"broken body": func() (*http.Response, error) { return brokenBody(runningText[:20], reset()), nil },
		"empty":       func() (*http.Response, error) { return response(200, ""), nil },
		"no session":  func() (*http.Response, error) { return response(200, "{}"), nil },
	}
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := &script{answer: func(attempt int, _ *http.Request) (*http.Response, error) {
					if attempt <= DefaultMaxRetries {
						return fail()
					}
					return response(200, runningText), nil
				}}
				session, err := newClient(t, fakeURL, network.use).Session(t.Context(), "s1")
				if err != nil || session.Status != Running {
					t.Fatalf("got %+v and %v", session, err)
				}
				checkFullJitter(t, network.pauses())
			})
		})
	}
}

// brokenBody is an answer whose body ends with an error.
func brokenBody(text string, err error) *http.Response {
	r := response(200, "")
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(text), failingReader{err}))
	return r
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// checkFullJitter expects a pause after each attempt but the last, random
// below 500 ms, 1 s, 2 s, 4 s.
func checkFullJitter(t *testing.T, pauses []time.Duration) {
	t.Helper()
	if len(pauses) != DefaultMaxRetries {
		t.Fatalf("%d pauses, want %d", len(pauses), DefaultMaxRetries)
	}
	for i, pause := range pauses {
		if limit := backoffBase << i; pause <= 0 || pause > limit {
			t.Errorf("pause %d is %s, want it above 0 and at most %s", i, pause, limit)
		}
	}
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	for _, retries := range []int{-1, 1, 7} {
		t.Run(fmt.Sprint(retries), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := &script{answer: func(int, *http.Request) (*http.Response, error) { return response(500, refusalText), nil }}
				client := newClient(t, fakeURL, network.use, func(c *Config) { c.MaxRetries = retries })
				_, err := client.Session(t.Context(), "s1")
				failed, ok := errors.AsType[*Error](err)
				if !ok || failed.Status != 500 || failed.Message != "database is locked" || failed.RequestID != "r-1" {
					t.Fatalf("the service's own words are lost: %v", err)
				}
				if want := max(retries, 0) + 1; network.attempts() != want || failed.Attempts != want {
					t.Errorf("%d attempts, reported as %d, want %d", network.attempts(), failed.Attempts, want)
				}
			})
		})
	}
}

// A service that limits its requests is waited for longer than one that fails.
func TestRateLimitIsNoFailure(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status   int
		header   string
		attempts int
		ok       bool
	}{
		{429, "1", 60, true},
		{429, "1", 1000, false},
		{429, "", DefaultMaxRetries + 2, false},  // it doesn't say when to come back
		{503, "1", DefaultMaxRetries + 2, false}, // it fails
	} {
		t.Run(fmt.Sprintf("%d %q for %d attempts", test.status, test.header, test.attempts), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := &script{answer: func(attempt int, _ *http.Request) (*http.Response, error) {
					if attempt < test.attempts {
						return response(test.status, refusalText, "Retry-After", test.header), nil
					}
					return response(200, runningText), nil
				}}
				begun := time.Now()
				_, err := newClient(t, fakeURL, network.use).Session(t.Context(), "s1")
				if took := time.Since(begun); (err == nil) != test.ok || took > limitPatience+10*time.Second {
					t.Errorf("%d attempts in %s, then %v", network.attempts(), took, err)
				}
			})
		})
	}
}

func TestWritesAreSentOnce(t *testing.T) {
	t.Parallel()
	writes := map[string]func(context.Context, *Client) error{
		"create": func(ctx context.Context, c *Client) error { _, err := c.CreateSession(ctx, rental()); return err },
		"extend": func(ctx context.Context, c *Client) error { _, err := c.Extend(ctx, "s1", 1); return err },
		"delete": func(ctx context.Context, c *Client) error { return c.Delete(ctx, "s1") },
	}
	failures := map[string]func() (*http.Response, error){
		"429":     func() (*http.Response, error) { return response(429, refusalText, "Retry-After", "1"), nil },
		"500":     func() (*http.Response, error) { return response(500, refusalText), nil },
		"503":     func() (*http.Response, error) { return response(503, refusalText, "Retry-After", "1"), nil },
		"reset":   func() (*http.Response, error) { return nil, reset() },
		"refused": func() (*http.Response, error) { return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED} },
		"truncated": func() (*http.Response, error) {
			r := brokenBody(`{"error":`, io.ErrUnexpectedEOF)
			r.StatusCode = 502
			return r, nil
		},
	}
	for what, write := range writes {
		for how, fail := range failures {
			t.Run(what+" "+how, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					network := &script{answer: func(int, *http.Request) (*http.Response, error) { return fail() }}
					err := write(t.Context(), newClient(t, fakeURL, network.use))
					if _, ok := errors.AsType[*Error](err); !ok || network.attempts() != 1 {
						t.Errorf("%d attempts, then %v", network.attempts(), err)
					}
				})
			})
		}
	}
}

func TestUnexpectedErrorsAreNotRetried(t *testing.T) {
	t.Parallel()
	failures := map[string]func() (*http.Response, error){
		"unknown authority": func() (*http.Response, error) { return nil, certificateError() },
		"unknown name":      func() (*http.Response, error) { return nil, &net.DNSError{Err: "no such host", IsNotFound: true} },
		"plain http": func() (*http.Response, error) {
			return nil, errors.New("http: server gave HTTP response to HTTPS client")
		},
		"400": func() (*http.Response, error) { return response(400, refusalText), nil },
		"401": func() (*http.Response, error) { return response(401, `{"message":"no"}`), nil },
		"404": func() (*http.Response, error) { return response(404, refusalText), nil },
		"501": func() (*http.Response, error) { return response(501, refusalText), nil },
	}
	for name, fail := range failures {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := &script{answer: func(int, *http.Request) (*http.Response, error) { return fail() }}
				_, err := newClient(t, fakeURL, network.use).Session(t.Context(), "s1")
				if _, ok := errors.AsType[*Error](err); !ok || network.attempts() != 1 {
					t.Errorf("%d attempts, then %v", network.attempts(), err)
				}
			})
		})
	}
}

func certificateError() error {
	return fmt.Errorf("tls: failed to verify certificate: %w", x509.HostnameError{Certificate: &x509.Certificate{}, Host: "shopper.test"})
}

func TestContextErrorsComeBackAsTheyAre(t *testing.T) {
	t.Parallel()
	busy := func(int, *http.Request) (*http.Response, error) {
		return response(503, refusalText, "Retry-After", "30"), nil
	}
	hanging := func(_ int, request *http.Request) (*http.Response, error) {
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	hangingBody := func(_ int, request *http.Request) (*http.Response, error) {
		r := response(200, "")
		r.Body = io.NopCloser(waitingReader{request.Context()})
		return r, nil
	}
	broken := func(attempt int, request *http.Request) (*http.Response, error) {
		if attempt == 1 {
			return nil, reset()
		}
		return hanging(attempt, request)
	}
	for name, test := range map[string]struct {
		answer func(int, *http.Request) (*http.Response, error)
		again  int // how often the service is asked again
	}{
		"while waiting": {busy, 1}, "during an attempt": {hanging, 0}, "during a body": {hangingBody, 0}, "during a second attempt": {broken, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				time.AfterFunc(10*time.Second, cancel)
				var log bytes.Buffer
				ctx = tflogtest.RootLogger(ctx, &log)
				started := time.Now()
				_, err := newClient(t, fakeURL, (&script{answer: test.answer}).use).Session(ctx, "s1")
				if !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "timed out") ||
					IsUnreachable(err) {
					t.Errorf("a cancel is not recognized: %v", err)
				}
				if _, ok := errors.AsType[*Error](err); !ok {
					t.Errorf("the error doesn't say which request it was: %v", err)
				}
				if took := time.Since(started); took != 10*time.Second {
					t.Errorf("the cancel took effect after %s", took)
				}
				if again := strings.Count(log.String(), "Retrying the request to the shopper"); again != test.again {
					t.Errorf("%d times the log says that the service is asked again:\n%s", again, log.String())
				}
			})
		})
	}
}

// waitingReader is a body that never comes.
type waitingReader struct{ ctx context.Context }

func (r waitingReader) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

func TestRetriesEndByTheDeadline(t *testing.T) {
	t.Parallel()
	for after, most := range map[string]time.Duration{"": 3500 * time.Millisecond, "1": 3 * time.Second, "3600": 0} {
		t.Run("Retry-After "+after, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := &script{answer: func(int, *http.Request) (*http.Response, error) {
					return response(503, refusalText, "Retry-After", after), nil
				}}
				ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
				defer cancel()
				started := time.Now()
				client := newClient(t, fakeURL, network.use, func(c *Config) { c.MaxRetries = maxRetries })
				_, err := client.Session(ctx, "s1")
				if took := time.Since(started); took > most {
					t.Errorf("it took %s, though no other attempt was possible after %s", took, most)
				}
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("the end of time is not recognized: %v", err)
				}
				if !strings.Contains(err.Error(), "database is locked") || !strings.Contains(err.Error(), "timed out") {
					t.Errorf("the error doesn't say both what was answered and why it ended: %v", err)
				}
			})
		})
	}
}

// TestWhatWasWaitedForIsSaid has a time that ends between two attempts: the last
// one's failure is worth knowing, too.
func TestWhatWasWaitedForIsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := &script{answer: func(int, *http.Request) (*http.Response, error) { return nil, reset() }}
		client := newClient(t, fakeURL, network.use, func(c *Config) { c.MaxRetries = maxRetries })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := client.Session(ctx, "s1")
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ECONNRESET) || IsUnreachable(err) {
			t.Errorf("got %v", err)
		}
	})
}

func TestEndedContextSendsNothing(t *testing.T) {
	t.Parallel()
	expired, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	canceled, stop := context.WithCancel(t.Context())
	stop()
	for want, ctx := range map[error]context.Context{context.DeadlineExceeded: expired, context.Canceled: canceled} {
		network := &script{answer: func(int, *http.Request) (*http.Response, error) { return response(200, createdText), nil }}
		client := newClient(t, fakeURL, network.use)
		if _, err := client.Session(ctx, "s1"); !errors.Is(err, want) {
			t.Errorf("reading: got %v, want %v", err, want)
		}
		if _, err := client.CreateSession(ctx, rental()); !errors.Is(err, want) || IsAmbiguous(err) {
			t.Errorf("creating: got %v, want %v and nothing sent", err, want)
		}
		if network.attempts() != 0 {
			t.Errorf("%d requests were sent", network.attempts())
		}
	}
}

// TestAttemptsEndByThemselves keeps the caller's deadline apart from an
// attempt's own limit, which is a failure of the network.
func TestAttemptsEndByThemselves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := &script{answer: func(_ int, request *http.Request) (*http.Response, error) {
			<-request.Context().Done()
			return nil, request.Context().Err()
		}}
		client := newClient(t, fakeURL, network.use, func(c *Config) { c.RequestTimeout, c.MaxRetries = 7*time.Second, 1 })
		_, err := client.Session(t.Context(), "s1")
		if network.attempts() != 2 || !IsUnreachable(err) {
			t.Errorf("%d attempts, then %v", network.attempts(), err)
		}
		if errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no complete answer within 7s") {
			t.Errorf("an attempt's own limit reads as the caller's deadline: %v", err)
		}
	})
}

func TestWritesHaveTheirOwnLimits(t *testing.T) {
	t.Parallel()
	writes := map[time.Duration]func(context.Context, *Client) error{
		CreateTimeout: func(ctx context.Context, c *Client) error { _, err := c.CreateSession(ctx, rental()); return err },
		DeleteTimeout: func(ctx context.Context, c *Client) error { return c.Delete(ctx, "s1") },
		ExtendTimeout: func(ctx context.Context, c *Client) error { _, err := c.Extend(ctx, "s1", 1); return err },
	}
	for limit, write := range writes {
		t.Run(limit.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := &script{answer: func(_ int, request *http.Request) (*http.Response, error) {
					<-request.Context().Done()
					return nil, request.Context().Err()
				}}
				started := time.Now()
				err := write(t.Context(), newClient(t, fakeURL, network.use))
				if took := time.Since(started); took != limit || !IsUnreachable(err) {
					t.Errorf("it ended after %s with %v", took, err)
				}
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		header string
		want   time.Duration // 0: the header is ignored
	}{
		{header: "7", want: 7 * time.Second},
		{header: " 8 ", want: 8 * time.Second},
		{header: "date+20", want: 20 * time.Second},
		{header: "date-20"},
		{header: "0"},
		{header: "60", want: time.Minute},
		{header: "61", want: time.Minute},
		{header: "86400", want: time.Minute},
		{header: "9223372036854775807", want: time.Minute},
		{header: "date+7200", want: time.Minute},
		{header: "99999999999999999999999999"},
		{header: "-5"},
		{header: "1.5"},
		{header: "soon"},
		{header: "Fri, 99 Dec 2026 23:59:59 GMT"},
	} {
		for _, status := range []int{429, 503} {
			t.Run(fmt.Sprintf("%s on %d", test.header, status), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { checkRetryAfter(t, status, test.header, test.want) })
			})
		}
	}
}

func checkRetryAfter(t *testing.T, status int, header string, want time.Duration) {
	t.Helper()
	if shift, ok := strings.CutPrefix(header, "date"); ok {
		ahead, err := time.ParseDuration(shift + "s")
		if err != nil {
			t.Fatal(err)
		}
		header = time.Now().Add(ahead).UTC().Format(http.TimeFormat)
	}
	network := &script{answer: func(attempt int, _ *http.Request) (*http.Response, error) {
		if attempt == 1 {
			return response(status, refusalText, "Retry-After", header), nil
		}
		return response(200, runningText), nil
	}}
	if _, err := newClient(t, fakeURL, network.use).Session(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	pause := network.pauses()[0]
	if want == 0 && (pause <= 0 || pause > backoffBase) || want != 0 && pause != want {
		t.Errorf("the pause is %s, want %s", pause, want)
	}
}

// TestBackoffIsSpread sees that pauses are spread over the whole range, and
// bounded however many attempts came before.
func TestBackoffIsSpread(t *testing.T) {
	t.Parallel()
	low, high := 0, 0
	for range 400 {
		switch pause := backoff(backoffBase, backoffMax, 2, nil); {
		case pause <= 0 || pause > 2*time.Second:
			t.Fatalf("a pause of %s", pause)
		case pause < time.Second:
			low++
		default:
			high++
		}
	}
	if low < 100 || high < 100 {
		t.Errorf("%d pauses below and %d above the middle", low, high)
	}
	if pause := backoff(backoffBase, backoffMax, 1000, nil); pause <= 0 || pause > backoffMax {
		t.Errorf("a pause of %s after 1000 attempts", pause)
	}
}

// TestFinal500s are routes on which the service says 500 for "never".
func TestFinal500s(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		status := 500
		network := &script{answer: func(int, *http.Request) (*http.Response, error) { return response(status, refusalText), nil }}
		client := newClient(t, fakeURL, network.use)
		_, err := client.Templates(t.Context())
		_, err2 := client.CompatibleTemplates(t.Context(), "vastai-101")
		if err == nil || err2 == nil || network.attempts() != 2 {
			t.Errorf("%d attempts, then %v and %v", network.attempts(), err, err2)
		}
		status = 502
		if _, err := client.Templates(t.Context()); err == nil || network.attempts() != 2+1+DefaultMaxRetries {
			t.Errorf("a gateway's failure is worth another attempt: %d in all, %v", network.attempts(), err)
		}
	})
}

func TestHealthKnowsItsOwn503(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, body, says string
		foreign          bool
	}{
		{"the service's refusal", refusalText, "database is locked", false},
		{"a proxy's page", "<html>no backend</html>", "proxy", true},
		{"another JSON", `{"code":503}`, "proxy", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				network := &script{answer: func(int, *http.Request) (*http.Response, error) { return response(503, test.body), nil }}
				_, err := newClient(t, fakeURL, network.use).Health(t.Context())
				failed, ok := errors.AsType[*Error](err)
				if !ok || failed.Status != 503 || failed.Foreign != test.foreign || network.attempts() != 1+DefaultMaxRetries {
					t.Fatalf("%d attempts, then %+v", network.attempts(), failed)
				}
				if !strings.Contains(err.Error(), test.says) {
					t.Errorf("the text lacks %q: %v", test.says, err)
				}
			})
		})
	}
}
