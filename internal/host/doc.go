// Package host is a machine behind SSH: it logs in, pins the machine's host key,
// runs commands, opens connections from the machine, and detects that the machine
// no longer answers. It knows nothing of Terraform, vLLM or Docker, and it is the
// only package of the provider that uses golang.org/x/crypto/ssh.
//
// The whole package follows these rules:
//
//   - Keys stay in memory: the package neither reads nor writes a file. An SSH agent
//     is reached through its socket, and that connection is closed after login.
//   - Every call takes a context and returns when it ends, whatever the other end
//     does. An error caused by the context satisfies errors.Is with the context's
//     error; no other error does, not even for this package's own timeouts.
//   - Every wait for the machine is bounded, and so is every output that is kept.
//   - A command's arguments reach the machine's shell quoted ([Quote]).
//   - Nothing is repeated: a command whose connection was lost may or may not have
//     run ([Error.Started]), and only its caller knows whether it may run again.
//   - A [Client] is safe for concurrent use, and no lock is held during a wait for
//     the network.
//
// Errors are of type [*Error]: what was attempted, where, the kind of failure, and
// what to do about it.
package host
