package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// tables are what replaces a guide's line <!-- table: NAME -->: what the provider itself uses.
var tables = map[string]func() string{
	"releases":     vllm.ReleaseTable,
	"findings":     findings,
	"vllm":         serverCauses,
	"images":       func() string { images, _ := container.Causes(); return causes(images) },
	"engine":       func() string { _, installations := container.Causes(); return causes(installations) },
	"installation": func() string { return causes(process.Causes()) },
}

var tablePattern = regexp.MustCompile(`<!-- table: (\w+) -->\n`)

// fill writes the tables into the guides of a folder. One that is in no guide is an error.
func fill(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "guides", "*.md"))
	if err != nil {
		return err
	}
	placed := map[string]bool{}
	for _, file := range files {
		page, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, match := range tablePattern.FindAllStringSubmatch(string(page), -1) {
			table, known := tables[match[1]]
			if !known {
				return fmt.Errorf("%s asks for a table %s, which tools/docs doesn't have", file, match[1])
			}
			placed[match[1]] = true
			page = []byte(strings.ReplaceAll(string(page), match[0], table()))
		}
		if err := os.WriteFile(file, page, 0o644); err != nil {
			return err
		}
	}
	for name := range tables {
		if !placed[name] {
			return fmt.Errorf("no guide has the table %s", name)
		}
	}
	return nil
}

// findings is the table of what preflight may find.
func findings() string {
	var text strings.Builder
	text.WriteString("| Code | What preflight found | What to do |\n|---|---|---|\n")
	for _, f := range lifecycle.Findings() {
		fmt.Fprintf(&text, "| `%s` | %s | %s |\n", f.Code, cell(f.Finds), cell(f.Cure))
	}
	return text.String()
}

// serverCauses is a table for each kind of cause why vLLM fails.
func serverCauses() string {
	var text strings.Builder
	for i, part := range vllm.Causes() {
		if i > 0 {
			text.WriteString("\n")
		}
		fmt.Fprintf(&text, "### %s\n\n%s", part.Title, causes(part.Causes))
	}
	return text.String()
}

func causes(list []vllm.Cause) string {
	var text strings.Builder
	text.WriteString("| The error says | What to do |\n|---|---|\n")
	for _, c := range list {
		fmt.Fprintf(&text, "| %s | %s |\n", cell(c.Cause), cell(c.WayOut))
	}
	return text.String()
}

// cell escapes a text for a table's cell.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }
