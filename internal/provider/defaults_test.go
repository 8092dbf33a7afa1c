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

var saysDefault = regexp.MustCompile("\\bDefault [`0-9]")

// relative have a default that depends on other arguments, on the machine or on the release.
var relative = map[string]bool{"drain_timeout": true, "container.name": true, "process.directory": true}

// described returns how many of the attributes have a default, and reports those whose description doesn't name it,
// and those without one whose description names one.
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
			text := attributes[name].GetMarkdownDescription()
			if saysDefault.MatchString(text) && !relative[path+name] && !strings.HasPrefix(path, "timeouts.") {
				t.Errorf("the plan doesn't show the default of %s%s: %s", path, name, text)
			}
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
