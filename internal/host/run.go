package host

import "io"

// DefaultMaxOutput is how many bytes of each output stream [Client.Run] keeps by default.
const DefaultMaxOutput = 1 << 20

// Command is what [Client.Run] runs.
type Command struct {
	// Args are the command's name and arguments. The user's login shell on the machine gets
	// them quoted, so that they are words and never syntax; for a script, give
	// "sh", "-c", SCRIPT, "sh", ARGUMENT… or give it on Stdin of "sh", "-s".
	// They can be seen in the machine's process list: a secret goes on Stdin.
	Args []string
	// Stdin is the command's standard input; nil means an empty one. It is read until its end
	// or until the command has ended; a Read under way at that moment is not waited for.
	Stdin io.Reader
	// MaxOutput is how many bytes of each stream are kept, the first half and the last half of
	// them. Zero means [DefaultMaxOutput]. What lies between is read and dropped, with a
	// line in its place that says how much it was.
	MaxOutput int
}

// Result is how a command ended.
type Result struct {
	// Stdout and Stderr are what the command wrote, byte for byte unless Truncated.
	Stdout, Stderr string
	// Truncated is set when some output is missing: there was more than [Command.MaxOutput], or a
	// process that the command left behind kept the streams open after its end.
	Truncated bool
	// ExitCode is the exit status, -1 when the command was ended by a signal.
	ExitCode int
	// Signal is the signal that ended the command, without "SIG" ("KILL"), or "".
	Signal string
}
