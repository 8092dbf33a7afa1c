package host

import (
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// process is a command that was started on the machine. Its output streams must be read until it ends.
type process struct {
	channel
	client *Client
	mark   string        // value of runMark in the environment of the command and its children; may be ""
	exited chan struct{} // closed once the exit status has come, or can no longer come
	status exitStatus    // valid once exited is closed
}

// exitStatus is how a process ended. The zero value means that the machine didn't report it.
type exitStatus struct {
	known  bool
	code   int    // -1 with a signal
	signal string // without "SIG"
}

// start starts a command with a mark by which stop finds its processes. When ctx ends before the
// machine has confirmed the start, it stops the command.
func (c *Client) start(ctx context.Context, op string, args []string) (*process, error) {
	problem := ""
	switch {
	case len(args) == 0 || args[0] == "":
		problem = "There is no command to run."
	case slices.ContainsFunc(args, func(arg string) bool { return strings.Contains(arg, "\x00") }):
		problem = "An argument of the command contains a NUL byte, which is not possible."
	}
	if problem != "" {
		return nil, c.failed(op, BadConfig, nil, problem)
	}
	mark := rand.Text()
	return c.startLine(ctx, op, runMark+"="+mark+" "+Quote(args...), mark)
}

func (c *Client) startLine(ctx context.Context, op, line, mark string) (*process, error) {
	ch, err := c.openChannel(ctx, op, "session", nil)
	if err != nil {
		return nil, err
	}
	p := &process{channel: ch, client: c, mark: mark, exited: make(chan struct{})}
	go p.watch()
	if err := p.exec(ctx, op, line); err != nil {
		return nil, err
	}
	return p, nil
}

// exec sends the command line and waits for the machine to accept it (RFC 4254, section 6.5).
func (p *process) exec(ctx context.Context, op, line string) error {
	answers := make(chan answer[bool], 1)
	go func() {
		ok, err := p.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{line}))
		answers <- answer[bool]{ok, err}
	}()
	accepted, failure := awaitAnswer(ctx, p.client, op, answers)
	switch {
	case accepted.value:
		return nil
	case failure != nil && failure.Kind == Interrupted:
		return p.interrupt(ctx, op)
	case failure != nil:
	case accepted.err != nil:
		failure = p.noStatus(op, accepted.err)
	default:
		p.release()
		return p.client.failed(op, Prohibited, nil,
			"The machine's SSH server refused to run a command. Log in manually to check whether the account is allowed to.")
	}
	p.stop(ctx)
	return started(failure)
}

// watch receives the exit status (RFC 4254, section 6.10). It returns when the channel is closed.
func (p *process) watch() {
	for request := range p.requests {
		if status := readStatus(request); status.known && !p.status.known {
			p.status = status
			close(p.exited)
		}
		if request.WantReply {
			_ = request.Reply(false, nil)
		}
	}
	if !p.status.known {
		close(p.exited)
	}
}

// readStatus returns the exit status in a request, the zero value for none.
func readStatus(request *ssh.Request) exitStatus {
	var exit struct{ Status uint32 }
	var signal struct {
		Signal         string
		CoreDumped     bool
		Error, Langtag string
	}
	switch {
	case request.Type == "exit-status" && ssh.Unmarshal(request.Payload, &exit) == nil:
		return exitStatus{known: true, code: int(exit.Status)}
	case request.Type == "exit-signal" && ssh.Unmarshal(request.Payload, &signal) == nil:
		return exitStatus{known: true, code: -1, signal: signal.Signal}
	}
	return exitStatus{}
}

// noStatus returns the error of a process that ended without an exit status. It first checks whether the connection is still up.
func (p *process) noStatus(op string, cause error) *Error {
	if err := p.client.probe(nil, probeTimeout); err != nil {
		return p.client.gone(op, err)
	}
	return p.client.failed(op, NoExitStatus, cause, "The machine reported that the command ended, but not its exit status. The command may"+
		" or may not have completed. Common reasons are too little memory and a restarted SSH server.")
}

// hasExited waits until the process has ended, or its exit status can no longer come, and reports whether that was within the
// limit.
func (p *process) hasExited(limit time.Duration) bool {
	return p.client.await(p.exited, limit)
}

// endIsKnown reports whether the machine has reported how the process ended. A closed channel alone proves nothing: the process may
// go on.
func (p *process) endIsKnown() bool {
	return p.hasExited(0) && p.status.known
}

// release closes the channel of a process that has ended.
func (p *process) release() { finishes(time.Second, func() { _ = p.Close() }) }

// await waits for an event, until the connection ends or the limit has passed, and reports whether the event happened.
func (c *Client) await(event <-chan struct{}, limit time.Duration) bool {
	select {
	case <-event:
		return true
	case <-c.done:
	case <-time.After(limit):
	}
	select {
	case <-event:
		return true
	default:
		return false
	}
}
