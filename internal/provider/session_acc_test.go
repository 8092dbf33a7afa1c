package provider_test

import (
	"regexp"
	"testing"

	"github.com/hashicorp/terraform-plugin-testing/compare"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/knownvalue"
	"github.com/hashicorp/terraform-plugin-testing/plancheck"
	"github.com/hashicorp/terraform-plugin-testing/statecheck"
	"github.com/hashicorp/terraform-plugin-testing/terraform"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
)

// A session from its rental to its end: what changes in place, what replaces the machine, and what is impossible.
func TestAccSessionLife(t *testing.T) {
	w := acceptance(t)
	same := statecheck.CompareValue(compare.ValuesSame())
	other := statecheck.CompareValue(compare.ValuesDiffer())
	expires := statecheck.CompareValue(compare.ValuesDiffer())
	w.run(t,
		resource.TestStep{
			Config: w.session(),
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue(sessionAddress, at("status"), knownvalue.StringExact("running")),
				statecheck.ExpectKnownValue(sessionAddress, at("offer_id"), knownvalue.StringExact(a5000)),
				statecheck.ExpectKnownValue(sessionAddress, at("cloud"), knownvalue.StringExact("bluelobster")),
				statecheck.ExpectKnownValue(sessionAddress, at("gpu_type"), knownvalue.StringExact("RTX A5000")),
				statecheck.ExpectKnownValue(sessionAddress, at("gpu_count"), knownvalue.Int64Exact(1)),
				statecheck.ExpectKnownValue(sessionAddress, at("price_per_hour"), knownvalue.Float64Exact(0.31)),
				statecheck.ExpectKnownValue(sessionAddress, at("mark"),
					knownvalue.StringRegexp(regexp.MustCompile(`^terraform/test/[0-9a-z]+$`))),
				statecheck.ExpectKnownValue(sessionAddress, at("expires_at"), knownvalue.StringRegexp(rfc3339)),
				statecheck.ExpectKnownValue(sessionAddress, at("ssh", "host"), knownvalue.StringExact("127.0.0.1")),
				statecheck.ExpectKnownValue(sessionAddress, at("ssh", "host_key"),
					knownvalue.StringRegexp(regexp.MustCompile(`^ssh-ed25519 `))),
				statecheck.ExpectSensitiveValue(sessionAddress, at("ssh", "private_key")),
				same.AddStateValue(sessionAddress, at("id")),
				expires.AddStateValue(sessionAddress, at("expires_at")),
			},
		},
		resource.TestStep{ // other requirements, which the machine meets, and three hours
			Config:           w.session(`requirements = { gpu_types = ["rtx a5000"], min_vram_gb = 24 }`, `reservation_hours = 3`),
			ConfigPlanChecks: action(sessionAddress, plancheck.ResourceActionUpdate),
			ConfigStateChecks: []statecheck.StateCheck{
				same.AddStateValue(sessionAddress, at("id")),
				other.AddStateValue(sessionAddress, at("id")),
				expires.AddStateValue(sessionAddress, at("expires_at")),
				statecheck.ExpectKnownValue(sessionAddress, at("reserved_hours"), knownvalue.Int64Exact(3)),
			},
		},
		resource.TestStep{ // fewer hours, which three meet
			Config:           w.session(`requirements = { gpu_types = ["rtx a5000"], min_vram_gb = 24 }`, `reservation_hours = 2`),
			ConfigPlanChecks: action(sessionAddress, plancheck.ResourceActionUpdate),
			ConfigStateChecks: []statecheck.StateCheck{
				same.AddStateValue(sessionAddress, at("id")),
				statecheck.ExpectKnownValue(sessionAddress, at("reserved_hours"), knownvalue.Int64Exact(3)),
			},
		},
		resource.TestStep{ // more than the machine has, and for one hour, which another machine can be had for
			Config:           w.session(`requirements = { clouds = ["bluelobster"], min_vram_gb = 40 }`),
			ConfigPlanChecks: action(sessionAddress, plancheck.ResourceActionReplace),
			ConfigStateChecks: []statecheck.StateCheck{
				other.AddStateValue(sessionAddress, at("id")),
				statecheck.ExpectKnownValue(sessionAddress, at("offer_id"), knownvalue.StringExact(a6000)),
			},
		},
	)
	if rentals := w.Ledger().Rentals; len(rentals) != 2 {
		t.Errorf("%d machines were rented, want 2:\n%v", len(rentals), w.Ledger())
	}
}

// Times are UTC.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)

func TestAccSessionByOfferAndRenamed(t *testing.T) {
	w := acceptance(t)
	same := statecheck.CompareValue(compare.ValuesSame())
	other := statecheck.CompareValue(compare.ValuesDiffer())
	w.run(t,
		resource.TestStep{
			Config: w.session(`offer_id = "` + docked + `"`),
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue(sessionAddress, at("offer_id"), knownvalue.StringExact(docked)),
				// TensorDock's offers report the site's number of GPUs; a rental gets one.
				statecheck.ExpectKnownValue(sessionAddress, at("gpu_count"), knownvalue.Int64Exact(1)),
				same.AddStateValue(sessionAddress, at("id")),
				other.AddStateValue(sessionAddress, at("id")),
			},
		},
		resource.TestStep{ // what is only used when renting or waiting
			Config: w.session(`offer_id = "`+docked+`"`, `max_attempts = 2`, `ssh_timeout = "9m"`, `on_conflict = "replace"`,
				`timeouts = { delete = "19m" }`),
			ConfigPlanChecks:  action(sessionAddress, plancheck.ResourceActionUpdate),
			ConfigStateChecks: []statecheck.StateCheck{same.AddStateValue(sessionAddress, at("id"))},
		},
		resource.TestStep{
			Config: w.provider() + `
				resource "shopper_gpu_session" "test" {
				  name     = "renamed"
				  offer_id = "` + docked + `"
				}`,
			ConfigPlanChecks:  action(sessionAddress, plancheck.ResourceActionReplace),
			ConfigStateChecks: []statecheck.StateCheck{other.AddStateValue(sessionAddress, at("id"))},
		},
	)
}

