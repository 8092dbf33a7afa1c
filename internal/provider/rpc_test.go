package provider_test

import (
	"context"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
)

const (
	sessionType    = "shopper_gpu_session"
	deploymentType = "shopper_vllm_deployment"
	offersType     = "shopper_gpu_offers"
	endpointType   = "shopper_vllm_endpoint"
	healthType     = "shopper_vllm_health"
	logsType       = "shopper_vllm_logs"
)

// values are a configuration's arguments; omitted ones are null. A value is a string, an int, a float64, a bool, a []any, a
// values, or unknown.
type values map[string]any

type unknownValue struct{}

// unknown is a value that is not known yet.
var unknown = unknownValue{}

// core stands in for Terraform: it speaks the plugin protocol with the provider in this process.
type core struct {
	t      *testing.T
	ctx    context.Context // of every call
	server tfprotov6.ProviderServer
	schema *tfprotov6.GetProviderSchemaResponse
}

func newCore(t *testing.T) *core {
	t.Helper()
	return newCoreOf(t, newProvider(t).Server())
}

func newCoreOf(t *testing.T, server tfprotov6.ProviderServer) *core {
	t.Helper()
	schema, err := server.GetProviderSchema(t.Context(), &tfprotov6.GetProviderSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if len(schema.Diagnostics) > 0 {
		t.Fatalf("the schema is refused: %s", list(schema.Diagnostics))
	}
	return &core{t: t, ctx: t.Context(), server: server, schema: schema}
}

// under is the same core, whose calls are canceled with ctx.
func (c *core) under(ctx context.Context) *core {
	other := *c
	other.ctx = ctx
	return &other
}

// configured is a core with a provider that uses the world.
func (w *world) configured(t *testing.T, arguments values) *core {
	t.Helper()
	return w.configuredAt(t, newProvider(t).Server(), arguments)
}

func (w *world) configuredAt(t *testing.T, server tfprotov6.ProviderServer, arguments values) *core {
	t.Helper()
	c := newCoreOf(t, server)
	all := values{"url": w.URL(), "journal_directory": w.journal}
	for name, value := range arguments {
		all[name] = value
	}
	if diags := c.configure(all); len(diags) > 0 {
		t.Fatalf("configuring: %s", list(diags))
	}
	return c
}

// check fails the test for an error of the protocol, as opposed to the provider's diagnostics.
func (c *core) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *core) configure(arguments values) []*tfprotov6.Diagnostic {
	c.t.Helper()
	config := c.encode(c.schema.Provider.ValueType(), arguments)
	checked, err := c.server.ValidateProviderConfig(c.ctx, &tfprotov6.ValidateProviderConfigRequest{Config: config})
	c.check(err)
	if failed(checked.Diagnostics) {
		return checked.Diagnostics
	}
	resp, err := c.server.ConfigureProvider(c.ctx, &tfprotov6.ConfigureProviderRequest{
		Config: config, TerraformVersion: "1.11.4", ClientCapabilities: &tfprotov6.ConfigureProviderClientCapabilities{},
	})
	c.check(err)
	return append(checked.Diagnostics, resp.Diagnostics...)
}

func (c *core) validate(name string, arguments values) []*tfprotov6.Diagnostic {
	c.t.Helper()
	resp, err := c.server.ValidateResourceConfig(c.ctx, &tfprotov6.ValidateResourceConfigRequest{
		TypeName: name, Config: c.encode(c.resource(name), arguments),
		ClientCapabilities: &tfprotov6.ValidateResourceConfigClientCapabilities{WriteOnlyAttributesAllowed: true},
	})
	c.check(err)
	return resp.Diagnostics
}

func (c *core) validateData(name string, arguments values) []*tfprotov6.Diagnostic {
	c.t.Helper()
	resp, err := c.server.ValidateDataResourceConfig(c.ctx, &tfprotov6.ValidateDataResourceConfigRequest{
		TypeName: name, Config: c.encode(c.schema.DataSourceSchemas[name].ValueType(), arguments),
	})
	c.check(err)
	return resp.Diagnostics
}

