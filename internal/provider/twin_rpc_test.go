package provider_test

import (
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
)

// An ephemeral twin reads what its data source reads.
func TestTwinsReadTheSame(t *testing.T) {
	t.Parallel()
	_, c, session := staged(t)
	server := c.create(deploymentType, onSession(t, session, nil))
	arguments := values{"ssh": login(t, session), "api_key": text(t, server.state, "api_key")}
	endpoint, private, diags := c.open(endpointType, arguments)
	expect(t, diags)
	if !truth(t, endpoint, "ready") || text(t, endpoint, "model") != qwen || len(private) > 0 {
		t.Errorf("endpoint: %s", endpoint)
	}
	arguments["server"] = get(t, server.state, "server")
	health, _, diags := c.open(healthType, arguments)
	expect(t, diags)
	if !truth(t, health, "healthy") || number(t, elements(t, checksOf(t, health)["gpus"], "devices")[0], "temperature_c") == 0 {
		t.Errorf("health: %s", health)
	}
	arguments["api_key"] = "another"
	health, _, diags = c.open(healthType, arguments)
	expect(t, diags)
	if truth(t, health, "healthy") || text(t, checksOf(t, health)["completion"], "problem") != "credentials" {
		t.Errorf("with another key: %s", health)
	}
	expect(t, c.validateEphemeral(endpointType, values{}), "base_url")
	tidy(t, c, session)
}

func (c *core) validateEphemeral(name string, arguments values) []*tfprotov6.Diagnostic {
	c.t.Helper()
	resp, err := c.server.ValidateEphemeralResourceConfig(c.ctx, &tfprotov6.ValidateEphemeralResourceConfigRequest{
		TypeName: name, Config: c.encode(c.schema.EphemeralResourceSchemas[name].ValueType(), arguments),
	})
	c.check(err)
	return resp.Diagnostics
}
