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
	// pipeExit is how long a command may take to exit after its output has ended.
	pipeExit = 5 * time.Second
	// pipeIdle is how long a command may take to exit by itself after its input was closed.
	pipeIdle = time.Second
)

// Pipe runs a command and returns its standard input and output as a connection, for protocols such as that of `docker system
// dial-stdio`. ctx bounds the start only. Closing the connection ends the command within five seconds: by closing its input, then by
// SIGTERM and SIGKILL. Read returns io.EOF when the command exited with status 0, otherwise an [*Error] of kind [CommandFailed] with
// the end of its standard error, or [Lost]. The connection has CloseWrite and supports deadlines.
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
			return nil // it has closed its output, but goes on
		}
		c.await(stderrDone, pipeIdle)
		return p.failure(op, args[0], stderr)
	}
	shut := func(*stream) { // its input has been closed
		if p.hasExited(pipeIdle) {
			p.release()
			return
		}
		p.stop(ctx)
	}
	return newStream(c, p.channel, streamAddr{"ssh", c.addr}, streamAddr{"ssh", args[0]}, finish, shut), nil
}

// failure returns how a command behind a pipe failed, nil when it exited with status 0.
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
	return started(p.client.failed(op, CommandFailed, errors.New(how), "The command behind the connection ended: "+how+"."))
}