// object is a resource as Terraform keeps it between two calls.
type object struct {
	state   tftypes.Value
	private []byte
}

// planned is a plan, with what it was made from.
type planned struct {
	*tfprotov6.PlanResourceChangeResponse
	config, prior *tfprotov6.DynamicValue
	value         tftypes.Value
}

// replaced are the attributes whose change replaces the resource.
func (p planned) replaced() []string {
	var names []string
	for _, path := range p.RequiresReplace {
		names = append(names, path.String())
	}
	return names
}

// plan plans a change from prior, the zero object for a creation.
func (c *core) plan(name string, prior object, arguments values) planned {
	c.t.Helper()
	typ := c.resource(name)
	if prior.state.Type() == nil {
		prior.state = tftypes.NewValue(typ, nil)
	}
	config := value(c.t, typ, arguments, "")
	p := planned{config: c.dynamic(typ, config), prior: c.dynamic(typ, prior.state)}
	proposed := propose(c.t, c.schema.ResourceSchemas[name].Block.Attributes, prior.state, config)
	resp, err := c.server.PlanResourceChange(c.ctx, &tfprotov6.PlanResourceChangeRequest{
		TypeName: name, PriorState: p.prior, ProposedNewState: c.dynamic(typ, proposed), Config: p.config, PriorPrivate: prior.private,
	})
	c.check(err)
	p.PlanResourceChangeResponse = resp
	if !failed(resp.Diagnostics) {
		p.value = c.decode(typ, resp.PlannedState)
	}
	return p
}

// apply applies a plan. The object is what is in state afterwards, also after errors; its state is null if nothing is.
func (c *core) apply(name string, p planned) (object, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	if failed(p.Diagnostics) {
		c.t.Fatalf("planning: %s", list(p.Diagnostics))
	}
	resp, err := c.server.ApplyResourceChange(c.ctx, &tfprotov6.ApplyResourceChangeRequest{
		TypeName: name, PriorState: p.prior, PlannedState: p.PlannedState, Config: p.config, PlannedPrivate: p.PlannedPrivate,
	})
	c.check(err)
	made := object{c.decode(c.resource(name), resp.NewState), resp.Private}
	if !failed(resp.Diagnostics) {
		consistent(c.t, p.value, made.state)
	}
	return made, resp.Diagnostics
}

// consistent fails the test if the result differs from the plan, which Terraform reports as the provider's defect.
func consistent(t *testing.T, plan, made tftypes.Value) {
	t.Helper()
	for name, want := range members(t, plan) {
		if got := get(t, made, name); want.IsFullyKnown() && !want.Equal(got) {
			t.Errorf("%s was planned as %s and came out as %s", name, want, got)
		}
	}
}

// create plans and applies a new resource, and fails the test for any error.
func (c *core) create(name string, arguments values) object {
	c.t.Helper()
	made, diags := c.apply(name, c.plan(name, object{}, arguments))
	if failed(diags) {
		c.t.Fatalf("creating: %s", list(diags))
	}
	return made
}

// destroy destroys a resource. Like Terraform for a tainted one, it sends no private state.
func (c *core) destroy(name string, o object) (object, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	typ := c.resource(name)
	null := c.dynamic(typ, tftypes.NewValue(typ, nil))
	resp, err := c.server.ApplyResourceChange(c.ctx, &tfprotov6.ApplyResourceChangeRequest{
		TypeName: name, PriorState: c.dynamic(typ, o.state), PlannedState: null, Config: null,
	})
	c.check(err)
	return object{c.decode(typ, resp.NewState), resp.Private}, resp.Diagnostics
}

// read refreshes a resource. Like a Terraform without identities, it sends none.
func (c *core) read(name string, o object) (object, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	resp, err := c.server.ReadResource(c.ctx, &tfprotov6.ReadResourceRequest{
		TypeName: name, CurrentState: c.dynamic(c.resource(name), o.state), Private: o.private,
	})
	c.check(err)
	return object{c.decode(c.resource(name), resp.NewState), resp.Private}, resp.Diagnostics
}

