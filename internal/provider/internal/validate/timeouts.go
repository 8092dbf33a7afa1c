package validate

import (
	"fmt"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

// Timeouts describes a timeouts attribute, and refuses timeouts below a second: with none or a negative one, a machine
// could not even be released.
func Timeouts(attribute schema.Attribute) schema.Attribute {
	nested, ok := attribute.(schema.SingleNestedAttribute)
	if !ok {
		return attribute
	}
	nested.MarkdownDescription = "How long operations may take, such as `90s` or `1h30m`."
	for name, part := range nested.Attributes {
		if text, ok := part.(schema.StringAttribute); ok {
			text.Validators = append(text.Validators, String("must be at least a second", aSecond))
			nested.Attributes[name] = text
		}
	}
	return nested
}

// aSecond leaves text that isn't a duration to the attribute's own validator.
func aSecond(s string) error {
	if d, err := time.ParseDuration(s); err == nil && d < time.Second {
		return fmt.Errorf("%q is less than a second", s)
	}
	return nil
}
