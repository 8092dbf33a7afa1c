package vllmdeployment

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
)

// Credentials for a registry that only the configuration has reach the request.
func TestWriteOnlyCredentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		written map[string]any
		want    container.RegistryAuth
	}{
		"password":       {map[string]any{"username": "u", "password_wo": "p"}, container.RegistryAuth{Username: "u", Password: "p"}},
		"identity token": {map[string]any{"identity_token_wo": "t"}, container.RegistryAuth{IdentityToken: "t"}},
		"stored":         {map[string]any{"username": "u", "password": "p"}, container.RegistryAuth{Username: "u", Password: "p"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var diags diag.Diagnostics
			r := &Resource{data: &providerdata.Data{}}
			arguments := func(auth map[string]any) map[string]any {
				return map[string]any{
					"model": "m", "ssh": map[string]any{"host": "h", "user": "u"}, "api_key": "k",
					"container": map[string]any{"image": "vllm/vllm-openai:v0.33.0", "registry_auth": auth},
				}
			}
			written := tfsdk.State{Schema: r.schema(t.Context())}
			diags.Append(written.Set(t.Context(), new(r.decode(t.Context(), arguments(test.written), &diags)))...)
			plan := r.decode(t.Context(), arguments(map[string]any{"username": test.want.Username}), &diags)
			given := r.secrets(t.Context(), &plan, tfsdk.Config(written), &diags)
			request := r.request(t.Context(), &plan, given, &diags)
			if diags.HasError() || request.Container.RegistryAuth == nil || *request.Container.RegistryAuth != test.want {
				t.Errorf("%+v, want %+v: %v", request.Container.RegistryAuth, test.want, diags)
			}
		})
	}
}
