// Package result describes attributes that a data source computes.
package result

import "github.com/hashicorp/terraform-plugin-framework/datasource/schema"

// Text is a result that is a string.
func Text(description string) schema.StringAttribute {
	return schema.StringAttribute{Computed: true, MarkdownDescription: description}
}

// Number is a result that is a whole number.
func Number(description string) schema.Int64Attribute {
	return schema.Int64Attribute{Computed: true, MarkdownDescription: description}
}

// Decimal is a result that is any number.
func Decimal(description string) schema.Float64Attribute {
	return schema.Float64Attribute{Computed: true, MarkdownDescription: description}
}

// Flag is a result that is true or false.
func Flag(description string) schema.BoolAttribute {
	return schema.BoolAttribute{Computed: true, MarkdownDescription: description}
}

// Object is a result with these parts.
func Object(description string, parts map[string]schema.Attribute) schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{Computed: true, MarkdownDescription: description, Attributes: parts}
}

// List is a result that is a list of objects with these parts.
func List(description string, parts map[string]schema.Attribute) schema.ListNestedAttribute {
	return schema.ListNestedAttribute{
		Computed: true, MarkdownDescription: description, NestedObject: schema.NestedAttributeObject{Attributes: parts},
	}
}
