package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
)

// The wait for a machine that doesn't answer yet.
const (
	defaultPatience = 10 * time.Minute
	// dialsPerMinute bounds the attempts. dialsAtOnce of them are shortPause apart, so that an SSH server is found within a
	// second of its start.
	dialsPerMinute, dialsAtOnce = 30, 15
	shortPause                  = 800 * time.Millisecond
	// maxAuthFailures is how many refused logins in a row end the wait. A machine may answer a moment before its keys
	// are installed, but servers block clients that keep trying. The pauses between them grow from firstPause.
	maxAuthFailures = 5
	firstPause      = time.Second
	longestPause    = 15 * time.Second
	// synPatience is how long a TCP connection may take before another one is tried: a machine that has come up
	// meanwhile doesn't know of the first, and Linux repeats a SYN only after 1, 3, 7 and 15 s (tcp_syn_retries). It
	// includes resolving the name, which may take long, so it doubles each time.
	synPatience = 3 * time.Second
)

// Dial makes one attempt to log in to a machine, within twenty seconds and until ctx ends. The
// connection outlives ctx. Errors are of type [*Error].
func Dial(ctx context.Context, cfg Config) (*Client, error) {
	t, err := cfg.target()
	if err != nil {
		return nil, err
	}
	return t.dial(ctx)
}

// dialer logs in.
type dialer func(context.Context) (*Client, error)

// until logs in by dial to a machine that may still be booting: it retries, quickly at first, while the machine is [Unreachable],
// until ctx's deadline (ten minutes when ctx has none). It returns at once for a changed host key or an unusable key, and after
// five refused logins in a row. The error wraps the last failure, also when ctx ended; errors.Is finds both.
func (t *target) until(ctx context.Context, dial dialer) (*Client, error) {
	limited := ctx
	if _, has := ctx.Deadline(); !has {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, defaultPatience)
		defer cancel()
	}
	started, refusals, refused := time.Now(), 0, pace.New(firstPause, longestPause)
	budget := pace.PerMinute(dialsPerMinute-1, dialsAtOnce-1) // the first attempt is one more
	var last error
	for attempt := 1; ; attempt++ {
		client, err := dial(limited)
		pause := shortPause
		switch kind := KindOf(err); {
		case err == nil:
			return client, nil
		case kind == Interrupted:
			return nil, t.gaveUp(ctx, attempt, time.Since(started), last)
		case kind == AuthFailed:
			refusals++
			if refusals == maxAuthFailures {
				return nil, err
			}
			pause = refused.Next()
		case kind == Unreachable:
			refusals, refused = 0, pace.New(firstPause, longestPause)
		default:
			return nil, err
		}
		last = err
		if _, err := pace.Sleep(limited, pause, nil); err != nil || budget.Wait(limited) != nil {
			return nil, t.gaveUp(ctx, attempt, time.Since(started), last)
		}
	}
}

// gaveUp returns the error of a wait that timed out or was canceled.
func (t *target) gaveUp(ctx context.Context, attempts int, took time.Duration, last error) error {
	if last == nil {
		last = t.failed(Unreachable, errors.New("the first attempt was not finished"),
			"The time allowed for the operation ran out before the machine answered.")
	}
	e := t.failed(KindOf(last), nil, DetailOf(last))
	took = took.Round(time.Second / 10)
	switch err := ctx.Err(); {
	case err == nil: // defaultPatience is over
		e.Err = fmt.Errorf("gave up after %d attempts in %s, the last one: %w", attempts, took, last)
	case errors.Is(err, context.Canceled):
		e.Kind = Interrupted
		fallthrough
	default:
		e.Err = fmt.Errorf("%w after %d attempts in %s, the last one: %w", err, attempts, took, last)
	}
	return e
}

// dial makes one attempt, through the bastions.
func (t *target) dial(ctx context.Context) (*Client, error) {
	var bastion *Client
	if t.bastion != nil {
		through, err := t.bastion.dial(ctx)
		if err != nil {
			return nil, err
		}
		bastion = through
	}
	client, err := t.login(ctx, bastion)
	if err != nil && bastion != nil {
		_ = bastion.Close()
	}
	return client, err
}

// login opens the network connection and logs in over it, within the connect timeout.
func (t *target) login(ctx context.Context, bastion *Client) (*Client, error) {
	limited, cancel := context.WithTimeout(ctx, t.connectTimeout)
	defer cancel()
	try := &attempt{target: t, ctx: ctx, limited: limited, check: hostKeyCheck{pinned: t.pinned}}
	var err error
	try.offer, err = t.offer(limited)
	if err != nil {
		return nil, try.explain(err)
	}
	defer try.offer.close()

	raw, err := t.dialRaw(limited, bastion)
	if err != nil {
		return nil, try.explain(err)
	}
	conn, channels, requests, err := try.handshake(raw)
	if err != nil {
		_ = raw.Close()
		return nil, try.explain(err)
	}
	client := &Client{
		name: t.name, addr: t.address(), proved: try.check.proved,
		conn: conn, raw: raw, born: time.Now(), bastion: bastion, done: make(chan struct{}),
	}
	client.serve(channels, requests, t.keepAlive)
	return client, nil
}