// importID imports a resource and refreshes it, as Terraform does.
func (c *core) importID(name, id string) (object, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	return c.imported(&tfprotov6.ImportResourceStateRequest{TypeName: name, ID: id})
}

// importIdentity does so by its identity.
func (c *core) importIdentity(name string, identity values) (object, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	schemas, err := c.server.GetResourceIdentitySchemas(c.ctx, &tfprotov6.GetResourceIdentitySchemasRequest{})
	c.check(err)
	data := c.encode(schemas.IdentitySchemas[name].ValueType(), identity)
	return c.imported(&tfprotov6.ImportResourceStateRequest{TypeName: name, Identity: &tfprotov6.ResourceIdentityData{IdentityData: data}})
}

func (c *core) imported(req *tfprotov6.ImportResourceStateRequest) (object, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	resp, err := c.server.ImportResourceState(c.ctx, req)
	c.check(err)
	if failed(resp.Diagnostics) || len(resp.ImportedResources) == 0 {
		return object{}, resp.Diagnostics
	}
	imported := resp.ImportedResources[0]
	read, diags := c.read(req.TypeName, object{c.decode(c.resource(req.TypeName), imported.State), imported.Private})
	return read, append(resp.Diagnostics, diags...)
}

// readData reads a data source.
func (c *core) readData(name string, arguments values) (tftypes.Value, []*tfprotov6.Diagnostic) {
	c.t.Helper()
	typ := c.schema.DataSourceSchemas[name].ValueType()
	resp, err := c.server.ReadDataSource(c.ctx, &tfprotov6.ReadDataSourceRequest{
		TypeName: name, Config: c.encode(typ, arguments),
	})
	c.check(err)
	if failed(resp.Diagnostics) {
		return tftypes.Value{}, resp.Diagnostics
	}
	return c.decode(typ, resp.State), resp.Diagnostics
}

func (c *core) resource(name string) tftypes.Type {
	c.t.Helper()
	schema, ok := c.schema.ResourceSchemas[name]
	if !ok {
		c.t.Fatalf("there is no resource %s", name)
	}
	return schema.ValueType()
}

func (c *core) encode(typ tftypes.Type, arguments values) *tfprotov6.DynamicValue {
	c.t.Helper()
	return c.dynamic(typ, value(c.t, typ, arguments, ""))
}

func (c *core) dynamic(typ tftypes.Type, v tftypes.Value) *tfprotov6.DynamicValue {
	c.t.Helper()
	encoded, err := tfprotov6.NewDynamicValue(typ, v)
	c.check(err)
	return &encoded
}

func (c *core) decode(typ tftypes.Type, encoded *tfprotov6.DynamicValue) tftypes.Value {
	c.t.Helper()
	v, err := encoded.Unmarshal(typ)
	c.check(err)
	return v
}

