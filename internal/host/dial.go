package host

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// How DialUntil paces itself.
const (
	defaultDialUntil = 10 * time.Minute
	firstPause       = time.Second
	longestPause     = 15 * time.Second
	// maxAuthFailures is how many refused logins in a row end DialUntil: a machine may answer
	// a moment before its keys are installed, and servers punish who keeps trying.
	maxAuthFailures = 5
)

// Dial makes one attempt to log in to a machine, within [Config.ConnectTimeout] and until ctx
// ends. The connection outlives ctx. Its errors are of type [*Error].
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return connect(ctx, &cfg, false)
}

// DialUntil logs in to a machine that may still be booting: it tries again with growing pauses
// while the machine is [Unreachable], until ctx's deadline (ten minutes when ctx has none). A
// changed host key or an unusable key ends it at once, a refused login after five attempts in a
// row. The last failure is in the error, also when ctx ended; errors.Is finds both.
func DialUntil(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	limited := ctx
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, defaultDialUntil)
		defer cancel()
	}
	started, refusals := time.Now(), 0
	var last error
	for attempt := 1; ; attempt++ {
		client, err := connect(limited, &cfg, false)
		switch kind := KindOf(err); {
		case err == nil:
			return client, nil
		case kind == Interrupted:
			return nil, gaveUp(ctx, &cfg, attempt, time.Since(started), last)
		case kind == AuthFailed:
			refusals++
			if refusals == maxAuthFailures {
				return nil, err
			}
		case kind == Unreachable:
			refusals = 0
		default:
			return nil, err
		}
		last = err
		if !wait(limited, pauseAfter(attempt)) {
			return nil, gaveUp(ctx, &cfg, attempt, time.Since(started), last)
		}
	}
}

// pauseAfter is the pause after the nth attempt: growing, bounded, and never quite the same, so
// that many machines are not asked in step.
func pauseAfter(attempt int) time.Duration {
	pause := min(firstPause<<min(attempt-1, 10), longestPause)
	return pause - time.Duration(rand.Int64N(int64(pause/4))) //nolint:gosec // jitter needs no secrecy
}

// wait waits, and reports false when ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// gaveUp is the error of a DialUntil that ran out of time or was cancelled.
func gaveUp(ctx context.Context, cfg *Config, attempts int, took time.Duration, last error) error {
	if last == nil {
		last = &Error{
			Op: "connect to", Addr: cfg.name(), Kind: Unreachable, Err: errors.New("the first attempt was not finished"),
			Detail: "The time allowed for the operation ran out before the machine answered.",
		}
	}
	e := &Error{Op: "connect to", Addr: cfg.name(), Kind: KindOf(last), Detail: DetailOf(last)}
	took = took.Round(time.Second / 10)
	switch err := ctx.Err(); {
	case err == nil: // this package's own limit
		e.Err = fmt.Errorf("gave up after %d attempts in %s, the last one: %w", attempts, took, last)
	case errors.Is(err, context.Canceled):
		e.Kind = Interrupted
		fallthrough
	default:
		e.Err = fmt.Errorf("%w after %d attempts in %s, the last one: %w", err, attempts, took, last)
	}
	return e
}

// connect makes one attempt, through the bastions. It is told whether the machine is one itself.
func connect(ctx context.Context, cfg *Config, isBastion bool) (*Client, error) {
	var bastion *Client
	if cfg.Bastion != nil {
		through, err := connect(ctx, cfg.Bastion, true)
		if err != nil {
			return nil, err
		}
		bastion = through
	}
	client, err := login(ctx, cfg, bastion, isBastion)
	if err != nil && bastion != nil {
		_ = bastion.Close()
	}
	return client, err
}

// login opens the network connection and logs in over it, within the connect timeout.
func login(ctx context.Context, cfg *Config, bastion *Client, isBastion bool) (*Client, error) {
	limited, cancel := context.WithTimeout(ctx, cfg.connectTimeout())
	defer cancel()
	try := &attempt{ctx: ctx, limited: limited, cfg: cfg}

	creds, err := cfg.credentials()
	if err != nil {
		return nil, err
	}
	try.check.pinned, try.check.isBastion = creds.pinned, isBastion
	try.offer, err = newOffer(limited, cfg, creds)
	if err != nil {
		return nil, try.explain(err)
	}
	defer try.offer.close()

	raw, err := dialRaw(limited, cfg, bastion)
	if err != nil {
		return nil, try.explain(err)
	}
	conn, channels, requests, err := try.handshake(raw)
	if err != nil {
		_ = raw.Close()
		return nil, try.explain(err)
	}
	client := &Client{
		name: cfg.name(), addr: cfg.address(), hostKey: try.check.accepted,
		conn: conn, raw: raw, bastion: bastion, done: make(chan struct{}),
	}
	client.serve(channels, requests, cfg.keepAlive())
	return client, nil
}

