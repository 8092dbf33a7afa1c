package gpusessions

import (
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/attr"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

const token = "/0123456789abcdef0123456789abcdef"

func TestFilter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	all := []shopper.Session{
		{ID: "young", ConsumerID: "me/llama-1" + token, Status: shopper.Running, Cloud: "vastai", CreatedAt: now.Add(-59 * time.Minute)},
		{ID: "old", ConsumerID: "me/llama-2" + token, Status: shopper.Provisioning, Cloud: "bluelobster", CreatedAt: now.Add(-90 * time.Minute)},
		{ID: "oldest", ConsumerID: "me/qwen" + token, Status: shopper.Stopping, Cloud: "vastai", CreatedAt: now.Add(-11 * time.Hour)},
		{ID: "ended", ConsumerID: "me/llama-3" + token, Status: shopper.Stopped, Cloud: "vastai", CreatedAt: now.Add(-3 * time.Hour)},
		{ID: "failed", ConsumerID: "me/llama-4" + token, Status: shopper.Failed, Cloud: "vastai", CreatedAt: now.Add(-3 * time.Hour)},
		{ID: "by-hand", ConsumerID: "me", Status: shopper.Running, Cloud: "vastai", CreatedAt: now.Add(-2 * time.Hour)},
		{ID: "other", ConsumerID: "you/llama-1" + token, Status: shopper.Running, Cloud: "vastai", CreatedAt: now.Add(-2 * time.Hour)},
	}
	words := func(all ...string) types.Set {
		elements := []attr.Value{}
		for _, s := range all {
			elements = append(elements, types.StringValue(s))
		}
		return types.SetValueMust(types.StringType, elements)
	}
	for _, test := range []struct {
		name string
		m    model
		want []string
	}{
		{"nothing", model{}, []string{"young", "old", "oldest", "by-hand"}},
		{"everybody", model{AllConsumers: types.BoolValue(true)}, []string{"young", "old", "oldest", "by-hand", "other"}},
		{"an hour", model{OlderThan: types.StringValue("1h")}, []string{"old", "oldest", "by-hand"}},
		{"an hour and a half", model{OlderThan: types.StringValue("90m")}, []string{"old", "oldest", "by-hand"}},
		{"more", model{OlderThan: types.StringValue("2h30m")}, []string{"oldest"}},
		{"status", model{Statuses: words("stopped", "failed")}, []string{"ended", "failed"}},
		{"another status", model{Statuses: words("running")}, []string{"young", "by-hand"}},
		{"cloud", model{Clouds: words("bluelobster", "tensordock")}, []string{"old"}},
		{"name", model{NamePrefix: types.StringValue("llama-")}, []string{"young", "old"}},
		{
			"all of it",
			model{
				Statuses: words("stopped", "running"), Clouds: words("vastai"), NamePrefix: types.StringValue("llama"),
				OlderThan: types.StringValue("1h"), AllConsumers: types.BoolValue(true),
			},
			[]string{"ended", "other"},
		},
	} {
		var diags diag.Diagnostics
		got := []string{}
		for _, s := range test.m.filter(t.Context(), slices.Clone(all), "me", now, &diags) {
			got = append(got, s.ID)
		}
		if !slices.Equal(got, test.want) || diags.HasError() {
			t.Errorf("%s: %v, want %v %v", test.name, got, test.want, diags)
		}
	}
}
