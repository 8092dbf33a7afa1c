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
	// answerTimeout bounds the wait for the answer to a request of this package's own
	// (opening a channel, starting a command) where the caller's context sets no earlier end.
	answerTimeout = time.Minute
	// probeTimeout bounds the question whether the connection is still up.
	probeTimeout = 5 * time.Second
)

// Client is a logged-in connection to a machine. It may be used by several goroutines at
// once. Whoever dialled it closes it.
type Client struct {
	name    string // for messages: user, address, bastions
	addr    string
	proved  hostKeys // what the machine has proved to own
	conn    ssh.Conn
	raw     net.Conn // what conn runs over
	born    time.Time
	bastion *Client // closed with this client; nil without

	ending sync.Once
	ended  atomic.Pointer[Error] // set before done is closed
	done   chan struct{}
	work   sync.WaitGroup // serve's goroutines
}

// HostKey is the key that the machine proved to own, in authorized_keys form and without a
// comment; "@cert-authority …" when it was proved by a certificate. Give it as
// [Config.HostKey] from then on.
func (c *Client) HostKey() string { return c.proved.String() }

// BastionHostKey is the same of the jump host through which the machine is reached, "" without one.
func (c *Client) BastionHostKey() string {
	if c.bastion == nil {
		return ""
	}
	return c.bastion.HostKey()
}

// Err is nil while the connection is up, then an [*Error] of kind [Closed] or [Lost].
func (c *Client) Err() error {
	if e := c.ended.Load(); e != nil {
		return e
	}
	return nil
}

// Close ends the connection and everything that runs through it, within five seconds
// whatever the other end does. Closing again does nothing.
func (c *Client) Close() error {
	c.end(wasClosed("use", c.name))
	if finishes(closeTimeout, c.work.Wait) {
		return nil
	}
	return &Error{
		Op: "close the connection to", Addr: c.name, Kind: Closed,
		Detail: fmt.Sprintf("It did not end within %s.", closeTimeout),
	}
}

// finishes reports whether something ends within the limit. It goes on after that.
func finishes(limit time.Duration, do func()) bool {
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		do()
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-finished:
		return true
	case <-timer.C:
		return false
	}
}

// end records why the connection is over, and cuts it and its bastion's. Only the first call counts.
func (c *Client) end(why *Error) {
	c.ending.Do(func() {
		c.ended.Store(why)
		close(c.done)
		// Over a bastion, closing writes to the bastion, which may be stuck.
		c.work.Go(func() { _ = c.raw.Close() })
		if c.bastion != nil {
			c.work.Go(func() { _ = c.bastion.Close() })
		}
	})
}

// serve starts what a connection needs while it lives.
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
	return &Error{
		Op: "use", Addr: c.name, Kind: Lost, Err: err,
		Detail: "The connection to the machine was lost. The machine may have been stopped or rebooted, or the network failed.",
	}
}

// rejectChannels refuses what a server might want to open on this computer.
func rejectChannels(channels <-chan ssh.NewChannel) {
	for channel := range channels {
		_ = channel.Reject(ssh.Prohibited, "this client accepts no channels")
	}
}

// keepAlive asks the machine at every interval whether it is still there, and gives the
// connection up when three intervals pass without an answer. A TCP connection whose other
// end vanished would otherwise look alive for hours.
func (c *Client) keepAlive(interval time.Duration) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-c.done:
			return
		case <-ticker.C:
		}
		if err := c.probe(nil, keepAliveMisses*interval); errors.Is(err, errSilent) {
			c.end(&Error{
				Op: "use", Addr: c.name, Kind: Lost, Err: err,
				Detail: fmt.Sprintf("The machine has not answered for %s. It may be stopped, crashed or out of memory, or the network"+
					" failed.", keepAliveMisses*interval),
			})
			return
		}
	}
}

var errSilent = errors.New("the machine stopped answering")

// probe asks the machine for a sign of life: nil when it answered (that it doesn't know the
// request is an answer too), errSilent when it did not within the limit and until end is closed.
func (c *Client) probe(end <-chan struct{}, limit time.Duration) error {
	answered := make(chan error, 1)
	go func() {
		_, _, err := c.conn.SendRequest("keepalive@openssh.com", true, nil)
		answered <- err
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-answered:
		return err
	case <-c.done:
		return c.Err()
	case <-end:
	case <-timer.C:
	}
	return errSilent
}

// gone is the error of an operation that failed with the connection, whose end may be noticed
// a moment later than the operation's.
func (c *Client) gone(op string, cause error) *Error {
	c.await(nil, probeTimeout)
	why := c.ended.Load()
	if why == nil {
		why = c.lost(cause)
	}
	return &Error{Op: op, Addr: c.name, Kind: why.Kind, Detail: why.Detail, Err: why.Err}
}

// channel is an open SSH channel with the requests that the machine sends on it.
type channel struct {
	ssh.Channel
	requests <-chan *ssh.Request
}

// openChannel opens a channel, and returns when ctx ends though x/crypto/ssh goes on waiting.
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
		go func() { // a channel that is opened after nobody waits for it any more
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

// answer is what the machine answers to a request.
type answer[T any] struct {
	value T
	err   error
}

// awaitAnswer waits for an answer until the connection ends, or ctx, or answerTimeout is over.
func awaitAnswer[T any](ctx context.Context, c *Client, op string, answers <-chan answer[T]) (answer[T], *Error) {
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	var failure *Error
	select {
	case got := <-answers:
		return got, nil
	case <-c.done:
		failure = c.gone(op, nil)
	case <-ctx.Done():
		failure = interrupted(ctx, op, c.name)
	case <-timer.C:
		failure = &Error{
			Op: op, Addr: c.name, Kind: Refused, Err: fmt.Errorf("no answer within %s", answerTimeout),
			Detail: "The connection is up, but the machine's SSH server doesn't answer the request. The machine may be overloaded.",
		}
	}
	select {
	case got := <-answers: // both at once
		return got, nil
	default:
		return answer[T]{}, failure
	}
}

// refused explains a channel that the server did not open.
func (c *Client) refused(op string, refusal *ssh.OpenChannelError) *Error {
	e := &Error{Op: op, Addr: c.name, Kind: Refused, Err: refusal}
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
