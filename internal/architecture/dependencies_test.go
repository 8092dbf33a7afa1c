package architecture

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// licenses are those that a program under MPL-2.0 may be distributed with, by what their texts say.
var licenses = []struct {
	name string
	text *regexp.Regexp // of words with one space between them
}{
	{"MPL-2.0", regexp.MustCompile(`Mozilla Public License,? [Vv]ersion 2\.0`)},
	{"Apache-2.0", regexp.MustCompile(`Apache License Version 2\.0, January 2004`)},
	{"MIT", regexp.MustCompile(`Permission is hereby granted, free of charge, to any person obtaining a copy of this software`)},
	{"BSD-3-Clause", regexp.MustCompile(`Redistribution and use in source and binary forms.* Neither the name`)},
	{"BSD-2-Clause", regexp.MustCompile(`Redistribution and use in source and binary forms`)},
}

// licenseOf returns a license's name, "" for one that isn't in the list.
func licenseOf(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	for _, license := range licenses {
		if license.text.MatchString(text) {
			return license.name
		}
	}
	return ""
}

// moduleLicense reads the license in a module's folder.
func moduleLicense(t *testing.T, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "LICEN[CS]E*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no license: %v", folder, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return licenseOf(string(text))
}

// linked are the folders of the modules that the released programs are built from, on any system, by the modules' paths.
func linked(t *testing.T) map[string]string {
	t.Helper()
	folders := map[string]string{}
	for line := range strings.Lines(goCommand(t, "run", "./tools/notices", "-list")) {
		path, folder, _ := strings.Cut(strings.TrimSpace(line), " ")
		folders[path] = folder
	}
	return folders
}

func goCommand(t *testing.T, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", args...)
	command.Dir = filepath.Join("..", "..")
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go %s: %v", args[0], err)
	}
	return string(out)
}

func TestLicenses(t *testing.T) {
	t.Parallel()
	folders := linked(t)
	if len(folders) < 40 {
		t.Fatalf("only %d modules: %q", len(folders), slices.Collect(maps.Keys(folders)))
	}
	for path, folder := range folders {
		if moduleLicense(t, folder) == "" {
			t.Errorf("%s has a license that is not in the list: may it be distributed with a program under MPL-2.0?", path)
		}
	}
}

// CONTRIBUTING says of each module that go.mod asks for why it is there, and its license.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	root, _ := tracked(t)
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| ([^|]+) \\| [^|]+ \\|$").FindAllStringSubmatch(string(text), -1) {
		rows[row[1]] = row[2]
	}
	direct := strings.NewReader(goCommand(t, "list", "-m", "-json=Path,Dir,Main,Indirect", "all"))
	for modules := json.NewDecoder(direct); ; {
		var m struct {
			Path, Dir      string
			Main, Indirect bool
		}
		if err := modules.Decode(&m); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if m.Main || m.Indirect {
			continue
		}
		complain(t, explained(m.Path, rows[m.Path], moduleLicense(t, m.Dir)))
		delete(rows, m.Path)
	}
	for path := range rows {
		if strings.Contains(path, ".") && strings.Contains(path, "/") {
			t.Errorf("CONTRIBUTING explains %s, which go.mod doesn't ask for", path)
		}
	}
}

func explained(path, row, license string) []string {
	switch {
	case row == "":
		return []string{fmt.Sprintf("CONTRIBUTING doesn't say why go.mod asks for %s (%s)", path, license)}
	case row != license:
		return []string{fmt.Sprintf("CONTRIBUTING says that %s has the license %s, it is %s", path, row, license)}
	default:
		return nil
	}
}

func TestDependencyRulesCanFail(t *testing.T) {
	t.Parallel()
	expect(t, explained("example.com/m", "", "MIT"), "doesn't say why")
	expect(t, explained("example.com/m", "MIT", "MPL-2.0"), "it is MPL-2.0")
	expect(t, explained("example.com/m", "MIT", "MIT"), "")
	if name := licenseOf("Business Source License 1.1"); name != "" {
		t.Errorf("it may be distributed as %s", name)
	}
	if name := licenseOf("GNU GENERAL PUBLIC LICENSE Version 3, 29 June 2007"); name != "" {
		t.Errorf("it may be distributed as %s", name)
	}
}
