package provider_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
)

// Every object of the provider has an example where the page generator and people look for it.
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
	var declared, listed []string
	for _, match := range declaredPattern.FindAllStringSubmatch(read(t, filepath.Join(folder, "variables.tf")), -1) {
		declared = append(declared, match[1])
	}
	for _, match := range rowPattern.FindAllStringSubmatch(read(t, filepath.Join(folder, "README.md")), -1) {
		listed = append(listed, strings.Split(strings.Trim(match[1], "`"), "`, `")...)
	}
	slices.Sort(declared)
	slices.Sort(listed)
	if len(declared) == 0 || !slices.Equal(declared, listed) {
		t.Errorf("the README lists %v, the module has %v", listed, declared)
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

var outputPattern = regexp.MustCompile(`(?m)^output "[^"]*" \{\n(?:.*\n)*?\}$`)

// No example outputs a value that is measured at every read: a second plan would not be empty.
func TestExamplesOutputNothingThatMoves(t *testing.T) {
	t.Parallel()
	moving := map[string]bool{}
	var look func(attributes []*tfprotov6.SchemaAttribute, moves bool)
	look = func(attributes []*tfprotov6.SchemaAttribute, all bool) {
		for _, a := range attributes {
			moves := all || strings.Contains(a.Description, attrs.Moves)
			if a.NestedType != nil {
				look(a.NestedType.Attributes, moves)
			}
			if number := a.NestedType == nil && (a.Type == nil || !a.Type.Is(tftypes.String)); moves && (number || a.Name == "fetched_at") {
				moving[a.Name] = true
			}
		}
	}
	for _, source := range newCore(t).schema.DataSourceSchemas {
		look(source.Block.Attributes, false)
	}
	for _, stays := range []string{"context_length", "memory_mib", "index", "exit_code"} { // of shopper_vllm_health's checks
		delete(moving, stays)
	}
	for _, name := range []string{"latency_seconds", "hours_left", "cost", "total_cost", "by_cloud", "temperature_c", "fetched_at"} {
		if !moving[name] {
			t.Errorf("no page says that %s moves", name)
		}
	}
	outputs := 0
	root := filepath.Join("..", "..", "examples")
	if err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(file) != ".tf" {
			return err
		}
		for _, output := range outputPattern.FindAllString(read(t, file), -1) {
			outputs++
			for name := range moving {
				if regexp.MustCompile(`\.` + name + `\b`).MatchString(output) {
					t.Errorf("%s outputs %s", file, name)
				}
			}
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if outputs < 20 {
		t.Errorf("%d outputs were found", outputs)
	}
}

var requiredPattern = regexp.MustCompile(`(?m)^ *source += "cloud-gpu-shopper/shopper"\n(.*)$`)

// Wherever a configuration says where the provider comes from, it says which version it was written for.
func TestConfigurationsPinTheProvider(t *testing.T) {
	t.Parallel()
	found := 0
	for _, folder := range []string{"examples", "templates", "README.md"} {
		if err := filepath.WalkDir(filepath.Join("..", "..", folder), func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			for _, match := range requiredPattern.FindAllStringSubmatch(read(t, file), -1) {
				found++
				if !strings.HasPrefix(strings.TrimSpace(match[1]), "version = ") {
					t.Errorf("%s names no version of the provider", file)
				}
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	if found < 10 {
		t.Errorf("%d configurations were found", found)
	}
}

var (
	variablePattern = regexp.MustCompile("environment variable `(SHOPPER_[A-Z_]+)`")
	variableRead    = regexp.MustCompile(`"(SHOPPER_[A-Z_]+)"`)
	variableRow     = regexp.MustCompile("(?m)^\\| `(SHOPPER_[A-Z_]+)` \\| `([a-z_.]+)` \\|$")
)

// The index page's table has the environment variables that the arguments name.
func TestVariablesAreInTheTable(t *testing.T) {
	t.Parallel()
	said := map[string]string{}
	var look func(prefix string, attributes []*tfprotov6.SchemaAttribute)
	look = func(prefix string, attributes []*tfprotov6.SchemaAttribute) {
		for _, a := range attributes {
			if match := variablePattern.FindStringSubmatch(a.Description); match != nil {
				said[match[1]] = prefix + a.Name
			}
			if a.NestedType != nil {
				look(a.Name+".", a.NestedType.Attributes)
			}
		}
	}
	look("", newCore(t).schema.Provider.Block.Attributes)
	table := map[string]string{}
	for _, row := range variableRow.FindAllStringSubmatch(read(t, filepath.Join("..", "..", "docs", "index.md")), -1) {
		table[row[1]] = row[2]
	}
	if len(said) != 4 || !maps.Equal(said, table) {
		t.Errorf("the arguments say %v, the page %v", said, table)
	}
	// No other variable is read, neither here nor by another package of the provider.
	read := map[string]string{}
	for _, folder := range []string{".", "../deploy", "../host", "../journal", "../pace", "../rental", "../shopper", "../vllm"} {
		if err := filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") || strings.Contains(file, "testdata") {
				return err
			}
			text, err := os.ReadFile(file)
			for _, match := range variableRead.FindAllStringSubmatch(string(text), -1) {
				read[match[1]] = said[match[1]]
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	delete(read, "SHOPPER_RUN") // set for the commands that run on a machine
	if !maps.Equal(read, said) {
		t.Errorf("these are read: %v, the arguments say %v", read, said)
	}
}
