package provider_test

import "testing"

func TestSessionPlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.configured(t, nil)
	config := values{"name": "test", "requirements": values{"clouds": []any{"bluelobster"}}}
	made := c.create(sessionType, config)
	p := c.plan(sessionType, made, values{"name": "test", "requirements": values{"gpu_types": []any{"rtx a5000"}, "min_vram_gb": 24}})
	t.Log(p.replaced(), list(p.Diagnostics))
	for k, v := range members(t, p.value) {
		t.Log(k, v, get(t, made.state, k))
	}
	left, diags := c.destroy(sessionType, made)
	expect(t, diags)
	if !left.state.IsNull() {
		t.Error("it is still in state")
	}
}
