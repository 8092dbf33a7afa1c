package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// Limits on waiting for the other end.
const (
	closeTimeout = 5 * time.Second
	// answerTimeout bounds the wait for the answer to an SSH request (opening a channel, starting a
	// command) where the caller's context doesn't end earlier.
	answerTimeout = time.Minute
	// probeTimeout bounds a check whether the connection is still up.
	probeTimeout = 5 * time.Second
)

// Client is a connection to a machine, after login. It is safe for concurrent use. Whoever dialed it closes it.
type Client struct {
	name    string // for messages: user, address, bastions
	addr    string
	proved  hostKeys // those that the machine has proved to own
	conn    ssh.Conn
	raw     net.Conn // below conn
	born    time.Time
	bastion *Client // closed with this client; nil for none

	ending sync.Once
	ended  atomic.Pointer[Error] // set before done is closed
	done   chan struct{}
	work   sync.WaitGroup // serve's goroutines
}

// HostKey returns the key that the machine proved to own, for [Config.HostKey]: in authorized_keys form and without a comment, or
// "@cert-authority …" where the machine proved it by a certificate.
func (c *Client) HostKey() string { return c.proved.String() }

// BastionHostKey is HostKey of the jump host through which the machine is reached, "" without one.
func (c *Client) BastionHostKey() string {
	if c.bastion == nil {
		return ""
	}
	return c.bastion.HostKey()
}

// Err returns nil while the connection is up, then an [*Error] of kind [Closed] or [Lost].
func (c *Client) Err() error {
	if e := c.ended.Load(); e != nil {
		return e
	}
	return nil
}

// Close ends the connection and everything that runs through it, within five seconds
// whatever the other end does. Calling it again does nothing.
func (c *Client) Close() error {
	c.end(wasClosed("use", c.name))
	if finishes(closeTimeout, c.work.Wait) {
		return nil
	}
	return c.failed("close the connection to", Closed, nil, fmt.Sprintf("It did not end within %s.", closeTimeout))
}

// finishes reports whether do returns within the limit. It doesn't interrupt do.
func finishes(limit time.Duration, do func()) bool {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		do()
	}()
	select {
	case <-finished:
		return true
	case <-time.After(limit):
		return false
	}
}

// end records why the connection ended, and closes it and its bastion's. Only the first call counts.
func (c *Client) end(why *Error) {
	c.ending.Do(func() {
		c.ended.Store(why)
		close(c.done)
		// Over a bastion, closing writes to the bastion's connection, which may block.
		c.work.Go(func() { _ = c.raw.Close() })
		if c.bastion != nil {
			c.work.Go(func() { _ = c.bastion.Close() })
		}
	})
}

// serve starts the goroutines of a connection.
func (c *Client) serve(channels <-chan ssh.NewChannel, requests <-chan *ssh.Request, interval time.Duration) {
	c.work.Go(func() { ssh.DiscardRequests(requests) })
	c.work.Go(func() { rejectChannels(channels) })
	c.work.Go(func() { c.keepAlive(interval) })
	c.work.Go(func() {
		err := c.conn.Wait()
		c.end(c.lost(err))
	})
}

func (c *Client) lost(err error) *Error {
	return c.failed("use", Lost, err,
		"The connection to the machine was lost. The machine may have been stopped or rebooted, or the network failed.")
}

// rejectChannels refuses channels that a server opens to this computer.
func rejectChannels(channels <-chan ssh.NewChannel) {
	for channel := range channels {
		_ = channel.Reject(ssh.Prohibited, "this client accepts no channels")
	}
}

// keepAlive probes the machine at every interval, and ends the connection when three intervals pass without an answer. Otherwise a
// TCP connection whose other end vanished would look alive for hours.
func (c *Client) keepAlive(interval time.Duration) {
	ticks := time.Tick(interval)
	for {
		select {
		case <-c.done:
			return
		case <-ticks:
		}
		if err := c.probe(nil, keepAliveMisses*interval); errors.Is(err, errSilent) {
			c.end(c.failed("use", Lost, err, fmt.Sprintf("The machine has not answered for %s. It may be stopped, crashed or out of memory,"+
				" or the network failed.", keepAliveMisses*interval)))
			return
		}
	}
}

