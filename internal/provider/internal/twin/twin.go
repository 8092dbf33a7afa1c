// Package twin turns a data source into an ephemeral resource that reads the same. Its arguments may be ephemeral, such as
// keys, and nothing of it is stored in state or plan.
package twin

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	data "github.com/hashicorp/terraform-plugin-framework/datasource/schema"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral"
	"github.com/hashicorp/terraform-plugin-framework/ephemeral/schema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/forms"
)

// Resource is an ephemeral resource that reads what a data source reads.
type Resource struct {
	source datasource.DataSourceWithConfigure
}

var _ ephemeral.EphemeralResourceWithConfigure = (*Resource)(nil)

// Of returns the constructor of a data source's twin.
func Of(source func() datasource.DataSource) func() ephemeral.EphemeralResource {
	return func() ephemeral.EphemeralResource {
		configured, _ := source().(datasource.DataSourceWithConfigure) // every data source of this provider is one
		return &Resource{source: configured}
	}
}

// Metadata takes the data source's name.
func (r *Resource) Metadata(ctx context.Context, req ephemeral.MetadataRequest, resp *ephemeral.MetadataResponse) {
	var named datasource.MetadataResponse
	r.source.Metadata(ctx, datasource.MetadataRequest{ProviderTypeName: req.ProviderTypeName}, &named)
	resp.TypeName = named.TypeName
}

// Configure takes what the provider's configuration made.
func (r *Resource) Configure(ctx context.Context, req ephemeral.ConfigureRequest, resp *ephemeral.ConfigureResponse) {
	var configured datasource.ConfigureResponse
	r.source.Configure(ctx, datasource.ConfigureRequest{ProviderData: req.ProviderData}, &configured)
	resp.Diagnostics.Append(configured.Diagnostics...)
}

func (r *Resource) schema(ctx context.Context) data.Schema {
	var described datasource.SchemaResponse
	r.source.Schema(ctx, datasource.SchemaRequest{}, &described)
	return described.Schema
}

// Schema has the same arguments and results.
func (r *Resource) Schema(ctx context.Context, _ ephemeral.SchemaRequest, resp *ephemeral.SchemaResponse) {
	of := r.schema(ctx)
	resp.Schema = schema.Schema{
		MarkdownDescription: of.MarkdownDescription + " As an ephemeral resource it accepts ephemeral keys, and stores neither" +
			" arguments nor results in state or plan. Requires Terraform 1.10 or OpenTofu 1.11.",
		Attributes: forms.Ephemerals(of.Attributes),
	}
}

// Open reads the data source.
func (r *Resource) Open(ctx context.Context, req ephemeral.OpenRequest, resp *ephemeral.OpenResponse) {
	of := r.schema(ctx)
	read := datasource.ReadResponse{State: tfsdk.State{Schema: of, Raw: tftypes.NewValue(of.Type().TerraformType(ctx), nil)}}
	r.source.Read(ctx, datasource.ReadRequest{Config: tfsdk.Config{Schema: of, Raw: req.Config.Raw}}, &read)
	resp.Diagnostics.Append(read.Diagnostics...)
	resp.Result.Raw = read.State.Raw
}
