package validate_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/validate"
)

func TestURL(t *testing.T) {
	t.Parallel()
	tests := []struct {
		url, want string // part of what is wrong; "" for nothing
	}{
		{"http://localhost:8080", ""},
		{"https://example.com/prefix/", ""},
		{"HTTP://EXAMPLE.COM", ""},
		{"http://[::1]:8080/v1", ""},
		{"", "http:// or https://"},
		{"localhost:8080", "http:// or https://"},
		{"127.0.0.1:8080", "http:// or https://"},
		{"ftp://example.com", "http:// or https://"},
		{"http:example.com", "http:// or https://"},
		{"http://", "has no host"},
		{"http://:8080", "has no host"},
		{"http://exa mple.com", "not a URL"},
		{"http://user:planted@example.com", "credentials"},
		{"http://example.com?token=planted", "query"},
		{"http://example.com#planted", "fragment"},
	}
	for _, test := range tests {
		err := validate.URL(test.url)
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%q: %v", test.url, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%q: %v, want %q", test.url, err, test.want)
		case err != nil && strings.Contains(err.Error(), "planted"):
			t.Errorf("%q: a secret is shown: %v", test.url, err)
		}
	}
}

func TestStringAsksOnlyAboutKnownValues(t *testing.T) {
	t.Parallel()
	asked := 0
	v := validate.String("must be something else", func(string) error {
		asked++
		return errors.New("it is that")
	})
	if v.Description(t.Context()) != "must be something else" || v.MarkdownDescription(t.Context()) == "" {
		t.Error("it doesn't describe itself")
	}
	for _, value := range []types.String{types.StringNull(), types.StringUnknown()} {
		var resp validator.StringResponse
		v.ValidateString(t.Context(), validator.StringRequest{Path: path.Root("a"), ConfigValue: value}, &resp)
		if asked > 0 || resp.Diagnostics.HasError() {
			t.Errorf("%s is judged", value)
		}
	}
	var resp validator.StringResponse
	v.ValidateString(t.Context(), validator.StringRequest{Path: path.Root("a"), ConfigValue: types.StringValue("x")}, &resp)
	if len(resp.Diagnostics) != 1 || resp.Diagnostics[0].Detail() != "a: it is that." {
		t.Errorf("got %v", resp.Diagnostics)
	}
}

func TestDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"20m": "", "1h30m": "", "0": "between 1m0s and 2h0m0s", "-1m": "between", "3h": "between", "20": "duration", "soon": "duration",
		"90s": "whole number of 1m0s",
	} {
		var resp validator.StringResponse
		validate.Duration(time.Minute, 2*time.Hour, time.Minute).ValidateString(t.Context(), validator.StringRequest{ConfigValue: types.StringValue(text)}, &resp)
		said := ""
		if resp.Diagnostics.HasError() {
			said = resp.Diagnostics[0].Detail()
		}
		if (said == "") != (want == "") || !strings.Contains(said, want) {
			t.Errorf("%q: %s", text, said)
		}
	}
}
