// Package validate makes validators from the functions with which the other
// packages judge a value, so that what they would refuse at apply is refused
// when Terraform plans, and with the same words. Unknown and null values pass.
package validate

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

type stringFunc struct {
	description string
	check       func(string) error
}

// String returns a validator that refuses what check refuses.
func String(description string, check func(string) error) validator.String {
	return stringFunc{description: description, check: check}
}

func (v stringFunc) Description(context.Context) string         { return v.description }
func (v stringFunc) MarkdownDescription(context.Context) string { return v.description }

func (v stringFunc) ValidateString(_ context.Context, req validator.StringRequest, resp *validator.StringResponse) {
	if req.ConfigValue.IsNull() || req.ConfigValue.IsUnknown() {
		return
	}
	if err := v.check(req.ConfigValue.ValueString()); err != nil {
		resp.Diagnostics.AddAttributeError(req.Path, "Invalid value", fmt.Sprintf("%s: %v.", req.Path, err))
	}
}

// NotEmpty refuses "", which is never the same as leaving an attribute out.
func NotEmpty() validator.String {
	return String("must not be empty; omit the attribute instead", func(s string) error {
		if s == "" {
			return errors.New("it must not be empty; omit it instead")
		}
		return nil
	})
}

// Certificates returns a validator of certificates in PEM form.
func Certificates() validator.String {
	return String("must contain certificates in PEM form", func(s string) error {
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(s)) {
			return errors.New("it contains no certificate in PEM form; if it is a path, pass the file's content: file(\"PATH\")")
		}
		return nil
	})
}

// Cloud returns a validator of the shopper's names of clouds.
func Cloud() validator.String { return stringvalidator.OneOf(rental.Clouds()...) }

// Status returns a validator of the shopper's words for a session's status.
func Status() validator.String {
	words := make([]string, 0, len(shopper.Statuses()))
	for _, status := range shopper.Statuses() {
		words = append(words, string(status))
	}
	return stringvalidator.OneOf(words...)
}
