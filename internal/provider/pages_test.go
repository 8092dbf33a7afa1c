package provider_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

// The pages of what no CLI tells the schema of, but Terraform from 1.14 on, are
// written by hand: each names every argument.
func TestHandWrittenPages(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	pages := map[string]*tfprotov6.SchemaBlock{}
	for name, action := range c.schema.ActionSchemas {
		pages[filepath.Join("actions", strings.TrimPrefix(name, "shopper_"))] = action.Schema.Block
	}
	for name, list := range c.schema.ListResourceSchemas {
		pages[filepath.Join("list-resources", strings.TrimPrefix(name, "shopper_"))] = list.Block
	}
	if len(pages) != 3 {
		t.Fatalf("%d pages", len(pages))
	}
	for name, block := range pages {
		data, err := os.ReadFile(filepath.Join("..", "..", "templates", name+".md.tmpl"))
		if err != nil {
			t.Error(err)
			continue
		}
		text := string(data)
		for _, attribute := range block.Attributes {
			line := "\n- `" + attribute.Name + "` ("
			at := strings.Index(text, line)
			if at < 0 {
				t.Errorf("%s doesn't describe %s", name, attribute.Name)
				continue
			}
			described, _, _ := strings.Cut(text[at+len(line):], ")")
			if strings.Contains(described, "required") != attribute.Required {
				t.Errorf("%s says of %s that it is (%s)", name, attribute.Name, described)
			}
			if attribute.NestedType == nil {
				continue
			}
			entry, _, _ := strings.Cut(text[at+1:], "\n- ")
			for _, part := range attribute.NestedType.Attributes {
				if name != filepath.Join("actions", "restart_vllm") || attribute.Name != "server" { // taken whole
					if !strings.Contains(entry, "`"+part.Name+"`") {
						t.Errorf("%s doesn't name %s.%s", name, attribute.Name, part.Name)
					}
				}
			}
		}
	}
}

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
