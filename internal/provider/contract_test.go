package provider_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// argumentsOf calls look for every argument of every object, with its path.
func argumentsOf(t *testing.T, look func(path string, a *tfprotov6.SchemaAttribute)) {
	t.Helper()
	s := newCore(t).schema
	var walk func(path string, attributes []*tfprotov6.SchemaAttribute)
	walk = func(path string, attributes []*tfprotov6.SchemaAttribute) {
		for _, a := range attributes {
			if !a.Optional && !a.Required {
				continue
			}
			look(path+a.Name, a)
			if a.NestedType != nil {
				walk(path+a.Name+".", a.NestedType.Attributes)
			}
		}
	}
	walk("provider ", s.Provider.Block.Attributes)
	for kind, objects := range map[string]map[string]*tfprotov6.Schema{
		"resource ": s.ResourceSchemas, "data ": s.DataSourceSchemas, "ephemeral ": s.EphemeralResourceSchemas,
		"list ": s.ListResourceSchemas,
	} {
		for name, object := range objects {
			walk(kind+name+".", object.Block.Attributes)
		}
	}
	for name, action := range s.ActionSchemas {
		walk("action "+name+".", action.Schema.Block.Attributes)
	}
}

// Arguments whose order means nothing are sets, so that another order is no change. The framework has no sets for list resources.
func TestOnlyOrderedArgumentsAreLists(t *testing.T) {
	t.Parallel()
	var lists []string
	argumentsOf(t, func(path string, a *tfprotov6.SchemaAttribute) {
		if a.Type != nil && a.Type.Is(tftypes.List{}) || a.NestedType != nil && a.NestedType.Nesting == tfprotov6.SchemaObjectNestingModeList {
			lists = append(lists, path)
		}
	})
	slices.Sort(lists)
	if want := []string{"list shopper_gpu_session.clouds", "resource shopper_vllm_deployment.args"}; !slices.Equal(lists, want) {
		t.Errorf("these are lists: %q, want %q", lists, want)
	}
}

var (
	duration = regexp.MustCompile(`timeout|since|older_than|interval|duration|_seconds|_minutes`)
	size     = regexp.MustCompile(`vram|memory|disk|shm_size`)
)

// A duration is a text with its unit. A size says its unit in the name, or is a text with it.
func TestArgumentsHaveTheirUnits(t *testing.T) {
	t.Parallel()
	durations, sizes := 0, 0
	argumentsOf(t, func(path string, a *tfprotov6.SchemaAttribute) {
		number := a.Type != nil && a.Type.Is(tftypes.Number)
		switch {
		case duration.MatchString(a.Name):
			durations++
			if number {
				t.Errorf("%s is a duration and a number", path)
			}
		case size.MatchString(a.Name) && a.Name != "gpu_memory_utilization":
			sizes++
			if number && !strings.HasSuffix(a.Name, "_gb") && !strings.HasSuffix(a.Name, "_gib") {
				t.Errorf("%s doesn't say its unit", path)
			}
		}
	})
	if durations < 15 || sizes < 5 {
		t.Errorf("%d durations and %d sizes were found", durations, sizes)
	}
}
