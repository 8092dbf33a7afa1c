// Package shopper is the client of the rental service's REST API: its types,
// its errors and its retries. It knows HTTP and nothing of Terraform.
//
// Reads are retried within the client; a request that rents, extends or
// destroys is sent exactly once per call, and when its outcome can't be known
// the error says so (AmbiguousError). Deciding what to do about that belongs
// to the caller. Every error that leaves this package is an *Error or an
// *AmbiguousError around one; context errors stay recognizable through
// errors.Is, and appear only when the caller's own context has ended or leaves
// no time for another attempt.
//
// The service's routes, statuses and error words are those of
// testdata/shopper-recordings.json, recorded from a real service.
package shopper

import (
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
	// CreateTimeout limits the POST that rents. It is longer than the 300 s after
	// which the service itself gives up, because a POST that is cut short can
	// still rent.
	CreateTimeout = 330 * time.Second
	// DeleteTimeout limits a DELETE. The service needs up to 275 s to give up.
	DeleteTimeout = 320 * time.Second
	// ExtendTimeout limits the POST that extends a reservation.
	ExtendTimeout = 60 * time.Second

	// MaxReservationHours is the most that one request can ask for, to rent or to
	// add. How long a session can live in all is a setting of the service's operator
	// (lifecycle.hard_max_hours, 12 by default), which only an answer tells.
	MaxReservationHours = 12
	// MaxSessions is how many sessions Sessions returns at most.
	MaxSessions = 10_000
	// MaxOffers is how many offers Offers returns at most.
	MaxOffers = 20_000

	maxRequestBytes = 1 << 20  // the service refuses larger bodies with 400
	maxAnswerBytes  = 32 << 20 // far above the longest list
	maxRetries      = 20
	maxRedirects    = 5

	dialTimeout         = 10 * time.Second
	tlsHandshakeTimeout = 10 * time.Second
	idleTimeout         = 90 * time.Second
)

// Config says where the service is and how to be let in. Nothing of it is
// logged or put into an error, but for URL.
type Config struct {
	// URL is the service's address, http or https. A path prefix is kept; user
	// information, a query and a fragment are refused.
	URL string
	// Token is sent as "Authorization: Bearer …", to the service's own host only.
	Token string
	// Headers are sent with every request, to the service's own host only.
	Headers map[string]string
	// CACertificate (PEM) is trusted in addition to the system's roots.
	CACertificate string
	// ClientCertificate and ClientKey (PEM) go together.
	ClientCertificate, ClientKey string
	// RequestTimeout limits one attempt of a read; 0 means DefaultRequestTimeout.
	RequestTimeout time.Duration
	// MaxRetries is how often a read is repeated; 0 means DefaultMaxRetries and
	// -1 none. It doesn't count the one that net/http itself makes when the service
	// has closed a kept connection.
	MaxRetries int
	// UserAgent is sent as it is; "" means "terraform-provider-shopper".
	UserAgent string

	// roundTripper replaces the network in tests.
	roundTripper http.RoundTripper
}

// Client talks to one rental service. It is safe for concurrent use. Close it
// when it is no longer needed.
type Client struct {
	base           *url.URL
	network        http.RoundTripper
	retrying       *retryablehttp.Client
	secrets        []string
	requestTimeout time.Duration
	maxRetries     int
}

// New makes a client. It sends nothing, and reports what is wrong with cfg
// without repeating any secret of it.
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
	c := &Client{base: base, network: next, secrets: secretsOf(cfg), requestTimeout: DefaultRequestTimeout, maxRetries: DefaultMaxRetries}
	if cfg.RequestTimeout > 0 {
		c.requestTimeout = cfg.RequestTimeout
	}
	switch {
	case cfg.MaxRetries > 0:
		c.maxRetries = cfg.MaxRetries
	case cfg.MaxRetries < 0:
		c.maxRetries = 0
	}
	c.retrying = &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     &transport{next: next, base: base, headers: headers},
			CheckRedirect: checkRedirect,
		},
		RetryWaitMin: backoffBase, RetryWaitMax: backoffMax,
		RetryMax:   math.MaxInt32, // checkRetry counts: attempts that were only asked to wait don't
		CheckRetry: checkRetry,
		Backoff:    backoff,
	}
	return c, nil
}

// URL is the service's address, for messages. It holds no credentials.
func (c *Client) URL() string { return c.base.String() }

// Close gives idle connections back. A request under way goes on: cutting it
// short could leave a machine behind. Close may be called more than once.
func (c *Client) Close() { (&http.Client{Transport: c.network}).CloseIdleConnections() }

// parseBase never wraps what url.Parse says when the address may hold a
// password, because that repeats parts of it.
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
