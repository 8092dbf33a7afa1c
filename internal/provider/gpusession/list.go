package gpusession

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework-validators/listvalidator"
	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/list"
	"github.com/hashicorp/terraform-plugin-framework/list/schema"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/diagnostic"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sessionview"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/rental"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// ListResource lists sessions for `terraform query`, with configuration to import them.
type ListResource struct {
	data *providerdata.Data
}

var _ list.ListResourceWithConfigure = (*ListResource)(nil)

// NewListResource returns the list resource.
func NewListResource() list.ListResource { return &ListResource{} }

type listModel struct {
	NamePrefix   types.String `tfsdk:"name_prefix"`
	Clouds       types.List   `tfsdk:"clouds"`
	AllConsumers types.Bool   `tfsdk:"all_consumers"`
}

// Metadata names the resource that is listed.
func (l *ListResource) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_gpu_session"
}

// Configure takes what the provider's configuration made.
func (l *ListResource) Configure(_ context.Context, req resource.ConfigureRequest, resp *resource.ConfigureResponse) {
	l.data = providerdata.From(req.ProviderData, &resp.Diagnostics)
}

// ListResourceConfigSchema describes the arguments.
func (l *ListResource) ListResourceConfigSchema(
	_ context.Context, _ list.ListResourceSchemaRequest, resp *list.ListResourceSchemaResponse,
) {
	resp.Schema = schema.Schema{
		MarkdownDescription: "Sessions that have not ended, for `terraform query`. The configuration that `-generate-config-out` writes" +
			" imports them and changes nothing: its `requirements` describe the rented machine. The shopper doesn't report which offer" +
			" was rented or a session's one-time key, so an imported machine needs the provider's `ssh` credentials.\n\nRequires" +
			" Terraform 1.14. With older Terraform versions and OpenTofu, find sessions with the data source" +
			" `shopper_gpu_sessions`.",
		Attributes: map[string]schema.Attribute{
			"name_prefix": schema.StringAttribute{
				Optional: true, Validators: []validator.String{validate.NotEmpty()},
				MarkdownDescription: "Beginning of the session's name.",
			},
			"clouds": schema.ListAttribute{
				Optional: true, ElementType: types.StringType, MarkdownDescription: "Clouds to list. Default: all.",
				Validators: []validator.List{listvalidator.ValueStringsAre(validate.Cloud())},
			},
			"all_consumers": schema.BoolAttribute{
				Optional: true, MarkdownDescription: "List other consumers' sessions too. Default `false`.",
			},
		},
	}
}

// List lists the sessions.
func (l *ListResource) List(ctx context.Context, req list.ListRequest, stream *list.ListResultsStream) {
	var diags diag.Diagnostics
	defer func() {
		if diags.HasError() {
			stream.Results = list.ListResultsStreamDiagnostics(diags)
		}
	}()
	defer diagnostic.Recover(ctx, &diags, "listing sessions")
	var m listModel
	diags.Append(req.Config.Get(ctx, &m)...)
	var clouds []string
	if !m.Clouds.IsNull() {
		diags.Append(m.Clouds.ElementsAs(ctx, &clouds, false)...)
	}
	if diags.HasError() || !l.data.Ready(&diags) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	all, err := sessionview.Live(ctx, l.data.Client)
	if err != nil {
		diags.Append(diagnostic.Error("Could not list sessions", err))
		return
	}
	var results []list.ListResult
	for _, s := range all {
		if req.Limit > 0 && int64(len(results)) == req.Limit {
			break
		}
		if (m.AllConsumers.ValueBool() || sessionview.Ours(s, l.data.Consumer)) &&
			(len(clouds) == 0 || slices.Contains(clouds, s.Cloud)) && strings.HasPrefix(sessionview.Name(s), m.NamePrefix.ValueString()) {
			results = append(results, toResult(ctx, req, s))
		}
	}
	stream.Results = slices.Values(results)
}

// toResult describes a session as an import would.
func toResult(ctx context.Context, req list.ListRequest, s shopper.Session) list.ListResult {
	result := req.NewListResult(ctx)
	result.DisplayName = fmt.Sprintf("%s (%d × %s at %s, %s an hour, until %s)", nameOf(s), rental.GPUs(s.Cloud, s.GPUCount), s.GPUType,
		s.Cloud, rental.Dollars(s.PricePerHour), attrs.Moment(s.ExpiresAt).ValueString())
	result.Diagnostics.Append(result.Identity.Set(ctx, identityModel{ID: types.StringValue(s.ID)})...)
	if !req.IncludeResource {
		return result
	}
	result.Diagnostics.Append(describe(ctx, result.Resource, s)...)
	for name, value := range map[string]attr.Value{
		"id": types.StringValue(s.ID), "status": types.StringValue(string(s.Status)), "cloud": types.StringValue(s.Cloud),
		"gpu_type": types.StringValue(s.GPUType), "gpu_count": types.Int64Value(int64(rental.GPUs(s.Cloud, s.GPUCount))),
		"price_per_hour": attrs.Exact(s.PricePerHour), "mark": types.StringValue(s.ConsumerID),
		"created_at": attrs.Moment(s.CreatedAt), "expires_at": attrs.Moment(s.ExpiresAt), "reserved_hours": hoursOf(s),
	} {
		result.Diagnostics.Append(result.Resource.SetAttribute(ctx, path.Root(name), value)...)
	}
	return result
}
