package provider_test

import (
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// A private server with the user's own certificate, which names no loopback address: data sources and the restart verify it
// as the deployment does.
func TestOwnCertificateBehindSSH(t *testing.T) {
	t.Parallel()
	_, c, session := staged(t)
	certificate, key := testkit.Certificate(t, "h")
	server := c.create(deploymentType, onSession(t, session, values{"tls": values{"certificate": certificate, "private_key": key}}))
	arguments := values{
		"ssh": login(t, session), "base_url": text(t, server.state, "base_url"), "api_key": text(t, server.state, "api_key"),
		"ca_certificate": text(t, server.state, "ca_certificate"),
	}
	health, diags := c.readData(healthType, arguments)
	expect(t, diags)
	if !truth(t, health, "healthy") {
		t.Errorf("unhealthy: %s", health)
	}
	endpoint, diags := c.readData(endpointType, arguments)
	expect(t, diags)
	if !truth(t, endpoint, "ready") {
		t.Errorf("not ready: %s", endpoint)
	}
	_, diags = c.invoke(restartType, values{
		"ssh": login(t, session), "server": get(t, server.state, "server"), "api_key": arguments["api_key"], "model": qwen,
		"ca_certificate": arguments["ca_certificate"],
	})
	expect(t, diags)

	// A different server's certificate is refused.
	arguments["ca_certificate"], _ = testkit.Certificate(t, "h")
	health, diags = c.readData(healthType, arguments)
	expect(t, diags)
	if truth(t, health, "healthy") {
		t.Error("another certificate is let through")
	}
}
