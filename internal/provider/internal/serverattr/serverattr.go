// Package serverattr is the attribute server: what a vLLM server is found by on its machine.
package serverattr

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	action "github.com/hashicorp/terraform-plugin-framework/action/schema"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-framework/types/basetypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/forms"
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

// Types are the attribute's own.
var Types = map[string]attr.Type{
	"runtime": types.StringType, "id": types.StringType, "name": types.StringType, "owner": types.StringType,
	"port": types.Int64Type, "listen": types.StringType, "directory": types.StringType,
}

// Ref is what the attribute says, the zero value where it is null or unknown.
func Ref(ctx context.Context, object types.Object) (deploy.Ref, diag.Diagnostics) {
	if object.IsNull() || object.IsUnknown() {
		return deploy.Ref{}, nil
	}
	var m model
	diags := object.As(ctx, &m, basetypes.ObjectAsOptions{})
	return deploy.Ref{
		Runtime: deploy.Kind(m.Runtime.ValueString()), ID: m.ID.ValueString(), Name: m.Name.ValueString(), Owner: m.Owner.ValueString(),
		Port: int(m.Port.ValueInt64()), Listen: m.Listen.ValueString(), Directory: m.Directory.ValueString(),
	}, diags
}

// Object is the attribute of a server.
func Object(ctx context.Context, ref deploy.Ref) (types.Object, diag.Diagnostics) {
	return types.ObjectValueFrom(ctx, Types, model{
		Runtime: types.StringValue(string(ref.Runtime)), ID: types.StringValue(ref.ID), Name: types.StringValue(ref.Name),
		Owner: types.StringValue(ref.Owner), Port: types.Int64Value(int64(ref.Port)), Listen: attrs.Text(ref.Listen),
		Directory: attrs.Text(ref.Directory),
	})
}

// DataSourceArgument is the attribute as a data source's argument.
func DataSourceArgument(text string, required bool) schema.SingleNestedAttribute {
	argument := func(required bool, text string) schema.StringAttribute {
		return schema.StringAttribute{
			Required: required, Optional: !required, MarkdownDescription: text, Validators: []validator.String{validate.NotEmpty()},
		}
	}
	runtime := argument(true, "Its runtime: `container` or `process`.")
	runtime.Validators = []validator.String{stringvalidator.OneOf(string(deploy.Container), string(deploy.Process))}
	return schema.SingleNestedAttribute{
		Required: required, Optional: !required, MarkdownDescription: text,
		Attributes: map[string]schema.Attribute{
			"runtime": runtime,
			"id":      argument(true, "The container's ID, or the process's ID and start time."),
			"name":    argument(false, "Its name."),
			"owner":   argument(false, "The deployment that it belongs to."),
			"port": schema.Int64Attribute{
				Optional: true, MarkdownDescription: "Its port.", Validators: []validator.Int64{int64validator.Between(1, 65535)},
			},
			"listen":    argument(false, "Its address on the machine."),
			"directory": argument(false, "Directory of its files."),
		},
	}
}

// ActionArgument is the attribute as an action's argument.
func ActionArgument(text string) action.Attribute {
	return forms.Action(DataSourceArgument(text, true))
}
