package gpusession

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// A deployment's ssh.host is required: where it turned null, no plan would be left by
// which the session could be destroyed.
func TestAddressOutlivesTheSession(t *testing.T) {
	t.Parallel()
	known := sshattr.Keys{
		Host: types.StringValue("192.0.2.1"), Port: types.Int64Value(2222), User: types.StringValue("root"), PrivateKey: types.StringValue("key"),
	}
	for _, test := range []struct {
		name    string
		session shopper.Session
		host    types.String
		port    types.Int64
	}{
		{"not reported", shopper.Session{Status: shopper.Failed}, known.Host, known.Port},
		{"moved", shopper.Session{SSHHost: "192.0.2.2", SSHPort: 22, SSHUser: "root"}, types.StringValue("192.0.2.2"), types.Int64Value(22)},
	} {
		var m model
		if diags := m.setSession(t.Context(), test.session, known); diags.HasError() {
			t.Fatal(diags)
		}
		got, diags := m.sshOf(t.Context())
		if diags.HasError() {
			t.Fatal(diags)
		}
		if !got.Host.Equal(test.host) || !got.Port.Equal(test.port) || !got.User.Equal(known.User) || !got.PrivateKey.Equal(known.PrivateKey) {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}

// A read that changes one attribute, whichever it is, is no read that changes nothing.
func TestEqualSeesEveryAttribute(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var schema resource.SchemaResponse
	new(Resource).Schema(ctx, resource.SchemaRequest{}, &schema)
	with := func(name string, value any) model {
		object, _ := schema.Schema.Type().TerraformType(ctx).(tftypes.Object)
		attributes := map[string]tftypes.Value{}
		for attribute, typ := range object.AttributeTypes {
			attributes[attribute] = tftypes.NewValue(typ, nil)
		}
		if name != "" {
			attributes[name] = tftypes.NewValue(object.AttributeTypes[name], value)
		}
		var m model
		if diags := (tfsdk.State{Schema: schema.Schema, Raw: tftypes.NewValue(object, attributes)}).Get(ctx, &m); diags.HasError() {
			t.Fatal(diags)
		}
		return m
	}
	for name := range schema.Schema.Attributes {
		if empty, changed := with("", nil), with(name, tftypes.UnknownValue); !empty.equal(with("", nil)) || empty.equal(changed) || changed.equal(empty) {
			t.Errorf("it doesn't see %s", name)
		}
	}
}
