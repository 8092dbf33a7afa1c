package vllmdeployment

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
)

// secrets are the secret values of a deployment, from the configuration or made by the provider.
type secrets struct {
	apiKey, hfToken, tlsKey string
	registryAuth            *container.RegistryAuth
	keyMade                 bool // whether the provider made the API key
}

// secrets collects the secret values, write-only ones from the configuration, and makes an API key if none is configured.
func (r *Resource) secrets(ctx context.Context, plan *model, config tfsdk.Config, diags *diag.Diagnostics) secrets {
	var written model
	diags.Append(config.Get(ctx, &written)...)
	t := written.tlsOf(ctx, diags)
	s := secrets{
		apiKey: written.APIKeyWO.ValueString(), hfToken: cmp.Or(written.HFTokenWO.ValueString(), plan.HFToken.ValueString()),
		tlsKey:       t.PrivateKeyWO.ValueString() + t.PrivateKey.ValueString(), // never both
		registryAuth: written.containerOptions(ctx, diags).RegistryAuth,
	}
	switch {
	case s.apiKey != "":
	case plan.APIKey.IsNull():
		diags.AddAttributeError(path.Root("api_key_wo"), "API key is missing", "api_key_wo was unknown in the plan and turned out to be"+
			" null. Remove it to have a key generated, or set a key.")
	default:
		s.keyMade = written.APIKey.IsNull()
		if plan.APIKey.IsUnknown() {
			plan.APIKey = types.StringValue(newAPIKey())
		}
		s.apiKey = plan.APIKey.ValueString()
	}
	return s
}

// newAPIKey makes a key of 256 random bits.
func newAPIKey() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: crypto/rand ends the program instead
	return "sk-" + base64.RawURLEncoding.EncodeToString(key)
}
