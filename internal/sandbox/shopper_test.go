package sandbox

import (
	"cmp"
	"errors"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// TestTheProvidersOwnClient calls the sandbox with every method that the provider's
// client of the real service has.
func TestTheProvidersOwnClient(t *testing.T) {
	t.Parallel()
	f := new(fleet)
	s := startSandbox(t, Options{
		Speed: 3000, Offers: recordedOffers(), Templates: BuiltinTemplates(), start: f.start, login: f.login,
		Faults: []Rule{{Route: EventCreate, Nth: 1, Fault: AddressLater}, {Route: EventCreate, Nth: 2, Fault: OffersGone}},
	})
	api, err := shopper.New(shopper.Config{URL: s.URL(), MaxRetries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	health, err := api.Health(ctx)
	must(err)
	ready, err := api.Ready(ctx)
	must(err)
	offers, err := api.Offers(ctx, VastAI)
	must(err)
	offer, err := api.Offer(ctx, "vastai-100")
	must(err)
	if health.Status != "ok" || !ready || len(offers) != 12 || offer.PricePerHour != 0.4 {
		t.Errorf("%+v %+v %d %+v", health, ready, len(offers), offer)
	}
	templates, err := api.Templates(ctx)
	must(err)
	template, err := api.Template(ctx, templates[0].HashID)
	must(err)
	compatible, err := api.CompatibleTemplates(ctx, "vastai-100")
	must(err)
	if template.Name != templates[0].Name || len(compatible) == 0 {
		t.Errorf("%+v %+v", template, compatible)
	}

	rental := shopper.CreateSession{ConsumerID: "me/x/1", OfferID: "vastai-100", WorkloadType: "llm_vllm", ReservationHours: 1}
	made, err := api.CreateSession(ctx, rental)
	must(err)
	if made.PrivateKey == "" || made.Session.SSHHost != "" {
		t.Errorf("%+v", made.Session)
	}
	var session shopper.Session
	testkit.Eventually(t, "running", func() bool {
		session, err = api.Session(ctx, made.Session.ID)
		return err == nil && session.Status == statusRunning
	})
	diagnostics, err := api.Diagnostics(ctx, session.ID)
	must(err)
	expires, err := api.Extend(ctx, session.ID, 2)
	must(err)
	list, err := api.Sessions(ctx, shopper.SessionFilter{ConsumerID: "me/x/1", Status: statusRunning, Cloud: VastAI, Limit: 5})
	must(err)
	if !diagnostics.SSHAvailable || session.SSHHost == "" || expires.Sub(session.ExpiresAt) != 2*time.Hour || len(list) != 1 {
		t.Errorf("%+v %v %d", diagnostics, expires, len(list))
	}

	var refused *shopper.Error
	if _, err := api.CreateSession(ctx, rental); !errors.As(err, &refused) || refused.Status != 409 || refused.RequestID == "" {
		t.Errorf("the same again: %v", err)
	}
	rental.ConsumerID, rental.OfferID = "me/y/1", "vastai-104"
	_, err = api.CreateSession(ctx, rental)
	if !errors.As(err, &refused) || refused.Type != shopper.TypeStaleInventory || shopper.IsAmbiguous(err) {
		t.Errorf("gone: %v", err)
	}
	report, err := api.OfferHealth(ctx)
	must(err)
	if len(report.Offers) != 1 || report.Offers[0].OfferID != "vastai-104" {
		t.Errorf("%+v", report)
	}

	must(api.Delete(ctx, session.ID))
	session, err = api.Session(ctx, session.ID)
	must(err)
	if session.Status != statusStopped || !shopper.IsNotFound(api.Delete(ctx, "nope")) {
		t.Errorf("after DELETE: %+v", session)
	}
	_, one := api.SessionCost(ctx, session.ID)
	_, consumer := api.ConsumerCost(ctx, "me/x/1", "")
	summary, all := api.CostSummary(ctx)
	must(cmp.Or(one, consumer, all))
	if summary.PeriodStart.IsZero() {
		t.Errorf("%+v", summary)
	}
}
