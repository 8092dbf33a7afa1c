package provider_test

import (
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
)

func TestAccSessionByRequirements(t *testing.T) {
	w := acceptance(t)
	w.run(t, resource.TestStep{
		Config: w.session(),
		ConfigStateChecks: []statecheck.StateCheck{
			statecheck.ExpectKnownValue(sessionAddress, at("status"), knownvalue.StringExact("running")),
			statecheck.ExpectKnownValue(sessionAddress, at("offer_id"), knownvalue.StringExact(a5000)),
			statecheck.ExpectKnownValue(sessionAddress, at("cloud"), knownvalue.StringExact("bluelobster")),
			statecheck.ExpectKnownValue(sessionAddress, at("gpu_type"), knownvalue.StringExact("RTX A5000")),
			statecheck.ExpectKnownValue(sessionAddress, at("gpu_count"), knownvalue.Int64Exact(1)),
			statecheck.ExpectKnownValue(sessionAddress, at("price_per_hour"), knownvalue.Float64Exact(0.31)),
			statecheck.ExpectKnownValue(sessionAddress, at("consumer_id"),
				knownvalue.StringRegexp(regexp.MustCompile(`^terraform/test/[0-9a-z]+$`))),
			statecheck.ExpectKnownValue(sessionAddress, at("ssh", "host"), knownvalue.StringExact("127.0.0.1")),
			statecheck.ExpectKnownValue(sessionAddress, at("ssh", "host_key"),
				knownvalue.StringRegexp(regexp.MustCompile(`^ssh-ed25519 `))),
			statecheck.ExpectSensitiveValue(sessionAddress, at("ssh", "private_key")),
		},
	})
}
