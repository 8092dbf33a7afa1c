package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestCompareNamesEveryDifference(t *testing.T) {
	t.Parallel()
	fresh, present := t.TempDir(), t.TempDir()
	for file, text := range map[string]string{"index.md": "new", "resources/a.md": "a", "resources/b.md": "b"} {
		writePage(t, fresh, file, text)
	}
	if err := compare(t.Context(), fresh, fresh); err != nil {
		t.Errorf("finds a difference between equal folders: %v", err)
	}
	for file, text := range map[string]string{"index.md": "old", "resources/a.md": "a", "resources/c.md": "c"} {
		writePage(t, present, file, text)
	}
	err := compare(t.Context(), fresh, present)
	if err == nil {
		t.Fatal("finds no difference")
	}
	for _, want := range []string{"index.md differ", fresh + "/resources: b.md", present + "/resources: c.md", "make docs"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "a.md") {
		t.Errorf("%q names a page that is up to date", err)
	}
}

func TestSchemaIsFiledUnderTheShortName(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"registry.opentofu.org", "registry.terraform.io"} {
		out, err := shorten([]byte(`{"format_version":"1.0","provider_schemas":{"` + host + `/cloud-gpu-shopper/shopper":{"x":1}}}`))
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			FormatVersion string         `json:"format_version"`
			Schemas       map[string]any `json:"provider_schemas"`
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		if got.FormatVersion != "1.0" || len(got.Schemas) != 1 || got.Schemas["shopper"] == nil {
			t.Errorf("from %s: %s", host, out)
		}
	}
	for _, bad := range []string{``, `{}`, `{"provider_schemas":{}}`, `{"provider_schemas":{"registry.terraform.io/hashicorp/shopper":{}}}`} {
		if out, err := shorten([]byte(bad)); err == nil {
			t.Errorf("made %s of %s", out, bad)
		}
	}
}

func TestFrontMatterIsASummary(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	const head, body = "---\npage_title: \"x\"\ndescription: |-\n  A thing.\n", "---\n\n# x\n\nA thing.\n\n| a | b |\n|---|---|\n"
	for file, more := range map[string]string{"resources/a.md": "  | a | b |\n  |---|---|\n", "guides/b.md": ""} {
		writePage(t, folder, file, head+more+body)
	}
	if err := summarize(folder); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"resources/a.md", "guides/b.md"} {
		if got, err := os.ReadFile(filepath.Join(folder, file)); err != nil || string(got) != head+body {
			t.Errorf("%s is %q, %v", file, got, err)
		}
	}
}

func TestPagesAreCategorized(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for file, text := range map[string]string{
		"resources/gpu_session.md": "---\nsubcategory: \"\"\n---\n", "functions/estimate_vram.md": "---\nsubcategory: \"\"\n---\n",
		"guides/money.md": "---\n---\n",
	} {
		writePage(t, folder, file, text)
	}
	if err := categorize(folder); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"resources/gpu_session.md": "---\nsubcategory: \"Rental\"\n---\n", "functions/estimate_vram.md": "---\nsubcategory: \"Serving\"\n---\n",
		"guides/money.md": "---\n---\n",
	} {
		if got, err := os.ReadFile(filepath.Join(folder, file)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", file, got, err)
		}
	}
	writePage(t, folder, "resources/another.md", "subcategory: \"\"\n")
	if err := categorize(folder); err == nil || !strings.Contains(err.Error(), "another.md") {
		t.Errorf("a page without a category: %v", err)
	}
}

var (
	linkPattern    = regexp.MustCompile(`\]\(([^)#\s]*)(?:#([^)\s]*))?\)`)
	headingPattern = regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchorPattern  = regexp.MustCompile(`<a id="([^"]+)">`)
)

// Every link from one page to another page or heading leads somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*", "*.md"))
	if err != nil || len(pages) < 20 {
		t.Fatal(pages, err)
	}
	links := 0
	for _, page := range append(pages, filepath.Join("..", "..", "docs", "index.md"), filepath.Join("..", "..", "README.md")) {
		for _, link := range linkPattern.FindAllStringSubmatch(readPage(t, page), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			links++
			target := page
			if link[1] != "" {
				target = filepath.Join(filepath.Dir(page), link[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s leads nowhere", page, link[0])
			} else if link[2] != "" && !anchors(readPage(t, target))[link[2]] {
				t.Errorf("%s: %s: no such heading", page, link[0])
			}
		}
	}
	if links < 40 {
		t.Errorf("%d links", links)
	}
}

// anchors are those of a page's headings, as the registries and GitHub make them, and those that the page writes itself.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, heading := range headingPattern.FindAllStringSubmatch(page, -1) {
		kept := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		found[strings.ReplaceAll(kept, " ", "-")] = true
	}
	for _, anchor := range anchorPattern.FindAllStringSubmatch(page, -1) {
		found[anchor[1]] = true
	}
	return found
}

func readPage(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writePage(t *testing.T, folder, file, text string) {
	t.Helper()
	at := filepath.Join(folder, file)
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