var errSilent = errors.New("the machine stopped answering")

// probe checks whether the machine answers. It returns nil for any answer, even to refuse the request, and errSilent for none within
// the limit or until end is closed.
func (c *Client) probe(end <-chan struct{}, limit time.Duration) error {
	answered := make(chan error, 1)
	go func() {
		_, _, err := c.conn.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	}()
	select {
	case err := <-answered:
		return err
	case <-c.done:
		return c.Err()
	case <-end:
	case <-time.After(limit):
	}
	return errSilent
}

// gone returns the error of an operation that failed because the connection ended. The operation may fail a moment before that end
// is noticed.
func (c *Client) gone(op string, cause error) *Error {
	c.await(nil, probeTimeout)
	why := c.ended.Load()
	if why == nil {
		why = c.lost(cause)
	}
	return c.failed(op, why.Kind, why.Err, why.Detail)
}

// channel is an open SSH channel, with the requests that the machine sends on it.
type channel struct {
	ssh.Channel
	requests <-chan *ssh.Request
}

// openChannel opens a channel. It returns when ctx ends, although x/crypto/ssh goes on waiting.
func (c *Client) openChannel(ctx context.Context, op, kind string, payload []byte) (channel, error) {
	if err := ctx.Err(); err != nil {
		return channel{}, interrupted(ctx, op, c.name)
	}
	answers := make(chan answer[channel], 1)
	go func() {
		ch, requests, err := c.conn.OpenChannel(kind, payload)
		answers <- answer[channel]{channel{ch, requests}, err}
	}()
	got, failure := awaitAnswer(ctx, c, op, answers)
	if failure != nil {
		go func() { // closes the channel if it opens later
			if late := <-answers; late.err == nil {
				go ssh.DiscardRequests(late.value.requests)
				_ = late.value.Close()
			}
		}()
		return channel{}, failure
	}
	if refusal, is := errors.AsType[*ssh.OpenChannelError](got.err); is {
		return channel{}, c.refused(op, refusal)
	}
	if got.err != nil {
		return channel{}, c.gone(op, got.err)
	}
	return got.value, nil
}

// answer is the machine's answer to a request.
type answer[T any] struct {
	value T
	err   error
}

// awaitAnswer waits for an answer until the connection or ctx ends, up to answerTimeout.
func awaitAnswer[T any](ctx context.Context, c *Client, op string, answers <-chan answer[T]) (answer[T], *Error) {
	var failure *Error
	select {
	case got := <-answers:
		return got, nil
	case <-c.done:
		failure = c.gone(op, nil)
	case <-ctx.Done():
		failure = interrupted(ctx, op, c.name)
	case <-time.After(answerTimeout):
		failure = c.failed(op, Refused, fmt.Errorf("no answer within %s", answerTimeout),
			"The connection is up, but the machine's SSH server doesn't answer the request. The machine may be overloaded.")
	}
	select {
	case got := <-answers: // at the same time
		return got, nil
	default:
		return answer[T]{}, failure
	}
}

// refused returns the error for a channel that the server did not open.
func (c *Client) refused(op string, refusal *ssh.OpenChannelError) *Error {
	e := c.failed(op, Refused, refusal, "")
	switch refusal.Reason {
	case ssh.Prohibited, ssh.UnknownChannelType:
		e.Kind = Prohibited
		e.Detail = "The SSH server's settings don't allow it. For forwarded connections, check AllowTcpForwarding," +
			" AllowStreamLocalForwarding, PermitOpen and DisableForwarding in sshd_config, and the key's options in authorized_keys."
	case ssh.ConnectionFailed, ssh.ResourceShortage:
		e.Detail = "The machine refused this for now. For a forwarded connection, nothing listens at the address yet. For a command," +
			" the connection already runs as many as the machine allows (MaxSessions in sshd_config, 10 by default)."
	}
	return e
}
