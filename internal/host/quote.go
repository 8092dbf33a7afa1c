package host

import (
	"slices"
	"strings"

	"al.essio.dev/pkg/shellescape"
)

// reservedWords are keywords where a POSIX shell (or bash, ksh, zsh) expects a command's name. shellescape doesn't quote them.
var reservedWords = []string{
	"case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "foreach", "function",
	"if", "in", "nocorrect", "noglob", "repeat", "select", "then", "time", "until", "while", "end",
}

// Quote joins args into one command line that a POSIX shell splits into exactly these words again, whatever they contain. The shell
// takes the first as a command's name even where it looks like an assignment or a reserved word. A NUL byte can't be part of a word;
// [Client.Run] and [Client.Pipe] refuse it.
func Quote(args ...string) string {
	if len(args) == 0 {
		return ""
	}
	line := shellescape.QuoteCommand(args)
	first := args[0]
	if strings.HasPrefix(line, first) && (strings.Contains(first, "=") || slices.Contains(reservedWords, first)) {
		return "'" + first + "'" + line[len(first):]
	}
	return line
}