// value makes a value of a type out of plain Go values.
func value(t *testing.T, typ tftypes.Type, v any, at string) tftypes.Value {
	t.Helper()
	switch v := v.(type) {
	case nil:
		return tftypes.NewValue(typ, nil)
	case unknownValue:
		return tftypes.NewValue(typ, tftypes.UnknownValue)
	case tftypes.Value:
		object, ok := typ.(tftypes.Object)
		if !ok || v.Type().Is(typ) || !v.IsKnown() || v.IsNull() {
			return v
		}
		all := values{} // core fills in what an object lacks
		for name, member := range members(t, v) {
			if _, ok := object.AttributeTypes[name]; ok {
				all[name] = member
			}
		}
		return value(t, typ, all, at)
	case values:
		all := map[string]tftypes.Value{}
		switch typ := typ.(type) {
		case tftypes.Map:
			for name, element := range v {
				all[name] = value(t, typ.ElementType, element, at+"."+name)
			}
		case tftypes.Object:
			for name := range v {
				if _, ok := typ.AttributeTypes[name]; !ok {
					t.Fatalf("there is no attribute %s.%s", at, name)
				}
			}
			for name, attribute := range typ.AttributeTypes {
				all[name] = value(t, attribute, v[name], at+"."+name)
			}
		default:
			t.Fatalf("%s is a %s", at, typ)
		}
		return tftypes.NewValue(typ, all)
	case []any:
		var elements []tftypes.Value
		var of tftypes.Type
		switch typ := typ.(type) {
		case tftypes.Set:
			of = typ.ElementType
		case tftypes.List:
			of = typ.ElementType
		default:
			t.Fatalf("%s is a %s", at, typ)
		}
		for _, element := range v {
			elements = append(elements, value(t, of, element, at+"[]"))
		}
		return tftypes.NewValue(typ, elements)
	case float64: // as Terraform reads it from a configuration
		number, _, err := big.ParseFloat(strconv.FormatFloat(v, 'g', -1, 64), 10, 512, big.ToNearestEven)
		if err != nil {
			t.Fatal(err)
		}
		return tftypes.NewValue(typ, number)
	default:
		return tftypes.NewValue(typ, v)
	}
}

// propose does what Terraform does before it asks for a plan: it takes the configuration, and for what the provider computes
// the prior state.
func propose(t *testing.T, schema []*tfprotov6.SchemaAttribute, prior, config tftypes.Value) tftypes.Value {
	t.Helper()
	configured, before := members(t, config), map[string]tftypes.Value{}
	if !prior.IsNull() {
		before = members(t, prior)
	}
	for _, attribute := range schema {
		switch {
		case attribute.WriteOnly:
			configured[attribute.Name] = tftypes.NewValue(attribute.ValueType(), nil)
		case attribute.Computed && configured[attribute.Name].IsNull():
			if v, ok := before[attribute.Name]; ok {
				configured[attribute.Name] = v
			}
		}
	}
	return tftypes.NewValue(config.Type(), configured)
}

func members(t *testing.T, v tftypes.Value) map[string]tftypes.Value {
	t.Helper()
	all := map[string]tftypes.Value{}
	if err := v.As(&all); err != nil {
		t.Fatal(err)
	}
	return maps.Clone(all) // As hands out the value's own
}

// get is an attribute of an object, nested ones with dots.
func get(t *testing.T, v tftypes.Value, name string) tftypes.Value {
	t.Helper()
	for part := range strings.SplitSeq(name, ".") {
		next, ok := members(t, v)[part]
		if !ok {
			t.Fatalf("there is no %s of %s", part, name)
		}
		v = next
	}
	return v
}

// text is a string attribute, "" when it is null or unknown.
func text(t *testing.T, v tftypes.Value, name string) string {
	t.Helper()
	var s string
	if v = get(t, v, name); v.IsKnown() && !v.IsNull() {
		if err := v.As(&s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func failed(diags []*tfprotov6.Diagnostic) bool {
	return slices.ContainsFunc(diags, func(d *tfprotov6.Diagnostic) bool {
		return d.Severity == tfprotov6.DiagnosticSeverityError
	})
}

// list is the diagnostics as text.
func list(diags []*tfprotov6.Diagnostic) string {
	var b strings.Builder
	for _, d := range diags {
		fmt.Fprintf(&b, "%s: %s (%s)\n%s\n", d.Severity, d.Summary, d.Attribute, d.Detail)
	}
	return b.String()
}

// expect fails the test unless the diagnostics contain all wanted texts in this order, or are none if nothing is wanted.
func expect(t *testing.T, diags []*tfprotov6.Diagnostic, want ...string) {
	t.Helper()
	said := list(diags)
	if len(want) == 0 {
		if len(diags) > 0 {
			t.Errorf("unexpected:\n%s", said)
		}
		return
	}
	if !words(want...).MatchString(said) {
		t.Errorf("want %q in\n%s", want, said)
	}
}