func TestAccSessionImport(t *testing.T) {
	w := acceptance(t)
	session := w.rentByHand(t, a5000, "terraform/test/"+token)
	config := w.session(`requirements = { clouds = ["bluelobster"] }`, `reservation_hours = 2`)
	id := func(*terraform.State) (string, error) { return session.ID, nil }
	w.run(t,
		resource.TestStep{
			Config: config, ResourceName: sessionAddress, ImportState: true, ImportStatePersist: true, ImportStateIdFunc: id,
		},
		resource.TestStep{
			Config: config,
			// What is unknown after an import is taken from the configuration, and doesn't replace the machine.
			ConfigPlanChecks: action(sessionAddress, plancheck.ResourceActionUpdate),
			ConfigStateChecks: []statecheck.StateCheck{
				statecheck.ExpectKnownValue(sessionAddress, at("id"), knownvalue.StringExact(session.ID)),
				statecheck.ExpectKnownValue(sessionAddress, at("ssh", "private_key"), knownvalue.Null()),
			},
		},
		resource.TestStep{
			Config: config, ResourceName: sessionAddress, ImportState: true, ImportStateIdFunc: id, ImportStateVerify: true,
			// An import requires no less than the machine has.
			ImportStateVerifyIgnore: []string{
				"requirements.%", "requirements.gpu_types.#", "requirements.gpu_types.0", "requirements.gpu_count",
			},
		},
	)
	if len(w.Ledger().Rentals) != 1 {
		t.Errorf("the import rented something:\n%v", w.Ledger())
	}
}

func TestAccSessionImportRefused(t *testing.T) {
	w := acceptance(t)
	session := w.rentByHand(t, a5000, "somebody-else")
	w.releaseByHand(t)
	refused := func(id string, what ...string) resource.TestStep {
		return resource.TestStep{
			Config: w.session(), ResourceName: sessionAddress, ImportState: true, ImportStateId: id, ExpectError: words(what...),
		}
	}
	w.run(t,
		refused(session.ID, "Session has ended", `is "stopped"`),
		refused("../offers", "Invalid session ID"),
		refused("6f1c1d0e-0000-4000-8000-000000000000", "Could not read session"),
	)
}

// A machine that was released behind Terraform's back is rented again.
func TestAccSessionGone(t *testing.T) {
	w := acceptance(t)
	w.run(t,
		resource.TestStep{Config: w.session()},
		resource.TestStep{
			PreConfig:        func() { w.releaseByHand(t) },
			Config:           w.session(),
			ConfigPlanChecks: action(sessionAddress, plancheck.ResourceActionCreate),
		},
	)
}

// An offer that is gone is skipped, and a machine that refuses the login is released before another one is rented.
func TestAccSessionNextOffer(t *testing.T) {
	w := acceptance(t)
	if err := w.SetFaults(
		sandbox.Rule{Route: sandbox.EventCreate, Offer: a5000, Fault: sandbox.OffersGone},
		sandbox.Rule{Route: sandbox.EventBoot, Offer: docked, Fault: sandbox.RefuseKey},
	); err != nil {
		t.Fatal(err)
	}
	w.run(t, resource.TestStep{
		Config: w.session(`requirements = { clouds = ["bluelobster", "tensordock"] }`, `ssh_timeout = "2m"`),
		ConfigStateChecks: []statecheck.StateCheck{
			statecheck.ExpectKnownValue(sessionAddress, at("offer_id"), knownvalue.StringExact(a6000)),
		},
	})
	rentals := w.Ledger().Rentals
	if len(rentals) != 2 || rentals[0].OfferID != docked || rentals[1].OfferID != a6000 ||
		rentals[0].ReleasedAt == nil || rentals[0].ReleasedAt.After(rentals[1].RentedAt) {
		t.Errorf("want %s, and when that was released %s:\n%s", docked, a6000, w.Ledger())
	}
}

func TestAccSessionRefusals(t *testing.T) {
	w := acceptance(t)
	fails := func(config string, what ...string) resource.TestStep {
		return resource.TestStep{Config: config, ExpectError: words(what...)}
	}
	conflict := fails(w.session(), "Name is already in use", `1 × RTX A5000 on bluelobster, \$0.31/h`, "Import it")
	conflict.PreConfig = func() { w.rentByHand(t, a5000, "terraform/test/"+token) }
	w.run(t,
		fails(w.session(`requirements = { clouds = ["bluelobster"], max_price_per_hour = 0.05 }`),
			"No offer fits", "Excluded by", "max_price_per_hour: 2 of 2", "Closest", a5000),
		fails(w.session(`offer_id = "bluelobster-none"`), "No offer fits", "no offer bluelobster-none"),
		conflict,
		fails(w.provider("budget = { max_price_per_hour = 0.5 }")+`
			resource "shopper_gpu_session" "test" {
			  name         = "other"
			  requirements = { clouds = ["bluelobster"] }
			}`, "Budget would be exceeded", `\$0.50 an hour`, "Nothing was rented"),
		resource.TestStep{ // released first
			Config: w.session(`requirements = { clouds = ["bluelobster"] }`, `on_conflict = "replace"`),
		},
	)
}
