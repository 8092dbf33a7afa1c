package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

const (
	begin = "<!-- What follows is written by make bench. -->\n"
	end   = "<!-- The end of what make bench writes. -->\n"
)

// The guide's template, the page that make docs makes from it, and the picture of both.
var (
	pages    = []string{"templates/guides/performance.md.tmpl", "docs/guides/performance.md"}
	pictures = []string{"templates/guides/performance.svg", "docs/guides/performance.svg"}
)

// write puts the figures into the guide.
func write(rows []row, at conditions) error {
	for _, file := range pages {
		page, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if page, err = replaced(page, table(rows)+"\n"+at.String()); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := os.WriteFile(file, page, 0o644); err != nil {
			return err
		}
	}
	for _, file := range pictures {
		if err := os.WriteFile(file, []byte(picture(rows)), 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("Written to %s.\n", strings.Join(append(pages, pictures...), ", "))
	return nil
}

// replaced is the page with another text between the marks.
func replaced(page []byte, text string) ([]byte, error) {
	head, rest, found := bytes.Cut(page, []byte(begin))
	_, tail, ended := bytes.Cut(rest, []byte(end))
	if !found || !ended {
		return nil, fmt.Errorf("it has no %q and %q", strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return bytes.Join([][]byte{head, []byte(begin), []byte("\n" + text + "\n"), []byte(end), tail}, nil), nil
}

// table is the rows in Markdown.
func table(rows []row) string {
	var b strings.Builder
	b.WriteString("| measured | figure | goal | made of |\n|---|---|---|---|\n")
	for _, r := range rows {
		goal := ""
		if r.goal > 0 {
			goal = "at most " + number(r.goal, r.unit)
			if r.value > r.goal {
				goal += ", missed"
			}
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.what, r.amount(), goal, r.note)
	}
	return b.String()
}
