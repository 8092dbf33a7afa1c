package vllmdeployment

import (
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"
)

// What a launch leaves on the machine for an import has the arguments, and none of the secrets nor how to log in.
func TestNoteHoldsNoSecret(t *testing.T) {
	t.Parallel()
	r, diags := &Resource{}, diag.Diagnostics{}
	login := func() map[string]any {
		return map[string]any{"host": "h", "user": "u", "private_key": "planted-login"}
	}
	ssh := login()
	ssh["bastion"] = login()
	plan := r.decode(t.Context(), map[string]any{
		"model": "Qwen/Qwen2.5-7B-Instruct", "ssh": ssh, "api_key": "planted-api-key", "hf_token": "planted-token", "api_key_wo_version": 7,
		"tls": map[string]any{"certificate": "a certificate", "private_key": "planted-tls-key"},
		"container": map[string]any{
			"image": "vllm/vllm-openai:v0.33.0",
			"registry_auth": map[string]any{
				"username": "somebody", "password": "planted-password", "identity_token": "planted-identity",
			},
		},
	}, &diags)
	if plan.APIKey.ValueString() != "planted-api-key" {
		t.Fatalf("nothing was planted: %v", diags)
	}
	text := r.note(t.Context(), plan, false, &diags)
	if diags.HasError() || strings.Contains(text, "planted") || strings.Contains(text, `"ssh"`) {
		t.Errorf("%v: %s", diags, text)
	}
	for _, want := range []string{"Qwen/Qwen2.5-7B-Instruct", "a certificate", "somebody", `"api_key_wo_version":7`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in %s", want, text)
		}
	}
}
