package provider_test

import (
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

// The parts of the protocol that only newer CLIs use.

// open opens an ephemeral resource; the second result is for Close.
func (c *core) open(name string, arguments values) (tftypes.Value, []byte, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	typ := c.schema.EphemeralResourceSchemas[name].ValueType()
	resp, err := c.server.OpenEphemeralResource(c.t.Context(), &tfprotov6.OpenEphemeralResourceRequest{
		TypeName: name, Config: c.encode(typ, arguments), ClientCapabilities: &tfprotov6.OpenEphemeralResourceClientCapabilities{},
	})
	c.check(err)
	if failed(resp.Diagnostics) {
		return tftypes.Value{}, nil, resp.Diagnostics
	}
	return c.decode(typ, resp.Result), resp.Private, resp.Diagnostics
}

func (c *core) close(name string, private []byte) []*tfprotov6.Diagnostic {
	c.t.Helper()
	resp, err := c.server.CloseEphemeralResource(c.t.Context(), &tfprotov6.CloseEphemeralResourceRequest{TypeName: name, Private: private})
	c.check(err)
	return resp.Diagnostics
}

// invoke validates, plans and invokes an action, and returns its progress.
func (c *core) invoke(name string, arguments values) ([]string, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	server, ok := c.server.(tfprotov6.ActionServer)
	if !ok {
		c.t.Fatal("the provider has no actions")
	}
	config := c.encode(c.schema.ActionSchemas[name].Schema.ValueType(), arguments)
	checked, err := server.ValidateActionConfig(c.t.Context(), &tfprotov6.ValidateActionConfigRequest{ActionType: name, Config: config})
	c.check(err)
	if failed(checked.Diagnostics) {
		return nil, checked.Diagnostics
	}
	plan, err := server.PlanAction(c.t.Context(), &tfprotov6.PlanActionRequest{ActionType: name, Config: config, ClientCapabilities: &tfprotov6.PlanActionClientCapabilities{}})
	c.check(err)
	if failed(plan.Diagnostics) {
		return nil, plan.Diagnostics
	}
	stream, err := server.InvokeAction(c.t.Context(), &tfprotov6.InvokeActionRequest{ActionType: name, Config: config, ClientCapabilities: &tfprotov6.InvokeActionClientCapabilities{}})
	c.check(err)
	var progress []string
	var diags []*tfprotov6.Diagnostic
	for event := range stream.Events {
		switch event := event.Type.(type) {
		case tfprotov6.ProgressInvokeActionEventType:
			progress = append(progress, event.Message)
		case tfprotov6.CompletedInvokeActionEventType:
			diags = event.Diagnostics
		}
	}
	return progress, diags
}

// listing is one result of a list resource.
type listing struct {
	name     string
	resource tftypes.Value
	identity *tfprotov6.ResourceIdentityData
}

func (c *core) list(name string, arguments values, limit int64) ([]listing, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	server, ok := c.server.(tfprotov6.ListResourceServer)
	if !ok {
		c.t.Fatal("the provider has no list resources")
	}
	config := c.encode(c.schema.ListResourceSchemas[name].ValueType(), arguments)
	checked, err := server.ValidateListResourceConfig(c.t.Context(), &tfprotov6.ValidateListResourceConfigRequest{TypeName: name, Config: config})
	c.check(err)
	if failed(checked.Diagnostics) {
		return nil, checked.Diagnostics
	}
	stream, err := server.ListResource(c.t.Context(), &tfprotov6.ListResourceRequest{
		TypeName: name, Config: config, IncludeResource: true, Limit: limit,
	})
	c.check(err)
	var all []listing
	var diags []*tfprotov6.Diagnostic
	for result := range stream.Results {
		diags = append(diags, result.Diagnostics...)
		if result.Resource != nil {
			all = append(all, listing{result.DisplayName, c.decode(c.resource(name), result.Resource), result.Identity})
		}
	}
	return all, diags
}

// generate makes a resource's configuration as `terraform query
// -generate-config-out` does.
func (c *core) generate(name string, state tftypes.Value) tftypes.Value {
	c.t.Helper()
	typ := c.resource(name)
	resp, err := c.server.GenerateResourceConfig(c.t.Context(), &tfprotov6.GenerateResourceConfigRequest{
		TypeName: name, State: c.dynamic(typ, state),
	})
	c.check(err)
	if failed(resp.Diagnostics) {
		c.t.Fatalf("generating: %s", list(resp.Diagnostics))
	}
	return c.decode(typ, resp.Config)
}
