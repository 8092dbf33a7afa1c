package host

import (
	"context"
	"io"
	"time"

	"golang.org/x/crypto/ssh"
)

// Limits of stopping a command.
const (
	stopTimeout = 3 * time.Second
	// sweepTimeout is how long stop waits for the sweep, which takes more than a second. The sweep goes on for up to
	// sweepLimit: on a busy machine it takes longer, and if interrupted it would send no SIGKILL.
	sweepTimeout = 2 * time.Second
	sweepLimit   = 20 * time.Second
	// lastBreath is how long the report of a killed process's end may take.
	lastBreath = time.Second / 2
)

// runMark is the environment variable that marks a command's processes on the machine.
//
// SSH's "signal" request (RFC 4254, section 6.9) is not enough to end a command: OpenSSH's server ignores it for root ("requires
// privilege separation"), and it doesn't end a command whose channel is closed either.
const runMark = "SHOPPER_RUN"

// sweepScript ends every process whose environment contains the mark $1: by SIGTERM and, up to a second later, by SIGKILL. It uses
// only commands and options that POSIX and busybox have.
const sweepScript = `
marked() { grep -lsF "` + runMark + `=$1" /proc/[0-9]*/environ; }
sweep() { marked "$1" | while IFS=/ read -r a b pid c; do kill -s "$2" "$pid" 2>/dev/null; done; }
sweep "$1" TERM
for i in 1 2 3 4 5; do
  [ -n "$(marked "$1")" ] || exit 0 # grep's status reports processes that vanished meanwhile
  sleep 0.2 || { sleep 1; break; }
done
sweep "$1" KILL
`

// asRoot runs the script $1 with the argument $2, as root where sudo requires no password: a user can't end a command that was run
// through sudo.
const asRoot = `
if [ "$(id -u)" -ne 0 ] && sudo -n true 2>/dev/null; then exec sudo -n sh -c "$1" sh "$2"; fi
exec sh -c "$1" sh "$2"
`

// stop ends a process and its children: by a signal, by a sweep for its mark, and finally by closing its channel. It returns within
// stopTimeout, and uses only the values of ctx.
func (p *process) stop(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	finishes(stopTimeout, func() {
		if p.signal(ssh.SIGTERM) == nil {
			finishes(sweepTimeout, func() { p.sweep(ctx) })
		}
		if !p.hasExited(lastBreath) && p.signal(ssh.SIGKILL) == nil {
			p.hasExited(lastBreath)
		}
		_ = p.Close()
	})
}

// interrupt stops a process because ctx has ended, and returns the error that says so.
func (p *process) interrupt(ctx context.Context, op string) *Error {
	p.stop(ctx)
	e := started(interrupted(ctx, op, p.client.name))
	if p.endIsKnown() {
		e.Detail += " The command on the machine was stopped."
	} else {
		e.Detail += " The machine did not confirm that the command was stopped."
	}
	return e
}

func (p *process) signal(signal ssh.Signal) error {
	_, err := p.SendRequest("signal", false, ssh.Marshal(struct{ Signal string }{string(signal)}))
	return err
}

// sweep ends the processes with the process's mark, in another session. It does nothing on a machine that allows no further session
// or has no /proc.
func (p *process) sweep(ctx context.Context) {
	if p.mark == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	line := Quote("sh", "-c", asRoot, "sh", sweepScript, p.mark)
	sweeper, err := p.client.startLine(ctx, "stop a command on", line, "")
	if err != nil {
		return
	}
	go func() { _, _ = io.Copy(io.Discard, sweeper.Channel) }()
	go func() { _, _ = io.Copy(io.Discard, sweeper.Stderr()) }()
	select {
	case <-sweeper.exited:
	case <-p.client.done:
	case <-ctx.Done():
	}
	sweeper.release()
}
