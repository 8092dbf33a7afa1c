package gpusession

import (
	"math/big"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/types"
	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/attrs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/sshattr"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

// A deployment's ssh.host is required: if it became null, no plan could destroy the session any more.
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

// sessionSchema is the resource's schema.
func sessionSchema(t *testing.T) schema.Schema {
	t.Helper()
	var resp resource.SchemaResponse
	new(Resource).Schema(t.Context(), resource.SchemaRequest{}, &resp)
	return resp.Schema
}

// with is a session with one attribute set and all others null; name "" sets none.
func with(t *testing.T, name string, value any) model {
	t.Helper()
	object, _ := sessionSchema(t).Type().TerraformType(t.Context()).(tftypes.Object)
	attributes := map[string]tftypes.Value{}
	for attribute, typ := range object.AttributeTypes {
		attributes[attribute] = tftypes.NewValue(typ, nil)
	}
	if name != "" {
		attributes[name] = tftypes.NewValue(object.AttributeTypes[name], value)
	}
	var m model
	if diags := attrs.Get(t.Context(), tftypes.NewValue(object, attributes), sessionSchema(t), &m); diags.HasError() {
		t.Fatal(diags)
	}
	return m
}

// A read that changes any attribute counts as a change.
func TestEqualSeesEveryAttribute(t *testing.T) {
	t.Parallel()
	for name := range sessionSchema(t).Attributes {
		if empty, changed := with(t, "", nil), with(t, name, tftypes.UnknownValue); !empty.equal(with(t, "", nil)) || empty.equal(changed) || changed.equal(empty) {
			t.Errorf("it doesn't see %s", name)
		}
	}
}

// A session that has not changed leaves the model as it was, with the price as it was read from state.
func TestUnchangedSession(t *testing.T) {
	t.Parallel()
	price, _, err := big.ParseFloat("0.39", 10, 512, big.ToNearestEven) // as state is read
	if err != nil {
		t.Fatal(err)
	}
	m := with(t, "price_per_hour", price)
	session := shopper.Session{ID: "1", Status: shopper.Running, PricePerHour: 0.39, SSHHost: "192.0.2.1", SSHPort: 22, SSHUser: "root"}
	if diags := m.setSession(t.Context(), session, sshattr.Keys{}); diags.HasError() {
		t.Fatal(diags)
	}
	for _, test := range []struct {
		price   float64
		changed bool
	}{{0.39, false}, {0.38, false}, {0.4, true}} {
		before := m
		session.PricePerHour = test.price
		if diags := m.setSession(t.Context(), session, sshattr.Keys{}); diags.HasError() {
			t.Fatal(diags)
		}
		if changed := !m.equal(before); changed != test.changed {
			t.Errorf("at %g the model has changed: %t", test.price, changed)
		}
	}
}
