package provider_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/defaults"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider"
)

// A default in the schema is in the attribute's description, for pages and editors: they don't show it themselves.
func TestDefaultsAreDescribed(t *testing.T) {
	t.Parallel()
	seen := 0
	for _, object := range provider.New("test").Resources(t.Context()) {
		var of resource.SchemaResponse
		object().Schema(t.Context(), resource.SchemaRequest{}, &of)
		seen += described(t, "", of.Schema.Attributes)
	}
	if seen < 15 {
		t.Errorf("%d defaults were seen, want more", seen)
	}
}

var valueOfDefault = regexp.MustCompile("^value defaults to `?\"?(.*?)\"?`?$")

// described returns how many of the attributes have a default, and reports those whose description doesn't name it.
func described(t *testing.T, path string, attributes map[string]schema.Attribute) (seen int) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		var of defaults.Describer
		switch a := attributes[name].(type) {
		case schema.SingleNestedAttribute:
			seen += described(t, path+name+".", a.Attributes)
		case schema.StringAttribute:
			of = describer(a.Default)
		case schema.BoolAttribute:
			of = describer(a.Default)
		case schema.Int64Attribute:
			of = describer(a.Default)
		case schema.Float64Attribute:
			of = describer(a.Default)
		}
		if of == nil {
			continue
		}
		seen++
		value := valueOfDefault.ReplaceAllString(of.MarkdownDescription(t.Context()), "Default `$1`.")
		if !strings.Contains(attributes[name].GetMarkdownDescription(), value) {
			t.Errorf("the description of %s%s doesn't say: %s", path, name, value)
		}
	}
	return seen
}

// describer returns nil for an attribute without a default.
func describer[D defaults.Describer](of D) defaults.Describer {
	if any(of) == nil {
		return nil
	}
	return of
}
