package gpusession

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/types"

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
