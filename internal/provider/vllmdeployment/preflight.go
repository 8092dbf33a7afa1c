package vllmdeployment

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework-validators/setvalidator"
	"github.com/hashicorp/terraform-plugin-framework-validators/stringvalidator"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
)

func preflightAttribute() schema.SingleNestedAttribute {
	return schema.SingleNestedAttribute{
		Optional:            true,
		MarkdownDescription: "How the machine is checked before anything is started on it.",
		Attributes: map[string]schema.Attribute{
			"ignore": schema.SetAttribute{
				Optional: true, ElementType: types.StringType,
				Validators: []validator.Set{setvalidator.ValueStringsAre(stringvalidator.OneOf(lifecycle.Codes()...))},
				MarkdownDescription: "Findings to report as warnings instead of errors, if you know better. A change restarts nothing." +
					" The codes are " + lifecycle.DescribeCodes() + ".",
			},
		},
	}
}

// ignored are the codes of findings that don't stop a start.
func (m model) ignored(ctx context.Context, diags *diag.Diagnostics) []string {
	return attrs.Strings(ctx, attrs.Object[preflightModel](ctx, m.Preflight, diags).Ignore, diags)
}
