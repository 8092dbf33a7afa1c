package vllmdeployment

import (
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// An import ID contains all that an identity does.
func TestParseImportID(t *testing.T) {
	t.Parallel()
	text, number := types.StringValue, types.Int64Value
	const session = "aaf49b51-3c8d-4989-88e2-a8f13a3075dc"
	for id, want := range map[string]identity{
		session + "/vllm-8000": {SessionID: text(session), Name: text("vllm-8000")},
		"me@h/n":               {User: text("me"), Host: text("h"), Name: text("n")},
		"me@[2001:db8::1]:2222/n": {
			User: text("me"), Host: text("[2001:db8::1]"), Port: number(2222), Name: text("n"),
		},
		"me@h/n:/srv/vllm": {User: text("me"), Host: text("h"), Name: text("n"), Directory: text("/srv/vllm")},
		"j@jump:2222,me@h:23/n": {
			BastionUser: text("j"), BastionHost: text("jump"), BastionPort: number(2222),
			User: text("me"), Host: text("h"), Port: number(23), Name: text("n"),
		},
		"j@jump," + session + "/n:/a/b": {
			BastionUser: text("j"), BastionHost: text("jump"), SessionID: text(session), Name: text("n"), Directory: text("/a/b"),
		},
	} {
		if got, err := parseImportID(id); err != nil || !reflect.DeepEqual(got, want) || got.check() != nil {
			t.Errorf("%s is %+v, %v", id, got, err)
		}
	}
	for _, id := range []string{"", session, "me@h", "me@h:0/n", "me@h:65536/n", "a@b:99999,me@h/n", "j@jump,k@jump,me@h/n", "jump,me@h/n", "me@h/n:dir", "/n"} {
		if got, err := parseImportID(id); err == nil {
			t.Errorf("%q is %+v", id, got)
		}
	}
	for name, id := range map[string]identity{
		"no place": {Name: text("n")}, "two places": {Name: text("n"), Host: text("h"), SessionID: text(session)},
		"no name": {Host: text("h")}, "a jump host's user alone": {Name: text("n"), Host: text("h"), BastionUser: text("me")},
	} {
		if id.check() == nil {
			t.Errorf("%s: nothing is wrong with %+v", name, id)
		}
	}
}

// An omitted port and user have the configuration's defaults.
func TestImportHasTheDefaults(t *testing.T) {
	t.Parallel()
	var diags diag.Diagnostics
	id, err := parseImportID("j@jump,me@h/n")
	if err != nil {
		t.Fatal(err)
	}
	got := new(Resource).locate(t.Context(), id, &diags)
	want := map[string]any{"ssh": map[string]any{
		"host": "h", "port": int64(22), "user": "me", "bastion": map[string]any{"host": "jump", "port": int64(22), "user": "j"},
	}}
	if diags.HasError() || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, diags)
	}
}

// What a launch stores on the machine for an import has the arguments, and neither secrets nor a login.
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