func (t *target) dialRaw(ctx context.Context, bastion *Client) (net.Conn, error) {
	switch {
	case bastion != nil:
		return bastion.DialContext(ctx, "tcp", t.address())
	case t.Config.dial != nil:
		return connect(ctx, t.Config.dial, t.address())
	}
	return connect(ctx, new(net.Dialer).DialContext, t.address())
}

// connect opens a TCP connection. Where nothing answers it tries again, and waits longer each time, until ctx ends.
func connect(ctx context.Context, dial func(ctx context.Context, network, addr string) (net.Conn, error), addr string) (net.Conn, error) {
	for patience := synPatience; ; patience *= 2 {
		limited, cancel := context.WithTimeout(ctx, patience)
		conn, err := dial(limited, "tcp", addr)
		cancel()
		// Checks the error and the clock, not the context: a connection's deadline may fire before the context's timer.
		timeout, ok := errors.AsType[net.Error](err)
		end, bounded := ctx.Deadline()
		if !ok || !timeout.Timeout() || ctx.Err() != nil || bounded && !time.Now().Before(end) {
			return conn, err
		}
	}
}

// attempt is one login in progress, with what is needed to explain its failure.
type attempt struct {
	*target
	ctx     context.Context //nolint:containedctx // of the call that the attempt is part of
	limited context.Context //nolint:containedctx // ctx with the connect timeout
	offer   *offer
	check   hostKeyCheck
}

// handshake exchanges keys and authenticates. x/crypto/ssh takes no context, so a timeout closes the network connection.
func (a *attempt) handshake(raw net.Conn) (
	conn ssh.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request, err error,
) {
	stop := context.AfterFunc(a.limited, func() { _ = raw.Close() })
	conn, channels, requests, err = ssh.NewClientConn(raw, a.address(), &ssh.ClientConfig{
		User:              a.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(a.offer.signers...)}, // all in one: each method is tried only once
		HostKeyCallback:   a.check.verify,
		HostKeyAlgorithms: a.check.algorithms(),
		ClientVersion:     "SSH-2.0-terraform-provider-shopper",
	})
	if err != nil {
		stop()
		return nil, nil, nil, err
	}
	if !stop() { // timed out as the login succeeded
		_ = conn.Close()
		go ssh.DiscardRequests(requests)
		go rejectChannels(channels)
		return nil, nil, nil, a.limited.Err()
	}
	return conn, channels, requests, nil
}

// explain turns the failure of an attempt into an *Error.
func (a *attempt) explain(err error) error {
	if deadline, has := a.ctx.Deadline(); has && time.Until(deadline) <= 0 {
		<-a.ctx.Done() // a network deadline may fire a moment before the context's timer
	}
	if a.ctx.Err() != nil {
		return interrupted(a.ctx, "connect to", a.name)
	}
	already, isOurs := errors.AsType[*Error](err)
	switch {
	case isOurs && (already.Kind == AgentFailed || already.Kind == BadKey || already.Kind == Prohibited):
		return already
	case a.limited.Err() != nil:
		return a.unreachable(fmt.Errorf("no login within %s", a.connectTimeout))
	case a.check.problem != nil:
		return a.hostKeyChanged(a.check.seen, nil, a.check.problem)
	}
	if mismatch, is := errors.AsType[*ssh.AlgorithmNegotiationError](err); is {
		if strings.Contains(mismatch.What, "host key") && !a.pinned.empty() {
			return a.hostKeyChanged(a.check.seen, mismatch.RequestedAlgorithms, errUnpinnedKey)
		}
		return a.failed(Prohibited, err, "The machine's SSH server supports none of the algorithms that are considered safe. Update it.")
	}
	if isAuthFailure(err) {
		return a.authFailed(a.offer, err)
	}
	return a.unreachable(err)
}

// isAuthFailure reports whether the login was refused. x/crypto/ssh has no type for that, nor for the
// disconnect message (RFC 4253, section 11.1) with which a server answers too many attempts.
func isAuthFailure(err error) bool {
	text := err.Error()
	return strings.Contains(text, "ssh: unable to authenticate") ||
		strings.Contains(text, "ssh: too many authentication attempts") ||
		strings.Contains(text, "Too many authentication failures") ||
		strings.Contains(text, "ssh: disconnect, reason 14:")
}

// unreachable returns the error for a machine where nothing that speaks SSH answered.
func (a *attempt) unreachable(err error) *Error {
	e := a.failed(Unreachable, err, "")
	dns, isDNS := errors.AsType[*net.DNSError](err)
	text := err.Error()
	switch {
	case isDNS && dns.IsNotFound:
		e.Detail = fmt.Sprintf("The name %q does not exist in DNS. Check it for typing errors.", a.Host)
	case isDNS:
		e.Detail = "The name could not be resolved. Check this computer's network and DNS."
	case strings.Contains(text, "connection refused"), strings.Contains(text, "Connection refused"):
		e.Detail = fmt.Sprintf("The address answers, and nothing listens on its port %d: the machine's SSH server is not up yet, "+
			"or listens on another port.", a.port())
	case strings.Contains(text, "handshake failed"):
		e.Detail = fmt.Sprintf("Something answered on port %d and did not complete an SSH login: the machine's SSH server is "+
			"still starting or overloaded, or another service listens there.", a.port())
	default:
		e.Detail = "Nothing answered. The machine may still be booting, be switched off, or a firewall may be in between. " +
			"Check the address and port."
	}
	return e
}
