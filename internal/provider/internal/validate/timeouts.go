package validate

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// shortestTimeout is less than anything takes.
const shortestTimeout = time.Second

// Timeouts describes a timeouts attribute, and refuses times in which nothing can
// be done: with 0 or a negative one, a machine could not even be released.
func Timeouts(attribute schema.Attribute) schema.Attribute {
	nested, ok := attribute.(schema.SingleNestedAttribute)
	if !ok {
		return attribute
	}
	nested.MarkdownDescription = "How long operations may take, such as `90s` or `1h30m`."
	nested.Validators = append(nested.Validators, longEnough{})
	return nested
}

type longEnough struct{}

func (longEnough) Description(context.Context) string {
	return "each must be at least " + shortestTimeout.String()
}
func (v longEnough) MarkdownDescription(ctx context.Context) string { return v.Description(ctx) }

// ValidateObject leaves what is no span of time to the attributes' own validators.
func (longEnough) ValidateObject(_ context.Context, req validator.ObjectRequest, resp *validator.ObjectResponse) {
	for name, value := range req.ConfigValue.Attributes() {
		text, ok := value.(types.String)
		if !ok || text.IsNull() || text.IsUnknown() {
			continue
		}
		if d, err := time.ParseDuration(text.ValueString()); err == nil && d < shortestTimeout {
			at := req.Path.AtName(name)
			resp.Diagnostics.AddAttributeError(at, "Invalid value", fmt.Sprintf("%s: %q is less than a second.", at, text.ValueString()))
		}
	}
}
