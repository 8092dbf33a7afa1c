package provider_test

import (
	"os"
	"path/filepath"
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
