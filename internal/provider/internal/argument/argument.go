// Package argument describes optional arguments of data sources. Package forms turns them into those of other objects.
package argument

import (
	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// Text is a string.
func Text(description string, validators ...validator.String) schema.StringAttribute {
	return schema.StringAttribute{Optional: true, MarkdownDescription: description, Validators: validators}
}

// Secret is a string that Terraform doesn't show.
func Secret(description string, validators ...validator.String) schema.StringAttribute {
	secret := Text(description, validators...)
	secret.Sensitive = true
	return secret
}

// Number is a whole number.
func Number(description string, validators ...validator.Int64) schema.Int64Attribute {
	return schema.Int64Attribute{Optional: true, MarkdownDescription: description, Validators: validators}
}

// Port is the number of a TCP port.
func Port(description string) schema.Int64Attribute {
	return Number(description, int64validator.Between(1, 65535))
}

// Decimal is any number.
func Decimal(description string, validators ...validator.Float64) schema.Float64Attribute {
	return schema.Float64Attribute{Optional: true, MarkdownDescription: description, Validators: validators}
}

// Flag is true or false.
func Flag(description string, validators ...validator.Bool) schema.BoolAttribute {
	return schema.BoolAttribute{Optional: true, MarkdownDescription: description, Validators: validators}
}

// Texts is a set of strings, each of which the validator judges.
func Texts(description string, of validator.String) schema.SetAttribute {
	return schema.SetAttribute{
		Optional: true, ElementType: types.StringType, MarkdownDescription: description,
		Validators: []validator.Set{setvalidator.ValueStringsAre(of)},
	}
}

// Required makes an argument required.
func Required(text schema.StringAttribute) schema.StringAttribute {
	text.Required, text.Optional = true, false
	return text
}
