// Package forms turns attributes of a data source into those of other kinds of objects. Each function has a case for each type of
// attribute that such objects use. Any other type becomes nil, which fails wherever the schema is read.
package forms

import (
	"github.com/hashicorp/terraform-plugin-framework/action/schema"
	data "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	ephemeral "github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	resource "github.com/hashicorp/terraform-plugin-framework/resource/schema"
)

// each converts every attribute.
func each[A any](of map[string]data.Attribute, convert func(data.Attribute) A) map[string]A {
	all := make(map[string]A, len(of))
	for name, attribute := range of {
		all[name] = convert(attribute)
	}
	return all
}

// Ephemerals are attributes of an ephemeral resource.
func Ephemerals(of map[string]data.Attribute) map[string]ephemeral.Attribute {
	return each(of, toEphemeral)
}

func toEphemeral(of data.Attribute) ephemeral.Attribute {
	switch a := of.(type) {
	case data.StringAttribute:
		return ephemeral.StringAttribute(a)
	case data.BoolAttribute:
		return ephemeral.BoolAttribute(a)
	case data.Int64Attribute:
		return ephemeral.Int64Attribute(a)
	case data.Float64Attribute:
		return ephemeral.Float64Attribute(a)
	case data.SetAttribute:
		return ephemeral.SetAttribute(a)
	case data.ListAttribute:
		return ephemeral.ListAttribute(a)
	case data.ListNestedAttribute:
		return ephemeral.ListNestedAttribute{
			Required: a.Required, Optional: a.Optional, Computed: a.Computed, MarkdownDescription: a.MarkdownDescription,
			NestedObject: ephemeral.NestedAttributeObject{Attributes: Ephemerals(a.NestedObject.Attributes)},
		}
	case data.SingleNestedAttribute:
		return ephemeral.SingleNestedAttribute{
			Required: a.Required, Optional: a.Optional, Computed: a.Computed, MarkdownDescription: a.MarkdownDescription,
			Validators: a.Validators, Attributes: Ephemerals(a.Attributes),
		}
	}
	return nil
}

// Resource is an argument of a resource.
func Resource(of data.Attribute) resource.Attribute {
	switch a := of.(type) {
	case data.StringAttribute:
		return resource.StringAttribute{
			Required: a.Required, Optional: a.Optional, Sensitive: a.Sensitive, MarkdownDescription: a.MarkdownDescription,
			Validators: a.Validators,
		}
	case data.Int64Attribute:
		return resource.Int64Attribute{
			Required: a.Required, Optional: a.Optional, MarkdownDescription: a.MarkdownDescription, Validators: a.Validators,
		}
	case data.SingleNestedAttribute:
		return resource.SingleNestedAttribute{
			Required: a.Required, Optional: a.Optional, MarkdownDescription: a.MarkdownDescription,
			Attributes: each(a.Attributes, Resource),
		}
	}
	return nil
}

// Actions are arguments of an action. Actions have no sensitive attributes, and the framework refuses values of write-only ones;
// Terraform shows none of their arguments.
func Actions(of map[string]data.Attribute) map[string]schema.Attribute { return each(of, toAction) }

func toAction(of data.Attribute) schema.Attribute {
	switch a := of.(type) {
	case data.StringAttribute:
		return schema.StringAttribute{
			Required: a.Required, Optional: a.Optional, MarkdownDescription: a.MarkdownDescription, Validators: a.Validators,
		}
	case data.BoolAttribute:
		return schema.BoolAttribute{
			Required: a.Required, Optional: a.Optional, MarkdownDescription: a.MarkdownDescription, Validators: a.Validators,
		}
	case data.Int64Attribute:
		return schema.Int64Attribute{
			Required: a.Required, Optional: a.Optional, MarkdownDescription: a.MarkdownDescription, Validators: a.Validators,
		}
	case data.SingleNestedAttribute:
		return schema.SingleNestedAttribute{
			Required: a.Required, Optional: a.Optional, MarkdownDescription: a.MarkdownDescription, Attributes: Actions(a.Attributes),
		}
	}
	return nil
}
