// Package serverattr is the attribute server, which identifies a vLLM server on its machine.
package serverattr

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/argument"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
)

type model struct {
	Runtime   types.String `tfsdk:"runtime"`
	ID        types.String `tfsdk:"id"`
	Name      types.String `tfsdk:"name"`
	Owner     types.String `tfsdk:"owner"`
	Port      types.Int64  `tfsdk:"port"`
	Listen    types.String `tfsdk:"listen"`
	Directory types.String `tfsdk:"directory"`
}

// Types are the types of the attribute's parts.
var Types = map[string]attr.Type{
	"runtime": types.StringType, "id": types.StringType, "name": types.StringType, "owner": types.StringType,
	"port": types.Int64Type, "listen": types.StringType, "directory": types.StringType,
}

// Ref is the server that the attribute names, the zero value if it is null or unknown.
func Ref(ctx context.Context, object types.Object, diags *diag.Diagnostics) deploy.Ref {
	m := attrs.Object[model](ctx, object, diags)
	return deploy.Ref{
		Runtime: deploy.Kind(m.Runtime.ValueString()), ID: m.ID.ValueString(), Name: m.Name.ValueString(), Owner: m.Owner.ValueString(),
		Port: int(m.Port.ValueInt64()), Listen: m.Listen.ValueString(), Directory: m.Directory.ValueString(),
	}
}

// Object is the attribute's value for a server.
func Object(ctx context.Context, ref deploy.Ref, diags *diag.Diagnostics) types.Object {
	object, d := types.ObjectValueFrom(ctx, Types, model{
		Runtime: types.StringValue(string(ref.Runtime)), ID: types.StringValue(ref.ID), Name: types.StringValue(ref.Name),
		Owner: types.StringValue(ref.Owner), Port: types.Int64Value(int64(ref.Port)), Listen: attrs.Text(ref.Listen),
		Directory: attrs.Text(ref.Directory),
	})
	diags.Append(d...)
	return object
}

// Argument is the attribute as an argument.
func Argument(text string, required bool) schema.SingleNestedAttribute {
	part := func(text string) schema.StringAttribute { return argument.Text(text, validate.NotEmpty()) }
	return schema.SingleNestedAttribute{
		Required: required, Optional: !required, MarkdownDescription: text,
		Attributes: map[string]schema.Attribute{
			"runtime": argument.Required(argument.Text("Its runtime: `container` or `process`.",
				stringvalidator.OneOf(string(deploy.Container), string(deploy.Process)))),
			"id":        argument.Required(part("The container's ID, or the process's ID and start time.")),
			"name":      part("Its name."),
			"owner":     part("The deployment that it belongs to."),
			"port":      argument.Port("Its port."),
			"listen":    part("Its address on the machine."),
			"directory": part("Directory of its files."),
		},
	}
}