func dialRaw(ctx context.Context, cfg *Config, bastion *Client) (net.Conn, error) {
	switch {
	case bastion != nil:
		return bastion.DialContext(ctx, "tcp", cfg.address())
	case cfg.dial != nil:
		return cfg.dial(ctx, "tcp", cfg.address())
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", cfg.address())
}

// attempt is one login under way, with what is needed to explain its failure.
type attempt struct {
	ctx     context.Context //nolint:containedctx // lives as long as the call that it belongs to
	limited context.Context //nolint:containedctx // ctx with the connect timeout
	cfg     *Config
	offer   *offer
	check   hostKeyCheck
}

// handshake exchanges keys and authenticates. x/crypto/ssh knows no contexts: the network
// connection is closed under it when the time is up.
func (a *attempt) handshake(raw net.Conn) (
	conn ssh.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request, err error,
) {
	stop := context.AfterFunc(a.limited, func() { _ = raw.Close() })
	conn, channels, requests, err = ssh.NewClientConn(raw, a.cfg.address(), &ssh.ClientConfig{
		User:              a.cfg.User,
		Auth:              []ssh.AuthMethod{a.offer.method()},
		HostKeyCallback:   a.check.verify,
		HostKeyAlgorithms: a.check.algorithms(),
		ClientVersion:     "SSH-2.0-terraform-provider-shopper",
	})
	if err != nil {
		stop()
		return nil, nil, nil, err
	}
	if !stop() { // the time was up as the login succeeded
		_ = conn.Close()
		go ssh.DiscardRequests(requests)
		go rejectChannels(channels)
		return nil, nil, nil, a.limited.Err()
	}
	return conn, channels, requests, nil
}

// explain turns the failure of an attempt into an *Error.
func (a *attempt) explain(err error) error {
	if a.ctx.Err() != nil {
		return interrupted(a.ctx, "connect to", a.cfg.name())
	}
	already, isOurs := errors.AsType[*Error](err)
	switch {
	case isOurs && (already.Kind == AgentFailed || already.Kind == BadKey || already.Kind == Prohibited):
		return already
	case a.limited.Err() != nil:
		return a.unreachable(fmt.Errorf("no login within %s", a.cfg.connectTimeout()))
	case a.check.problem != nil:
		return hostKeyChanged(a.cfg, &a.check, nil, a.check.problem)
	}
	if mismatch, is := errors.AsType[*ssh.AlgorithmNegotiationError](err); is {
		if strings.Contains(mismatch.What, "host key") && !a.check.pinned.empty() {
			return hostKeyChanged(a.cfg, &a.check, mismatch.RequestedAlgorithms, errUnpinnedKey)
		}
		return &Error{
			Op: "connect to", Addr: a.cfg.name(), Kind: Prohibited, Err: err,
			Detail: "The machine's SSH server supports none of the algorithms that are considered safe. Update it.",
		}
	}
	if isAuthFailure(err) {
		return authFailed(a.cfg, a.offer, err)
	}
	return a.unreachable(err)
}

// isAuthFailure recognises a refused login. x/crypto/ssh has no type for it, nor for the
// disconnect message (RFC 4253 section 11.1) with which a server ends too many attempts.
func isAuthFailure(err error) bool {
	text := err.Error()
	return strings.Contains(text, "ssh: unable to authenticate") ||
		strings.Contains(text, "ssh: too many authentication attempts") ||
		strings.Contains(text, "Too many authentication failures") ||
		strings.Contains(text, "ssh: disconnect, reason 14:")
}

// unreachable explains that nothing useful answered.
func (a *attempt) unreachable(err error) *Error {
	e := &Error{Op: "connect to", Addr: a.cfg.name(), Kind: Unreachable, Err: err}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	text := err.Error()
	switch {
	case isDNS && dns.IsNotFound:
		e.Detail = fmt.Sprintf("The name %q does not exist in DNS. Check it for typing errors.", a.cfg.Host)
	case isDNS:
		e.Detail = "The name could not be resolved. Check this computer's network and DNS."
	case strings.Contains(text, "connection refused"), strings.Contains(text, "Connection refused"):
		e.Detail = fmt.Sprintf("The address answers, and nothing listens on its port %d: the machine's SSH server is not up yet, "+
			"or listens on another port.", a.cfg.port())
	case strings.Contains(text, "handshake failed"):
		e.Detail = fmt.Sprintf("Something answered on port %d and did not complete an SSH login: the machine's SSH server is "+
			"still starting or overloaded, or another service listens there.", a.cfg.port())
	default:
		e.Detail = "Nothing answered. The machine may still be booting, be switched off, or a firewall may be in between. " +
			"Check the address and port."
	}
	return e
}
