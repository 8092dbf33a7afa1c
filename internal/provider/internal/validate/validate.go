// Package validate makes validators from functions of other packages, so that a plan refuses with the same words what an
// apply would refuse. The validators accept unknown and null values.
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

// NotEmpty returns a validator that refuses "", which differs from an omitted attribute.
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

// Cloud returns a validator of the shopper's names for clouds.
func Cloud() validator.String { return stringvalidator.OneOf(rental.Clouds()...) }

// Status returns a validator of the shopper's session statuses.
func Status() validator.String {
	words := make([]string, 0, len(shopper.Statuses()))
	for _, status := range shopper.Statuses() {
		words = append(words, string(status))
	}
	return stringvalidator.OneOf(words...)
}
