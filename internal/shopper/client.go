// Package shopper is the client of the rental service's REST API: its types,
// its errors and its retries. It knows HTTP and nothing of Terraform.
//
// Reads are retried within the client. A request that rents, extends or
// destroys is sent exactly once per call; when its outcome is unknown, the error
// is an *AmbiguousError, and the caller decides what to do. Every other error of
// this package is an *Error. errors.Is finds a context's error in it, only when
// the caller's context has ended or leaves no time for another attempt.
//
// The service's routes, statuses and error types are those of
// testdata/shopper-recordings.json, recorded from a real service.
package shopper

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// Limits and defaults of the client.
const (
	// DefaultRequestTimeout limits one attempt of a read.
	DefaultRequestTimeout = 30 * time.Second
	// DefaultMaxRetries is how often a read is repeated after its first attempt.
	DefaultMaxRetries = 4
	// CreateTimeout limits the POST that rents. It is longer than the 300 s after which the
	// service itself gives up, because an interrupted POST can still rent.
	CreateTimeout = 330 * time.Second
	// DeleteTimeout limits a DELETE. The service gives up after up to 275 s.
	DeleteTimeout = 320 * time.Second
	// ExtendTimeout limits the POST that extends a reservation.
	ExtendTimeout = 60 * time.Second

	// MaxReservationHours is the most that one request can rent for or add. The total is
	// limited by a setting of the service (lifecycle.hard_max_hours, 12 by default), which
	// only its refusal shows.
	MaxReservationHours = 12
	// MaxSessions is how many sessions Sessions returns at most.
	MaxSessions = 10_000
	// MaxOffers is how many offers Offers returns at most.
	MaxOffers = 20_000

	maxRequestBytes = 1 << 20  // the service refuses larger bodies with 400
	maxAnswerBytes  = 32 << 20 // far longer than any list
	maxRetries      = 20
	maxRedirects    = 5

	dialTimeout         = 10 * time.Second
	tlsHandshakeTimeout = 10 * time.Second
	idleTimeout         = 90 * time.Second
)

// Config is the service's URL, and the credentials for it, which no log or error contains.
type Config struct {
	// URL is http or https. It may have a path prefix; user information, a query and a fragment
	// are refused.
	URL string
	// Token is sent as "Authorization: Bearer …", to the service's own host only.
	Token string
	// Headers are sent with every request, to the service's own host only.
	Headers map[string]string
	// CACertificate (PEM) is trusted in addition to the system's roots.
	CACertificate string
	// ClientCertificate and ClientKey (PEM) are both set or both "".
	ClientCertificate, ClientKey string
	// RequestTimeout limits one attempt of a read; 0 means DefaultRequestTimeout.
	RequestTimeout time.Duration
	// MaxRetries is how often a read is retried; 0 means DefaultMaxRetries, and -1 means not at
	// all. It doesn't count the retry that net/http itself makes when the service has closed an
	// idle connection.
	MaxRetries int
	// UserAgent is the header's value; "" means "terraform-provider-shopper".
	UserAgent string

	// roundTripper replaces the network in tests.
	roundTripper http.RoundTripper
}

// Client talks to one rental service. It is safe for concurrent use. Close it when it is no longer needed.
type Client struct {
	base           *url.URL
	network        http.RoundTripper
	retrying       *retryablehttp.Client
	secrets        []string
	requestTimeout time.Duration
	maxRetries     int
}

// New returns a client. It sends nothing. Its error says what is wrong with cfg, and contains no secret.
func New(cfg Config) (*Client, error) {
	base, err := parseBase(cfg.URL)
	if err != nil {
		return nil, err
	}
	headers, err := requestHeaders(cfg)
	if err != nil {
		return nil, err
	}
	switch {
	case cfg.RequestTimeout < 0:
		return nil, fmt.Errorf("request timeout %s: it can't be negative", cfg.RequestTimeout)
	case cfg.MaxRetries < -1 || cfg.MaxRetries > maxRetries:
		return nil, fmt.Errorf("max retries %d: it must be between -1 (none) and %d", cfg.MaxRetries, maxRetries)
	}
	next := cfg.roundTripper
	if next == nil {
		tlsConfig, err := newTLSConfig(cfg)
		if err != nil {
			return nil, err
		}
		next = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:       tlsConfig,
			TLSHandshakeTimeout:   tlsHandshakeTimeout,
			ForceAttemptHTTP2:     true,
			MaxIdleConnsPerHost:   8,
			IdleConnTimeout:       idleTimeout,
			ExpectContinueTimeout: time.Second,
		}
	}
	return &Client{
		base: base, network: next, secrets: secretsOf(cfg),
		requestTimeout: cmp.Or(cfg.RequestTimeout, DefaultRequestTimeout),
		maxRetries:     max(cmp.Or(cfg.MaxRetries, DefaultMaxRetries), 0),
		retrying: &retryablehttp.Client{
			HTTPClient: &http.Client{
				Transport:     &transport{next: next, base: base, headers: headers},
				CheckRedirect: checkRedirect,
			},
			RetryWaitMin: backoffBase, RetryWaitMax: backoffMax,
			RetryMax:   math.MaxInt32, // checkRetry counts retries itself
			CheckRetry: checkRetry,
			Backoff:    backoff,
		},
	}, nil
}

// URL returns the service's URL. It contains no credentials.
func (c *Client) URL() string { return c.base.String() }

// Close closes idle connections. It doesn't interrupt requests, which could leave a machine behind. It may be called more than once.
func (c *Client) Close() { (&http.Client{Transport: c.network}).CloseIdleConnections() }

// parseBase parses the service's URL. Its error doesn't wrap that of url.Parse, which quotes parts of a URL that may contain a
// password.
func parseBase(raw string) (*url.URL, error) {
	const example = `, expected for example "http://localhost:8080" or "https://shopper.example.com"`
	base, err := url.Parse(raw)
	switch {
	case raw == "":
		return nil, fmt.Errorf("the service's url is empty%s", example)
	case strings.Contains(raw, "@"):
		return nil, fmt.Errorf("the service's url must not contain credentials: use the token or headers instead")
	case err != nil:
		return nil, fmt.Errorf("the service's url %q can't be parsed%s", raw, example)
	case base.Scheme != "http" && base.Scheme != "https":
		return nil, fmt.Errorf("the service's url %q must start with http:// or https://%s", raw, example)
	case base.Hostname() == "":
		return nil, fmt.Errorf("the service's url %q has no host%s", raw, example)
	case base.RawQuery != "" || base.ForceQuery || base.Fragment != "":
		return nil, fmt.Errorf("the service's url must have no query and no fragment%s", example)
	}
	base.Path = strings.TrimRight(base.Path, "/")
	base.RawPath = strings.TrimRight(base.RawPath, "/")
	return base, nil
}
