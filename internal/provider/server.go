package provider

import (
	"bytes"
	"context"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/identityschema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/gpusession"
)

// server is the framework's, except for sessions that have not changed. Those it reads and plans by itself: in the
// framework that took three quarters of the provider's time in a plan over many sessions. Its answers are the framework's,
// which TestUnchangedSessionRead and TestUnchangedSessionPlan compare. What may have changed goes to the framework.
type server struct {
	framework
	shopper *Shopper

	schema               schema.Schema         // of shopper_gpu_session
	identity             identityschema.Schema // of the same
	stateType, identType tftypes.Type
}

// framework is all that the framework's server speaks.
type framework interface {
	tfprotov6.ProviderServer
	tfprotov6.ListResourceServer
	tfprotov6.ActionServer
	tfprotov6.StateStoreServer
}

// Server returns a server that speaks the plugin protocol for the provider.
func (p *Shopper) Server() tfprotov6.ProviderServer {
	inner := providerserver.NewProtocol6(p)()
	whole, ok := inner.(framework)
	if !ok { // a later version of the framework
		return inner
	}
	ctx := context.Background()
	var described resource.SchemaResponse
	var identified resource.IdentitySchemaResponse
	session := new(gpusession.Resource)
	session.Schema(ctx, resource.SchemaRequest{}, &described)
	session.IdentitySchema(ctx, resource.IdentitySchemaRequest{}, &identified)
	return &server{
		framework: whole, shopper: p,
		schema: described.Schema, stateType: described.Schema.Type().TerraformType(ctx),
		identity: identified.IdentitySchema, identType: identified.IdentitySchema.Type().TerraformType(ctx),
	}
}

// ReadResource reads a session, and answers where that finds no change. The framework answers otherwise, with what was read.
func (s *server) ReadResource(ctx context.Context, req *tfprotov6.ReadResourceRequest) (*tfprotov6.ReadResourceResponse, error) {
	r, state := s.known(ctx, req.TypeName, req.CurrentState, req.Private)
	if r == nil {
		return s.framework.ReadResource(ctx, req)
	}
	resp := resource.ReadResponse{
		State:    tfsdk.State{Schema: s.schema, Raw: state},
		Identity: &tfsdk.ResourceIdentity{Schema: s.identity, Raw: tftypes.NewValue(s.identType, nil)},
	}
	r.Read(ctx, resource.ReadRequest{State: resp.State}, &resp)
	identity, err := tfprotov6.NewDynamicValue(s.identType, resp.Identity.Raw)
	same := req.CurrentIdentity == nil || req.CurrentIdentity.IdentityData != nil &&
		bytes.Equal(req.CurrentIdentity.IdentityData.MsgPack, identity.MsgPack)
	if err != nil || !same || len(resp.Diagnostics) > 0 || !resp.State.Raw.Equal(state) {
		return s.framework.ReadResource(gpusession.WithRead(ctx, resp), req)
	}
	return &tfprotov6.ReadResourceResponse{
		NewState: req.CurrentState, NewIdentity: &tfprotov6.ResourceIdentityData{IdentityData: &identity},
	}, nil
}

// PlanResourceChange answers where Terraform proposes no change of a session and the resource plans none.
func (s *server) PlanResourceChange(
	ctx context.Context, req *tfprotov6.PlanResourceChangeRequest,
) (*tfprotov6.PlanResourceChangeResponse, error) {
	r, state := s.known(ctx, req.TypeName, req.PriorState, req.PriorPrivate)
	if r == nil || req.Config == nil || req.ProposedNewState == nil ||
		!bytes.Equal(req.PriorState.MsgPack, req.ProposedNewState.MsgPack) {
		return s.framework.PlanResourceChange(ctx, req)
	}
	config, err := req.Config.Unmarshal(s.stateType)
	if err != nil || !r.Keeps(ctx, s.schema, config, state) {
		return s.framework.PlanResourceChange(ctx, req)
	}
	if req.PriorIdentity != nil {
		return &tfprotov6.PlanResourceChangeResponse{PlannedState: req.PriorState, PlannedIdentity: req.PriorIdentity}, nil
	}
	none, err := tfprotov6.NewDynamicValue(s.identType, tftypes.NewValue(s.identType, nil))
	return &tfprotov6.PlanResourceChangeResponse{
		PlannedState: req.PriorState, PlannedIdentity: &tfprotov6.ResourceIdentityData{IdentityData: &none},
	}, err
}

// known decodes the state of a session without private state, and returns the resource to ask; nil for anything else.
func (s *server) known(
	ctx context.Context, kind string, state *tfprotov6.DynamicValue, private []byte,
) (*gpusession.Resource, tftypes.Value) {
	s.shopper.mu.Lock()
	configured := s.shopper.data
	s.shopper.mu.Unlock()
	if kind != "shopper_gpu_session" || state == nil || len(state.MsgPack) == 0 || len(private) > 0 || len(configured) == 0 {
		return nil, tftypes.Value{}
	}
	value, err := state.Unmarshal(s.stateType)
	if err != nil || value.IsNull() {
		return nil, tftypes.Value{}
	}
	r := new(gpusession.Resource)
	r.Configure(ctx, resource.ConfigureRequest{ProviderData: configured[len(configured)-1]}, new(resource.ConfigureResponse))
	return r, value
}
