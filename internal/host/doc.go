// Package host is a machine behind SSH: it logs in, pins the machine's host key,
// runs commands, opens connections from the machine, and notices when the machine
// has gone silent. It knows nothing of Terraform, vLLM or Docker, and it is the
// only package of the provider that uses golang.org/x/crypto/ssh.
//
// What holds for everything here:
//
//   - Keys stay in memory: the package neither reads nor writes a file. An SSH agent
//     is reached through its socket, and that connection is closed after login.
//   - Every call takes a context and returns when it ends, whatever the other end
//     does. An error caused by the context satisfies errors.Is with the context's
//     error; no other error does, not even a timeout of this package's own.
//   - Every wait for the machine is bounded, and so is every output that is kept.
//   - A command's arguments reach the machine's shell quoted ([Quote]).
//   - Nothing is repeated: a command whose connection was lost may or may not have
//     run ([Error.Started]), and only its caller knows whether it may run again.
//   - A [Client] may be used by several goroutines at once, and no lock is held while
//     the network is waited for.
//
// Errors are of type [*Error]: what was attempted, where, what kind of failure it
// was, and a sentence that says what to do about it.
package host
