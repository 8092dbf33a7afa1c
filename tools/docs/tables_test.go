package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// The guide has each cause that an error may give, with its way out.
func TestEveryCauseIsInTheGuide(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "guides", "when-a-deployment-fails.md"))
	if err != nil {
		t.Fatal(err)
	}
	images, engines := container.Causes()
	all := append(append(images, engines...), process.Causes()...)
	for _, part := range vllm.Causes() {
		all = append(all, part.Causes...)
	}
	for _, c := range all {
		if row := "| " + cell(c.Cause) + " | " + cell(c.WayOut) + " |\n"; c.Cause == "" || c.WayOut == "" || !strings.Contains(string(text), row) {
			t.Errorf("run make docs: the guide lacks %s", row)
		}
	}
	for _, f := range lifecycle.Findings() {
		if row := "| `" + f.Code + "` | " + cell(f.Finds) + " | " + cell(f.Cure) + " |\n"; f.Cure == "" || !strings.Contains(string(text), row) {
			t.Errorf("run make docs: the guide lacks %s", row)
		}
	}
	if len(all) < 80 {
		t.Errorf("%d causes", len(all))
	}
}

func TestTablesAreFilledIn(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var text strings.Builder
	for name := range tables {
		text.WriteString("before\n\n<!-- table: " + name + " -->\n\nafter\n")
	}
	writePage(t, folder, "guides/all.md", text.String())
	if err := fill(folder); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(folder, "guides", "all.md"))
	if err != nil || strings.Contains(string(got), "<!--") || strings.Count(string(got), "\n\nafter\n") != len(tables) {
		t.Errorf("%v\n%s", err, got)
	}
	for problem, page := range map[string]string{"doesn't have": "<!-- table: other -->\n", "no guide has": "nothing"} {
		writePage(t, folder, "guides/all.md", page)
		if err := fill(folder); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v", problem, err)
		}
	}
}
