package main

import (
	"context"

	"github.com/google/uuid"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/mapplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// nothing is the resource null_resource, with the arguments and results that hashicorp/null 3.3.0 documents.
type nothing struct{}

type triggered struct {
	ID       types.String `tfsdk:"id"`
	Triggers types.Map    `tfsdk:"triggers"`
}

// Metadata returns the resource's name.
func (nothing) Metadata(_ context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	resp.TypeName = req.ProviderTypeName + "_resource"
}

// Schema returns the arguments and results.
func (nothing) Schema(_ context.Context, _ resource.SchemaRequest, resp *resource.SchemaResponse) {
	resp.Schema = schema.Schema{Attributes: map[string]schema.Attribute{
		"id": schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()}},
		"triggers": schema.MapAttribute{
			ElementType: types.StringType, Optional: true, PlanModifiers: []planmodifier.Map{mapplanmodifier.RequiresReplace()},
		},
	}}
}

// Create invents an id.
func (nothing) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var plan triggered
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	plan.ID = types.StringValue(uuid.NewString())
	resp.Diagnostics.Append(resp.State.Set(ctx, &plan)...)
}

// Read has nothing to read.
func (nothing) Read(context.Context, resource.ReadRequest, *resource.ReadResponse) {}

// Update is never called: each change of triggers replaces the resource.
func (nothing) Update(context.Context, resource.UpdateRequest, *resource.UpdateResponse) {}

// Delete has nothing to delete.
func (nothing) Delete(context.Context, resource.DeleteRequest, *resource.DeleteResponse) {}
