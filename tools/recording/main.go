// Command recording copies standard input to standard output and draws it as an animated SVG: a terminal that scrolls as the lines
// came. It leaves out the lines before the first numbered one.
package main

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"os"
	"regexp"
	"strings"
	"time"
)

const (
	columns, rows = 110, 26
	lineHeight    = 17  // pixels
	width         = 900 // pixels
	rest          = 5.0 // seconds for which the end stays
)

// step matches the heading of a step of the demo.
var step = regexp.MustCompile(`^\d+\. `)

type line struct {
	text string
	at   float64 // seconds from the first line
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: COMMAND | go run ./tools/recording FILE.svg")
		os.Exit(2)
	}
	lines, err := record(os.Stdin, os.Stdout)
	if err == nil && len(lines) == 0 {
		err = fmt.Errorf("nothing was recorded")
	}
	if err == nil {
		err = os.WriteFile(os.Args[1], []byte(draw(lines)), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
		os.Exit(1)
	}
}

func record(in io.Reader, out io.Writer) ([]line, error) {
	var lines []line
	var begun time.Time
	scanner := bufio.NewScanner(in)
	for scanner.Scan() {
		text := scanner.Text()
		if _, err := fmt.Fprintln(out, text); err != nil {
			return nil, err
		}
		if len(lines) == 0 && !step.MatchString(text) {
			continue
		}
		if len(lines) == 0 {
			begun = time.Now()
		}
		if short := []rune(text); len(short) > columns {
			text = string(short[:columns-1]) + "…"
		}
		lines = append(lines, line{text, time.Since(begun).Seconds()})
	}
	return lines, scanner.Err()
}

// draw draws the last rows at each moment.
func draw(lines []line) string {
	var keyframes, texts strings.Builder
	total := lines[len(lines)-1].at + rest
	for i, l := range lines {
		fmt.Fprintf(&keyframes, "%.2f%%{transform:translateY(%dpx)}", 100*l.at/total, (rows-i-1)*lineHeight)
		class := ""
		if step.MatchString(l.text) {
			class = ` class="step"`
		}
		fmt.Fprintf(&texts, "<text y=\"%d\"%s>%s</text>\n", (i+1)*lineHeight, class, html.EscapeString(l.text))
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" xml:space="preserve" viewBox="0 0 %[1]d %[2]d" role="img" aria-label="A run of make demo">
<style>text{font:13px ui-monospace,Menlo,Consolas,monospace;fill:#c9d1d9;white-space:pre}.step{fill:#79c0ff;font-weight:bold}
#lines{animation:run %.2[3]fs step-end infinite}@keyframes run{%[4]s}</style>
<rect width="%[1]d" height="%[2]d" rx="8" fill="#0d1117"/>
<clipPath id="window"><rect width="%[1]d" height="%[5]d"/></clipPath>
<g transform="translate(16 10)" clip-path="url(#window)"><g id="lines">
%[6]s</g></g></svg>
`, width, rows*lineHeight+24, total, keyframes.String(), rows*lineHeight+6, texts.String())
}
