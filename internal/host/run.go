package host

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// DefaultMaxOutput is how many bytes of each output stream [Client.Run] keeps by default.
const DefaultMaxOutput = 1 << 20

// Command is what [Client.Run] runs.
type Command struct {
	// Args are the command's name and arguments. The user's login shell on the machine gets
	// them quoted. For a script, use "sh", "-c", SCRIPT, "sh", ARGUMENT… or pass it on Stdin
	// to "sh", "-s". The machine's process list shows them: pass secrets on Stdin.
	Args []string
	// Stdin is the command's standard input; nil means an empty one. It is read to its end,
	// or until the command has ended, which doesn't interrupt a Read.
	Stdin io.Reader
	// MaxOutput is how many bytes of each output stream are kept, half of them from its
	// beginning and half from its end. 0 means [DefaultMaxOutput]. A line says how much was
	// omitted.
	MaxOutput int
}

// Result is how a command ended.
type Result struct {
	// Stdout and Stderr are exactly what the command wrote, unless Truncated.
	Stdout, Stderr string
	// Truncated is true when output is or may be missing: there was more than
	// [Command.MaxOutput], a process that outlived the command kept the streams open, or the
	// connection was lost.
	Truncated bool
	// ExitCode is the exit status, -1 when the command was ended by a signal.
	ExitCode int
	// Signal is the signal that ended the command, without "SIG" ("KILL"), "" for none.
	Signal string
}

// postExit is how long Run reads output after the command's end, which a process that outlives the command may keep open.
const postExit = 5 * time.Second

// Run runs a command on the machine and waits for its end. A command that ends with a
// non-zero status or by a signal is a [Result], not an error.
//
// When ctx ends, Run sends SIGTERM and, a second later, SIGKILL to the command and the processes that it started, which it finds by
// the command's environment variable SHOPPER_RUN. The error then satisfies errors.Is with ctx's error, and the Result contains the
// output so far. A lost connection is an error of kind [Lost]; with [Error.Started] set, the command may have run.
func (c *Client) Run(ctx context.Context, cmd Command) (Result, error) {
	const op = "run a command on"
	p, err := c.start(ctx, op, cmd.Args)
	if err != nil {
		e, ok := errors.AsType[*Error](err)
		return Result{ExitCode: -1, Truncated: ok && e.Started}, err
	}
	r := &running{process: p, stdout: newCapture(cmd.MaxOutput), stderr: newCapture(cmd.MaxOutput)}
	r.feed(cmd.Stdin)
	r.drain()
	defer p.release()

	select {
	case <-p.exited:
	case <-c.done:
	case err := <-r.inputErr:
		p.stop(ctx)
		return r.result(), started(c.failed(op, BadConfig, err, "The command's input could not be read, so the command was stopped."))
	case <-ctx.Done():
		failure := r.interrupt(ctx, op)
		return r.result(), failure
	}
	if !p.hasExited(0) {
		return r.result(), started(c.gone(op, nil))
	}
	if !p.status.known {
		failure := p.noStatus(op, nil)
		return r.result(), started(failure)
	}
	select { // the rest of the output
	case <-r.drained:
	case <-ctx.Done():
	case <-time.After(postExit):
	case <-c.done:
	}
	return r.result(), nil
}

func started(e *Error) *Error {
	e.Started = true
	return e
}

// running is a process whose streams are copied.
type running struct {
	*process
	stdout, stderr *capture
	drained        chan struct{} // closed when both streams have ended
	inputErr       chan error    // error of the caller's reader
}

// feed starts to send the input, and closes the stream at its end.
func (r *running) feed(stdin io.Reader) {
	r.inputErr = make(chan error, 1)
	go func() {
		buffer := make([]byte, 32<<10)
		for stdin != nil {
			n, err := stdin.Read(buffer)
			if _, writeErr := r.Write(buffer[:n]); writeErr != nil || errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				r.inputErr <- err
				return // without CloseWrite: the command must not take incomplete input as complete
			}
		}
		_ = r.CloseWrite()
	}()
}

// drain starts to read both output streams to their ends, whatever is kept of them: a command whose output is not read blocks.
func (r *running) drain() {
	r.drained = make(chan struct{})
	var streams sync.WaitGroup
	streams.Go(func() { _, _ = io.Copy(r.stdout, r.Channel) })
	streams.Go(func() { _, _ = io.Copy(r.stderr, r.Stderr()) })
	go func() {
		streams.Wait()
		close(r.drained)
	}()
}

// result returns the result so far, with all output of streams that have ended.
func (r *running) result() Result {
	r.client.await(r.drained, lastBreath)
	result := Result{ExitCode: -1}
	var cutOut, cutErr bool
	result.Stdout, cutOut = r.stdout.result()
	result.Stderr, cutErr = r.stderr.result()
	result.Truncated = cutOut || cutErr || r.client.Err() != nil // the streams may have ended with the connection
	select {
	case <-r.drained:
	default:
		result.Truncated = true
	}
	if r.endIsKnown() {
		result.ExitCode, result.Signal = r.status.code, r.status.signal
	}
	return result
}
