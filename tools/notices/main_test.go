package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNotices(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for file, text := range map[string]string{
		"a/LICENSE": "MIT\n", "a/NOTICE.txt": "by A", "a/license.go": "package a", "a/b/c/COPYING": "inside", "d/LICENCE": "MIT", "e/README": "no license",
	} {
		file = filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := func(folder string) string { return filepath.Join(root, folder) }
	a := &module{path: "x/a", version: "v1", folder: at("a"), packages: []string{at("a"), at("a/b/c")}}
	d := &module{path: "x/d", version: "v2", folder: at("d"), packages: []string{at("d")}}
	text, err := notices(t.Context(), []*module{a, d})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nx/a v1\nx/d v2\n\nMIT\n", "\nx/a v1\n\nby A\n", "\nx/a v1\n\ninside\n", "\nGo go1", "The Go Authors"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing from\n%.1000s", want, text)
		}
	}
	if strings.Contains(string(text), "package a") {
		t.Error("takes source code for a notice")
	}
	if text, err := notices(t.Context(), []*module{{path: "x/e", folder: at("e")}}); err == nil || !strings.Contains(err.Error(), "x/e has no license") {
		t.Errorf("a module without a license: %v\n%.1000s", err, text)
	}
}
