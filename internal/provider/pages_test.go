package provider_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every object of the provider has an example, where the generator of pages and
// people look for it.
func TestEveryObjectHasAnExample(t *testing.T) {
	t.Parallel()
	schema := newCore(t).schema
	var files []string
	add := func(kind, name, file string) { files = append(files, filepath.Join(kind, name, file)) }
	for name := range schema.ResourceSchemas {
		add("resources", name, "resource.tf")
	}
	for name := range schema.DataSourceSchemas {
		add("data-sources", name, "data-source.tf")
	}
	for name := range schema.EphemeralResourceSchemas {
		add("ephemeral-resources", name, "ephemeral-resource.tf")
	}
	for name := range schema.Functions {
		add("functions", name, "function.tf")
	}
	for name := range schema.ActionSchemas {
		add("actions", name, "action.tf")
	}
	for name := range schema.ListResourceSchemas {
		add("list-resources", name, "list-resource.tfquery.hcl")
	}
	if len(files) != 19 {
		t.Errorf("%d objects, want 19: %v", len(files), files)
	}
	for _, file := range files {
		if _, err := os.Stat(filepath.Join("..", "..", "examples", file)); err != nil {
			t.Error(err)
		}
	}
}

var (
	declaredPattern = regexp.MustCompile(`(?m)^variable "(\w+)"`)
	rowPattern      = regexp.MustCompile("(?m)^\\| (`[^|]*`) \\|")
)

// The module's README has a row for each of its inputs, and no other.
func TestModuleInputsAreInItsREADME(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("..", "..", "examples", "modules", "vllm-service")
	var declared, told []string
	for _, match := range declaredPattern.FindAllStringSubmatch(read(t, filepath.Join(folder, "variables.tf")), -1) {
		declared = append(declared, match[1])
	}
	for _, match := range rowPattern.FindAllStringSubmatch(read(t, filepath.Join(folder, "README.md")), -1) {
		told = append(told, strings.Split(strings.Trim(match[1], "`"), "`, `")...)
	}
	slices.Sort(declared)
	slices.Sort(told)
	if len(declared) == 0 || !slices.Equal(declared, told) {
		t.Errorf("the README tells of %v, the module has %v", told, declared)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
