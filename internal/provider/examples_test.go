package provider_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"github.com/zclconf/go-cty/cty"
)

// The examples of what only Terraform from 1.14 on knows, judged by the provider as
// that would have them judged. (All others are given to the CLIs that there are.)
func TestExamplesOfActionsAndLists(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	files, err := filepath.Glob(filepath.Join("..", "..", "examples", "actions", "*", "*.tf"))
	if err != nil {
		t.Fatal(err)
	}
	lists, err := filepath.Glob(filepath.Join("..", "..", "examples", "list-resources", "*", "*.tfquery.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	judged := map[string]int{}
	for _, file := range append(files, lists...) {
		for _, block := range blocks(t, file) {
			judged[block.Type]++
			expectNone(t, file, c.judge(block, file))
		}
	}
	if judged["action"] != 2 || judged["list"] != 1 || judged["resource"] != 2 {
		t.Errorf("judged: %v", judged)
	}
}

func expectNone(t *testing.T, file string, diags []*tfprotov6.Diagnostic) {
	t.Helper()
	if len(diags) > 0 {
		t.Errorf("%s: %s", file, list(diags))
	}
}

// judge has the provider validate a block.
func (c *core) judge(block *hclsyntax.Block, file string) []*tfprotov6.Diagnostic {
	c.t.Helper()
	if block.Type == "resource" {
		c.references(block.Body, file)
		return c.validate(block.Labels[0], arguments(c.t, block.Body))
	}
	if block.Type != "action" && block.Type != "list" {
		return nil
	}
	body := block.Body.Blocks[0].Body
	if block.Body.Blocks[0].Type != "config" {
		c.t.Errorf("%s: %s has no config", file, block.Labels)
	}
	c.references(body, file)
	if block.Type == "list" {
		typ := c.schema.ListResourceSchemas[block.Labels[0]].ValueType()
		resp, err := c.server.(tfprotov6.ListResourceServer).ValidateListResourceConfig(c.ctx, //nolint:forcetypeassert // it has one
			&tfprotov6.ValidateListResourceConfigRequest{TypeName: block.Labels[0], Config: c.encode(typ, arguments(c.t, body))})
		c.check(err)
		return resp.Diagnostics
	}
	typ := c.schema.ActionSchemas[block.Labels[0]].Schema.ValueType()
	resp, err := c.server.(tfprotov6.ActionServer).ValidateActionConfig(c.ctx, //nolint:forcetypeassert // it has some
		&tfprotov6.ValidateActionConfigRequest{ActionType: block.Labels[0], Config: c.encode(typ, arguments(c.t, body))})
	c.check(err)
	return resp.Diagnostics
}

// references checks that what is taken of resources exists.
func (c *core) references(body *hclsyntax.Body, file string) {
	c.t.Helper()
	for _, attribute := range body.Attributes {
		for _, reference := range attribute.Expr.Variables() {
			schema, ok := c.schema.ResourceSchemas[reference.RootName()]
			if !ok || len(reference) < 3 {
				continue
			}
			name := reference[2].(hcl.TraverseAttr).Name                                //nolint:forcetypeassert // TYPE.NAME.ATTRIBUTE
			if _, ok := schema.ValueType().(tftypes.Object).AttributeTypes[name]; !ok { //nolint:forcetypeassert // every resource is an object
				c.t.Errorf("%s: %s has no %s", file, reference.RootName(), name)
			}
		}
	}
}

// blocks are the blocks of a file.
func blocks(t *testing.T, file string) []*hclsyntax.Block {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parsed, diags := hclparse.NewParser().ParseHCL(source, file)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return parsed.Body.(*hclsyntax.Body).Blocks //nolint:forcetypeassert // of native syntax
}

// arguments are a block's; what depends on something is unknown.
func arguments(t *testing.T, body *hclsyntax.Body) values {
	t.Helper()
	all := values{}
	for name, attribute := range body.Attributes {
		if len(attribute.Expr.Variables()) > 0 {
			all[name] = unknown
			continue
		}
		v, diags := attribute.Expr.Value(nil)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		all[name] = constant(t, v)
	}
	return all
}

// constant is a value as tests write it.
func constant(t *testing.T, v cty.Value) any {
	t.Helper()
	typ := v.Type()
	switch {
	case typ == cty.String:
		return v.AsString()
	case typ == cty.Number:
		f, _ := v.AsBigFloat().Float64()
		return f
	case typ == cty.Bool:
		return v.True()
	case typ.IsTupleType():
		all := []any{}
		for _, element := range v.AsValueSlice() {
			all = append(all, constant(t, element))
		}
		return all
	case typ.IsObjectType():
		all := values{}
		for name, member := range v.AsValueMap() {
			all[name] = constant(t, member)
		}
		return all
	}
	t.Fatalf("a %s: %s", typ.FriendlyName(), strings.TrimSpace(v.GoString()))
	return nil
}
