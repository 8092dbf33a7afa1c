// Command null is a stand-in for the provider hashicorp/null, against which tools/bench measures. It has the one resource
// null_resource, with the arguments and results that hashicorp/null 3.3.0 documents, on the same plugin framework.
package main

import (
	"context"
	"log"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

func main() {
	serve := providerserver.ServeOpts{Address: "registry.terraform.io/hashicorp/null"}
	if err := providerserver.Serve(context.Background(), func() provider.Provider { return standIn{} }, serve); err != nil {
		log.Fatal(err)
	}
}

type standIn struct{}

// Metadata names the provider.
func (standIn) Metadata(_ context.Context, _ provider.MetadataRequest, resp *provider.MetadataResponse) {
	resp.TypeName = "null"
}

// Schema has no arguments.
func (standIn) Schema(context.Context, provider.SchemaRequest, *provider.SchemaResponse) {}

// Configure has nothing to do.
func (standIn) Configure(context.Context, provider.ConfigureRequest, *provider.ConfigureResponse) {}

// DataSources are none.
func (standIn) DataSources(context.Context) []func() datasource.DataSource { return nil }

// Resources is the one.
func (standIn) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{func() resource.Resource { return nothing{} }}
}

// nothing is the resource null_resource.
type nothing struct{}

type model struct {
	ID       types.String `tfsdk:"id"`
	Triggers types.Map    `tfsdk:"triggers"`
}

// Metadata names the resource.
func (nothing) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_resource"
}

// Schema has the arguments and results of the real one.
func (nothing) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"id": schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()}},
		"triggers": schema.MapAttribute{
			ElementType: types.StringType, Optional: true, PlanModifiers: []planmodifier.Map{mapplanmodifier.RequiresReplace()},
		},
	}}
}

// Create makes an id up.
func (nothing) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan model
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	plan.ID = types.StringValue(uuid.NewString())
	resp.Diagnostics.Append(resp.State.Set(ctx, &plan)...)
}

// Read has nothing to read.
func (nothing) Read(context.Context, resource.ReadRequest, *resource.ReadResponse) {}

// Update is never asked for: every change of triggers replaces the resource.
func (nothing) Update(context.Context, resource.UpdateRequest, *resource.UpdateResponse) {}

// Delete has nothing to delete.
func (nothing) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}
