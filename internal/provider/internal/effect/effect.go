// Package effect says what a change of a resource's arguments does, for its page and for the test that holds the page to it.
package effect

import (
	"fmt"
	"slices"
	"strings"
)

// Effect is what a change of an argument does.
type Effect string

// The effects.
const (
	InPlace  Effect = "in place"
	Restarts Effect = "restarts the server"
	Replaces Effect = "replaces the resource"
)

// Table holds the arguments by what their change does. Notes are about single arguments.
type Table struct {
	Arguments map[Effect][]string
	Notes     []string
}

// Of is what a change of an argument does, "" for one that isn't in the table.
func (t Table) Of(argument string) Effect {
	for effect, arguments := range t.Arguments {
		if slices.Contains(arguments, argument) {
			return effect
		}
	}
	return ""
}

// Markdown is the table for a page.
func (t Table) Markdown() string {
	var text strings.Builder
	text.WriteString("\n\n| change to | effect |\n|---|---|\n")
	for _, effect := range []Effect{InPlace, Restarts, Replaces} {
		if len(t.Arguments[effect]) > 0 {
			fmt.Fprintf(&text, "| `%s` | %s |\n", strings.Join(t.Arguments[effect], "`, `"), effect)
		}
	}
	for _, note := range t.Notes {
		text.WriteString("\n" + note + "\n")
	}
	return text.String()
}
