package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Limits of a pipe.
const (
	maxPipeStderr = 8 << 10
	// pipeExit is how long a command may take to end after its output has ended.
	pipeExit = 5 * time.Second
	// pipeIdle is how long a command may take to end by itself after its input was closed.
	pipeIdle = time.Second
)

// Pipe runs a command and returns its standard input and output as a connection, for protocols
// such as that of `docker system dial-stdio`. ctx governs the start only. Closing the connection
// ends the command, within five seconds: its input is closed, then come SIGTERM and SIGKILL.
// Read returns io.EOF when the command ended well, otherwise an [*Error] of kind [CommandFailed]
// with what it last wrote to standard error, or [Lost]. The connection has CloseWrite and working
// deadlines.
func (c *Client) Pipe(ctx context.Context, args ...string) (net.Conn, error) {
	const op = "run a command on"
	p, err := c.start(ctx, op, args)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, p.interrupt(ctx, op)
	}
	stderr := newCapture(maxPipeStderr)
	stderrDone := make(chan struct{})
	go func() {
		defer close(stderrDone)
		_, _ = io.Copy(stderr, p.Stderr())
	}()
	finish := func() error {
		if !p.hasExited(pipeExit) && c.Err() == nil {
			return nil // it closed its output and goes on
		}
		c.await(stderrDone, pipeIdle)
		return p.failure(op, args[0], stderr)
	}
	shut := func(*stream) { // the end of the input is on its way already
		if p.hasExited(pipeIdle) {
			p.release()
			return
		}
		p.stop(ctx)
	}
	return newStream(c, p.channel, streamAddr{"ssh", c.addr}, streamAddr{"ssh", args[0]}, finish, shut), nil
}

// failure is how a command behind a pipe ended, nil when it ended well.
func (p *process) failure(op, command string, stderr *capture) error {
	if !p.endIsKnown() {
		return started(p.noStatus(op, io.ErrUnexpectedEOF))
	}
	status := p.status
	if status.code == 0 {
		return nil
	}
	how := fmt.Sprintf("%s ended with exit status %d", command, status.code)
	if status.signal != "" {
		how = fmt.Sprintf("%s was ended by signal %s", command, status.signal)
	}
	said, _ := stderr.result()
	if said = strings.TrimSpace(said); said != "" {
		how += ": " + said
	}
	return &Error{
		Op: op, Addr: p.client.name, Kind: CommandFailed, Started: true, Err: errors.New(how),
		Detail: "The command behind the connection ended: " + how + ".",
	}
}
